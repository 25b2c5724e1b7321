"""Lines of a text table: their fields, and which fields are numbers."""

from __future__ import annotations

import csv

# How pandas, R, SAS and Excel write a missing value. Excel's errors count as missing, too.
MISSING = {
    "", "na", "n/a", "<na>", "nan", "-nan", "nat", "null", "none", "?", "-", "--", ".", "missing",
    "#n/a", "#na", "#null!", "#num!", "#div/0!", "#value!", "#name?", "#ref!",
}  # fmt: skip
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
    return fields if separator != " " else [field for field in fields if field]


def is_number(field: str) -> bool:
    """Whether a field is a number, NaN and infinity included."""
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field  # 1_000 is a number to Python only


def number_in(field: str) -> float:
    """The number in a field, or NaN."""
    try:
        return float(field) if "_" not in field else float("nan")
    except ValueError:
        return float("nan")
