"""How a rank takes its part of a set: which form it holds it in, and where its rows come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.distributed.count_parts import read_counts, sent_counts
from vaefast.engines.distributed.delivery import (
    CountsInMemory,
    InMemory,
    Source,
    bounds,
    delivered,
    filled,
    hand_out,
    rows_at_once,
)
from vaefast.engines.distributed.held import Held
from vaefast.engines.distributed.held_counts import HeldCounts
from vaefast.engines.distributed.held_covariates import WithCovariates
from vaefast.engines.distributed.held_images import HeldImages
from vaefast.engines.distributed.held_tables import HeldTable
from vaefast.engines.distributed.ranks import Ranks
from vaefast.models.settings import ModelSettings


def placed_part(ranks: Ranks, model: ModelSettings, source: Source | InMemory | CountsInMemory, rows: Any, room: int) -> Held:
    """This rank's part of a set, in the form that the model takes; only the leader has the rows that are in memory."""
    if isinstance(source, CountsInMemory):
        return HeldCounts(sent_counts(ranks, source, rows), model, room)
    width, begin = source.shape[1], bounds(source.shape[0], ranks.size)
    size = int(begin[ranks.rank + 1] - begin[ranks.rank])
    if model.in_blocks:
        return HeldTable(_once(ranks, source, rows, begin), size, width, room)
    blocks = _again_and_again(ranks, source, rows, begin)
    if model.counts:
        return HeldCounts(read_counts(ranks, source.shape, blocks), model, room)
    return HeldImages(blocks, size, width, source.dtype, room, ranks.total, may_list=not model.encode_covariates)


def with_covariates(
    ranks: Ranks, held: Held, size: int, told: int, covariates: NDArray[Any] | None, room: int
) -> WithCovariates:
    """The part of a set of `size` rows that `held` is, with its part of their covariates, (size, told) on the leader."""
    pieces = delivered(ranks, covariates, bounds(size, ranks.size), np.float32, (told,))
    return WithCovariates(held, told, pieces, room)


def _once(ranks: Ranks, source: Source | InMemory, rows: Any, begin: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
    """The rows of this rank in blocks."""
    if isinstance(source, InMemory):
        return delivered(ranks, rows, begin, source.dtype, source.shape[1:])
    return source.blocks(*_own(ranks, begin), rows_at_once(source.shape[1:], source.dtype))


def _again_and_again(
    ranks: Ranks, source: Source | InMemory, rows: Any, begin: NDArray[np.int64]
) -> Callable[[], Iterator[NDArray[Any]]]:
    """The same at each call."""
    (first, last), width, dtype = _own(ranks, begin), source.shape[1:], source.dtype
    step = rows_at_once(width, dtype)
    if not isinstance(source, InMemory):
        return lambda: source.blocks(first, last, step)
    if rows is None:
        own = filled(np.empty((last - first, *width), dtype), delivered(ranks, rows, begin, dtype, width))
    else:
        hand_out(ranks, rows, begin, dtype, width)
        own = rows[first:last]
    return lambda: (np.ascontiguousarray(own[start : start + step], dtype) for start in range(0, len(own), step))


def _own(ranks: Ranks, begin: NDArray[np.int64]) -> tuple[int, int]:
    """The first row of this rank, and the one after its last."""
    return int(begin[ranks.rank]), int(begin[ranks.rank + 1])
