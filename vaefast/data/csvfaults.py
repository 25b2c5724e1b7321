"""What is wrong with a text file that NumPy's reader has refused, found in a second pass, field by field."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from vaefast.data.csvfields import MISSING, QUOTE, TRUTHS, fields_of, is_number
from vaefast.data.csvlines import Lines
from vaefast.data.dialect import DECIMAL_COMMA, THOUSANDS
from vaefast.data.wording import shown

FILL = "fill it in, or leave its row or its column out"
# What may be wrong: nothing but missing values, a column of text, or something else.
GAPS, TEXT, OTHER = "gaps", "text", "other"
# A number in any spelling.
PLAIN = r"[-+]?\d[\d.,]*"
# Spaces that do not break a line separate thousands.
MONEY = re.compile(r"[-+(]*[€$£¥]\s*[-+]?\d[\d., \u00a0\u202f]*[KMB]?\)?|[-+]?\d[\d., \u00a0\u202f]*\s*(%|[€$£¥])")
BOUND = re.compile(rf"[<>\u2264\u2265~]=?\s*{PLAIN}")
BEYOND = "<"
# Dashes of a typesetter: the minus, the en dash, the hyphen that breaks no line, and another hyphen.
PRINTED_MINUS = "\u2212\u2013\u2011\u2010"
WITH_UNIT = re.compile(rf"{PLAIN}\s*([^\W\d_°º][^\s\d]*|[°º][^\s\d]*)")
FILL_ALL = "fill them in, or leave their rows or columns out"


@dataclass
class _Text:
    """A column with fields that are not numbers."""

    row: int  # of the first
    field: str
    count: int = 0


def complaint(
    lines: Lines,
    names: Sequence[str],
    watched: Collection[int],
    truths: Collection[int],
    stopped: int,
    gaps: Collection[str] = MISSING,
) -> tuple[str, str]:
    """The fault: the first line of another length, else the first column of text, else the number of missing values; and
    which of these it is: `OTHER`, `TEXT` or `GAPS`.

    Parameters
    ----------
    lines
        The lines of the file after its header.
    names
        Of the columns, if they have any.
    watched
        Columns that may hold text.
    truths
        Columns of true and false.
    stopped
        The row at which NumPy's reader stopped.
    gaps
        What a field says, in lower case, where a value is missing.
    """
    missing, first_missing, texts, known = 0, (0, 0, ""), dict[int, _Text](), dict[int, int]()
    for _ in lines:
        fields = fields_of(lines.raw, lines.dialect.separator)
        if len(fields) != lines.columns:
            return ragged(lines, len(fields)), OTHER
        for column, field in enumerate(fields):
            if field.lower() in gaps:
                if column not in watched:
                    first_missing = first_missing if missing else (lines.row, column, field)
                    missing += 1
            elif column in watched or _is_readable(field, column in truths, lines):
                known[column] = known.get(column, 0) + 1
            else:
                texts.setdefault(column, _Text(lines.row, field)).count += 1
    if texts:
        column = min(texts)
        return _text(lines, names, column, texts[column], known.get(column, 0), column in truths), TEXT
    if not missing:
        return f"{lines.places.row(stopped)} cannot be read as numbers: write them with the digits 0 to 9", OTHER
    row, column, field = first_missing
    return missing_values(missing, f"{lines.places.row(row)}, {_column(lines, names, column)}", field), GAPS


def missing_values(count: int, where: str, field: str) -> str:
    """The message on missing values: place and spelling of the first one, and how many there are."""
    shape = f"empty ({field!r})" if not field else shown(repr(field))
    if count == 1:
        return f"{where} is {shape}: a value is missing: {FILL}"
    return f"{where} is {shape}: a value is missing, the first of {count:,}: {FILL_ALL}"


def _is_readable(field: str, is_truth: bool, lines: Lines) -> bool:
    if is_truth:
        return field.lower() in TRUTHS
    return is_number(field.replace(",", ".") if lines.dialect.decimal == "," else field)


def _column(lines: Lines, names: Sequence[str], column: int) -> str:
    return lines.places.column(column, names[column] if names else "")


def ragged(lines: Lines, count: int) -> str:
    """What is wrong with a line of another length."""
    first = lines.places.row(0)
    here = lines.places.row(lines.row)
    remedy = f"give every row the same number, separated by {lines.dialect.noun}"
    return f"{here} has {count} value{'s' * (count != 1)} where {first} has {lines.columns}: {remedy}"


def _text(lines: Lines, names: Sequence[str], column: int, text: _Text, numbers: int, is_truth: bool) -> str:
    """What to do about fields that are neither numbers nor missing."""
    where, field = _column(lines, names, column), shown(repr(text.field[:40]))
    cell = f"{lines.places.row(text.row)}, {where} is {field}"
    remedy = remedy_of(text.field, lines.dialect.decimal) or (
        "close its quotes, or remove them" if QUOTE in text.field else ""
    )
    if is_truth:
        return f"{cell}, and true or false elsewhere: write all of the column as 1 and 0"
    if remedy:
        return f"{cell}: {remedy}"
    if numbers and text.count <= numbers:
        return f"{cell}, which is not a number: give a number, or leave the column out"
    label = names[column] if names and names[column] else str(column + 1)
    return (
        f"{where} holds text, such as {field} in {lines.places.row(text.row)}: leave the column out, choose --likelihood "
        f"mixed, which takes text, or, if these are labels, give --label {shown(label)}"
    )


def remedy_of(field: str, decimal: str) -> str:
    """How to write a number that is written in another way; empty for what looks like none."""
    if field.lower() in ("true", "false"):
        return "write 1 for true and 0 for false"
    if THOUSANDS.fullmatch(field):
        return "write numbers without thousands separators, and decimals with a point"
    if decimal == "." and DECIMAL_COMMA.fullmatch(field):
        return "write decimals with a point instead of a comma"
    if MONEY.fullmatch(field):
        return "write plain numbers, without per cent or currency signs"
    if re.fullmatch(rf"[{PRINTED_MINUS}]\s*{PLAIN}", field):
        return "write negative numbers with the minus of the keyboard (-)"
    if re.fullmatch(rf"\(\s*{PLAIN}\s*\)", field):
        return "write negative numbers with a minus, not in parentheses"
    return ""


def unit_of(field: str) -> str:
    """The unit in `5 mg` or `5kg/m²`, `BEYOND` for `<0.1` and `> 20`; empty for what is no measurement."""
    if BOUND.fullmatch(field):
        return BEYOND
    found = WITH_UNIT.fullmatch(field)
    return found[1] if found else ""
