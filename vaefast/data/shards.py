"""Data larger than the memory: many `.npy` files that together are one set of images, mapped and read in part.

The images are numbered through all files, in the order of the file names. The test set has the same images as if all were in
one file. Both sets keep the order of the files, so a part of a set is a run of rows in few files.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.images import Dataset, Images, guessed_shape
from vaefast.data.numpyfile import read_npy_header
from vaefast.data.reading import NPY_MAGIC, new_array, reading
from vaefast.data.split import count_for_training
from vaefast.data.values import check
from vaefast.data.wording import shown
from vaefast.errors import DataError
from vaefast.models.noise import Purpose, permutation

WILDCARDS = "*?["
# Rows per block when a whole set is read.
BLOCK = 4096
# Rows hashed in each file, evenly spread. Hashing all of a large data set would take hours.
HASHED_ROWS = 1024


@dataclass(frozen=True)
class Shard:
    """One file: an array (rows, X)."""

    path: str
    rows: int
    offset: int  # the first byte of data

    def read(self, rows: NDArray[np.int64], width: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Some of its rows, checked. The mapping ends with the call and so frees its memory."""
        try:
            mapped = np.memmap(self.path, dtype, "r", self.offset, (self.rows, width))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{shown(self.path)} cannot be mapped ({error}): it may have changed since it was opened"
            ) from error
        contiguous = len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows) and bool((np.diff(rows) == 1).all())
        some = np.array(mapped[rows[0] : rows[-1] + 1]) if contiguous else mapped[rows]  # a copy, by either
        check(some, dtype, int(rows[0]) if len(rows) else 0, shown(self.path))
        return some


class ShardedRows:
    """Some rows of all files, as an array (N, X) that is read on access."""

    def __init__(self, shards: tuple[Shard, ...], width: int, dtype: np.dtype[Any], rows: NDArray[np.int64]) -> None:
        self.shape, self.dtype = (len(rows), width), dtype
        self._shards, self._rows = shards, rows
        self._firsts = np.cumsum([0, *(shard.rows for shard in shards)])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> NDArray[Any]:
        return self._read(self._rows[index])

    def blocks(self, first: int, last: int, rows: int) -> Iterator[NDArray[Any]]:
        """Rows first to last - 1, (n, X), in blocks."""
        for start in range(first, last, rows):
            yield self._read(self._rows[start : min(start + rows, last)])

    def select(self, rows: NDArray[np.int64]) -> ShardedRows:
        """Some of the rows, in ascending order."""
        return ShardedRows(self._shards, self.shape[1], self.dtype, self._rows[np.sort(rows)])

    def whole(self, origin: str) -> NDArray[Any]:
        """All rows, in memory."""
        array = new_array(self.shape, self.dtype, origin)
        for start in range(0, len(self), BLOCK):
            array[start : start + BLOCK] = self[start : start + BLOCK]
        return array

    def mean(self, axis: int, dtype: Any) -> NDArray[Any]:
        """The mean of each column. `axis` must be 0."""
        if axis != 0:
            raise ValueError(f"the mean over axis {axis} of sharded rows is not known")
        return sum(
            (block.sum(axis=0, dtype=dtype) for block in self.blocks(0, len(self), BLOCK)), np.zeros(self.shape[1])
        ) / len(self)

    def _read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by their numbers in all files, in ascending order."""
        bounds = np.searchsorted(rows, self._firsts)
        parts = [
            shard.read(rows[begin:end] - first, self.shape[1], self.dtype)
            for shard, first, begin, end in zip(self._shards, self._firsts, bounds, bounds[1:], strict=False)
            if begin < end
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, self.shape[1]), self.dtype), *parts])


class ShardedImages(Images):
    """Images whose `values` are `ShardedRows`: each process reads the rows that it needs."""

    values: Any

    def __post_init__(self) -> None:
        """Nothing is read here."""

    def select(self, rows: NDArray[np.int64]) -> ShardedImages:
        """Some of them, in ascending order."""
        return ShardedImages(self.values.select(rows), self.shape)


def load_shards(pattern: str, test_fraction: float, *, in_memory: bool) -> Dataset:
    """The images of all `.npy` files whose paths match the pattern.

    Parameters
    ----------
    in_memory
        Read all of them now. Otherwise each part is read when it is needed.

    Raises
    ------
    DataError
        No file matches, or a file is not an array of uint8 or float32 with the width and type of the first.
    """
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise DataError(f'no file matches {shown(pattern)}: give the path of .npy files, such as "shards/*.npy", in quotes')
    first = _opened(paths[0])
    shards = [first[0]]
    for path in paths[1:]:
        shard, width, dtype = _opened(path)
        if (width, dtype) != first[1:]:
            raise DataError(
                f"{shown(path)} holds {width} columns of {dtype}, {shown(paths[0])} {first[1]} of {first[2]}: "
                "save all shards with one width and type"
            )
        shards.append(shard)
    return _dataset(pattern, tuple(shards), first[1], first[2], test_fraction, in_memory)


def _dataset(
    pattern: str, shards: tuple[Shard, ...], width: int, dtype: np.dtype[Any], test_fraction: float, in_memory: bool
) -> Dataset:
    count = sum(shard.rows for shard in shards)
    if count < 2:
        raise DataError(f"{shown(pattern)} holds {count} rows in all: give at least 2, one to train on and one to test on")
    order = permutation(0, Purpose.TRAIN_TEST_SPLIT, 0, count)
    kept = count_for_training(count, test_fraction)
    sets = (ShardedRows(shards, width, dtype, np.sort(rows)) for rows in (order[:kept], order[kept:]))
    shape = guessed_shape(width)
    kind = Images if in_memory else ShardedImages
    train, test = (kind(rows.whole(shown(pattern)) if in_memory else rows, shape) for rows in sets)  # type: ignore[arg-type]
    return Dataset(Path(pattern).name, train, test, None, None, _fingerprint(shards, width, dtype), None)


def _opened(path: str) -> tuple[Shard, int, np.dtype[Any]]:
    """Read the header of a file, and check it against the length of the file."""
    origin = shown(path)
    with reading(Path(path)) as stream:
        if stream.read(len(NPY_MAGIC)) != NPY_MAGIC:
            raise DataError(f"{origin} is not a .npy file: give shards that numpy.save has written")
        stream.seek(0)
        shape, column_major, dtype = read_npy_header(stream, os.fstat(stream.fileno()).st_size, origin)
        offset = stream.tell()
    if len(shape) != 2 or shape[1] == 0 or column_major:
        order = " in Fortran's order" if column_major else ""
        raise DataError(f"{origin} has shape {shape}{order}: save rows of pixels, (N, X), in C order")
    if dtype not in (np.uint8, np.float32) or not dtype.isnative:
        raise DataError(f"{origin} holds {dtype}: save shards as uint8 (0 to 255) or float32 in [0, 1]")
    return Shard(os.path.abspath(path), shape[0], offset), shape[1], dtype


def _fingerprint(shards: tuple[Shard, ...], width: int, dtype: np.dtype[Any]) -> str:
    """SHA-256 over type, sizes, and up to 1024 rows of each file. It recognises other data but does not prove every byte."""
    digest = hashlib.sha256(f"{dtype.name} {width};".encode())
    for shard in shards:
        digest.update(f"{shard.rows};".encode())
        rows = np.unique(np.linspace(0, shard.rows - 1, min(shard.rows, HASHED_ROWS)).astype(np.int64))
        if len(rows):
            digest.update(shard.read(rows, width, dtype).data)
    return digest.hexdigest()
