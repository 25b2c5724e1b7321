"""`precision="bf16"`: the reference, by its definition and by finite differences; who refuses it; what keeps it.

The engines are held to the reference in test_bf16_engines.py.
"""

import naive
import numpy as np
import pytest
from cases import BF16_CASES, TOLERANCES

from vaefast import engines
from vaefast.engines import reference
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.errors import EngineUnavailable
from vaefast.models.bfloat16 import rounded
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.noise import Purpose
from vaefast.models.settings import ModelSettings, TrainingSettings

by_case = pytest.mark.parametrize("case", BF16_CASES, ids=lambda case: case.name)
# A ReLU has a kink, and with it no finite difference, where a step crosses zero: tanh alone.
SMOOTH = [case for case in BF16_CASES if case.model.activation == "tanh" and case.model.pixels < 784]


def exact_engine(case, precision="bf16"):
    training = TrainingSettings(batch_size=case.batch_size, binarize=case.binarize, seed=11, precision=precision)
    engine = ReferenceEngine(case.model, training, 1, np.float64)
    stds = np.random.default_rng(6).uniform(0.15, 1.5, case.model.pixels)
    engine.load_state(State.initial(initial_parameters(Layout(case.model), "fan-in", 4, pixel_stds=stds), np.float64))
    return engine


def test_the_bound_is_that_of_loops_over_rounded_factors():
    """All products but the first layer's, whose factors are data and as they are."""
    model = ModelSettings(9, (7, 6), 3, "tanh")
    parameters = Layout(model).views(initial_parameters(Layout(model), "fan-in", 1) * 2)
    x, noise = np.random.default_rng(0).random(9), np.random.default_rng(1).standard_normal(3)

    def dense(h, name, activation=None):
        weight = [[naive.rounded(float(w)) for w in row] for row in parameters[f"{name}.weight"]]
        return naive.dense([naive.rounded(v) for v in h], weight, parameters[f"{name}.bias"], activation)

    h = naive.dense(x, parameters["encoder.0.weight"], parameters["encoder.0.bias"], "tanh")
    h = dense(h, "encoder.1", "tanh")
    mean, log_std = dense(h, "mean"), dense(h, "log_std")
    z = [m + np.exp(s) * e for m, s, e in zip(mean, log_std, noise, strict=True)]
    logits = dense(dense(dense(z, "decoder.0", "tanh"), "decoder.1", "tanh"), "logits")

    pass_ = reference.forward(parameters, x[None], noise[None], "tanh", rounded=rounded)
    assert np.allclose(pass_.mean[0], mean, rtol=1e-12)
    assert np.allclose(pass_.logits[0], logits, rtol=1e-12)
    assert not np.allclose(reference.forward(parameters, x[None], noise[None], "tanh").logits[0], logits, rtol=1e-4)


@pytest.mark.parametrize("case", SMOOTH, ids=lambda case: case.name)
@pytest.mark.parametrize("factor", [1.25, -0.5])
def test_both_factors_of_every_product_are_rounded_forward_and_backward(case, factor, monkeypatch):
    """The backward pass takes rounding for the identity (75). Let it multiply by c instead: then the gradient of a product of
    rounded factors is c^2 times that of the plain one, and so is a product of two rounded factors in the backward pass.
    Finite differences agree if and only if each product has both."""
    engine, rows, h = exact_engine(case), np.arange(min(6, case.examples)), 1e-6
    monkeypatch.setattr(engine, "_rounded", lambda values: factor * values)
    gradients, _ = engine._gradients(engine.place(case.values()), rows, 1.0)
    gradient, start = engine.layout.flatten(gradients, np.float64), engine.state().parameters

    def loss(parameters):
        engine._state.parameters[...] = parameters
        return -engine._gradients(engine.place(case.values()), rows, 1.0)[1].objective.mean()

    for seed in range(2):
        along = np.random.default_rng(seed).standard_normal(gradient.size)
        along /= np.linalg.norm(along)
        numeric = (loss(start + h * along) - loss(start - h * along)) / (2 * h)
        assert abs(gradient @ along - numeric) < TOLERANCES["finite_difference"] * max(1, abs(numeric))


def test_the_check_of_factors_notices_one_that_is_missing(monkeypatch):
    case = SMOOTH[0]
    plain = reference._dense_backward

    def careless(parameters, gradients, name, inputs, d_a, rounding):
        d_inputs = plain(parameters, gradients, name, inputs, d_a, rounding)
        if name == "decoder.1":
            gradients[f"{name}.weight"] = rounding(inputs).T @ d_a
        return d_inputs

    monkeypatch.setattr(reference, "_dense_backward", careless)
    with pytest.raises(AssertionError):
        test_both_factors_of_every_product_are_rounded_forward_and_backward(case, 1.25, monkeypatch)


@by_case
def test_every_factor_but_the_first_layers_is_a_bfloat16(case, monkeypatch):
    """Of a whole step of training: what products multiply, and that biases take gradients that are not rounded."""
    engine, seen = exact_engine(case), []

    def watched(values):
        seen.append(rounded(values))
        return seen[-1]

    monkeypatch.setattr(engine, "_rounded", watched)
    rows = np.arange(min(case.batch_size, case.examples))
    gradients, _ = engine._gradients(engine.place(case.values()), rows, 1.0)
    weights = {tuple(np.ravel(rounded(w))[:4]) for name, w in engine._views().items() if name.endswith(".weight")}
    factors = {tuple(np.ravel(values)[:4]) for values in seen}
    first = ("encoder.0.weight",) if case.model.hidden else ("mean.weight", "log_std.weight")
    of_first = {tuple(np.ravel(rounded(engine._views()[name]))[:4]) for name in first}
    assert weights - of_first <= factors
    assert not of_first & factors
    biases = np.concatenate([d_b for name, d_b in gradients.items() if name.endswith(".bias")])
    assert not np.array_equal(rounded(biases), biases)


@by_case
def test_results_are_near_float32_and_not_the_same(case):
    """A factor is off by 2^-9 of itself at most, so a bound of hundreds of nats by little more than a nat."""
    values, found = case.values(), {}
    for precision in ("bf16", "float32"):
        engine = exact_engine(case, precision)
        found[precision] = engine.evaluate(engine.place(values))
    scale = np.abs(found["float32"].elbo) + case.model.pixels
    difference = np.abs(found["bf16"].elbo - found["float32"].elbo)
    assert np.all(difference <= 2**-6 * scale)
    assert np.any(difference > 0)


@pytest.mark.parametrize("name", ["cuda"])
def test_an_engine_without_it_refuses_it_in_one_line(name, monkeypatch):
    monkeypatch.setattr(engines, "why_not", lambda engine: None)
    with pytest.raises(EngineUnavailable, match=f"engine {name} lacks precision bf16: choose engine .*reference") as caught:
        engines.create(name, ModelSettings(), TrainingSettings(precision="bf16"), 1)
    assert "\n" not in str(caught.value)
    assert engines.choose("reference", engines.needs(ModelSettings(), TrainingSettings(precision="bf16"))) == "reference"


def test_several_ranks_have_none():
    needed = (engines.SEVERAL_RANKS, *engines.needs(ModelSettings(), TrainingSettings(precision="bf16")))
    with pytest.raises(EngineUnavailable, match="over several ranks has no precision bf16: train in one process"):
        engines.choose("auto", needed)


def test_noise_and_data_do_not_depend_on_the_precision():
    case = BF16_CASES[0]
    rows = np.arange(4)
    batches = [
        exact_engine(case, precision)._batch(case.values()[rows], rows, Purpose.TRAINING_PIXELS, 0)
        for precision in ("bf16", "float32")
    ]
    assert np.array_equal(batches[0].x, batches[1].x)
