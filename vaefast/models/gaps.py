"""Missing values: NaN stands for each, in arrays of float and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.models.conditions import parted

# Values that are looked at in one go, so that no temporary is as large as the table.
PIECE = 1 << 18


def gaps_of(block: Any) -> NDArray[np.bool_] | None:
    """Which values of a block, (n, X), are missing, (n, X); None where none is, as in every array that is not one of float."""
    if not isinstance(block, np.ndarray) or block.dtype.kind != "f":
        return None
    # A sum needs no temporary array. It is NaN where a term is, and where two are infinite, of either sign.
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isnan(block.sum()):
            return None
    gaps = np.isnan(block)
    return gaps if gaps.any() else None


def rows_with_gaps(values: Any) -> NDArray[np.bool_] | None:
    """Which rows of values, (N, X), with or without covariates, miss one, (N,); None where none does."""
    values, _ = parted(values)
    found = None
    step = max(1, PIECE // max(1, values.shape[1]))
    for start in range(0, len(values), step) if isinstance(values, np.ndarray) and values.dtype.kind == "f" else ():
        gaps = gaps_of(values[start : start + step])
        if gaps is not None:
            found = np.zeros(len(values), bool) if found is None else found
            found[start : start + step] = gaps.any(axis=1)
    return found
