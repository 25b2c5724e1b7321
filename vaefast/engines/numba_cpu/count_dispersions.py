"""The likelihoods of counts with a dispersion a column: negative binomial, with zero inflation or without.

A number in parentheses is an equation of DERIVATION.md, section 13; what the passes are, and their halves, says counts.py.
Loops run over lanes that LLVM vectorises: a function of their common lines would give a tuple, which it does not.
"""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.count_shares import CHUNK, WRITTEN_OUT, add_up, columns_of, entries, largest_output
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, copy, exp_of_negative, fill, fma, log
from vaefast.engines.numba_cpu.objectives import add_weighted_rows
from vaefast.engines.numba_cpu.rising import (
    HIGHEST,
    LOWEST,
    SLOPES,
    TABLED,
    beyond_table,
    dispersion,
    log1p,
    place_in_table,
)
from vaefast.engines.plan import OUTPUT, ROWS
from vaefast.models.layout import PANEL


@kernel
def place_counts(plan, workspace, counts, start, stop, half):
    """x of these rows, half of its columns, to the target of the workspace."""
    twins = plan.twins
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride = layer[ROWS] * PANEL
    begin, end = columns_of(twins, layer, half)
    for panel in range(begin, end):
        place = plan.target + panel * stride
        fill(workspace[place + start * PANEL : place + stop * PANEL], ZERO)
    for q in range(start, stop):
        first, last = entries(counts, q // plan.samples, half)
        base = plan.target + q * PANEL
        for entry in range(first, last):
            column = np.int64(counts.indices[entry])
            workspace[base + (column // PANEL) * stride + column % PANEL] = counts.counts[entry]


@kernel
def dispersed_density(offset, plan, parameters, workspace, counts, rates, log_likelihood, start, stop, half):
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
        log_share = -np.float64(largest_output(counts, q)) - math.log(sum_)
        fill(shift[r * PANEL : (r + 1) * PANEL], np.float32(log_size + log_share))
    begin, end = columns_of(twins, layer, half)
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
    add_up(slope, counts.slopes[half], start)


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
def add_rising(offset, plan, parameters, workspace, counts, log_likelihood, start, stop, half):
    """R of every non-zero count to log p(x | z) (48), and S to the gradient of its dispersion (55)."""
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride, table = layer[ROWS] * PANEL, counts.table
    for q in range(start, stop):
        begin, end = entries(counts, q // plan.samples, half)
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
def dispersed_gradient(plan, workspace, counts, rates, scale, start, stop, half):
    """The outputs become d_a = (s sum(g) - g) scale (54); the target and the zero_logits are scaled in the same way."""
    twins = plan.twins
    layer, rows = plan.layers[plan.layers.shape[0] - 1], stop - start
    stride, size, at = layer[ROWS] * PANEL, rows * PANEL, start * WRITTEN_OUT * PANEL
    factor = counts.lanes[half, at : at + size]
    for r in range(rows):
        q = start + r
        share = (counts.slopes[0, q] + counts.slopes[1, q]) / (counts.sums[0, q] + counts.sums[1, q])
        fill(factor[r * PANEL : (r + 1) * PANEL], np.float32(share))
    begin, end = columns_of(twins, layer, half)
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
    total = gradient[:PANEL]
    add_weighted_rows(objective, workspace, plan.target + panel * layer[ROWS] * PANEL, B * plan.samples, total)
    t = parameters[offset + panel * PANEL : offset + (panel + 1) * PANEL]
    for j in range(PANEL):
        outward = (t[j] <= LOWEST and total[j] > ZERO) or (t[j] >= HIGHEST and total[j] < ZERO)
        total[j] = ZERO if outward else total[j]
