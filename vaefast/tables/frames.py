"""Frames of polars and tables of Arrow, which become frames of pandas where they enter, and leave as they came."""

from __future__ import annotations

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
    """A DataFrame of pandas in the form of X, from which `as_pandas` made its like: of polars, of Arrow, or as it is."""
    if hasattr(X, "iloc") or not hasattr(X, "to_pandas") or not hasattr(table, "iloc"):
        return table
    package = sys.modules[_package(X)]
    return package.from_pandas(table) if hasattr(package, "from_pandas") else package.Table.from_pandas(table)


def _is_whole(kind: str) -> bool:
    return kind.lower().startswith(("int", "uint")) and kind.lower().lstrip("uint").isdecimal()


def _package(X: Any) -> str:
    return type(X).__module__.partition(".")[0]
