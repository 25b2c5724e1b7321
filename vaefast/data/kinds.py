"""Whether a file may hold any numbers, or can only be pictures: by its first bytes alone."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from vaefast.data.csvfields import fields_of
from vaefast.data.csvfile import PIXEL
from vaefast.data.files import is_csv
from vaefast.data.numpyfile import NPY_MAGIC, NPZ_MAGIC, read_npy_header
from vaefast.data.reading import reading, unzipped
from vaefast.data.wording import shown

# Characters of a CSV file's first line that are looked at.
FIRST = 1 << 16


def may_be_table(path: Path) -> bool:
    """Whether a file may hold a table of any numbers: one array of numbers in rows, or comma-separated text.

    False for IDX files, arrays of bytes or truth values, those of more than two dimensions, and text whose columns are named
    like pixels. A file that is damaged is for its reader to refuse.
    """
    with reading(path) as stream:
        start = stream.read(len(NPY_MAGIC))
    if start.startswith(NPY_MAGIC):
        with reading(path) as stream:
            shape, _, dtype = read_npy_header(stream, os.fstat(stream.fileno()).st_size, shown(path))
        return len(shape) == 2 and dtype not in (np.uint8, np.bool_)
    if start.startswith(NPZ_MAGIC):
        return _holds_one_array(path)
    return is_csv(path) and not _has_pixels(path)


def _holds_one_array(path: Path) -> bool:
    try:
        with reading(path) as file, zipfile.ZipFile(file) as archive:
            return len(archive.namelist()) == 1
    except zipfile.BadZipFile:
        return False


def _has_pixels(path: Path) -> bool:
    """Whether most columns of comma-separated text are named like pixels."""
    with reading(path) as file:
        first = unzipped(file)[0].readline(FIRST).decode("utf-8-sig", errors="replace")
    names = fields_of(first.strip())
    return sum(PIXEL.fullmatch(name) is not None for name in names) > len(names) / 2
