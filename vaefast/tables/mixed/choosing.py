"""Whether a table is one of columns of different kinds, and its schema if it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import SettingsError
from vaefast.models.fields import BOOLEANS, LABELS, NUMBERS, UNUSABLE, WHOLE, Fields
from vaefast.tables.counting import looks_counted
from vaefast.tables.mixed.fields import fields_of, has_names, is_frame
from vaefast.tables.mixed.schema import LeftOut, Schema, described

# Columns that one warning names.
MOST_NAMED = 8
# For the choice of a likelihood these are of one kind: numbers that any table of numbers may hold.
REAL = ("real", "positive", "heavy-tailed")


class Found(NamedTuple):
    """A table of columns of different kinds."""

    fields: Fields
    schema: Schema
    left_out: list[LeftOut]


def find(
    X: Any,
    likelihood: str,
    scaling: str | None,
    column_types: Mapping[Any, str] | None,
    rows: NDArray[np.int64] | None = None,
    called: str = "X",
    read: NDArray[np.int64] | None = None,
) -> Found | None:
    """A table that likelihood `mixed` is for, with its schema and the columns that cannot be used; None for any other table.

    `auto` takes `mixed` for a DataFrame with text or categories, and for one whose columns have different types and are of
    different kinds, such as truth values or counts beside real numbers. A table of one type, one whose values are all 0 or 1,
    and one of whole numbers that are mostly 0 is none.

    Parameters
    ----------
    likelihood, scaling, column_types
        As the user asks for them.
    rows
        Which rows to look at, as if there were no others; all without it.
    read
        Of each row the one to read instead, such as `row_weights.with_stand_ins` gives.

    Raises
    ------
    SettingsError
        There are kinds of columns, but another likelihood; or there is no such column or kind.
    DataError
        X is no table of columns; or likelihood `mixed` can use none of them.
    """
    if likelihood not in ("auto", "mixed"):
        if column_types is not None:
            raise SettingsError(f"column_types are given, but likelihood is {likelihood!r}: choose mixed, or leave them out")
        return None
    if likelihood == "mixed" or column_types is not None:
        fields = fields_of(X, called, read)
        return Found(fields, *Schema.learned(fields, column_types, rows))
    has_columns = isinstance(X, Fields) or (is_frame(X) and has_names(X))
    if scaling != "auto" or not has_columns or _is_of_one_type(X):
        return None
    fields = fields_of(X, called, read)
    return Found(fields, *Schema.learned(fields, None, rows)) if _differ(fields, rows) else None


def columns_of(X: Any, called: str = "X") -> Fields:
    """The columns of any table, as `fields_of` gives them."""
    return fields_of(X, called)


def why(schema: Schema) -> str:
    """Why likelihood `mixed` was chosen for a table with this schema, in words."""
    count: dict[str, int] = {}
    for column in schema.used:
        count[str(column.kind)] = count.get(str(column.kind), 0) + 1
    return "columns of different kinds: " + ", ".join(f"{number} {kind}" for kind, number in count.items())


def of_left_out(left_out: list[LeftOut], called: str = "X") -> str | None:
    """The warning on columns that cannot be used."""
    if not left_out:
        return None
    more = f" and {len(left_out) - MOST_NAMED} more" if len(left_out) > MOST_NAMED else ""
    one = len(left_out) == 1
    return (
        f"{called}: column{'' if one else 's'} {described(left_out[:MOST_NAMED])}{more} cannot be used, and "
        f"{'is' if one else 'are'} left out of the model"
    )


def _is_of_one_type(X: Any) -> bool:
    """Whether all columns of a DataFrame, or of what was read of a file, have one type, of numbers or truth values."""
    if isinstance(X, Fields):
        return len({field.dtype for field in X.columns}) == 1 and X.columns[0].family in (NUMBERS, WHOLE, BOOLEANS)
    types = set(X.dtypes)
    return len(types) == 1 and getattr(next(iter(types)), "kind", "O") in "biuf"


def _differ(fields: Fields, rows: NDArray[np.int64] | None) -> bool:
    """Whether columns are of different kinds."""
    families = {field.family for field in fields.columns}
    if LABELS in families:
        # Text that is all numbers, in a table of numbers, is read as numbers.
        return any(
            field.categories is not None or not _is_numeric(field.values) for field in fields.columns if field.family == LABELS
        )
    if UNUSABLE in families or families == {NUMBERS}:
        return False
    values = np.column_stack([field.values if rows is None else field.values[rows] for field in fields.columns])
    if (np.isnan(values) | (values == 0) | (values == 1)).all() or (BOOLEANS not in families and looks_counted(values)):
        return False
    schema, _ = Schema.learned(fields, None, rows)
    return len({"real" if column.kind in REAL else column.kind for column in schema.used}) > 1


def _is_numeric(values: NDArray[Any]) -> bool:
    """Whether every object that is there is a number, or the text of one."""
    try:
        for value in values:
            if value is not None:
                float(value)
    except ValueError:
        return False
    return True
