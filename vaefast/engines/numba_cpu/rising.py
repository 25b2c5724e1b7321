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
from vaefast.engines.numba_cpu.elementwise import ONE, exp, log
from vaefast.models.settings import LOG_DISPERSION_BOUNDS

# Counts that have an entry in the table: 98 in 100 of the non-zero counts of single cells.
TABLED = 16
# R and S of one count.
PAIR = 2
LOWEST, HIGHEST = (np.float32(bound) for bound in LOG_DISPERSION_BOUNDS)
# Stirling's series is taken from here on: the first terms left out are under 1e-10 there.
STIRLING_FROM = 8.0


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
    """R and S of the counts 1 to TABLED in columns first to last - 1; table, (X * TABLED * 2,)."""
    for column in range(first, last):
        inverse_theta = ONE / dispersion(x_log_dispersion[column])
        row = table[column * TABLED * PAIR : (column + 1) * TABLED * PAIR]
        for k in range(TABLED):
            ratio = np.float32(k) * inverse_theta
            u = ONE + ratio
            slope = ONE / u
            row[PAIR * k] = log1p(ratio, u, slope)
            row[PAIR * k + 1] = slope
        logarithm, slope_sum = 0.0, 0.0
        for k in range(TABLED):
            logarithm += np.float64(row[PAIR * k])
            slope_sum += np.float64(row[PAIR * k + 1])
            row[PAIR * k] = logarithm
            row[PAIR * k + 1] = slope_sum


@kernel
def _stirling_rest(z):
    """log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2."""
    inverse = 1.0 / z
    square = inverse * inverse
    return inverse * (1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260)))


@kernel
def _digamma_rest(z):
    """digamma(z) - log z."""
    inverse = 1.0 / z
    square = inverse * inverse
    return -0.5 * inverse - square * (1.0 / 12 - square * (1.0 / 120 - square * (1.0 / 252)))


@kernel
def log_rising(x, theta):
    """R of a count above TABLED, float64."""
    below, n = 0.0, 0
    while theta + n < STIRLING_FROM:
        below += math.log((theta + n) / theta)
        n += 1
    z, d = theta + n, x - n
    # log Gamma(z + d) - log Gamma(z) - d log z; what is left of d log z - x log theta is zero where nothing was raised
    raised = (z + d - 0.5) * math.log1p(d / z) - d + _stirling_rest(z + d) - _stirling_rest(z)
    return raised + below + (d * math.log(z / theta) if n > 0 else 0.0)


@kernel
def rising_slope(x, theta):
    """S of a count above TABLED, float64."""
    below, n = 0.0, 0
    while theta + n < STIRLING_FROM:
        below += 1.0 / (theta + n)
        n += 1
    z, d = theta + n, x - n
    return theta * (math.log1p(d / z) + _digamma_rest(z + d) - _digamma_rest(z) + below)
