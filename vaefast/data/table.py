"""The columns of a file before it is decided which are data, and the names of rows and columns in messages."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.images import Labels
from vaefast.data.told import ToldColumn
from vaefast.data.wording import shown
from vaefast.models.fields import Fields


@dataclass
class Places:
    """The places of the rows and columns of a table in its file, as a person counts them.

    Parameters
    ----------
    first
        The line of row 0, counted from 1. None if the file has no lines: rows then count from 0, as in NumPy and pandas.
    blanks
        For each line between the rows that is not a row, the number of the row after it.
    """

    first: int | None = None
    blanks: array[int] = field(default_factory=lambda: array("q"))

    def row(self, row: int) -> str:
        """A row in words."""
        if self.first is None:
            return f"row {row} (counted from 0)"
        return f"line {self.first + row + bisect_right(self.blanks, row)}"

    def column(self, column: int, name: str = "") -> str:
        """A column in words. `column` is its place in the file, from 0."""
        quoted = f" {shown(repr(name[:40]))}" if name else ""
        if self.first is None:
            return f"column{quoted}" if quoted else f"column {column} (counted from 0)"
        return f"column {column + 1}{quoted}"


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of numbers.

    Parameters
    ----------
    names
        Names of the columns as they are written; empty without a header.
    values
        (N, columns); NaN where a column of `texts` does not hold a number.
    texts
        The texts of each column that may hold text, by its number.
    at
        Place of each column in the file, from 0.
    places
        Names of rows and columns in messages.
    row_names
        Names of the rows; empty if the file has none.
    labels, classes
        (N,) integers if known, and their names if they are words.
    notes
        What a user should know about how the file was read.
    told
        Columns that say something of each row beside its values. They are still among the columns until `without_told`.
    fields
        The columns as they are where they are of different kinds: then `values` are NaN where they are text.
    truths
        Places of the columns of true and false.
    number_notes
        Notes on how columns became numbers.
    """

    names: tuple[str, ...]
    values: NDArray[Any]
    texts: dict[int, list[str]]
    at: tuple[int, ...]
    places: Places
    row_names: tuple[str, ...] = ()
    labels: Labels | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    told: tuple[ToldColumn, ...] = ()
    fields: Fields | None = None
    truths: tuple[int, ...] = ()
    number_notes: tuple[str, ...] = ()

    def without_told(self) -> Table:
        """The table without the columns of `told`, but with `told` itself."""
        told = {column.at for column in self.told}
        return self.without([i for i, at in enumerate(self.at) if at in told])

    def without(self, columns: Sequence[int]) -> Table:
        """The table without these columns."""
        return self.only([i for i in range(len(self.at)) if i not in columns]) if columns else self

    def only(self, columns: Sequence[int]) -> Table:
        """The table with these columns, in this order."""
        return replace(
            self,
            names=tuple(self.names[i] for i in columns) if self.names else (),
            values=np.take(self.values, columns, axis=1),
            texts={new: self.texts[old] for new, old in enumerate(columns) if old in self.texts},
            at=tuple(self.at[i] for i in columns),
            fields=None if self.fields is None else self.fields.only(columns),
        )

    def with_values(self, values: NDArray[Any], row_names: tuple[str, ...]) -> Table:
        """The table with other values and row names."""
        return replace(self, values=values, row_names=row_names)

    def noted(self, *notes: str) -> Table:
        """The table with notes added, except empty ones."""
        return replace(self, notes=(*self.notes, *filter(None, notes)))

    def notice(self, origin: str) -> str | None:
        """All notes as one line."""
        notes = (*self.notes, *self.number_notes)
        return f"{origin}: {'; '.join(notes)}" if notes else None

    def called(self, column: int) -> str:
        """A column in words."""
        return self.places.column(self.at[column], self.names[column] if self.names else "")

    def cell(self, row: int, column: int) -> str:
        """A cell in words."""
        return f"{self.places.row(row)}, {self.called(column)}"
