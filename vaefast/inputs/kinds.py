"""Tables whose columns are of different kinds: from the columns of a file to numbers, by the schema of a model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data import Numbers
from vaefast.data.csvfields import number_in
from vaefast.data.wording import shortened, shown
from vaefast.errors import DataError, SettingsError
from vaefast.models.columns import KINDS
from vaefast.models.count_rows import CountRows
from vaefast.models.fields import LABELS, UNUSABLE, Field, Fields
from vaefast.tables import checking
from vaefast.tables.mixed import choosing
from vaefast.tables.mixed.choosing import Found
from vaefast.tables.mixed.column import Column
from vaefast.tables.mixed.schema import Schema

# Columns of one kind that a line names.
MOST_NAMED = 8
FLAG = "--column-types"
# The type of pandas for whole numbers some of which are missing: a text file says no types, and 39 stays 39 in it.
WHOLE_WITH_GAPS = "Int64"


def _by_column(asked: dict[str, str], fields: Fields, at: Sequence[int]) -> dict[Any, str]:
    """The same by the names that columns have, or their places where they have none.

    Parameters
    ----------
    at
        The place of each column in the file, which a number counts from 1 on; empty where they are all of its columns.

    Raises
    ------
    SettingsError
        There is no such column.
    """
    known, found = {str(field.name): field.name for field in fields.columns} if fields.named else {}, {}
    numbers = {
        str(place + 1): field.name for place, field in zip(at or range(len(fields.columns)), fields.columns, strict=True)
    }
    for name, kind in asked.items():
        column = known.get(name, numbers.get(name))
        if column is not None and column in found:
            raise SettingsError(
                f"column_types has the column {shown(repr(name))} twice, by its name and its number: give it once"
            )
        if column is not None:
            found[column] = kind
        else:
            held = f"choose among {shortened(shown(', '.join(known)))}" if known else f"there are {len(fields.columns)}"
            raise SettingsError(f"column_types has {shown(repr(name))}, which is no column to train on: {held}")
    return found


def find(
    X: Any,
    names: Sequence[str],
    fields: Fields | None,
    likelihood: str,
    scaling: str | None,
    asked: dict[str, str],
    at: Sequence[int],
    rows: NDArray[np.int64],
    called: str,
) -> Found | None:
    """What `choosing.find` finds in a table of a file: its columns if their types differ, else its numbers, (N, X).

    Parameters
    ----------
    at
        The place of each column in the file, from 0; empty where they are all of its columns.
    rows
        Those to train on.

    Raises
    ------
    DataError, SettingsError
        As `choosing.find` raises them.
    """
    if isinstance(X, CountRows) and (likelihood == "mixed" or asked):
        raise DataError(
            f"{called} is sparse, and likelihood mixed takes a dense table: give one, or choose another likelihood"
        )
    if fields is None and (likelihood == "mixed" or asked):
        fields = named_columns(X, names, called)
    if fields is not None and _has_twice(fields, likelihood == "auto" and not asked, called):
        fields = None
    types = _by_column(asked, fields, at) if asked and fields is not None else None
    return choosing.find(X if fields is None else fields, likelihood, scaling, types, rows, called)


def _has_twice(fields: Fields, may_be_numbers: bool, called: str) -> bool:
    """Whether two columns have the same name, so that they are taken as numbers.

    Raises
    ------
    DataError
        They do, and are not all numbers, or are not to be taken so.
    """
    names = [field.name for field in fields.columns]
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is None:
        return False
    if may_be_numbers and not any(field.family in (LABELS, UNUSABLE) for field in fields.columns):
        return True
    called_so = f"are called {shown(repr(twice))}" if twice else "have no name"
    raise DataError(f"{called}: two columns {called_so}: give each a name of its own")


def named_columns(X: NDArray[Any], names: Sequence[str], called: str) -> Fields:
    """The columns of an array, (N, columns), with their names if they have any."""
    fields = choosing.columns_of(X, called)
    if not names:
        return fields
    columns = [replace(field, name=name) for field, name in zip(fields.columns, names, strict=True)]
    return replace(fields, columns=tuple(columns), named=True)


def with_room(schema: Schema) -> Schema:
    """A schema that was learned from a text file, in which whole numbers with gaps stay whole numbers."""
    columns = [
        replace(column, dtype=WHOLE_WITH_GAPS) if column.whole and column.dtype == "float64" else column
        for column in schema.columns
    ]
    return replace(schema, columns=tuple(columns))


def as_text(schema: Schema) -> frozenset[str]:
    """Names of the columns that are text whatever a file holds; empty if they have none."""
    texts = (column for column in schema.used if any(isinstance(level, str) for level in column.levels))
    return frozenset(str(column.name) for column in texts) if schema.named else frozenset()


def known_columns(schema: Schema) -> tuple[str, ...]:
    """Names of the columns that the model has; empty if they have none."""
    return tuple(str(column.name) for column in schema.used) if schema.named else ()


def fitted(fields: Fields, schema: Schema, unseen_rows: NDArray[np.int64]) -> tuple[Fields, tuple[tuple[int, int], ...]]:
    """Columns of a file for a model: named as in it, with its values of categories, and those without what it cannot know.

    Parameters
    ----------
    unseen_rows
        Rows in which a category that training did not see counts as missing, because the rows are held out of it.

    Returns
    -------
    Fields
        The columns.
    tuple
        Rows and columns of the values that count as missing.
    """
    names = {str(column.name): column for column in schema.columns}
    columns, unseen = [], list[tuple[int, int]]()
    for at, field in enumerate(fields.columns):
        column = names.get(str(field.name)) if schema.named and fields.named else None
        if not (schema.named and fields.named) and at < len(schema.columns):
            column = schema.columns[at]
        if column is None:
            columns.append(field)
            continue
        field = _with_levels(field, column) if column.levels else field
        if column.levels and len(unseen_rows):
            rows = _unseen(field, column, unseen_rows)
            unseen += [(row, at) for row in rows.tolist()]
            field = _without(field, rows)
        columns.append(replace(field, name=column.name) if fields.named else field)
    return replace(fields, columns=tuple(columns)), tuple(unseen)


def _with_levels(field: Field, column: Column) -> Field:
    """A column whose text stands for values that are no text, or whose numbers stand for text, as in `12` among words."""
    are_text = [isinstance(level, str) for level in column.levels]
    if field.family == LABELS and not all(are_text):
        levels: dict[Any, Any] = {str(level): level for level in column.levels}
    elif field.values.dtype == np.float64 and any(are_text):
        levels = {number_in(level): level for level in column.levels if isinstance(level, str)}
    else:
        return field
    values = np.empty(len(field.values), object)
    values[:] = [
        None if gap else levels.get(value, value) for value, gap in zip(field.values.tolist(), field.missing, strict=True)
    ]
    return replace(field, values=values, family=LABELS)


def _unseen(field: Field, column: Column, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    known, there = {*column.levels}, rows[~field.missing[rows]]
    return there[[value not in known for value in field.values[there].tolist()]] if len(there) else there


def _without(field: Field, rows: NDArray[np.int64]) -> Field:
    if not len(rows):
        return field
    values = field.values.copy()
    values[rows] = np.nan if values.dtype == np.float64 else None
    return replace(field, values=values)


def encoded(fields: Fields, schema: Schema, called: str, cell: Callable[[int, int], str] | None) -> NDArray[np.float64]:
    """A table of a file as the schema encodes it, (N, X). Refusals name the place of a value in the file.

    Raises
    ------
    DataError
        As `Schema.encoded` raises them.
    """
    with placed(fields, cell):
        return schema.encoded(fields, called)


def for_schema(data: Numbers, schema: Schema) -> Numbers:
    """The rows of a file for a model, with their columns as it knows them.

    Raises
    ------
    DataError
        There are no such columns.
    """
    fields = data.fields
    if fields is None:
        fields = named_columns(data.dense().values, data.names, shown(data.name))
    return replace(data, fields=fitted(fields, schema, np.empty(0, np.int64))[0], number_notes=())


@contextmanager
def placed(fields: Fields, cell: Callable[[int, int], str] | None, called: str = "X") -> Iterator[None]:
    """Refusals of a value name its place in the file, and the file, if they do not."""
    names = np.array([field.name for field in fields.columns], object) if fields.named else None
    try:
        yield
    except DataError as error:
        message = str(error).replace("choose column_types real", f"train with {FLAG} NAME=real")
        message = re.sub(r"^X(?=[: ])", lambda _: called, message)
        raise DataError(message if cell is None else checking.placed(message, cell, len(fields.columns), names)) from error


def cell_of_encoded(
    fields: Fields, schema: Schema, cell: Callable[[int, int], str] | None
) -> Callable[[int, int], str] | None:
    """What a value of the encoded table is called: by the column of the file that it is of."""
    if cell is None:
        return None
    places = {field.name: at for at, field in enumerate(fields.columns)}
    column_at = np.zeros(schema.width, np.int64)
    for at, column in enumerate(schema.columns):
        if column.kind is not None:
            column_at[column.place] = places[column.name] if schema.named and fields.named else at
    return lambda row, column: cell(row, int(column_at[column]))


def places(schema: Schema, data: Numbers) -> list[int]:
    """The place among the columns of a file of each column that the model has."""
    fields = data.fields
    if fields is not None and fields.named and schema.named:
        known = {field.name: at for at, field in enumerate(fields.columns)}
        return [known[column.name] for column in schema.used]
    return [at for at, column in enumerate(schema.columns) if column.kind is not None]


def described(schema: Schema) -> str:
    """Which column is of which kind, in words."""
    by_kind: dict[str, list[str]] = {}
    for column in schema.used:
        name = shown(column.name) if schema.named else f"column {int(column.name) + 1}"
        values = f" ({len(column.levels)} values)" if column.kind == "categorical" else ""
        by_kind.setdefault(str(column.kind), []).append(f"{name}{values}")
    parts = []
    for kind in KINDS:
        names = by_kind.get(kind, [])
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        if names:
            parts.append(f"{kind} {', '.join(names[:MOST_NAMED])}{more}")
    return "; ".join(parts)


def gaps_in(fields: Fields, schema: Schema) -> tuple[int, int]:
    """How many values of the columns that the model has are missing, and how many values there are."""
    names = {column.name for column in schema.used}
    held = [field for field in fields.columns if field.name in names]
    return sum(int(field.missing.sum()) for field in held), fields.rows * len(held)


def content(fields: Fields, schema: Schema) -> Iterator[bytes]:
    """What tells the columns that a model has from others, for a hash; columns with names are the same in any order."""
    by_name = schema.named and fields.named
    known = {str(column.name) for column in schema.used}
    used = [field for field in fields.columns if str(field.name) in known]
    for field in sorted(used, key=lambda field: str(field.name)) if by_name else used:
        yield f"{field.name} {field.family} {field.dtype} {field.categories};".encode()
        if field.values.dtype == np.float64:
            yield field.values.tobytes()
        else:
            yield json.dumps([None if value is None else str(value) for value in field.values]).encode()
