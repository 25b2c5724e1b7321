"""The likelihoods of counts with a dispersion a column: negative binomial, with zero inflation or without.

A number in parentheses is an equation of DERIVATION.md, section 13; what the passes are, and their halves, says counts.py.
Loops run over lanes that LLVM vectorises: a function of their common lines would give a tuple, which it does not.
"""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.count_shares import CHUNK, WRITTEN_OUT, add_up, columns_of, entries, largest_output
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, copy, exp_of_negative, fill, fma, log, log_of_one_and
from vaefast.engines.numba_cpu.objectives import add_weighted_rows
from vaefast.engines.numba_cpu.pixels import PANEL_SHIFT
from vaefast.engines.numba_cpu.rising import HIGHEST, LOWEST, PANEL_OF_TABLE, SLOPES, TABLED, beyond_table, dispersion
from vaefast.engines.plan import CHUNK_ROWS, OUTPUT, ROWS
from vaefast.models.layout import PANEL

# Panels of columns whose counts are written out together: 64 columns, in which a row of cells has some 17 counts.
WRITTEN_PANELS = 4
WRITTEN = WRITTEN_PANELS * CHUNK
# 1 + exp(-|h|) is at most 2, so a float32 holds the product of this many panels' factors.
FACTORS = 64
# Where what is written out for the lanes of a chunk begins in `Row.chunk`, in one array, so that LLVM can tell the places
# apart: the sums and products over the columns, of each row, of each column, of each element, and of some panels x, S (55) and
# log theta.
TOTAL, SLOPE, ABOVE, BELOW, FACTOR, SHIFT, THETA, INVERSE, MORE, E_GAP, E_B, X = (n * CHUNK for n in range(12))
RISING, LOG_THETA = X + WRITTEN, X + 2 * WRITTEN
CHUNK_ELEMENTS = X + 3 * WRITTEN
# ... in `Row.large`: of the counts above TABLED x, then what R has beyond the table, and theta, then what S has.
LARGE_THETA, LARGE_ELEMENTS = WRITTEN, 2 * WRITTEN
# ... and in `Row.places`: where these stand, and of each row its next entry and the one after its last.
NEXT, END, PLACES = WRITTEN, WRITTEN + CHUNK_ROWS, WRITTEN + 2 * CHUNK_ROWS


@kernel
def dispersed_density(offset, plan, parameters, workspace, counts, row, scale, log_likelihood, start, stop, half):
    """log p(x | z) (48), (49) and its slopes (53), (55), (56).

    The outputs become g, or with zero inflation w g, the target the gradient of x_log_dispersion for each row, the zero_logits
    theirs.
    """
    twins, lanes, rates = plan.twins, row.chunk, row.rates
    layer, rows, k = plan.layers[plan.layers.shape[0] - 1], stop - start, plan.samples
    stride, size = layer[ROWS] * PANEL, rows * PANEL
    fill(lanes[TOTAL : TOTAL + size], ZERO)
    fill(lanes[SLOPE : SLOPE + size], ZERO)
    fill(lanes[ABOVE : ABOVE + size], ONE)
    fill(lanes[BELOW : BELOW + size], ONE)
    for r in range(rows):
        q, place = start + r, r * PANEL
        sum_, length = counts.sums[0, q] + counts.sums[1, q], np.float64(counts.sizes[q // k])
        fill(lanes[FACTOR + place : FACTOR + place + PANEL], np.float32(length / sum_))
        # log mu = a + shift (45); a row of zeros has no rates, and nothing to multiply their logarithms by.
        log_size = math.log(length) if length > 0.0 else 0.0
        log_share = -np.float64(largest_output(counts, q)) - math.log(sum_)
        fill(lanes[SHIFT + place : SHIFT + place + PANEL], np.float32(log_size + log_share))
        row.places[NEXT + r], row.places[END + r] = entries(counts, q // k, half)
        log_likelihood[q] = 0.0
    begin, end = columns_of(twins, layer, half)
    for first in range(begin, end, WRITTEN_PANELS):
        last = min(first + WRITTEN_PANELS, end)
        write_counts(offset, parameters, counts, row, log_likelihood[start:stop], first, last)
        for panel in range(first, last):
            _write_dispersions(parameters[offset + panel * PANEL : offset + (panel + 1) * PANEL], lanes, rows)
            output, written = layer[OUTPUT] + panel * twins * stride + start * PANEL, (panel - first) * CHUNK
            place = plan.target + panel * stride + start * PANEL
            a, target = workspace[output : output + size], workspace[place : place + size]
            e = rates[panel * CHUNK : panel * CHUNK + size]
            _write_logarithms(e, lanes)
            if twins == 1:
                _negative_binomial(a, e, lanes, written, scale, target)
            else:
                h = workspace[output + stride : output + stride + size]
                _write_exponentials(h, lanes)
                _zero_inflated(a, h, e, lanes, written, scale, target)
        if twins > 1 and (last - begin) % FACTORS == 0:
            _take_logarithms(lanes, size)
    if twins > 1:
        _take_logarithms(lanes, size)
    for r in range(rows):
        value = counts.constants[(start + r) // k] if half == 0 else 0.0
        for j in range(r * PANEL, (r + 1) * PANEL):
            value += np.float64(lanes[TOTAL + j])
        log_likelihood[start + r] = value + log_likelihood[start + r]
    add_up(lanes[SLOPE : SLOPE + size], counts.slopes[half], start)


@kernel
def write_counts(offset, parameters, counts, row, values, first, last):
    """x and S of panels first to last - 1, from the next entry of each row on; R (48) is added to the row's value.

    A panel of the table is as long as one of a chunk.
    """
    lanes, places, large, size = row.chunk, row.places, 0, values.size * PANEL
    begin, end, table = first * PANEL, last * PANEL, first * PANEL_OF_TABLE - PANEL
    for panel in range(last - first):
        place = X + panel * CHUNK
        fill(lanes[place : place + size], ZERO)
        fill(lanes[place + WRITTEN : place + WRITTEN + size], ZERO)
    for r in range(values.size):
        value, entry, stop = values[r], places[NEXT + r], places[END + r]
        while entry < stop and np.int64(counts.indices[entry]) < end:
            column, x = np.int64(counts.indices[entry]) - begin, counts.counts[entry]
            place, whole = column + (column >> PANEL_SHIFT) * (CHUNK - PANEL), np.int64(x)
            if whole > TABLED:
                row.large[large] = np.float64(x)
                lanes[LOG_THETA + large] = parameters[offset + begin + column]
                places[large] = place + r * PANEL
                large += 1
                whole = TABLED
            in_table = table + place + whole * PANEL
            lanes[X + place + r * PANEL] = x
            lanes[RISING + place + r * PANEL] = counts.table[in_table + SLOPES]
            value += np.float64(counts.table[in_table])
            entry += 1
        values[r] = value
        places[NEXT + r] = entry
    _add_large(row, large, values)


@kernel
def _add_large(row, size, values):
    """R and S of counts above TABLED: what they have beyond the table."""
    lanes, large, places = row.chunk, row.large, row.places
    for i in range(size):
        large[LARGE_THETA + i] = np.float64(dispersion(lanes[LOG_THETA + i]))
    for i in range(size):
        more, more_slope = beyond_table(large[i], large[LARGE_THETA + i])
        large[i] = more
        large[LARGE_THETA + i] = more_slope
    for i in range(size):
        values[places[i] % CHUNK // PANEL] += large[i]
        lanes[RISING + places[i]] += np.float32(large[LARGE_THETA + i])


@kernel
def _write_dispersions(t, lanes, rows):
    """theta and 1 / theta of a panel, (16,), in every row."""
    for j in range(PANEL):
        lanes[THETA + j] = dispersion(t[j])
    for j in range(PANEL):
        lanes[INVERSE + j] = ONE / lanes[THETA + j]
    for r in range(1, rows):
        copy(lanes[THETA : THETA + PANEL], lanes[THETA + r * PANEL : THETA + (r + 1) * PANEL])
        copy(lanes[INVERSE : INVERSE + PANEL], lanes[INVERSE + r * PANEL : INVERSE + (r + 1) * PANEL])


@kernel
def _write_logarithms(e, lanes):
    """log(1 + mu / theta), mu = e * factor, which costs most, in a loop of its own.

    A processor looks some hundred operations ahead, and the more rows these are of, the less it waits for results.
    """
    for j in range(e.size):
        lanes[MORE + j] = log_of_one_and(e[j] * lanes[FACTOR + j] * lanes[INVERSE + j])


@kernel
def _negative_binomial(a, e, lanes, written, scale, target):
    """log p = x (log mu - log(1 + mu / theta)) - theta log(1 + mu / theta) + R (48)."""
    x, s = lanes[X + written : X + written + CHUNK], lanes[RISING + written : RISING + written + CHUNK]
    for j in range(a.size):
        mu, more = e[j] * lanes[FACTOR + j], lanes[MORE + j]
        zero = lanes[THETA + j] * more
        g = (x[j] - mu) / (ONE + mu * lanes[INVERSE + j])  # (53)
        lanes[TOTAL + j] += fma(x[j], (a[j] + lanes[SHIFT + j]) - more, -zero)
        lanes[SLOPE + j] += g
        a[j] = g
        target[j] = ((zero + g) - s[j]) * scale  # (55)


@kernel
def _write_exponentials(h, lanes):
    """exp(-|u - h|) and exp(-|h|)."""
    for j in range(h.size):
        lanes[E_GAP + j] = exp_of_negative(-abs(lanes[THETA + j] * lanes[MORE + j] + h[j]))
    for j in range(h.size):
        lanes[E_B + j] = exp_of_negative(-abs(h[j]))


@kernel
def _zero_inflated(a, h, e, lanes, written, scale, target):
    """With u = -theta log(1 + mu / theta): log p(0) = softplus(u - h) - softplus(-h), and log p(x) loses softplus(h) (49).

    softplus(b) = max(b, 0) + log(1 + exp(-|b|)). The factors 1 + exp(-|b|) are multiplied over many panels, so that one
    logarithm serves them all. u is never above zero, so of a zero's maxima max(u, min(h, 0)) is left. One quotient serves the
    three sigmoids: the two factors beside u + 1 are at most 2.
    """
    x, s = lanes[X + written : X + written + CHUNK], lanes[RISING + written : RISING + written + CHUNK]
    for j in range(a.size):
        mu, b, count, more = e[j] * lanes[FACTOR + j], h[j], x[j], lanes[MORE + j]
        zero = lanes[THETA + j] * more
        e_gap, e_b = lanes[E_GAP + j], lanes[E_B + j]
        one_gap, one_b, one_ratio = ONE + e_gap, ONE + e_b, ONE + mu * lanes[INVERSE + j]
        both = one_gap * one_b
        quotient = ONE / (both * one_ratio)
        of_factors = quotient * one_ratio
        is_zero = count == ZERO
        own = (ONE if zero + b <= ZERO else e_gap) * (of_factors * one_b)
        w = own if is_zero else ONE  # sigmoid(u - h)
        not_zero = (ONE if b <= ZERO else e_b) * (of_factors * one_gap)  # sigmoid(-h)
        g = w * ((count - mu) * (quotient * both))  # (53)
        below, above = ZERO if b > ZERO else b, ZERO if b < ZERO else b
        at_zero = -zero if below < -zero else below
        positive = fma(count, (a[j] + lanes[SHIFT + j]) - more, -zero) - above
        lanes[TOTAL + j] += at_zero if is_zero else positive
        lanes[ABOVE + j] *= one_gap if is_zero else ONE
        lanes[BELOW + j] *= one_b
        lanes[SLOPE + j] += g
        a[j] = g
        target[j] = (fma(w, zero, g) - s[j]) * scale  # (55)
        h[j] = (w - not_zero) * scale  # (56)


@kernel
def _take_logarithms(lanes, size):
    """The logarithms of the factors' quotients, to the totals."""
    for j in range(size):
        lanes[TOTAL + j] += log(lanes[ABOVE + j] / lanes[BELOW + j])
    fill(lanes[ABOVE : ABOVE + size], ONE)
    fill(lanes[BELOW : BELOW + size], ONE)


@kernel
def dispersed_gradient(plan, workspace, counts, rates, scale, start, stop, half):
    """The outputs become d_a = (s sum(g) - g) scale (54)."""
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
        output = layer[OUTPUT] + panel * twins * stride + start * PANEL
        a = workspace[output : output + rows * PANEL]
        e = rates[panel * CHUNK : panel * CHUNK + rows * PANEL]
        for j in range(a.size):
            a[j] = fma(e[j], factor[j], -a[j]) * scale


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
