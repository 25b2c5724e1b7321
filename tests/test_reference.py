"""The specification itself: against loops that share nothing with it, and against finite differences in float64."""

import math

import naive
import numpy as np
import pytest
from cases import CASES, TOLERANCES

from vaefast.engines import reference
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.initialization import initial_parameters
from vaefast.layout import Layout
from vaefast.noise import Purpose, normals
from vaefast.settings import AdamSettings, ModelSettings, TrainingSettings

SMALL = [case for case in CASES if case.model.pixels < 784]


def inputs(case, rows=5):
    layout = Layout(case.model)
    vector = initial_parameters(layout, "fan-in", 1) * 2
    x = (np.random.default_rng(2).random((rows, case.model.pixels)) < 0.5).astype(np.float64)
    epsilon = normals(0, Purpose.TRAINING_LATENTS, 0, np.arange(rows), case.model.latent)
    return layout, vector, x, epsilon


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_lower_bound_is_the_oracles(case):
    layout, vector, x, epsilon = inputs(case)
    parameters = layout.views(vector)
    pass_ = reference.forward(parameters, x, epsilon, case.model.activation)
    log_likelihood = reference.bernoulli_log_likelihood(x, pass_.logits)
    kl = reference.gaussian_kl(pass_.mean, pass_.log_std)
    for row in range(len(x)):
        expected = naive.elbo_terms(parameters, len(case.model.hidden), case.model.activation, x[row], epsilon[row])
        assert np.allclose([log_likelihood[row], kl[row]], expected, rtol=1e-12)
    bound = reference.lower_bound(parameters, x, epsilon, case.model.activation)
    assert np.allclose(bound, log_likelihood - kl, rtol=1e-14)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_gradients_agree_with_finite_differences_by_random_projection(case):
    for projection in range(3):
        analytic, numeric = directional(case, projection, corrupt=None)
        assert abs(analytic - numeric) < TOLERANCES["finite_difference"] * max(1, abs(numeric))


@pytest.mark.parametrize("name", ["encoder.0.weight", "log_std.bias", "decoder.1.weight", "logits.bias"])
def test_the_projection_notices_one_wrong_tensor(name):
    case = next(case for case in CASES if case.name == "tanh")
    analytic, numeric = directional(case, 0, corrupt=name)
    assert abs(analytic - numeric) > 100 * TOLERANCES["finite_difference"]


def directional(case, projection, corrupt):
    """The derivative of the loss along a random direction: from the gradient, and by central differences."""
    layout, vector, x, epsilon = inputs(case)
    direction = np.random.default_rng(projection).standard_normal(layout.size)
    direction /= np.linalg.norm(direction)
    activation = case.model.activation

    def loss(parameters):
        return -reference.lower_bound(layout.views(parameters), x, epsilon, activation).mean()

    parameters = layout.views(vector)
    pass_ = reference.forward(parameters, x, epsilon, activation)
    gradients = reference.backward(parameters, pass_, epsilon, activation)
    if corrupt:
        gradients[corrupt] = gradients[corrupt] * 1.01
    h = 1e-6
    numeric = (loss(vector + h * direction) - loss(vector - h * direction)) / (2 * h)
    return layout.flatten(gradients, np.float64) @ direction, numeric


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_spot_checks_of_every_tensor(activation):
    model = ModelSettings(12, (9, 8), 4, activation)
    layout = Layout(model)
    vector = initial_parameters(layout, "fan-in", 5) * 2
    x = (np.random.default_rng(1).random((6, 12)) < 0.5).astype(np.float64)
    epsilon = normals(0, Purpose.TRAINING_LATENTS, 0, np.arange(6), 4)
    parameters = layout.views(vector)

    def run(parameters):
        return reference.forward(parameters, x, epsilon, activation)

    gradients = reference.backward(parameters, run(parameters), epsilon, activation)
    checked, h = 0, 1e-5
    for name, gradient in gradients.items():
        for place in np.random.default_rng(7).integers(gradient.size, size=8):
            losses, signs = [], []
            for shift in (h, -h):
                moved = layout.views(vector.copy())
                moved[name].flat[place] += shift
                pass_ = run(moved)
                losses.append(-np.mean(reference.lower_bound(moved, x, epsilon, activation)))
                signs.append([layer > 0 for layer in pass_.encoder[1:] + pass_.decoder[1:]])
            if activation == "relu" and any((a != b).any() for a, b in zip(*signs, strict=True)):
                continue  # a unit's kink lies between the two points: no derivative to compare with
            numeric = (losses[0] - losses[1]) / (2 * h)
            assert gradient.flat[place] == pytest.approx(numeric, rel=1e-5, abs=1e-8), name
            checked += 1
    assert checked > 0.9 * 8 * len(gradients)


def test_adam_is_the_reports_step_by_step():
    adam = AdamSettings(0.01, 0.8, 0.95, 1e-3)
    state = State.initial(np.array([0.5, -2.0]), np.float64)
    history = [np.array([0.3, -1.0]), np.array([0.0, 1e-9]), np.array([-5.0, 2.0])]
    for gradient in history:
        reference.adam_step(state, gradient, adam)
    expected = [naive.adam(start, [g[i] for g in history], 0.01, 0.8, 0.95, 1e-3) for i, start in enumerate((0.5, -2.0))]
    assert np.allclose(state.parameters, expected, rtol=1e-14)
    assert state.step == 3


def test_extreme_logits_are_finite_and_exact():
    logits = np.array([[1e4, -1e4, 0.0, 800.0]])
    assert reference.bernoulli_log_likelihood(np.array([[1.0, 0.0, 1.0, 0.0]]), logits) == pytest.approx(-math.log(2) - 800)


def test_the_closed_form_kl_is_the_mean_of_its_monte_carlo_estimate():
    mean, log_std = np.array([0.3, -1.2, 0.0]), np.array([-0.5, 0.2, -2.0])
    z = reference.sample_diagonal_gaussian(mean, log_std, normals(0, Purpose.PRIOR_SAMPLES, 0, np.arange(200_000), 3))
    std = np.exp(log_std)
    log_q = np.sum(-0.5 * ((z - mean) / std) ** 2 - log_std, axis=1)
    log_p = np.sum(-0.5 * z**2, axis=1)
    estimate = log_q - log_p
    error = 4 * estimate.std() / np.sqrt(len(z))
    assert abs(estimate.mean() - reference.gaussian_kl(mean, log_std)) < error


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_engine_keeps_its_dtype_and_its_state(dtype):
    case = next(case for case in CASES if case.name == "odd sizes")
    engine = ReferenceEngine(case.model, TrainingSettings(batch_size=case.batch_size), 1, dtype)
    engine.load_state(State.initial(initial_parameters(engine.layout, "glorot", 0), dtype))
    before = engine.state()
    engine.train(case.values(), np.arange(case.examples))
    assert engine.state().parameters.dtype == dtype
    assert engine.step == 4
    assert before.step == 0
    assert not np.array_equal(before.parameters, engine.state().parameters)
