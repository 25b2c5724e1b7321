"""Grey levels as numbers: the value of a byte, and the threshold that makes a grey pixel 0 or 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.models.gaps import gaps_of


def grey_levels(values: NDArray[Any]) -> NDArray[np.float32]:
    """Bytes as level / 255, float32 as it is, without a copy; (N, X)."""
    if values.dtype == np.uint8:
        return np.divide(values, 255, dtype=np.float32)
    return values.astype(np.float32, copy=False)


def on_from_half(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 for each level from one half on, 0 for the others, NaN for what is missing; (N, X)."""
    on, gaps = (levels >= 0.5).astype(np.float32), gaps_of(levels)
    if gaps is not None:
        on[gaps] = np.nan
    return on
