"""The Numba engine's likelihoods over the whole range of their arguments, against float64."""

from __future__ import annotations

import os
import subprocess
import sys

import naive
import numpy as np
import pytest

from vaefast.engines import reference
from vaefast.engines.contract import State
from vaefast.engines.credit import Averaged
from vaefast.engines.numba_cpu import NumbaEngine
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.likelihoods import (
    _continuous_bernoulli_panel,
    likelihood_of,
    variance,
    x_log_std_gradient,
)
from vaefast.engines.plan import make_plan
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import PANEL, Layout
from vaefast.models.likelihoods import continuous_bernoulli_mean, x_variance
from vaefast.models.settings import ModelSettings, TrainingSettings

LOGITS = np.concatenate([
    np.linspace(-1.5, 1.5, 20_001), np.linspace(-90, 90, 10_001), [1e3, -1e3, 1e4, -1e4, 1e-30, -1e-30, 0.0],
    *(np.nextafter(np.float32(edge), np.float32(to)) for edge in (1, -1) for to in (0, 2 * edge)),
], axis=None).astype(np.float32)  # fmt: skip


@kernel
def panel_of(a, x, linear, scale):
    _continuous_bernoulli_panel(a, x, linear, scale)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_continuous_bernoulli_of_every_logit(level):
    a, x, linear = LOGITS.copy(), np.full(LOGITS.size, level, np.float32), np.zeros(LOGITS.size, np.float32)
    panel_of(a, x, linear, np.float32(0.5))
    exact, shade = LOGITS.astype(np.float64), np.float64(np.float32(level))
    expected = reference.continuous_bernoulli_log_likelihood(np.full((exact.size, 1), shade), exact[:, None])
    # kappa is a sum of terms up to |a|, each rounded: a few units in the last place of the largest.
    assert np.all(np.abs(linear - expected) <= 4e-7 * (1 + np.abs(exact)))
    assert np.all(np.abs(a - 0.5 * (continuous_bernoulli_mean(exact) - shade)) <= 2.5e-7)


def test_a_logit_that_is_not_a_number_shows_in_loss_and_gradient():
    a, x, linear = (np.full(PANEL, value, np.float32) for value in (np.nan, 0.5, 0))
    panel_of(a, x, linear, np.float32(1))
    assert np.isnan(a).all()
    assert np.isnan(linear).all()


@kernel
def variances(x_log_std, out):
    for j in range(out.size):
        out[j] = variance(x_log_std[j])


def test_the_variance_of_every_x_log_std():
    x_log_std = np.linspace(-60, 40, 5001).astype(np.float32)
    out = np.empty_like(x_log_std)
    variances(x_log_std, out)
    assert np.allclose(out, x_variance(x_log_std.astype(np.float64)), rtol=2e-6)  # exp(2 s): 80 units of the last place of s
    assert out[0] == np.float32(1e-4)


@kernel
def gradient_of(offset, objective, plan, parameters, workspace, B, panel, gradient):
    x_log_std_gradient(offset, objective, plan, parameters, workspace, B, panel, gradient)


def test_padded_pixels_have_no_gradient_and_the_others_the_right_one():
    model, B = ModelSettings(21, (), 2, likelihood="gaussian"), 13
    layout = Layout(model)
    plan, size = make_plan(layout, 16)
    rng = np.random.default_rng(0)
    parameters, workspace = np.full(layout.panel_size, 9.0, np.float32), rng.standard_normal(size).astype(np.float32) / B
    x_log_std = rng.uniform(-3, 1, 21).astype(np.float32)
    offset = likelihood_of(layout).x_log_std
    parameters[offset : offset + 21] = x_log_std
    start = int(plan.layers[-1, 3]) + plan.rows * PANEL
    d_a = workspace[start : start + B * PANEL].reshape(B, PANEL)[:, :5].astype(np.float64)
    gradient = np.full(2 * PANEL, 7.0, np.float32)
    gradient_of(offset, Averaged(1), plan, parameters, workspace, B, 1, gradient)
    v = x_variance(x_log_std[16:].astype(np.float64))
    expected = np.exp(2 * x_log_std[16:].astype(np.float64)) / v * (1 - B * v * np.sum(d_a**2, axis=0))
    assert np.allclose(gradient[:5], expected, rtol=1e-5, atol=1e-6)
    assert not gradient[5:PANEL].any()
    assert (gradient[PANEL:] == 7).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "continuous-bernoulli"])
def test_extreme_outputs_give_the_losses_of_the_reference(likelihood):
    """Logits of 1e4 and x_log_std of -50 and 30: everything is finite and follows float64."""
    model = ModelSettings(40, (8,), 3, likelihood=likelihood)
    layout, training = Layout(model), TrainingSettings(batch_size=4, binarize="none")
    vector = initial_parameters(layout, "glorot", 0).astype(np.float32)
    tensors = layout.views(vector)
    tensors["logits.bias"][:8] = [1e4, -1e4, 100, -100, 1e-6, 0, 1, -1]
    if likelihood == "gaussian":
        tensors["x_log_std"][:4] = [-50, 30, 0, -6]
        tensors["logits.bias"][:4] = [1, 0.5, 100, 0]
    values = np.random.default_rng(0).integers(0, 256, (4, 40), np.uint8)
    values[0], values[1] = 0, 255
    numba, exact = NumbaEngine(model, training, 2), reference.ReferenceEngine(model, training, 1, np.float64)
    for engine in (numba, exact):
        engine.load_state(State.initial(vector))
    got, expected = numba.train(numba.place(values), np.arange(4)), exact.train(values, np.arange(4))
    assert np.isfinite(got.log_likelihood).all()
    assert np.allclose(got.log_likelihood, expected.log_likelihood, rtol=2e-6, atol=1e-3)
    moments, right = layout.views(numba.state().first_moments), layout.views(exact.state().first_moments)
    for name, gradient in right.items():
        assert np.allclose(moments[name], gradient, rtol=0, atol=2e-5 * np.abs(gradient).max()), name
    numba.close()


def test_the_oracle_agrees_with_the_reference_where_it_can():
    logits = np.linspace(-30, 30, 61) + 0.013
    expected = [naive.continuous_bernoulli_log_likelihood([0.3], [a]) for a in logits]
    assert np.allclose(
        reference.continuous_bernoulli_log_likelihood(np.full((61, 1), 0.3), logits[:, None]), expected, atol=1e-9
    )


FIRST_AT_ONCE = """
import threading, sys
import numpy as np
from vaefast.engines.contract import State
from vaefast.engines.credit import Averaged
from vaefast.engines.numba_cpu import NumbaEngine
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

def score(likelihood):
    model = ModelSettings(20, (8,), 3, likelihood=likelihood)
    engine = NumbaEngine(model, TrainingSettings(batch_size=4, binarize="none"), 3)
    engine.load_state(State.initial(initial_parameters(Layout(model), "glorot", 0).astype(np.float32)))
    values = np.random.default_rng(0).random((20, 20), np.float32)
    values[values < 0.8] = 0  # lists of pixels, which kernels of their own make
    terms = engine.evaluate(engine.place(values))
    print(likelihood, np.isfinite(terms.elbo).all(), flush=True)

threads = [threading.Thread(target=score, args=(name,)) for name in sys.argv[1:]]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_likelihoods_that_are_compiled_at_the_same_time_do_not_meet(tmp_path):
    """Three workers of each of two engines come to code that is not compiled yet, in a process with an empty cache."""
    names = ("gaussian", "continuous-bernoulli")
    command = [sys.executable, "-c", FIRST_AT_ONCE, *names]
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split("\n")[:2]) == sorted(f"{name} True" for name in names)
