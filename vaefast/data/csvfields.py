"""Lines of a text table: their fields, and which fields are numbers."""

from __future__ import annotations

import csv
from collections.abc import Collection

# How pandas, R, SAS and Excel write a missing value among numbers. Excel's errors count as missing, too.
MISSING = {
    "", "na", "n/a", "<na>", "nan", "-nan", "nat", "null", "none", "?", "-", "--", ".", "missing",
    "#n/a", "#na", "#null!", "#num!", "#div/0!", "#value!", "#name?", "#ref!",
    "#nv", "#zahl!", "#wert!", "#bezug!", "#valeur!", "#nombre!", "#nom?",
    "..", ":", "n.a.", "k.a.",
}  # fmt: skip
# What of these may be a category of its own in a column of text, such as the strands + and - of a gene.
WORDS_OF_TEXT = {"none", "-", "--", ".", "..", ":"}
QUOTE = '"'
# How pandas and R write true and false.
TRUTHS = {"true": 1.0, "false": 0.0}


def fields_of(line: str, separator: str | None = ",") -> list[str]:
    """The fields of a line, without surrounding spaces and quotes. The separator None stands for runs of spaces."""
    if QUOTE not in line:
        return line.split() if separator is None else [field.strip() for field in line.split(separator)]
    if separator is None:
        line, separator = line.strip(), " "
    try:
        fields = [field.strip() for field in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [""])]
    except csv.Error:  # a field longer than the csv module allows
        fields = [field.strip().strip(QUOTE) for field in line.split(separator)]
    return fields if separator != " " else [field for field in fields if field] or [""]


def is_number(field: str) -> bool:
    """Whether a field is a number, NaN and infinity included."""
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field  # 1_000 is a number to Python only


def counts(fields: list[str]) -> bool:
    """Whether these fields count from 0 or from 1, in plain whole numbers."""
    return any(fields == [str(first + i) for i in range(len(fields))] for first in (0, 1)) and bool(fields)


def gaps_in_text(missing: Collection[str] = MISSING, told: Collection[str] = ()) -> frozenset[str]:
    """What a field of a column of text says, in lower case, where a value is missing.

    Parameters
    ----------
    missing
        What it says among numbers.
    told
        What a user has said that it says, among numbers or not.
    """
    return frozenset({*missing} - WORDS_OF_TEXT | {*told})


def number_in(field: str) -> float:
    """The number in a field, or NaN."""
    try:
        return float(field) if "_" not in field else float("nan")
    except ValueError:
        return float("nan")
