"""`.h5ad` files of anndata, read by h5py: the matrix X, dense or sparse, its row and column names, and labels in `obs`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.images import Labels
from vaefast.data.numbers import Numbers
from vaefast.data.reading import new_array, reading
from vaefast.data.sparse import checked_sparse
from vaefast.data.wording import reason, shortened, shown
from vaefast.errors import DataError

REMEDY = 'pip install "vaefast[anndata]", or give X as .npy or .npz'
SPARSE = {"csr_matrix": "csr", "csc_matrix": "csc"}


def read_h5ad(path: Path, label: str | None = None) -> Numbers:
    """Read X with its names. A sparse X stays sparse.

    Parameters
    ----------
    label
        Name of a column of `obs`.

    Raises
    ------
    DataError
        h5py is not installed, the file is damaged or has no X, or `obs` has no such column.
    """
    with _opened(path) as file:
        if "X" not in file:
            raise DataError(f"{shown(path)} holds no matrix X: in Python set adata.X, and write it again")
        values, names, rows = _matrix(file["X"], path), _index(file, "var"), _index(file, "obs")
        labels, classes = (None, ()) if label is None else _labels(file, label, path)
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"{shown(path)} holds an X of shape {values.shape}: give at least one row and one column")
    note = f"column {shown(repr(label))} of obs holds labels: not trained on"
    return Numbers(path, values, names, rows, labels, classes, (note,) if label is not None else ())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
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
        except Exception as error:  # h5py raises almost anything for a damaged file
            raise DataError(f"{shown(path)} is damaged ({reason(error)}): write it again") from error


def _matrix(held: Any, path: Path) -> Any:
    """X as a NumPy array, or as `scipy.sparse.csr_array`."""
    if hasattr(held, "dtype"):
        if held.dtype.kind not in "buif":
            raise DataError(f"{shown(path)} holds an X of type {held.dtype}: give numbers")
        values: NDArray[Any] = new_array(held.shape, held.dtype, shown(path))
        held.read_direct(values)
        return values
    encoding = held.attrs.get("encoding-type", held.attrs.get("h5sparse_format", ""))
    kind = SPARSE.get(str(encoding), str(encoding))
    if kind not in ("csr", "csc"):
        raise DataError(f"{shown(path)} holds an X of type {shown(encoding)}: write it as a dense or a CSR matrix")
    shape = held.attrs["shape"] if "shape" in held.attrs else held.attrs["h5sparse_shape"]
    data, indices, indptr = (held[name][()] for name in ("data", "indices", "indptr"))
    return checked_sparse(kind, (int(shape[0]), int(shape[1])), data, indices, indptr, shown(path))


def _index(file: Any, name: str) -> tuple[str, ...]:
    """Names of the rows (`obs`) or of the columns (`var`)."""
    frame = file.get(name)
    if frame is None:
        return ()
    if hasattr(frame, "dtype"):  # a record array, as anndata wrote before 0.7
        return tuple(_text(value) for value in frame[frame.dtype.names[0]])
    return tuple(_text(value) for value in frame[frame.attrs.get("_index", "_index")][()])


def _labels(file: Any, label: str, path: Path) -> tuple[Labels | None, tuple[str, ...]]:
    """A column of `obs`, which holds categories, texts or whole numbers."""
    obs = file["obs"]
    names = [name for name in obs if not name.startswith("__")]
    if label not in names:
        raise DataError(
            f"{shown(path)} has no column {shown(repr(label))} in obs: it has {shortened(shown(', '.join(names)))}"
        )
    column = obs[label]
    if "codes" in column if not hasattr(column, "dtype") else "categories" in column.attrs:
        return _categories(obs, column, label, path)
    if not hasattr(column, "dtype") and np.any(column["mask"]):  # nullable numbers of pandas
        raise _missing(int(np.argmax(column["mask"])), label, path)
    values = column[()] if hasattr(column, "dtype") else column["values"][()]
    if values.dtype.kind in "buif" and np.array_equal(values, np.floor(values)):
        return values.astype(np.int64), ()
    if values.dtype.kind == "f":
        raise DataError(f"{shown(path)}: column {shown(repr(label))} of obs holds real numbers, not labels: choose another")
    classes, labels = np.unique([_text(value) for value in values], return_inverse=True)
    return labels.astype(np.int64), tuple(str(name) for name in classes)


def _categories(obs: Any, column: Any, label: str, path: Path) -> tuple[Labels, tuple[str, ...]]:
    """Values of a categorical column: a group of codes and categories, or codes with a reference (anndata before 0.7)."""
    is_group = not hasattr(column, "dtype")
    codes = (column["codes"] if is_group else column)[()].astype(np.int64)
    held = (column["categories"] if is_group else obs[column.attrs["categories"]])[()]
    if codes.min(initial=0) < 0:
        raise _missing(int(np.argmin(codes)), label, path)
    return codes, tuple(_text(value) for value in held)


def _missing(row: int, label: str, path: Path) -> DataError:
    where = f"row {row} (counted from 0), column {shown(repr(label))} of obs"
    return DataError(f"{shown(path)}: {where}: a label is missing: fill it in, or leave its row out")


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
