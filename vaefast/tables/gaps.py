"""How many values of a table are missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.models.gaps import gaps_of
from vaefast.tables.pieces import pieces


def count_gaps(X: Any, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """How many values are missing in each column of these rows of X, (N, X), or of all: (X,)."""
    counts = np.zeros(X.shape[1], np.int64)
    if isinstance(X, np.ndarray) and X.dtype.kind == "f":
        for _, block in pieces(X, rows):
            gaps = gaps_of(block)
            counts += 0 if gaps is None else np.count_nonzero(gaps, axis=0)
    return counts
