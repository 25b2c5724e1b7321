"""`.h5ad` files of anndata, read by h5py: X or a layer, dense or sparse, its row and column names, and columns of `obs`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vaefast.data.h5sparse import opened, read_group, text, texts
from vaefast.data.numbers import Numbers
from vaefast.data.obs import read_labels, read_told
from vaefast.data.reading import new_array
from vaefast.data.wording import shortened, shown
from vaefast.errors import DataError
from vaefast.models.count_rows import first_wrong

SPARSE = {"csr_matrix": "csr", "csc_matrix": "csc"}
RAW = "raw"
# Values of a matrix that are looked at to learn whether it holds counts.
LOOKED_AT = 1 << 16


def read_h5ad(path: Path, label: str | None = None, layer: str | None = None, told: Sequence[str] = ()) -> Numbers:
    """Read X, or a layer, with its names. Of a sparse one only its three arrays are read, and it stays sparse.

    Parameters
    ----------
    label
        Name of a column of `obs`.
    layer
        Name of one of `layers`; `raw` for the X of `raw`, unless a layer has this name.
    told
        Names of columns of `obs` that say something of each row.

    Raises
    ------
    DataError
        h5py is not installed, the file is damaged, has no X or no such layer, or `obs` has no such column.
    """
    with opened(path) as file:
        held, var = chosen_matrix(file, layer, path)
        values, names, rows = _matrix(held, path), _index(var), _index(file.get("obs"))
        labels, classes = (None, ()) if label is None else read_labels(file, label, path)
        columns = tuple(read_told(file, name, path) for name in told)
        advice = _advice(file, held) if layer is None else ""
    if len(values.shape) != 2 or 0 in values.shape:
        raise DataError(f"{shown(path)} holds an X of shape {values.shape}: give at least one row and one column")
    note = "" if label is None else f"column {shown(repr(label))} of obs holds labels: not trained on"
    return Numbers(path, values, names, rows, labels, classes, tuple(filter(None, (advice, note))), told=columns)


def chosen_matrix(file: Any, layer: str | None, path: Path) -> tuple[Any, Any]:
    """X or a layer, and the frame of its columns.

    Raises
    ------
    DataError
        There is none.
    """
    held = _others(file)
    if layer is None:
        if "X" not in file:
            remedy = f"give --layer {shown(next(iter(held)))}" if held else "in Python set adata.X, and write it again"
            raise DataError(f"{shown(path)} holds no matrix X: {remedy}")
        return file["X"], file.get("var")
    if layer in held:
        return held[layer], file.get("raw/var" if held[layer].name == "/raw/X" else "var")
    near = get_close_matches(layer, held, n=1)
    meant = f"did you mean {shown(near[0])}? It" if near else "it"
    has = f"has {shortened(shown(', '.join(held)))}" if held else "has X alone, which is read without --layer"
    raise DataError(f"{shown(path)} has no layer {shown(repr(layer))}: {meant} {has}")


def _others(file: Any) -> dict[str, Any]:
    """The matrices beside X, by what `--layer` calls them."""
    layers = file.get("layers")
    held = {} if layers is None else {name: layers[name] for name in layers}
    if RAW not in held and "raw/X" in file:
        held[RAW] = file["raw/X"]
    return held


def _advice(file: Any, held: Any) -> str:
    """What to say of an X that holds no counts where another matrix does."""
    if _looks_counted(held):
        return ""
    counted = next((name for name, other in _others(file).items() if _looks_counted(other)), None)
    return "" if counted is None else f"X holds no whole counts, but --layer {shown(counted)} does"


def _looks_counted(held: Any) -> bool:
    """Whether the first values of a matrix are whole counts."""
    values = held if hasattr(held, "dtype") else held["data"]
    if values.dtype.kind not in "uif" or 0 in values.shape:
        return False
    first = values[:LOOKED_AT] if values.ndim == 1 else values[: max(1, LOOKED_AT // values.shape[1])]
    return first_wrong(first) is None


def _matrix(held: Any, path: Path) -> Any:
    """A matrix as a NumPy array; a sparse one as `CountRows` or `scipy.sparse.csr_array`."""
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
    return read_group(held, kind, (int(shape[0]), int(shape[1])), path)


def _index(frame: Any) -> tuple[str, ...]:
    """Names of the rows of a frame: of the cells for `obs`, of the columns for `var`."""
    if frame is None:
        return ()
    if hasattr(frame, "dtype"):  # a record array, as anndata wrote before 0.7
        return tuple(text(value) for value in frame[frame.dtype.names[0]])
    return texts(frame[frame.attrs.get("_index", "_index")])
