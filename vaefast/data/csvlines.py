"""The lines of a text file that hold rows of its table, and how messages name them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, takewhile
from typing import TextIO

from vaefast.data.csvfields import MISSING, QUOTE, TRUTHS, fields_of, is_number
from vaefast.data.dialect import EXCEL_SEPARATOR, POINT_THOUSANDS, Dialect, dialect_of, with_point
from vaefast.data.header import are_running, doubt, is_header
from vaefast.data.reading import machine_memory
from vaefast.data.table import Places
from vaefast.errors import DataError

# Characters, enough for 2^24 pixels. Without a limit a small gzip file could unpack to a line of gigabytes.
LONGEST_LINE = 1 << 26
# How many lines, and how many characters of long lines, serve to find the separator.
SNIFFED = 20
MOST_SNIFFED = 1 << 20
# Lines over which one quoted field may go.
MOST_JOINED = 100
TAB = "\t"
# What a comment before the rows begins with.
COMMENT = "#"
# What NumPy's reader takes for a missing value.
NAN = "nan"
# A whole number that needs no separator of thousands.
WHOLE = re.compile(r"[-+]?\d{1,3}")
# A comma between digits. Other commas of such a line are part of text.
INNER_COMMA = re.compile(r"(?<=\d),(?=\d)")


def records(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Numbers of lines, from 1, and lines; those over which a quoted field goes on are one, with the first number."""
    number, held = 1, list[str]()
    for line in lines:
        if not held and (line.count(QUOTE) % 2 == 0 or not _opens_a_field(line)):
            yield number, line
            number += 1
            continue
        held.append(line)
        if len(held) > 1 and line.count(QUOTE) % 2:
            yield number, "".join(held)
            number, held = number + len(held), []
        elif len(held) > MOST_JOINED or sum(map(len, held)) > LONGEST_LINE:
            # Its quote is not closed, which the reader of its row refuses.
            yield from enumerate(held, number)
            number, held = number + len(held), []
    yield from enumerate(held, number)


def _opens_a_field(line: str) -> bool:
    """Whether the last quote of a line with an odd number of them begins a field: the mark of an inch is none."""
    before = line[: line.rindex(QUOTE)].rstrip(" ")
    return not before or before[-1] in ",;\t|" or line[: line.rindex(QUOTE)].endswith(" ")


class Lines:
    """Iterates over the lines that hold rows, as NumPy's reader takes them, and remembers what a message needs.

    Parameters
    ----------
    text
        The file.
    origin
        How messages name the file.
    known
        Names of columns that are looked for: a first line that holds them all is the header.
    """

    def __init__(self, text: TextIO, origin: str, known: Sequence[str] = ()) -> None:
        self.origin = origin
        self.row = -1  # of the line handed out last
        self.raw = ""  # this line as it stands in the file
        self.number = 0  # of this line in the file, from 1
        self.columns = 0
        self.places = Places()
        self.notes = list[str]()  # what a user should know about how the lines were read
        self.missing = frozenset[str]()  # what a field may say for NaN, in lower case: other than NumPy's reader knows
        self.texts = frozenset[int]()  # columns that may hold text, whose fields stay as they are
        # A row of data may hold names that only count.
        self._known = frozenset[str]() if are_running(known) else frozenset(filter(None, known))
        self._most = float("inf")  # rows that this machine can hold
        self._tabs_separate = True  # until the dialect says otherwise
        self._stored = self._not_blank(records(iter(partial(text.readline, LONGEST_LINE), "")))
        self._pending = self._first_lines()
        own = EXCEL_SEPARATOR.fullmatch(self._pending[0][1]) if self._pending else None
        if own:
            del self._pending[0]
        comments = [*takewhile(lambda held: held[1].lstrip().startswith(COMMENT), self._pending)]
        del self._pending[: len(comments)]
        while self._pending and self._pending[0][1].isspace():  # lines of tabs before the table are blank
            del self._pending[0]
        self._looked_at = list[tuple[int, str]]()  # lines after these, read to find a decimal sign
        first = [line for _, line in self._pending if not line.isspace()]
        self.dialect: Dialect = dialect_of(first, own[1] if own else None, self._later_lines())
        self._tabs_separate = self.dialect.separator == TAB
        for held in (self._pending, self._looked_at):
            held[:] = self._without_blank_tabs(iter(held))
        if comments:
            self._name_columns(*comments[-1])
        self.notes += self._doubtful_points()
        if self.dialect.decimal == "," and len(self._pending) > 1 and self.width() == 1:
            self.notes.append("the commas of its one column are read as decimal signs")

    def _first_lines(self) -> list[tuple[int, str]]:
        """The lines from which the separator is found, few if they are long, with their numbers."""
        held, length = list[tuple[int, str]](), 0
        for number, line in self._stored:
            held.append((number, line))
            length += len(line)
            if len(held) > SNIFFED or (length > MOST_SNIFFED and len(held) > 1):
                break
        return held

    def _later_lines(self) -> Iterator[str]:
        """Lines after the first ones, as far as memory allows."""
        length = 0
        for number, line in self._stored:
            self._looked_at.append((number, line))
            if line.isspace():
                continue
            yield line
            length += len(line)
            if length > MOST_SNIFFED:
                return

    def _name_columns(self, number: int, comment: str) -> None:
        """Take a comment before the rows as the header, as `numpy.savetxt` writes it, if it has as many fields as a row."""
        names = comment.strip().lstrip(COMMENT).strip(" ")
        if names[:1] == self.dialect.separator:  # `#` is the name of a column that counts the rows
            names = comment.strip()
        if len(fields_of(names, self.dialect.separator)) == self.width():
            self._pending.insert(0, (number, names))

    def header(self) -> tuple[list[str], bool]:
        """Names of the columns, if the first line names them (it holds the known ones, or see `is_header`), and whether the
        first of them lacks its name, which is then an empty one."""
        names, *_ = rows = [fields_of(line, self.dialect.separator) for _, line in self._pending] or [[]]
        first, *others = [[with_point(field, self.dialect.decimal) for field in row] for row in rows]
        ends = {line[-1] if len(line) == len(first) + 1 else None for line in others}
        if ends == {""}:  # each row ends in a separator, which the header lacks
            names, first = [*names, ""], [*first, ""]
        second = others[0] if others else []
        holds_known = bool(self._known) and self._known <= {*names}
        if not first or not (holds_known or is_header(first, others, self._is_quoted(first, second))):
            self.notes += filter(None, [doubt(first, others)])
            return [], False
        if second and len(second) not in (len(first), len(first) + 1):
            raise disagreement(self.origin, len(first), len(second))
        del self._pending[0]
        lacks_a_name = len(second) == len(first) + 1
        return [""] * lacks_a_name + names, lacks_a_name

    def _doubtful_points(self) -> list[str]:
        """The notice on a column in which 1.021 stands beside whole numbers such as 999: its point may separate thousands."""
        if self.dialect.separator in (",", None) or self.dialect.decimal == ",":
            return []
        rows = [fields_of(line, self.dialect.separator) for _, line in self._pending[1:]]
        for at, fields in enumerate(zip(*rows, strict=False)):
            held = [field for field in fields if field.lower() not in MISSING]
            pointed = [field for field in held if POINT_THOUSANDS.fullmatch(field)]
            whole = [field for field in held if WHOLE.fullmatch(field)]
            if pointed and len(pointed) + len(whole) == len(held) and any(len(field.lstrip("+-")) == 3 for field in whole):
                large = next(field for field in whole if len(field.lstrip("+-")) == 3)
                return [
                    f"column {at + 1} holds {pointed[0]} beside {large}: its point is read as a decimal sign; if it separates "
                    "thousands, write the numbers without it"
                ]
        return []

    def _is_quoted(self, first: list[str], second: list[str]) -> bool:
        """Whether all fields of the first line are quoted, and some numbers of the second are not."""
        if len(self._pending) < 2 or self._pending[0][1].count(QUOTE) < 2 * len(first):
            return False
        return self._pending[1][1].count(QUOTE) <= 2 * (len(second) - sum(map(is_number, second))) and any(
            map(is_number, second)
        )

    def truths(self) -> list[int]:
        """Columns whose next values are all true or false, or missing."""
        rows = [fields_of(line, self.dialect.separator) for _, line in self._pending]
        width = len(rows[0]) if rows else 0
        found = []
        for at in range(width):
            fields = {row[at].lower() if at < len(row) else "" for row in rows}
            if fields & {*TRUTHS} and fields <= {*TRUTHS, *MISSING}:
                found.append(at)
        return found

    def begins_with_a_word(self) -> bool:
        """Whether the first field of the next line may name its row: it begins with a letter, and is no number."""
        field = fields_of(self._pending[0][1], self.dialect.separator)[0].lower() if self._pending else ""
        field = with_point(field, self.dialect.decimal)
        known = field in MISSING or field in self.missing or field in TRUTHS or is_number(field)
        return field[:1].isalpha() and not known

    def width(self) -> int:
        """Number of fields in the next line; 0 at the end."""
        return len(fields_of(self._pending[0][1], self.dialect.separator)) if self._pending else 0

    def __iter__(self) -> Iterator[str]:
        expected = 0  # number of the next line, if no blank one stands before it
        has_decimal_commas = self.dialect.decimal == ","
        lines = self._without_blank_tabs(chain(self._pending, self._looked_at, self._stored))
        for number, line in self._without_empty_end(lines):
            self.row += 1
            self.raw, self.number = line, number
            if number != expected:
                self._skipped(number, expected, line)
            expected = number + 1
            if self.row >= self._most or len(line) == LONGEST_LINE:
                raise self._excess()
            if has_decimal_commas:
                line = self._with_points(line)
            line = self._with_nan(line) if self.missing else line
            yield self._tidied(line) if QUOTE in line else line

    def _without_blank_tabs(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """The lines without those of tabs alone that are blank: tabs do not separate, or the line before has other fields."""
        last = None
        for number, line in lines:
            if not line.isspace():
                last = line
            elif not self._tabs_separate or (last is not None and line.count(TAB) + 1 != len(fields_of(last, TAB))):
                continue
            yield number, line

    def _without_empty_end(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """The lines without those at the end that hold separators alone, which spreadsheets leave behind their rows."""
        nothing, held, has_rows = (self.dialect.separator or "") + " \t\r\n", list[tuple[int, str]](), False
        for numbered in lines:
            if has_rows and numbered[1][0] in nothing and not numbered[1].strip(nothing):
                held.append(numbered)
                continue
            if held:
                yield from held
                held = []
            yield numbered
            has_rows = True
        if held:
            one = len(held) == 1
            self.notes.append(f"the last {'line holds' if one else f'{len(held):,} lines hold'} no values: left out")

    def _with_points(self, line: str) -> str:
        """A line with decimal points in its numbers; what is text stays as it is."""
        if "." in line:
            self._check_points(line)
        if self.texts:
            separator = self.dialect.separator
            fields = line.rstrip("\r\n").split(separator) if QUOTE not in line else fields_of(line, separator)
            if any("," in fields[at] for at in self.texts if at < len(fields)):
                known = [field if at in self.texts else field.replace(",", ".") for at, field in enumerate(fields)]
                return self._joined(known, QUOTE in line)
        return INNER_COMMA.sub(".", line) if QUOTE in line else line.replace(",", ".")

    def _joined(self, fields: list[str], are_quoted: bool) -> str:
        """A line of these fields."""
        quoted = (QUOTE + field.replace(QUOTE, 2 * QUOTE) + QUOTE for field in fields)
        return (self.dialect.separator or " ").join(quoted if are_quoted else fields) + "\n"

    def _check_points(self, line: str) -> None:
        """Refuse 1.234 in a file with decimal commas, where it means 1234.

        Raises
        ------
        DataError
            A field is such a number.
        """
        for at, field in enumerate(fields_of(line, self.dialect.separator)):
            if at not in self.texts and POINT_THOUSANDS.fullmatch(field):
                cell = f"{self.places.row(self.row)}, {self.places.column(at)} is {field!r}"
                raise DataError(f"{self.origin}: {cell}, beside decimal commas: write numbers without thousands separators")

    def _with_nan(self, line: str) -> str:
        """A line with `nan` in the place of each field that says that a value is missing."""
        separator = self.dialect.separator
        fields = fields_of(line, separator)
        gaps = [at for at, field in enumerate(fields) if field.lower() in self.missing and at not in self.texts]
        if not gaps or len(fields) != self.columns:
            return line
        for at in gaps:
            fields[at] = NAN
        return self._joined(fields, QUOTE in line)

    def _not_blank(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """The lines that are not blank. One of tabs may be a row without values, if tabs separate."""
        has_begun = False
        for number, line in lines:
            is_blank = line.isspace()
            has_begun = has_begun or not is_blank
            if not is_blank or (has_begun and TAB in line and self._tabs_separate):
                yield number, line

    def _skipped(self, number: int, expected: int, line: str) -> None:
        """Record the line of the first row, and the blank lines before each later row."""
        if self.row:
            self.places.blanks.extend([self.row] * (number - expected))
            return
        self.columns = len(fields_of(line, self.dialect.separator))
        self._most = machine_memory() / (4 * self.columns)
        self.places.first = number

    def _excess(self) -> DataError:
        too_many = self.row >= self._most
        what = "rows than this machine's memory holds" if too_many else f"than {LONGEST_LINE} characters a line"
        return DataError(f"{self.origin} has more {what}: give one row a line, and fewer or smaller ones")

    def _tidied(self, line: str) -> str:
        """A line with quotes in the form that NumPy reads: no field spans two lines, and no space precedes a quote."""
        line = line.rstrip("\r\n").replace("\n", " ") + "\n"
        if line.count(QUOTE) % 2:
            raise DataError(f"{self.origin}: {self.places.row(self.row)} has an unmatched quote: close it, or remove it")
        separator = self.dialect.separator
        if separator is not None and f" {QUOTE}" not in line and f"{QUOTE} " not in line:
            return line
        return self._joined(fields_of(line, separator), True)


def disagreement(origin: str, named: int, held: int) -> DataError:
    """The error for a header that does not fit the rows."""
    return DataError(
        f"{origin}: the header names {named} columns, the first row has {held}: make them agree, and remove what stands "
        "above the header"
    )
