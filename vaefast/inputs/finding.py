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
from vaefast.data.shards import WILDCARDS
from vaefast.data.split import split_rows
from vaefast.data.values import cell_of_array
from vaefast.data.wording import noticed, shown
from vaefast.errors import DataError, SettingsError
from vaefast.inputs import kinds
from vaefast.inputs.source import NAMES, PICTURES, TABLE, TEST_FRACTION, Source
from vaefast.inputs.told import ToldColumns
from vaefast.models.count_rows import CountRows
from vaefast.models.fields import Fields
from vaefast.models.settings import COUNT_LIKELIHOODS
from vaefast.tables.counting import counted, looks_counted, nearly_counted
from vaefast.tables.mixed.schema import Schema

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
    fields
        The columns as they are where they may be of different kinds.
    schema
        That of the model if they are taken as such. Otherwise X holds all that is taken.
    kinds_notice
        The notice where columns are taken as they are.
    at
        Place of each column in the file, from 0; empty where they are all of its columns.
    slip
        The warning where a few values alone keep a sparse table from being one of counts.
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
    fields: Fields | None = None
    schema: Schema | None = None
    kinds_notice: str | None = None
    at: tuple[int, ...] = ()
    slip: str | None = None

    @property
    def name(self) -> str:
        """Name of the data, or of the file or folder."""
        return self.source.name if isinstance(self.source, Path) else self.source

    @property
    def sha256(self) -> str:
        """Hash of the values, of the number of test rows and of what is told, to recognise the same data and split."""
        if self.schema is not None and self.fields is not None:
            return self._sha256_of_kinds(self.fields, self.schema)
        arrays = [self.X.starts, self.X.columns, self.X.values] if isinstance(self.X, CountRows) else [self.X]
        digest = hashlib.sha256(f"{self.X.shape} {arrays[-1].dtype.name} {len(self.test)};".encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        for content in self.told.content():
            digest.update(content)
        return digest.hexdigest()

    def _sha256_of_kinds(self, fields: Fields, schema: Schema) -> str:
        digest = hashlib.sha256(f"{fields.rows} {len(self.test)};".encode())
        for content in (*kinds.content(fields, schema), *self.told.content()):
            digest.update(content)
        return digest.hexdigest()

    def of_model(self, schema: Schema | None) -> Table:
        """The same, taken by the columns of a model, if these are of different kinds."""
        return self if schema is None else replace(self, fields=self._columns(), schema=schema)

    def _columns(self) -> Fields:
        """The columns as they are, or as an array has them."""
        if self.fields is not None:
            return self.fields
        assert isinstance(self.X, np.ndarray)
        return kinds.named_columns(self.X, self.names, shown(self.name))

    def encoded(self, schema: Schema) -> Table:
        """The same as a schema encodes it. In test rows a category that it does not know counts as missing, as a line says.

        Raises
        ------
        DataError
            A column is missing, or a value does not fit the schema.
        """
        called, given = shown(self.name), self._columns()
        # Rows that are both, because all are to be scored, are not held out.
        held_out = np.empty(0, np.int64) if np.intersect1d(self.train, self.test).size else self.test
        fields, unseen = kinds.fitted(given, schema, held_out)
        X = kinds.encoded(fields, schema, called, self.cell)
        notices = [self.kinds_notice, _unseen(unseen, fields, self.cell, called)]
        return replace(
            self, X=X, fields=given, schema=schema, cell=kinds.cell_of_encoded(fields, schema, self.cell),
            notice="; ".join(filter(None, notices)) or None,
        )  # fmt: skip


def _unseen(
    unseen: tuple[tuple[int, int], ...], fields: Fields, cell: Callable[[int, int], str] | None, called: str
) -> str | None:
    """The line on values of test rows that training did not see."""
    if not unseen:
        return None
    row, column = unseen[0]
    where = cell_of_array(row, column) if cell is None else cell(row, column)
    more = "" if len(unseen) == 1 else f"; {len(unseen)} such values"
    return f"{called}: {where}, in a test row, is a value that no training row has{more}: it counts as missing there"


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
    is_known = source.kind is not None or source.scaling != "auto" or source.is_mixed
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
    _refuse_pictures(source, found)
    if isinstance(found, Table):
        return found if len(found.test) else _split(found, source.test_fraction)
    if isinstance(found, Numbers):
        return _split(_table(found, len(source.covariates)), source.test_fraction)
    if isinstance(found, Dataset):
        return found
    if source.test_fraction == 0:
        raise SettingsError(ALL_TRAINED)
    return split(found, source.test_fraction)


def _refuse_pictures(source: Source, found: Any) -> None:
    """Refuse pictures under a likelihood that is not theirs. Shards of bytes may be counts.

    Raises
    ------
    SettingsError
        The data are pictures, and the likelihood is one of tables.
    """
    wanted = "mixed" if source.is_mixed else source.likelihood
    if not isinstance(found, (Rows, Dataset)) or wanted not in ("mixed", *COUNT_LIKELIHOODS):
        return
    name = source.data or NAMES[0]
    if wanted in COUNT_LIKELIHOODS and isinstance(found, Dataset) and any(mark in name for mark in WILDCARDS):
        if found.train.values.dtype != np.uint8:
            raise SettingsError(
                f"likelihood {wanted} is for whole counts, and {shown(name)} holds float32: save them as uint8"
            )
        return
    raise SettingsError(f"likelihood {wanted} is for tables, and {shown(name)} holds pictures: choose another likelihood")


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
    table = Table(
        numbers.source, X, np.arange(len(numbers)), np.empty(0, np.int64), *about, told, numbers.fields,
        kinds_notice=noticed(numbers.source, *numbers.notes), at=numbers.at,
    )  # fmt: skip
    names = np.array(numbers.names, dtype=object) if numbers.names else None
    return replace(table, slip=nearly_counted(numbers.values, names, shown(table.name)))
