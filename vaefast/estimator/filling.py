"""A user's table with its missing values filled in: in the form in which it came, and all else as it was."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.tables.checking import with_dense_columns
from vaefast.tables.frames import without_dictionary
from vaefast.tables.mixed.frames import typed
from vaefast.tables.mixed.schema import Schema


def filled(X: Any, gaps: NDArray[np.bool_], values: NDArray[np.float64]) -> Any:
    """X, (N, X), with these values, (N, X), where it has gaps, (N, X).

    A DataFrame stays one, with its index, its columns and their types; a column that cannot hold fractions becomes one of
    float. Anything else becomes a NumPy array, of float32 if it was one of it, else of float64.
    """
    if hasattr(X, "isetitem"):
        return _frame(with_dense_columns(X), gaps, values)
    masked = isinstance(X, np.ma.MaskedArray)
    array = np.ma.getdata(X) if masked else np.asarray(X)
    kept = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    if array.dtype.kind == "O":
        array = np.where(gaps, 0.0, array)
    whole = array.astype(kept)
    whole[gaps] = values[gaps]
    return whole


def _frame(X: Any, gaps: NDArray[np.bool_], values: NDArray[np.float64]) -> Any:
    frame = X.copy()
    for at in np.flatnonzero(gaps.any(axis=0)).tolist():
        column, here = X.iloc[:, at], gaps[:, at]
        dtype = column.dtype
        kept = str(dtype) if getattr(dtype, "kind", "O") == "f" else "Float64" if _is_nullable(dtype) else "float64"
        whole = np.empty(len(column), np.float64)
        whole[~here] = np.asarray(column[~here].astype("float64"))
        whole[here] = values[here, at]
        frame.isetitem(at, type(column)(whole, index=column.index, dtype="float64").astype(kept))
    return frame


def _is_nullable(dtype: Any) -> bool:
    """Whether a type of pandas has a value of its own for what is missing."""
    return not isinstance(dtype, np.dtype) and getattr(dtype, "kind", "O") in "biu"


def filled_columns(X: Any, gaps: NDArray[np.bool_], values: NDArray[np.float64], schema: Schema, drawn: bool = False) -> Any:
    """The same for columns of different kinds: gaps and values, (N, X), are those of the encoded table.

    Each column keeps its type. Columns that the model does not have stay as they came.
    """
    is_frame = hasattr(X, "isetitem")
    X = with_dense_columns(X)
    whole: Any = X.copy() if is_frame else _array(X)
    for column, found in zip(schema.used, schema.decoded(values, drawn), strict=True):
        here = gaps[:, column.start]
        if not here.any():
            continue
        if not is_frame:
            whole[here, schema.columns.index(column)] = found[here]
            continue
        at = [*X.columns].index(column.name) if schema.named else schema.columns.index(column)
        whole.isetitem(at, _filled_series(X.iloc[:, at], here, typed(column, found)))
    return whole


def _filled_series(held: Any, here: NDArray[np.bool_], found: Any) -> Any:
    """A column of pandas with found values, (N,), in its gaps, in a type that holds both: its own, if it can."""
    held = without_dictionary(held)
    if here.all():  # a column without values may have any type
        return type(held)(found, index=held.index, name=held.name, dtype=object if held.dtype == object else None)
    new = found[here]
    if str(held.dtype) == "category" and held.cat.categories.dtype.kind in "iuf" and getattr(new.dtype, "kind", "O") in "iuf":
        held = held.astype("float64")
    elif str(held.dtype) == "category":
        values = new.tolist()
        known = {*held.cat.categories}
        held = held.cat.add_categories([*dict.fromkeys(value for value in values if value not in known)])
        held[here] = values
        return held
    elif getattr(held.dtype, "kind", "O") in "biu" and getattr(new.dtype, "kind", "O") == "f":
        # A type of pandas for whole numbers or truth values, in which a fraction has no room.
        held = held.astype("Float64")
    if getattr(held.dtype, "kind", "O") == "O" and getattr(new.dtype, "kind", "O") == "f" and _are_decimals(held):
        held = type(held)(held.to_numpy(dtype=np.float64, na_value=np.nan), index=held.index, name=held.name)
    held = held.copy()
    if getattr(held.dtype, "kind", "O") == "f" and getattr(new.dtype, "kind", "O") in "biuf":
        exact = np.asarray(new, dtype=np.float64)
        held[here] = exact.astype(held.dtype) if isinstance(held.dtype, np.dtype) else exact
        return held
    try:
        held[here] = new
    except (TypeError, ValueError):  # a type other than that of the training data, such as numbers for true and false
        held = held.astype(object)
        held[here] = new.tolist()
    return held


def _are_decimals(held: Any) -> bool:
    return any(isinstance(value, Decimal) for value in held.array)


def _array(X: Any) -> NDArray[Any]:
    """A copy of an array or of lists, with room for anything where it is not of numbers."""
    if isinstance(X, np.ma.MaskedArray):
        data = np.ma.getdata(X)
        return data.astype(np.float64 if data.dtype.kind in "biu" else data.dtype)
    return np.array(X, dtype=None if isinstance(X, np.ndarray) else object)
