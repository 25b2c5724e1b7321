"""Likelihoods of whole counts: log p(x | z) of each row and its gradient, in stages between which the halves meet.

B minibatch, X columns, padded to panels; q counts rows of the decoder. A number in parentheses is an equation of
DERIVATION.md, section 13. The rates of a row are a softmax over all of its columns, of which two workers may have a half
each. So a row takes four passes over its half, and after each but the last the halves meet and add up what they have found,
half 0 first:

    MAXIMUM   the largest output of the row
    SUM       e = exp(a - maximum) and its sum
    DENSITY   log p(x | z) of the counts, and with a dispersion g (53), its sum, and the gradient of the dispersion (55)
    GRADIENT  the gradient of the outputs (52), (54)

Loops run over the lanes of some rows of a panel, which lie together, so that LLVM vectorises them; what belongs to a row or
to a column is written out for all of them first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.compiler import AS_KERNELS, kernel
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, copy, exp_of_negative, fill, fma, log
from vaefast.engines.numba_cpu.layers import half_begin, half_end
from vaefast.engines.numba_cpu.objectives import sample_weight
from vaefast.engines.numba_cpu.rising import (
    HIGHEST,
    LOWEST,
    SLOPES,
    TABLED,
    beyond_table,
    dispersion,
    log1p,
    place_in_table,
    tabulate,
)
from vaefast.engines.plan import OUTPUT, ROWS
from vaefast.models.layout import PANEL

MAXIMUM, SUM, DENSITY, GRADIENT = 0, 1, 2, 3
STAGES = 4
# Rows that take all passes before the next do: at 2,000 columns what the passes leave to each other is then 0.5 MB, which fits
# a second-level cache.
CHUNK_ROWS = 32
CHUNK = CHUNK_ROWS * PANEL  # from a panel of their rates to the next
# Arrays that are written out for the lanes of a chunk.
WRITTEN_OUT = 6
SMALLEST = np.float32(-3e38)


class Counts(NamedTuple):
    """The counts of a minibatch as lists, the first fields as those of `Pixels`, and what the passes leave to each other."""

    capacity: int  # of a row
    indices: NDArray[np.uint16 | np.uint32]  # (rows * capacity,): row r from r * capacity
    values: NDArray[np.float32]  # (rows * capacity,): what the encoder sees
    lengths: NDArray[np.int64]  # (rows,)
    seen: NDArray[np.int64]  # (rows,): the same with the covariates that the encoder sees; the same array without any
    middles: NDArray[np.int64]  # (rows,): how many entries belong to half 0 of the columns
    ends: NDArray[np.int32]  # (rows, blocks): how many entries lie in a row's blocks of BLOCK_PIXELS up to this one
    counts: NDArray[np.float32]  # (rows * capacity,)
    totals: NDArray[np.float32]  # (rows,): the sum of a row's counts
    sizes: NDArray[np.float32]  # (rows,): what its rates add up to
    constants: NDArray[np.float64]  # (rows,): what of log p(x | z) does not depend on z, nats
    maxima: NDArray[np.float32]  # (2, rows k): of each half of the outputs
    sums: NDArray[np.float64]  # (2, rows k): of exp(a - maximum)
    slopes: NDArray[np.float64]  # (2, rows k): of g
    table: NDArray[np.float32]  # `rising.tabulate`; empty without a dispersion
    lanes: NDArray[np.float32]  # (2, rows k * WRITTEN_OUT * 16): each half's arrays of a chunk, one after the other


class Shares(NamedTuple):
    """Counts of which only the shares depend on z: `poisson` and `multinomial`, which differ in their constants."""

    pixels: int


class NegativeBinomial(NamedTuple):
    """Counts with a learned dispersion a column."""

    x_log_dispersion: int  # offset in the parameters


class ZeroInflated(NamedTuple):
    """The same, each of which may be zero for a reason of its own."""

    x_log_dispersion: int


def dispersion_offset(likelihood):
    """Where x_log_dispersion stands in the parameters; -1 where there is none."""


@overload(dispersion_offset, jit_options=AS_KERNELS)
def _choose_offset(likelihood):
    def dispersed(likelihood):
        return likelihood.x_log_dispersion

    def without(likelihood):
        return -1

    return without if likelihood.instance_class is Shares else dispersed


@kernel
def tabulate_share(offset, plan, parameters, counts, worker, workers):
    """This worker's columns of the table; offset is that of x_log_dispersion."""
    panels = (plan.pixels + PANEL - 1) // PANEL
    t = parameters[offset : offset + panels * PANEL]
    tabulate(t, counts.table, panels * worker // workers, panels * (worker + 1) // workers)


@kernel
def counts_pass(stage, offset, plan, parameters, buffers, scale, log_likelihood, start, stop, half):
    """One pass over rows start to stop - 1, CHUNK_ROWS at most, of half of the columns.

    offset: that of x_log_dispersion, -1 without one; scale: what the gradient of log p(x | z) counts for in the loss. After
    DENSITY log_likelihood, (rows k,) float64, holds the half's part in nats; after GRADIENT the outputs are their gradients,
    and the target that of x_log_dispersion for each row.
    """
    workspace, counts, rates = buffers.workspace, buffers.pixels, buffers.row.rates
    if stage == MAXIMUM:
        _maximum(plan, workspace, counts, start, stop, half)
    elif stage == SUM:
        _sum(plan, workspace, counts, rates, start, stop, half)
    elif stage == DENSITY:
        if offset < 0:
            _share_density(plan, workspace, counts, rates, scale, log_likelihood, start, stop, half)
        else:
            _place_counts(plan, workspace, counts, start, stop, half)
            _dispersed_density(offset, plan, parameters, workspace, counts, rates, log_likelihood, start, stop, half)
            _add_rising(offset, plan, parameters, workspace, counts, log_likelihood, start, stop, half)
    elif offset >= 0:
        _dispersed_gradient(plan, workspace, counts, rates, scale, start, stop, half)


@kernel
def _columns(twins, layer, half):
    """The panels of columns, not of outputs, of a half: the first, and the one after the last."""
    return half_begin(layer, half) // twins, half_end(layer, half) // twins


@kernel
def _maximum(plan, workspace, counts, start, stop, half):
    twins, layer, rows = plan.twins, plan.layers[plan.layers.shape[0] - 1], stop - start
    stride, size, at = layer[ROWS] * PANEL, rows * PANEL, start * WRITTEN_OUT * PANEL
    lanes = counts.lanes[half, at : at + size]
    fill(lanes, SMALLEST)
    begin, end = _columns(twins, layer, half)
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
def _largest(counts, q):
    """The largest output of row q."""
    return max(counts.maxima[0, q], counts.maxima[1, q])


@kernel
def _sum(plan, workspace, counts, rates, start, stop, half):
    """e = exp(a - maximum), to this worker's rates, and its sum over the half."""
    twins, layer, rows = plan.twins, plan.layers[plan.layers.shape[0] - 1], stop - start
    stride, size, at = layer[ROWS] * PANEL, rows * PANEL, start * WRITTEN_OUT * PANEL
    total, largest = counts.lanes[half, at : at + size], counts.lanes[half, at + size : at + 2 * size]
    fill(total, ZERO)
    for r in range(rows):
        fill(largest[r * PANEL : (r + 1) * PANEL], _largest(counts, start + r))
    begin, end = _columns(twins, layer, half)
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
    _add_up(total, counts.sums[half], start)


@kernel
def _add_up(lanes, sums, start):
    """sums[start + r] = the sum of the lanes of row r, float64, in ascending order."""
    for r in range(lanes.size // PANEL):
        value = 0.0
        for j in range(r * PANEL, (r + 1) * PANEL):
            value += np.float64(lanes[j])
        sums[start + r] = value


@kernel
def _share_density(plan, workspace, counts, rates, scale, log_likelihood, start, stop, half):
    """log p(x | z) = sum(x log s) + constant (50), (51); the outputs become d_a = (l s - x) scale (52)."""
    layer, rows, k = plan.layers[plan.layers.shape[0] - 1], stop - start, plan.samples
    stride, size, at = layer[ROWS] * PANEL, rows * PANEL, start * WRITTEN_OUT * PANEL
    factor = counts.lanes[half, at : at + size]
    for q in range(start, stop):
        r = q // k
        log_sum = np.float64(_largest(counts, q)) + math.log(counts.sums[0, q] + counts.sums[1, q])
        value = counts.constants[r] if half == 0 else 0.0
        begin, end = _entries(counts, r, half)
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
        begin, end = _entries(counts, q // k, half)
        base = layer[OUTPUT] + q * PANEL
        for entry in range(begin, end):
            column = np.int64(counts.indices[entry])
            workspace[base + (column // PANEL) * stride + column % PANEL] -= counts.counts[entry] * scale


@kernel
def _entries(counts, r, half):
    """The entries of row r in a half of the columns: the first, and the one after the last."""
    start = r * counts.capacity
    middle = start + counts.middles[r]
    return (middle, start + counts.lengths[r]) if half == 1 else (start, middle)


@kernel
def _place_counts(plan, workspace, counts, start, stop, half):
    """x of these rows, half of its columns, to the target of the workspace."""
    twins = plan.twins
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride = layer[ROWS] * PANEL
    begin, end = _columns(twins, layer, half)
    for panel in range(begin, end):
        place = plan.target + panel * stride
        fill(workspace[place + start * PANEL : place + stop * PANEL], ZERO)
    for q in range(start, stop):
        first, last = _entries(counts, q // plan.samples, half)
        base = plan.target + q * PANEL
        for entry in range(first, last):
            column = np.int64(counts.indices[entry])
            workspace[base + (column // PANEL) * stride + column % PANEL] = counts.counts[entry]


@kernel
def _dispersed_density(offset, plan, parameters, workspace, counts, rates, log_likelihood, start, stop, half):
    """What of log p(x | z) (48), (49) and of its slopes (53), (55), (56) has the same form for every count.

    The outputs become g, or with zero inflation w g, the target the gradient of x_log_dispersion but for the rising
    factorial's, the zero_logits their slope.
    """
    twins = plan.twins
    layer, rows, k = plan.layers[plan.layers.shape[0] - 1], stop - start, plan.samples
    stride, size, at = layer[ROWS] * PANEL, rows * PANEL, start * WRITTEN_OUT * PANEL
    lanes = counts.lanes[half, at : at + WRITTEN_OUT * size]
    total, slope, factor = lanes[:size], lanes[size : 2 * size], lanes[2 * size : 3 * size]
    shift, theta, inverse_theta = lanes[3 * size : 4 * size], lanes[4 * size : 5 * size], lanes[5 * size :]
    fill(total, ZERO)
    fill(slope, ZERO)
    for r in range(rows):
        q = start + r
        sum_, size = counts.sums[0, q] + counts.sums[1, q], np.float64(counts.sizes[q // k])
        fill(factor[r * PANEL : (r + 1) * PANEL], np.float32(size / sum_))
        # log mu = a + shift (45); a row of zeros has no rates, and nothing to multiply their logarithms by.
        log_size = math.log(size) if size > 0.0 else 0.0
        log_share = -np.float64(_largest(counts, q)) - math.log(sum_)
        fill(shift[r * PANEL : (r + 1) * PANEL], np.float32(log_size + log_share))
    begin, end = _columns(twins, layer, half)
    for panel in range(begin, end):
        _write_dispersions(parameters[offset + panel * PANEL : offset + (panel + 1) * PANEL], theta, inverse_theta)
        place = panel * stride + start * PANEL
        output = layer[OUTPUT] + panel * twins * stride + start * PANEL
        a = workspace[output : output + rows * PANEL]
        e = rates[panel * CHUNK : panel * CHUNK + rows * PANEL]
        x = workspace[plan.target + place : plan.target + place + rows * PANEL]
        if twins == 1:
            _negative_binomial(a, x, e, factor, shift, theta, inverse_theta, total, slope)
        else:
            h = workspace[output + stride : output + stride + rows * PANEL]
            _zero_inflated(a, h, x, e, factor, shift, theta, inverse_theta, total, slope)
    for r in range(rows):
        value = counts.constants[(start + r) // k] if half == 0 else 0.0
        for j in range(r * PANEL, (r + 1) * PANEL):
            value += np.float64(total[j])
        log_likelihood[start + r] = value
    _add_up(slope, counts.slopes[half], start)


@kernel
def _write_dispersions(t, theta, inverse_theta):
    """theta and 1 / theta of a panel, (16,), in every row; both (rows * 16,)."""
    for j in range(PANEL):
        theta[j] = dispersion(t[j])
    for j in range(PANEL):
        inverse_theta[j] = ONE / theta[j]
    for r in range(1, theta.size // PANEL):
        copy(theta[:PANEL], theta[r * PANEL : (r + 1) * PANEL])
        copy(inverse_theta[:PANEL], inverse_theta[r * PANEL : (r + 1) * PANEL])


@kernel
def _negative_binomial(a, x, e, factor, shift, theta, inverse_theta, total, slope):
    """log p = x (log mu - log(1 + mu / theta)) - theta log(1 + mu / theta) + R (48), mu = e * factor; all (rows * 16,)."""
    for j in range(a.size):
        mu = e[j] * factor[j]
        ratio = mu * inverse_theta[j]
        u = ONE + ratio
        inverse = ONE / u
        more = log1p(ratio, u, inverse)
        zero = theta[j] * more
        g = (x[j] - mu) * inverse  # (53)
        total[j] += fma(x[j], (a[j] + shift[j]) - more, -zero)
        slope[j] += g
        a[j] = g
        x[j] = -zero - g  # (55), without S


@kernel
def _zero_inflated(a, h, x, e, factor, shift, theta, inverse_theta, total, slope):
    """With u = -theta log(1 + mu / theta): log p(0) = softplus(u - h) - softplus(-h), and log p(x) loses softplus(h) (49).

    softplus(b) = max(b, 0) + log(1 + exp(-|b|)), and the two logarithms of a zero are one of a quotient.
    """
    for j in range(a.size):
        mu = e[j] * factor[j]
        ratio = mu * inverse_theta[j]
        u = ONE + ratio
        inverse = ONE / u
        more = log1p(ratio, u, inverse)
        zero = theta[j] * more
        g = (x[j] - mu) * inverse  # (53)
        is_zero = x[j] == ZERO
        gap, b = -zero - h[j], h[j]
        e_gap, e_b = exp_of_negative(-abs(gap)), exp_of_negative(-abs(b))
        one_gap, one_b = ONE + e_gap, ONE + e_b
        w = (ONE if gap >= ZERO else e_gap) / one_gap if is_zero else ONE  # sigmoid(u - h)
        not_zero = (ONE if b <= ZERO else e_b) / one_b  # sigmoid(-h)
        logarithm = log((one_gap if is_zero else ONE) / one_b)
        above_gap = gap if gap > ZERO else ZERO
        below_b = -b if b < ZERO else ZERO
        above_b = b if b > ZERO else ZERO
        at_zero = above_gap - below_b
        positive = fma(x[j], (a[j] + shift[j]) - more, -zero) - above_b
        total[j] += logarithm + (at_zero if is_zero else positive)
        g = w * g
        slope[j] += g
        a[j] = g
        x[j] = w * -zero - g  # (55), without S
        h[j] = not_zero - w  # (56)


@kernel
def _add_rising(offset, plan, parameters, workspace, counts, log_likelihood, start, stop, half):
    """R of every non-zero count to log p(x | z) (48), and S to the gradient of its dispersion (55)."""
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride, table = layer[ROWS] * PANEL, counts.table
    for q in range(start, stop):
        begin, end = _entries(counts, q // plan.samples, half)
        base, value = plan.target + q * PANEL, 0.0
        for entry in range(begin, end):
            column, x = np.int64(counts.indices[entry]), counts.counts[entry]
            place = base + (column // PANEL) * stride + column % PANEL
            in_table = place_in_table(column, min(np.int64(x), TABLED))
            value += np.float64(table[in_table])
            slope = table[in_table + SLOPES]
            if x > TABLED:
                theta = np.float64(dispersion(parameters[offset + column]))
                more, more_slope = beyond_table(np.float64(x), theta)
                value += more
                slope += np.float32(more_slope)
            workspace[place] += slope
        log_likelihood[q] += value


@kernel
def _dispersed_gradient(plan, workspace, counts, rates, scale, start, stop, half):
    """The outputs become d_a = (s sum(g) - g) scale (54); the target and the zero_logits are scaled in the same way."""
    twins = plan.twins
    layer, rows = plan.layers[plan.layers.shape[0] - 1], stop - start
    stride, size, at = layer[ROWS] * PANEL, rows * PANEL, start * WRITTEN_OUT * PANEL
    factor = counts.lanes[half, at : at + size]
    for r in range(rows):
        q = start + r
        share = (counts.slopes[0, q] + counts.slopes[1, q]) / (counts.sums[0, q] + counts.sums[1, q])
        fill(factor[r * PANEL : (r + 1) * PANEL], np.float32(share))
    begin, end = _columns(twins, layer, half)
    for panel in range(begin, end):
        place, output = panel * stride + start * PANEL, layer[OUTPUT] + panel * twins * stride + start * PANEL
        a = workspace[output : output + rows * PANEL]
        e = rates[panel * CHUNK : panel * CHUNK + rows * PANEL]
        x = workspace[plan.target + place : plan.target + place + rows * PANEL]
        for j in range(a.size):
            a[j] = fma(e[j], factor[j], -a[j]) * scale
            x[j] *= -scale
        if twins > 1:
            h = workspace[output + stride : output + stride + rows * PANEL]
            for j in range(h.size):
                h[j] *= -scale


@kernel
def dispersion_gradient(offset, objective, plan, parameters, workspace, B, panel, gradient):
    """d_x_log_dispersion of one panel of columns (55): the rows of the target, as GRADIENT left them, in ascending order; zero
    where a step would lead further out of the bounds."""
    layer = plan.layers[plan.layers.shape[0] - 1]
    start, total = plan.target + panel * layer[ROWS] * PANEL, gradient[:PANEL]
    fill(total, ZERO)
    for q in range(B * plan.samples):
        row, weight = workspace[start + q * PANEL : start + (q + 1) * PANEL], sample_weight(objective, q)
        for j in range(PANEL):
            total[j] = fma(row[j], weight, total[j])
    t = parameters[offset + panel * PANEL : offset + (panel + 1) * PANEL]
    for j in range(PANEL):
        outward = (t[j] <= LOWEST and total[j] > ZERO) or (t[j] >= HIGHEST and total[j] < ZERO)
        total[j] = ZERO if outward else total[j]
