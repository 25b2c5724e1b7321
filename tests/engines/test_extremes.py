"""Extreme but finite inputs: every engine gives finite losses and the gradients of the float64 reference."""

from __future__ import annotations

import math
from typing import Any

import naive
import numpy as np
import pytest
from cases import TOLERANCES

from vaefast import engines
from vaefast.engines import reference
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.errors import DivergenceError
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings
from vaefast.training import divergence

BATCH = 6
ROUND_OFF = 6e-8  # of a float32
MODELS = {
    "relu": ModelSettings(70, (33, 17), 5),
    "tanh": ModelSettings(70, (33, 17), 5, "tanh"),
    "no hidden layer": ModelSettings(70, (), 5),
}
IMAGES = {
    "all zero": np.zeros((BATCH, 70), np.uint8),
    "all one": np.full((BATCH, 70), 255, np.uint8),
    "black and white": np.repeat(np.array([[0], [255]], np.uint8), 3, axis=0).repeat(70, axis=1),
    "grey": np.random.default_rng(0).integers(0, 256, (BATCH, 70)).astype(np.uint8),
}
# Which bias is set to what, in one latent or pixel or in all of them; log_std within its bounds and beyond both.
BIASES: dict[str, tuple[str, slice, float]] = {
    "nothing": ("mean.bias", slice(0, 0), 0.0),
    "log_std -100": ("log_std.bias", slice(None), -100.0),
    "log_std -1000": ("log_std.bias", slice(2, 3), -1000.0),
    "log_std 2": ("log_std.bias", slice(None), 2.0),
    "log_std 20": ("log_std.bias", slice(None), 20.0),
    "log_std 43": ("log_std.bias", slice(2, 3), 43.0),
    "log_std 1e6": ("log_std.bias", slice(0, 4), 1e6),
    "mean 1e4": ("mean.bias", slice(None), 1e4),
    "mean -1e4": ("mean.bias", slice(None), -1e4),
    "logits 1e4": ("logits.bias", slice(None), 1e4),
    "logits -1e4": ("logits.bias", slice(None), -1e4),
    "logits 1e4 in one": ("logits.bias", slice(69, 70), 1e4),
}


def state_with(model: ModelSettings, bias: str) -> np.ndarray:
    layout = Layout(model)
    vector = initial_parameters(layout, "fan-in", 1)
    name, where, value = BIASES[bias]
    layout.views(vector)[name][where] = value
    return vector.astype(np.float32).astype(np.float64)


def trained(engine: Any, vector: np.ndarray, images: np.ndarray) -> tuple[Any, dict[str, np.ndarray]]:
    """Terms of one minibatch and its gradients: from zero moments Adam leaves m / (1 - beta1) = gradient."""
    engine.load_state(State.initial(vector, np.float64))
    terms = engine.train(engine.place(images), np.arange(BATCH))
    moments = engine.state().first_moments.astype(np.float64)
    return terms, engine.layout.views(moments / (1 - engine.training.adam.beta1))


@pytest.mark.parametrize("name", [name for name in engines.ENGINES if engines.why_not(name) is None])
@pytest.mark.parametrize("binarize", ["dynamic", "none"])
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize("model", MODELS)
def test_finite_and_equal_to_the_reference(name, model, images, bias, binarize):
    training, vector = TrainingSettings(batch_size=BATCH, binarize=binarize, seed=3), state_with(MODELS[model], bias)
    engine = engines.create(name, MODELS[model], training, 2)
    with np.errstate(all="ignore"):
        terms, gradients = trained(engine, vector, IMAGES[images])
        exact, expected = trained(ReferenceEngine(MODELS[model], training, 1, np.float64), vector, IMAGES[images])
    engine.close()
    name, _, value = BIASES[bias]
    # Each of up to 70 additions rounds log_std, and exp(2 * log_std) is twice as far off.
    relative = ROUND_OFF * math.sqrt(70) * (2 + 2 * min(abs(value), 100) * (name == "log_std.bias"))
    for got, wanted in zip(terms, exact, strict=True):
        assert np.isfinite(got).all()
        # Single terms of a sum may be far larger than the sum: what a float32 can hold is relative to them.
        largest = max(np.abs(wanted).max(), 70 * abs(value) * (name == "logits.bias"))
        assert np.allclose(got, wanted, rtol=0, atol=TOLERANCES["example_nats"] + relative * largest)
    for tensor, gradient in expected.items():
        assert np.isfinite(gradients[tensor]).all(), tensor
        scale = np.max(np.abs(gradient))
        assert np.max(np.abs(gradients[tensor] - gradient)) <= TOLERANCES["gradient"] * scale + 1e-30, tensor


@pytest.mark.parametrize("log_std", [-100.0, 100.0])
def test_the_reference_itself_at_the_ends(log_std):
    """Beyond both bounds, against the formulas, one number at a time."""
    model = ModelSettings(3, (), 1)
    layout = Layout(model)
    vector = np.zeros(layout.size)
    views = layout.views(vector)
    views["log_std.bias"][0], views["mean.bias"][0], views["logits.weight"][0] = log_std, 0.5, 0.0
    engine = ReferenceEngine(model, TrainingSettings(batch_size=1, binarize="none"), 1, np.float64)
    engine.load_state(State.initial(vector, np.float64))
    terms = engine.train(np.ones((1, 3), np.float32), np.arange(1))
    assert terms.kl[0] == pytest.approx(naive.gaussian_kl([0.5], [log_std]), rel=1e-12)
    assert terms.log_likelihood[0] == pytest.approx(-3 * math.log(2), rel=1e-12)
    gradient = layout.views(engine.state().first_moments / 0.1)["log_std.bias"][0]
    assert gradient == pytest.approx(math.exp(2 * naive.bounded(log_std)) - 1, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in engines.ENGINES if engines.why_not(name) is None])
def test_past_the_range_of_float32_the_guard_speaks(name):
    """The square of 1e30 is no float32: infinite, not wrong, and named."""
    model, training = MODELS["relu"], TrainingSettings(batch_size=BATCH)
    vector = initial_parameters(Layout(model), "fan-in", 1)
    Layout(model).views(vector)["mean.bias"][:] = 1e30
    engine = engines.create(name, model, training, 1)
    engine.load_state(State.initial(vector))
    placed, order = engine.place(IMAGES["grey"]), np.arange(BATCH)
    guard = divergence.Guard(engine, placed, BATCH)
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match=r"^the KL .* in epoch 1, minibatch 1 \(step 1\)"):
        guard.trained(1, 0, order, engine.train(placed, order))


@pytest.mark.parametrize("a", [0.0, 1e-30, 1.0, 87.0, 88.8, 1e4, 1e30])
def test_softplus_has_no_end(a):
    x = np.array([[1.0, 0.0, 1.0, 0.0]])
    logits = np.array([[a, -a, -a, a]])
    softplus = max(a, 0.0) + math.log1p(math.exp(-abs(a)))
    expected = 2 * (a - softplus) - 2 * softplus
    assert reference.bernoulli_log_likelihood(x, logits)[0] == pytest.approx(expected, rel=1e-12, abs=1e-12)
