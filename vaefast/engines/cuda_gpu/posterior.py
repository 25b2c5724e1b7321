"""The posterior of one latent variable from what the heads say: its bounded log standard deviation (43).

NaN stays NaN.
"""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.cuda_gpu.device import exp
from vaefast.engines.cuda_gpu.target import device
from vaefast.models.settings import LOG_STD_BOUNDS

LOWEST, HIGHEST = (np.float32(bound) for bound in LOG_STD_BOUNDS)
NARROWEST, WIDEST = (np.float32(math.exp(bound)) for bound in LOG_STD_BOUNDS)


@device
def bounded(log_std):
    """The log standard deviation of the posterior that is sampled."""
    c = LOWEST if log_std < LOWEST else log_std
    return HIGHEST if log_std > HIGHEST else c


@device
def deviation(log_std):
    """Its standard deviation."""
    std = NARROWEST if log_std < LOWEST else exp(log_std)
    return WIDEST if log_std > HIGHEST else std
