"""Comma-separated numbers, one image a line, as spreadsheets, pandas and R write them, plain or gzipped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaefast.data.csvfields import MISSING, number_in
from vaefast.data.csvtable import LABELS, Table, check_no_gaps, read_table
from vaefast.data.images import Images, Labels, Rows, guessed_shape
from vaefast.data.values import row_blocks, to_labels, to_pixels
from vaefast.data.wording import shown
from vaefast.errors import DataError

LABEL, Y, X = "label", "y", "x"
MOST_CLASSES = 100
# Levels of fewer than 8 bits, percent and most counts end below: over 255 they would be nearly black.
DARKEST_WHITE = 127
MNIST_PIXELS = 784
PIXEL = re.compile(r"(pixel|pix|px)[ _.\d]*|\d+x\d+", re.IGNORECASE)


def read_csv(path: Path) -> Rows:
    """Numbers in [0, 1], or whole grey levels 0 to 255 (see `_kept_as`); columns of labels are told by their names.

    Raises
    ------
    DataError
        Lines of different length, text among the numbers, values that are missing or out of range (row and column are named),
        whole numbers that are no grey levels, or no data.
    """
    origin = shown(path)
    table, labels = split_labels(read_table(path, np.float32), origin)
    if table.values.shape[1] == 0:
        raise DataError(f"{table.called(origin)} has no column of pixels: give at least one")
    check_no_gaps(table, origin)
    kept, note = _kept_as(table, origin)
    pixels = to_pixels(table.values, table.called(origin), kept, table.names)
    images = Images(pixels, guessed_shape(pixels.shape[1]))
    return Rows(path, images, labels, table.names, table.noted(note).notice(origin))


def split_labels(table: Table, origin: str) -> tuple[Table, Labels | None]:
    """The table without its columns of labels, and the first of them.

    A column named `label` always is one. One named `class`, `target` or `y`, in any case and in the plural, is one where its
    values look like labels: text, or at most 100 different whole numbers; `y` is none beside a column `x`.

    Raises
    ------
    DataError
        A label is missing, or one in the column `label` is no whole number.
    """
    names = [name.lower() for name in table.names]
    found, notes = {}, []
    for at in (i for i, name in enumerate(names) if name in LABELS):
        labels = _labels(table.texts[at], names[at], X in names, f"{origin}, column {shown(table.names[at])}")
        if labels is None:
            notes.append(f"column {shown(table.names[at])} holds no labels: trained on like the others")
        else:
            found[at] = labels
            different = len(np.unique(labels))
            notes.append(f"column {shown(table.names[at])} holds labels ({different} different): not trained on")
    return table.without([*found]).noted(*notes), next(iter(found.values()), None)


def _labels(texts: list[str], name: str, beside_x: bool, origin: str) -> Labels | None:
    """Labels as whole numbers, those of text by its order; None where these look like none."""
    numbers = np.array([number_in(field) for field in texts])
    no_numbers = np.flatnonzero(np.isnan(numbers))
    missing = [row for row in no_numbers if texts[row].lower() in MISSING]
    if len(missing) == len(no_numbers):
        if name != LABEL and ((name == Y and beside_x) or not _are_classes(numbers)):
            return None
        if not missing:
            return to_labels(numbers, origin)
    if missing:
        raise DataError(f"{origin}: label {missing[0]} (counted from 0) is missing: fill it in, or leave its row out")
    return np.unique(texts, return_inverse=True)[1].astype(np.int64)


def _are_classes(numbers: NDArray[np.float64]) -> bool:
    known = numbers[~np.isnan(numbers)]
    return bool((known == np.floor(known)).all()) and len(np.unique(known)) <= MOST_CLASSES


def _kept_as(table: Table, origin: str) -> tuple[np.dtype[np.uint8] | np.dtype[np.float32], str]:
    """The type that the values are kept in, and a note on it.

    Whole numbers of which some are above 1 are grey levels 0 to 255 where one is above 127, the darkest white of 8 bits, or
    where a row has the 784 pixels of MNIST and its kin; a note says so unless both hold, or columns are named like pixels.
    All else is for numbers in [0, 1].

    Raises
    ------
    DataError
        Whole numbers that look like counts: over 255 they would be all but black without a word.
    """
    whole, smallest, largest = True, np.inf, -np.inf
    for start, stop in row_blocks(*table.values.shape):
        block = table.values[start:stop]
        whole = whole and bool((block == np.floor(block)).all())
        smallest, largest = min(smallest, block.min()), max(largest, block.max())
    if not whole or largest <= 1:
        return np.dtype(np.float32), ""
    bright, like_mnist = largest > DARKEST_WHITE, table.values.shape[1] == MNIST_PIXELS
    if not bright and not like_mnist and smallest >= 0:
        raise DataError(
            f"{table.called(origin)}: whole numbers up to {largest:.0f} look like counts, not like grey levels 0 to 255: "
            f"divide by {largest:.0f} to train on them as pictures in [0, 1], or use vaefast.VAE in Python for counts"
        )
    if bright and (like_mnist or (table.names and all(PIXEL.fullmatch(name) for name in table.names))):
        return np.dtype(np.uint8), ""
    note = (
        f"whole numbers up to {largest:.0f} are taken as grey levels 0 to 255; for a table of counts use vaefast.VAE in Python"
    )
    return np.dtype(np.uint8), note
