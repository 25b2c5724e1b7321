"""The order in which training numbers the rows of a table: a function of the rows, not of the order in which they came.

Minibatches and noise go by a row's number. With this one, the same table sorted in another way, or held in another type, gives
the same model bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast import noise
from vaefast.noise import Purpose

# Values whose keys are computed in one go: the temporaries stay in a cache.
BLOCK = 1 << 16
HALF_WORD, LOW_WORD = np.uint64(32), np.uint64(0xFFFFFFFF)


def row_order(X: NDArray[Any]) -> NDArray[np.int64]:
    """The rows of X, (N, X), in an order that depends on their values alone: int64 (N,).

    Rows are sorted by a 64-bit hash of their values as float64, the multilinear one of `noise.row_keys`. Different rows with
    equal hashes are told apart by their values; equal rows may stand in any order.
    """
    keys = _keys(X)
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1) if same.size else ():
        places = slice(run[0], run[-1] + 2)
        rows = X[order[places]].astype(np.float64)
        if (rows != rows[0]).any():
            order[places] = order[places][np.lexsort(rows.T)]
    return order


def _keys(X: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of each row, (N,)."""
    pairs = noise.words(0, Purpose.ROW_KEYS, 1, np.arange(X.shape[1]), 4).astype(np.uint64)
    high, low = (pairs[:, i] << HALF_WORD | pairs[:, i + 1] for i in (0, 2))
    keys, step = np.empty(len(X), np.uint64), max(1, BLOCK // X.shape[1])
    for start in range(0, len(X), step):
        # Minus zero becomes zero.
        bits = np.ascontiguousarray(X[start : start + step], np.float64) + 0.0
        words = bits.view(np.uint64)
        keys[start : start + step] = (words >> HALF_WORD) @ high + (words & LOW_WORD) @ low
    return keys
