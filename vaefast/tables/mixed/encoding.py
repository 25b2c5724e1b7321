"""The values of one column as the engines see them before scaling, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError
from vaefast.models.fields import BOOLEANS, UNUSABLE, Field, Level
from vaefast.tables.checking import place
from vaefast.tables.mixed.column import Column
from vaefast.tables.mixed.kinds import LARGEST_COUNT

# Levels that a message lists.
LISTED = 5


def encoded(column: Column, field: Field, called: str) -> NDArray[np.float64]:
    """The encoded columns of one column, (N, width)."""
    if column.kind in ("binary", "categorical"):
        return _encoded_levels(column, field, called)
    numbers = _numbers(column, field, called)
    wrong, what = np.isinf(numbers), "which is infinite: give a finite number, or leave it missing"
    if not wrong.any() and column.kind == "positive":
        wrong, what = numbers <= 0, "but the column is positive: give a number above 0, or choose column_types real"
    elif not wrong.any() and column.kind == "count":
        wrong = (numbers < 0) | (numbers > LARGEST_COUNT) | (~np.isnan(numbers) & (numbers != np.rint(numbers)))
        what = "but the column is one of counts: give a whole number from 0 to 16,777,216, or choose column_types real"
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{called}: {_cell(row, column)} is {numbers[row]:g}, {what}")
    return (np.log(numbers) if column.kind == "positive" else numbers)[:, None]


def _cell(row: int, column: Column) -> str:
    names = np.array([column.name], object) if isinstance(column.name, str) else None
    return place(row, 0 if names is not None else int(column.name), names)


def _numbers(column: Column, field: Field, called: str) -> NDArray[np.float64]:
    """The values of a column of numbers, (N,) float64."""
    if field.values.dtype == np.float64:
        return field.values
    if field.family == UNUSABLE:
        raise DataError(f"{called}: column {column.name!r} holds {field.trouble}, but was {column.kind} in training")
    numbers = np.full(len(field.values), np.nan)
    for row in np.flatnonzero(~field.missing):
        if isinstance(field.values[row], str):
            raise DataError(
                f"{called}: {_cell(int(row), column)} is the text {field.values[row]!r}, but the column was {column.kind} in "
                "training: give a number, or leave it missing"
            )
        numbers[row] = field.values[row]
    return numbers


def _encoded_levels(column: Column, field: Field, called: str) -> NDArray[np.float64]:
    if field.family == UNUSABLE:
        raise DataError(f"{called}: column {column.name!r} holds {field.trouble}, but was {column.kind} in training")
    codes = {level: code for code, level in enumerate(column.levels)}
    missing = field.missing
    observed = np.flatnonzero(~missing)
    found = np.array([codes.get(value, -1) for value in field.values[observed].tolist()], np.int64)
    if (found < 0).any():
        row = int(observed[np.argmin(found)])
        known = ", ".join(repr(level) for level in column.levels[:LISTED]) + (", ..." if len(column.levels) > LISTED else "")
        raise DataError(
            f"{called}: {_cell(row, column)} is {_shown(field, row)!r}, which training did not see: give one of {known}, or "
            "leave it missing"
        )
    if column.kind == "binary":
        encoded = np.full((len(missing), 1), np.nan)
        encoded[observed, 0] = found
        return encoded
    encoded = np.zeros((len(missing), len(column.levels)))
    encoded[observed, found] = 1.0
    encoded[missing] = np.nan
    return encoded


def _shown(field: Field, row: int) -> Level:
    value = field.values[row]
    if isinstance(value, np.floating):
        return bool(value) if field.family == BOOLEANS else int(value) if float(value).is_integer() else float(value)
    return value


def as_numbers(column: Column, values: NDArray[np.float64], drawn: bool = False) -> NDArray[np.float64]:
    """One column as numbers, (N,), from its encoded columns, (N, width): in the user's units, or the codes of its levels.

    Means of whole numbers are not rounded.
    """
    if column.kind == "binary":
        return np.where(np.isnan(values[:, 0]), np.nan, values[:, 0] >= 0.5)
    if column.kind == "categorical":
        return np.where(np.isnan(values).any(axis=1), np.nan, np.nan_to_num(values).argmax(axis=1))
    return np.asarray(decoded(column if drawn else replace(column, whole=False), values, drawn), np.float64)


def decoded(column: Column, values: NDArray[np.float64], drawn: bool = False) -> NDArray[Any]:
    """The values of one column in the user's units, (N,), from its encoded columns, (N, width).

    Draws have the decimals of the training data; means keep all of theirs.
    """
    if column.kind in ("binary", "categorical"):
        missing = np.isnan(values).any(axis=1)
        codes = (
            (values[:, 0] >= 0.5).astype(np.int64) if column.kind == "binary" else np.where(missing, 0, values.argmax(axis=1))
        )
        levels = np.empty(len(column.levels), object)
        levels[:] = column.levels
        labels = levels[codes]
        labels[missing] = None
        return labels
    numbers = np.exp(values[:, 0]) if column.kind == "positive" else values[:, 0].copy()
    decimals = 0 if column.whole else column.decimals if drawn else None
    if decimals is None:
        return numbers
    numbers = np.rint(numbers) if decimals == 0 else np.round(numbers, decimals)
    # What is above 0 is not rounded to 0: the model would refuse it.
    return np.maximum(numbers, 10.0**-decimals) if column.kind == "positive" else numbers
