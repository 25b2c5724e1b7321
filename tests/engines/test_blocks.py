"""Tables in blocks of columns: densities over their whole range, rows of which nothing is known, quadrature."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import naive
import numpy as np
import pytest
from cases import BLOCK_CASES, TOLERANCES
from scipy import stats

from vaefast import engines
from vaefast.engines import reference
from vaefast.engines.contract import State
from vaefast.engines.objectives import log_mean_exp
from vaefast.engines.reference import ReferenceEngine
from vaefast.errors import SettingsError
from vaefast.models import blocks
from vaefast.models.columns import blocks_of
from vaefast.models.conditions import Conditioned, beside
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.noise import Purpose
from vaefast.models.settings import ModelSettings, TrainingSettings

HERE = [name for name in ("reference", "numba", "cython") if engines.why_not(name) is None]
FAST = HERE[1:]
UNKNOWN = float("nan")
TRAINING = TrainingSettings(batch_size=64, binarize="none")


def of_biases(name, model, biases, own=None, training=TRAINING):
    """An engine whose outputs are these biases by tensor, whatever the row; the reference in float64."""
    exact = name == "reference"
    engine = ReferenceEngine(model, training, 1, np.float64) if exact else engines.create(name, model, training, 1)
    vector = np.zeros(engine.layout.size)
    views = engine.layout.views(vector)
    for tensor, value in {**biases, **(own or {})}.items():
        views[tensor][...] = value
    engine.load_state(State.initial(vector, np.float64))
    return engine


def log_likelihoods(engine, x):
    x = np.asarray(x, np.float32)
    return engine.evaluate(engine.place(x)).log_likelihood


@pytest.mark.parametrize("name", HERE)
def test_a_student_t_is_scipys_over_its_whole_range(name):
    x = np.concatenate([np.linspace(-30, 30, 301), [1e3, -1e5, 1e8]])
    for b in (-20.0, -3.0, 0.0, 2.0, 60.0):
        for c in (-20.0, 0.0, 1.5, 40.0, 2000.0, 1e6):
            scale, freedom = naive.softplus(b) + 0.001, naive.softplus(c) + 3
            engine = of_biases(
                name,
                ModelSettings(1, (), 1, likelihood="student-t"),
                {"logits.bias": 0.5, "scales.bias": b, "freedoms.bias": c},
            )
            got, expected = log_likelihoods(engine, x[:, None]), stats.t.logpdf(np.float32(x), freedom, 0.5, scale)
            # log(1 + u) is rounded relative to itself, and (nu + 1) / 2 times that is what the density is made of.
            size = 1 + np.abs(expected) + np.log(freedom)
            assert np.all(np.abs(got - expected) <= 1e-6 * size), (b, c)
            engine.close()


@functools.cache
def log_rising_over_factorial(x, t):
    """log of theta (theta + 1) ... (theta + x - 1) / (theta^x x!), factor by factor: SciPy's loses digits at large theta."""
    k = np.arange(x)
    return float(np.log1p(k / np.exp(np.float64(np.float32(t)))).sum() - np.log1p(k).sum())


@pytest.mark.parametrize("name", HERE)
def test_counts_of_a_column_over_their_whole_range(name):
    x = np.array([0, 1, 2, 7, 15, 16, 17, 18, 40, 399, 1000, 65_536, 10**6])
    model = ModelSettings(2, (), 1, likelihood="mixed", columns=(("gaussian", 1), ("negative-binomial", 1)), missing=True)
    for t in (-9.2, -2.0, 0.0, 3.0, 13.8):
        raised, theta = np.array([log_rising_over_factorial(int(n), t) for n in x]), np.exp(np.float64(np.float32(t)))
        for a in (-20.0, 0.0, 3.0, 9.0, 16.0):
            engine = of_biases(name, model, {"logits.negative-binomial.bias": a}, {"x_log_dispersion": t})
            got = log_likelihoods(engine, np.stack([np.full(len(x), UNKNOWN), x], axis=1))
            more = np.log1p(math.exp(a) / theta)
            # Each term is rounded relative to itself before they are added up.
            size = 1 + x * abs(a) + (x + theta) * more + np.abs(raised)
            assert np.all(np.abs(got - (x * a - (x + theta) * more + raised)) <= 4e-7 * size), (a, t)
            engine.close()


@pytest.mark.parametrize("name", HERE)
def test_the_gamma_functions_of_few_degrees_of_freedom(name):
    """At nu = 3 the series is shortest: the slope of nu against a difference of SciPy's densities in float64."""
    model = ModelSettings(1, (), 1, likelihood="student-t", missing=True)
    for c in (-30.0, -1.0, 0.7, 3.0):
        engine = of_biases(name, model, {"freedoms.bias": c}, training=replace(TRAINING, batch_size=1))
        engine.train(engine.place(np.array([[1.7]], np.float32)), np.arange(1))
        gradient = engine.layout.views(engine.state().first_moments / 0.1)["freedoms.bias"][0]
        engine.close()
        scale, h = naive.softplus(0.0) + 0.001, 1e-5

        def density(c, scale=scale):
            return stats.t.logpdf(np.float64(np.float32(1.7)), naive.softplus(c) + 3, 0, scale)

        slope = (density(c + h) - density(c - h)) / (2 * h)
        assert gradient == pytest.approx(-slope, rel=2e-4, abs=1e-7)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("case", [case for case in BLOCK_CASES if case.model.missing], ids=lambda case: case.name)
def test_a_row_of_which_nothing_is_known_has_no_likelihood(name, case):
    engine = engines.create(name, case.model, TrainingSettings(batch_size=4, binarize=case.binarize), 2)
    engine.load_state(State.initial(initial_parameters(engine.layout, "fan-in", 3)))
    x = np.full((4, case.model.pixels), np.nan, np.float32)
    terms = engine.evaluate(engine.place(_told(case, x)))
    assert np.array_equal(terms.log_likelihood, np.zeros(4))
    assert np.array_equal(terms.elbo, -terms.kl)
    engine.train(engine.place(_told(case, x)), np.arange(4))
    moments = engine.layout.views(engine.state().first_moments)
    for tensor, moment in moments.items():
        if tensor.startswith(("logits", "scales", "freedoms", "x_", "decoder")):
            assert not moment.any(), tensor
    assert moments["mean.bias"].any()
    engine.close()


def _told(case, x):
    return Conditioned(x, case.told(len(x))) if case.model.covariates else x


@pytest.mark.parametrize("name", HERE)
def test_a_column_of_which_nothing_is_known_keeps_its_parameters(name):
    case = next(case for case in BLOCK_CASES if case.name == "gaussian tanh with holes")
    engine = engines.create(name, case.model, TrainingSettings(batch_size=32, binarize="none"), 2)
    engine.load_state(State.initial(initial_parameters(engine.layout, "fan-in", 3)))
    x = case.values()
    x[:, 5] = np.nan
    engine.train(engine.place(x), np.arange(len(x)))
    moments = engine.layout.views(engine.state().first_moments)
    assert not moments["logits.weight"][:, 5].any()
    assert moments["x_log_std"][5] == 0
    assert not moments["encoder.0.weight"][5].any()
    assert moments["logits.weight"][:, 4].any()
    engine.close()


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "continuous-bernoulli"])
def test_a_complete_table_is_scored_alike_with_and_without_holes_in_mind(name, likelihood):
    """The ordinary kernels and those of blocks compute one density."""
    model = ModelSettings(37, (21,), 4, likelihood=likelihood)
    x = np.random.default_rng(0).random((50, 37)).astype(np.float32)
    x = np.rint(x) if likelihood == "bernoulli" else x
    vector, terms = initial_parameters(Layout(model), "fan-in", 2), []
    for holes in (False, True):
        engine = engines.create(name, replace(model, missing=holes), TrainingSettings(binarize="none"), 2)
        engine.load_state(State.initial(vector))
        terms.append(engine.evaluate(engine.place(x)))
        engine.close()
    assert np.allclose(terms[0].log_likelihood, terms[1].log_likelihood, rtol=0, atol=TOLERANCES["example_nats"])
    assert np.array_equal(terms[0].kl, terms[1].kl) or name == "reference"


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("likelihood", ["gaussian", "student-t", "mixed"])
def test_log_p_of_what_was_observed_is_that_of_quadrature(name, likelihood):
    """Two latents on a grid, against importance sampling, for rows with one, some and all values observed."""
    columns = (("gaussian", 2), ("student-t", 1), ("negative-binomial", 1), ("bernoulli", 1), ("categorical", 3))
    model = ModelSettings(
        8, (12,), 2, "tanh", likelihood, missing=True, missing_indicator=True, columns=columns if likelihood == "mixed" else ()
    )
    engine = engines.create(name, model, TrainingSettings(seed=4, binarize="none"), 2)
    vector = initial_parameters(engine.layout, "glorot", 1) * 1.5
    engine.layout.views(vector)["log_std.bias"][...] = 0.7  # a wide proposal: no weight is beyond measure
    engine.load_state(State.initial(vector))
    rng = np.random.default_rng(3)
    x = rng.standard_normal((6, 8))
    if likelihood == "mixed":
        x[:, 3], x[:, 4], x[:, 5:] = rng.poisson(3, 6), rng.random(6) < 0.5, np.eye(3)[rng.integers(0, 3, 6)]
    x[0, 1:], x[1, ::2], x[2, 5:], x[3], x[4, :3] = np.nan, np.nan, np.nan, np.nan, np.nan
    if likelihood == "mixed":
        x[1, 5:] = np.nan  # a category is known or it is not
    axis = np.linspace(-6.5, 6.5, 261)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    exact = ReferenceEngine(model, TRAINING, 1, np.float64)
    exact.load_state(State.initial(vector, np.float64))
    outputs, views = exact.decode(z), exact.layout.views(vector)
    log_prior = -0.5 * np.sum(z**2, axis=1) - math.log(2 * math.pi)
    table = blocks_of(likelihood, 8, model.columns)
    log_cell = 2 * math.log(axis[1] - axis[0])
    for row, found, effective in zip(x, *engine.importance_sample(engine.place(x.astype(np.float32)), 20_000), strict=True):
        log_p = blocks.log_likelihood_terms(np.tile(row, (len(z), 1)), outputs, views, table).sum(axis=1)
        true = log_mean_exp(log_p + log_prior) + math.log(len(z)) + log_cell
        assert abs(found - true) < 5 * math.sqrt(1 / effective - 1 / 20_000) + 1e-5
    engine.close()


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("case", [case for case in BLOCK_CASES if case.model.missing][::2], ids=lambda case: case.name)
def test_imputation_is_the_weighted_mean_of_the_reference(name, case):
    """The same samples, decoded one set after the other in float64."""
    training, samples, numbers = TrainingSettings(seed=11, binarize=case.binarize), 125, np.arange(40, 46)
    engine, exact = engines.create(name, case.model, training, 2), ReferenceEngine(case.model, training, 1, np.float64)
    vector = initial_parameters(engine.layout, "fan-in", 3)
    engine.load_state(State.initial(vector))
    exact.load_state(State.initial(vector.astype(np.float32), np.float64))
    values = case.values()[:6]
    found = engine.impute(engine.place(values), samples, numbers)
    together = engine.importance_sample(engine.place(values), samples, numbers).log_likelihood
    assert np.allclose(log_mean_exp(found.log_weights), together, rtol=0, atol=1e-9)
    batch = exact._batch(values, numbers, Purpose.EVALUATION_PIXELS, 0)
    _, mean, log_std = reference.encode(exact._views(), batch.seen, case.model.activation)
    w, means = np.exp(found.log_weights - found.log_weights.max(axis=1, keepdims=True)), 0.0
    for sample in range(samples):
        z = mean + np.exp(log_std) * exact._normals(Purpose.IMPORTANCE_SAMPLES, sample, numbers)
        _, outputs = reference.decode(exact._views(), beside(z, batch.covariates), case.model.activation)
        log_p = reference.log_likelihood(exact._views(), batch.x, outputs, case.model.density)
        log_w = log_p + np.sum(0.5 * (((z - mean) / np.exp(log_std)) ** 2 - z**2) + log_std, axis=1)
        assert np.allclose(found.log_weights[:, sample], log_w, rtol=0, atol=TOLERANCES["example_nats"])
        means = means + w[:, sample : sample + 1] * blocks.expectation(outputs, case.model.density)
    assert np.allclose(found.means, means / w.sum(axis=1, keepdims=True), rtol=1e-5, atol=TOLERANCES["activations"])
    engine.close()


def test_draws_have_the_means_that_are_expected_of_them():
    kinds = (
        ("gaussian", 2),
        ("student-t", 2),
        ("negative-binomial", 2),
        ("bernoulli", 2),
        ("categorical", 3),
        ("categorical", 2),
    )
    table = blocks_of("mixed", 13, kinds)
    outputs = np.tile(np.random.default_rng(0).uniform(-1, 1, table.outputs), (40_000, 1))
    own = {"x_log_std": np.array([-1.0, 0.3]), "x_log_dispersion": np.array([0.2, 2.0])}
    drawn = blocks.draw(outputs, own, table, np.random.RandomState(0))
    expected = blocks.expectation(outputs[:1], table)[0]
    assert np.abs((drawn.mean(axis=0) - expected) / drawn.std(axis=0)).max() < 4.5 / 200
    assert np.array_equal(drawn[:, 8:11].sum(axis=1), np.ones(40_000))
    assert np.array_equal(drawn[:, 11:].sum(axis=1), np.ones(40_000))
    assert np.array_equal(drawn[:, 4:6], np.rint(drawn[:, 4:6]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"missing_indicator": True}, "no value is missing"),
        ({"likelihood": "poisson", "missing": True}, "needs every count of a row"),
        ({"likelihood": "mixed"}, "mixed has columns"),
        ({"columns": (("gaussian", 5),)}, "mixed has columns"),
        ({"likelihood": "mixed", "columns": (("bernoulli", 3), ("gaussian", 2))}, "in the order gaussian"),
        ({"likelihood": "mixed", "columns": (("gaussian", 3), ("gaussian", 2))}, "each kind once"),
        ({"likelihood": "mixed", "columns": (("gaussian", 3), ("poisson", 2))}, "choose gaussian"),
        ({"likelihood": "mixed", "columns": (("gaussian", 3),)}, "which are not 5"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(changes, message):
    with pytest.raises(SettingsError, match=message) as refused:
        ModelSettings(5, (3,), 2, **changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", FAST)
def test_a_value_that_overflows_shows(name):
    """A Student-t of a value whose square is no float32 is not finite, so that it is computed again in float64."""
    engine = of_biases(name, ModelSettings(1, (), 1, likelihood="student-t"), {"logits.bias": 0.0})
    assert not np.isfinite(log_likelihoods(engine, [[1e30]])).any()
    engine.close()
