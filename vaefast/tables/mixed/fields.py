"""The columns of a table as they came, whatever their type: a DataFrame of pandas, an array, or nested lists.

pandas is never imported here: a DataFrame brings its own methods.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError
from vaefast.models.fields import BOOLEANS, LABELS, NUMBERS, UNUSABLE, WHOLE, Field, Fields, Name
from vaefast.tables.checking import check_unique, with_dense_columns
from vaefast.tables.frames import as_pandas, without_dictionary


def is_frame(X: Any) -> bool:
    """Whether X is a DataFrame of pandas, or behaves like one."""
    return hasattr(X, "columns") and hasattr(X, "dtypes") and hasattr(X, "iloc")


def has_names(X: Any) -> bool:
    """Whether each column of a DataFrame has a name of its own that a model can keep."""
    return X.columns.is_unique and all(_is_name(name) for name in X.columns)


def fields_of(X: Any, called: str = "X", read: NDArray[np.int64] | None = None) -> Fields:
    """The columns of a table, (N, columns); `read` says of each row which to read instead.

    Raises
    ------
    DataError
        X is no table, or two columns have the same name.
    """
    X = as_pandas(X, called)
    if isinstance(X, Fields):
        return X if read is None else X[read]
    if read is not None:
        X = X.iloc[read] if hasattr(X, "iloc") else X[read] if isinstance(X, np.ndarray) else [X[row] for row in read]
    if not is_frame(X):
        return _of_array(X, called)
    X = with_dense_columns(X)
    names = [_name(name, called) for name in X.columns]
    check_unique(names, called)
    columns = tuple(_of_series(X.iloc[:, at], name) for at, name in enumerate(names))
    return _checked(Fields(columns, len(X), True, X.index), called)


def _name(name: Any, called: str) -> Name:
    if not _is_name(name):
        raise DataError(f"{called}: a column is called {name!r}: give columns names that are text or whole numbers")
    return name.item() if isinstance(name, np.generic) else name


def _is_name(name: Any) -> bool:
    return isinstance(name, (str, int, np.integer)) and not isinstance(name, bool)


def _of_array(X: Any, called: str) -> Fields:
    if hasattr(X, "tocsr"):
        raise DataError(f"{called} is sparse, and likelihood mixed takes a dense table: give {called}.toarray()")
    mask = np.ma.getmaskarray(X) if isinstance(X, np.ma.MaskedArray) else None
    X = X if isinstance(X, np.ndarray) else np.asarray(X, dtype=object)
    if X.ndim != 2:
        raise DataError(
            f"{called} has {X.ndim} dimension{'' if X.ndim == 1 else 's'}, and a table has rows and columns. Reshape your "
            "data by reshape(-1, 1) if it is one column, and by reshape(1, -1) if it is one row"
        )
    if X.dtype.kind == "c":
        raise DataError(f"Complex data not supported: {called} holds complex numbers; give their parts as columns")
    X = np.ma.getdata(X)
    columns = []
    for at in range(X.shape[1]):
        column = X[:, at]
        if mask is not None and mask[:, at].any():
            column = np.where(mask[:, at], None, column.astype(object))
        columns.append(_of_column(column, at))
    return _checked(Fields(tuple(columns), len(X), False), called)


def _checked(fields: Fields, called: str) -> Fields:
    shape = (fields.rows, len(fields.columns))
    for count, what in zip(shape, ("sample(s)", "feature(s)"), strict=True):
        if not count:
            raise DataError(f"{called} has {count} {what} (shape={shape}) while a minimum of 1 is required.")
    return fields


def _of_column(column: NDArray[Any], name: Name) -> Field:
    """A column of an array, (N,)."""
    kind = column.dtype.kind
    if kind in "biuf":
        family = {"b": BOOLEANS, "f": NUMBERS}.get(kind, WHOLE)
        return Field(name, family, column.astype(np.float64), str(column.dtype))
    if kind in "mMc":
        return _unusable(name, len(column), str(column.dtype), "complex numbers" if kind == "c" else "dates or times")
    values = column.astype(object)
    return _of_objects(values, np.array([_is_missing(value) for value in values], bool), name, "object")


def _of_series(column: Any, name: Name) -> Field:
    """A column of a DataFrame, (N,)."""
    column = without_dictionary(column)
    dtype, kind = str(column.dtype), getattr(column.dtype, "kind", "O")
    missing = np.asarray(column.isna(), bool)
    if hasattr(column.dtype, "categories") and hasattr(column.dtype, "ordered"):
        return _of_categories(column, missing, name)
    if kind in "biuf":
        family = {"b": BOOLEANS, "f": NUMBERS}.get(kind, WHOLE)
        return Field(name, family, np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan)), dtype)
    if kind in "mMc":
        return _unusable(name, len(missing), dtype, "complex numbers" if kind == "c" else "dates or times")
    return _of_objects(np.asarray(column, dtype=object), missing, name, dtype)


def _of_categories(column: Any, missing: NDArray[np.bool_], name: Name) -> Field:
    given = column.cat.categories
    categories = tuple(_level(value) for value in given)
    if not all(_is_level(value) for value in categories):
        odd = next(value for value in categories if not _is_level(value))
        return _unusable(name, len(missing), "category", f"categories of type {type(odd).__name__}")
    values = np.full(len(missing), None, object)
    levels = np.empty(len(categories), object)
    levels[:] = categories
    values[~missing] = levels[np.asarray(column.cat.codes)[~missing]]
    return Field(name, LABELS, values, "category", categories, str(given.dtype), bool(column.cat.ordered))


def _of_objects(values: NDArray[Any], missing: NDArray[np.bool_], name: Name, dtype: str) -> Field:
    """A column of Python objects by what is in it: numbers, truth values, or text and others that can be levels."""
    observed = [_level(value) for value in values[~missing]]
    types = {type(value) for value in observed}
    if Decimal in types and types <= {int, float, Decimal}:  # as databases give them
        types, dtype = {float}, "float64"
    if observed and (types == {bool} or types <= {int, float}):
        numbers = np.full(len(values), np.nan)
        numbers[~missing] = [_float(value) for value in observed]
        return Field(name, BOOLEANS if types == {bool} else WHOLE if types == {int} else NUMBERS, numbers, dtype)
    odd = next((value for value in observed if not _is_level(value)), None)
    if odd is not None:
        is_date = type(odd).__name__ in ("Timestamp", "datetime", "date", "time", "Timedelta", "timedelta", "Period")
        return _unusable(name, len(values), dtype, "dates or times" if is_date else f"objects of type {type(odd).__name__}")
    labels = np.full(len(values), None, object)
    labels[~missing] = observed
    return Field(name, LABELS, labels, dtype)


def _unusable(name: Name, rows: int, dtype: str, trouble: str) -> Field:
    return Field(name, UNUSABLE, np.full(rows, None, object), dtype, trouble=trouble)


def _level(value: Any) -> Any:
    """A value of NumPy as one of Python; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _float(value: Any) -> float:
    """A number, infinite if it is too large, which is refused with its place as any other infinite one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_level(value: Any) -> bool:
    return isinstance(value, (str, int)) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _is_missing(value: Any) -> bool:
    """Whether this is None, NaN of any kind, or `pandas.NA`, which do not equal themselves."""
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, (str, bytes)):
        return False
    try:
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"
