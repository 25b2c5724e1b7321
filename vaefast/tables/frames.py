"""Frames of polars and tables of Arrow, which become frames of pandas where they enter, and leave as they came."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from vaefast.errors import DataError

NEEDS = "pip install pandas pyarrow, or give it as a pandas DataFrame"


def as_pandas(X: Any, called: str = "X") -> Any:
    """A DataFrame or a Series of polars, or a table of Arrow, as pandas has it; anything else as it is.

    Whole numbers stay whole where some are missing.

    Raises
    ------
    DataError
        X is a lazy frame, or pandas or pyarrow is not installed.
    """
    if hasattr(X, "iloc"):
        return X
    if hasattr(X, "collect_schema") and hasattr(X, "collect") and not hasattr(X, "to_pandas"):
        raise DataError(f"{called} is a lazy frame: give {called}.collect()")
    if not hasattr(X, "to_pandas"):
        return X
    try:
        found = X.to_pandas()
    except ImportError as error:
        raise DataError(f"{called} is a {type(X).__name__} of {_package(X)}, which pandas reads: {NEEDS}") from error
    kinds = X.schema.types if hasattr(X, "schema") and hasattr(X.schema, "types") else getattr(X, "dtypes", None)
    if kinds is None:  # one column
        kind = str(getattr(X, "dtype", getattr(X, "type", "")))
        return found.astype("Int64") if _is_whole(kind) and found.dtype.kind == "f" else found
    for at, kind in enumerate(kinds):
        if _is_whole(str(kind)) and found.dtypes.iloc[at].kind == "f":
            found.isetitem(at, found.iloc[:, at].astype("Int64"))
    return found


def as_it_came(table: Any, X: Any) -> Any:
    """A DataFrame of pandas in the form of X, from which `as_pandas` made its like: of polars, of Arrow, or as it is.

    Columns that missed nothing are those of X. Others keep their type if the new values have room in it.
    """
    if hasattr(X, "iloc") or not hasattr(X, "to_pandas") or not hasattr(table, "iloc"):
        return table
    package = sys.modules[_package(X)]
    if hasattr(package, "from_pandas"):
        found = package.from_pandas(table)
        whole = [name for name, kind in X.schema.items() if not kind.is_float() and X[name].null_count() == 0]
        found = found.with_columns(X.select(whole))
        for name, kind in X.schema.items():
            if found.schema[name] != kind:
                with contextlib.suppress(package.exceptions.PolarsError):
                    found = found.with_columns(found[name].cast(kind))
        return found
    found = package.Table.from_pandas(table, preserve_index=False)
    for at, field in enumerate(X.schema):
        with contextlib.suppress(package.ArrowException):
            is_whole = X.column(at).null_count == 0 and not package.types.is_floating(field.type)
            found = found.set_column(at, field, X.column(at) if is_whole else found.column(at).cast(field.type))
    return found


def without_dictionary(column: Any) -> Any:
    """A Series of pandas of Arrow's type of dictionaries as one of categories; any other as it is.

    One whose values are not all different and there becomes one of objects. pandas has few methods for that type, and does
    not make it from its name again.
    """
    if not str(column.dtype).startswith("dictionary<"):
        return column
    held = column.array.__arrow_array__().unify_dictionaries().combine_chunks()
    codes, levels = held.indices.cast("int64").fill_null(-1).to_numpy(), held.dictionary.to_pandas()
    if levels.isna().any() or not levels.is_unique:
        return type(column)(held.to_pylist(), index=column.index, name=column.name, dtype=object)
    categories = sys.modules["pandas"].Categorical.from_codes(codes, levels, ordered=held.type.ordered)
    return type(column)(categories, index=column.index, name=column.name)


def _is_whole(kind: str) -> bool:
    return kind.lower().startswith(("int", "uint")) and kind.lower().lstrip("uint").isdecimal()


def _package(X: Any) -> str:
    return type(X).__module__.partition(".")[0]
