"""Frames of polars and tables of Arrow, which become frames of pandas where they enter, and leave as they came."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from vaefast.errors import DataError

# From here on float64 does not hold every whole number.
LARGEST_EXACT = 2.0**53
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
    if not hasattr(found, "columns"):  # one column
        kind = str(getattr(X, "dtype", getattr(X, "type", "")))
        return _whole(found, X) if _is_whole(kind) and found.dtype.kind == "f" else found
    types = X.schema.types if _is_arrow(X) else getattr(X, "dtypes", None)
    if types is None:
        return found
    names, held = [str(name) for name in _names(X)], [str(name) for name in found.columns]
    # A table of Arrow may have columns that are the index of a frame, and then the others have names of their own.
    places = range(len(held)) if names == held else [names.index(name) if name in names else -1 for name in held]
    for at, place in enumerate(places):
        if place >= 0 and _is_whole(str(types[place])) and found.dtypes.iloc[at].kind == "f":
            found.isetitem(at, _whole(found.iloc[:, at], X.column(place) if _is_arrow(X) else X[names[place]]))
    return found


def _whole(column: Any, source: Any) -> Any:
    """A Series of pandas that is one of floats because some of its whole numbers are missing, as one of whole numbers."""
    if not (column.abs() >= LARGEST_EXACT).any():
        return column.astype("Int64")
    kind = str(getattr(source, "dtype", getattr(source, "type", ""))).lower()
    return source.to_pandas(integer_object_nulls=True).astype("UInt64" if kind == "uint64" else "Int64").set_axis(column.index)


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
                    new = found[name].cast(kind)
                    # A cast to whole numbers cuts, and one to truth values makes true of all but 0.
                    if kind.is_float() or new.cast(found.schema[name]).equals(found[name]):
                        found = found.with_columns(new)
        return found
    found = package.Table.from_pandas(table)
    for field in X.schema:
        at, given = found.schema.get_field_index(field.name), X.column(field.name)
        with contextlib.suppress(package.ArrowException):
            if at >= 0 and given.null_count == 0 and not package.types.is_floating(field.type):
                found = found.set_column(at, field, given)
            elif at >= 0:
                new = found.column(at).cast(field.type)
                if package.types.is_floating(field.type) or new.cast(found.schema.types[at]).equals(found.column(at)):
                    found = found.set_column(at, field, new)
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


def _is_arrow(X: Any) -> bool:
    return hasattr(X, "schema") and hasattr(X.schema, "types")


def _names(X: Any) -> list[str]:
    return X.schema.names if _is_arrow(X) else X.columns


def _is_whole(kind: str) -> bool:
    return kind.lower().startswith(("int", "uint")) and kind.lower().lstrip("uint").isdecimal()


def _package(X: Any) -> str:
    return type(X).__module__.partition(".")[0]
