"""Parquet and feather files, read by pyarrow: all columns of numbers except the index of pandas."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.arrowkinds import field_of, is_text, new_array_of, pandas_metadata, pandas_types
from vaefast.data.indexes import are_names, is_counter, may_hold_text, without_index
from vaefast.data.labels import column_of
from vaefast.data.missing_numbers import numbers_among, with_nan
from vaefast.data.reading import new_array, reading
from vaefast.data.table import Places, Table
from vaefast.data.told import WANTED, ToldColumn, of_categories, of_numbers
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError
from vaefast.models.fields import LABELS, UNUSABLE, Fields

if TYPE_CHECKING:
    import pyarrow as pa

    from vaefast.data.writing import NewColumn

REMEDY = 'pip install "vaefast[tables]", or give the table as CSV'


def read_arrow(
    path: Path,
    kind: str,
    label: str | None = None,
    known: Sequence[str] = (),
    told: Sequence[str] = (),
    kinds: bool = False,
    missing: Sequence[str] = (),
) -> Table:
    """All columns of numbers of a `.parquet` or `.feather` file, as one array of a type that holds them all.

    Values that are missing, null or NaN, are NaN.

    Left out, with a note, are the index that pandas has written, and a first column that is one (see `without_index`).

    Parameters
    ----------
    kind
        `parquet` or `feather`.
    label, known, told
        As for `read_table`.
    kinds
        Whether columns may hold anything: the table has their `fields`, and its values are NaN where they are no numbers.
    missing
        What may stand for a missing value. Its numbers become NaN in `values`.

    Raises
    ------
    DataError
        pyarrow is not installed; the file is damaged or empty; or, without `kinds`, it holds text, dates or other objects.
    """
    origin = shown(path)
    with opened(path) as reader:
        held = reader.parquet.read_table(path) if kind == "parquet" else reader.feather.read_table(path)
        return _table(held, label, known, told, origin, kinds, numbers_among(missing))


def _table(
    held: pa.Table,
    label: str | None,
    known: Sequence[str],
    told: Sequence[str],
    origin: str,
    kinds: bool,
    gaps: Sequence[float],
) -> Table:
    """The columns without an index."""
    names, indexes = [str(name) for name in held.column_names], _indexes(held)
    told_at = [column_of(name, names, len(names), origin, WANTED) for name in told]
    labels_at = None if label is None else column_of(label, names, len(names), origin)
    columns_at = [i for i, name in enumerate(names) if name not in indexes]
    kept = [i for i in columns_at if i not in told_at or i == labels_at]
    if not kept or not held.num_rows:
        raise DataError(f"{origin} holds no numbers: give at least one row and one column of them")
    chosen = {kept.index(at) for at in (labels_at,) if at in kept}
    if columns_at[0] in told_at:
        chosen.add(0)  # what comes behind it is not the first column of the file, and no index
    watched = may_hold_text([names[i] for i in kept], chosen, known) | ({0} if _may_name_rows(held, kept[0]) else set())
    texts: dict[int, list[str]] = {}
    table = Table(tuple(names[i] for i in kept), np.empty((0, len(kept))), texts, tuple(kept), Places())
    columns: list[NDArray[Any]] = []
    for new, old in enumerate(kept):
        if new in watched:
            texts[new] = _texts(held.column(old))
        # Before the columns have one type: a float32 that is as wide as a float64 beside it is another number.
        columns.append(with_nan(_numbers(held.column(old), table, new, origin, kinds), gaps))
    row_names = [str(name) for index in indexes[:1] for name in held.column(index).to_pylist()]
    table = table.with_values(_joined(columns, origin), tuple(row_names))
    if kinds:
        types = pandas_types(held)
        fields = [field_of(held.column(old), names[old], types.get(names[old], "")) for old in kept]
        texts |= {
            new: _texts(held.column(kept[new])) for new, field in enumerate(fields) if field.family in (LABELS, UNUSABLE)
        }
        table = replace(table, fields=Fields(tuple(fields), held.num_rows, True))
    table = table.noted(f"the index {', '.join(map(shown, indexes))} of pandas is left out" if indexes else "")
    table = replace(table, told=tuple(_told(held.column(at), names[at], at, origin) for at in told_at))
    return without_index(table, origin, chosen=chosen)


def _told(column: pa.ChunkedArray, name: str, at: int, origin: str) -> ToldColumn:
    """A column that says something of each row: numbers, or categories of text, truth values, dates or a dictionary.

    Raises
    ------
    DataError
        It holds something else, or a value is missing.
    """
    import pyarrow as pa

    kind, places = column.type, Places()

    def cell(row: int) -> str:
        return f"{places.row(row)}, {places.column(at, name)}"

    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return of_numbers(name, column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64), cell, origin, at)
    held = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_nested(held) or pa.types.is_binary(held):
        raise DataError(f"{origin}: {places.column(at, name)} holds values of type {shown(kind)}: give text or numbers")
    return of_categories(name, column.to_pylist(), cell, origin, at)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The package pyarrow, with its errors turned into DataErrors."""
    pyarrow = _imported(path)
    with reading(path):
        try:
            yield pyarrow
        except DataError:
            raise
        except Exception as error:  # a damaged file makes pyarrow raise almost anything
            raise DataError(f"{shown(path)} is damaged ({reason(error)}): write it again") from error


def arrow_file(columns: Sequence[NewColumn], kind: str, path: Path) -> bytes:
    """The content of a new `.parquet` or `.feather` file, with what pandas says of its types.

    Raises
    ------
    DataError
        pyarrow is not installed.
    """
    pyarrow = _imported(path)
    arrays = [new_array_of(pyarrow, column) for column in columns]
    held = pyarrow.Table.from_arrays(arrays, names=[column.name for column in columns])
    held = held.replace_schema_metadata({b"pandas": json.dumps(pandas_metadata(columns)).encode()})
    sink = io.BytesIO()
    (pyarrow.parquet.write_table if kind == "parquet" else pyarrow.feather.write_feather)(held, sink)
    return sink.getvalue()


def _imported(path: Path) -> Any:
    """The package pyarrow.

    Raises
    ------
    DataError
        It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.feather
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{shown(path)} needs pyarrow, which is not installed: {REMEDY}") from error
    return pyarrow


def _indexes(held: pa.Table) -> list[str]:
    """Columns in which pandas has stored the names of the rows."""
    try:
        said = json.loads(held.schema.metadata[b"pandas"])["index_columns"]
    except (TypeError, KeyError, ValueError):
        return []
    return [name for name in said if isinstance(name, str) and name in held.column_names]


def _may_name_rows(held: pa.Table, column: int) -> bool:
    """Whether a first column is named like an index, or holds words that name the rows."""
    kind = held.column(column).type
    if is_counter(str(held.column_names[column])):
        return True
    return is_text(kind) and are_names([value or "" for value in held.column(column).to_pylist()])


def _texts(column: pa.ChunkedArray) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _numbers(column: pa.ChunkedArray, table: Table, at: int, origin: str, kinds: bool) -> NDArray[Any]:
    """A column as numbers. Text in a column that may hold text becomes NaN, and with `kinds` all that is no number.

    Raises
    ------
    DataError
        The column holds something else.
    """
    import pyarrow as pa

    kind, called = column.type, table.called(at)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        floats = pa.types.is_decimal(kind) or (column.null_count and not pa.types.is_floating(kind))
        return (column.cast(pa.float64(), safe=False) if floats else column).to_numpy()
    if kinds or at in table.texts or pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_temporal(kind):
        remedy = "give them as numbers, such as days since the first, or leave the column out"
        raise DataError(f"{origin}: {called} holds dates or times ({kind}): {remedy}")
    example = next((value for value in column.to_pylist() if value is not None), None)
    row = next((i for i, value in enumerate(column.to_pylist()) if value is not None), 0)
    if isinstance(example, str):
        raise DataError(
            f"{origin}: {called} holds text, such as {shown(repr(example[:40]))} in {table.places.row(row)}: leave the column "
            f"out, choose --likelihood mixed, which takes text, or, if these are labels, give --label {shown(table.names[at])}"
        )
    raise DataError(f"{origin}: {called} holds values of type {shown(kind)}: give one number a cell, or leave the column out")


def _joined(columns: list[NDArray[Any]], origin: str) -> NDArray[Any]:
    """Columns side by side, of a type that holds all of them."""
    dtype = np.result_type(*(column.dtype for column in columns))
    values = new_array((len(columns[0]), len(columns)), dtype, origin)
    for at, column in enumerate(columns):
        values[:, at] = column
    return values
