"""The rows of counts that a rank holds, as lists of what is not zero, with what is known of each row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.distributed.count_parts import CountPart
from vaefast.engines.distributed.room import Room, filled_with, listed, reserved
from vaefast.engines.examples import read_only_lists
from vaefast.engines.images import CountLists, count_lists, images_of
from vaefast.engines.numba_cpu.engine import Placed
from vaefast.models.count_rows import CountRows
from vaefast.models.settings import ModelSettings


class SentCounts(NamedTuple):
    """Rows of counts that are sent to another rank."""

    lengths: NDArray[np.int64]  # entries of each
    columns: NDArray[Any]  # of each entry
    values: NDArray[Any]
    totals: NDArray[np.float32]  # of each row, as in `CountLists`
    sizes: NDArray[np.float32]
    constants: NDArray[np.float64]


class HeldCounts:
    """See `held.Held`: rows of counts that `part` writes. `room` is the largest number of guests."""

    def __init__(self, part: CountPart, model: ModelSettings, room: int) -> None:
        self.size, self._longest = len(part.starts) - 1, part.longest
        entries, reserve = int(part.starts[-1]), reserved(room, part.entries, part.shape[0])
        self._starts = filled_with(part.starts, room)
        self._columns, self._values = (Room(entries, reserve, dtype) for dtype in (part.columns, part.values))
        part.write(self._columns.own, self._values.own)
        own = CountRows(part.starts, self._columns.own, self._values.own, part.shape[1], part.sizes)
        lists = count_lists(own, model.likelihood, model.encoder_input)
        self._encoder_input = lists.encoder_input
        about = lists.totals, lists.sizes, lists.constants
        self._totals, self._sizes, self._constants = (filled_with(array, room) for array in about)
        self.placed = self._view(SentCounts(part.starts, *(array.own for array in self._arrays)))

    @property
    def _arrays(self) -> tuple[Room, Room, Room, Room, Room]:
        """All but the starts, in the order of `SentCounts`."""
        return self._columns, self._values, self._totals, self._sizes, self._constants

    def take(self, rows: NDArray[np.int64]) -> SentCounts:
        lengths, entries = listed(self._starts.own, rows)
        columns, values, *about = (array.own for array in self._arrays)
        return SentCounts(lengths, columns[entries], values[entries], *(array[rows] for array in about))

    def welcome(self, guests: list[SentCounts]) -> None:
        lengths, *others = zip(*guests, strict=True)
        ends = self._starts.own[-1] + np.concatenate(lengths).cumsum()
        arrays = (array.welcome(values) for array, values in zip(self._arrays, others, strict=True))
        self.placed = self._view(SentCounts(self._starts.welcome([ends]), *arrays))

    def _view(self, all_of_them: SentCounts) -> Placed:
        """Rows whose entries start at the first of these arrays."""
        starts, columns, values, totals, sizes, constants = all_of_them
        in_shorts = values.dtype == np.uint16
        images = images_of(np.empty(0, np.float32) if in_shorts else values, starts, columns)
        shorts = values if in_shorts else np.empty(0, np.uint16)
        lists = CountLists(*images, totals, sizes, constants, shorts, self._encoder_input)
        return Placed(read_only_lists(lists), True, self.size, self._longest)
