"""Rows of any form that a rank holds, with what the networks are told of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.distributed.delivery import filled
from vaefast.engines.distributed.held import Held
from vaefast.engines.distributed.room import Room
from vaefast.engines.numba_cpu.engine import Placed


class SentTold(NamedTuple):
    """Rows that are sent to another rank with their covariates."""

    rows: Any
    covariates: NDArray[np.float32]  # (n * C,)


class WithCovariates:
    """See `held.Held`: rows of another form, and `width` covariates of each, which come in pieces, (k, width).

    `room` is the largest number of guests.
    """

    def __init__(self, rows: Held, width: int, pieces: Iterator[NDArray[np.float32]], room: int) -> None:
        self._rows, self.size, self._width = rows, rows.size, width
        self._covariates = Room(rows.size * width, room * width, np.float32)
        filled(self._covariates.own.reshape(rows.size, width), pieces)
        self.placed = self._view(self._covariates.own)

    def take(self, rows: NDArray[np.int64]) -> SentTold:
        covariates = self._covariates.own.reshape(self.size, self._width)[rows]
        return SentTold(self._rows.take(rows), covariates.reshape(-1))

    def welcome(self, guests: list[SentTold]) -> None:
        rows, covariates = zip(*guests, strict=True)
        self._rows.welcome(list(rows))
        self.placed = self._view(self._covariates.welcome(covariates))

    def _view(self, covariates: NDArray[np.float32]) -> Placed:
        return self._rows.placed._replace(covariates=covariates.reshape(-1, self._width))
