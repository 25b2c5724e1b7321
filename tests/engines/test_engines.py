"""Every engine against the reference and against finite differences, over all CASES: the contract of `vaefast.engines`."""

from functools import cache

import numpy as np
import pytest
from cases import CASES, TOLERANCES

from vaefast import engines
from vaefast.engines import images, reference
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.errors import SettingsError
from vaefast.models.conditions import Conditioned, beside
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.noise import Purpose, normals
from vaefast.models.settings import AdamSettings, ModelSettings, TrainingSettings

FAST_ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(engines.why_not(name) is not None, reason=f"{name}: {engines.why_not(name)}"))
    for name in engines.ENGINES
    if name != "reference"
]
# Those that choose between lists of pixels and dense tiles by `images.SPARSE_BELOW`.
FOR_CPU = [engine for engine in FAST_ENGINES if engine.values[0] in ("cython", "numba")]
by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_engine = pytest.mark.parametrize("name", FAST_ENGINES)


def settings(case, **changes):
    return TrainingSettings(**{"batch_size": case.batch_size, "binarize": case.binarize, "seed": 11, **changes})


@cache
def start(case):
    layout = Layout(case.model)
    stds = np.random.default_rng(6).uniform(0.15, 1.5, case.model.pixels)
    vector = initial_parameters(layout, "fan-in", 4, pixel_stds=stds)
    if "x_log_dispersion" in layout.tensors:
        own = layout.views(vector)["x_log_dispersion"]
        own[...] = np.random.default_rng(7).uniform(-2, 3, own.size)
    return vector


def engine_at_start(name, case, threads=2, **changes):
    lacking = [need for need in engines.needs(case.model, settings(case)) if need in engines.LACKING.get(name, ())]
    if lacking:
        pytest.skip(f"engine {name} lacks {', '.join(lacking)}")
    engine = engines.create(name, case.model, settings(case, **changes), threads)
    engine.load_state(State.initial(start(case)))
    return engine


def reference_at_start(case, dtype=np.float64, **changes):
    engine = ReferenceEngine(case.model, settings(case, **changes), 1, dtype)
    engine.load_state(State.initial(start(case), dtype))
    return engine


# What the reference finds does not depend on the engine that is held to it, so it is computed once a case.


@cache
def exact_terms(case):
    """An epoch in an order, the terms of its examples, and what is evaluated after it."""
    values, order = case.values(), np.random.default_rng(0).permutation(case.examples)
    exact = reference_at_start(case)
    return order, exact.train(values, order), exact.step, exact.evaluate(values)


@cache
def exact_moments(case):
    """After the first minibatch."""
    exact = reference_at_start(case)
    exact.train(case.values(), first_rows(case))
    return exact.state()


@cache
def exact_steps(case):
    """Twenty steps in float32: their order, terms, and the parameters after them."""
    order = np.concatenate([np.random.default_rng(i).permutation(case.examples) for i in range(20)])
    order = order[: 20 * case.batch_size]
    exact = reference_at_start(case, np.float32)
    return order, exact.train(case.values(), order), exact.state().parameters


@cache
def exact_slopes(case):
    """Of the loss of the first minibatch in four directions, by central differences in float64."""
    rows, layout, vector = first_rows(case), Layout(case.model), start(case).astype(np.float32).astype(np.float64)
    exact = reference_at_start(case)
    x, *given = exact._batch(case.values()[rows], rows, Purpose.TRAINING_PIXELS, 0)
    epsilon = normals(11, Purpose.TRAINING_LATENTS, 0, rows, case.model.latent)

    def loss(parameters):
        views, model = layout.views(parameters), case.model
        return -reference.lower_bound(views, x, epsilon, model.activation, model.density, *given).mean()

    along = (1e-6 * direction(layout.size, seed) for seed in range(4))
    return [(loss(vector + step) - loss(vector - step)) / 2e-6 for step in along]


def direction(size, seed):
    """A unit vector."""
    vector = np.random.default_rng(seed).standard_normal(size)
    return vector / np.linalg.norm(vector)


def first_rows(case):
    return np.arange(min(case.batch_size, case.examples))


@by_engine
@by_case
def test_terms_of_every_example_follow_the_reference(name, case):
    fast, values = engine_at_start(name, case), case.values()
    order, expected, step, expected_after = exact_terms(case)
    got = fast.train(fast.place(values), order)
    assert np.allclose(got.log_likelihood, expected.log_likelihood, rtol=0, atol=TOLERANCES["example_nats"])
    assert np.allclose(got.kl, expected.kl, rtol=0, atol=TOLERANCES["example_nats"])
    assert fast.step == step == -(-case.examples // case.batch_size)
    evaluated = fast.evaluate(fast.place(values))
    assert np.allclose(evaluated.elbo, expected_after.elbo, rtol=0, atol=TOLERANCES["example_nats"])
    fast.close()


@by_engine
@by_case
def test_the_gradient_is_the_reference_gradient(name, case):
    """From zero moments one step of Adam leaves m / (1 - beta1) = gradient: the fused kernel is checked without a hook."""
    fast = engine_at_start(name, case)
    fast.train(fast.place(case.values()), first_rows(case))
    layout, beta1 = Layout(case.model), settings(case).adam.beta1
    got = layout.views(fast.state().first_moments / (1 - beta1))
    expected = layout.views(exact_moments(case).first_moments / (1 - beta1))
    for tensor, gradient in expected.items():
        scale = np.max(np.abs(gradient))
        assert np.max(np.abs(got[tensor] - gradient)) <= TOLERANCES["gradient"] * scale, tensor
    root = layout.views(np.sqrt(fast.state().second_moments / (1 - settings(case).adam.beta2)))
    for tensor, gradient in expected.items():
        assert np.allclose(root[tensor], np.abs(gradient), rtol=1e-3, atol=1e-4 * np.max(np.abs(gradient))), tensor
    fast.close()


@by_engine
@pytest.mark.parametrize("case", [case for case in CASES if case.model.pixels < 784], ids=lambda case: case.name)
def test_the_gradient_agrees_with_finite_differences(name, case):
    fast = engine_at_start(name, case)
    fast.train(fast.place(case.values()), first_rows(case))
    gradient = fast.state().first_moments.astype(np.float64) / (1 - settings(case).adam.beta1)
    for seed, numeric in enumerate(exact_slopes(case)):
        along, scale = direction(gradient.size, seed), np.linalg.norm(gradient)
        assert abs(gradient @ along - numeric) < TOLERANCES["gradient"] * scale
        wrong = gradient.copy()
        wrong[int(np.argmax(np.abs(gradient * along)))] *= 2  # the check must be able to fail
        assert abs(wrong @ along - numeric) > TOLERANCES["gradient"] * scale
    fast.close()


@by_engine
@by_case
def test_any_number_of_threads_gives_the_same_bits(name, case):
    values, order = case.values(), np.random.default_rng(1).permutation(case.examples)
    results = []
    for threads in (1, 2, 3, 7):
        fast = engine_at_start(name, case, threads)
        terms = fast.train(fast.place(values), order)
        evaluated = fast.evaluate(fast.place(values))
        state = fast.state()
        results.append([state.parameters, state.first_moments, state.second_moments, *terms, *evaluated])
        fast.close()
    for other in results[1:]:
        for first, array in zip(results[0], other, strict=True):
            assert np.array_equal(first, array)


@by_engine
def test_a_run_cut_into_calls_and_moved_to_another_engine_is_the_same_run(name):
    case = CASES[1]
    values, order = case.values(), np.random.default_rng(2).permutation(case.examples)
    whole = engine_at_start(name, case)
    whole.train(whole.place(values), order)
    first = engine_at_start(name, case)
    first.train(first.place(values), order[: case.batch_size])
    second = engines.create(name, case.model, settings(case), 1)
    second.load_state(first.state())
    second.train(second.place(values), order[case.batch_size :])
    for field in ("parameters", "first_moments", "second_moments", "step"):
        assert np.array_equal(getattr(whole.state(), field), getattr(second.state(), field)), field


@by_engine
@by_case
def test_twenty_steps_follow_the_reference_loss_by_loss(name, case):
    fast, values = engine_at_start(name, case), case.values()
    order, expected, parameters = exact_steps(case)
    got = fast.train(fast.place(values), order)
    for step in range(-(-len(order) // case.batch_size)):
        batch = slice(step * case.batch_size, (step + 1) * case.batch_size)
        assert got.elbo[batch].mean() == pytest.approx(expected.elbo[batch].mean(), abs=TOLERANCES["loss_nats"])
    difference = np.abs(fast.state().parameters - parameters)
    assert np.max(difference) < TOLERANCES["parameters"]
    fast.close()


@by_engine
@by_case
def test_encode_and_decode(name, case):
    fast, exact = engine_at_start(name, case), reference_at_start(case)
    x = np.random.default_rng(3).random((101, case.model.pixels)).astype(np.float32)
    x = np.where(x < case.missing * case.model.missing, np.float32(np.nan), x)
    x = np.floor(8 * x * x) if case.model.counts else x
    x = Conditioned(x, case.told(101)) if case.model.covariates else x
    for got, expected in zip(fast.encode(x), exact.encode(x), strict=True):
        assert got.shape == (101, case.model.latent)
        assert np.allclose(got, expected, rtol=0, atol=TOLERANCES["activations"])
    z = np.random.default_rng(4).standard_normal((101, case.model.decoder_inputs))
    assert np.allclose(fast.decode(z), exact.decode(z), rtol=0, atol=TOLERANCES["activations"])
    fast.close()


@by_engine
@by_case
def test_a_rows_result_does_not_depend_on_the_rows_beside_it(name, case):
    fast = engine_at_start(name, case, threads=1)
    x = np.random.default_rng(5).random((230, case.model.pixels)).astype(np.float32)
    x = np.where(x < case.missing * case.model.missing, np.float32(np.nan), x)
    told = case.told(230) if case.model.covariates else None
    x = x if told is None else Conditioned(x, told)
    mean, log_std = fast.encode(x)
    z = beside(mean, told)
    logits = fast.decode(z)
    for row in (0, 1, 95, 96, 229):
        assert np.array_equal(fast.encode(x[row : row + 1])[0][0], mean[row])
        assert np.array_equal(fast.encode(x[row : row + 1])[1][0], log_std[row])
        assert np.array_equal(fast.decode(z[row : row + 1])[0], logits[row])


@pytest.mark.parametrize("name", FOR_CPU)
def test_the_sparse_and_the_dense_first_layer_give_the_same_bits(name, monkeypatch):
    case = CASES[0]
    values, order, states = case.values(), np.arange(case.examples), []
    for below in (0.0, 2.0):
        monkeypatch.setattr(images, "SPARSE_BELOW", below)
        fast = engine_at_start(name, case)
        placed = fast.place(values)
        assert placed.sparse == (below > 0)
        fast.train(placed, order)
        states.append(fast.state())
        fast.close()
    assert np.array_equal(states[0].parameters, states[1].parameters)
    assert np.array_equal(states[0].second_moments, states[1].second_moments)


@pytest.mark.parametrize("name", [*FAST_ENGINES, "reference"])
def test_an_image_is_scored_with_the_noise_of_its_number(name):
    case = CASES[1]
    values = case.values()
    engine = engine_at_start(name, case)
    whole = engine.evaluate(engine.place(values)).elbo
    some = np.array([7, 0, 31, 7])
    numbered = engine.evaluate(engine.place(values[some]), some).elbo
    # Only the reference's matrix products see the rows beside a row.
    assert np.allclose(numbered, whole[some], rtol=0, atol=0 if name != "reference" else TOLERANCES["example_nats"])
    assert not np.allclose(engine.evaluate(engine.place(values[some])).elbo, whole[some], rtol=0, atol=0.1)
    assert np.array_equal(numbered, engine.evaluate(engine.place(values[some]), some).elbo)


@by_engine
def test_seeds_steps_and_epochs_change_the_noise_and_nothing_else_does(name):
    case = CASES[1]
    values, order = case.values(), np.arange(case.batch_size)

    def trained(seed, times):
        fast = engine_at_start(name, case, seed=seed, adam=AdamSettings(learning_rate=0.0))
        return [fast.train(fast.place(values), order).elbo for _ in range(times)]

    first, second = trained(1, 2)
    assert not np.array_equal(first, second)  # the next step sees other pixels and other latents
    assert np.array_equal(first, trained(1, 1)[0])
    assert not np.array_equal(first, trained(2, 1)[0])


@by_engine
def test_not_a_number_is_never_hidden(name):
    case = CASES[1]
    fast = engine_at_start(name, case)
    state = fast.state()
    layout = Layout(case.model)
    layout.views(state.parameters)["encoder.0.bias"][3] = np.nan
    fast.load_state(state)
    terms = fast.train(fast.place(case.values()), np.arange(case.batch_size))
    assert np.isnan(terms.elbo).all()


def test_unknown_engines_are_refused_by_name():
    with pytest.raises(SettingsError, match="choose auto, cython, numba, cuda or reference"):
        engines.create("nmba", ModelSettings(), TrainingSettings(), 1)


def test_an_engine_that_cannot_run_says_why_and_auto_passes_it_over(monkeypatch):
    reason = "no such thing; pip install it"
    monkeypatch.setattr(engines, "why_not", lambda name: None if name == "reference" else reason)
    with pytest.raises(engines.EngineUnavailable, match=reason):
        engines.choose("numba")
    assert engines.choose("auto") == "reference"


def test_a_likelihood_that_an_engine_lacks_is_refused_by_one_line_that_names_one_that_has_it(monkeypatch):
    monkeypatch.setattr(engines, "LACKING", {"cython": ("likelihood gaussian",), "numba": ("likelihood gaussian",)})
    with pytest.raises(engines.EngineUnavailable, match="engine numba lacks likelihood gaussian: choose engine reference"):
        engines.create("numba", ModelSettings(likelihood="gaussian"), TrainingSettings(binarize="none"), 1)
    assert engines.choose("auto", ["likelihood gaussian"]) == "reference"
    monkeypatch.setattr(engines, "why_not", lambda name: None)
    assert engines.choose("auto", ["likelihood bernoulli"]) == "cython"
