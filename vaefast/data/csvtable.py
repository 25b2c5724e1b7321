"""A table of numbers from a text file, as spreadsheets, pandas and R write it.

NumPy's reader takes the lines of plain numbers. Only columns that may hold text are read value by value.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vaefast.data.csvfaults import GAPS, TEXT, complaint, missing_values
from vaefast.data.csvfields import MISSING, QUOTE, TRUTHS, fields_of, number_in
from vaefast.data.csvlines import NAN, Lines
from vaefast.data.dialect import encoding_of, with_point
from vaefast.data.header import remark
from vaefast.data.indexes import are_names, is_counter, may_hold_text, without_index
from vaefast.data.labels import column_of
from vaefast.data.reading import reading, unpacked
from vaefast.data.table import Table
from vaefast.data.told import WANTED, ToldColumn, of_texts
from vaefast.data.values import row_blocks
from vaefast.data.wording import shown
from vaefast.errors import DataError

# At most this many different labels of a column share one string each.
MOST_SHARED = 1000
# The encoding of text that is not UTF-8: the one that Windows uses in Europe and America.
OTHER_ENCODING = "cp1252"
# The column of labels, the names of the columns that are wanted, and the columns that say something of each row.
_About: TypeAlias = "tuple[str | None, Sequence[str], Sequence[str]]"
# Bytes from which the encoding is found.
SNIFFED = 4096


def read_table(
    path: Path,
    dtype: DTypeLike | Callable[[Sequence[str], int], DTypeLike],
    label: str | None = None,
    known: Sequence[str] = (),
    told: Sequence[str] = (),
    missing: Sequence[str] | None = None,
) -> Table:
    """All columns of numbers except the index of the rows.

    A first column is taken as an index and left out, with a note, in four cases:

    - It has no name (or `Unnamed: 0`, or the header has one name fewer than the rows have fields), and it holds names of the
      rows or whole numbers that all differ.
    - It is named like an index, and it counts the rows, names them, or holds different whole numbers for ten rows or more.
    - It holds a different word for each of ten rows or more.
    - The file has no header, and it counts ten rows or more.

    Parameters
    ----------
    path
        A text file, which may be packed (gzip, xz, bz2, or a zip archive of one file).
    dtype
        Type of the values, or a function that gives it from the names and the number of the columns.
    label
        Name or number, from 1, of a column that may hold text.
    known
        Names of the columns that are wanted: where all are there, the others may hold text.
    told
        Names or numbers, from 1, of columns that say something of each row and may hold text.
    missing
        What a field may say for a missing value beside `csvfields.MISSING`: it becomes NaN. None where none may be missing.

    Raises
    ------
    DataError
        There is no such column of labels or of `told`, lines differ in length, a value is text, or missing where none may be,
        there are no numbers, a column without a name is not an index, or the file is damaged or is not text.
    """
    about = label, known, told
    return with_encoding(path, lambda encoding: _with_gaps(path, dtype, about, missing, encoding))


def with_encoding(path: Path, read: Callable[[str | None], Table]) -> Table:
    """What `read` makes of a file in the encoding that its first bytes show, or else as Windows-1252.

    Raises
    ------
    DataError
        It is text in neither.
    """
    try:
        return read(None)
    except UnicodeDecodeError as error:
        if error.encoding != "utf-8":
            raise DataError(f"{shown(path)} is damaged, or is not UTF-16 text: save it as CSV in UTF-8") from error
        return read(OTHER_ENCODING).noted("it is not UTF-8, and read as Windows-1252")


def _with_gaps(path: Path, dtype: Any, about: _About, missing: Sequence[str] | None, encoding: str | None) -> Table:
    """The table, read as if no value were missing, and, where that fails and some may be, with a look at every field."""
    if not missing:
        try:
            return _read(path, dtype, about, None, encoding)
        except _Gaps:
            if missing is None:
                raise
    return _read(path, dtype, about, frozenset({*MISSING, *(token.lower() for token in missing)}), encoding)


class _Gaps(DataError):
    """Nothing but missing values is wrong with a file."""


class HoldsText(DataError):
    """A column of a file holds text."""


def _read(path: Path, dtype: Any, about: _About, missing: frozenset[str] | None, encoding: str | None) -> Table:
    """The table. `missing` is what a field may say for NaN beside numbers; None where NumPy's reader is to know all."""
    origin, (label, known, told) = shown(path), about
    with opened_lines(path, encoding, known) as lines:
        lines.missing = missing or frozenset()
        names, lacks_a_name = lines.header()
        told_at = [column_of(name, names, lines.width(), origin, WANTED) for name in told]
        chosen = {*told_at} | (set() if label is None else {column_of(label, names, lines.width(), origin)})
        watched = may_hold_text(names, chosen, known) | ({0} if names and is_counter(names[0]) else set())
        begins_with_a_word = bool(names) and 0 not in watched and lines.begins_with_a_word()
        texts = {at: _Texts(lines.dialect.decimal) for at in sorted(watched | ({0} if begins_with_a_word else set()))}
        truths = [at for at in lines.truths() if at not in texts]
        lines.texts = frozenset(texts)
        kept = dtype(names, lines.width()) if callable(dtype) and not isinstance(dtype, type) else dtype
        try:
            values = _parse(lines, texts, truths, kept)
        except (DataError, UnicodeDecodeError):
            raise
        except ValueError as error:
            if begins_with_a_word and not _names_rows(path, encoding, known):
                del texts[0]
            raise _complaint(path, encoding, known, texts, truths, lines.row, missing) from error
        if begins_with_a_word and not are_names(texts[0]):
            del texts[0]
            raise _complaint(path, encoding, known, texts, truths, lines.row, missing)
    if values.size == 0:
        raise DataError(f"{origin} holds no numbers: give one row a line, numbers with commas between them")
    columns = {at: list(column) for at, column in texts.items()}
    table = (
        Table(tuple(names), values, columns, tuple(range(values.shape[1])), lines.places)
        .noted(remark(names))
        .noted(*lines.notes)
    )
    if truths:
        note = f"true and false are read as 1 and 0 in {', '.join(table.called(at) for at in truths)}"
        table = replace(table, truths=tuple(truths), number_notes=(note,))
    table = replace(table, told=tuple(_told(table, *pair, origin) for pair in zip(told, told_at, strict=True)))
    return without_index(table, origin, lacks_a_name, chosen)


def _told(table: Table, given: str, at: int, origin: str) -> ToldColumn:
    """A column that was asked for by this name or number."""
    name = (table.names[at] if table.names else "") or given
    return of_texts(name, table.texts[at], lambda row: table.cell(row, at), origin, at)


def header_of(path: Path, known: Sequence[str] = ()) -> tuple[list[str], int]:
    """Names of the columns of a text file, none without a header, and the number of fields in its first row.

    A first line that holds the `known` names is the header.
    """
    try:
        with opened_lines(path, None, known) as lines:
            return lines.header()[0], lines.width()
    except UnicodeDecodeError:
        with opened_lines(path, OTHER_ENCODING, known) as lines:
            return lines.header()[0], lines.width()


def check_no_gaps(table: Table, origin: str) -> None:
    """Refuse missing values.

    Raises
    ------
    DataError
        A value is missing. The message gives the place of the first, what stands there, and how many are missing.
    """
    count, first = 0, (0, 0)
    for start, stop in row_blocks(*table.values.shape):
        gaps = np.isnan(table.values[start:stop])
        here = int(np.count_nonzero(gaps))
        if here and not count:
            at = np.unravel_index(np.argmax(gaps), gaps.shape)
            first = (start + int(at[0]), int(at[1]))
        count += here
    if count:
        row, column = first
        field = table.texts[column][row] if column in table.texts else "nan"
        raise DataError(f"{origin}: {missing_values(count, table.cell(row, column), field)}")


@contextmanager
def lines_of(path: Path, known: Sequence[str] = ()) -> Iterator[tuple[Lines, str]]:
    """The lines of a text file behind its header, which is found with the `known` names, and its encoding."""
    try:
        with opened_lines(path, None) as lines:
            for _ in lines:
                pass
        encoding = None
    except UnicodeDecodeError:
        encoding = OTHER_ENCODING
    with reading(path) as file, unpacked(file, path) as stream:
        held = encoding or encoding_of(stream.read(SNIFFED))
    with opened_lines(path, encoding, known) as lines:
        lines.header()
        yield lines, held


@contextmanager
def opened_lines(path: Path, encoding: str | None, known: Sequence[str] = ()) -> Iterator[Lines]:
    """The lines of a file, in this encoding, or in the one that its first bytes show."""
    with reading(path) as file, unpacked(file, path) as stream:
        buffered = io.BufferedReader(cast(io.RawIOBase, stream), 1 << 18)
        encoding = encoding or encoding_of(buffered.peek(SNIFFED)[:SNIFFED])
        errors = "replace" if encoding == OTHER_ENCODING else "strict"
        with io.TextIOWrapper(cast(BinaryIO, buffered), encoding=encoding, errors=errors) as text:
            yield Lines(text, shown(path), known)


def _names_rows(path: Path, encoding: str | None, known: Sequence[str]) -> bool:
    with opened_lines(path, encoding, known) as lines:
        lines.header()
        return are_names([fields_of(lines.raw, lines.dialect.separator)[0] for _ in lines])


def _complaint(
    path: Path,
    encoding: str | None,
    known: Sequence[str],
    texts: dict[int, _Texts],
    truths: Sequence[int],
    stopped: int,
    missing: frozenset[str] | None,
) -> DataError:
    with opened_lines(path, encoding, known) as lines:
        names, _ = lines.header()
        words, what = complaint(lines, names, texts, truths, stopped, missing or frozenset(MISSING))
    return {GAPS: _Gaps, TEXT: HoldsText}.get(what, DataError)(f"{shown(path)}: {words}")


def _parse(lines: Lines, texts: dict[int, _Texts], truths: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    converters: dict[int | str, Callable[[str], float]] = {at: column.take for at, column in texts.items()}
    converters |= dict.fromkeys(truths, _truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no data: our own error follows
        return np.loadtxt(
            lines, dtype, comments=None, delimiter=lines.dialect.separator, quotechar=QUOTE, ndmin=2,
            converters=converters or None, encoding=None,
        )  # fmt: skip


def _truth(field: str) -> float:
    text = field.strip().lower()
    if text not in TRUTHS and text != NAN:
        raise ValueError
    return TRUTHS.get(text, float("nan"))


class _Texts(list[str]):
    """Collects the texts of one column while it is read. Equal labels share one string."""

    def __init__(self, decimal: str) -> None:
        super().__init__()
        self._decimal = decimal
        self._known: dict[str, str] = {}

    def take(self, field: str) -> float:
        field = with_point(field.strip(), self._decimal)
        if len(self._known) < MOST_SHARED:
            self._known.setdefault(field, field)
        self.append(self._known.get(field, field))
        return number_in(field)
