"""The posterior q(z | x) of one latent from the outputs of the heads: bounded log standard deviation and KL divergence.

s is the log standard deviation of the head, c the bounded one, std = exp(c). A number in parentheses is an equation of
DERIVATION.md. Where s is within the bounds, nothing is added to what there would be without them but zeros.
"""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ONE, TWO, ZERO, exp, fma
from vaefast.models.settings import LOG_STD_BOUNDS

LOWEST, HIGHEST = (np.float32(bound) for bound in LOG_STD_BOUNDS)
NARROWEST, WIDEST = (np.float32(math.exp(bound)) for bound in LOG_STD_BOUNDS)


@kernel
def bounded(s):
    """c (43). NaN stays NaN."""
    c = LOWEST if s < LOWEST else s
    return HIGHEST if s > HIGHEST else c


@kernel
def deviation(s):
    """std = exp(c). NaN stays NaN."""
    std = NARROWEST if s < LOWEST else exp(s)
    return WIDEST if s > HIGHEST else std


@kernel
def moving(std, value):
    """The value where c moves with s, zero where it is at a bound."""
    return ZERO if std == NARROWEST or std == WIDEST else value  # noqa: SIM109 (a tuple would not vectorise)


@kernel
def twice_divergence(mean, s, std):
    """Twice the KL divergence in nats, exp(2 c) + mean^2 - 1 - 2 c (4), and beyond the bounds its tangent (44)."""
    c = bounded(s)
    return (fma(std, std, mean * mean) - ONE - TWO * c) + TWO * (s - c) * fma(std, std, -ONE)
