"""The user's own pictures. The first bytes of a file decide its format; for text its name does."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaefast.data import mnist
from vaefast.data.arrow import read_arrow
from vaefast.data.csvfile import pictures_of, read_csv
from vaefast.data.idx import read_idx
from vaefast.data.images import Dataset, Rows
from vaefast.data.kinds import kind_of_file
from vaefast.data.numpyfile import read_npy, read_npz
from vaefast.data.pictures import read_pictures
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError


def read_path(path: Path, label: str | None = None, all_columns: bool = False, color: bool = False) -> Rows | Dataset:
    """Read pictures from a file or a folder.

    Parameters
    ----------
    path
        A `.npy`, `.npz`, text, `.parquet`, `.feather` or IDX file, a folder of pictures, or one of four IDX files named like
        MNIST's.
    label, all_columns
        For a file of columns: name or number, from 1, of the labels; and whether columns named like labels are pixels.
    color
        Whether colour channels are kept.

    Returns
    -------
    Rows or Dataset
        Named like the file or folder. It is a Dataset if it has a test set.

    Raises
    ------
    DataError
        The data cannot be read, are damaged or out of range, or are of an unknown format.
    """
    path = Path(os.path.abspath(path))  # so that even `.` has a name
    found = _read_folder(path, color) if os.path.isdir(path) else _read_file(path, label, all_columns, color)
    return with_a_word_on_black(found, path)


def with_a_word_on_black(found: Rows | Dataset, path: Path) -> Rows | Dataset:
    """The same, with a notice if no grey level is above 1 of 255."""
    values = (found.images if isinstance(found, Rows) else found.train).values
    if values.dtype == np.uint8 and values.max() <= 1:
        black = "no grey level is above 1 of 255, so every image is black: if 1 means white, save the data as bool"
        return replace(found, notice=f"{shown(path)}: {black}")
    return found


def _read_file(path: Path, label: str | None, all_columns: bool, color: bool) -> Rows | Dataset:
    kind = kind_of_file(path)
    if kind == "npy":
        return read_npy(path, color)
    if kind == "npz":
        return read_npz(path, color)
    if kind == "text":
        return read_csv(path, label, all_columns)
    if kind in ("parquet", "feather"):
        return pictures_of(read_arrow(path, kind, label), path, label, all_columns)
    if kind == "idx":
        return Rows(path, mnist.flat(read_idx(path, 3)))
    raise DataError(f"{shown(path)} holds a table, not pictures: give pictures")


def _read_folder(folder: Path, color: bool) -> Rows | Dataset:
    """Read IDX files if the folder has one of their four names, else pictures."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"the folder {shown(folder)} cannot be read ({reason(error)}): check its permissions") from error
    paths = [mnist.find(folder, file.name) for file in mnist.FILES]
    if not any(paths):
        return read_pictures(folder, names, color)
    arrays: list[NDArray[np.uint8] | None] = []
    for file, path in zip(mnist.FILES, paths, strict=True):
        if path is None and file.rank == 3:
            raise DataError(f"the folder {shown(folder)} lacks {file.name} (with or without .gz): put it there")
        arrays.append(None if path is None else read_idx(path, file.rank))
    return mnist.from_arrays(folder, arrays)
