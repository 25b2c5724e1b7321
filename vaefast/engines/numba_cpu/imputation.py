"""The weights of a row's samples given what was observed of it, and the means of its columns under them, streamed.

C samples a chunk, X columns, Z latents. A number in parentheses is an equation of DERIVATION.md. As in `importance.py` a row's
samples come in chunks, and sums are kept relative to the largest weight so far.
"""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.numba_cpu.barrier import MEETING, fetch_add
from vaefast.engines.numba_cpu.blocks import BERNOULLI, CATEGORICAL, CONTINUOUS, COUNTED
from vaefast.engines.numba_cpu.call import Minibatch
from vaefast.engines.numba_cpu.compiler import entry_point, kernel
from vaefast.engines.numba_cpu.denormals import flush_denormals, restore_mode
from vaefast.engines.numba_cpu.densities import kappa_and_mean
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, exp, exp_of_negative
from vaefast.engines.numba_cpu.importance import decode_chunk
from vaefast.engines.numba_cpu.loading import load_rows
from vaefast.engines.numba_cpu.sampling import spread_out
from vaefast.engines.numba_cpu.steps import encode_rows
from vaefast.engines.plan import FIRST_PANEL, FIRST_VARIABLE, KIND, LAST_VARIABLE, OUTPUT, PANELS, ROWS
from vaefast.models.layout import PANEL


@entry_point
def impute_rows(counters, plan, likelihood, parameters, buffers, chunk, examples, samples, log_w, means):
    """log w (70) of each sample of each example, log_w (n, S), and the means of its columns (71), means (n, padded X).

    Both float64; the means are NaN where no weight can be told from zero.
    """
    mode = flush_denormals()
    workspace, row, randomness = buffers.workspace, buffers.row, examples.randomness
    n = fetch_add(counters, MEETING, 1)
    while n < examples.order.size:
        load_rows(plan, buffers, examples, Minibatch(n, 1, 0, randomness.step, ZERO), 0, 1)
        encode_rows(plan, parameters, buffers, examples.sparse, 1)
        spread_out(plan, workspace, row.lanes, 0)
        largest, total = -math.inf, 0.0
        _clear(means[n])
        for begin in range(0, samples, plan.samples):
            count = min(plan.samples, samples - begin)
            decode_chunk(plan, likelihood, parameters, buffers, chunk, examples, n, begin, count)
            expect_rows(plan, workspace, count)
            here = log_w[n, begin : begin + count]
            higher = _weigh(chunk, count, here, largest)
            if higher > -math.inf:
                shrink = math.exp(largest - higher)
                total = _add_weights(here, higher, total * shrink)
                _add_means(plan, workspace, here, higher, shrink, means[n])
                largest = higher
        for j in range(means.shape[1]):
            means[n, j] = means[n, j] / total if total > 0.0 else math.nan
        n = fetch_add(counters, MEETING, 1)
    restore_mode(mode)


@kernel
def _clear(values):
    for j in range(values.size):
        values[j] = 0.0


@kernel
def _weigh(chunk, count, log_w, largest):
    """log w = log p(x | z) + log p(z) - log q(z | x) of a chunk; returns the largest so far. NaN weighs nothing."""
    for s in range(count):
        value = chunk.ratio[s] + chunk.log_likelihood[0, s] + chunk.log_likelihood[1, s]
        log_w[s] = value if value == value else -math.inf
        largest = max(largest, log_w[s])
    return largest


@kernel
def _add_weights(log_w, largest, total):
    for s in range(log_w.size):
        total += math.exp(log_w[s] - largest)
    return total


@kernel
def _add_means(plan, workspace, log_w, largest, shrink, means):
    """means += w times the means of each sample's columns, which `expect_rows` has left in the place of the outputs."""
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride = layer[ROWS] * PANEL
    for panel in range(plan.x_panels):
        total = means[panel * PANEL : (panel + 1) * PANEL]
        for j in range(PANEL):
            total[j] *= shrink
        for s in range(log_w.size):
            w, start = math.exp(log_w[s] - largest), layer[OUTPUT] + panel * stride + s * PANEL
            mean = workspace[start : start + PANEL]
            for j in range(PANEL):
                total[j] += w * np.float64(mean[j])


@kernel
def expect_rows(plan, workspace, rows):
    """The first outputs of the first rows become the means of their columns: of a category the probability of each level."""
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride = layer[ROWS] * PANEL
    for b in range(plan.blocks.shape[0]):
        block = plan.blocks[b]
        if block[KIND] == CATEGORICAL:
            for v in range(block[FIRST_VARIABLE], block[LAST_VARIABLE]):
                _expect_category(plan, layer, workspace, rows, v)
            continue
        for panel in range(block[FIRST_PANEL], block[FIRST_PANEL] + block[PANELS]):
            start = layer[OUTPUT] + panel * stride
            _expect_panel(block[KIND], workspace[start : start + rows * PANEL])


@kernel
def _expect_panel(kind, a):
    if kind == COUNTED:
        for j in range(a.size):
            a[j] = exp(a[j])
    elif kind == BERNOULLI:
        for j in range(a.size):
            e = exp_of_negative(-abs(a[j]))
            a[j] = (e if a[j] < ZERO else ONE) / (ONE + e)
    elif kind == CONTINUOUS:
        for j in range(a.size):
            _, a[j] = kappa_and_mean(a[j])


@kernel
def _expect_category(plan, layer, workspace, rows, v):
    stride = layer[ROWS] * PANEL
    begin = plan.places[plan.variables[v, 0]]
    end = begin + plan.variables[v, 1] - plan.variables[v, 0]
    for q in range(rows):
        a = layer[OUTPUT] + q * PANEL
        largest, total = np.float32(-math.inf), ZERO
        for p in range(begin, end):
            largest = max(largest, workspace[a + p // PANEL * stride + p % PANEL])
        for p in range(begin, end):
            at = a + p // PANEL * stride + p % PANEL
            workspace[at] = exp_of_negative(workspace[at] - largest)
            total += workspace[at]
        for p in range(begin, end):
            workspace[a + p // PANEL * stride + p % PANEL] /= total
