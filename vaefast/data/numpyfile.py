"""Read `.npy` and `.npz` files directly into uint8 or float32. float64 rows are converted as they are read.

`numpy.load` trusts a header that promises more than the file holds. Here the header is compared with the file first.
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

from vaefast.data.channels import check_channels, with_channels
from vaefast.data.images import Dataset, Images, Labels, Pixels, Rows, assemble, guessed_shape
from vaefast.data.reading import LARGEST_INFLATION, fill, new_array, reading
from vaefast.data.values import BLOCK, convert, row_blocks, stored_as, to_labels, to_pixels
from vaefast.data.wording import noticed, reason, shortened, shown
from vaefast.errors import DataError

# Names of the arrays in one file: training images and labels, test images and labels.
NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train", "y_train", "test", "y_test"),
    ("X_train", "y_train", "X_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x", "y", "", ""),
    ("X", "y", "", ""),
    ("images", "labels", "", ""),
    ("data", "labels", "", ""),
)


@dataclass(frozen=True)
class _Header:
    """The shape and type in the header of an array."""

    shape: tuple[int, ...]
    column_major: bool
    dtype: np.dtype[Any]


def read_npy(path: Path, color: bool = False) -> Rows:
    """One array (N, X), (N, H, W) or (N, H, W, C).

    Parameters
    ----------
    color
        Whether colour channels are kept. Otherwise pictures become grey, with a notice.

    Raises
    ------
    DataError
        The file is damaged, or its array is not a set of images.
    """
    with reading(path) as stream:
        images, note = _read_images(stream, os.fstat(stream.fileno()).st_size, shown(path), color)
    return Rows(path, images, notice=noticed(path, note))


def read_npz(path: Path, color: bool = False) -> Rows | Dataset:
    """One array, or some of the arrays in `NAMES`.

    Parameters
    ----------
    color
        As for `read_npy`.

    Raises
    ------
    DataError
        The file is damaged, has none of these names, or its arrays are not sets of images.
    """
    with reading(path) as file, _opened_zip(file, path) as archive:
        names = _bare(archive.namelist())
        chosen = (names[0], "", "", "") if len(names) == 1 else next((row for row in NAMES if row[0] in names), None)
        if chosen is None:
            raise DataError(
                f"{shown(path)} holds the arrays {shortened(shown(', '.join(names))) or '(none)'}: "
                "give one array, or x_train and x_test (y_train and y_test may be added)"
            )
        train_name, train_label, test_name, test_label = (name if name in names else "" for name in chosen)
        train, note = _member_images(archive, train_name, path, color)
        train_labels = _member_labels(archive, train_label, path) if train_label else None
        test = _member_images(archive, test_name, path, color)[0] if test_name else None
        test_labels = _member_labels(archive, test_label, path) if test and test_label else None
    others = ", ".join(shown(name) for name in names if name not in chosen)
    notice = noticed(path, note, f"arrays that are not read: {shortened(others)}" if others else "")
    if test is None:
        return Rows(path, train, train_labels, notice=notice)
    return assemble(path, train, test, train_labels, test_labels, notice)


def read_numbers_npy(path: Path) -> NDArray[Any]:
    """One array of any numbers, (N, ...), in its own type.

    Raises
    ------
    DataError
        The file is damaged, or its array is not rows of numbers.
    """
    with reading(path) as stream:
        return _read_numbers(stream, os.fstat(stream.fileno()).st_size, shown(path))


def read_numbers_npz(path: Path) -> tuple[NDArray[Any], Labels | None]:
    """The same from a file with one array, or with one array and its labels, named as in `NAMES`.

    Raises
    ------
    DataError
        As above, or the file has other arrays.
    """
    with reading(path) as file, _opened_zip(file, path) as archive:
        names = _bare(archive.namelist())
        chosen = next((row[:2] for row in NAMES if {*row[:2]} == {*names}), (names[0], "") if len(names) == 1 else None)
        if chosen is None:
            raise DataError(f"{shown(path)} holds {len(names)} arrays: save one array alone, or X and y")
        with _member(archive, chosen[0]) as (stream, size):
            values = _read_numbers(stream, size, f"{shown(path)}, array {shown(chosen[0])}")
        return values, _member_labels(archive, chosen[1], path) if chosen[1] else None


def outline_of(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Shape and type of the one array of a `.npy` or `.npz` file, apart from labels; None for other files.

    Raises
    ------
    DataError
        The file is damaged, or its array holds no numbers.
    """
    with _one_array(path) as found:
        if found is None:
            return None
        stream, size, origin = found
        shape, _, dtype = read_npy_header(stream, size, origin)
        return shape, dtype


def span_of(path: Path) -> Span | None:
    """The span of the values of this array, found without all of them in memory.

    Raises
    ------
    DataError
        As above.
    """
    with _one_array(path) as found:
        return None if found is None else _span(*found)


@contextmanager
def _one_array(path: Path) -> Iterator[tuple[IO[bytes], int, str] | None]:
    """The stream of the array, how many bytes it can hold, and its name in messages."""
    with reading(path) as file:
        is_archive = file.read(2) == b"PK"
        file.seek(0)
        if not is_archive:
            yield file, os.fstat(file.fileno()).st_size, shown(path)
            return
        with _opened_zip(file, path) as archive:
            names = _bare(archive.namelist())
            name = names[0] if len(names) == 1 else next((row[0] for row in NAMES if {*row[:2]} == {*names}), "")
            if not name:
                yield None
                return
            with _member(archive, name) as (stream, size):
                yield stream, size, f"{shown(path)}, array {shown(name)}"


def _bare(names: list[str]) -> list[str]:
    return [name.removesuffix(".npy") for name in names]


@dataclass(frozen=True)
class Span:
    """Shape and type of an array, its smallest and largest value (NaN if any is), and whether all are whole."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    smallest: float
    largest: float
    whole: bool


def _span(stream: IO[bytes], size: int, origin: str) -> Span:
    header = _read_header(stream, origin)
    stored_as(header.dtype, origin)
    _check_length(stream, header, size, origin)
    if header.dtype.kind == "b" or 0 in header.shape:
        return Span(header.shape, header.dtype, 0.0, 1.0, True)
    ends, whole = [], True
    count = prod(header.shape)
    for start in range(0, count, BLOCK):
        block = np.empty(min(BLOCK, count - start), header.dtype)
        _fill_all(stream, block, origin)
        ends.append((float(block.min()), float(block.max())))
        whole = whole and (header.dtype.kind in "ui" or bool((block == np.floor(block)).all()))
    low, high = np.array(ends).T
    return Span(header.shape, header.dtype, float(low.min()), float(high.max()), whole)


def check_members(path: Path) -> None:
    """Refuse a `.npz` file with an array that promises more than it holds, before memory is allocated.

    Raises
    ------
    DataError
        The file has such an array.
    """
    with reading(path) as file, _opened_zip(file, path) as archive:
        for name in _bare(archive.namelist()):
            with _member(archive, name) as (stream, size):
                origin = f"{shown(path)}, array {shown(name)}"
                _check_length(stream, _read_header(stream, origin), size, origin)


def _read_numbers(stream: IO[bytes], size: int, origin: str) -> NDArray[Any]:
    header = _read_header(stream, origin)
    stored_as(header.dtype, origin)
    _check_length(stream, header, size, origin)
    if len(header.shape) < 2 or 0 in header.shape:
        raise DataError(f"{origin} has shape {header.shape}: give rows of numbers, (N, columns)")
    return np.ascontiguousarray(_read_whole(stream, header, origin))


@contextmanager
def _opened_zip(file: IO[bytes], path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # a damaged archive makes zipfile raise almost anything
        raise DataError(f"{shown(path)} is a damaged .npz file ({reason(error)}): save it again") from error


def _member_images(archive: zipfile.ZipFile, name: str, path: Path, color: bool) -> tuple[Images, str]:
    with _member(archive, name) as (stream, size):
        return _read_images(stream, size, f"{shown(path)}, array {shown(name)}", color)


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
    """The stream of an array and the number of bytes it can hold: that of the archive, unless impossible."""
    info = archive.getinfo(name + ".npy" if name + ".npy" in archive.namelist() else name)
    with archive.open(info) as stream:
        yield stream, min(info.file_size, LARGEST_INFLATION * info.compress_size)


def _read_images(stream: IO[bytes], size: int, origin: str, color: bool) -> tuple[Images, str]:
    """The images, and a note on what was done to them."""
    header = _read_header(stream, origin)
    stored_as(header.dtype, origin)  # checked before the length, which says nothing if objects are pickled
    _check_length(stream, header, size, origin)
    if len(header.shape) not in (2, 3, 4):
        raise DataError(
            f"{origin} has shape {header.shape}: give (N, pixels), (N, height, width) or (N, height, width, channels)"
        )
    if 0 in header.shape:
        raise DataError(f"{origin} has shape {header.shape} and so no pixels: give at least two images of one pixel")
    if len(header.shape) == 4:
        check_channels(header.shape, origin)
        return with_channels(_read_pixels(stream, header, origin), header.shape[1:], color, origin)
    shape = header.shape[1:] if len(header.shape) == 3 else guessed_shape(header.shape[1])
    return Images(_read_pixels(stream, header, origin), (shape[0], shape[1])), ""


def read_npy_header(stream: IO[bytes], size: int, origin: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of the array in a file of this size. The stream is then at its data.

    Raises
    ------
    DataError
        It is not an array, or the file holds more or less than its header promises.
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
            warnings.simplefilter("ignore", UserWarning)  # a header of Python 2, with long integers, is read as well
            return _Header(*read(stream))
    except Exception as error:  # the header is Python source, whose parsers fail in many ways
        raise DataError(f"{origin} is not a readable NumPy array ({reason(error)}): save it again") from error


def _check_length(stream: IO[bytes], header: _Header, size: int, origin: str) -> None:
    """Refuse, before memory is allocated, an array whose header promises more or less than follows it."""
    promised, held = prod(header.shape) * header.dtype.itemsize, size - stream.tell()
    if min(header.shape, default=0) < 0 or promised != held:
        raise DataError(f"{origin} holds {held} bytes where its header promises {promised}: save it again")


def _read_pixels(stream: IO[bytes], header: _Header, origin: str) -> Pixels:
    """The array as (N, X), checked and converted in blocks of rows."""
    rows, columns = header.shape[0], prod(header.shape[1:])
    kept = stored_as(header.dtype, origin)
    if header.dtype == kept and not header.column_major:
        return to_pixels(_read_whole(stream, header, origin).reshape(rows, columns), origin)
    # Only a file in Fortran order must be in memory as a whole, because its rows are scattered.
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
