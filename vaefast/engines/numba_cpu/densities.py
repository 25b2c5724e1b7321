"""What the kernels of several likelihoods share: the variance of a Gaussian, and kappa of a continuous Bernoulli.

A number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import HALF, ONE, TWO, ZERO, exp, exp_of_negative, fma, log
from vaefast.models.settings import SMALLEST_VARIANCE

VARIANCE_FLOOR = np.float32(SMALLEST_VARIANCE)
# kappa(a) = a / 2 + K(a^2) and its slope 1/2 + a M(a^2) for |a| < 1 (24); the first terms left out are 2e-9 and 5e-10.
K1, K2, K3, K4 = (np.float32(c) for c in (1 / 24, -1 / 2880, 1 / 181_440, -1 / 9_676_800))
M0, M1, M2, M3, M4 = (np.float32(c) for c in (1 / 12, -1 / 720, 1 / 30_240, -1 / 1_209_600, 1 / 47_900_160))


@kernel
def variance(x_log_std):
    """v = 1e-4 + exp(2 x_log_std) (17)."""
    return exp(TWO * x_log_std) + VARIANCE_FLOOR


@kernel
def kappa_and_mean(logit):
    """kappa(a) = max(a, 0) + log((1 - exp(-|a|)) / |a|) and its slope 1 / (1 - exp(-a)) - 1 / a (22, 23) where |a| >= 1, and
    their series (24) below: both are computed and one is taken, so that nothing is divided by zero and nothing branches."""
    u = abs(logit)
    large = ONE if u < ONE else u
    growth, inverse = ONE - exp_of_negative(-large), ONE / large
    positive = ZERO if logit < ZERO else logit
    closed = positive + log(growth * inverse)
    above = ONE / growth - inverse
    mean = ONE - above if logit < ZERO else above
    square = logit * logit
    series = fma(square, fma(fma(fma(K4, square, K3), square, K2), square, K1), HALF * logit)
    slope = fma(logit, fma(fma(fma(fma(M4, square, M3), square, M2), square, M1), square, M0), HALF)
    return series if u < ONE else closed, slope if u < ONE else mean
