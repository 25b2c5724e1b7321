"""Columns that say something of each row beside its values, such as the batch of a cell. They are never trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.csvfields import MISSING, TRUTHS, gaps_in_text, number_in
from vaefast.errors import DataError

# What messages say that such a column is for.
WANTED = "covariates or size factors"


@dataclass(frozen=True, eq=False)
class ToldColumn:
    """One such column, of which no value is missing."""

    name: str  # its number where it has none
    values: NDArray[Any]  # (N,): finite float64 numbers, or objects if it holds categories
    texts: NDArray[Any] | None  # (N,), as written, of numbers that may stand for categories; None if the file has types
    cell: Callable[[int], str]  # gives the place of a row's value in the file, in words
    at: int | None = None  # its place in the file, from 0, if it is one of the columns of the table

    @property
    def is_category(self) -> bool:
        """Whether it holds text, or what the file calls categories."""
        return self.values.dtype == object

    @property
    def categories(self) -> NDArray[Any]:
        """The values of a column that holds categories, whatever it looks like in this file, (N,)."""
        return self.values if self.texts is None else self.texts

    def first(self, count: int | None) -> ToldColumn:
        """The first rows."""
        return replace(self, values=self.values[:count], texts=None if self.texts is None else self.texts[:count])


def of_texts(name: str, texts: Sequence[str], cell: Callable[[int], str], origin: str, at: int) -> ToldColumn:
    """A column of a text file: numbers if all of its fields are, else categories.

    Raises
    ------
    DataError
        A value is missing or infinite.
    """
    is_text = any(text.lower() not in MISSING and np.isnan(number_in(text)) for text in texts)
    gaps = gaps_in_text() if is_text else MISSING
    missing = next((row for row, text in enumerate(texts) if text.lower() in gaps), None)
    if missing is not None:
        raise _missing(cell(missing), origin)
    if all(text.lower() in TRUTHS for text in texts):
        # One spelling: that of Python, pandas and .h5ad files.
        return ToldColumn(name, _objects([text.capitalize() for text in texts]), None, cell, at)
    numbers, held = np.array([number_in(text) for text in texts]), _objects(texts)
    if np.isnan(numbers).any():
        return ToldColumn(name, held, None, cell, at)
    return replace(of_numbers(name, numbers, cell, origin, at), texts=held)


def of_numbers(
    name: str, numbers: NDArray[np.float64], cell: Callable[[int], str], origin: str, at: int | None = None
) -> ToldColumn:
    """A column of numbers, in which NaN is a missing value.

    Raises
    ------
    DataError
        A value is missing or infinite.
    """
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int(np.argmin(finite))
        if np.isnan(numbers[row]):
            raise _missing(cell(row), origin)
        raise DataError(f"{origin}: {cell(row)} is {numbers[row]}: give a finite number, or leave its row out")
    return ToldColumn(name, numbers, None, cell, at)


def of_categories(
    name: str, values: Sequence[object], cell: Callable[[int], str], origin: str, at: int | None = None
) -> ToldColumn:
    """A column of categories, in which None and NaN are missing values.

    Raises
    ------
    DataError
        A value is missing.
    """
    missing = next((row for row, value in enumerate(values) if value is None or value != value), None)
    if missing is not None:
        raise _missing(cell(missing), origin)
    return ToldColumn(name, _objects(values), None, cell, at)


def no_columns(name: str, told: Sequence[str]) -> DataError:
    """The error for data that hold nothing but their values."""
    return DataError(
        f"{name} holds no columns beside its values for {WANTED} ({', '.join(told)}): give a text table, .parquet, .feather "
        "or .h5ad, or fit vaefast.VAE in Python"
    )


def _missing(where: str, origin: str) -> DataError:
    return DataError(f"{origin}: {where}: a value is missing: fill it in, or leave its row out")


def _objects(values: Sequence[object]) -> NDArray[Any]:
    held = np.empty(len(values), dtype=object)
    held[:] = values
    return held
