"""Gradients clipped by their global norm: against the reference, and without a bit of difference where it does nothing."""

import math

import numpy as np
import pytest
from cases import CASES, TOLERANCES

from vaefast import engines
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine, clipped
from vaefast.errors import EngineUnavailable, SettingsError
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

NEVER = 1e30
SOME_CASES = [CASES[i] for i in (0, 1, 3, 6, 8, 13, 18)]
by_case = pytest.mark.parametrize("case", SOME_CASES, ids=lambda case: case.name)
by_engine = pytest.mark.parametrize("name", [name for name in ("cython", "numba") if engines.why_not(name) is None])


def settings(case, clip_norm):
    return TrainingSettings(batch_size=case.batch_size, binarize=case.binarize, seed=11, clip_norm=clip_norm)


def start(case):
    return State.initial(initial_parameters(Layout(case.model), "fan-in", 4, pixel_stds=np.ones(case.model.pixels)))


def started(name, case, clip_norm, threads=2):
    engine = engines.create(name, case.model, settings(case, clip_norm), threads)
    engine.load_state(start(case))
    return engine


def after(name, case, clip_norm, threads, calls=1):
    """Everything that some steps of training leave."""
    engine = started(name, case, clip_norm, threads)
    placed, order = engine.place(case.values()), np.random.default_rng(1).permutation(case.examples)
    terms = [engine.train(placed, order) for _ in range(calls)]
    state = engine.state()
    engine.close()
    return [state.parameters, state.first_moments, state.second_moments, *terms[-1]]


@by_engine
@by_case
def test_a_norm_that_is_never_reached_changes_no_bit(name, case):
    fused = after(name, case, None, 2, calls=2)
    for threads in (1, 2, 3):
        for wanted, got in zip(fused, after(name, case, NEVER, threads, calls=2), strict=True):
            assert np.array_equal(wanted, got)


@by_engine
@by_case
def test_any_number_of_threads_clips_to_the_same_bits(name, case):
    one = after(name, case, 0.01, 1)
    assert not np.array_equal(one[0], after(name, case, None, 1)[0])
    for threads in (2, 3, 7):
        for wanted, got in zip(one, after(name, case, 0.01, threads), strict=True):
            assert np.array_equal(wanted, got)


@by_engine
@by_case
def test_clipped_steps_follow_the_reference(name, case):
    order = np.concatenate([np.random.default_rng(i).permutation(case.examples) for i in range(20)])
    order, clip_norm = order[: 20 * case.batch_size], 0.5
    fast = started(name, case, clip_norm)
    exact = ReferenceEngine(case.model, settings(case, clip_norm), 1, np.float32)
    exact.load_state(start(case))
    got, expected = fast.train(fast.place(case.values()), order), exact.train(case.values(), order)
    for step in range(-(-len(order) // case.batch_size)):
        batch = slice(step * case.batch_size, (step + 1) * case.batch_size)
        assert got.elbo[batch].mean() == pytest.approx(expected.elbo[batch].mean(), abs=TOLERANCES["loss_nats"])
    assert np.max(np.abs(fast.state().parameters - exact.state().parameters)) < TOLERANCES["parameters"]
    fast.close()


@by_engine
@by_case
def test_the_gradient_has_the_norm_asked_for_and_its_own_direction(name, case):
    """From zero moments one step leaves m = (1 - beta1) * gradient."""
    order, gradients = np.arange(min(case.batch_size, case.examples)), {}
    for clip_norm in (None, 0.125):
        engine = started(name, case, clip_norm)
        engine.train(engine.place(case.values()), order)
        gradients[clip_norm] = engine.state().first_moments.astype(np.float64) / (1 - np.float32(0.9))
        engine.close()
    norm = math.sqrt(np.sum(gradients[None] ** 2))
    assert norm > 0.125
    assert math.sqrt(np.sum(gradients[0.125] ** 2)) == pytest.approx(0.125, rel=TOLERANCES["gradient"])
    largest = np.max(np.abs(gradients[0.125]))
    assert np.allclose(gradients[0.125], gradients[None] * 0.125 / norm, rtol=0, atol=TOLERANCES["gradient"] * largest)


@by_engine
def test_what_is_not_a_number_is_not_clipped_away(name):
    for value in (np.nan, np.inf):
        gradient = np.array([1.0, value, 3.0])
        with np.errstate(invalid="ignore"):
            assert not np.isfinite(clipped(gradient, 1.0)).all()
    case = CASES[1]
    engine = started(name, case, 1.0)
    state = engine.state()
    Layout(case.model).views(state.parameters)["encoder.0.bias"][3] = np.nan
    engine.load_state(state)
    assert np.isnan(engine.train(engine.place(case.values()), np.arange(case.batch_size)).elbo).all()
    assert np.isnan(engine.state().parameters).all()
    engine.close()


def test_an_engine_without_clipping_says_so_and_auto_takes_the_fastest_that_has_it(monkeypatch):
    needed = engines.needs(ModelSettings(), TrainingSettings(clip_norm=1.0))
    monkeypatch.setattr(engines, "why_not", lambda name: None)
    assert engines.choose("auto", needed) == "cython"
    with pytest.raises(EngineUnavailable, match="engine cuda lacks gradient clipping: choose engine cython or numba or ref"):
        engines.choose("cuda", needed)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "1", True])
def test_a_norm_that_is_none_is_refused(value):
    with pytest.raises(SettingsError, match=r"clip_norm is .*: give a number from 1e-30 to 1e[+]30"):
        TrainingSettings(clip_norm=value)
