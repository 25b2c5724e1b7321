"""Find out whether data are pictures or a table, and split them into training rows and test rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data import (
    Dataset,
    Numbers,
    Rows,
    ShardedImages,
    file_of,
    may_be_table,
    numbers_of,
    read,
    read_any,
    read_numbers,
    split,
    unsplit,
)
from vaefast.data.split import split_rows
from vaefast.data.wording import shown
from vaefast.errors import DataError, SettingsError
from vaefast.inputs.source import NAMES, PICTURES, TABLE, TEST_FRACTION, Source
from vaefast.inputs.told import ToldColumns
from vaefast.models.count_rows import CountRows
from vaefast.tables.counting import counted, looks_counted

ALL_TRAINED = "--test-fraction 0 leaves no test pictures, which the figures need: give a share above 0"


@dataclass(frozen=True, eq=False)
class Table:
    """A table and its split.

    Parameters
    ----------
    source
        Path or name of the data.
    X
        All rows in their order, (N, X), as they were given.
    train, test
        Numbers of the rows to train on and of those to test on.
    labels
        (N,), if known.
    names
        Names of the columns, if they have any.
    classes
        Names of the labels 0, 1, ..., if they have any.
    shape
        Shape of a picture, if a row is one.
    notice
        One line that a user must see.
    cell
        Gives the name in messages of the value in a row and a column; None counts as NumPy does.
    told
        Covariates and size factors of all rows.
    """

    source: str | Path
    X: NDArray[Any] | CountRows
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    labels: NDArray[Any] | None = None
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    notice: str | None = None
    cell: Callable[[int, int], str] | None = None
    told: ToldColumns = field(default_factory=ToldColumns)

    @property
    def name(self) -> str:
        """Name of the data, or of the file or folder."""
        return self.source.name if isinstance(self.source, Path) else self.source

    @property
    def sha256(self) -> str:
        """Hash of the values, of the number of test rows and of what is told, to recognise the same data and split."""
        arrays = [self.X.starts, self.X.columns, self.X.values] if isinstance(self.X, CountRows) else [self.X]
        digest = hashlib.sha256(f"{self.X.shape} {arrays[-1].dtype.name} {len(self.test)};".encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        for content in self.told.content():
            digest.update(content)
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
        The data are missing, damaged, or do not fit their kind.
    SettingsError
        The share of the test set does not suit them.
    """
    is_known = source.kind is not None or source.scaling != "auto"
    how = replace(source.reading, test_fraction=source.test_fraction or TEST_FRACTION, in_memory=in_memory)
    if source.told:
        # What is told of each row makes a table of any data.
        data = source.data or NAMES[0]
        found: Rows | Dataset | Numbers | Table = read_numbers(data, source.columns, source.known, source.reading, source.told)
    elif source.kind == PICTURES or (source.kind is None and source.scaling == "grey"):
        found = read(source.data, source.data_dir, how)
    elif is_known and (file := _file(source.data)) is not None and may_be_table(file):
        found = read_numbers(str(source.data), source.columns, source.known, source.reading)
    else:
        found = read_any(source.data, source.data_dir, how)
        if is_known and not isinstance(found, Numbers):
            found = _table_of_pictures(found)
    if isinstance(found, Table):
        return found if len(found.test) else _split(found, source.test_fraction)
    if isinstance(found, Numbers):
        return _split(_table(found, len(source.covariates)), source.test_fraction)
    if isinstance(found, Dataset):
        return found
    if source.test_fraction == 0:
        raise SettingsError(ALL_TRAINED)
    return split(found, source.test_fraction)


def _file(name: str | None) -> Path | None:
    return None if name is None or name in NAMES else file_of(name)


def whole(source: Source) -> Dataset | Table:
    """The data that a source of a known kind names. All rows are the test set, unless the data have one of their own."""
    if source.kind == TABLE:
        found = find(replace(source, test_fraction=0.0))
        return found if isinstance(found, Dataset) or len(found.test) else replace(found, test=found.train)
    pictures = read(source.data, source.data_dir, source.reading)
    return unsplit(pictures) if isinstance(pictures, Rows) else pictures


def _table_of_pictures(found: Rows | Dataset) -> Table:
    """Pictures as a table of their pixels, scaled like any other numbers, with their own test set if they have one.

    Raises
    ------
    DataError
        The pictures are shards, which no process reads as a whole.
    """
    if isinstance(found, Dataset) and isinstance(found.train, ShardedImages):
        raise DataError(
            f"{shown(found.name)}: shards are pictures in a job of several ranks, and cannot be scaled: leave out --scaling"
        )
    table = _table(numbers_of(found))
    if isinstance(found, Rows):
        return table
    rows = np.arange(len(table.X))
    return replace(table, train=rows[: len(found.train)], test=rows[len(found.train) :])


def _split(table: Table, test_fraction: float) -> Table:
    """A table. Its test set is chosen as for pictures."""
    if test_fraction == 0:
        return table
    if len(table.X) < 2:
        raise DataError(
            f"{shown(table.source)} holds 1 row: give at least 2, one to train on and one to test on, or --test-fraction 0"
        )
    train, test = split_rows(len(table.X), test_fraction)
    return replace(table, train=train, test=test)


def _table(numbers: Numbers, covariates: int = 0) -> Table:
    """A table whose rows are all training rows. Of what is told so many columns are covariates."""
    about = numbers.labels, numbers.names, numbers.classes, numbers.shape, numbers.notice, numbers.cell
    # Sparse counts stay lists of what is not zero, from the file to the kernel.
    stays_sparse = numbers.is_sparse and looks_counted(numbers.values)
    X: Any = counted(numbers.values).packed() if stays_sparse else numbers.dense().values
    told = ToldColumns.of(numbers.told, covariates, shown(numbers.source))
    return Table(numbers.source, X, np.arange(len(numbers)), np.empty(0, np.int64), *about, told)
