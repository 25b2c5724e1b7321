"""How a text file is written: its separator, its decimal sign, its encoding."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vaefast.data.csvfields import MISSING, counts, fields_of, is_number

# If two fit alike, the first is taken. None stands for runs of spaces, and is tried only if no other separates anything.
SEPARATORS = ("\t", ";", ",", "|")
# The first line with which Excel lets a file choose its separator.
EXCEL_SEPARATOR = re.compile(r'"?sep=([^"])"?\s*', re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
# May be a thousands separator as well as a decimal sign: 1,234 and 12,345,678.
# Spaces, also narrow and unbreakable ones, and apostrophes separate nothing else: 1 234,5 and 1'234.5.
THOUSANDS = re.compile(
    r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?|[-+]?[1-9]\d{0,2}(\.\d{3})+,\d+|[-+]?[1-9]\d{0,2}(\.\d{3}){2,}"
    r"|[-+]?[1-9]\d{0,2}([ \u00a0\u2009\u202f'\u2019]\d{3})+([.,]\d*)?"
)
# The same with points alone. Beside decimal commas 1.234 is no fraction.
POINT_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+")
# In this many first bytes of UTF-16 text of numbers, nearly every second one is zero.
SNIFFED = 4096


@dataclass(frozen=True)
class Dialect:
    """The dialect of one file.

    Parameters
    ----------
    separator
        The separator of the fields; None for runs of spaces.
    decimal
        A point or a comma.
    """

    separator: str | None = ","
    decimal: str = "."

    @property
    def noun(self) -> str:
        """The separators in words."""
        return {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", None: "spaces"}.get(
            self.separator, repr(self.separator)
        )


def dialect_of(lines: list[str], separator: str | None = None, later: Iterable[str] = ()) -> Dialect:
    """The dialect that fits the first lines of a file best, none of them blank. `separator` is that which the file names.

    A separator fits if it cuts all lines into the same number of fields, at least two. If several fit, the one whose fields
    are numbers is taken; if none fits, commas are. If no number of these lines has a decimal sign, that of the first of the
    `later` lines is taken that has one, and no more lines are read.
    """
    if separator is None and _is_one_column(lines):
        return Dialect(";", ",")
    if separator is None:
        fitting = [mark for mark in SEPARATORS if _fits(lines, mark)]
        if not fitting and _fits(lines, None):
            return Dialect(None, _decimal(lines, None, later))
        # A separator that fits the first line as well is better than one by which it lacks a field.
        fitting = [mark for mark in fitting if _fits(lines, mark, exactly=True)] or fitting
        if "," in fitting and any(_are_decimals(lines, mark) for mark in fitting if mark != ","):
            fitting.remove(",")
        separator = max(fitting, key=lambda mark: _numbers(lines, mark)) if fitting else _commonest(lines)
    return Dialect(separator, _decimal(lines, separator, later))


def with_point(text: str, decimal: str) -> str:
    """A number of a file with this decimal sign with a decimal point; other text as it is."""
    return text.replace(",", ".") if decimal == "," and DECIMAL_COMMA.fullmatch(text) else text


def encoding_of(start: bytes) -> str:
    """The encoding of a text file with these first bytes: UTF-8, or UTF-16 with or without a byte-order mark."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    start = start[:SNIFFED]
    even, odd = start[::2].count(0), start[1::2].count(0)
    if len(start) > 3 and max(even, odd) > len(start) / 4 and min(even, odd) == 0:
        return "utf-16-le" if odd else "utf-16-be"
    return "utf-8-sig"


def _are_decimals(lines: list[str], separator: str) -> bool:
    """Whether each comma of these lines is the decimal sign of a number between such separators."""
    fields = [field for line in lines for field in fields_of(line, separator) if "," in field]
    return bool(fields) and all(map(DECIMAL_COMMA.fullmatch, fields))


def _fits(lines: list[str], separator: str | None, exactly: bool = False) -> bool:
    """Whether a separator cuts these lines alike. Unless `exactly`, the first may lack a field: the name of R's row names."""
    counts = [len(fields_of(line, separator)) for line in lines]
    common, seen = Counter(counts[1:] or counts).most_common(1)[0] if counts else (0, 0)
    return common > 1 and seen == len(counts[1:] or counts) and counts[0] in ((common,) if exactly else (common, common - 1))


def _is_one_column(lines: list[str]) -> bool:
    """Whether these are a name, and below it numbers with a decimal comma. Those that begin with the number of their row are
    names of rows beside whole numbers."""
    name, *numbers = [line.strip().strip('"') for line in lines] or [""]
    numbers = [number for number in numbers if number.lower() not in MISSING]
    if not numbers or not name or any(mark in name for mark in SEPARATORS) or is_number(name):
        return False
    return (
        not counts([number.partition(",")[0] for number in numbers])
        and all(DECIMAL_COMMA.fullmatch(number) or is_number(number) for number in numbers)
        and any("," in number for number in numbers)
    )


def _commonest(lines: list[str]) -> str | None:
    """The most frequent separator of the first line, for lines that no separator cuts alike."""
    first = lines[0] if lines else ""
    mark = max((",", "\t", ";", "|"), key=first.count)
    return mark if mark in first or len(first.split()) < 2 else None


def _numbers(lines: list[str], separator: str) -> float:
    """The share of fields that are numbers or missing, the first line aside."""
    fields = [field for line in lines[1:] or lines for field in fields_of(line, separator)]
    fitting = sum(
        is_number(field) or field.lower() in MISSING or (separator != "," and bool(DECIMAL_COMMA.fullmatch(field)))
        for field in fields
    )
    return fitting / len(fields)


def _decimal(lines: list[str], separator: str | None, later: Iterable[str]) -> str:
    """A comma where fields hold numbers with one, and none holds a number with a point.

    Three digits behind every comma may be thousands as well: beside semicolons they are decimals, as Excel writes them.
    """
    if separator == ",":
        return "."
    found = _sign_in(lines, separator)
    signs = found or next(filter(None, (_sign_in([line], separator) for line in later)), set())
    return "," if signs == {","} else "."


def _sign_in(lines: list[str], separator: str | None) -> set[str]:
    """The decimal signs of the numbers in these lines."""
    fields = [field for line in lines if "," in line or "." in line for field in fields_of(line, separator)]
    commas = [field for field in fields if DECIMAL_COMMA.fullmatch(field)]
    signs = {"."} if any("." in field and is_number(field) for field in fields) else set[str]()
    are_decimal = separator == ";" or not all(THOUSANDS.fullmatch(field) for field in commas)
    return signs | {","} if commas and are_decimal else signs
