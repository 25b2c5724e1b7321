"""The user's own data: what a path holds is told by its first bytes, and by its name only for text."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaefast.data import mnist
from vaefast.data.csvfile import load_csv
from vaefast.data.idx import looks_like_idx, read_idx
from vaefast.data.images import Dataset
from vaefast.data.numpyfile import NPY_MAGIC, NPZ_MAGIC, load_npy, load_npz
from vaefast.data.pictures import load_pictures
from vaefast.data.reading import GZIP_MAGIC, reading
from vaefast.data.split import split
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError


def load_path(path: Path, test_fraction: float) -> Dataset:
    """Read a file or a folder of the user's.

    Parameters
    ----------
    path
        A `.npy`, `.npz`, `.csv` or IDX file, a folder of pictures, or a folder of four IDX files named like MNIST's.
    test_fraction
        Share of the images that become the test set, where the data do not bring one.

    Returns
    -------
    Dataset
        Named like the file or folder.

    Raises
    ------
    DataError
        The data cannot be read, are damaged or out of range, or are of no known format.
    """
    path = Path(os.path.abspath(path))  # so that even `.` has a name
    dataset = _load_folder(path, test_fraction) if os.path.isdir(path) else _load_file(path, test_fraction)
    values = dataset.train.values
    if values.dtype == np.uint8 and values.max() <= 1:
        black = "no grey level is above 1 of 255, so that every image is black: if 1 means white, save the data as bool"
        return replace(dataset, notice=f"{shown(path)}: {black}")
    return dataset


def _load_file(path: Path, test_fraction: float) -> Dataset:
    with reading(path) as stream:
        start = stream.read(len(NPY_MAGIC))
    if start.startswith(NPY_MAGIC):
        return load_npy(path, test_fraction)
    if start.startswith(NPZ_MAGIC):
        return load_npz(path, test_fraction)
    if start.startswith(GZIP_MAGIC) or looks_like_idx(start[:4]):
        return split(path, mnist.flat(read_idx(path, 3)), None, test_fraction)
    if path.suffix.lower() == ".csv":
        return load_csv(path, test_fraction)
    raise DataError(
        f"{shown(path)} is of no known format: give .npy, .npz, .csv (comma-separated numbers), an IDX file, "
        "or a folder of pictures"
    )


def _load_folder(folder: Path, test_fraction: float) -> Dataset:
    """IDX files if one of their four names is there, else pictures."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"the folder {shown(folder)} cannot be read ({reason(error)}): check its permissions") from error
    paths = [mnist.find(folder, file.name) for file in mnist.FILES]
    if not any(paths):
        return split(folder, load_pictures(folder, names), None, test_fraction)
    arrays: list[NDArray[np.uint8] | None] = []
    for file, path in zip(mnist.FILES, paths, strict=True):
        if path is None and file.rank == 3:
            raise DataError(f"the folder {shown(folder)} lacks {file.name} (with or without .gz): put it there")
        arrays.append(None if path is None else read_idx(path, file.rank))
    return mnist.from_arrays(folder, arrays)
