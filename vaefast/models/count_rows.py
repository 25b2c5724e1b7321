"""A table of whole counts as lists of what is not zero: how every engine gets counts, whatever they came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaefast.models.conditions import parted
from vaefast.models.noise import WORD_BITS, Purpose, row_keys, words
from vaefast.models.special import log_gamma

# Entries that are worked on in one go, so that no temporary is as large as the table.
PIECE = 1 << 18
BYTE = 255
SHORT = 2**16 - 1
NARROW = 2**16
# float32 holds every whole number up to here.
LARGEST_COUNT = 1 << 24


@dataclass(frozen=True, eq=False)
class CountRows:
    """N rows of X columns; a count takes 3 bytes in narrow tables of counts up to 255, at most 8 in any other.

    Parameters
    ----------
    starts
        Where the entries of each row begin, and the end, int64 (N + 1,).
    columns
        Of the entries, ascending in each row: uint16, or uint32 where the table is wider than 65,536.
    values
        Of the entries, above 0: uint8, uint16 where a count is larger than 255, or float32 where one is larger than 65,535.
    width
        Number of columns X.
    sizes
        What the rates of each row add up to, (N,), above 0; the total of the row where it is None.
    """

    starts: NDArray[np.int64]
    columns: NDArray[np.uint16 | np.uint32]
    values: NDArray[np.uint8 | np.uint16 | np.float32]
    width: int
    sizes: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Count the rows: N."""
        return len(self.starts) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    @property
    def largest(self) -> int:
        """The largest count; 0 where there is none."""
        return int(self.values.max(initial=0))

    @property
    def longest(self) -> int:
        """The most entries of a row."""
        return int(np.diff(self.starts).max(initial=0))

    @classmethod
    def of(cls, table: Any) -> CountRows:
        """Rows of a table, (N, X): a NumPy array, or a matrix or array of scipy.sparse in any format.

        Duplicate entries of a sparse table add up, as they do for scipy. The table stays as it is. Whoever brings it has
        checked that its numbers are whole and not negative.
        """
        if isinstance(table, CountRows):
            return table
        if isinstance(table, np.ndarray):
            return cls._of_dense(table)
        return cls.looking_at(table).packed()

    @classmethod
    def looking_at(cls, table: Any) -> CountRows:
        """Rows of a matrix or array of scipy.sparse, in its own arrays where it is a canonical CSR, until `take` or `packed`
        makes others: training packs the rows in its order, and so holds one copy of them."""
        matrix = table.tocsr()
        if not matrix.has_canonical_format or np.any(matrix.data == 0):
            matrix = matrix.copy() if matrix is table else matrix
            matrix.sum_duplicates()
            matrix.eliminate_zeros()
        return cls(matrix.indptr.astype(np.int64), matrix.indices, matrix.data, int(matrix.shape[1]))

    def packed(self) -> CountRows:
        """The same in the types that the class describes; itself where it has them."""
        if self._is_packed:
            return self
        columns, values = self.packed_types()
        return replace(self, columns=self.columns.astype(columns), values=self.values.astype(values))

    def packed_types(self) -> tuple[Any, Any]:
        """Those of the columns and of the values in `packed`."""
        if self._is_packed:
            return self.columns.dtype, self.values.dtype
        return index_type(self.width), value_type(self.values)

    @property
    def _is_packed(self) -> bool:
        return self.columns.dtype == index_type(self.width) and self.values.dtype in (np.uint8, np.uint16, np.float32)

    @classmethod
    def _of_dense(cls, table: NDArray[Any]) -> CountRows:
        starts = np.zeros(len(table) + 1, np.int64)
        np.cumsum(np.count_nonzero(table, axis=1), out=starts[1:])
        columns = np.empty(starts[-1], index_type(table.shape[1]))
        values = np.empty(starts[-1], value_type(table))
        rows = max(1, PIECE // table.shape[1])
        for first in range(0, len(table), rows):
            block = table[first : first + rows]
            place, entries = np.nonzero(block), slice(starts[first], starts[first + len(block)])
            columns[entries], values[entries] = place[1], block[place]
        return cls(starts, columns, values, table.shape[1])

    def take(self, rows: ArrayLike | slice) -> CountRows:
        """These rows, (n,), in this order; a slice of neighbours is a view."""
        chosen = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64, copy=False)
        lengths, sizes = np.diff(self.starts)[chosen], None if self.sizes is None else self.sizes[chosen]
        starts = np.zeros(len(chosen) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        if len(chosen) and np.array_equal(chosen, np.arange(chosen[0], chosen[0] + len(chosen))):
            own = slice(self.starts[chosen[0]], self.starts[chosen[0]] + starts[-1])
            return CountRows(starts, self.columns[own], self.values[own], self.width, sizes)
        kept: Any = self.values.dtype if self._is_packed else value_type(self.values)
        columns, values = np.empty(starts[-1], index_type(self.width)), np.empty(starts[-1], kept)
        step = max(1, PIECE // max(1, int(lengths.max(initial=1))))
        for first in range(0, len(chosen), step):
            last = min(first + step, len(chosen))
            shift = np.repeat(self.starts[chosen[first:last]] - starts[first:last], lengths[first:last])
            entries = shift + np.arange(starts[first], starts[last])
            columns[starts[first] : starts[last]] = self.columns[entries]
            values[starts[first] : starts[last]] = self.values[entries]
        return CountRows(starts, columns, values, self.width, sizes)

    def __getitem__(self, rows: ArrayLike | slice) -> CountRows:
        """`take`."""
        return self.take(rows)

    def only(self, columns: ArrayLike) -> CountRows:
        """The table with these columns, (x,), no two the same, in this order."""
        chosen = np.asarray(columns)
        place = np.full(self.width, -1)
        place[chosen] = np.arange(len(chosen))
        starts, narrowed, values = np.zeros(len(self) + 1, np.int64), [], []
        for first, last in self._pieces():
            own = slice(self.starts[first], self.starts[last])
            new = place[self.columns[own]]
            rows = np.repeat(np.arange(first, last), np.diff(self.starts[first : last + 1]))
            kept = np.flatnonzero(new >= 0)
            kept = kept[np.lexsort((new[kept], rows[kept]))]
            starts[first + 1 : last + 1] = np.bincount(rows[kept] - first, minlength=last - first)
            narrowed.append(new[kept].astype(index_type(len(chosen))))
            values.append(self.values[own][kept])
        np.cumsum(starts, out=starts)
        taken: NDArray[Any] = np.concatenate(values)
        taken = taken.astype(value_type(taken), copy=False)
        return CountRows(starts, np.concatenate(narrowed), taken, len(chosen), self.sizes)

    @classmethod
    def joined(cls, parts: Sequence[CountRows]) -> CountRows:
        """The rows of all parts, (n, X) each and at least one of them, without sizes of their own."""
        if len(parts) == 1:
            return parts[0]
        starts = np.concatenate([[0], *(np.diff(part.starts) for part in parts)]).cumsum()
        columns = np.concatenate([part.columns for part in parts])
        # Types together are the widest of them.
        return cls(starts, columns, np.concatenate([part.values for part in parts]), parts[0].width)

    def dense(self, dtype: Any = np.float32, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The table itself, (N, X), in `out` if it is given."""
        out = np.empty(self.shape, dtype) if out is None else out
        out[...] = 0
        out[np.repeat(np.arange(len(self)), np.diff(self.starts)), self.columns] = self.values
        return out

    def totals(self) -> NDArray[np.float64]:
        """The sum of each row, (N,); whole numbers, so no order changes a bit below 2^53."""
        totals = np.zeros(len(self))
        for first, last in self._pieces():
            own = slice(self.starts[first], self.starts[last])
            starts = self.starts[first : last + 1] - self.starts[first]
            totals[first:last] = _segment_sums(self.values[own].astype(np.float64), starts)
        return totals

    def row_sizes(self) -> NDArray[np.float64]:
        """What the rates of each row add up to, (N,)."""
        return self.totals() if self.sizes is None else self.sizes

    def column_totals(self) -> NDArray[np.float64]:
        """The sum of each column, (X,)."""
        total = np.zeros(self.width)
        for first in range(0, len(self.values), PIECE):
            some = slice(first, first + PIECE)
            total += np.bincount(self.columns[some], self.values[some].astype(np.float64), self.width)
        return total

    def keys(self) -> NDArray[np.int64]:
        """`noise.row_keys` of the rows as float32 numbers, (N,): zeros add nothing to them."""
        return (self._hashes() >> WORD_BITS).astype(np.int64)

    def order(self, told: NDArray[Any]) -> NDArray[np.int64]:
        """An order of the rows that depends on what they hold, not on the order in which they came: int64 (N,).

        By a hash of 64 bits: of a million different rows two share one with a probability of 3e-8. Equal rows are sorted by
        what else is known of them: their size, and `told`, (N, C).
        """
        sizes = () if self.sizes is None else (self.sizes,)
        return np.lexsort((*told.T, *sizes, self._hashes()))

    def _hashes(self) -> NDArray[np.uint64]:
        pair = words(0, Purpose.ROW_KEYS, 0, np.arange(self.width), 2).astype(np.uint64)
        multipliers = pair[:, 0] << WORD_BITS | pair[:, 1]
        hashes = np.empty(len(self), np.uint64)
        for first, last in self._pieces():
            own = slice(self.starts[first], self.starts[last])
            bits = self.values[own].astype(np.float32).view(np.uint32).astype(np.uint64)
            products = bits * multipliers[self.columns[own]]
            hashes[first:last] = _segment_sums(products, self.starts[first : last + 1] - self.starts[first])
        return hashes

    def constants(self, sizes: NDArray[np.float64], likelihood: str) -> NDArray[np.float64]:
        """What of log p(x | z) does not depend on z, nats, of each row (46), (50), (51); sizes, (N,): of their rates."""
        factorials, totals = np.zeros(len(self)), self.totals()
        small = log_gamma(np.arange(BYTE + 2) + 1.0)
        for first, last in self._pieces():
            own = slice(self.starts[first], self.starts[last])
            values = self.values[own]
            logs = small[values] if values.dtype == np.uint8 else log_gamma(values.astype(np.float64) + 1.0)
            factorials[first:last] = _segment_sums(logs, self.starts[first : last + 1] - self.starts[first])
        if likelihood == "multinomial":
            return np.asarray(log_gamma(totals + 1.0) - factorials)
        known = totals * np.log(np.where(sizes > 0, sizes, 1.0)) - sizes if likelihood == "poisson" else 0.0
        return known - factorials

    def _pieces(self) -> list[tuple[int, int]]:
        """Runs of rows (first, last) that hold about `PIECE` entries each."""
        bounds = np.searchsorted(self.starts, np.arange(0, self.starts[-1] + PIECE, PIECE), side="left")
        bounds = np.unique(np.clip(np.append(bounds, len(self)), 0, len(self)))
        return [*zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]


def _segment_sums(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[Any]:
    """The sum of values[starts[i] : starts[i + 1]] for each i, in the type of the values; an empty run is 0."""
    sums = np.zeros(len(starts) - 1, values.dtype)
    full = np.flatnonzero(np.diff(starts))
    if full.size:
        sums[full] = np.add.reduceat(values, starts[full])
    return sums


def index_type(width: int) -> type[np.uint16] | type[np.uint32]:
    """The type in which the columns of a table of this width are kept."""
    return np.uint16 if width <= NARROW else np.uint32


def value_type(values: NDArray[Any]) -> type[np.uint8] | type[np.uint16] | type[np.float32]:
    """The type in which these counts are kept."""
    largest = float(values.max(initial=0))
    return np.uint8 if largest <= BYTE else np.uint16 if largest <= SHORT else np.float32


def first_wrong(values: NDArray[Any]) -> Any:
    """Where a value is that is no count; None where all are."""
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        return None
    is_real = values.dtype.kind == "f"
    # float16 and 16-bit integers hold no larger number, and cannot be compared with one.
    can_be_large = float(np.finfo(values.dtype).max) > LARGEST_COUNT if is_real else values.dtype.itemsize > 2
    with np.errstate(invalid="ignore"):
        right = values >= 0
        if can_be_large:
            right &= values <= LARGEST_COUNT
        if is_real:
            right &= values == np.floor(values)
    return None if right.all() else np.unravel_index(int(np.argmin(right)), values.shape)


def keys_of(values: Any) -> NDArray[np.int64]:
    """The number under which evaluation draws the noise of each row, (N,), of counts or of anything else."""
    values, _ = parted(values)
    return values.keys() if isinstance(values, CountRows) else row_keys(values)
