"""The bounds of the posterior's log standard deviation: continuous, the same in all engines, and training comes back."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import naive
import numpy as np
import pytest
from cases import TOLERANCES

import vaefast
from vaefast import engines
from vaefast.engines import objectives, reference
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.noise import Purpose
from vaefast.models.settings import LOG_STD_BOUNDS, AdamSettings, ModelSettings, ObjectiveSettings, TrainingSettings

MODEL = ModelSettings(20, (12, 9), 6)
# Of each latent: within, beyond both bounds, near and far, and at the edge from within.
BIASES = [0.3, 6.5, 30.0, -43.0, -200.0, 3.0]
ROWS = 7
OBJECTIVES = [
    ObjectiveSettings(),
    ObjectiveSettings(samples=3),
    ObjectiveSettings(kl="sampled", samples=2),
    ObjectiveSettings("beta", beta=0.7),
    ObjectiveSettings("free-bits", free_nats=0.5),
    ObjectiveSettings("iwae", 3),
    ObjectiveSettings("dreg", 3),
]
by_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: f"{each.name} {each.kl} {each.samples}")


def images():
    return np.random.default_rng(1).integers(0, 256, (ROWS, MODEL.pixels)).astype(np.uint8)


def started(name, objective, dtype=np.float32):
    training = TrainingSettings(batch_size=ROWS, binarize="none", objective=objective, seed=5)
    layout = Layout(MODEL)
    vector = initial_parameters(layout, "fan-in", 2)
    layout.views(vector)["log_std.bias"][...] = BIASES
    exact = name == "reference" and dtype == np.float64
    engine = ReferenceEngine(MODEL, training, 1, dtype) if exact else engines.create(name, MODEL, training, 2)
    engine.load_state(State.initial(vector.astype(np.float32), dtype))
    return engine


def step(engine):
    terms = engine.train(engine.place(images()), np.arange(ROWS))
    return terms, engine.layout.views(engine.state().first_moments / (1 - AdamSettings().beta1))


def test_the_bounds_are_met_by_these_models():
    engine = started("reference", ObjectiveSettings(), np.float64)
    _, _, log_std = reference.encode(engine._views(), images() / 255.0, "relu")
    low, high = LOG_STD_BOUNDS
    assert ((log_std < low) | (log_std > high)).all(axis=0).tolist() == [False, True, True, True, True, False]
    assert np.array_equal(engine.encode(images() / 255.0)[1], np.clip(log_std, low, high))


@by_objective
def test_the_references_gradient_is_that_of_its_value(objective):
    if objective.name == "dreg":
        pytest.skip("its encoder gradient is another estimator of the same expectation: compared with its own formula below")
    engine = started("reference", objective, np.float64)
    layout, vector = engine.layout, engine.state().parameters
    rows = np.arange(ROWS)
    x, epsilon = images() / 255.0, engine._normals(Purpose.TRAINING_LATENTS, 0, rows, objective.samples)

    def loss(parameters):
        views = layout.views(parameters)
        pass_ = reference.forward(views, x, epsilon, "relu")
        log_p = reference.log_likelihood(views, np.repeat(x, objective.samples, axis=0), pass_.logits, "bernoulli")
        heads = pass_.mean, pass_.log_std, pass_.z
        return -objectives.value_and_credit(objective, objective.beta, log_p.reshape(ROWS, -1), *heads, epsilon)[0].mean()

    _, gradients = step(engine)
    gradient = layout.flatten(gradients, np.float64)
    for name in ("log_std.bias", "log_std.weight", "mean.bias", "encoder.0.weight", "decoder.0.weight"):
        tensor = layout.tensors[name]
        direction = np.zeros(layout.size)
        direction[tensor.offset : tensor.offset + tensor.size] = np.random.default_rng(0).standard_normal(tensor.size)
        up, down = (loss(vector + h * direction) for h in (1e-6, -1e-6))
        scale = max(1.0, float(np.linalg.norm(gradient * (direction != 0))), abs(loss(vector)) * 1e-3)
        assert abs(gradient @ direction - (up - down) / 2e-6) < 1e-6 * scale, name
        assert np.linalg.norm(gradient * (direction != 0)) > 1e-6 * scale, name


def test_dregs_gradient_of_a_deviation_is_zero_beyond_the_bounds_and_not_within():
    _, gradients = step(started("reference", ObjectiveSettings("dreg", 3), np.float64))
    assert (gradients["log_std.bias"] != 0).tolist() == [True, False, False, False, False, True]
    assert (gradients["mean.bias"] != 0).all()


@by_objective
@pytest.mark.parametrize("name", [name for name in engines.ENGINES if engines.why_not(name) is None])
def test_every_engine_follows_the_reference(name, objective):
    training = TrainingSettings(objective=objective)
    if engines._missing(name, engines.needs(MODEL, training)):
        pytest.skip(f"the {name} engine lacks this objective")
    engine, exact = started(name, objective), started("reference", objective, np.float64)
    (terms, gradients), (wanted, expected) = step(engine), step(exact)
    for got, right in zip(terms, wanted, strict=True):
        # exp(2 * 5) times the distance to the bound is the largest term.
        assert np.allclose(got, right, rtol=4e-6, atol=TOLERANCES["example_nats"])
    for tensor, gradient in expected.items():
        scale = np.max(np.abs(gradient))
        assert np.max(np.abs(gradients[tensor] - gradient)) <= TOLERANCES["gradient"] * scale + 1e-30, tensor
    placed = engine.place(images())
    log_p = engine.importance_sample(placed, 20).log_likelihood
    engine.load_state(exact.state().astype(np.float32))
    exact.load_state(engine.state().astype(np.float64))
    assert np.isfinite(log_p).all()
    assert np.allclose(
        engine.importance_sample(placed, 20).log_likelihood, exact.importance_sample(images(), 20).log_likelihood,
        rtol=4e-6, atol=TOLERANCES["example_nats"],
    )  # fmt: skip
    engine.close()


@pytest.mark.parametrize("bound", LOG_STD_BOUNDS)
def test_the_divergence_is_continuous_at_a_bound_and_so_is_its_slope(bound):
    mean, h = np.array([[0.7]]), 1e-5
    values = [objectives.latent_kl(mean, np.array([[bound + k * h]]))[0, 0] for k in (-2, -1, 0, 1, 2)]
    slope = math.exp(2 * bound) - 1
    assert np.allclose(np.diff(values) / h, slope, rtol=1e-3)


@pytest.mark.parametrize("s", [-1e6, -50.0, -40.0, -3.0, 5.0, 5.1, 40.0, 1e6])
def test_beyond_the_bounds_it_is_more_than_the_divergence_of_what_is_sampled(s):
    c = min(max(s, -40.0), 5.0)
    sampled = 0.5 * (math.exp(2 * c) + 0.25 - 1 - 2 * c)
    value = objectives.latent_kl(np.array([[0.5]]), np.array([[s]]))[0, 0]
    assert value >= sampled
    assert (value == pytest.approx(sampled, rel=1e-12)) == (c == s)
    assert value == pytest.approx(naive.gaussian_kl([0.5], [s]), rel=1e-12)


def test_not_a_number_is_no_bound():
    for name in [name for name in engines.ENGINES if engines.why_not(name) is None]:
        engine = started(name, ObjectiveSettings())
        state = engine.state()
        engine.layout.views(state.parameters)["log_std.bias"][0] = np.nan
        engine.load_state(state)
        with np.errstate(all="ignore"):
            terms = engine.evaluate(engine.place(images()))
            assert np.isnan(engine.encode(images() / np.float32(255))[1][:, 0]).all()
        assert np.isnan(terms.kl).all()
        engine.close()


def test_the_c_header_has_the_bounds_of_the_settings():
    text = (Path(vaefast.__file__).parent / "engines/cython_cpu/elementwise.h").read_text()
    low, high = LOG_STD_BOUNDS
    for name, value in (
        ("LOWEST_LOG_STD", low), ("HIGHEST_LOG_STD", high), ("NARROWEST", math.exp(low)), ("WIDEST", math.exp(high)),
    ):  # fmt: skip
        found = re.search(rf"#define {name} (\S+)f$", text, re.MULTILINE)
        assert np.float32(found[1]) == np.float32(value), name


def test_training_comes_back_from_beyond_the_bounds():
    """The slope beyond the bound pulls the deviation inside again."""
    engine = started("reference", ObjectiveSettings())
    engine.training = replace(engine.training, adam=AdamSettings(learning_rate=0.5))
    placed = engine.place(images())
    for _ in range(80):
        engine.train(placed, np.arange(ROWS))
    assert (engine.encode(images() / np.float32(255))[1] < 5.0).all()
