"""Pictures or a table? And the data themselves, split into rows to train on and rows to test on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data import Dataset, Numbers, load, numbers_of, read, read_numbers, unsplit
from vaefast.data.csvfields import counted
from vaefast.data.csvfile import DARKEST_WHITE, MNIST_PIXELS, PIXEL
from vaefast.data.images import Rows
from vaefast.data.kinds import may_be_table
from vaefast.data.split import split_rows
from vaefast.data.values import row_blocks
from vaefast.data.wording import shown
from vaefast.errors import DataError, SettingsError
from vaefast.inputs.source import NAMES, PICTURES, TABLE, Source

WHITE = 255
ALL_TRAINED = (
    "--test-fraction 0 leaves no picture to test on, and figures of pictures are of the test set: give a share above 0"
)


@dataclass(frozen=True, eq=False)
class Table:
    """A table and its split.

    Parameters
    ----------
    source
        The path, or the name of the data.
    X
        All rows in their order, (N, X), as they were given.
    train, test
        Numbers of the rows to train on and of those to test on.
    labels
        (N,) where they are known.
    names
        Of the columns, where they have any.
    classes
        Names of the labels 0, 1, ..., where they have any.
    shape
        Of a picture, where a row is one.
    notice
        One line that a user must see.
    """

    source: str | Path
    X: NDArray[Any]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    labels: NDArray[Any] | None = None
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    notice: str | None = None

    @property
    def name(self) -> str:
        """Of the data, or of the file or folder."""
        return self.source.name if isinstance(self.source, Path) else self.source

    @property
    def sha256(self) -> str:
        """Over the values and the number of rows to test on, to recognise the same data split in the same way."""
        digest = hashlib.sha256(f"{self.X.shape} {self.X.dtype.name} {len(self.test)};".encode())
        digest.update(np.ascontiguousarray(self.X).data)
        return digest.hexdigest()


def find(source: Source, *, in_memory: bool = True) -> Dataset | Table:
    """The data that a source names, split.

    Parameters
    ----------
    in_memory
        As for `vaefast.data.load`.

    Raises
    ------
    DataError
        The data are missing, damaged, or of no use for what they are taken for.
    SettingsError
        The share of the test set does not suit them.
    """
    if source.kind == PICTURES or (source.kind is None and source.scaling == "grey"):
        return _pictures(source, in_memory)
    is_file = source.data is not None and source.data not in NAMES and os.path.isfile(source.data)
    if not is_file or not may_be_table(Path(str(source.data))):
        if source.kind is None and source.scaling == "auto":
            return _pictures(source, in_memory)
        return _table_of_pictures(source)
    numbers = read_numbers(str(source.data), source.columns, source.known)
    if source.kind is None and source.scaling == "auto" and are_pictures(numbers):
        del numbers
        return _pictures(source, in_memory)
    return _split(numbers, source.test_fraction)


def whole(source: Source) -> Dataset | Table:
    """The data that a source of a known kind names, all of whose rows are the test set, unless they bring one of their own."""
    if source.kind == TABLE:
        found = find(replace(source, test_fraction=0.0))
        return found if isinstance(found, Dataset) or len(found.test) else replace(found, test=found.train)
    pictures = read(str(source.data), source.data_dir)
    return unsplit(pictures) if isinstance(pictures, Rows) else pictures


def are_pictures(numbers: Numbers) -> bool:
    """Whether a table holds the grey levels of pictures, which are numbers in [0, 1] or whole numbers from 0 to 255.

    They are: bytes and truth values; pictures whose shape is known; columns named like pixels; columns without names, of
    numbers in [0, 1], or of whole numbers of which one is above 127, the darkest white of 8 bits; 784 columns of whole
    numbers. Everything else is a table: columns with names of their own, counts, and numbers that no grey level is.
    """
    values, names = numbers.values, numbers.names
    if numbers.shape is not None or (not numbers.is_sparse and values.dtype in (np.uint8, np.bool_)):
        return True
    if numbers.is_sparse or not (largest := _largest_level(values)):
        return False
    if names and not counted([*names]):
        like_pixels = all(PIXEL.fullmatch(name) for name in names)
        return like_pixels or (largest > DARKEST_WHITE and len(names) == MNIST_PIXELS)
    if largest <= 1:
        return values.dtype.kind == "f"
    return largest > DARKEST_WHITE or values.shape[1] == MNIST_PIXELS


def _largest_level(values: NDArray[Any]) -> float:
    """The largest value, where all values of (N, X) are grey levels: in [0, 1], or whole numbers up to 255. Else 0."""
    is_whole, smallest, largest = True, np.inf, -np.inf
    for start, stop in row_blocks(*values.shape):
        block = values[start:stop]
        smallest, largest = min(smallest, float(block.min())), max(largest, float(block.max()))
        is_whole = is_whole and bool((block == np.floor(block)).all())
        if smallest < 0 or largest > WHITE or (largest > 1 and not is_whole):
            return 0.0
    return largest


def _pictures(source: Source, in_memory: bool) -> Dataset:
    if source.test_fraction == 0:
        raise SettingsError(ALL_TRAINED)
    return load(source.data, source.data_dir, test_fraction=source.test_fraction, in_memory=in_memory)


def _table_of_pictures(source: Source) -> Table:
    """Pictures as a table of their pixels, scaled like any other numbers."""
    found = read(source.data, source.data_dir)
    numbers = numbers_of(found)
    if isinstance(found, Rows):
        return _split(numbers, source.test_fraction)
    first = len(found.train)
    return _table(numbers, np.arange(first), np.arange(first, len(numbers)))


def _split(numbers: Numbers, test_fraction: float) -> Table:
    """A table, of whose rows the test set is chosen as it is of pictures."""
    count = len(numbers)
    if test_fraction == 0:
        return _table(numbers, np.arange(count), np.empty(0, np.int64))
    if count < 2:
        raise DataError(
            f"{shown(numbers.source)} holds 1 row: give at least 2, one to train on and one to test on, or --test-fraction 0"
        )
    return _table(numbers, *split_rows(count, test_fraction))


def _table(numbers: Numbers, train: NDArray[np.int64], test: NDArray[np.int64]) -> Table:
    dense = numbers.dense()
    about = dense.labels, dense.names, dense.classes, dense.shape, dense.notice
    return Table(dense.source, dense.values, train, test, *about)
