"""The user's own data: what a path holds is told by its first bytes, and by its name only for text."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaefast.data import mnist
from vaefast.data.csvfields import looks_like_csv
from vaefast.data.csvfile import read_csv
from vaefast.data.idx import looks_like_idx, read_idx
from vaefast.data.images import Dataset, Rows
from vaefast.data.numpyfile import NPY_MAGIC, NPZ_MAGIC, read_npy, read_npz
from vaefast.data.pictures import load_pictures
from vaefast.data.reading import GZIP_MAGIC, reading, unzipped
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError

# Bytes by which a gzipped file is known.
FIRST = 4096


def read_path(path: Path) -> Rows | Dataset:
    """Read a file or a folder of the user's.

    Parameters
    ----------
    path
        A `.npy`, `.npz`, `.csv`, `.csv.gz` or IDX file, a folder of pictures, or one of four IDX files named like MNIST's.

    Returns
    -------
    Rows or Dataset
        Named like the file or folder; a Dataset where it brings a test set.

    Raises
    ------
    DataError
        The data cannot be read, are damaged or out of range, or are of no known format.
    """
    path = Path(os.path.abspath(path))  # so that even `.` has a name
    found = _read_folder(path) if os.path.isdir(path) else _read_file(path)
    values = (found.images if isinstance(found, Rows) else found.train).values
    if values.dtype == np.uint8 and values.max() <= 1:
        black = "no grey level is above 1 of 255, so that every image is black: if 1 means white, save the data as bool"
        return replace(found, notice=f"{shown(path)}: {black}")
    return found


def _read_file(path: Path) -> Rows | Dataset:
    with reading(path) as stream:
        start = stream.read(len(NPY_MAGIC))
    if start.startswith(NPY_MAGIC):
        return read_npy(path)
    if start.startswith(NPZ_MAGIC):
        return read_npz(path)
    if is_csv(path):
        return read_csv(path)
    if start.startswith(GZIP_MAGIC) or looks_like_idx(start[:4]):
        return Rows(path, mnist.flat(read_idx(path, 3)))
    raise DataError(
        f"{shown(path)} is of no known format: give .npy, .npz, .csv (comma-separated numbers), an IDX file, "
        "or a folder of pictures"
    )


def is_csv(path: Path) -> bool:
    """Whether a file is comma-separated text: by its name, `x.csv.gz` included, and if it is gzipped by its first bytes."""
    with reading(path) as file:
        stream = unzipped(file)[0]
        start = stream.read(FIRST)
    if looks_like_idx(start[:4]):
        return False
    packed = stream is not file
    named = ".csv" in [suffix.lower() for suffix in path.suffixes[-1 - packed :]]
    return named or (packed and looks_like_csv(start))


def _read_folder(folder: Path) -> Rows | Dataset:
    """IDX files if one of their four names is there, else pictures."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"the folder {shown(folder)} cannot be read ({reason(error)}): check its permissions") from error
    paths = [mnist.find(folder, file.name) for file in mnist.FILES]
    if not any(paths):
        return Rows(folder, load_pictures(folder, names))
    arrays: list[NDArray[np.uint8] | None] = []
    for file, path in zip(mnist.FILES, paths, strict=True):
        if path is None and file.rank == 3:
            raise DataError(f"the folder {shown(folder)} lacks {file.name} (with or without .gz): put it there")
        arrays.append(None if path is None else read_idx(path, file.rank))
    return mnist.from_arrays(folder, arrays)
