"""The specification itself: against loops that share nothing with it, and against finite differences in float64."""

import decimal
import math

import naive
import numpy as np
import pytest
from cases import CASES, TOLERANCES

from vaefast.engines import reference
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.models import counts, likelihoods
from vaefast.models.conditions import beside, parted
from vaefast.models.count_rows import CountRows
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.noise import Purpose, normals
from vaefast.models.settings import COUNT_LIKELIHOODS, LIKELIHOODS, AdamSettings, ModelSettings, TrainingSettings

SMALL = [case for case in CASES if case.model.pixels < 784]


def inputs(case, rows=5):
    layout = Layout(case.model)
    vector = initial_parameters(layout, "fan-in", 1) * 2
    x = np.random.default_rng(2).random((rows, case.model.pixels))
    if case.model.in_blocks:
        x = parted(case.values()[:rows])[0].astype(np.float64)
        x = np.where(np.isnan(x), x, x > 0.5) if case.model.likelihood == "bernoulli" else x
    if case.model.likelihood == "bernoulli" and not case.model.in_blocks:
        x = (x < 0.5).astype(np.float64)
    if case.model.counts:
        x = CountRows.of(parted(case.values()[:rows])[0]).dense(np.float64)
    for name, low, high in (("x_log_dispersion", -2, 3), ("x_log_std", -2, 0.5)):
        if name in layout.tensors:
            own = layout.views(vector)[name]
            own[...] = np.random.default_rng(3).uniform(low, high, own.size)
    epsilon = normals(0, Purpose.TRAINING_LATENTS, 0, np.arange(len(x)), case.model.latent)
    return layout, vector, x, epsilon


def seen(case, x):
    """What the encoder sees of x."""
    if case.model.in_blocks:
        return seen_of_table(case, x)
    return beside(counts.seen(x, case.model.encoder_input), told(case, x) if case.model.encode_covariates else None)


def seen_of_table(case, x):
    """The same of a table, by the oracle."""
    rows = [naive.seen_of_table(known(row), kinds(case), case.model.missing_indicator) for row in x]
    return beside(np.array(rows), told(case, x) if case.model.encode_covariates else None)


def kinds(case):
    """Kinds and widths of the columns of a table, as the oracle takes them."""
    return case.model.columns or ((case.model.likelihood, case.model.pixels),)


def known(row):
    return [None if np.isnan(value) else float(value) for value in row]


def told(case, x):
    """The covariates of the rows, if there are any."""
    return case.told(len(x)).astype(np.float64) if case.model.covariates else None


def sizes(case, x):
    """Sizes of the rows of counts, (B, 1), where they are not their totals."""
    return CountRows.of(parted(case.values()[: len(x)])[0]).sizes[:, None] if case.sized else None


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_lower_bound_is_the_oracles(case):
    layout, vector, x, epsilon = inputs(case)
    parameters = layout.views(vector)
    covariates, size = told(case, x), sizes(case, x)
    pass_ = reference.forward(parameters, seen(case, x), epsilon, case.model.activation, covariates)
    likelihood = case.model.density
    log_likelihood = reference.log_likelihood(parameters, x, pass_.logits, likelihood, pass_.zero_logits, size)
    kl = reference.gaussian_kl(pass_.mean, pass_.log_std)
    for row in range(len(x)):
        hidden_layers, activation = len(case.model.hidden), case.model.activation
        beside_z = [] if covariates is None else covariates[row]
        expected = naive.elbo_terms(
            parameters, hidden_layers, activation, x[row], epsilon[row], case.model.likelihood, case.model.encoder_input,
            beside_z if case.model.encode_covariates else [], beside_z, None if size is None else size[row, 0],
        ) if not case.model.in_blocks else naive.elbo_terms(
            parameters, hidden_layers, activation, known(x[row]), epsilon[row], decoder_sees=beside_z,
            entered=seen(case, x)[row], kinds=kinds(case),
        )  # fmt: skip
        assert np.allclose([log_likelihood[row], kl[row]], expected, rtol=1e-12)
    given = seen(case, x), covariates, size
    bound = reference.lower_bound(parameters, x, epsilon, case.model.activation, likelihood, *given)
    assert np.allclose(bound, log_likelihood - kl, rtol=1e-14)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_gradients_agree_with_finite_differences_by_random_projection(case):
    for projection in range(3):
        analytic, numeric = directional(case, projection, corrupt=None)
        assert abs(analytic - numeric) < TOLERANCES["finite_difference"] * max(1, abs(numeric))


OWNERS = {"x_log_std": "gaussian tanh", "x_log_dispersion": "negative-binomial tanh"}
OWNERS |= {"zero_logits.weight": "zero-inflated negative-binomial tanh"}


@pytest.mark.parametrize("name", ["encoder.0.weight", "log_std.bias", "decoder.1.weight", "logits.bias", *OWNERS])
def test_the_projection_notices_one_wrong_tensor(name):
    case = next(case for case in CASES if case.name == OWNERS.get(name, "tanh"))
    analytic, numeric = directional(case, 0, corrupt=name)
    assert abs(analytic - numeric) > 100 * TOLERANCES["finite_difference"]


def directional(case, projection, corrupt):
    """The derivative of the loss along a random direction: from the gradient, and by central differences."""
    layout, vector, x, epsilon = inputs(case)
    direction = np.random.default_rng(projection).standard_normal(layout.size)
    direction /= np.linalg.norm(direction)
    activation, likelihood = case.model.activation, case.model.density
    given, covariates, size = seen(case, x), told(case, x), sizes(case, x)

    def loss(parameters):
        views = layout.views(parameters)
        return -reference.lower_bound(views, x, epsilon, activation, likelihood, given, covariates, size).mean()

    parameters = layout.views(vector)
    pass_ = reference.forward(parameters, given, epsilon, activation, covariates)
    gradients = reference.backward(parameters, pass_, epsilon, activation, likelihood, x=x, size=size)
    if corrupt:
        gradients[corrupt] = gradients[corrupt] * 1.01
    h = 1e-6
    numeric = (loss(vector + h * direction) - loss(vector - h * direction)) / (2 * h)
    return layout.flatten(gradients, np.float64) @ direction, numeric


@pytest.mark.parametrize("likelihood", [*LIKELIHOODS, *COUNT_LIKELIHOODS, "zero-inflated"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_spot_checks_of_every_tensor(activation, likelihood):
    zeros = likelihood == "zero-inflated"
    likelihood = "negative-binomial" if zeros else likelihood
    model = ModelSettings(12, (9, 8), 4, activation, likelihood, zeros)
    layout = Layout(model)
    vector = initial_parameters(layout, "fan-in", 5, pixel_stds=np.linspace(0.05, 0.6, 12))
    vector *= 2
    x = np.random.default_rng(1).random((6, 12))
    if likelihood == "bernoulli":
        x = (x < 0.5).astype(np.float64)
    if model.counts:
        x = np.floor(x * 6) * (x > 0.4)
    epsilon = normals(0, Purpose.TRAINING_LATENTS, 0, np.arange(6), 4)
    parameters = layout.views(vector)

    def run(parameters):
        return reference.forward(parameters, x, epsilon, activation)

    gradients = reference.backward(parameters, run(parameters), epsilon, activation, likelihood)
    assert set(gradients) == set(layout.tensors)
    checked, h = 0, 1e-5
    for name, gradient in gradients.items():
        for place in np.random.default_rng(7).integers(gradient.size, size=8):
            losses, signs = [], []
            for shift in (h, -h):
                moved = layout.views(vector.copy())
                moved[name].flat[place] += shift
                pass_ = run(moved)
                losses.append(-np.mean(reference.lower_bound(moved, x, epsilon, activation, likelihood)))
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


def test_the_continuous_bernoulli_is_a_density_and_its_mean_is_right():
    x = (np.arange(20_000) + 0.5) / 20_000
    for a in (-60.0, -3.0, -0.6, -0.4, -1e-3, 0.0, 1e-9, 1e-4, 0.49, 0.51, 5.0, 40.0):
        density = np.exp(reference.continuous_bernoulli_log_likelihood(x[:, None], np.full((len(x), 1), a)))
        assert density.mean() == pytest.approx(1, abs=1e-5)
        assert (x * density).mean() == pytest.approx(float(likelihoods.continuous_bernoulli_mean(np.array(a))), abs=1e-5)


def test_the_mean_of_a_continuous_bernoulli_against_exact_arithmetic():
    for a in (*np.linspace(-1, 1, 101), -700.0, -30.0, -5.0, 5.0, 30.0, 700.0, 1e4):
        expected = exact_mean(float(a))
        assert float(likelihoods.continuous_bernoulli_mean(np.array(a))) == pytest.approx(expected, rel=0, abs=4e-15)
        single = likelihoods.continuous_bernoulli_mean(np.array(a, np.float32))
        assert single.dtype == np.float32
        assert float(single) == pytest.approx(exact_mean(float(np.float32(a))), rel=0, abs=6e-7)


def exact_mean(a):
    """1 / (1 - exp(-a)) - 1 / a in 50 decimal digits."""
    if a == 0:
        return 0.5
    with decimal.localcontext(prec=50):
        exact = decimal.Decimal(a)
        return float(1 / (1 - (-exact).exp()) - 1 / exact)


def test_extreme_logits_of_a_continuous_bernoulli_are_finite_and_exact():
    logits, x = np.array([[1e4, -1e4, 0.0, 800.0]]), np.array([[1.0, 0.0, 1.0, 0.0]])
    expected = 2 * math.log(1e4) + 0 + (math.log(800) - 800)
    assert reference.continuous_bernoulli_log_likelihood(x, logits) == pytest.approx(expected)
    assert np.isnan(reference.continuous_bernoulli_log_likelihood(x, np.array([[np.nan, 0, 0, 0]]))).all()
    assert np.isnan(likelihoods.continuous_bernoulli_mean(np.array([np.nan]))).all()


def test_a_gaussians_variance_has_a_floor():
    x, means = np.zeros((1, 1)), np.zeros((1, 1))
    narrow = reference.gaussian_log_likelihood(x, means, np.array([-1e3]))
    assert narrow == pytest.approx(-0.5 * math.log(2 * math.pi * 1e-4))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_draws_have_the_mean_that_is_expected_of_them(likelihood):
    outputs = np.linspace(-4, 4, 9)
    x_log_std = np.linspace(-2, 0.5, 9) if likelihood == "gaussian" else None
    repeated = np.repeat(outputs[None], 40_000, axis=0)
    x = likelihoods.draw(likelihood, repeated, x_log_std, np.random.RandomState(0))
    assert np.abs((x.mean(axis=0) - likelihoods.expectation(likelihood, outputs)) / x.std(axis=0)).max() < 4.5 / 200
    if likelihood == "gaussian":
        assert np.allclose(x.std(axis=0), np.sqrt(likelihoods.x_variance(x_log_std)), rtol=0.03)
    else:
        assert x.min() >= 0
        assert x.max() <= 1
    assert np.isin(x, [0, 1]).all() == (likelihood == "bernoulli")
