"""Sets of images on the device: the non-zero pixels of each, ascending, with their levels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numpy.typing import NDArray

# Images whose non-zero pixels are looked for at a time.
ROWS = 2048


class Placed(NamedTuple):
    """Arrays on the device, none of them empty, which a device cannot allocate; see `call.Call`."""

    starts: Any
    pixels: Any
    bytes: Any
    floats: Any
    in_bytes: bool
    size: int


def sent(array: NDArray[Any]) -> Any:
    """The array on the device; one zero for an empty one."""
    return cuda.to_device(array if array.size else np.zeros(1, array.dtype))


def lists(values: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[Any]]:
    """Starts (N + 1,), pixels and levels of images (N, X) as they are sent to the device."""
    starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.count_nonzero(values, axis=1), out=starts[1:])
    pixels, levels = np.empty(starts[-1], np.int32), np.empty(starts[-1], values.dtype)
    for first in range(0, len(values), ROWS):
        block = values[first : first + ROWS]
        part = slice(starts[first], starts[min(first + ROWS, len(values))])
        rows, columns = np.nonzero(block)
        pixels[part], levels[part] = columns, block[rows, columns]
    return starts, pixels, levels
