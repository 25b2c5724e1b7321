"""`Numbers`: the form in which the rest of vaefast sees a table. Any numbers, as they are in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vaefast.data.images import Labels
from vaefast.data.reading import new_array
from vaefast.data.told import ToldColumn
from vaefast.data.values import Cell
from vaefast.data.wording import noticed, shown
from vaefast.models.count_rows import CountRows
from vaefast.models.fields import Fields


@dataclass(frozen=True, eq=False)
class Numbers:
    """A table: rows in the order of their source.

    Parameters
    ----------
    source
        Path of the file, or name of the data.
    values
        (N, columns), finite, and NaN where one is missing: a NumPy array; where the source is sparse, `CountRows`, or a
        `scipy.sparse.csr_array`.
    names
        Names of the columns; empty if the source has none.
    row_names
        Names of the rows; empty if the source has none.
    labels
        (N,) integers, if known. They are not a column of `values`.
    classes
        Names of the labels 0, 1, ... if the source has labels in words.
    notes
        What was left out or changed, one line each, without the source.
    shape
        Height and width, or height, width and channels, if a row is a picture; else None.
    cell
        Gives the name in messages of the value in a row and a column; None counts as NumPy does.
    told
        Columns that say something of each row, in the order in which they were asked for. They are not columns of `values`.
    at
        Place of each column in a text, parquet or feather file, from 0; empty for other sources.
    fields
        The columns as they are where they are of different kinds: then `values` are NaN where they are text.
    number_notes
        Notes on how columns became numbers, one line each, without the source.
    """

    source: str | Path
    values: Any
    names: tuple[str, ...] = ()
    row_names: tuple[str, ...] = ()
    labels: Labels | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    cell: Cell | None = None
    told: tuple[ToldColumn, ...] = ()
    at: tuple[int, ...] = ()
    fields: Fields | None = None
    number_notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the rows: N."""
        return int(self.values.shape[0])

    @property
    def name(self) -> str:
        """Name of the data, or of the file or folder."""
        return self.source.name if isinstance(self.source, Path) else self.source

    @property
    def notice(self) -> str | None:
        """All notes as one line that a user must see, or None."""
        return noticed(self.source, *self.notes, *self.number_notes)

    @property
    def rows(self) -> Any:
        """The columns as they are, if they are of different kinds; else the values."""
        return self.values if self.fields is None else self.fields

    @property
    def is_sparse(self) -> bool:
        """Whether the values are lists of what is not zero."""
        return not isinstance(self.values, np.ndarray)

    def only(self, columns: Sequence[int]) -> Numbers:
        """The same with these columns, in this order."""
        values = self.values.only(columns) if isinstance(self.values, CountRows) else self.values[:, columns]
        names = tuple(self.names[at] for at in columns) if self.names else ()
        fields = None if self.fields is None else self.fields.only(columns)
        places = tuple(self.at[at] for at in columns) if self.at else ()
        return replace(self, values=values, names=names, at=places, fields=fields)

    def first(self, count: int | None) -> Numbers:
        """The first rows, without their labels and names; all for None."""
        told = tuple(column.first(count) for column in self.told)
        fields = None if self.fields is None else self.fields[:count]
        return replace(self, values=self.values[:count], told=told, labels=None, row_names=(), fields=fields)

    def dense(self) -> Numbers:
        """The same with a NumPy array for the values.

        Raises
        ------
        DataError
            The array does not fit the memory of this machine.
        """
        if not self.is_sparse:
            return self
        if isinstance(self.values, CountRows):
            whole = new_array(self.values.shape, np.float32, shown(self.source))
            return replace(self, values=self.values.dense(out=whole))
        whole = new_array(self.values.shape, self.values.dtype, shown(self.source))
        return replace(self, values=self.values.toarray(out=whole))
