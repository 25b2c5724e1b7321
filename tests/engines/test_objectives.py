"""Objectives: values and gradients against loops and finite differences, identities, bounds in their order, every engine."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from cases import CASES, OBJECTIVE_CASES, OBJECTIVES, TOLERANCES, numba_compiles

from vaefast import engines
from vaefast.engines import objectives, reference
from vaefast.engines.contract import Pace, State
from vaefast.engines.reference import ReferenceEngine
from vaefast.errors import EngineUnavailable, SettingsError
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.noise import Purpose
from vaefast.models.settings import AdamSettings, ModelSettings, ObjectiveSettings, TrainingSettings
from vaefast.training.schedules import pace

by_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.name} {o.samples} {o.kl}")
by_case = pytest.mark.parametrize("case", OBJECTIVE_CASES, ids=lambda case: case.name)


def able(name: str, objective: ObjectiveSettings) -> bool:
    needed = engines.needs(ModelSettings(), TrainingSettings(objective=objective))
    return not set(needed) & set(engines.LACKING.get(name, ()))


FAST = [name for name in engines.ENGINES if name != "reference" and engines.why_not(name) is None]
ABLE = [(name, objective) for name in FAST for objective in OBJECTIVES if able(name, objective)]
by_engine = pytest.mark.parametrize(
    ("name", "objective"), ABLE, ids=lambda v: v if isinstance(v, str) else f"{v.name} {v.samples}"
)

by_engine_and_case = pytest.mark.parametrize(
    ("name", "objective", "case"),
    [
        pytest.param(name, objective, case, id=f"{case.name}-{name}-{objective.name} {objective.samples}")
        for case in OBJECTIVE_CASES
        for name, objective in ABLE
        if name != "numba" or numba_compiles(case, objective)
    ],
)


def settings(case, objective, **changes):
    return TrainingSettings(batch_size=case.batch_size, binarize=case.binarize, seed=11, objective=objective, **changes)


def started(engine, case):
    stds = np.random.default_rng(6).uniform(0.15, 1.5, case.model.pixels)
    engine.load_state(State.initial(initial_parameters(Layout(case.model), "fan-in", 4, pixel_stds=stds)))
    return engine


def skip_without_its_model(name, case):
    lacking = [need for need in engines.needs(case.model, TrainingSettings()) if need in engines.LACKING.get(name, ())]
    if lacking:
        pytest.skip(f"engine {name} lacks {', '.join(lacking)}")


def exact(case, objective, **changes):
    return started(ReferenceEngine(case.model, settings(case, objective, **changes), 1, np.float64), case)


class Minibatch:
    """What one step sees, in float64, and the loss of the first minibatch as a function of the parameters."""

    def __init__(self, case, objective):
        self.case, self.objective = case, objective
        engine = exact(case, objective)
        self.layout, self.vector = engine.layout, engine.state().parameters
        rows = np.arange(min(case.batch_size, case.examples))
        batch = engine._batch(case.values()[rows], rows, Purpose.TRAINING_PIXELS, 0)
        self.x, self.seen, self.covariates, self.size = batch
        self.epsilon = engine._normals(Purpose.TRAINING_LATENTS, 0, rows, objective.samples)
        engine.train(engine.place(case.values()), rows)
        self.gradient = engine.state().first_moments / (1 - AdamSettings().beta1)

    def parts(self, vector):
        """log p(x | z), mean, log_std, z."""
        model, parameters = self.case.model, self.layout.views(vector)
        pass_ = reference.forward(parameters, self.seen, self.epsilon, model.activation, self.covariates)
        x = np.repeat(self.x, self.objective.samples, axis=0)
        size = None if self.size is None else np.repeat(self.size, self.objective.samples, axis=0)
        log_p = reference.log_likelihood(parameters, x, pass_.logits, model.density, pass_.zero_logits, size)
        log_p = log_p.reshape(len(self.x), -1)
        return log_p, pass_.mean, pass_.log_std, pass_.z

    def loss(self, vector):
        value, _ = objectives.value_and_credit(self.objective, self.objective.beta, *self.parts(vector), self.epsilon)
        return -value.mean()


@by_case
@by_objective
def test_the_references_gradient_is_that_of_its_value(case, objective):
    if objective.name == "dreg":
        pytest.skip("its encoder gradient is another estimator of the same expectation: tested below")
    minibatch = Minibatch(case, objective)
    for seed in range(2):
        direction = np.random.default_rng(seed).standard_normal(minibatch.layout.size)
        direction /= np.linalg.norm(direction)
        up, down = (minibatch.loss(minibatch.vector + h * direction) for h in (1e-6, -1e-6))
        numeric = (up - down) / 2e-6
        scale = max(1.0, float(np.linalg.norm(minibatch.gradient)))
        assert abs(minibatch.gradient @ direction - numeric) < 10 * TOLERANCES["finite_difference"] * scale
        wrong = minibatch.gradient.copy()
        wrong[int(np.argmax(np.abs(wrong * direction)))] *= 1.1  # the check must be able to fail
        assert abs(wrong @ direction - numeric) > 10 * TOLERANCES["finite_difference"] * scale


@by_case
def test_dreg_is_the_gradient_of_its_surrogate(case):
    """Decoder: that of the IWAE bound. Encoder: of sum over samples of w^2 log w, with w and the parameters of log q held
    still (Tucker et al. 2018, eq. 7), so that z alone depends on the encoder."""
    objective = ObjectiveSettings("dreg", 3)
    minibatch = Minibatch(case, objective)
    log_p, mean, log_std, z = minibatch.parts(minibatch.vector)
    w = objectives.normalised_weights(objectives.log_weights(log_p, z, log_std, minibatch.epsilon))
    mean, log_std = (np.repeat(head, objective.samples, axis=0) for head in (mean, log_std))

    def surrogate(vector):
        log_p, _, _, z = minibatch.parts(vector)
        log_q = np.sum(-0.5 * ((z - mean) / np.exp(log_std)) ** 2 - log_std, axis=1)
        log_prior = np.sum(-0.5 * z**2, axis=1)
        return -np.sum(w**2 * (log_p + (log_prior - log_q).reshape(w.shape))) / len(w)

    encoders = ("encoder", "mean", "log_std")
    for of_encoder, loss in ((True, surrogate), (False, minibatch.loss)):
        direction = np.random.default_rng(3).standard_normal(minibatch.layout.size)
        for name, view in minibatch.layout.views(direction).items():
            if name.startswith(encoders) != of_encoder:
                view[...] = 0
        direction /= np.linalg.norm(direction)
        numeric = (loss(minibatch.vector + 1e-6 * direction) - loss(minibatch.vector - 1e-6 * direction)) / 2e-6
        assert abs(minibatch.gradient @ direction - numeric) < 10 * TOLERANCES["finite_difference"] * max(1, abs(numeric))


def test_dreg_has_the_mean_of_iwaes_gradient_and_less_spread():
    case = next(case for case in CASES if case.name == "tanh")
    drawn = {}
    for name in ("iwae", "dreg"):
        engine = exact(case, ObjectiveSettings(name, 8), adam=AdamSettings(learning_rate=0.0, beta1=0.0))
        rows, found = np.arange(case.batch_size), []
        for _ in range(300):  # other noise in each step, the same weights
            engine.train((case.values() > 0).astype(np.float32), rows)
            found.append(engine.layout.views(engine.state().first_moments)["mean.weight"].copy())
        drawn[name] = np.array(found)
    difference = drawn["iwae"] - drawn["dreg"]  # of the same noise
    error = difference.std(axis=0) / math.sqrt(len(difference))
    assert np.abs(difference.mean(axis=0) / error).max() < 5
    assert drawn["dreg"].var(axis=0).sum() < 0.8 * drawn["iwae"].var(axis=0).sum()


def test_the_value_is_the_oracles():
    case = next(case for case in CASES if case.name == "odd sizes")
    minibatch = Minibatch(case, ObjectiveSettings("iwae", 3))
    value, credit = objectives.value_and_credit(
        minibatch.objective, 1.0, *minibatch.parts(minibatch.vector), minibatch.epsilon
    )
    parameters = minibatch.layout.views(minibatch.vector)
    _, mean, log_std, _ = minibatch.parts(minibatch.vector)
    for row in range(len(minibatch.x)):
        log_w = []
        for noise in minibatch.epsilon.reshape(len(minibatch.x), 3, -1)[row]:
            log_p = naive.elbo_terms(parameters, 3, "relu", minibatch.x[row], noise)[0]
            log_w.append(log_p + naive.log_density_ratio(mean[row], log_std[row], noise))
        weights = [math.exp(v - max(log_w)) for v in log_w]
        assert value[row] == pytest.approx(max(log_w) + math.log(sum(weights) / 3), rel=1e-12)
        assert np.allclose(credit.samples[row], np.array(weights) / sum(weights), rtol=1e-12)


def test_log_mean_exp_neither_overflows_nor_hides():
    assert objectives.log_mean_exp(np.array([-1e5, -1e5])) == -1e5
    assert objectives.log_mean_exp(np.array([1e5, -1e5])) == pytest.approx(1e5 - math.log(2))
    assert np.isnan(objectives.log_mean_exp(np.array([0.0, np.nan])))


@pytest.mark.parametrize("name", ["reference", *FAST])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ObjectiveSettings("iwae", 1), ObjectiveSettings("elbo", 1, "sampled")),
        (ObjectiveSettings("beta", 2, beta=1.0), ObjectiveSettings("elbo", 2)),
        (ObjectiveSettings("free-bits", 2, free_nats=0.0), ObjectiveSettings("elbo", 2)),
    ],
    ids=["iwae of one sample", "beta of one", "no free nats"],
)
def test_identities(name, one, other):
    if not (able(name, one) and able(name, other)):
        pytest.skip(f"engine {name} lacks one of the two")
    case = next(case for case in CASES if case.name == "tanh")
    states = []
    for objective in (one, other):
        engine = started(engines.create(name, case.model, settings(case, objective), 2), case)
        terms = engine.train(engine.place(case.values()), np.arange(case.examples))
        states.append((engine.state().parameters, terms.objective))
        engine.close()
    assert np.array_equal(states[0][0], states[1][0])
    # Free bits are counted for a minibatch as a whole.
    assert states[0][1].mean() == pytest.approx(states[1][1].mean(), abs=1e-5)


def test_the_bounds_are_in_their_order():
    """ELBO <= IWAE 2 <= IWAE 4 <= ... <= log p(x) in expectation (Burda et al. 2015, theorem 1); log p(x) by quadrature."""
    model = ModelSettings(12, (16,), 1, "tanh")
    training = TrainingSettings(batch_size=20, binarize="none", seed=3, adam=AdamSettings(learning_rate=0.01))
    x = (np.random.default_rng(0).random((40, 12)) < np.random.default_rng(1).random(12)).astype(np.float32)
    engine = engines.create("reference", model, training, 1)
    engine.load_state(State.initial(initial_parameters(Layout(model), "glorot", 0) * 2))
    for _ in range(20):
        engine.train(x, np.arange(40))
    state = engine.state()
    engine.layout.views(state.parameters)["log_std.bias"] += 1.0  # a wide proposal: no weight is beyond measure
    engine.load_state(state)
    z = np.linspace(-9, 9, 4001)[:, None]
    log_p = np.stack([reference.bernoulli_log_likelihood(row[None], engine.decode(z).astype(np.float64)) for row in x])
    true = objectives.log_mean_exp(log_p - 0.5 * z[:, 0] ** 2) + math.log(4001 * (z[1, 0] - z[0, 0]) / math.sqrt(2 * math.pi))

    def bound(samples):
        """The mean over the images of many draws: each repeat of an image has a number, so noise, of its own."""
        repeats = np.repeat(x, 400, axis=0)
        return engine.importance_sample(repeats, samples).log_likelihood.mean()

    bounds = [bound(samples) for samples in (1, 2, 4, 8)]
    assert np.all(np.diff([*bounds, true.mean()]) > 0)
    many = engine.importance_sample(x, 20_000)
    error = np.sqrt(1 / many.effective_samples - 1 / 20_000)
    assert np.all(np.abs(many.log_likelihood - true) < 5 * error)
    assert abs(bounds[0] - engine.evaluate(np.repeat(x, 400, axis=0)).elbo.mean()) < 0.05


@by_engine_and_case
def test_every_engine_follows_the_reference(name, objective, case):
    skip_without_its_model(name, case)
    slow = exact(case, objective)
    fast = started(engines.create(name, case.model, settings(case, objective), 2), case)
    rows = np.arange(min(case.batch_size, case.examples))
    got, expected = fast.train(fast.place(case.values()), rows), slow.train(case.values(), rows)
    for field, values in expected._asdict().items():
        assert np.allclose(getattr(got, field), values, rtol=0, atol=TOLERANCES["example_nats"]), field
    layout, rest = slow.layout, 1 - AdamSettings().beta1
    gradients = layout.views(slow.state().first_moments / rest)
    for tensor, found in layout.views(fast.state().first_moments / rest).items():
        scale = np.max(np.abs(gradients[tensor]))
        assert np.max(np.abs(found - gradients[tensor])) <= TOLERANCES["gradient"] * scale, tensor
    order = np.random.default_rng(1).permutation(case.examples)  # with a ragged last minibatch
    got, expected = fast.train(fast.place(case.values()), order), slow.train(case.values(), order)
    assert np.allclose(got.objective, expected.objective, rtol=0, atol=TOLERANCES["example_nats"])
    fast.close()


@by_engine
def test_threads_and_cuts_change_no_bit(name, objective):
    case = next(case for case in CASES if case.name == "many rows")
    values, results = case.values(), []
    for threads, cut in ((1, None), (2, None), (3, None), (4, 1), (7, None)):
        engine = started(engines.create(name, case.model, settings(case, objective), threads), case)
        placed, order = engine.place(values), np.random.default_rng(1).permutation(case.examples)
        parts = [order] if cut is None else [order[: case.batch_size], order[case.batch_size :]]
        terms = [engine.train(placed, part).objective for part in parts]
        state = engine.state()
        results.append([state.parameters, state.first_moments, state.second_moments, np.concatenate(terms)])
        engine.close()
    for other in results[1:]:
        for first, array in zip(results[0], other, strict=True):
            assert np.array_equal(first, array)


@by_engine
def test_padding_stays_untouched(name, objective):
    """What lies beyond real rows and columns of the weights is zero for ever, or it would be trained."""
    if name == "cuda":
        pytest.skip("the memory of engines for the CPU is looked at")
    case = next(case for case in CASES if case.name == "odd sizes")
    engine = started(engines.create(name, case.model, settings(case, objective), 2), case)
    engine.train(engine.place(case.values()), np.arange(case.examples))
    layout, state = engine.layout, engine.state()
    for held, kept in zip(engine._weights, state.vectors, strict=True):
        panels = np.zeros(layout.panel_size, np.float32)
        layout.to_panels(kept, panels)
        assert np.array_equal(panels, held)


@by_engine
def test_not_a_number_is_never_hidden(name, objective):
    case = next(case for case in CASES if case.name == "tanh")
    engine = started(engines.create(name, case.model, settings(case, objective), 2), case)
    state = engine.state()
    engine.layout.views(state.parameters)["decoder.0.bias"][1] = np.nan
    engine.load_state(state)
    assert np.isnan(engine.train(engine.place(case.values()), np.arange(case.batch_size)).objective).all()


def test_extreme_weights_are_shared_out_without_overflow():
    """Samples whose log weights differ by thousands of nats: one takes all, and every gradient is finite."""
    case = next(case for case in CASES if case.name == "gaussian tanh")
    for name in ("reference", *(engine for engine in FAST if able(engine, ObjectiveSettings("iwae", 4)))):
        engine = started(engines.create(name, case.model, settings(case, ObjectiveSettings("iwae", 4)), 2), case)
        state = engine.state()
        engine.layout.views(state.parameters)["x_log_std"][...] = -4.5
        engine.layout.views(state.parameters)["log_std.bias"][...] = 1.0
        engine.load_state(state)
        terms = engine.train(engine.place(case.values()), np.arange(case.batch_size))
        assert np.isfinite(terms.objective).all()
        assert np.isfinite(engine.state().first_moments).all()
        assert np.abs(engine.layout.views(engine.state().first_moments)["x_log_std"]).max() > 0


@pytest.mark.parametrize("name", FAST)
@by_case
def test_importance_sampling_follows_the_reference(name, case):
    skip_without_its_model(name, case)
    fast = started(engines.create(name, case.model, settings(case, ObjectiveSettings()), 2), case)
    slow = exact(case, ObjectiveSettings())
    values = case.values()[:12]
    numbers = np.arange(100, 100 + len(values))
    got, expected = fast.importance_sample(fast.place(values), 130, numbers), slow.importance_sample(values, 130, numbers)
    assert np.allclose(got.log_likelihood, expected.log_likelihood, rtol=0, atol=TOLERANCES["example_nats"])
    # A weight that is wrong by so many nats is wrong by that part, and the sum of the squares by twice it.
    assert np.allclose(got.effective_samples, expected.effective_samples, rtol=4 * TOLERANCES["example_nats"])
    assert not np.allclose(fast.importance_sample(fast.place(values), 130).log_likelihood, expected.log_likelihood, atol=1e-3)
    fast.close()


@pytest.mark.parametrize("name", [name for name in FAST if name != "cuda"])
def test_an_importance_sampled_image_has_the_same_bits_in_any_company(name):
    case = next(case for case in CASES if case.name == "many rows")
    values, keys, results = case.values()[:9], np.arange(50, 59), []
    for threads in (1, 2, 5):
        engine = started(engines.create(name, case.model, settings(case, ObjectiveSettings()), threads), case)
        results.append(engine.importance_sample(engine.place(values), 333, keys))
        alone = engine.importance_sample(engine.place(values[4:5]), 333, keys[4:5])
        assert alone.log_likelihood[0] == results[0].log_likelihood[4]
        assert alone.effective_samples[0] == results[0].effective_samples[4]
        engine.close()
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_one_sample_of_importance_sampling_is_an_elbo_and_counts_as_one():
    case = next(case for case in CASES if case.name == "tanh")
    engine = started(engines.create("numba", case.model, settings(case, ObjectiveSettings()), 2), case)
    one = engine.importance_sample(engine.place(case.values()), 1)
    assert np.array_equal(one.effective_samples, np.ones(case.examples))


def test_the_warm_up_of_beta():
    def weights(epochs, **changes):
        training = TrainingSettings(objective=ObjectiveSettings("beta", beta=2.0, **changes))
        return [float(pace(training, 10, round(10 * epoch), 1).kl_weights[0]) for epoch in epochs]

    assert weights([0, 5, 10, 20], warm_up="linear") == [0, 1, 2, 2]
    assert weights([0, 2.5, 5, 9.9, 10, 12.5], warm_up="cyclic") == [0, 1, 2, 2, 0, 1]
    assert weights([0, 3]) == [2, 2]
    assert len(pace(TrainingSettings(), 7, 3, 5).learning_rates) == 5


@pytest.mark.parametrize("name", ["reference", *(name for name in FAST if able(name, ObjectiveSettings("beta")))])
def test_a_weight_of_the_kl_for_each_step(name):
    """Three steps at three weights are the three engines of a constant beta, one after the other."""
    case = next(case for case in CASES if case.name == "tanh")
    values, order = case.values(), np.arange(case.examples)
    whole = started(engines.create(name, case.model, settings(case, ObjectiveSettings("beta")), 2), case)
    steps = -(-len(order) // case.batch_size)
    betas = np.linspace(0, 2, steps)
    whole.train(whole.place(values), order, Pace(np.full(steps, 1e-3), betas))
    state = None
    for step, beta in enumerate(betas):
        part = started(engines.create(name, case.model, settings(case, ObjectiveSettings("beta", beta=float(beta))), 2), case)
        if state is not None:
            part.load_state(state)
        part.train(part.place(values), order[step * case.batch_size :][: case.batch_size])
        state = part.state()
    assert np.array_equal(whole.state().parameters, state.parameters)


def test_free_nats_cost_nothing_and_pull_nothing():
    """With more free nats than there are, the KL has no gradient: that of beta 0."""
    case = next(case for case in CASES if case.name == "tanh")
    free, without = (
        exact(case, ObjectiveSettings("free-bits", free_nats=1e5)),
        exact(case, ObjectiveSettings("beta", beta=0.0)),
    )
    rows = np.arange(case.batch_size)
    got, expected = free.train(case.values(), rows), without.train(case.values(), rows)
    assert np.array_equal(free.state().parameters, without.state().parameters)
    assert np.allclose(got.objective, expected.objective - case.model.latent * 1e5)


def test_an_engine_that_lacks_an_objective_names_one_that_has_it(monkeypatch):
    training = TrainingSettings(objective=ObjectiveSettings("iwae", 5))
    needed = engines.needs(ModelSettings(), training)
    monkeypatch.setattr(engines, "why_not", lambda name: None)
    with pytest.raises(
        EngineUnavailable, match="cuda lacks objective iwae and several samples: choose engine cython or numba"
    ):
        engines.create("cuda", ModelSettings(), training, 1)
    assert engines.choose("auto", needed) == "cython"
    monkeypatch.setattr(engines, "LACKING", {"cython": ("objective iwae",), "cuda": ("objective iwae",)})
    assert engines.choose("auto", needed) == "numba"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "vae"}, "objective is 'vae': choose elbo, beta, free-bits, iwae or dreg"),
        ({"samples": 0}, "samples is 0"),
        ({"beta": 4.0}, "beta is 4.0, but objective elbo has none: leave it out, or choose objective beta"),
        ({"name": "iwae", "kl": "sampled"}, "kl is 'sampled', but objective iwae has none"),
        ({"name": "beta", "free_nats": 1.0}, "free_nats is 1.0, but objective beta has none"),
        ({"name": "beta", "warm_up": "fast"}, "warm_up is 'fast': choose none, linear or cyclic"),
        ({"name": "free-bits", "free_nats": float("nan")}, "free_nats is nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, words):
    with pytest.raises(SettingsError) as caught:
        ObjectiveSettings(**values)
    assert str(caught.value).startswith(words)
