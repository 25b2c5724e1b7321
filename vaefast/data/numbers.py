"""Tables of any real numbers, for models that take such: as they stand in the file, with no range and no grey levels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vaefast.data.csvfields import counted
from vaefast.data.csvfile import split_labels
from vaefast.data.csvtable import Table, check_no_gaps, read_table
from vaefast.data.files import is_csv
from vaefast.data.images import Dataset, Labels, Rows
from vaefast.data.numpyfile import NPY_MAGIC, NPZ_MAGIC, read_numbers_npy, read_numbers_npz
from vaefast.data.reading import new_array, reading
from vaefast.data.sources import read
from vaefast.data.split import joined
from vaefast.data.values import row_blocks
from vaefast.data.wording import shown
from vaefast.errors import DataError


@dataclass(frozen=True, eq=False)
class Numbers:
    """A table: rows in the order of their source.

    Parameters
    ----------
    source
        The path that the rows come from, or the name of the data.
    values
        (N, columns), all finite: a NumPy array, or a `scipy.sparse.csr_array` where the source is sparse.
    names
        Of the columns; none where the source has none.
    row_names
        Of the rows; none where the source has none.
    labels
        (N,) integers where they are known; they are no column of `values`.
    classes
        Names of the labels 0, 1, ... where the source has labels in words.
    notes
        What was left out or changed, one line each, without the source.
    shape
        Of the picture that a row is, height and width or height, width and channels; None where it is none.
    """

    source: str | Path
    values: Any
    names: tuple[str, ...] = ()
    row_names: tuple[str, ...] = ()
    labels: Labels | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        """Count the rows: N."""
        return int(self.values.shape[0])

    @property
    def name(self) -> str:
        """Of the data, or of the file or folder."""
        return self.source.name if isinstance(self.source, Path) else self.source

    @property
    def notice(self) -> str | None:
        """All notes as one line that a user must see, or None."""
        return f"{shown(self.source)}: {'; '.join(self.notes)}" if self.notes else None

    @property
    def is_sparse(self) -> bool:
        """Whether the values are those of `scipy.sparse`."""
        return not isinstance(self.values, np.ndarray)

    def dense(self) -> Numbers:
        """The same with a NumPy array for the values.

        Raises
        ------
        DataError
            This machine's memory does not hold it.
        """
        if not self.is_sparse:
            return self
        whole = new_array(self.values.shape, self.values.dtype, shown(self.source))
        return replace(self, values=self.values.toarray(out=whole))


def read_numbers(name: str, columns: int, known: Sequence[str] = ()) -> Numbers:
    """A `.npy` or `.npz` file of one array, whose type is kept, or a CSV file, in float64; and images as `read` reads them.

    Parameters
    ----------
    name
        As for `load`.
    columns
        How many the model takes: columns of a CSV file that may be labels are left out where there are more.
    known
        Their names, if the model knows them: those of a CSV file with a header are then chosen and put in order by name.

    Raises
    ------
    DataError
        The file cannot be read, is damaged, or holds what is no finite number; or a column lacks.
    """
    path = Path(name)
    if not os.path.isfile(path):
        return numbers_of(read(name), known)
    with reading(path) as stream:
        start = stream.read(len(NPY_MAGIC))
    if start.startswith(NPY_MAGIC):
        return _finite(Numbers(path, read_numbers_npy(path)), path)
    if start.startswith(NPZ_MAGIC):
        return _finite(Numbers(path, read_numbers_npz(path)), path)
    if is_csv(path):
        return _read_csv(path, columns, known)
    return numbers_of(read(name), known)


def numbers_of(found: Rows | Dataset, known: Sequence[str] = ()) -> Numbers:
    """Images as a table, the training images before the test images, and columns by name as for `read_numbers`.

    Raises
    ------
    DataError
        A column lacks.
    """
    rows = joined(found) if isinstance(found, Dataset) else found
    order, values, origin = _order(rows.names, known, shown(rows.source)), rows.images.values, shown(rows.source)
    notes = (rows.notice.removeprefix(f"{origin}: "),) if rows.notice else ()
    if order is None:
        return Numbers(rows.source, values, rows.names, (), rows.labels, (), notes, rows.images.shape)
    names = tuple(rows.names[i] for i in order)
    return Numbers(rows.source, np.take(values, order, axis=1), names, (), rows.labels, (), notes)


def _read_csv(path: Path, columns: int, known: Sequence[str]) -> Numbers:
    origin = shown(path)
    table = read_table(path, np.float64)
    order = _order(table.names, known, origin)
    if order is not None:
        table = _chosen(table, order)
    elif table.values.shape[1] > columns:
        table = split_labels(table, origin)[0]
    check_no_gaps(table, origin)
    return _finite(Numbers(path, table.values, table.names, notes=table.notes), path)


def _chosen(table: Table, order: list[int]) -> Table:
    """The columns that a model knows, and a note on the others."""
    others = ", ".join(shown(name) for i, name in enumerate(table.names) if i not in order)
    note = f"columns left out, which the model does not know: {others}" if others else ""
    return table.only(order).noted(note)


def _order(names: Sequence[str], known: Sequence[str], origin: str) -> list[int] | None:
    """Where the columns that a model knows stand; None where there are no names to go by.

    Raises
    ------
    DataError
        One is not there.
    """
    if not known or not names or counted([*names]):
        return None
    missing = [name for name in known if name not in names]
    if missing:
        raise DataError(
            f"{origin} lacks the column {shown(repr(missing[0]))}, which the model was trained on: add it, or name it so"
        )
    return [names.index(name) for name in known]


def _finite(numbers: Numbers, path: Path) -> Numbers:
    """The same, once no value is NaN or infinite.

    Raises
    ------
    DataError
        One is; the message holds its row and its column.
    """
    for start, stop in row_blocks(*numbers.values.shape):
        block = numbers.values[start:stop]
        if not np.isfinite(block).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(block))[0])
            name = f" {shown(repr(numbers.names[column][:40]))}" if numbers.names else ""
            raise DataError(
                f"{shown(path)}: row {start + row}, column {column}{name} (both counted from 0) is {block[row, column]}: "
                "give finite numbers"
            )
    return numbers
