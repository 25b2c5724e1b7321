"""Where a rank's rows of counts come from: the leader sends them, or each rank reads its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.distributed.delivery import CountsInMemory, bounds, delivered, filled
from vaefast.engines.distributed.ranks import Ranks
from vaefast.models.count_rows import CountRows, index_type, value_type


class CountPart(NamedTuple):
    """A rank's part of N rows of counts, before it has the memory for their entries."""

    shape: tuple[int, int]  # (N, X) of the whole
    entries: int  # of the whole
    longest: int  # entries of a row of the whole
    columns: Any  # type of the entries' columns
    values: Any  # and of their counts
    starts: NDArray[np.int64]  # of the own rows, (n + 1,)
    sizes: NDArray[np.float64] | None  # of the own rows, (n,), if rows have sizes of their own
    write: Callable[[NDArray[Any], NDArray[Any]], None]  # the own columns and counts, once


def sent_counts(ranks: Ranks, source: CountsInMemory, rows: CountRows | None) -> CountPart:
    """This rank's part of rows that the leader has."""
    begin = bounds(source.shape[0], ranks.size)
    own = int(begin[ranks.rank + 1] - begin[ranks.rank])
    starts = np.zeros(own + 1, np.int64)
    lengths = None if rows is None else np.diff(rows.starts)
    filled(starts[1:], delivered(ranks, lengths, begin, np.int64)).cumsum(out=starts[1:])
    entries = np.empty_like(begin) if rows is None else rows.starts[begin]
    ranks.broadcast(entries)
    sizes = None
    if source.sized:
        sizes = filled(np.empty(own), delivered(ranks, None if rows is None else rows.sizes, begin, np.float64))

    def write(columns: NDArray[Any], values: NDArray[Any]) -> None:
        filled(columns, delivered(ranks, None if rows is None else rows.columns, entries, columns.dtype))
        filled(values, delivered(ranks, None if rows is None else rows.values, entries, values.dtype))

    about = source.shape, int(entries[-1]), source.longest, source.columns, source.values
    return CountPart(*about, starts, sizes, write)


def read_counts(ranks: Ranks, shape: tuple[int, int], blocks: Callable[[], Iterator[NDArray[Any]]]) -> CountPart:
    """This rank's part of rows that it reads itself: whole counts in blocks, (k, X), the same at each call."""
    lengths, largest = [np.zeros(1, np.int64)], 0.0
    for block in blocks():
        lengths.append(np.count_nonzero(block, axis=1))
        largest = max(largest, float(block.max(initial=0)))
    starts = np.concatenate(lengths).cumsum()
    longest, largest = ranks.largest((int(np.diff(starts).max(initial=0)), largest))

    def write(columns: NDArray[Any], values: NDArray[Any]) -> None:
        first = 0
        for block in blocks():
            rows = CountRows.of(block)
            entries = slice(first, first + len(rows.values))
            columns[entries], values[entries] = rows.columns, rows.values
            first += len(rows.values)

    types = index_type(shape[1]), value_type(np.array([largest]))
    return CountPart(shape, ranks.total(int(starts[-1])), int(longest), *types, starts, None, write)
