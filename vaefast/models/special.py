"""SciPy's log-gamma and digamma, imported when they are first needed: only models of counts pay for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def log_gamma(z: ArrayLike) -> NDArray[Any]:
    """log Gamma(z) of each z > 0."""
    from scipy.special import gammaln

    return np.asarray(gammaln(z))


def digamma(z: ArrayLike) -> NDArray[Any]:
    """The derivative of log Gamma at each z > 0."""
    from scipy.special import digamma as scipys

    return np.asarray(scipys(z))
