"""The rows that a rank holds, in the form that the kernels read. Each form has a file of its own.

There is room for *guests*: rows of other ranks that this rank trains on in some minibatches, so that shares are equal."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.engine import Placed


class Held(Protocol):
    """A rank's part of a set of rows."""

    size: int  # own rows
    placed: Placed  # for the kernels: the own rows, and the guests behind them

    def take(self, rows: NDArray[np.int64]) -> Any:
        """Copies of the own rows at these places, (n,), as they are sent to another rank."""

    def welcome(self, guests: list[Any]) -> None:
        """Put what other ranks took for this one behind the own rows, in the place of the guests that were there."""
