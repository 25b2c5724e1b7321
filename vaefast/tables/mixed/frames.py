"""Decoded columns as a table of the user's: a DataFrame with the types of the one in training, or an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError
from vaefast.tables.mixed.column import Column
from vaefast.tables.mixed.schema import Schema


def table_of(schema: Schema, values: NDArray[np.floating], index: Any = None, drawn: bool = False) -> Any:
    """An encoded table, (N, X), in the user's columns, order and types.

    A DataFrame for a model that was trained on one, without the columns that were left out. Otherwise an array, (N, columns),
    in which these are missing: float64 where every column is one of numbers, else of objects.

    Parameters
    ----------
    index
        Names of the rows of a DataFrame; 0, 1, ... without them.
    drawn
        Whether values are draws, which have the decimals of the training data.
    """
    decoded = schema.decoded(values, drawn)
    if schema.named:
        return _frame(schema, decoded, index)
    return _array(schema, decoded, len(values))


def _frame(schema: Schema, decoded: list[NDArray[Any]], index: Any) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise DataError("the model was trained on a DataFrame, and gives one back: pip install pandas") from error
    columns = [
        # Without a type pandas would make its own text of objects that are all text.
        pd.Series(typed(column, values), index=index, dtype=object if column.dtype == "object" else None)
        for column, values in zip(schema.used, decoded, strict=True)
    ]
    frame = pd.concat(columns, axis=1)
    frame.columns = pd.Index([column.name for column in schema.used])
    return frame


def typed(column: Column, values: NDArray[Any]) -> Any:
    """Values of a column, (N,), in its type; where some are missing and it has no room for them, in pandas' nullable one."""
    import pandas as pd

    missing = np.asarray(pd.isna(values))
    if column.dtype == "category":
        codes = {level: code for code, level in enumerate(column.levels)}
        categories = pd.Index(list(column.levels), dtype=column.categories_dtype)
        places = np.array([-1 if value is None else codes[value] for value in values.tolist()])
        return pd.Categorical.from_codes(places, categories=categories, ordered=column.ordered)
    dtype = pd.api.types.pandas_dtype(column.dtype)
    if column.dtype == "object":
        return _objects(column, values, missing)
    if getattr(dtype, "kind", "O") not in "biuf":
        return pd.array(values, dtype=dtype)
    numbers = np.where(missing, np.nan, values).astype(np.float64)
    if dtype.kind in "iu":
        numbers = _in_range(numbers, dtype)
    if isinstance(dtype, np.dtype) and not (missing.any() and dtype.kind != "f"):
        return (numbers >= 0.5) if dtype.kind == "b" else numbers.astype(dtype)
    if isinstance(dtype, np.dtype):
        dtype = pd.api.types.pandas_dtype("boolean" if dtype.kind == "b" else dtype.name.replace("i", "I").replace("u", "U"))
    held = np.empty(len(numbers), object)
    held[:] = [_number(value, dtype.kind) for value in numbers]
    return pd.array(np.where(missing, pd.NA, held), dtype=dtype)


def _number(value: float, kind: str) -> Any:
    """A number as Python has it in a type of this kind."""
    if np.isnan(value):
        return None
    return bool(value >= 0.5) if kind == "b" else int(value) if kind in "iu" else float(value)


def _objects(column: Column, values: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    held = np.empty(len(values), object)
    held[:] = [
        int(value) if column.whole and isinstance(value, float) and value == value else value for value in values.tolist()
    ]
    held[missing] = None
    return held


def _in_range(numbers: NDArray[np.float64], dtype: Any) -> NDArray[np.float64]:
    """Whole numbers that a type of whole numbers can hold."""
    bounds = np.iinfo(getattr(dtype, "numpy_dtype", dtype))
    # The largest float64 that is not above the bound: 2^63 - 1 itself is none.
    high = float(bounds.max) if int(float(bounds.max)) <= bounds.max else float(np.nextafter(float(bounds.max), 0))
    return np.clip(np.rint(numbers), float(bounds.min), high)


def _array(schema: Schema, decoded: list[NDArray[Any]], rows: int) -> NDArray[Any]:
    numeric = all(
        values.dtype == np.float64 or _are_numbers(column) for column, values in zip(schema.used, decoded, strict=True)
    )
    table = np.full((rows, len(schema.columns)), np.nan if numeric else None, np.float64 if numeric else object)
    places = [at for at, column in enumerate(schema.columns) if column.kind is not None]
    for at, values in zip(places, decoded, strict=True):
        missing = np.array([value is None or value != value for value in values.tolist()], bool)
        table[~missing, at] = values[~missing]
    return table


def _are_numbers(column: Column) -> bool:
    return all(isinstance(level, (int, float)) for level in column.levels)
