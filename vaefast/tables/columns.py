"""Statistics of columns: mean, standard deviation, and which columns a few values dominate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Values per block, so few that temporaries stay in the cache.
BLOCK = 1 << 18
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


def extremes(X: NDArray[Any], rows: NDArray[np.int64] | None = None) -> tuple[Array, Array]:
    """The smallest and the largest value of each column, float64 (X,) each."""
    ends = [(block.min(axis=0), block.max(axis=0)) for _, block in pieces(X, rows)]
    low, high = (np.stack(each).astype(np.float64) for each in zip(*ends, strict=True))
    return low.min(axis=0), high.max(axis=0)


def moments(X: NDArray[Any], rows: NDArray[np.int64] | None = None, weights: Array | None = None) -> tuple[Array, Array]:
    """Mean and standard deviation of each column, float64 (X,) each. A constant column has a deviation of 0.

    Deviations are measured in units of the largest, so that no square overflows or underflows, whatever the column's unit.

    Parameters
    ----------
    rows
        Which to take, in which order; all without it.
    weights
        What each of these counts for; alike without it.
    """
    low, high = extremes(X, rows)
    middle = low / 2 + high / 2
    unit = np.maximum(high / 2 - low / 2, np.finfo(np.float64).tiny)
    total, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    length = len(X) if rows is None else len(rows)
    count = length if weights is None else float(weights.sum())
    for part, block in pieces(X, rows):
        total += _sum((block - middle) / unit, weights, part)
    mean = total / count
    for part, block in pieces(X, rows):
        squares += _sum(np.square((block - middle) / unit - mean), weights, part)
    centre, deviation = middle + mean * unit, np.sqrt(squares / count) * unit
    # Rounding gives a constant column of large numbers a tiny spread.
    constant = (low == high) | (deviation <= 10 * np.finfo(np.float64).eps * np.abs(centre))
    return np.where(low == high, low, centre), np.where(constant, 0.0, deviation)


def _sum(block: Array, weights: Array | None, part: slice) -> Array:
    return block.sum(axis=0) if weights is None else weights[part] @ block


def strays(X: NDArray[Any], mean: Array, deviation: Array, rows: NDArray[np.int64] | None = None) -> list[Stray]:
    """The columns of these rows of X that a few values dominate. `mean` and `deviation` are those of the rows."""
    length = len(X) if rows is None else len(rows)
    if length < 3:
        return []
    low, high = extremes(X, rows)
    farthest = np.maximum(high - mean, mean - low)
    # None of n rows is farther than sqrt(n - 1) standard deviations from the mean, which is below `FARTHEST` for 50.
    suspects = np.flatnonzero(farthest > min(FARTHEST, 0.95 * np.sqrt(length - 1)) * deviation)
    found = []
    for column in suspects:
        values = X[:, column] if rows is None else X[rows, column]
        found.append(_stray(values.astype(np.float64), int(column)))
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
