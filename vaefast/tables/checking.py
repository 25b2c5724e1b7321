"""Turn X as given by a user into an array of finite numbers, NaN where one is missing.

Errors are one line with row, column and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaefast.errors import DataError
from vaefast.models.count_rows import CountRows
from vaefast.tables.pieces import blocks

MISSING = "fill it, or give a dense table, which may have missing values"
LONGEST = 40


def place(row: int, column: int, names: NDArray[Any] | None) -> str:
    """A cell in words, its column by name if there are names."""
    if names is not None:
        return f"row {row} (counted from 0), column {str(names[column])!r}"
    return f"row {row}, column {column} (both counted from 0)"


def placed(message: str, cell: Callable[[int, int], str], columns: int, names: NDArray[Any] | None) -> str:
    """A message of ours with what `place` calls a cell in it, if anything, called by its place in the user's file.

    Parameters
    ----------
    cell
        What the value in a row and a column is called, both from 0.
    columns
        How many there are.
    names
        Of the columns, as `place` was given them.
    """
    found = re.search(r"row (\d+)(?= \(counted from 0\)|, column \d+ \(both)", message)
    if found is None:
        return message
    row = int(found[1])
    column = next((at for at in range(columns) if place(row, at, names) in message), None)
    return message if column is None else message.replace(place(row, column, names), cell(row, column), 1)


def table(estimator: Any, X: ArrayLike, *, reset: bool = False, called: str = "X") -> Any:
    """X, (N, X), as numbers that are finite; no copy of an array that is so already. A sparse table comes back in CSR.

    Values that are missing are NaN: those that are NaN, None, `pandas.NA`, or masked. A sparse table has none.

    Rows of counts are checked already, and stay as they are.

    Parameters
    ----------
    estimator
        Whose columns these are; with `reset` they become what it remembers.
    called
        What messages call X.

    Raises
    ------
    DataError
        X is no table, or holds text, dates or infinite values; or it is sparse, and a value is missing.
    """
    # Imported here: the command line takes its tables from files, and need not wait 0.7 s for scikit-learn.
    from sklearn.utils.validation import validate_data

    if isinstance(X, CountRows):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X
    X = with_dense_columns(X)
    if hasattr(X, "tocsr"):
        return _sparse_table(estimator, X, reset, called)
    X = unmasked(X)
    _check_shape(X, called)
    names = None
    if hasattr(X, "dtypes") and hasattr(X, "columns"):
        check_unique([*X.columns], called)
        names = np.asarray(X.columns, dtype=object)
        X = _with_nan(X, _check_columns(X, names, called))
    try:
        values = validate_data(estimator, X, reset=reset, dtype="numeric", order=None, ensure_all_finite=False)
        if values.dtype.kind in "mM":
            raise DataError(f"{called} holds dates or times ({values.dtype}): give numbers, such as days since the first")
        if values.dtype.kind == "O":  # None in nested lists
            values = _objects_with_nan(values).astype(np.float64)
    except TypeError as error:
        if "NAType" not in str(error):
            raise
        return table(estimator, _objects_with_nan(X), reset=reset, called=called)
    except ValueError as error:
        if "could not convert string to float" not in str(error):
            raise
        raise DataError(_first_text(np.asarray(X, dtype=object), names, called)) from error
    _check_finite(values, names, called)
    return values


def check_unique(names: Sequence[Any], called: str) -> None:
    """Refuse columns with the same name."""
    seen = set[Any]()
    for name in names:
        if name in seen:
            raise DataError(f"{called}: two columns are called {name!r}: give each a name of its own")
        seen.add(name)


def with_dense_columns(X: Any) -> Any:
    """A DataFrame of pandas without columns of pandas' sparse types, such as `get_dummies(sparse=True)` makes."""
    if not hasattr(X, "dtypes") or not hasattr(X, "astype"):
        return X
    types = [getattr(dtype, "subtype", None) if str(dtype).startswith("Sparse") else None for dtype in np.atleast_1d(X.dtypes)]
    if all(each is None for each in types):
        return X
    X = X.copy(deep=False)
    for at, dtype in enumerate(types):
        if dtype is not None:
            X.isetitem(at, X.iloc[:, at].astype(dtype))
    return X


def _sparse_table(estimator: Any, X: Any, reset: bool, called: str) -> Any:
    from sklearn.utils.validation import validate_data

    X = validate_data(estimator, X, reset=reset, dtype="numeric", accept_sparse="csr", ensure_all_finite=False)
    if not X.has_canonical_format:
        X = X.copy()  # which may be the user's own
        X.sum_duplicates()
    if X.data.dtype.kind == "f" and not np.isfinite(X.data).all():
        entry = int(np.argmin(np.isfinite(X.data)))
        row, column = int(np.searchsorted(X.indptr, entry, side="right")) - 1, int(X.indices[entry])
        value = X.data[entry]
        what = f"missing (NaN): {MISSING}" if np.isnan(value) else f"infinite ({value}): give a finite number"
        raise DataError(f"{called}: {place(row, column, None)} is {what}")
    return X


def unmasked(X: Any) -> Any:
    """The data of a masked array, with NaN where it is masked."""
    if not isinstance(X, np.ma.MaskedArray):
        return X
    mask, data = np.ma.getmaskarray(X), np.ma.getdata(X)
    if not mask.any():
        return data
    data = data.astype(data.dtype if data.dtype.kind in "fO" else np.float64)
    data[mask] = np.nan
    return data


def numbers_in(X: Any, called: str) -> NDArray[Any]:
    """An array of numbers: as it is, or as float64, with NaN where one is missing, if it came as objects or text.

    Raises
    ------
    DataError
        A value is no number.
    """
    values = np.asarray(unmasked(X))
    if values.dtype.kind not in "OUS":
        return values
    objects = _objects_with_nan(values)
    try:
        return objects.astype(np.float64)
    except (TypeError, ValueError) as error:
        first = next(value for value in objects.flat if not _is_number(value))
        raise DataError(f"{called} holds {str(first)[:40]!r}: give numbers") from error


def _objects_with_nan(X: Any) -> NDArray[Any]:
    """A table of objects, (N, X), with NaN where one is missing."""
    values = np.array(X, dtype=object)
    values[np.array([is_missing(value) for value in values.flat], bool).reshape(values.shape)] = np.nan
    return values


def _with_nan(X: Any, columns: list[int]) -> Any:
    """A DataFrame with NaN where a value is missing in these columns, which are of objects or of a nullable type."""
    if not columns or not hasattr(X, "isetitem"):
        return X
    X = X.copy(deep=False)
    for at in columns:
        column = X.iloc[:, at]
        kept = np.float32 if str(column.dtype) == "Float32" else np.float64
        values = np.asarray(column.array, dtype=object)
        gaps = np.asarray(column.isna())
        known = np.array([float(value) for value in values[~gaps]], kept)
        filled = np.full(len(values), np.nan, kept)
        filled[~gaps] = known
        X.isetitem(at, filled)
    return X


def _check_shape(X: Any, called: str) -> None:
    shape = getattr(X, "shape", None)
    if isinstance(shape, tuple) and len(shape) > 2:
        raise DataError(
            f"{called} has the shape {shape}, and a row must be one example: give {called}.reshape(len({called}), -1)"
        )
    # scikit-learn would take a pair of tables for two rows and complain about the dimensions.
    if isinstance(X, tuple) and X and all(hasattr(part, "shape") for part in X):
        raise DataError(f"{called} is a tuple of {len(X)} arrays: give the rows alone, without labels")


def _check_columns(X: Any, names: NDArray[Any], called: str) -> list[int]:
    """Refuse columns of a DataFrame that are not numbers; which of the others hold what NumPy does not know for missing."""
    found = []
    for at, (name, dtype) in enumerate(zip(names, X.dtypes, strict=True)):
        kind = getattr(dtype, "kind", "O")
        if kind in "mM":
            raise DataError(
                f"{called}: column {str(name)!r} holds dates or times ({dtype}): give it as a number, such as days since the "
                "first, or leave it out"
            )
        if kind in "biufc":
            column = X.iloc[:, at] if hasattr(X, "iloc") else None
            if column is not None and not isinstance(dtype, np.dtype) and column.isna().any():
                found.append(at)
            continue
        column = np.asarray(X.iloc[:, at] if hasattr(X, "iloc") else X[name], dtype=object)
        if _check_objects(column, at, names, called):
            found.append(at)
    return found


def _check_objects(column: NDArray[Any], at: int, names: NDArray[Any], called: str) -> bool:
    """Refuse text that is no number; whether a value is missing."""
    missing = False
    for row, value in enumerate(column):
        if is_missing(value):
            missing = True
        elif isinstance(value, str) and not _is_number(value):
            raise DataError(f"{called}: {_text(place(row, at, names), value)}")
        elif not _is_number(value):
            raise DataError(
                f"{called}: {place(row, at, names)} is {str(value)[:LONGEST]!r} (of type {type(value).__name__}), which is no "
                "number: turn it into one, or leave the column out"
            )
    return missing


def is_missing(value: Any) -> bool:
    """Whether this is None, NaN of any kind, `pandas.NA` or `pandas.NaT`, which do not equal themselves."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _text(where: str, value: object) -> str:
    shown = str(value) if len(str(value)) <= LONGEST else str(value)[:LONGEST] + "..."
    return (
        f"{where} is the text {shown!r}: choose likelihood mixed, which takes text, leave the column out, or turn it into "
        "numbers (scikit-learn's OneHotEncoder or OrdinalEncoder)"
    )


def _first_text(X: NDArray[Any], names: NDArray[Any] | None, called: str) -> str:
    """What is wrong with a table of objects that are not numbers."""
    for row, values in enumerate(np.atleast_2d(X)):
        for column, value in enumerate(values):
            if isinstance(value, (str, bytes)) and not (isinstance(value, str) and _is_number(value)):
                return f"{called}: {_text(place(row, column, names), value)}"
    return f"{called} holds text: give numbers"


def _check_finite(X: NDArray[Any], names: NDArray[Any] | None, called: str) -> None:
    """Refuse infinite values."""
    if X.dtype.kind not in "fO":
        return
    for rows in blocks(X):
        # A sum needs no temporary array. It is finite only if all its terms are, though finite terms may overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(X[rows].sum()):
                continue
        infinite = np.isinf(X[rows])
        if not infinite.any():
            continue
        row, column = (int(i) for i in np.unravel_index(np.argmax(infinite), infinite.shape))
        value, where = X[rows.start + row, column], place(rows.start + row, column, names)
        raise DataError(f"{called}: {where} is infinite ({value}): give a finite number, or leave its row out")
