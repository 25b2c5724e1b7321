"""Comma-separated numbers, one image a line; a first line without any number names the columns."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from vaefast.data.images import Dataset, Images, Pixels, guessed_shape
from vaefast.data.reading import reading
from vaefast.data.split import split
from vaefast.data.values import row_blocks, to_labels, to_pixels
from vaefast.data.wording import shown
from vaefast.errors import DataError

LABEL = "label"


def load_csv(path: Path, test_fraction: float) -> Dataset:
    """Numbers in [0, 1], or whole grey levels 0 to 255 of which some are above 1; a column named `label` holds labels.

    Raises
    ------
    DataError
        Lines of different length, text among the numbers, values out of range (row and column are named), or no data.
    """
    origin = shown(path)
    names, table = read_table(path)
    labels = None
    if LABEL in names:
        at = names.index(LABEL)
        labels = to_labels(table[:, at], f"{origin}, column {LABEL}")
        table = np.delete(table, at, axis=1)
        origin += f", not counting its column {LABEL}"
    if table.shape[1] == 0:
        raise DataError(f"{origin} has no column of pixels: give at least one")
    pixels = _to_pixels(table, origin)
    return split(path, Images(pixels, guessed_shape(pixels.shape[1])), labels, test_fraction)


def read_table(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Column names, in lower case (none without a header line), and the numbers, float32 (N, columns)."""
    origin = shown(path)
    with reading(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
        rows = _Rows(text)
        try:
            names = rows.header()
            table = _parse(rows)
        except UnicodeDecodeError as error:
            raise DataError(f"{origin} is not UTF-8 text: save it as CSV, numbers with commas between them") from error
        except ValueError as error:
            raise DataError(f"{origin}: {rows.complaint()}") from error
    if table.size == 0:
        raise DataError(f"{origin} holds no numbers: give one image a line, numbers with commas between them")
    if names and table.shape[1] != len(names):
        raise DataError(
            f"{origin}: the header line names {len(names)} columns, the first row has {table.shape[1]}: make them agree"
        )
    return names, table


def _parse(rows: _Rows) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no data: an error of our own follows
        return np.loadtxt(rows, dtype=np.float32, delimiter=",", comments=None, ndmin=2)


class _Rows:
    """Lines that are not blank, remembering where the reader is for the sake of a good complaint."""

    def __init__(self, text: TextIO) -> None:
        self.lines = (line for line in text if line.strip())
        self.row = -1
        self.line = ""
        self.columns = 0
        self.pending: list[str] = []

    def header(self) -> list[str]:
        """Names of the columns: the first line, if none of its fields is a number."""
        first = next(self.lines, "")
        fields = [field.strip().strip('"').lower() for field in first.split(",")]
        if not any(_is_number(field) for field in fields):
            return fields if first else []
        self.pending.append(first)
        return []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.pending.pop() if self.pending else next(self.lines)
        self.row += 1
        self.line = line
        self.columns = self.columns or line.count(",") + 1
        return line

    def complaint(self) -> str:
        """What is wrong with the line that was handed out last."""
        fields = [field.strip() for field in self.line.split(",")]
        if len(fields) != self.columns:
            return (
                f"row {self.row} (counted from 0, without a header) has {len(fields)} values where row 0 has "
                f"{self.columns}: give every image the same number"
            )
        column = next((i for i, field in enumerate(fields) if not _is_number(field)), 0)
        field = shown(repr(fields[column][:40]))
        return (
            f"row {self.row}, column {column} (both counted from 0, without a header) is {field}: "
            "give numbers with commas between them"
        )


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field  # 1_000 is a number to Python only


def _to_pixels(table: NDArray[np.float32], origin: str) -> Pixels:
    """Grey levels if all numbers are whole and some are above 1, else values in [0, 1]."""
    whole, largest = True, np.float32(0)
    for start, stop in row_blocks(*table.shape):
        block = table[start:stop]
        whole = whole and bool(((block == np.floor(block)) | np.isnan(block)).all())
        largest = np.fmax(largest, np.fmax.reduce(block, axis=None))
    return to_pixels(table, origin, np.dtype(np.uint8 if whole and largest > 1 else np.float32))
