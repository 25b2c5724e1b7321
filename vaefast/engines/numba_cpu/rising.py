"""What the negative binomial needs of a count and a dispersion: logarithm and slope of a rising factorial.

R(x, theta) = log of theta (theta + 1) ... (theta + x - 1) / theta^x (47), and S = theta times the sum of 1 / (theta + k) over
k < x (55); the numbers are equations of DERIVATION.md. Most counts are small, and a dispersion is that of a column: what
counts up to TABLED need stands in a table, made anew for each step. Larger counts take Stirling's series, as a difference in
which nothing large cancels.
"""

from __future__ import annotations

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, bits_of_double, double_of, exp, log
from vaefast.models.layout import PANEL
from vaefast.models.settings import LOG_DISPERSION_BOUNDS

# Counts that have an entry in the table; larger ones are rare in tables of cells, clicks and words.
TABLED = 16
# Elements of the table for a panel of columns, and where S begins among them.
SLOPES = TABLED * PANEL
PANEL_OF_TABLE = 2 * SLOPES
# Of float64: the bits of sqrt(1/2), of 1 and of 2^52, whose low bits hold an integer, and log(2) in two parts, of which the
# first has 20 trailing zero bits.
SQRT_HALF_BITS_DOUBLE, ONE_BITS_DOUBLE, WHOLE_BITS_DOUBLE = 0x3FE6A09E667F3BCD, 0x3FF0000000000000, 0x4330000000000000
LN2_HIGH_DOUBLE, LN2_LOW_DOUBLE = 6.93147180369123816490e-01, 1.90821492927058770002e-10
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

    table, (panels, 2, TABLED, 16), R and then S of a panel: the same count of neighbouring columns lies together, for most
    counts are the smallest.
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
def log_of_one_and_double(r):
    """log(1 + r) for 0 <= r < 2^1022 in float64, relative error under 4e-16, without a call, so that LLVM vectorises a loop.

    With 2^n near 1 + r and f = (1 + r) / 2^n - 1, rounded once, log(1 + f) = 2 s + 2 s^3 / 3 + 2 s^5 / 5 ... and
    s = f / (2 + f), at most 0.172: the first term left out is under 3e-17 of the sum.
    """
    n = (bits_of_double(1.0 + r) - SQRT_HALF_BITS_DOUBLE) >> 52
    scale, whole = double_of(ONE_BITS_DOUBLE - (n << 52)), double_of(n + WHOLE_BITS_DOUBLE) - 2.0**52
    f = r * scale + (scale - 1.0)
    s = f / (2.0 + f)
    z = s * s
    q = z * (2.0 / 19) + 2.0 / 17
    q = z * q + 2.0 / 15
    q = z * q + 2.0 / 13
    q = z * q + 2.0 / 11
    q = z * q + 2.0 / 9
    q = z * q + 2.0 / 7
    q = z * q + 2.0 / 5
    q = z * q + 2.0 / 3
    # 2 s = f - s f, in which f is exact.
    mantissa = f - s * (f - z * q)
    return whole * LN2_HIGH_DOUBLE + (whole * LN2_LOW_DOUBLE + mantissa)


@kernel
def beyond_table(x, theta):
    """What R and S of a count above TABLED have beyond those of TABLED, float64.

    With z = theta + TABLED and d = x - TABLED, R grows by log Gamma(z + d) - log Gamma(z) - d log theta, and S by theta times
    digamma(z + d) - digamma(z). Both are differences of Stirling series, whose leading terms share one logarithm; z is at
    least 16, where the first terms left out are under 1e-11.
    """
    z, d = theta + TABLED, x - TABLED
    end, growth = z + d, log_of_one_and_double(d / z)
    inverse, inverse_end = 1.0 / z, 1.0 / end
    raised = (end - 0.5) * growth - d + _stirling_rest(inverse_end) - _stirling_rest(inverse)
    slope = theta * (growth + _digamma_rest(inverse_end) - _digamma_rest(inverse))
    return raised + d * log_of_one_and_double(TABLED / theta), slope


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
