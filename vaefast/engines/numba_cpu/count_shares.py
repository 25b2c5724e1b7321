"""The softmax over the columns of a row of counts, and the likelihoods of which only the shares depend on z.

A number in parentheses is an equation of DERIVATION.md, section 13; what the passes are, and their halves, says counts.py.
"""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ZERO, exp_of_negative, fill
from vaefast.engines.numba_cpu.layers import half_begin, half_end
from vaefast.engines.plan import CHUNK_ROWS, OUTPUT, ROWS
from vaefast.models.layout import PANEL

CHUNK = CHUNK_ROWS * PANEL  # from a panel of their rates to the next
# Arrays that are written out for the lanes of a chunk.
WRITTEN_OUT = 2
SMALLEST = np.float32(-3e38)


@kernel
def columns_of(twins, layer, half):
    """The panels of columns, not of outputs, of a half: the first, and the one after the last."""
    return half_begin(layer, half) // twins, half_end(layer, half) // twins


@kernel
def write_maxima(plan, workspace, counts, start, stop, half):
    """The largest output of each row in the half."""
    twins, layer, rows = plan.twins, plan.layers[plan.layers.shape[0] - 1], stop - start
    stride, size, at = layer[ROWS] * PANEL, rows * PANEL, start * WRITTEN_OUT * PANEL
    lanes = counts.lanes[half, at : at + size]
    fill(lanes, SMALLEST)
    begin, end = columns_of(twins, layer, half)
    for panel in range(begin, end):
        place = layer[OUTPUT] + panel * twins * stride + start * PANEL
        a, real = workspace[place : place + rows * PANEL], min(PANEL, plan.pixels - panel * PANEL)
        if real == PANEL:
            for j in range(a.size):
                lanes[j] = a[j] if a[j] > lanes[j] else lanes[j]
        else:
            for r in range(rows):
                for j in range(r * PANEL, r * PANEL + real):
                    lanes[j] = a[j] if a[j] > lanes[j] else lanes[j]
    for r in range(rows):
        largest = SMALLEST
        for j in range(r * PANEL, (r + 1) * PANEL):
            largest = lanes[j] if lanes[j] > largest else largest
        counts.maxima[half, start + r] = largest


@kernel
def largest_output(counts, q):
    """The largest output of row q."""
    return max(counts.maxima[0, q], counts.maxima[1, q])


@kernel
def write_sums(plan, workspace, counts, rates, start, stop, half):
    """e = exp(a - maximum), to this worker's rates, and its sum over the half."""
    twins, layer, rows = plan.twins, plan.layers[plan.layers.shape[0] - 1], stop - start
    stride, size, at = layer[ROWS] * PANEL, rows * PANEL, start * WRITTEN_OUT * PANEL
    total, largest = counts.lanes[half, at : at + size], counts.lanes[half, at + size : at + 2 * size]
    fill(total, ZERO)
    for r in range(rows):
        fill(largest[r * PANEL : (r + 1) * PANEL], largest_output(counts, start + r))
    begin, end = columns_of(twins, layer, half)
    for panel in range(begin, end):
        place = layer[OUTPUT] + panel * twins * stride + start * PANEL
        a, e = workspace[place : place + rows * PANEL], rates[panel * CHUNK : panel * CHUNK + rows * PANEL]
        for j in range(a.size):
            e[j] = exp_of_negative(a[j] - largest[j])
        real = min(PANEL, plan.pixels - panel * PANEL)
        if real < PANEL:
            # Padded columns have a = 0, and would count.
            for r in range(rows):
                fill(e[r * PANEL + real : (r + 1) * PANEL], ZERO)
        for j in range(a.size):
            total[j] += e[j]
    add_up(total, counts.sums[half], start)


@kernel
def add_up(lanes, sums, start):
    """sums[start + r] = the sum of the lanes of row r, float64, in ascending order."""
    for r in range(lanes.size // PANEL):
        value = 0.0
        for j in range(r * PANEL, (r + 1) * PANEL):
            value += np.float64(lanes[j])
        sums[start + r] = value


@kernel
def share_density(plan, workspace, counts, rates, scale, log_likelihood, start, stop, half):
    """log p(x | z) = sum(x log s) + constant (50), (51); the outputs become d_a = (l s - x) scale (52)."""
    layer, rows, k = plan.layers[plan.layers.shape[0] - 1], stop - start, plan.samples
    stride, size, at = layer[ROWS] * PANEL, rows * PANEL, start * WRITTEN_OUT * PANEL
    factor = counts.lanes[half, at : at + size]
    for q in range(start, stop):
        r = q // k
        log_sum = np.float64(largest_output(counts, q)) + math.log(counts.sums[0, q] + counts.sums[1, q])
        value = counts.constants[r] if half == 0 else 0.0
        begin, end = entries(counts, r, half)
        base = layer[OUTPUT] + q * PANEL
        for entry in range(begin, end):
            column = np.int64(counts.indices[entry])
            a = workspace[base + (column // PANEL) * stride + column % PANEL]
            value += np.float64(counts.counts[entry]) * (np.float64(a) - log_sum)
        log_likelihood[q] = value
        share = np.float64(counts.totals[r]) / (counts.sums[0, q] + counts.sums[1, q])
        fill(factor[(q - start) * PANEL : (q - start + 1) * PANEL], np.float32(share * scale))
    for panel in range(half_begin(layer, half), half_end(layer, half)):
        output = layer[OUTPUT] + panel * stride + start * PANEL
        a, e = workspace[output : output + rows * PANEL], rates[panel * CHUNK : panel * CHUNK + rows * PANEL]
        for j in range(a.size):
            a[j] = e[j] * factor[j]
    for q in range(start, stop):
        begin, end = entries(counts, q // k, half)
        base = layer[OUTPUT] + q * PANEL
        for entry in range(begin, end):
            column = np.int64(counts.indices[entry])
            workspace[base + (column // PANEL) * stride + column % PANEL] -= counts.counts[entry] * scale


@kernel
def entries(counts, r, half):
    """The entries of row r in a half of the columns: the first, and the one after the last."""
    start = r * counts.capacity
    middle = start + counts.middles[r]
    return (middle, start + counts.lengths[r]) if half == 1 else (start, middle)
