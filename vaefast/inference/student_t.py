"""log p of a Student-t in float32 for millions of samples: `models.blocks` is the specification, this has fewer logarithms.

A number in parentheses is an equation of DERIVATION.md, section 14. Everything is in nats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaefast.models.blocks import SMALLEST_FREEDOM, SMALLEST_SCALE

Array = NDArray[np.float32]


def student_t_sums(x: Array, outputs: Array) -> NDArray[np.float64]:
    """The sum over J columns of log p(x_j | z) of one row x, (J,), for each of n outputs a, b and c, (n, 3 J): (n,) (63)."""
    count = len(x)
    a, b, c = (outputs[:, first : first + count] for first in (0, count, 2 * count))
    s, nu = _softplus(b), _softplus(c)
    s += np.float32(SMALLEST_SCALE)
    nu += np.float32(SMALLEST_FREEDOM)
    half = nu * np.float32(0.5)
    # log Gamma((nu + 1) / 2) - log Gamma(nu / 2), its argument raised by 4: the factors that this leaves out, and a series.
    left_out = half / (half + np.float32(0.5))
    for i in range(1, 4):
        left_out *= (half + np.float32(i)) / (half + np.float32(i + 0.5))
    y = half + np.float32(4)
    inverse = np.reciprocal(y)
    square = inverse * inverse
    terms = inverse * (np.float32(-1 / 8) + square * (np.float32(1 / 192) - square * np.float32(1 / 640)))
    # Half the logarithm of y / (pi nu), that of the factors, and that of 1 / s in one.
    left_out *= np.sqrt(y / (np.float32(np.pi) * nu))
    left_out /= s
    terms += np.log(left_out)
    r = (x - a) / s
    r *= r
    r /= nu
    r += np.float32(1)
    terms -= (half + np.float32(0.5)) * np.log(r)
    return np.asarray(terms.sum(axis=1, dtype=np.float64))


def _softplus(a: Array) -> Array:
    """log(1 + exp(a)). A small scale needs all digits of it, so the logarithm is not that of a sum."""
    soft = np.log1p(np.exp(-np.abs(a)))
    soft += np.maximum(a, np.float32(0))
    return soft
