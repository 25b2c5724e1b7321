"""bfloat16: float32 with 8 bits of mantissa in place of 24, which `precision="bf16"` rounds the factors of products to.

Source: Intel, *BFLOAT16 - Hardware Numerics Definition* (2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# What a float has below the last bit of bfloat16, and the unsigned integer of its size.
DROPPED: dict[Any, tuple[int, type[np.unsignedinteger[Any]]]] = {
    np.dtype(np.float32): (16, np.uint32),
    np.dtype(np.float64): (45, np.uint64),
}


def rounded(values: NDArray[Any]) -> NDArray[Any]:
    """The nearest numbers of 8 bits of mantissa, of two the even one (73), in the type of the values, float32 or float64.

    NaN and infinity stay. Exponents are those of the values' type: what is past the largest bfloat16, 3.39e38, becomes
    infinity in float32, and stays finite in float64. Numbers below 2^-126, which processors take for zero, are rounded like
    all others.
    """
    dropped, words = DROPPED[values.dtype]
    bits = np.ascontiguousarray(values).view(words).reshape(values.shape)
    half, one = words((1 << (dropped - 1)) - 1), words(1)
    # A carry out of the mantissa raises the exponent, as it should. Of a NaN it could make a zero.
    nearest = (bits + half + ((bits >> words(dropped)) & one)) >> words(dropped) << words(dropped)
    return np.where(np.isnan(values), values, nearest.view(values.dtype))
