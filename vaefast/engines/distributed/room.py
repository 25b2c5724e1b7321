"""An array of a rank's own values, with room behind them for those of its guests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Room for the lists of guests, relative to the same number of average rows.
RESERVE = 1.3


class Room:
    """`own` values, which whoever makes it writes, and room for so many of guests; it grows where they need more."""

    def __init__(self, own: int, guests: int, dtype: Any) -> None:
        self._size, self._all = own, np.empty(own + guests, dtype)

    @property
    def own(self) -> NDArray[Any]:
        return self._all[: self._size]

    def welcome(self, guests: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The own values and these behind them, in the place of the guests that were there."""
        end = self._size + sum(len(some) for some in guests)
        if end > len(self._all):
            self._all = np.concatenate([self._all, np.empty(end - len(self._all), self._all.dtype)])
        at = self._size
        for some in guests:
            self._all[at : at + len(some)] = some
            at += len(some)
        return self._all[:end]


def filled_with(own: NDArray[Any], guests: int) -> Room:
    """Room behind a copy of these values."""
    room = Room(len(own), guests, own.dtype)
    room.own[:] = own
    return room


def listed(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of lists that begin there, (N + 1,): the lengths of these, (n,), and the places of their entries."""
    first, lengths = starts[rows], starts[rows + 1] - starts[rows]
    return lengths, np.repeat(first - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())


def reserved(rows: int, entries: int, all_rows: int) -> int:
    """Entries to keep free for the lists of so many guests, if `all_rows` have `entries`."""
    return int(rows * RESERVE * entries / max(1, all_rows))
