"""Numbers that stand for a missing value, such as -999.9, found in columns of any type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.csvfields import is_number, number_in


def numbers_among(missing: Sequence[str]) -> list[float]:
    """The numbers among what may stand for a missing value."""
    return [number_in(text) for text in missing if is_number(text)]


def gaps_in(values: NDArray[Any], numbers: Sequence[float], dtype: Any = None) -> NDArray[np.bool_]:
    """Where values are one of these numbers, of their shape. `dtype` is the type they were stored in, by default their own.

    A float32 holds another number than -999.9, so numbers are rounded to its type first.
    """
    dtype = values.dtype if dtype is None else dtype
    if dtype not in ("float16", "float32"):
        return np.isin(values, [*numbers])
    given = np.asarray(numbers, np.float64)
    with np.errstate(over="ignore"):
        rounded = given.astype(dtype).astype(np.float64)
    # What is too large for the type cannot be in it; infinity, which it would become, can.
    return np.isin(values, rounded[np.isfinite(rounded) | np.isinf(given)])


def with_nan(values: NDArray[Any], numbers: Sequence[float]) -> NDArray[Any]:
    """Values with NaN in the place of these numbers; whole ones become float64 where there are any."""
    gaps = gaps_in(values, numbers) if numbers else np.zeros(0, bool)
    if not gaps.any():
        return values
    return np.where(gaps, np.nan, values.astype(values.dtype if values.dtype.kind == "f" else np.float64, copy=False))
