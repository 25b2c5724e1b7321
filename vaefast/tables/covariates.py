"""Covariates as the networks see them: a category becomes one column for each of its values, a number is standardised.

A covariate is what is known of a row and should not be explained, such as the batch of a cell or the age of a patient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError
from vaefast.tables.checking import check_unique, is_missing, unmasked
from vaefast.tables.frames import as_pandas
from vaefast.tables.row_weights import with_stand_ins

# Categories that a message lists.
LISTED = 5
# Of a constant, the largest share of its mean that its deviation can be by rounding alone.
ROUNDING = 10 * np.finfo(np.float64).eps
# Types of Python and pandas, of NumPy's the names of its scalars, that no category is one of.
TIMES = ("Timestamp", "datetime", "date", "time", "Timedelta", "timedelta", "Period", "datetime64", "timedelta64")
NUMBER = (int, float, Decimal, np.integer, np.floating)


@dataclass(frozen=True)
class Covariate:
    """One covariate as it was in training.

    Parameters
    ----------
    name
        Of its column.
    categories
        The values of a category, sorted; None for a number.
    mean, scale
        Mean and standard deviation of a number.
    """

    name: str
    categories: tuple[str, ...] | None = None
    mean: float = 0.0
    scale: float = 1.0

    def __str__(self) -> str:
        """Name and kind, for messages."""
        count = len(self.categories or ())
        kind = "a number" if self.categories is None else f"{count:,} categor{'y' if count == 1 else 'ies'}"
        return f"{self.name} ({kind})"

    @property
    def width(self) -> int:
        """Columns that the networks see of it."""
        return 1 if self.categories is None else len(self.categories)


@dataclass(frozen=True)
class Covariates:
    """The covariates of a model, learned from those of its training rows."""

    columns: tuple[Covariate, ...]

    @property
    def width(self) -> int:
        """C, the columns that the networks see."""
        return sum(column.width for column in self.columns)

    @property
    def names(self) -> str:
        return ", ".join(repr(column.name) for column in self.columns)

    @classmethod
    def of(
        cls,
        table: Any,
        rows: int,
        called: str = "covariates",
        subset: NDArray[np.int64] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> Covariates:
        """The covariates of a table, (N, columns): text, booleans and pandas categories are categories, the rest are numbers.

        Parameters
        ----------
        table
            A DataFrame, a Series, an array, a list, or a dict of arrays by the names of columns, (N,) each; objects in it are
            categories.
        subset
            The rows to look at, as if there were no others; all without it.
        weights
            What each row counts for in the mean and standard deviation of a number, (N,).

        Raises
        ------
        DataError
            A value is missing, a number is not finite, or the table has another number of rows.
        """
        columns = _columns(table, rows, called)
        if subset is not None:
            columns = [(name, values[subset]) for name, values in columns]
        return cls(tuple(_learned(name, values, called, weights) for name, values in columns))

    def encoded(self, table: Any, rows: int, called: str = "covariates") -> NDArray[np.float32]:
        """A table as the networks see it, (N, C); one row stands for all N.

        Columns with names are matched by them, those of an array by their order.

        Raises
        ------
        DataError
            A column is missing, a value is missing or was not seen in training, or the number of rows is wrong.
        """
        given = _columns(table, rows, called)
        by_name = dict(given)
        if hasattr(table, "columns") or isinstance(table, Mapping):
            missing = [column.name for column in self.columns if column.name not in by_name]
            if missing:
                raise DataError(f"{called} lack the column {missing[0]!r}: the model was trained with {self.names}")
            chosen = [by_name[column.name] for column in self.columns]
        else:
            if len(given) != len(self.columns):
                raise DataError(
                    f"{called} have {len(given)} columns, but the model was trained with {len(self.columns)}: {self.names}"
                )
            chosen = [values for _, values in given]
        parts = [_encoded(column, values, called) for column, values in zip(self.columns, chosen, strict=True)]
        encoded = np.concatenate(parts, axis=1)
        return np.ascontiguousarray(np.repeat(encoded, rows, axis=0) if len(encoded) == 1 else encoded)

    def as_json(self) -> list[dict[str, Any]]:
        """The covariates as JSON, in which a float64 loses no bit."""
        return [
            {"name": column.name, "mean": column.mean, "scale": column.scale}
            if column.categories is None
            else {"name": column.name, "categories": [*column.categories]}
            for column in self.columns
        ]

    @classmethod
    def from_json(cls, content: list[Mapping[str, Any]]) -> Covariates:
        """The covariates from the result of `as_json`.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is not such a result.
        """
        columns = []
        for about in content:
            categories = tuple(str(value) for value in about["categories"]) if "categories" in about else None
            columns.append(
                Covariate(str(about["name"]), categories, float(about.get("mean", 0)), float(about.get("scale", 1)))
            )
        return cls(tuple(columns))


def of_those_that_count(table: Any, rows: int, weights: NDArray[np.float64], called: str = "covariates") -> Any:
    """A table with `with_stand_ins` for its rows of weight 0.

    Raises
    ------
    DataError
        The table has another number of rows.
    """
    if (weights > 0).all():
        return table
    columns, read = _columns(table, rows, called), with_stand_ins(weights)
    return {name: _read(values, read) if len(values) > 1 else values for name, values in columns}


def _read(values: NDArray[Any], read: NDArray[np.int64]) -> NDArray[Any]:
    """Other rows of a column. Objects are numbers if the rows that are left are, unless all were and are categories yet."""
    are_categories = values.dtype == object and all(isinstance(value, NUMBER) for value in values)
    return values[read] if are_categories else _as_numbers(values[read])


def _columns(table: Any, rows: int, called: str) -> list[tuple[str, NDArray[Any]]]:
    """Name and values of each column of a table, a dict, a Series, or an array or list of one or two dimensions."""
    table = as_pandas(table, called)
    if hasattr(table, "columns") and hasattr(table, "dtypes"):
        columns = [(str(name), _values(table.iloc[:, at])) for at, name in enumerate(table.columns)]
    elif isinstance(table, Mapping):
        columns = _of_one_length([(str(name), _listed(values)) for name, values in table.items()])
    elif hasattr(table, "dtype") and hasattr(table, "name"):
        columns = [(called if table.name is None else str(table.name), _values(table))]
    else:
        array = _array(table)
        if array.ndim not in (1, 2):
            raise DataError(f"{called} have {array.ndim} dimensions: give a table of a row for each row of X")
        array = array[:, None] if array.ndim == 1 else array
        columns = [(f"column {at}", _as_numbers(array[:, at])) for at in range(array.shape[1])]
    if not columns:
        raise DataError(f"{called} have no column: leave them out, or give at least one")
    check_unique([name for name, _ in columns], called)
    given = next((len(values) for _, values in columns if len(values) not in (1, rows)), rows)
    if given not in (1, rows):
        raise DataError(f"{called} have {given} rows, but X has {rows}: give a row for each, or one row for all")
    return columns


def _listed(values: Any) -> NDArray[Any]:
    """A column of a dict: an array, a list, a Series, or one value."""
    values = as_pandas(values, "a column of covariates")
    if hasattr(values, "dtype") and hasattr(values, "to_numpy"):
        return _values(values)
    return np.atleast_1d(np.asarray(unmasked(values)))


def _of_one_length(columns: list[tuple[str, NDArray[Any]]]) -> list[tuple[str, NDArray[Any]]]:
    """Columns, those of one value as long as the longest."""
    longest = max((len(values) for _, values in columns), default=1)
    return [(name, np.repeat(values, longest) if len(values) == 1 else values) for name, values in columns]


def _array(table: Any) -> NDArray[Any]:
    """Lists as an array, in which text and numbers side by side stay what they are."""
    table = unmasked(table)
    return table if isinstance(table, np.ndarray) else np.asarray(table, dtype=object)


def _as_numbers(column: NDArray[Any]) -> NDArray[Any]:
    """A column of objects that are all numbers as such."""
    if column.dtype != object or not all(isinstance(value, NUMBER) and not isinstance(value, bool) for value in column):
        return column
    return column.astype(np.float64)


def _values(column: Any) -> NDArray[Any]:
    """A column of a DataFrame: text and categories as objects, numbers as numbers."""
    if getattr(column.dtype, "kind", "O") in "iuf":
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    values, dtype = np.asarray(column, dtype=object), str(column.dtype)
    return _as_numbers(values) if dtype == "object" or dtype.startswith("decimal") else values


def _learned(name: str, values: NDArray[Any], called: str, weights: NDArray[np.float64] | None = None) -> Covariate:
    if _is_category(values):
        if values.dtype.kind in "mM" or any(type(value).__name__ in TIMES for value in values):
            raise DataError(
                f"{called}: {name!r} holds dates or times: give numbers, such as days since the first, or text for categories"
            )
        return Covariate(name, tuple(sorted(set(_labels(name, values, called)))))
    numbers = _numbers(name, values, called)
    if weights is None or len(numbers) == 1:
        mean, scale = float(numbers.mean()), float(numbers.std())
    else:
        mean = float(np.average(numbers, weights=weights))
        scale = math.sqrt(np.average((numbers - mean) ** 2, weights=weights))
    if scale <= ROUNDING * abs(mean):
        # The deviation of a hundred times 0.1 is 4e-17.
        scale = 1.0
    return Covariate(name, None, mean, scale if scale > 0 else 1.0)


def _encoded(column: Covariate, values: NDArray[Any], called: str) -> NDArray[np.float32]:
    if column.categories is None:
        if _is_category(values):
            raise DataError(f"{called}: {column.name!r} holds text, but was a number in training: give numbers")
        with np.errstate(over="ignore"):
            return ((_numbers(column.name, values, called) - column.mean) / column.scale).astype(np.float32)[:, None]
    labels = _labels(column.name, values, called)
    place = {category: at for at, category in enumerate(column.categories)}
    encoded = np.zeros((len(labels), len(place)), np.float32)
    for row, label in enumerate(labels):
        if label not in place:
            known = ", ".join(column.categories[:LISTED]) + (", ..." if len(place) > LISTED else "")
            raise DataError(
                f"{called}: row {row} (counted from 0) of {column.name!r} is {label!r}, which training did not see: "
                f"give one of {known}"
            )
        encoded[row, place[label]] = 1.0
    return encoded


def _is_category(values: NDArray[Any]) -> bool:
    return values.dtype.kind not in "iuf"


def _labels(name: str, values: NDArray[Any], called: str) -> list[str]:
    """The values of a category as text; a whole number is the same with and without its .0."""
    labels = []
    for row, value in enumerate(values):
        if is_missing(value):
            raise DataError(f"{called}: row {row} (counted from 0) of {name!r} is missing: fill it, or leave the row out")
        is_whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
        labels.append(str(int(value) if is_whole else value))
    return labels


def _numbers(name: str, values: NDArray[Any], called: str) -> NDArray[np.float64]:
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.all():
        row = int(np.argmin(finite))
        what = "missing: fill it, or leave the row out" if math.isnan(numbers[row]) else "infinite: give a finite number"
        raise DataError(f"{called}: row {row} (counted from 0) of {name!r} is {what}")
    return numbers
