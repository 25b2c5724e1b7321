"""How rows that the leader holds reach the ranks: what a set is, in a few words, and the part of each rank, in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.distributed.ranks import Ranks
from vaefast.engines.distributed.shares import part
from vaefast.models.count_rows import CountRows
from vaefast.models.settings import ModelSettings

# Bytes of rows that are sent, copied or read at once. The last piece is still held while the next is read.
PIECE_BYTES = 1 << 22


@runtime_checkable
class Source(Protocol):
    """Images that are not in the leader's memory: every rank reads its own part of them."""

    shape: tuple[int, int]
    dtype: Any

    def blocks(self, first: int, last: int, rows: int) -> Iterator[NDArray[Any]]:
        """Images first to last - 1, (n, X), in blocks of this many rows."""


class InMemory(NamedTuple):
    """Images, or rows of a table, that the leader holds and sends to the others."""

    shape: tuple[int, int]
    dtype: Any  # in which they are sent


class CountsInMemory(NamedTuple):
    """The same of rows of counts. All ranks keep them in the types of the whole, so that any may be the guest of another."""

    shape: tuple[int, int]
    columns: Any  # type of the entries' columns
    values: Any  # and of their counts
    longest: int  # entries of a row
    sized: bool  # whether rows have sizes of their own


def described(rows: Any, model: ModelSettings) -> tuple[Source | InMemory | CountsInMemory, Any]:
    """What every rank is told of rows without their covariates, and the rows as they are sent; None for a `Source`."""
    if isinstance(rows, Source):
        return rows, None
    if model.counts:
        counts = CountRows.of(rows)
        return CountsInMemory(counts.shape, *counts.packed_types(), counts.longest, counts.sizes is not None), counts
    return InMemory((rows.shape[0], rows.shape[1]), np.uint8 if rows.dtype == np.uint8 else np.float32), rows


def bounds(size: int, ranks: int) -> NDArray[np.int64]:
    """Where each rank's part of `size` rows begins, and the end: (ranks + 1,)."""
    return np.array([*(part(size, rank, ranks)[0] for rank in range(ranks)), size], np.int64)


def rows_at_once(shape: tuple[int, ...], dtype: Any) -> int:
    """Rows of this shape that make a piece."""
    return max(1, PIECE_BYTES // max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize))


def delivered(
    ranks: Ranks, whole: NDArray[Any] | None, begin: NDArray[np.int64], dtype: Any, shape: tuple[int, ...] = ()
) -> Iterator[NDArray[Any]]:
    """This rank's part of an array, (n, *shape), in pieces. Every rank must take them all.

    Parameters
    ----------
    whole
        The array, (N, *shape), on the leader, which sends the others their parts before it takes its own; else None.
    begin
        Where each rank's part begins, and the end, (ranks + 1,).
    """
    if whole is not None:
        hand_out(ranks, whole, begin, dtype, shape)
    for start, end in _pieces(begin, ranks.rank, dtype, shape):
        if whole is None:
            piece = np.empty((end - start, *shape), dtype)
            ranks.receive(piece)
            yield piece
        else:
            yield np.ascontiguousarray(whole[start:end], dtype)


def hand_out(ranks: Ranks, whole: NDArray[Any], begin: NDArray[np.int64], dtype: Any, shape: tuple[int, ...] = ()) -> None:
    """On the leader: send every other rank its part, as `delivered` takes it."""
    for rank in range(1, ranks.size):
        for start, end in _pieces(begin, rank, dtype, shape):
            ranks.send(np.ascontiguousarray(whole[start:end], dtype), rank)


def filled(out: NDArray[Any], pieces: Iterator[NDArray[Any]]) -> NDArray[Any]:
    """`out`, with the pieces in it, one after the other."""
    at = 0
    for piece in pieces:
        out[at : at + len(piece)] = piece
        at += len(piece)
    return out


def _pieces(begin: NDArray[np.int64], rank: int, dtype: Any, shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """The pieces of a rank's part: the first row of each, and the one after its last."""
    step, last = rows_at_once(shape, dtype), int(begin[rank + 1])
    return ((start, min(start + step, last)) for start in range(int(begin[rank]), last, step))
