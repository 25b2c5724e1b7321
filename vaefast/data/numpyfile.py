"""`.npy` and `.npz` files, straight into uint8 or float32: float64 rows are converted as they are read.

`numpy.load` would believe a header that promises more than the file holds; here it is compared with the file first.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.images import Dataset, Images, Labels, Pixels, Rows, assemble, guessed_shape
from vaefast.data.reading import LARGEST_INFLATION, fill, new_array, reading
from vaefast.data.values import convert, row_blocks, stored_as, to_labels, to_pixels
from vaefast.data.wording import reason, shortened, shown
from vaefast.errors import DataError

NPY_MAGIC = b"\x93NUMPY"
NPZ_MAGIC = b"PK"

TRAIN_NAMES = ("x_train", "train")
TEST_NAMES = ("x_test", "test")


@dataclass(frozen=True)
class _Header:
    """What the header of an array promises."""

    shape: tuple[int, ...]
    column_major: bool
    dtype: np.dtype[Any]


def read_npy(path: Path) -> Rows:
    """One array (N, X) or (N, H, W).

    Raises
    ------
    DataError
        The file is damaged, or its array is no set of images.
    """
    origin = shown(path)
    with reading(path) as stream:
        images = _read_images(stream, os.fstat(stream.fileno()).st_size, origin)
    return Rows(path, images)


def read_npz(path: Path) -> Rows | Dataset:
    """One array; or `x_train` and `x_test` (also `train` and `test`), and their `y_train` and `y_test` if any.

    Raises
    ------
    DataError
        The file is damaged, has none of these names, or its arrays are no sets of images.
    """
    with reading(path) as file, _opened_zip(file, path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        train_name = next((name for name in TRAIN_NAMES if name in names), None)
        test_name = next((name for name in TEST_NAMES if name in names), None)
        if len(names) == 1:
            train_name, test_name = names[0], None
        if train_name is None:
            raise DataError(
                f"{shown(path)} holds the arrays {shortened(shown(', '.join(names))) or '(none)'}: "
                "give one array, or x_train and x_test (y_train and y_test may be added)"
            )
        train = _member_images(archive, train_name, path)
        train_labels = _member_labels(archive, "y_train", path) if "y_train" in names else None
        test = _member_images(archive, test_name, path) if test_name else None
        test_labels = _member_labels(archive, "y_test", path) if test and "y_test" in names else None
    if test is None:
        return Rows(path, train, train_labels)
    return assemble(path, train, test, train_labels, test_labels)


def read_numbers_npy(path: Path) -> NDArray[Any]:
    """One array of any numbers, of its own type, as (N, columns).

    Raises
    ------
    DataError
        The file is damaged, or its array holds no numbers in rows.
    """
    with reading(path) as stream:
        return _read_numbers(stream, os.fstat(stream.fileno()).st_size, shown(path))


def read_numbers_npz(path: Path) -> NDArray[Any]:
    """The same of a file that holds one array.

    Raises
    ------
    DataError
        As above, or it holds more than one.
    """
    with reading(path) as file, _opened_zip(file, path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if len(names) != 1:
            raise DataError(f"{shown(path)} holds {len(names)} arrays: save one array alone")
        with _member(archive, names[0]) as (stream, size):
            return _read_numbers(stream, size, f"{shown(path)}, array {shown(names[0])}")


def _read_numbers(stream: IO[bytes], size: int, origin: str) -> NDArray[Any]:
    header = _read_header(stream, origin)
    stored_as(header.dtype, origin)
    _check_length(stream, header, size, origin)
    if len(header.shape) < 2 or 0 in header.shape:
        raise DataError(f"{origin} has shape {header.shape}: give rows of numbers, (N, columns)")
    return np.ascontiguousarray(_read_whole(stream, header, origin)).reshape(header.shape[0], -1)


@contextmanager
def _opened_zip(file: IO[bytes], path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # a damaged archive makes zipfile raise almost anything
        raise DataError(f"{shown(path)} is a damaged .npz file ({reason(error)}): save it again") from error


def _member_images(archive: zipfile.ZipFile, name: str, path: Path) -> Images:
    with _member(archive, name) as (stream, size):
        return _read_images(stream, size, f"{shown(path)}, array {shown(name)}")


def _member_labels(archive: zipfile.ZipFile, name: str, path: Path) -> Labels:
    origin = f"{shown(path)}, array {shown(name)}"
    with _member(archive, name) as (stream, size):
        header = _read_header(stream, origin)
        if header.dtype.kind not in "buif":
            raise DataError(f"{origin} has labels of type {header.dtype}: give one whole number for each image")
        _check_length(stream, header, size, origin)
        return to_labels(_read_whole(stream, header, origin), origin)


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], int]]:
    """An array's stream and the number of bytes it can hold: what the archive claims, unless that is impossible."""
    info = archive.getinfo(name + ".npy" if name + ".npy" in archive.namelist() else name)
    with archive.open(info) as stream:
        yield stream, min(info.file_size, LARGEST_INFLATION * info.compress_size)


def _read_images(stream: IO[bytes], size: int, origin: str) -> Images:
    header = _read_header(stream, origin)
    stored_as(header.dtype, origin)  # asked before the length, which says nothing where objects are pickled
    _check_length(stream, header, size, origin)
    if len(header.shape) not in (2, 3):
        raise DataError(f"{origin} has shape {header.shape}: give (N, pixels) or (N, height, width)")
    if 0 in header.shape:
        raise DataError(f"{origin} has shape {header.shape} and so no pixels: give at least two images of one pixel")
    shape = header.shape[1:] if len(header.shape) == 3 else guessed_shape(header.shape[1])
    return Images(_read_pixels(stream, header, origin), (shape[0], shape[1]))


def read_npy_header(stream: IO[bytes], size: int, origin: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, and type of the array in a file of this size, at whose data the stream then is.

    Raises
    ------
    DataError
        It is none, or the file holds more or less than its header promises.
    """
    header = _read_header(stream, origin)
    stored_as(header.dtype, origin)
    _check_length(stream, header, size, origin)
    return header.shape, header.column_major, header.dtype


def _read_header(stream: IO[bytes], origin: str) -> _Header:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of Python 2's long integers, which are read all the same
            return _Header(*read(stream))
    except Exception as error:  # the header is Python source, and its parsers fail in many ways
        raise DataError(f"{origin} is not a readable NumPy array ({reason(error)}): save it again") from error


def _check_length(stream: IO[bytes], header: _Header, size: int, origin: str) -> None:
    """Refuse, before memory is taken, an array that promises more or less than follows its header."""
    promised, held = prod(header.shape) * header.dtype.itemsize, size - stream.tell()
    if min(header.shape, default=0) < 0 or promised != held:
        raise DataError(f"{origin} holds {held} bytes where its header promises {promised}: save it again")


def _read_pixels(stream: IO[bytes], header: _Header, origin: str) -> Pixels:
    """The array as (N, X), checked and converted a block of rows at a time."""
    rows, columns = header.shape[0], prod(header.shape[1:])
    kept = stored_as(header.dtype, origin)
    if header.dtype == kept and not header.column_major:
        return to_pixels(_read_whole(stream, header, origin).reshape(rows, columns), origin)
    # Only a file in Fortran's order has to be in memory as a whole: its rows are scattered all over it.
    whole = _read_whole(stream, header, origin) if header.column_major else None
    pixels = new_array((rows, columns), kept, origin)
    for start, stop in row_blocks(rows, columns):
        if whole is None:
            block = np.empty((stop - start, columns), header.dtype)
            _fill_all(stream, block, origin)
        else:
            block = whole[start:stop].reshape(stop - start, columns)
        convert(block, pixels[start:stop], start, origin)
    return pixels


def _read_whole(stream: IO[bytes], header: _Header, origin: str) -> NDArray[Any]:
    shape = header.shape[::-1] if header.column_major else header.shape
    array = new_array(shape, header.dtype, origin)
    _fill_all(stream, array, origin)
    return array.T if header.column_major else array


def _fill_all(stream: IO[bytes], array: NDArray[Any], origin: str) -> None:
    if fill(stream, array) != array.nbytes:
        raise DataError(f"{origin} ends too early: save it again")
