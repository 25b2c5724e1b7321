"""What the negative binomial needs of a count and a dispersion: logarithm and slope of a rising factorial.

R(x, theta) = log of theta (theta + 1) ... (theta + x - 1) / theta^x (47), and S = theta times the sum of 1 / (theta + k) over
k < x (55); the numbers are equations of DERIVATION.md. Most counts are small, and a dispersion is that of a column: what
counts up to TABLED need stands in a table, made anew for each step. Larger counts take Stirling's series, as a difference in
which nothing large cancels.
"""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, exp, log
from vaefast.models.layout import PANEL
from vaefast.models.settings import LOG_DISPERSION_BOUNDS

# Counts that have an entry in the table; larger ones are rare in tables of cells, clicks and words.
TABLED = 16
# Elements of the table for a panel of columns, and where S begins among them.
SLOPES = TABLED * PANEL
PANEL_OF_TABLE = 2 * SLOPES
LOWEST, HIGHEST = (np.float32(bound) for bound in LOG_DISPERSION_BOUNDS)


@kernel
def dispersion(t):
    """theta = exp(t), with t held between its bounds (47)."""
    t = LOWEST if t < LOWEST else t
    t = HIGHEST if t > HIGHEST else t
    return exp(t)


@kernel
def log1p(r, u, inverse):
    """log(1 + r) for r >= 0, with u = 1 + r and inverse = 1 / u, relative error under 3e-7.

    What rounding took from u comes back by its first-order term: r itself where it is below half a unit of 1.
    """
    return log(u) + (r - (u - ONE)) * inverse


@kernel
def tabulate(x_log_dispersion, table, first, last):
    """R and S of the counts 1 to TABLED in panels first to last - 1 of columns; x_log_dispersion, (padded X,).

    table, (panels, 2, TABLED, 16): the same count of neighbouring columns lies together, for most counts are the smallest.
    """
    for panel in range(first, last):
        t = x_log_dispersion[panel * PANEL : (panel + 1) * PANEL]
        rows = table[panel * PANEL_OF_TABLE : (panel + 1) * PANEL_OF_TABLE]
        logarithms, slopes = rows[:SLOPES], rows[SLOPES:]
        for j in range(PANEL):
            logarithms[j] = ZERO
            slopes[j] = ONE
        for k in range(1, TABLED):
            place, before, ratio = k * PANEL, (k - 1) * PANEL, np.float32(k)
            summed, next_sum = logarithms[before:place], logarithms[place : place + PANEL]
            added, next_added = slopes[before:place], slopes[place : place + PANEL]
            for j in range(PANEL):
                of_theta = ratio / dispersion(t[j])
                u = ONE + of_theta
                slope = ONE / u
                next_sum[j] = summed[j] + log1p(of_theta, u, slope)
                next_added[j] = added[j] + slope


@kernel
def place_in_table(column, x):
    """Where R of a count from 1 to TABLED stands in the table; S stands SLOPES behind it."""
    return (column // PANEL) * PANEL_OF_TABLE + (x - 1) * PANEL + column % PANEL


@kernel
def beyond_table(x, theta):
    """What R and S of a count above TABLED have beyond those of TABLED, float64.

    With z = theta + TABLED and d = x - TABLED, R grows by log Gamma(z + d) - log Gamma(z) - d log theta, and S by theta times
    digamma(z + d) - digamma(z). Both are differences of Stirling series, whose leading terms share one logarithm; z is at
    least 16, where the first terms left out are under 1e-11.
    """
    z, d = theta + TABLED, x - TABLED
    end, growth = z + d, math.log1p(d / z)
    inverse, inverse_end = 1.0 / z, 1.0 / end
    raised = (end - 0.5) * growth - d + _stirling_rest(inverse_end) - _stirling_rest(inverse)
    slope = theta * (growth + _digamma_rest(inverse_end) - _digamma_rest(inverse))
    return raised + d * math.log1p(TABLED / theta), slope


@kernel
def _stirling_rest(inverse):
    """log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2, of 1 / z."""
    square = inverse * inverse
    return inverse * (1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260)))


@kernel
def _digamma_rest(inverse):
    """digamma(z) - log z, of 1 / z."""
    square = inverse * inverse
    return -0.5 * inverse - square * (1.0 / 12 - square * (1.0 / 120 - square * (1.0 / 252)))
