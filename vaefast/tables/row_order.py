"""The order in which training numbers the rows of a table: a function of the rows, not of the order in which they came.

Minibatches and noise go by a row's number. With this one, the same table sorted in another way, or held in another type, gives
the same model bit for bit; and so, up to rounding, does one in other units, which change no order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.models.count_rows import CountRows
from vaefast.models.noise import row_keys
from vaefast.tables.counting import AnyTable

# Columns by which rows are told apart, those in which they differ at all; rows alike in so many are told apart by a hash.
COLUMNS = 64


def row_order(X: AnyTable) -> NDArray[np.int64]:
    """The rows of X, (N, X), sorted by the first column, equal ones by the second, and so on: int64 (N,).

    Rows that are equal may stand in any order. Rows of counts are sorted by a hash, which needs no look at their zeros.
    """
    if isinstance(X, CountRows):
        return X.order()
    order = np.argsort(X[:, 0], kind="stable")
    # Which group of equal rows each place belongs to: the place of the group's first row.
    group = _groups(X[order, 0], np.zeros(len(X), np.int64), np.arange(len(X)))
    used = 1
    for column in range(1, X.shape[1]):
        tied = _tied(group)
        if not tied.size:
            return order
        if used == COLUMNS:
            break
        values = X[order[tied], column]
        if (values == values[0]).all():
            continue
        used += 1
        sort = np.lexsort((values, group[tied]))
        order[tied] = order[tied[sort]]
        group[tied] = _groups(values[sort], group[tied], tied)
    tied = _tied(group)
    keys = row_keys(np.ascontiguousarray(X[order[tied]], np.float32)) if tied.size else tied
    order[tied] = order[tied[np.lexsort((keys, group[tied]))]]
    return order


def _tied(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places whose group has more than one row."""
    begins = np.concatenate(([True], group[1:] != group[:-1], [True]))
    return np.flatnonzero(~(begins[:-1] & begins[1:]))


def _groups(values: NDArray[Any], group: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups, (n,), split further where the sorted values in them differ."""
    begins = np.concatenate(([True], (values[1:] != values[:-1]) | (group[1:] != group[:-1])))
    return places[np.maximum.accumulate(np.where(begins, np.arange(len(values)), 0))]
