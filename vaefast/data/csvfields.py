"""Lines of comma-separated text: their fields, what is a number, and whether the first line names the columns."""

from __future__ import annotations

import codecs
import csv

# How programs write that there is no value.
MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "?"}
# A first line of numbers alone is taken for a header from so many columns on: two numbers, 0 and 1, are soon a row of data.
FEWEST_COUNTED = 3


def fields_of(line: str) -> list[str]:
    """The fields of a line without spaces around them, and without the quotes where they have any."""
    if '"' not in line:
        return [field.strip() for field in line.split(",")]
    try:
        return [field.strip() for field in next(csv.reader([line], skipinitialspace=True), [""])]
    except csv.Error:  # a field longer than the module takes
        return [field.strip().strip('"') for field in line.split(",")]


def is_number(field: str) -> bool:
    """Whether a field is a number, NaN and infinity included."""
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field  # 1_000 is a number to Python only


def number_in(field: str) -> float:
    """The number in a field, NaN where there is none."""
    try:
        return float(field) if "_" not in field else float("nan")
    except ValueError:
        return float("nan")


def is_header(first: list[str], second: list[str]) -> bool:
    """Whether the first line names the columns, seeing the line that follows (no fields where there is none).

    It does where none of its fields is a number and one is a name; where its numbers only count columns, from 0 or from 1,
    and there are two at least beside names (`label,0,1,2`) or any behind the empty name of an index column (`,0,1`); and
    where all of it counts, over `FEWEST_COUNTED` columns or more, unless the second line is as it is or goes on counting,
    as the rows of a table of running numbers do.
    """
    numbers = [field for field in first if is_number(field)]
    is_named = any(field.lower() not in MISSING and not is_number(field) for field in first)
    if not numbers:
        return is_named
    if not _counts(numbers):
        return False
    if is_named:
        return len(numbers) > 1
    if not first[0]:
        return len(numbers) == len(first) - 1
    goes_on = [str(int(number) + len(numbers)) for number in numbers]
    return FEWEST_COUNTED <= len(numbers) == len(first) == len(second) and second not in (first, goes_on)


def counted(names: list[str]) -> str:
    """What a header that only counts the columns is called in a notice; nothing for another."""
    names = names if not names or names[0] else names[1:]
    return f"the first line counts the columns {names[0]} to {names[-1]}: taken as a header" if _counts(names) else ""


def looks_like_csv(start: bytes) -> bool:
    """Whether the first bytes of a file are lines of text, of which one holds a comma and a figure."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)  # which lets a character be cut at the end
    except UnicodeDecodeError:
        return False
    has_fields = any("," in line and any(c.isdecimal() for c in line) for line in text.splitlines())
    return has_fields and all(c.isprintable() or c in "\r\n\t" for c in text)


def _counts(numbers: list[str]) -> bool:
    """Whether these count from 0 or from 1, written as plain whole numbers."""
    return any(numbers == [str(first + i) for i in range(len(numbers))] for first in (0, 1)) and bool(numbers)
