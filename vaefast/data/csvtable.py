"""A table of numbers out of comma-separated text, as spreadsheets, pandas and R write it.

Lines of plain numbers go through NumPy's reader as they are; only columns that may hold text are looked at value by value.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vaefast.data.csvfields import MISSING, counted, fields_of, is_header, is_number, number_in
from vaefast.data.reading import machine_memory, reading, unzipped
from vaefast.data.values import row_blocks
from vaefast.data.wording import shown
from vaefast.errors import DataError

# Names of the columns that `to_csv` of pandas and `write.csv` of R put in front, the second of a file read and written again.
UNNAMED = re.compile(r"(unnamed: 0(\.\d+)?)?", re.IGNORECASE)
# Names of a first column that is left out where it counts the rows.
COUNTERS = ("index", "id", "row", "rowid", "rownames")
# Columns that may be labels.
LABELS = ("label", "labels", "class", "classes", "target", "targets", "y")
# Characters: room for 2^24 pixels. Without a limit a small gzip file could unpack to a line of gigabytes.
LONGEST_LINE = 1 << 26
QUOTE = '"'


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of numbers.

    Parameters
    ----------
    names
        Of the columns, as they are written; none without a header.
    values
        (N, columns); NaN where a column of `texts` holds no number.
    texts
        By its number, what a column that may hold text holds, word for word.
    left_out
        Names of the columns that are not here any more.
    notes
        What a user should know of how the file was read.
    """

    names: tuple[str, ...]
    values: NDArray[Any]
    texts: dict[int, list[str]]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def without(self, columns: list[int]) -> Table:
        """The table without these columns."""
        if not columns:
            return self
        kept = [i for i in range(self.values.shape[1]) if i not in columns]
        return replace(
            self,
            names=tuple(self.names[i] for i in kept),
            values=np.delete(self.values, columns, axis=1),
            texts={new: self.texts[old] for new, old in enumerate(kept) if old in self.texts},
            left_out=(*self.left_out, *(self.names[i] for i in columns)),
        )

    def only(self, columns: list[int]) -> Table:
        """The table with these columns, in this order."""
        return replace(
            self,
            names=tuple(self.names[i] for i in columns),
            values=np.take(self.values, columns, axis=1),
            texts={new: self.texts[old] for new, old in enumerate(columns) if old in self.texts},
        )

    def noted(self, *notes: str) -> Table:
        """The table with notes added; empty ones are none."""
        return replace(self, notes=(*self.notes, *filter(None, notes)))

    def notice(self, origin: str) -> str | None:
        """All notes as one line."""
        return f"{origin}: {'; '.join(self.notes)}" if self.notes else None

    def called(self, origin: str) -> str:
        """What a message calls the table: its origin, and what was left out, for columns are counted without it."""
        if not self.left_out:
            return origin
        names = ", ".join(shown(name) or "without a name" for name in self.left_out)
        return f"{origin}, not counting its column{'s' * (len(self.left_out) > 1)} {names}"


def read_table(path: Path, dtype: DTypeLike) -> Table:
    """All columns of numbers but the index of the rows.

    Left out, with a note, is a leading column without a name (`Unnamed: 0`, or where the header has one name fewer than the
    rows have fields) that holds the rows' names or whole numbers that all differ, and a first column named like an index that
    counts the rows.

    Raises
    ------
    DataError
        Lines of different length, text among the numbers, a value that is missing, no numbers, a column without a name that
        is no index, or a file that is damaged or no text.
    """
    origin = shown(path)
    with reading(path) as file, io.TextIOWrapper(cast(BinaryIO, unzipped(file)[0]), encoding="utf-8-sig") as text:
        rows = _Rows(text, origin)
        try:
            names = rows.header()
            texts = {at: _Texts() for at in _watched(names)}
            values = _parse(rows, texts, dtype)
        except DataError:
            raise
        except UnicodeDecodeError as error:
            raise DataError(f"{origin} is not UTF-8 text: save it as CSV, numbers with commas between them") from error
        except ValueError as error:
            raise DataError(f"{origin}: {rows.complaint()}") from error
    if values.size == 0:
        raise DataError(f"{origin} holds no numbers: give one image a line, numbers with commas between them")
    table = Table(tuple(names), values, {at: list(column) for at, column in texts.items()}).noted(counted(names))
    return _without_index(table, origin, rows.lacks_a_name)


def check_no_gaps(table: Table, origin: str) -> None:
    """Refuse a value that is missing.

    Raises
    ------
    DataError
        One is; the message holds its row, its column and what is there instead.
    """
    for start, stop in row_blocks(*table.values.shape):
        gaps = np.isnan(table.values[start:stop])
        if gaps.any():
            row, column = (int(i) for i in np.argwhere(gaps)[0])
            row += start
            field = table.texts[column][row] if column in table.texts else "nan"
            raise DataError(f"{table.called(origin)}: {_located(row, column, table.names)} is {_remedied(field)}")


def _parse(rows: _Rows, texts: dict[int, _Texts], dtype: DTypeLike) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no data: an error of our own follows
        converters: dict[int | str, Callable[[str], float]] = {at: column.take for at, column in texts.items()}
        return np.loadtxt(
            rows, dtype, comments=None, delimiter=",", quotechar=QUOTE, ndmin=2, converters=converters or None, encoding=None
        )


class _Texts(list[str]):
    """What one column holds, gathered while it is read."""

    def take(self, field: str) -> float:
        self.append(field.strip())
        return number_in(field)


class _Rows:
    """Lines that are not blank, remembering where the reader is for the sake of a good complaint."""

    def __init__(self, text: TextIO, origin: str) -> None:
        self.lines = (line for line in iter(partial(text.readline, LONGEST_LINE), "") if line.strip())
        self.origin = origin
        self.row = -1
        self.line = ""
        self.columns = 0
        self.most = float("inf")  # rows that this machine can hold
        self.pending: list[str] = []
        self.names: list[str] = []
        self.lacks_a_name = False

    def header(self) -> list[str]:
        """Names of the columns, if the first line names them (see `is_header`); an empty one before them if one is lacking."""
        lines = [line for line in (next(self.lines, ""), next(self.lines, "")) if line]
        first, second = (fields_of(line) if line else [] for line in (*lines, "", "")[:2])
        if not lines or not is_header(first, second):
            self.pending = lines[::-1]
            return []
        if second and len(second) not in (len(first), len(first) + 1):
            raise _disagreement(self.origin, len(first), len(second))
        self.pending = lines[1:]
        self.lacks_a_name = len(second) == len(first) + 1
        self.names = [""] * self.lacks_a_name + first
        return self.names

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.pending.pop() if self.pending else next(self.lines)
        self.row += 1
        self.line = line
        if not self.columns:
            self.columns = len(fields_of(line))
            self.most = machine_memory() / (4 * self.columns)
        if self.row >= self.most or len(line) == LONGEST_LINE:
            what = (
                "rows than this machine's memory holds" if self.row >= self.most else f"than {LONGEST_LINE} characters a line"
            )
            raise DataError(f"{self.origin} has more {what}: give one image a line, and fewer or smaller ones")
        return _tidied(line, self.row, self.origin) if QUOTE in line else line

    def complaint(self) -> str:
        """What is wrong with the line that was handed out last."""
        fields = fields_of(self.line)
        if len(fields) != self.columns:
            return (
                f"row {self.row} (counted from 0, without a header) has {len(fields)} values where row 0 has "
                f"{self.columns}: give every image the same number"
            )
        watched = _watched(self.names)
        column = next((i for i, field in enumerate(fields) if not is_number(field) and i not in watched), 0)
        return f"{_located(self.row, column, self.names)} is {_remedied(fields[column])}"


def _tidied(line: str, row: int, origin: str) -> str:
    """A line with quotes as NumPy takes it: no field goes on in the next line, and no space stands before a quote."""
    if line.count(QUOTE) % 2:
        raise DataError(
            f"{origin}: row {row} (counted from 0, without a header) has a quote without its partner: close or remove it"
        )
    if f" {QUOTE}" not in line and f"{QUOTE} " not in line:
        return line
    return ",".join(QUOTE + field.replace(QUOTE, 2 * QUOTE) + QUOTE for field in fields_of(line))


def _watched(names: tuple[str, ...] | list[str]) -> list[int]:
    """Numbers of the columns that may hold text: the first, where they are unnamed or named like an index, and labels."""
    leading = _unnamed(names) or [0] * (names[:1] != [] and names[0].lower() in COUNTERS)
    return [*leading, *(i for i, name in enumerate(names) if name.lower() in LABELS)]


def _unnamed(names: tuple[str, ...] | list[str]) -> list[int]:
    """Numbers of the columns in front that have no name of their own."""
    end = next((i for i, name in enumerate(names) if not UNNAMED.fullmatch(name)), len(names))
    return list(range(end))


def _without_index(table: Table, origin: str, lacks_a_name: bool) -> Table:
    """The table without the columns in front that are no data, and notes on them."""
    for at in _unnamed(table.names):
        held = _index_held(table.texts[at])
        if not held and lacks_a_name:
            raise _disagreement(origin, len(table.names) - 1, len(table.names))
        if not held:
            raise DataError(
                f"{origin}: its first column has no name and is no index of the rows, for its numbers are not whole and all "
                "different: name it in the header to train on it, or remove it"
            )
        table = table.noted(f"the first column has no name and holds the rows' {held}: left out")
    unnamed = _unnamed(table.names)
    if not unnamed and table.names and table.names[0].lower() in COUNTERS and _counts_rows(table.texts[0]):
        return table.noted(f"the first column, {shown(table.names[0])}, counts the rows: left out").without([0])
    return table.without(unnamed)


def _index_held(texts: list[str]) -> str:
    """Names or numbers, if these can be those of the rows, else nothing."""
    if not all(is_number(field) for field in texts):
        return "names"
    numbers = [number_in(field) for field in texts]
    whole = all(number.is_integer() for number in numbers)
    return "numbers" if whole and len({*numbers}) == len(numbers) else ""


def _counts_rows(texts: list[str]) -> bool:
    numbers = [number_in(field) for field in texts]
    return any(numbers == [first + i for i in range(len(numbers))] for first in (0, 1)) and len(numbers) > 1


def _disagreement(origin: str, named: int, held: int) -> DataError:
    return DataError(f"{origin}: the header line names {named} columns, the first row has {held}: make them agree")


def _located(row: int, column: int, names: tuple[str, ...] | list[str]) -> str:
    name = f" {shown(repr(names[column][:40]))}" if names and names[column] else ""
    return f"row {row}, column {column}{name} (both counted from 0, without a header)"


def _remedied(field: str) -> str:
    """What stands in a field that is no number, and what to do about it."""
    remedy = "give numbers with commas between them"
    if field.lower() in MISSING:
        remedy = "a value is missing: fill it in, or leave its row or its column out"
    elif field.lower() in ("true", "false"):
        remedy = "write 1 for true and 0 for false"
    elif re.fullmatch(r"-?\d+,\d+", field):
        remedy = "write decimals with a point instead of a comma"
    elif ";" in field:
        remedy = "separate the numbers by commas instead of semicolons"
    return f"{shown(repr(field[:40]))}: {remedy}"
