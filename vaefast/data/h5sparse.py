"""Sparse matrices in HDF5 files, read in blocks by h5py: counts go straight into `CountRows`, and lie in memory once."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.reading import new_array, reading
from vaefast.data.sparse import checked_sparse
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError
from vaefast.models.count_rows import CountRows, first_wrong, index_type, value_type

REMEDY = 'pip install "vaefast[anndata]", or give the matrix as .npy or .npz'
# Entries of a block. A matrix is read in blocks of whole rows (or columns), so a longer one is a block of its own.
BLOCK = 1 << 18


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An HDF5 file. What fails while it is read becomes a DataError.

    Raises
    ------
    DataError
        h5py is not installed, or the file is damaged.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{shown(path)} needs h5py, which is not installed: {REMEDY}") from error
    with reading(path):
        try:
            with h5py.File(path, "r") as file:
                yield file
        except DataError:
            raise
        except BlockingIOError as error:
            raise DataError(
                f"{shown(path)} is open for writing in another program: close it there, or set HDF5_USE_FILE_LOCKING=FALSE"
            ) from error
        except Exception as error:  # h5py raises almost anything for a damaged file
            raise DataError(f"{shown(path)} is damaged ({reason(error)}): write it again") from error


def changed(path: Path, change: Callable[[Any], None]) -> bytes:
    """The content of an HDF5 file after a change of it, which is made in memory."""
    with opened(path), reading(path) as stream:
        content = io.BytesIO(stream.read())
    import h5py

    with h5py.File(content, "r+") as file:
        change(file)
    return content.getvalue()


def texts(held: Any) -> tuple[str, ...]:
    """A data set of names; pandas' own texts are a group, with `values`."""
    return tuple(text(value) for value in (held if hasattr(held, "dtype") else held["values"])[()])


def text(value: object) -> str:
    """A name, which HDF5 holds as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def read_group(group: Any, kind: str, shape: tuple[int, int], path: Path) -> Any:
    """A CSR or CSC matrix with the data sets `data`, `indices` and `indptr`: `CountRows` of whole counts.

    Other numbers, and those that are all 0 or 1, come as `scipy.sparse.csr_array`.

    Parameters
    ----------
    kind
        `csr` or `csc`.

    Raises
    ------
    DataError
        The parts do not fit together.
    """
    origin = shown(path)
    if group["data"].dtype.kind in "buif" and group["data"].dtype.kind != "b":
        blocks = _Blocks(group, kind, shape, origin)
        counts = _by_rows(blocks) if kind == "csr" else _by_columns(blocks)
        if counts is not None and counts.largest > 1:
            return counts
        del counts
    data, indices, indptr = (group[name][()] for name in ("data", "indices", "indptr"))
    return checked_sparse(kind, shape, data, indices, indptr, origin)


class _Blocks:
    """A matrix in blocks of whole rows (CSR) or columns (CSC), in their order.

    Raises
    ------
    DataError
        The parts do not fit together.
    """

    def __init__(self, group: Any, kind: str, shape: tuple[int, int], origin: str) -> None:
        self.kind, self.shape, self.origin = kind, shape, origin
        self._data, self._indices = group["data"], group["indices"]
        self.starts: NDArray[np.int64] = group["indptr"][()].astype(np.int64, copy=False)
        length = shape[0] if kind == "csr" else shape[1]
        entries = len(self._data)
        fit = len(self.starts) == length + 1 and self.starts[0] == 0 and self.starts[-1] == entries == len(self._indices)
        if not fit or (np.diff(self.starts) < 0).any():
            raise self._misfit("indptr")

    def __iter__(self) -> Iterator[tuple[slice, Any]]:
        """The rows (columns) of each block, and their part of the matrix: CSR, each cell once, no zeros."""
        import scipy.sparse

        first, across = 0, self.shape[1] if self.kind == "csr" else self.shape[0]
        while first < len(self.starts) - 1:
            last = int(np.searchsorted(self.starts, self.starts[first] + BLOCK, "right")) - 1
            last = max(last, first + 1)
            start, stop = int(self.starts[first]), int(self.starts[last])
            indices = self._indices[start:stop]
            if indices.size and (indices.min() < 0 or indices.max() >= across):
                raise self._misfit("indices")
            size = (last - first, across) if self.kind == "csr" else (across, last - first)
            parts = self._data[start:stop], indices, self.starts[first : last + 1] - start
            block = getattr(scipy.sparse, f"{self.kind}_array")(parts, shape=size)
            block.sum_duplicates()
            block.eliminate_zeros()
            yield slice(first, last), block.tocsr()
            first = last

    @property
    def entries(self) -> int:
        """The number of entries, duplicates and zeros included."""
        return int(self.starts[-1])

    def _misfit(self, part: str) -> DataError:
        return DataError(f"{self.origin} holds a sparse matrix whose parts do not fit ({part}): write it again")


def _by_rows(blocks: _Blocks) -> CountRows | None:
    """Counts of a CSR matrix, in one pass; None if a number is no count."""
    rows, width = blocks.shape
    starts = np.zeros(rows + 1, np.int64)
    columns = new_array((blocks.entries,), index_type(width), blocks.origin)
    values: NDArray[Any] = new_array((blocks.entries,), np.uint8, blocks.origin)
    for own, block in blocks:
        if first_wrong(block.data) is not None:
            return None
        first = starts[own.start]
        starts[own.start + 1 : own.stop + 1] = first + block.indptr[1:]
        values = _wide_enough(values, value_type(block.data), int(first))
        columns[first : first + block.nnz], values[first : first + block.nnz] = block.indices, block.data
    return CountRows(starts, columns[: starts[-1]], values[: starts[-1]], width)


def _wide_enough(values: NDArray[Any], dtype: type[np.generic], filled: int) -> NDArray[Any]:
    """Values, of which so many are known, in a type that holds those of this one, too."""
    if np.can_cast(dtype, values.dtype):
        return values
    wide = np.empty(len(values), dtype)
    wide[:filled] = values[:filled]
    return wide


def _by_columns(blocks: _Blocks) -> CountRows | None:
    """Counts of a CSC matrix: a pass that counts the entries of each row, and one that puts them there."""
    rows, width = blocks.shape
    starts, largest = np.zeros(rows + 1, np.int64), 0.0
    for _, block in blocks:
        if first_wrong(block.data) is not None:
            return None
        starts[1:] += np.diff(block.indptr)
        largest = max(largest, block.data.max(initial=0))
    np.cumsum(starts, out=starts)
    columns = new_array((int(starts[-1]),), index_type(width), blocks.origin)
    values: NDArray[Any] = new_array((int(starts[-1]),), value_type(np.array([largest])), blocks.origin)
    filled = starts[:-1].copy()
    for own, block in blocks:
        lengths = np.diff(block.indptr)
        places = np.arange(block.nnz) + np.repeat(filled - block.indptr[:-1], lengths)
        columns[places], values[places] = block.indices + own.start, block.data
        filled += lengths
    return CountRows(starts, columns, values, width)
