"""The columns of a table as they came, whatever their type: what readers of files and of DataFrames make of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# What a level of a category may be, so that a model file can hold it.
Level: TypeAlias = "str | int | float | bool"
# Of a column: its name in a DataFrame, its place in an array.
Name: TypeAlias = "str | int"

NUMBERS, WHOLE, BOOLEANS, LABELS, UNUSABLE = "numbers", "whole numbers", "booleans", "labels", "unusable"


@dataclass(frozen=True, eq=False)
class Field:
    """One column as it came.

    Parameters
    ----------
    name
        Of the column.
    family
        What it holds: `NUMBERS`, `WHOLE` numbers, `BOOLEANS`, `LABELS` (text, or values of a category), or something that is
        `UNUSABLE`.
    values
        (N,): float64, NaN where missing; of labels objects, None where missing.
    dtype
        The name of its type, from which pandas or NumPy makes the type again.
    categories, categories_dtype, ordered
        Of a category of pandas: its values in their order, their type, and whether the order means something.
    trouble
        What it holds, if it is unusable.
    """

    name: Name
    family: str
    values: NDArray[Any]
    dtype: str
    categories: tuple[Level, ...] | None = None
    categories_dtype: str = ""
    ordered: bool = False
    trouble: str = ""

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where nothing was observed, (N,)."""
        if self.values.dtype == np.float64:
            return np.isnan(self.values)
        return np.array([value is None for value in self.values], bool)


@dataclass(frozen=True, eq=False)
class Fields:
    """All columns of a table, in their order.

    Parameters
    ----------
    columns
        The columns.
    rows
        N.
    named
        Whether they have names, as in a DataFrame; else their names are their places.
    index
        Names of the rows of a DataFrame.
    typed
        Whether the source says of which type a column is, as a text file does not.
    """

    columns: tuple[Field, ...]
    rows: int
    named: bool
    index: Any = None
    typed: bool = True

    @property
    def names(self) -> list[Name]:
        return [column.name for column in self.columns]

    def __len__(self) -> int:
        """Count the rows: N."""
        return self.rows

    def __getitem__(self, rows: Any) -> Fields:
        """Some rows, by a slice or an array of their numbers; the names of rows are left out."""
        columns = tuple(replace(column, values=column.values[rows]) for column in self.columns)
        return Fields(columns, len(np.arange(self.rows)[rows]), self.named, typed=self.typed)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, len(self.columns)

    def only(self, columns: Sequence[int]) -> Fields:
        """The same with these columns, in this order; columns without names are named by their new places."""
        held = [self.columns[at] for at in columns]
        if not self.named:
            held = [replace(column, name=at) for at, column in enumerate(held)]
        return replace(self, columns=tuple(held))
