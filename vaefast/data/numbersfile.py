"""Read tables of any real numbers from files, without a range or grey levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vaefast.data.arrow import read_arrow
from vaefast.data.csvfaults import missing_values
from vaefast.data.csvtable import HoldsText, read_table
from vaefast.data.h5ad import read_h5ad
from vaefast.data.header import counted
from vaefast.data.images import Dataset, Rows
from vaefast.data.kindsfile import Kinds, read_kinds, with_fields
from vaefast.data.labels import LABELS as LABEL_NAMES
from vaefast.data.labels import ask_for_labels, choose_label, refuse_text, split_labels
from vaefast.data.matrixmarket import read_matrix_market
from vaefast.data.missing_numbers import gaps_in, numbers_among, with_nan
from vaefast.data.numbers import Numbers
from vaefast.data.numpyfile import read_numbers_npy, read_numbers_npz
from vaefast.data.sparse import read_sparse
from vaefast.data.split import joined
from vaefast.data.table import Table
from vaefast.data.tenx import read_tenx
from vaefast.data.told import no_columns
from vaefast.data.values import cell_of_array, row_blocks
from vaefast.data.wording import shown
from vaefast.errors import DataError
from vaefast.models.count_rows import CountRows
from vaefast.models.fields import LABELS, NUMBERS, UNUSABLE, WHOLE, Fields


def read_columns(
    path: Path,
    kind: str,
    label: str | None = None,
    known: Sequence[str] = (),
    told: Sequence[str] = (),
    missing: Sequence[str] = (),
    kinds: Kinds | None = None,
) -> Table:
    """The columns of a text, parquet or feather file, labels included. Text gives float64.

    `known` are the names of the columns of a model. Columns with other names may then hold text. `told` are names, or numbers
    from 1, of columns that say something of each row and may hold text. `missing` is what else a cell may say for a value that
    is missing: a number stands for NaN in every kind of file, a word in a text file. With `kinds` columns may hold anything,
    and the table has its `fields`; a text file of numbers alone gets them by `typed`.
    """
    if kind == "text":
        table = _of_text(path, label, known, told, missing, kinds)
    else:
        table = read_arrow(path, kind, label, known, told, kinds is not None, missing)
    fields = None if table.fields is None else fields_with_gaps(table.fields, missing)
    return replace(table, values=with_gaps(table.values, missing, shown(path)), fields=fields)


def typed(table: Table, path: Path, missing: Sequence[str], kinds: Kinds | None) -> Table:
    """The table of a file with its `fields`, if columns may be of different kinds and their types differ."""
    if kinds is None or table.fields is not None:
        return table
    found = with_fields(table, path, missing)
    return found if found.fields is None else replace(found, fields=fields_with_gaps(found.fields, missing))


def holds_text(table: Table) -> bool:
    """Whether a column holds text, or what is neither text nor a number, and is not named like labels."""
    held = () if table.fields is None else table.fields.columns
    return any(field.family in (LABELS, UNUSABLE) and str(field.name).lower() not in LABEL_NAMES for field in held)


def _of_text(
    path: Path, label: str | None, known: Sequence[str], told: Sequence[str], missing: Sequence[str], kinds: Kinds | None
) -> Table:
    """The columns of a text file: read as numbers unless they are known to be others, or turn out to be."""
    if kinds is None:
        return read_table(path, np.float64, label, known, told, missing)
    if not kinds.wanted:
        try:
            return read_table(path, np.float64, label, known, told, missing)
        except HoldsText:
            pass
    return read_kinds(path, label, known, told, missing, kinds)


def table_of(table: Table, path: Path, label: str | None = None, all_columns: bool = False) -> Numbers:
    """The numbers of a table.

    Parameters
    ----------
    label
        Name, or number from 1, of the column of labels.
    all_columns
        Whether columns that look like labels are read like the others.

    Raises
    ------
    DataError
        A column looks like labels and neither parameter is given; a value is infinite or text; all are missing; no column is
        left.
    """
    origin = shown(path)
    if label is not None:
        table = choose_label(table, origin, label)
    table = table.without_told()
    table = table if all_columns else ask_for_labels(table, origin, label is not None)
    return _settled(table, path)


def model_columns(table: Table, path: Path, columns: int, known: Sequence[str], label: str | None = None) -> Numbers:
    """The numbers of a table for a model of so many columns: the columns it knows by name, else all except labels.

    Raises
    ------
    DataError
        A column is missing; a value is infinite or text; all values are missing.
    """
    origin = shown(path)
    if label is not None:
        table = choose_label(table, origin, label)
    table = table.without_told()
    order = order_of(table.names, known, origin)
    if order is not None:
        others = ", ".join(shown(name) for i, name in enumerate(table.names) if i not in order)
        note = f"columns that the model does not know take no part: {others}" if others else ""
        table = table.only(order).noted(note)
    elif table.values.shape[1] > columns:
        table = split_labels(table, origin)
    return _settled(table, path)


def read_numbers_file(
    path: Path,
    kind: str,
    label: str | None = None,
    layer: str | None = None,
    known: Sequence[str] = (),
    told: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> Numbers:
    """The numbers of a `.npy`, `.npz`, `.h5ad`, `.mtx` or `.h5` file; sparse ones stay sparse.

    Parameters
    ----------
    layer
        For `.h5ad`: the layer to read instead of X.
    known
        Names of the columns of a model. The columns of a file with names are then chosen by name.
    told
        For `.h5ad`: names of columns of `obs` that say something of each row.
    missing
        Numbers, as text, that stand for a missing value.

    Raises
    ------
    DataError
        The file is damaged, or a value is infinite; a column is missing; a value of a sparse table is.
    """
    found = _read_file(path, kind, label, layer, known, told)
    return check_finite(replace(found, values=with_gaps(found.values, missing, shown(path))))


def _read_file(
    path: Path, kind: str, label: str | None, layer: str | None, known: Sequence[str], told: Sequence[str]
) -> Numbers:
    """The numbers of such a file, whatever they are."""
    if kind == "h5ad":
        return _known_columns(read_h5ad(path, label, layer, told), known)
    if told:
        raise no_columns(shown(path), told)
    if label is not None:
        raise DataError(
            f"{shown(path)} has no named columns for --label {shown(label)}: save the labels as the array y beside X"
        )
    if kind == "sparse":
        return read_sparse(path)
    if kind in ("mtx", "tenx"):
        return _known_columns(read_tenx(path) if kind == "tenx" else read_matrix_market(path), known)
    values, labels = (read_numbers_npy(path), None) if kind == "npy" else read_numbers_npz(path)
    shape = values.shape[1:] if values.ndim > 2 else None
    return Numbers(path, values.reshape(len(values), -1), labels=labels, shape=shape)


def with_gaps(values: Any, missing: Sequence[str], origin: str) -> Any:
    """Values with NaN in the place of the numbers, given as text, that stand for a missing one.

    Raises
    ------
    DataError
        The table is sparse, and such a number is in it.
    """
    numbers = numbers_among(missing)
    if not numbers:
        return values
    if not isinstance(values, np.ndarray):
        stored = values.values if isinstance(values, CountRows) else values.data
        found = next((number for number in numbers if np.any(stored == number)), None)
        if found is not None:
            raise DataError(f"{origin} is sparse, and {found:g} in it stands for a missing value: give a dense table")
        return values
    return with_nan(values, numbers)


def fields_with_gaps(fields: Fields, missing: Sequence[str]) -> Fields:
    """The same with nothing in the place of what stands for a missing value, and of the type that such a column then has."""
    numbers, words = numbers_among(missing), {text.lower() for text in missing}
    columns = []
    for field in fields.columns:
        if field.values.dtype == np.float64:
            gaps = gaps_in(field.values, numbers, field.dtype.lower())
            kept = (NUMBERS, "float64") if field.family == WHOLE and field.dtype == "int64" else (field.family, field.dtype)
            values = np.where(gaps, np.nan, field.values)
        else:
            gaps = np.array([isinstance(value, str) and value.lower() in words for value in field.values], bool)
            kept, values = (field.family, field.dtype), field.values.copy()
            values[gaps] = None
        columns.append(replace(field, values=values, family=kept[0], dtype=kept[1]) if gaps.any() else field)
    return replace(fields, columns=tuple(columns))


def _known_columns(numbers: Numbers, known: Sequence[str]) -> Numbers:
    """The table with the columns that a model knows, if both have names.

    Raises
    ------
    DataError
        A column is missing.
    """
    order = order_of(numbers.names, known, shown(numbers.source))
    if order is None or order == [*range(len(numbers.names))]:
        return numbers
    others = len(numbers.names) - len(order)
    note = f"{others:,} columns that the model does not know take no part" if others else ""
    return replace(numbers.only(order), notes=(*numbers.notes, *filter(None, (note,))), at=tuple(order))


def numbers_of(found: Rows | Dataset, known: Sequence[str] = ()) -> Numbers:
    """Images as a table, training images first. Columns are chosen by name as in `read_numbers`.

    Raises
    ------
    DataError
        A column is missing.
    """
    rows = joined(found) if isinstance(found, Dataset) else found
    order, images, origin = order_of(rows.names, known, shown(rows.source)), rows.images, shown(rows.source)
    notes = (rows.notice.removeprefix(f"{origin}: "),) if rows.notice else ()
    if order is not None:
        values, names = np.take(images.values, order, axis=1), tuple(rows.names[i] for i in order)
        return Numbers(rows.source, values, names, (), rows.labels, rows.classes, notes)
    shape = images.shape if images.channels == 1 else (*images.shape, images.channels)
    return Numbers(rows.source, images.values, rows.names, (), rows.labels, rows.classes, notes, shape)


def order_of(names: Sequence[str], known: Sequence[str], origin: str) -> list[int] | None:
    """The places of the columns that a model knows; None without names. Of columns with one name each has its turn.

    Raises
    ------
    DataError
        A column is missing.
    """
    if not known or not names or counted([*names]):
        return None
    places: dict[str, list[int]] = {}
    for at, name in reversed([*enumerate(names)]):
        places.setdefault(name, []).append(at)
    order = []
    for name in known:
        if not places.get(name):
            which = f"column {shown(repr(name))}" if name not in names else f"second column {shown(repr(name))}"
            raise DataError(f"{origin} lacks the {which}, which the model was trained on: add it, or name it so")
        order.append(places[name].pop())
    return order


def check_finite(numbers: Numbers) -> Numbers:
    """The same, after a check that no value is infinite, and that some are there. Of a sparse table none is missing.

    Raises
    ------
    DataError
        A value is. The message gives its place, and how many are missing.
    """
    if isinstance(numbers.values, CountRows):
        return numbers
    if numbers.is_sparse:
        return _check_finite_sparse(numbers)
    values, found = numbers.values, False
    if values.dtype.kind != "f":
        return numbers
    for start, stop in row_blocks(*values.shape):
        block = values[start:stop]
        finite = np.isfinite(block)
        found = found or bool(finite.any())
        if finite.all():
            continue
        infinite = np.isinf(block)
        if infinite.any():
            row, column = (int(i) for i in np.argwhere(infinite)[0])
            raise _infinite(numbers, (numbers.cell or cell_of_array)(start + row, column), block[row, column])
    if not found:
        raise DataError(f"{shown(numbers.source)} holds no numbers: every value is missing")
    return numbers


def _check_finite_sparse(numbers: Numbers) -> Numbers:
    finite = np.isfinite(numbers.values.data)
    if not finite.all():
        at = int(np.argmin(finite))
        row = int(np.searchsorted(numbers.values.indptr, at, "right")) - 1
        value, where = numbers.values.data[at], cell_of_array(row, int(numbers.values.indices[at]))
        if not np.isnan(value):
            raise _infinite(numbers, where, value)
        count = int(np.count_nonzero(np.isnan(numbers.values.data)))
        raise DataError(f"{shown(numbers.source)}: {missing_values(count, where, 'nan')}")
    return numbers


def _infinite(numbers: Numbers, where: str, value: object) -> DataError:
    return DataError(f"{shown(numbers.source)}: {where} is {value}: give finite numbers, or leave its row out")


def _settled(table: Table, path: Path) -> Numbers:
    origin = shown(path)
    if table.fields is None:
        refuse_text(table, origin)
    if not table.at:
        raise DataError(f"{origin} has no column of numbers to train on: give at least one")
    about = table.names, table.row_names, table.labels, table.classes, tuple(table.notes)
    found = Numbers(
        path, table.values, *about, cell=table.cell, told=table.told, at=table.at, fields=table.fields,
        number_notes=table.number_notes,
    )  # fmt: skip
    held = () if table.fields is None else table.fields.columns
    return found if any(field.family in (LABELS, UNUSABLE) for field in held) else check_finite(found)
