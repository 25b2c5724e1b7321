"""The order in which training numbers the rows of a table. It depends on the rows and not on their order in the table.

Minibatches and noise depend on the number of a row. With this order a table that is sorted in another way, or has another
type, gives the same model bit for bit. A table in other units gives the same model up to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.models.count_rows import CountRows
from vaefast.models.noise import row_keys
from vaefast.tables.counting import AnyTable

# Number of columns, among those that vary, by which rows are sorted. A hash sorts rows that are equal in all of these.
COLUMNS = 64


def row_order(X: AnyTable, told: NDArray[Any] | None = None) -> NDArray[np.int64]:
    """The rows of X, (N, X), sorted by the first column, equal ones by the second, and so on: int64 (N,).

    Equal rows are sorted by what else is known of them, `told`, (N, C), and may be in any order if that is equal, too. Rows
    of counts are sorted by a hash, which needs no look at their zeros.
    """
    told = np.empty((len(X), 0)) if told is None else told
    if isinstance(X, CountRows):
        return X.order(told)
    order = np.argsort(X[:, 0], kind="stable")
    # The group of equal rows of each place, given by the place of its first row.
    group = _groups(X[order, 0], np.zeros(len(X), np.int64), np.arange(len(X)))
    used = 1
    for column in range(1, X.shape[1]):
        tied = _tied(group)
        if not tied.size:
            return order
        if used == COLUMNS:
            break
        values = X[order[tied], column]
        if (values == values[0]).all() or (values != values).all():
            continue
        used += 1
        sort = np.lexsort((values, group[tied]))
        order[tied] = order[tied[sort]]
        group[tied] = _groups(values[sort], group[tied], tied)
    tied = _tied(group)
    keys = row_keys(np.ascontiguousarray(X[order[tied]], np.float32)) if tied.size else tied
    order[tied] = order[tied[np.lexsort((*told[order[tied]].T, keys, group[tied]))]]
    return order


def _tied(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places whose group has more than one row."""
    begins = np.concatenate(([True], group[1:] != group[:-1], [True]))
    return np.flatnonzero(~(begins[:-1] & begins[1:]))


def _groups(values: NDArray[Any], group: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups, (n,), split where the sorted values in them differ."""
    before, after = values[:-1], values[1:]
    # Missing values, NaN, are the last in their group, and are alike.
    differs = (after != before) & ((after == after) | (before == before))
    begins = np.concatenate(([True], differs | (group[1:] != group[:-1])))
    return places[np.maximum.accumulate(np.where(begins, np.arange(len(values)), 0))]
