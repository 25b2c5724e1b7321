"""The rows of a table in blocks of columns that a rank holds, NaN where a value is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.distributed.room import Room
from vaefast.engines.examples import read_only_table
from vaefast.engines.images import TableRows, held_table
from vaefast.engines.numba_cpu.engine import Placed


class HeldTable:
    """See `held.Held`: `size` rows of `width` columns, which come in blocks of rows, (n, width) uint8 or float32, once."""

    def __init__(self, blocks: Iterator[NDArray[Any]], size: int, width: int, room: int) -> None:
        self.size, self._width = size, width
        self._floats, first = Room(size * width, room * width, np.float32), 0
        for block in blocks:
            self._floats.own[first : first + block.size] = held_table(block).floats
            first += block.size
        self.placed = self._view(self._floats.own)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._floats.own.reshape(self.size, self._width)[rows].reshape(-1)

    def welcome(self, guests: list[NDArray[np.float32]]) -> None:
        self.placed = self._view(self._floats.welcome(guests))

    def _view(self, floats: NDArray[np.float32]) -> Placed:
        return Placed(read_only_table(TableRows(floats)), False, self.size)
