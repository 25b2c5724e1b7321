"""log p(x | z) of a table in blocks of columns, any of whose values may be missing, and its gradient.

X columns, V variables, k samples of an image; q counts rows of the decoder, r = q // k images. A number in parentheses is an
equation of DERIVATION.md. A worker takes whole rows: a category may have levels in both halves of the columns, and a Student-t
has three outputs. The gradient of what a block learns of its columns, a sum over rows, is left row by row in the target, and
added up in the weights phase. A value that is missing adds exactly zero to all of them.

Loops run over the 16 lanes of a panel; what belongs to a column is written out for its panel first. Where a row has many
arrays, its lanes are copied into one buffer, at places that LLVM can tell apart: it vectorises no loop over more arrays than
it checks for overlap, and x and what replaces it are at one place.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vaefast.engines.numba_cpu.barrier import meet
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.densities import kappa_and_mean, variance
from vaefast.engines.numba_cpu.elementwise import HALF, ONE, TWO, ZERO, copy, exp, exp_of_negative, fill, fma, log
from vaefast.engines.numba_cpu.objectives import add_weighted_rows
from vaefast.engines.numba_cpu.rising import HIGHEST, LOWEST, TABLED, beyond_table, dispersion, log1p
from vaefast.engines.plan import (
    FIRST_PANEL,
    FIRST_VARIABLE,
    FREEDOM_PANEL,
    KIND,
    KIND_CODES,
    LAST_VARIABLE,
    OUTPUT,
    OWN,
    PANELS,
    ROWS,
    SCALE_PANEL,
)
from vaefast.models.blocks import SMALLEST_FREEDOM, SMALLEST_SCALE
from vaefast.models.layout import PANEL

GAUSSIAN, STUDENT_T, COUNTED, BERNOULLI, CATEGORICAL, CONTINUOUS = (
    KIND_CODES[kind]
    for kind in ("gaussian", "student-t", "negative-binomial", "bernoulli", "categorical", "continuous-bernoulli")
)
TWO_PI, PI = np.float32(2 * math.pi), np.float32(math.pi)
SCALE_FLOOR, FREEDOM_FLOOR = np.float32(SMALLEST_SCALE), np.float32(SMALLEST_FREEDOM)
# log Gamma(z + 1/2) - log Gamma(z) is log(z) / 2 and these times 1 / z, 1 / z^3, 1 / z^5; what is left out is under 1e-8 at
# z = 5.5, where four steps of the recurrence bring every z from 3/2 on (63).
G1, G3, G5 = (np.float32(c) for c in (-1 / 8, 1 / 192, -1 / 640))
# The same of its slope: 1 / (2 z) and these times 1 / z^2, 1 / z^4, 1 / z^6 (65).
D2, D4, D6 = (np.float32(c) for c in (1 / 8, -1 / 64, 1 / 128))
STEPS = 4
# Panels of the buffer `Row.columns`: lanes of a row, and what was written out for its columns.
A, B, C, VALUE, OWN_LANES, TOTAL, FIRST, SECOND, THIRD = (PANEL * place for place in range(9))


class InBlocks(NamedTuple):
    """Columns of several kinds, or values that may be missing; `Plan` says which."""

    columns: int


@kernel
def blocks_phase(plan, worker, share, parameters, buffers, scale, log_likelihood, begin, end):
    """log p(x | z) in nats of this worker's rows, float64 to log_likelihood[0]; outputs become their gradients."""
    k = plan.samples
    first, last = share.own_first * k, share.own_last * k
    meet(worker.counters, share.meeting, share.partners)
    block_rows(plan, parameters, buffers, scale, log_likelihood[0, begin:end], first, last, True)
    nothing = log_likelihood[1, begin:end]
    for q in range(first, last):
        nothing[q] = 0.0
    meet(worker.counters, share.meeting, share.partners)


@kernel
def block_rows(plan, parameters, buffers, scale, log_likelihood, first, last, gradient):
    """log p(x | z) of rows first to last - 1 of the decoder (61), nats, float64; with a `gradient` the outputs
    become theirs."""
    layer, workspace, columns = plan.layers[plan.layers.shape[0] - 1], buffers.workspace, buffers.row.columns
    stride, k = layer[ROWS] * PANEL, plan.samples
    totals = workspace[plan.linear + first * PANEL : plan.linear + last * PANEL]
    fill(totals, ZERO)
    for b in range(plan.blocks.shape[0]):
        block = plan.blocks[b]
        kind = block[KIND]
        if kind == CATEGORICAL:
            for v in range(block[FIRST_VARIABLE], block[LAST_VARIABLE]):
                _categories(plan, workspace, scale, totals, first, last, v, gradient)
            continue
        for at in range(block[PANELS]):
            panel = block[FIRST_PANEL] + at
            _write_columns(kind, parameters, block[OWN] + at * PANEL, columns)
            shift = (block[SCALE_PANEL] - block[FIRST_PANEL]) * stride
            spread = (block[FREEDOM_PANEL] - block[SCALE_PANEL]) * stride
            for q in range(first, last):
                start, place = layer[OUTPUT] + panel * stride + q * PANEL, plan.target + panel * stride + q * PANEL
                seen = plan.x + (panel * plan.rows + q // k) * PANEL
                a, x = workspace[start : start + PANEL], workspace[seen : seen + PANEL]
                total, own = totals[(q - first) * PANEL : (q - first + 1) * PANEL], workspace[place : place + PANEL]
                if kind == GAUSSIAN:
                    _take(columns, a, x, total)
                    _gaussian(columns, scale, gradient)
                    copy(columns[TOTAL : TOTAL + PANEL], total)
                    if gradient:
                        copy(columns[A : A + PANEL], a)
                        copy(columns[OWN_LANES : OWN_LANES + PANEL], own)
                elif kind == STUDENT_T:
                    b_start = start + shift
                    c_start = b_start + spread
                    b_lanes, c_lanes = workspace[b_start : b_start + PANEL], workspace[c_start : c_start + PANEL]
                    _take(columns, a, x, total)
                    copy(b_lanes, columns[B : B + PANEL])
                    copy(c_lanes, columns[C : C + PANEL])
                    _student_t(columns, scale, gradient)
                    copy(columns[TOTAL : TOTAL + PANEL], total)
                    if gradient:
                        copy(columns[A : A + PANEL], a)
                        copy(columns[B : B + PANEL], b_lanes)
                        copy(columns[C : C + PANEL], c_lanes)
                elif kind == COUNTED:
                    _counts(a, x, own, total, columns, scale, gradient)
                elif kind == BERNOULLI:
                    _bernoulli(a, x, total, scale, gradient)
                else:
                    _continuous_bernoulli(a, x, total, scale, gradient)
    for q in range(first, last):
        value = 0.0
        for j in range((q - first) * PANEL, (q - first + 1) * PANEL):
            value += np.float64(totals[j])
        log_likelihood[q] = value


@kernel
def _take(lanes, a, x, total):
    copy(a, lanes[A : A + PANEL])
    copy(x, lanes[VALUE : VALUE + PANEL])
    copy(total, lanes[TOTAL : TOTAL + PANEL])


@kernel
def _write_columns(kind, parameters, offset, columns):
    """What a row needs of the columns of a panel: of a Gaussian 1 / v, -log(2 pi v) / 2 and the slope exp(2 x_log_std) / v, of
    counts t within its bounds and theta."""
    if kind == GAUSSIAN:
        for j in range(PANEL):
            s = parameters[offset + j]
            v = variance(s)
            columns[FIRST + j] = ONE / v
            columns[SECOND + j] = -HALF * log(TWO_PI * v)
            columns[THIRD + j] = exp(TWO * s) / v
    elif kind == COUNTED:
        for j in range(PANEL):
            t = parameters[offset + j]
            t = LOWEST if t < LOWEST else t
            columns[FIRST + j] = HIGHEST if t > HIGHEST else t
            columns[SECOND + j] = dispersion(t)


@kernel
def _gaussian(lanes, scale, gradient):
    """log p = -0.5 * (log(2 pi v) + (x - a)^2 / v) (18); a becomes d_a (19), own the gradient of x_log_std (20)."""
    for j in range(PANEL):
        value, precision = lanes[VALUE + j], lanes[FIRST + j]
        error = lanes[A + j] - value if value == value else ZERO
        square = error * error * precision
        lanes[TOTAL + j] += fma(-HALF, square, lanes[SECOND + j]) if value == value else ZERO
        if gradient:
            lanes[A + j] = error * precision * scale
            lanes[OWN_LANES + j] = (ONE - square) * lanes[THIRD + j] * scale if value == value else ZERO


@kernel
def _softplus(b, e, u):
    """log(1 + exp(b)) from e = exp(-|b|) and u = 1 + e."""
    positive = ZERO if b < ZERO else b
    return positive + log1p(e, u, ONE / u)


@kernel
def _student_t(lanes, scale, gradient):
    """log p of a Student-t with scale s = softplus(b) + 0.001 and degrees of freedom nu = softplus(c) + 3 (62), (63); a, b, c
    become their gradients (64), (65)."""
    for j in range(PANEL):
        value, a, b, c = lanes[VALUE + j], lanes[A + j], lanes[B + j], lanes[C + j]
        e_b, e_c = exp_of_negative(-abs(b)), exp_of_negative(-abs(c))
        u_b, u_c = ONE + e_b, ONE + e_c
        s, nu = _softplus(b, e_b, u_b) + SCALE_FLOOR, _softplus(c, e_c, u_c) + FREEDOM_FLOOR
        one_over_s, one_over_nu = ONE / s, ONE / nu
        r = (value - a) * one_over_s if value == value else ZERO
        u = r * r * one_over_nu
        above = ONE + u
        inverse = ONE / above
        more = log1p(u, above, inverse)
        z = HALF * nu
        product, slopes = ONE, ZERO
        for i in range(STEPS):
            lower = z + np.float32(i)
            upper = lower + HALF
            quotient = ONE / (lower * upper)
            product *= lower * lower * quotient
            slopes += HALF * quotient
        far = z + np.float32(STEPS)
        near = ONE / far
        square = near * near
        gammas = near * fma(fma(G5, square, G3), square, G1)
        constant = HALF * log(product * product * (far * one_over_nu) / PI) + gammas - log(s)
        lanes[TOTAL + j] += fma(-HALF * (nu + ONE), more, constant) if value == value else ZERO
        if gradient:
            counted = scale if value == value else ZERO
            share = u * inverse
            ratio = (nu + ONE) * one_over_nu
            psi = slopes + fma(fma(fma(D6, square, D4), square, D2), square, HALF * near)
            d_nu = HALF * (psi - one_over_nu - more + ratio * share)
            d_s = fma(nu + ONE, share, -ONE) * one_over_s
            rising_b, rising_c = (e_b if b < ZERO else ONE) / u_b, (e_c if c < ZERO else ONE) / u_c
            lanes[A + j] = -(ratio * one_over_s * r * inverse) * counted
            lanes[B + j] = -(d_s * rising_b) * counted
            lanes[C + j] = -(d_nu * rising_c) * counted


@kernel
def _counts(a, x, own, total, columns, scale, gradient):
    """log p of counts with means exp(a) (66); a becomes d_a (53), own the gradient of x_log_dispersion (55)."""
    for j in range(PANEL):
        value = x[j]
        if value != value:
            if gradient:
                a[j], own[j] = ZERO, ZERO
            continue
        t, theta = columns[FIRST + j], columns[SECOND + j]
        difference = a[j] - t
        e = exp_of_negative(-abs(difference))
        above = ONE + e
        more = _softplus(difference, e, above)
        exact, wide = np.float64(value), np.float64(theta)
        raised, slope = _rising(exact, wide)
        factorial, _ = _rising(exact, 1.0)
        total[j] += np.float32(exact * np.float64(a[j]) - (exact + wide) * np.float64(more) + raised - factorial)
        if gradient:
            upper, lower = ONE / above, e / above
            falling, rising = (lower, upper) if difference > ZERO else (upper, lower)
            g = value * falling - theta * rising
            a[j] = -g * scale
            own[j] = -(np.float32(slope - wide * np.float64(more)) - g) * scale


@kernel
def _rising(x, theta):
    """R (47) and S (55) of a whole number x, float64."""
    product, slope = 1.0, 0.0
    for n in range(min(np.int64(x), TABLED)):
        ratio = 1.0 + n / theta
        product *= ratio
        slope += 1.0 / ratio
    raised = math.log(product)
    if x > TABLED:
        more, steeper = beyond_table(x, theta)
        raised, slope = raised + more, slope + steeper
    return raised, slope


@kernel
def _bernoulli(a, x, total, scale, gradient):
    """log p = x * a - softplus(a) (3); a becomes d_a (7)."""
    for j in range(PANEL):
        value, logit = x[j], a[j]
        e = exp_of_negative(-abs(logit))
        above = ONE + e
        total[j] += value * logit - _softplus(logit, e, above) if value == value else ZERO
        if gradient:
            sigmoid = (e if logit < ZERO else ONE) / above
            a[j] = (sigmoid - value) * scale if value == value else ZERO


@kernel
def _continuous_bernoulli(a, x, total, scale, gradient):
    """log p = x * a - kappa(a) (21); a becomes d_a (25)."""
    for j in range(PANEL):
        value, logit = x[j], a[j]
        kappa, mean = kappa_and_mean(logit)
        total[j] += fma(value, logit, -kappa) if value == value else ZERO
        if gradient:
            a[j] = (mean - value) * scale if value == value else ZERO


@kernel
def _categories(plan, workspace, scale, totals, first, last, v, gradient):
    """log p of variable v of rows first to last - 1: the softmax over its levels (67), (68); the logits become theirs (69)."""
    layer, k = plan.layers[plan.layers.shape[0] - 1], plan.samples
    stride, x_stride = layer[ROWS] * PANEL, plan.rows * PANEL
    begin = plan.places[plan.variables[v, 0]]
    end = begin + plan.variables[v, 1] - plan.variables[v, 0]
    for q in range(first, last):
        a, x = layer[OUTPUT] + q * PANEL, plan.x + q // k * PANEL
        known = workspace[x + begin // PANEL * x_stride + begin % PANEL]
        if known != known:
            if gradient:
                for p in range(begin, end):
                    workspace[a + p // PANEL * stride + p % PANEL] = ZERO
            continue
        largest, chosen, total = np.float32(-math.inf), ZERO, ZERO
        for p in range(begin, end):
            largest = max(largest, workspace[a + p // PANEL * stride + p % PANEL])
        for p in range(begin, end):
            shifted = workspace[a + p // PANEL * stride + p % PANEL] - largest
            total += exp_of_negative(shifted)
            chosen = fma(workspace[x + p // PANEL * x_stride + p % PANEL], shifted, chosen)
        totals[(q - first) * PANEL + v % PANEL] += chosen - log(total)
        if gradient:
            for p in range(begin, end):
                at = a + p // PANEL * stride + p % PANEL
                share = exp_of_negative(workspace[at] - largest) / total
                workspace[at] = (share - workspace[x + p // PANEL * x_stride + p % PANEL]) * scale


@kernel
def own_gradient(objective, plan, parameters, workspace, B, b, panel, gradient):
    """The gradient of what block b learns of the columns of one of its panels (20), (55): the rows of the target, as the rows
    phase left them, in ascending order; of a dispersion zero where a step would lead further out of its bounds."""
    layer, block = plan.layers[plan.layers.shape[0] - 1], plan.blocks[b]
    total = gradient[:PANEL]
    add_weighted_rows(objective, workspace, plan.target + panel * layer[ROWS] * PANEL, B * plan.samples, total)
    if block[KIND] == COUNTED:
        offset = block[OWN] + (panel - block[FIRST_PANEL]) * PANEL
        for j in range(PANEL):
            t = parameters[offset + j]
            outward = (t <= LOWEST and total[j] > ZERO) or (t >= HIGHEST and total[j] < ZERO)
            total[j] = ZERO if outward else total[j]
