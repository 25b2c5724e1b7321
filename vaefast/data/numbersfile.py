"""Read tables of any real numbers from files, without a range or grey levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vaefast.data.arrow import read_arrow
from vaefast.data.csvfaults import missing_values
from vaefast.data.csvfields import counted
from vaefast.data.csvtable import check_no_gaps, read_table
from vaefast.data.h5ad import read_h5ad
from vaefast.data.images import Dataset, Rows
from vaefast.data.labels import ask_for_labels, choose_label, refuse_text, split_labels
from vaefast.data.matrixmarket import read_matrix_market
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


def read_columns(
    path: Path, kind: str, label: str | None = None, known: Sequence[str] = (), told: Sequence[str] = ()
) -> Table:
    """The columns of a text, parquet or feather file, labels included. Text gives float64.

    `known` are the names of the columns of a model. Columns with other names may then hold text. `told` are names, or numbers
    from 1, of columns that say something of each row and may hold text.
    """
    if kind == "text":
        return read_table(path, np.float64, label, known, told)
    return read_arrow(path, kind, label, known, told)


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
        A column looks like labels and neither parameter is given; a value is missing, infinite or text; no column is left.
    """
    origin = shown(path)
    if label is not None:
        table = choose_label(table, origin, label)
    table = table.without_told()
    table = table if all_columns else ask_for_labels(table, origin)
    return _settled(table, path)


def model_columns(table: Table, path: Path, columns: int, known: Sequence[str], label: str | None = None) -> Numbers:
    """The numbers of a table for a model of so many columns: the columns it knows by name, else all except labels.

    Raises
    ------
    DataError
        A column is missing; a value is missing, infinite or text.
    """
    origin = shown(path)
    if label is not None:
        table = choose_label(table, origin, label)
    table = table.without_told()
    order = order_of(table.names, known, origin)
    if order is not None:
        others = ", ".join(shown(name) for i, name in enumerate(table.names) if i not in order)
        note = f"columns that the model does not know are left out: {others}" if others else ""
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

    Raises
    ------
    DataError
        The file is damaged, or a value is not a finite number; a column is missing.
    """
    if kind == "h5ad":
        return check_finite(_known_columns(read_h5ad(path, label, layer, told), known))
    if told:
        raise no_columns(shown(path), told)
    if label is not None:
        raise DataError(
            f"{shown(path)} has no named columns for --label {shown(label)}: save the labels as the array y beside X"
        )
    if kind == "sparse":
        return check_finite(read_sparse(path))
    if kind in ("mtx", "tenx"):
        return check_finite(_known_columns(read_tenx(path) if kind == "tenx" else read_matrix_market(path), known))
    values, labels = (read_numbers_npy(path), None) if kind == "npy" else read_numbers_npz(path)
    shape = values.shape[1:] if values.ndim > 2 else None
    return check_finite(Numbers(path, values.reshape(len(values), -1), labels=labels, shape=shape))


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
    note = f"{others:,} columns that the model does not know are left out" if others else ""
    return replace(numbers.only(order), notes=(*numbers.notes, *filter(None, (note,))))


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
    """The places of the columns that a model knows; None without names.

    Raises
    ------
    DataError
        A column is missing.
    """
    if not known or not names or counted([*names]):
        return None
    held = {*names}
    missing = [name for name in known if name not in held]
    if missing:
        raise DataError(
            f"{origin} lacks the column {shown(repr(missing[0]))}, which the model was trained on: add it, or name it so"
        )
    places = {name: at for at, name in reversed([*enumerate(names)])}
    return [places[name] for name in known]


def check_finite(numbers: Numbers) -> Numbers:
    """The same, after a check that no value is missing or infinite.

    Raises
    ------
    DataError
        A value is. The message gives its place, and how many are missing.
    """
    if isinstance(numbers.values, CountRows):
        return numbers
    if numbers.is_sparse:
        return _check_finite_sparse(numbers)
    values, missing, first = numbers.values, 0, (0, 0)
    cell = numbers.cell or cell_of_array
    if values.dtype.kind != "f":
        return numbers
    for start, stop in row_blocks(*values.shape):
        block = values[start:stop]
        if np.isfinite(block).all():
            continue
        gaps = np.isnan(block)
        if not missing:
            row, column = (int(i) for i in np.argwhere(gaps if gaps.any() else ~np.isfinite(block))[0])
            first = (start + row, column)
        if not gaps.any() and not missing:
            raise _infinite(numbers, cell(*first), values[first])
        missing += int(np.count_nonzero(gaps))
    if missing:
        raise DataError(f"{shown(numbers.source)}: {missing_values(missing, cell(*first), 'nan')}")
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
    refuse_text(table, origin)
    if not table.at:
        raise DataError(f"{origin} has no column of numbers to train on: give at least one")
    check_no_gaps(table, origin)
    about = table.names, table.row_names, table.labels, table.classes, tuple(table.notes)
    return check_finite(Numbers(path, table.values, *about, cell=table.cell, told=table.told))
