"""A table in blocks of rows, so small that what is computed of one stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Values per block.
BLOCK = 1 << 18


def blocks(X: NDArray[Any]) -> Iterator[slice]:
    """The rows of X, (N, X), in blocks."""
    step = max(1, BLOCK // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))


def pieces(X: NDArray[Any], rows: NDArray[np.int64] | None) -> Iterator[tuple[slice, NDArray[Any]]]:
    """These rows of X, or all, in blocks, with the place of each block."""
    if rows is None:
        yield from ((part, X[part]) for part in blocks(X))
        return
    step = max(1, BLOCK // max(1, X.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        yield part, X[rows[part]]
