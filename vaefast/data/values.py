"""Check every value of an array and convert it to uint8 or float32, in blocks of rows and without a second full copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaefast.data.images import Labels, Pixels
from vaefast.data.reading import new_array
from vaefast.errors import DataError

# Values per block: few enough that temporaries stay in the cache, many enough to hide the cost of a NumPy call.
BLOCK = 1 << 18
# Gives the name in messages of the value in a row and a column, both from 0.
Cell: TypeAlias = Callable[[int, int], str]


def cell_of_array(row: int, column: int) -> str:
    """A cell as NumPy counts."""
    return f"row {row}, column {column} (both counted from 0)"


def stored_as(dtype: np.dtype[Any], origin: str) -> np.dtype[np.uint8] | np.dtype[np.float32]:
    """The type in which values of this type are kept: uint8 for bool and integers, float32 for floats.

    Raises
    ------
    DataError
        The type is text, complex numbers, dates, objects or records.
    """
    if dtype.kind in "bui":
        return np.dtype(np.uint8)
    if dtype.kind == "f":
        return np.dtype(np.float32)
    raise DataError(f"{origin} holds values of type {dtype}: save them as uint8 (0 to 255), bool, or float in [0, 1]")


def to_pixels(array: NDArray[Any], origin: str, kept: np.dtype[Any] | None = None, cell: Cell = cell_of_array) -> Pixels:
    """Check an array (N, X) and convert it. C-contiguous uint8 and float32 arrays are not copied.

    Parameters
    ----------
    array
        (N, X) of bool, integers or floats.
    origin
        Name of the array in messages: its path.
    kept
        The type in which to keep the values, if it is not `stored_as(array.dtype)`.
    cell
        Gives the name in messages of the value in a row and a column.

    Raises
    ------
    DataError
        A value is NaN, infinite or out of range (the message gives row, column and value), or the type is unsuitable.
    """
    kept = kept or stored_as(array.dtype, origin)
    if array.dtype == kept and array.flags.c_contiguous:
        for start, stop in row_blocks(*array.shape):
            check(array[start:stop], kept, start, origin, cell)
        return array
    pixels: Pixels = new_array(array.shape, kept, origin)
    for start, stop in row_blocks(*array.shape):
        convert(array[start:stop], pixels[start:stop], start, origin, cell)
    return pixels


def convert(block: NDArray[Any], pixels: Pixels, first_row: int, origin: str, cell: Cell = cell_of_array) -> None:
    """Check a block of rows from `first_row` on and write it into `pixels`. True becomes white, 255."""
    check(block, pixels.dtype, first_row, origin, cell)
    if block.dtype.kind == "b":
        np.multiply(block.view(np.uint8) != 0, np.uint8(255), out=pixels)
    else:
        np.copyto(pixels, block, casting="unsafe")


def check(block: NDArray[Any], kept: np.dtype[Any], first_row: int, origin: str, cell: Cell = cell_of_array) -> None:
    """Refuse a value outside 0 to 255 (to be kept as uint8) or outside [0, 1] (as float32), NaN included."""
    if block.dtype.kind == "b" or block.dtype == np.uint8:
        return
    grey_levels = kept == np.uint8
    top = 255 if grey_levels else 1
    # Two reductions need no temporary array. Both pass on NaN, and a comparison with NaN is False.
    if block.min() >= 0 and block.max() <= top:
        return
    fits = (block >= 0) & (block <= top)
    row, column = np.unravel_index(np.argmin(fits), fits.shape)
    remedy = "give grey levels 0 to 255" if grey_levels else "scale to [0, 1], or save grey levels 0 to 255 as uint8"
    raise DataError(f"{origin}: {cell(first_row + int(row), int(column))} is {block[row, column]}: {remedy}")


def row_blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Start and end of the rows of each block of about `BLOCK` values."""
    step = max(1, BLOCK // max(1, columns))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def to_labels(array: NDArray[Any], origin: str) -> Labels:
    """Labels (N,) or (N, 1) as int64 (N,).

    Raises
    ------
    DataError
        The labels have another shape, or are not whole numbers.
    """
    if array.ndim not in (1, 2) or array.size != len(array):
        raise DataError(f"{origin} has labels of shape {array.shape}: give one whole number for each image")
    if array.dtype.kind not in "buif":
        raise DataError(f"{origin} has labels of type {array.dtype}: give one whole number for each image")
    flat = array.reshape(-1)
    if flat.dtype.kind == "f":
        whole = np.isfinite(flat) & (flat == np.floor(flat)) & (np.abs(flat) < 2.0**53)
        if not whole.all():
            row = np.argmin(whole)
            raise DataError(f"{origin}: label {row} (counted from 0) is {flat[row]}: give a whole number for each image")
    return flat.astype(np.int64)
