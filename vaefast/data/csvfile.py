"""Text files of pictures: one image per line, as spreadsheets, pandas and R write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaefast.data.csvtable import check_no_gaps, read_table
from vaefast.data.header import counted
from vaefast.data.images import Images, Rows, guessed_shape
from vaefast.data.indexes import UNNAMED
from vaefast.data.labels import LABELS, MOST_CLASSES, choose_label, refuse_text, split_labels
from vaefast.data.table import Table
from vaefast.data.values import row_blocks, to_pixels
from vaefast.data.wording import shown
from vaefast.errors import DataError

# Levels of fewer than 8 bits, percentages and most counts do not exceed this. Divided by 255 they would be nearly black.
DARKEST_WHITE = 127
WHITE = 255
MNIST_PIXELS = 784
PIXEL = re.compile(r"(pixel|pix|px)[ _.\d]*|\d+x\d+", re.IGNORECASE)


def read_csv(path: Path, label: str | None = None, all_columns: bool = False) -> Rows:
    """Pictures with values in [0, 1], or whole grey levels 0 to 255 (see `_kept_as`). Label columns are found by their names.

    Parameters
    ----------
    label
        The column of labels, by its name or by its number from 1.
    all_columns
        Whether columns that are named like labels are pixels.

    Raises
    ------
    DataError
        Lines differ in length, a value is text, missing or out of range (the message names line and column), whole numbers are
        not grey levels, or there are no data.
    """
    return pictures_of(read_table(path, np.float32, label), path, label, all_columns)


def pictures_of(table: Table, path: Path, label: str | None = None, all_columns: bool = False) -> Rows:
    """The rows of a table as pictures.

    Raises
    ------
    DataError
        As for `read_csv`.
    """
    origin = shown(path)
    if label is not None:
        table = choose_label(table, origin, label)
    if all_columns:
        refuse_text(table, origin)
    else:
        table = split_labels(table, origin) if table.names or label is not None else _without_digit(table, origin)
    if table.values.shape[1] == 0:
        raise DataError(f"{origin} has no column of pixels: give at least one")
    check_no_gaps(table, origin)
    kept, note = _kept_as(table, origin)
    pixels = to_pixels(table.values, origin, kept, table.cell)
    images = Images(pixels, guessed_shape(pixels.shape[1]))
    return Rows(path, images, table.labels, table.names, table.noted(note).notice(origin), table.classes)


def are_pictures(table: Table, all_columns: bool = False) -> bool:
    """Whether the rows of a table are pictures.

    They are where columns are named like pixels. Where they have no names, or names that only count them, labels aside, they
    are if they hold numbers in [0, 1], or whole numbers to 255, of which some are above 127 or which are as many as MNIST's.

    Parameters
    ----------
    all_columns
        Whether columns that are named like labels hold values like the others.
    """
    if are_pixels(table.names):
        return True
    values = [*range(len(table.names))] if all_columns else _not_labels(table.names)
    if table.names and not counted([table.names[at] for at in values]):
        return False
    table = table.only(values) if table.names else table
    columns = table.values.shape[1]
    smallest, largest, whole = _extremes(table)
    if columns in (MNIST_PIXELS, MNIST_PIXELS + 1):
        return smallest >= 0 and (largest <= 1 or (whole and largest <= WHITE))
    return smallest >= 0 and (largest <= 1 or (whole and DARKEST_WHITE < largest <= WHITE))


def are_pixels(names: Sequence[str]) -> bool:
    """Whether columns are named like pixels, labels aside."""
    others = [names[at] for at in _not_labels(names)]
    return bool(others) and all(map(PIXEL.fullmatch, others))


def _not_labels(names: Sequence[str]) -> list[int]:
    """Places of the names that are neither those of labels nor those of an index."""
    return [at for at, name in enumerate(names) if name.lower() not in LABELS and not UNNAMED.fullmatch(name)]


def _without_digit(table: Table, origin: str) -> Table:
    """The table without its unnamed first column, if that holds labels in front of the 784 pixels of an MNIST-like set."""
    if table.values.shape[1] != MNIST_PIXELS + 1 or table.names:
        return table
    first = np.unique(table.values[:, 0])
    if len(first) > MOST_CLASSES or not np.array_equal(first, np.floor(first)):
        return table
    return choose_label(table, origin, str(table.at[0] + 1))


def _kept_as(table: Table, origin: str) -> tuple[np.dtype[np.uint8] | np.dtype[np.float32], str]:
    """The type in which the values are kept, and a note on it.

    Whole numbers, some of them above 1, are grey levels 0 to 255 if one is above 127 or if a row has the 784 pixels of an
    MNIST-like set. A note says so unless both hold, or columns are named like pixels. All else must be numbers in [0, 1].

    Raises
    ------
    DataError
        Whole numbers look like counts. Divided by 255 they would be nearly black images.
    """
    smallest, largest, whole = _extremes(table)
    if not whole or largest <= 1:
        return np.dtype(np.float32), ""
    bright, like_mnist = largest > DARKEST_WHITE, table.values.shape[1] == MNIST_PIXELS
    if not bright and not like_mnist and smallest >= 0:
        raise DataError(
            f"{origin}: whole numbers up to {largest:.0f} look like counts, not like grey levels 0 to 255: "
            f"divide by {largest:.0f} to train on them as pictures in [0, 1], or use vaefast.VAE in Python for counts"
        )
    if bright and (like_mnist or (table.names and all(PIXEL.fullmatch(name) for name in table.names))):
        return np.dtype(np.uint8), ""
    note = (
        f"whole numbers up to {largest:.0f} are taken as grey levels 0 to 255; for a table of counts use vaefast.VAE in Python"
    )
    return np.dtype(np.uint8), note


def _extremes(table: Table) -> tuple[float, float, bool]:
    """Smallest and largest value, NaN if any value is, and whether all are whole."""
    whole, smallest, largest = True, np.inf, -np.inf
    for start, stop in row_blocks(*table.values.shape):
        block = table.values[start:stop]
        whole = whole and bool((block == np.floor(block)).all())
        smallest, largest = np.minimum(smallest, block.min()), np.maximum(largest, block.max())
    return float(smallest), float(largest), whole
