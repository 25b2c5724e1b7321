"""Dropout of what the encoder sees of counts: against loops, the reference and finite differences; its noise; when it is."""

import naive
import numpy as np
import pytest
from cases import COUNT_CASES, COVARIATE_CASES, TOLERANCES

from vaefast import engines
from vaefast.engines import reference
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.errors import SettingsError
from vaefast.models import counts, noise
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.noise import Purpose, kept_entries, normals
from vaefast.models.settings import AdamSettings, ModelSettings, TrainingSettings

SHARE, SEED = 0.3, 11
FAST = [
    pytest.param(name, marks=pytest.mark.skipif(engines.why_not(name) is not None, reason=f"{name}: {engines.why_not(name)}"))
    for name in ("numba", "cython")
]
by_engine = pytest.mark.parametrize("name", FAST)
every = pytest.mark.parametrize("name", [*FAST, "reference"])
COUNTED = [*COUNT_CASES, *(case for case in COVARIATE_CASES if case.model.counts)]
by_case = pytest.mark.parametrize("case", COUNTED, ids=lambda case: case.name)
SMALL = next(case for case in COUNT_CASES if case.name == "multinomial tanh")


def settings(case, **changes):
    given = {"batch_size": case.batch_size, "binarize": "none", "seed": SEED, "input_dropout": SHARE, **changes}
    return TrainingSettings(**given)


def start(case):
    layout = Layout(case.model)
    vector = initial_parameters(layout, "fan-in", 4)
    if "x_log_dispersion" in layout.tensors:
        layout.views(vector)["x_log_dispersion"][...] = np.random.default_rng(7).uniform(-2, 3, case.model.pixels)
    return vector


def at_start(name, case, threads=2, **changes):
    lacking = [need for need in engines.needs(case.model, settings(case)) if need in engines.LACKING.get(name, ())]
    if lacking:
        pytest.skip(f"engine {name} lacks {', '.join(lacking)}")
    engine = engines.create(name, case.model, settings(case, **changes), threads)
    engine.load_state(State.initial(start(case)))
    return engine


def exact_at_start(case, **changes):
    engine = ReferenceEngine(case.model, settings(case, **changes), 1, np.float64)
    engine.load_state(State.initial(start(case), np.float64))
    return engine


def test_the_reference_is_the_oracles_row_by_row():
    """Two steps without a learning rate: the terms of every example are those of loops, the likelihood of all counts."""
    engine = exact_at_start(SMALL, adam=AdamSettings(learning_rate=0.0))
    x, model = SMALL.values(), SMALL.model
    order = np.random.default_rng(0).permutation(SMALL.examples)[: SMALL.batch_size + 5]
    terms, parameters = engine.train(x, order), Layout(model).views(start(SMALL).astype(np.float64))
    for place in (0, 1, 2, SMALL.batch_size, SMALL.batch_size + 4):
        example, step = int(order[place]), place // SMALL.batch_size
        row = x[example].astype(float).tolist()
        entered = naive.dropped(naive.seen(row, model.encoder_input), SHARE, SEED, step, example)
        epsilon = normals(SEED, Purpose.TRAINING_LATENTS, step, [example], model.latent)[0]
        expected = naive.elbo_terms(
            parameters, len(model.hidden), model.activation, row, epsilon, model.likelihood, entered=entered
        )
        assert np.allclose([terms.log_likelihood[place], terms.kl[place]], expected, rtol=1e-9)


@by_engine
@by_case
def test_terms_and_gradients_follow_the_reference(name, case):
    fast, exact, values = at_start(name, case), exact_at_start(case), case.values()
    order = np.random.default_rng(0).permutation(case.examples)
    got, expected = fast.train(fast.place(values), order), exact.train(values, order)
    for term in ("log_likelihood", "kl"):
        assert np.allclose(getattr(got, term), getattr(expected, term), rtol=0, atol=TOLERANCES["example_nats"])
    fast.load_state(State.initial(start(case)))
    exact.load_state(State.initial(start(case), np.float64))
    fast.train(fast.place(values), order[: case.batch_size])
    exact.train(values, order[: case.batch_size])
    layout = Layout(case.model)
    found, right = (layout.views(engine.state().first_moments) for engine in (fast, exact))
    for tensor, gradient in right.items():
        assert np.abs(found[tensor] - gradient).max() <= TOLERANCES["gradient"] * np.abs(gradient).max(), tensor
    fast.close()


@every
@by_case
def test_the_gradient_agrees_with_finite_differences(name, case):
    engine, layout = at_start(name, case), Layout(case.model)
    rows, values = np.arange(case.examples)[-case.batch_size :], case.values()
    engine.train(engine.place(values), rows)
    gradient = engine.state().first_moments.astype(np.float64) / 0.1
    vector = start(case).astype(np.float32).astype(np.float64)
    (x, seen, *told), without = (
        exact_at_start(case, input_dropout=share)._batch(values[rows], rows, Purpose.TRAINING_PIXELS, 0)
        for share in (SHARE, 0.0)
    )
    epsilon = normals(SEED, Purpose.TRAINING_LATENTS, 0, rows, case.model.latent)

    def loss(parameters, seen):
        views, model = layout.views(parameters), case.model
        return -reference.lower_bound(views, x, epsilon, model.activation, model.likelihood, seen, *told).mean()

    def differs(direction, seen):
        numeric = (loss(vector + 1e-6 * direction, seen) - loss(vector - 1e-6 * direction, seen)) / 2e-6
        return abs(gradient @ direction - numeric) / np.linalg.norm(gradient)

    for seed in range(3):
        direction = np.random.default_rng(seed).standard_normal(layout.size)
        direction /= np.linalg.norm(direction)
        assert differs(direction, seen) < TOLERANCES["gradient"]
    if not np.array_equal(seen, without.seen) and x.shape[1] > 1:  # the check must be able to fail
        assert differs(gradient / np.linalg.norm(gradient), without.seen) > TOLERANCES["gradient"]
    engine.close()


@by_engine
@by_case
def test_any_number_of_threads_gives_the_same_bits(name, case):
    values, order, results = case.values(), np.random.default_rng(1).permutation(case.examples), []
    for threads in (1, 2, 3, 7):
        engine = at_start(name, case, threads)
        terms, state = engine.train(engine.place(values), order), engine.state()
        results.append([state.parameters, state.second_moments, *terms])
        engine.close()
    for other in results[1:]:
        assert all(np.array_equal(first, array) for first, array in zip(results[0], other, strict=True))


@pytest.mark.skipif(any(engines.why_not(name) for name in ("numba", "cython")), reason="needs both compiled engines")
@by_case
def test_numba_and_cython_give_the_same_bits(case):
    states = []
    for name in ("numba", "cython"):
        engine = at_start(name, case)
        engine.train(engine.place(case.values()), np.arange(case.examples))
        states.append(engine.state().parameters)
        engine.close()
    assert np.array_equal(*states)


@pytest.mark.skipif(engines.why_not("cython") is not None, reason="the extension is not built")
@by_case
def test_no_index_leaves_its_array_in_the_checked_build(case, monkeypatch):
    values, order, results = case.values(), np.random.default_rng(1).permutation(case.examples), []
    for checked, threads in (("0", 1), ("1", 1), ("1", 2)):
        monkeypatch.setenv("VAEFAST_CHECKED", checked)
        engine = at_start("cython", case, threads)
        results.append((engine.train(engine.place(values), order).elbo.tobytes(), engine.state().parameters.tobytes()))
        engine.close()
    assert results[0] == results[1] == results[2]


@by_engine
def test_a_run_cut_into_calls_and_moved_to_another_engine_is_the_same_run(name):
    values, order = SMALL.values(), np.random.default_rng(2).permutation(SMALL.examples)
    whole, first, second = (at_start(name, SMALL, threads) for threads in (2, 2, 1))
    whole.train(whole.place(values), order)
    first.train(first.place(values), order[: SMALL.batch_size])
    second.load_state(first.state())
    second.train(second.place(values), order[SMALL.batch_size :])
    assert np.array_equal(whole.state().parameters, second.state().parameters)
    for engine in (whole, first, second):
        engine.close()


@every
def test_it_is_in_training_alone(name):
    """Evaluation, encoding and importance sampling are those of a model without it; a step of training is not."""
    x, results = SMALL.values(), []
    for share in (0.0, SHARE):
        engine = at_start(name, SMALL, input_dropout=share)
        placed = engine.place(x)
        results.append([*engine.evaluate(placed), *engine.encode(x), *engine.importance_sample(placed, 7)])
        results[-1].append(engine.train(placed, np.arange(SMALL.examples)).kl)
        engine.close()
    same = [np.array_equal(*pair) for pair in zip(*results, strict=True)]
    assert same == [True] * (len(same) - 1) + [False]


@every
def test_an_example_sees_another_mask_in_each_step_and_under_each_seed(name):
    values, order = SMALL.values(), np.arange(SMALL.batch_size)

    def divergences(seed):
        """Which depend on what the encoder sees and on no other noise."""
        engine = at_start(name, SMALL, seed=seed, adam=AdamSettings(learning_rate=0.0))
        found = [engine.train(engine.place(values), order).kl for _ in range(2)]
        engine.close()
        return found

    first, second = divergences(1)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, divergences(1)[0])
    assert not np.array_equal(first, divergences(2)[0])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_mask_keeps_the_share_that_it_should_and_the_mean_of_what_is_seen(share):
    x = np.random.default_rng(0).poisson(0.5, (400, 500)).astype(np.float64)
    kept, n = kept_entries(x, share, 3, 4, np.arange(400))[x > 0], np.count_nonzero(x)
    assert abs(kept.mean() - (1 - share)) < 4.5 * np.sqrt(share * (1 - share) / n)
    seen = counts.with_dropout(x, kept_entries(x, share, 3, 4, np.arange(400)), share)
    spread = np.sqrt(np.sum(x**2) * share / (1 - share))
    assert abs(seen.sum() - x.sum()) < 4.5 * spread
    assert np.allclose(seen[x > 0], np.where(kept, x[x > 0] / (1 - share), 0), rtol=1e-15)
    # Neighbouring entries, steps and examples have masks of their own.
    other = kept_entries(x, share, 3, 5, np.arange(400))[x > 0]
    for pair in ((kept[1:], kept[:-1]), (kept, other)):
        assert abs(np.corrcoef(*pair)[0, 1]) < 4.5 / np.sqrt(n)


def test_the_noise_goes_by_the_place_among_the_entries_not_by_the_column():
    entries, wide = np.array([[3.0, 1.0, 2.0]]), np.zeros((1, 50))
    wide[0, [4, 20, 49]] = entries[0]
    for step in range(20):
        narrow = kept_entries(entries, 0.5, 0, step, [9])
        assert np.array_equal(kept_entries(wide, 0.5, 0, step, [9])[wide > 0], narrow[0])


def test_the_threshold_is_exact_at_its_ends():
    assert noise.dropout_threshold(0.0) == 0
    assert noise.dropout_threshold(0.5) == 2**31
    assert noise.dropout_threshold(np.nextafter(1.0, 0.0)) == 2**32 - 1


def test_it_is_refused_where_there_are_no_counts():
    for likelihood in ("bernoulli", "gaussian", "continuous-bernoulli"):
        with pytest.raises(
            SettingsError, match=f"which is for counts, and likelihood {likelihood} is not: leave it out"
        ) as caught:
            engines.create("reference", ModelSettings(9, likelihood=likelihood), settings(SMALL), 1)
        assert "\n" not in str(caught.value)
    for share in (-0.1, 1.0, "0.5", True, float("nan")):
        with pytest.raises(SettingsError, match="give a number from 0 below 1"):
            settings(SMALL, input_dropout=share)
