"""Statistics of columns: mean, standard deviation, and which columns a few values dominate. NaN is a missing value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.tables.gaps import count_gaps
from vaefast.tables.pieces import pieces

Array = NDArray[np.float64]

# At most one row in this many (but at least one row) counts as few.
ROWS_A_STRAY = 50
# A few values dominate a column if the root mean square of all distances from the median is this many times that of the other
# values. The others then come near the smallest standard deviation of a Gaussian likelihood, 0.01 in the scaled unit.
DOMINANCE = 10.0
# If few values dominate, the farthest is at least this many standard deviations from the mean: the few then have 99 % of the
# squares, and are at most one in 50.
FARTHEST = 7.0


@dataclass(frozen=True)
class Stray:
    """A column that a few values dominate."""

    column: int
    row: int  # of the farthest value, among the rows that were searched
    value: float
    mean: float  # of the other values
    spread: float  # their standard deviation


def extremes(X: NDArray[Any], rows: NDArray[np.int64] | None = None) -> tuple[Array, Array]:
    """The smallest and the largest value of each column, float64 (X,) each; NaN where all are missing."""
    ends = [_ends(block) for _, block in pieces(X, rows)]
    low, high = (np.stack(each).astype(np.float64) for each in zip(*ends, strict=True))
    return np.fmin.reduce(low), np.fmax.reduce(high)


def _ends(block: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    low, high = block.min(axis=0), block.max(axis=0)
    # `fmin` leaves NaN out, and takes three times as long.
    return (np.fmin.reduce(block), np.fmax.reduce(block)) if _has_nan(low) else (low, high)


def _has_nan(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool(np.isnan(values).any())


def moments(X: NDArray[Any], rows: NDArray[np.int64] | None = None, weights: Array | None = None) -> tuple[Array, Array]:
    """Mean and standard deviation of the values of each column, float64 (X,) each. A constant column has a deviation of 0, and
    one without values a mean of 0, too.

    Deviations are measured in units of the largest, so that no square overflows or underflows, whatever the column's unit.

    Parameters
    ----------
    rows
        Which to take, in which order; all without it.
    weights
        What each of these counts for; alike without it.
    """
    low, high = extremes(X, rows)
    low, high = np.where(np.isnan(low), 0.0, low), np.where(np.isnan(high), 0.0, high)
    middle = low / 2 + high / 2
    unit = np.maximum(high / 2 - low / 2, np.finfo(np.float64).tiny)
    total, squares, missing = np.zeros(X.shape[1]), np.zeros(X.shape[1]), np.zeros(X.shape[1])
    length = len(X) if rows is None else len(rows)
    for part, block in pieces(X, rows):
        terms, absent = _sum((block - middle) / unit, weights, part)
        total, missing = total + terms, missing + absent
    count = (length if weights is None else float(weights.sum())) - missing
    count = np.where(count > 0, count, 1.0)
    mean = total / count
    for part, block in pieces(X, rows):
        squares += _sum(np.square((block - middle) / unit - mean), weights, part)[0]
    centre, deviation = middle + mean * unit, np.sqrt(squares / count) * unit
    # Rounding gives a constant column of large numbers a tiny spread.
    constant = (low == high) | (deviation <= 10 * np.finfo(np.float64).eps * np.abs(centre))
    return np.where(low == high, low, centre), np.where(constant, 0.0, deviation)


def _sum(block: Array, weights: Array | None, part: slice) -> tuple[Array, Array | float]:
    """The weighted sum of each column of a block, (X,), and the weight of what is missing there."""
    total = block.sum(axis=0) if weights is None else weights[part] @ block
    if not np.isnan(total).any():
        return total, 0.0
    gaps = np.isnan(block)
    block = np.where(gaps, 0.0, block)
    if weights is None:
        return block.sum(axis=0), gaps.sum(axis=0, dtype=np.float64)
    return weights[part] @ block, weights[part] @ gaps


def strays(X: NDArray[Any], mean: Array, deviation: Array, rows: NDArray[np.int64] | None = None) -> list[Stray]:
    """The columns of these rows of X that a few values dominate. `mean` and `deviation` are those of the rows."""
    length = len(X) if rows is None else len(rows)
    if length < 3:
        return []
    low, high = extremes(X, rows)
    farthest = np.maximum(high - mean, mean - low)
    # None of n values is farther than sqrt(n - 1) standard deviations from the mean, which is below `FARTHEST` for 50.
    known = np.maximum(length - count_gaps(X, rows), 1)
    suspects = np.flatnonzero(farthest > np.minimum(FARTHEST, 0.95 * np.sqrt(known - 1)) * deviation)
    found = []
    for column in suspects:
        values = (X[:, column] if rows is None else X[rows, column]).astype(np.float64)
        there = np.flatnonzero(~np.isnan(values))
        stray = _stray(values[there], int(column)) if len(there) >= 3 else None
        found.append(None if stray is None else replace(stray, row=int(there[stray.row])))
    return [stray for stray in found if stray is not None]


def _stray(values: Array, column: int) -> Stray | None:
    """The values, (N,), as a `Stray` if few of them dominate the standard deviation; else None."""
    median = np.median(values)
    distance = np.abs(values - median)
    # If most values are equal, as in a column of zeros with few other numbers, only the others are compared.
    order = np.argsort(distance, kind="stable")
    compared = order[np.count_nonzero(distance == 0) :] if np.count_nonzero(distance == 0) > len(values) / 2 else order
    kept = len(compared) - max(1, len(compared) // ROWS_A_STRAY)
    if kept < 2:
        return None
    spread_of_all, spread = (_root_mean_square(distance[compared[:count]]) for count in (len(compared), kept))
    mean, others = moments(values[order[: len(order) - len(compared) + kept], None])
    # A spread of 0 is no scale. It occurs in a column of zeros and ones, and in one whose digits are too few to differ.
    if others[0] == 0 or spread_of_all <= DOMINANCE * spread:
        return None
    row = int(np.argmax(distance))
    return Stray(column, row, float(values[row]), float(mean[0]), float(others[0]))


def _root_mean_square(values: Array) -> float:
    """Root mean square of sorted values that are not negative. No square overflows or underflows."""
    largest = float(values[-1])
    return largest * float(np.sqrt(np.mean(np.square(values / largest)))) if largest > 0 else 0.0
