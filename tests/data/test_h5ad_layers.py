"""Layers of `.h5ad` files, and the memory that a sparse matrix takes on its way from the file."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from vaefast.data import Numbers, Reading, read_any, read_numbers
from vaefast.data import h5sparse as h5sparse_module
from vaefast.errors import DataError
from vaefast.models.count_rows import CountRows

h5py = pytest.importorskip("h5py", reason="h5py is not installed")

COUNTS = np.random.default_rng(8).poisson(0.5, (40, 11))


def put(file: Any, name: str, held: Any, indices: Any = np.int32) -> None:
    """A matrix as anndata writes it."""
    if isinstance(held, np.ndarray):
        file[name] = held
        return
    group = file.create_group(name)
    group.attrs["encoding-type"], group.attrs["shape"] = f"{held.format}_matrix", held.shape
    group["data"] = held.data
    group["indices"], group["indptr"] = held.indices.astype(indices), held.indptr.astype(indices)


def write(path: Path, **matrices: Any) -> Path:
    """X, layers and `raw` of a file. `raw` has two columns more than the others."""
    with h5py.File(path, "w") as file:
        for name, held in matrices.items():
            put(file, {"X": "X", "raw": "raw/X"}.get(name, f"layers/{name}"), held)
        columns = next(iter(matrices.values())).shape[1]
        for name, count in (("obs", 40), ("var", columns), ("raw/var", columns + 2)):
            group = file.create_group(name) if name != "raw/var" or "raw" in matrices else None
            if group is not None:
                group.attrs["_index"], group["_index"] = "_index", [f"{name[-3:]} {i}" for i in range(count)]
    return path


def table_in(path: Path, **chosen: Any) -> Numbers:
    found = read_any(str(path), how=Reading(**chosen))
    assert isinstance(found, Numbers)
    return found


def refusal(path: Path, **chosen: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_any(str(path), how=Reading(**chosen))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def logs(counts: Any) -> Any:
    return scipy.sparse.csr_matrix(np.log1p(counts).astype(np.float32))


def test_a_layer_and_raw_are_read_by_name(tmp_path):
    raw = np.hstack([COUNTS, COUNTS[:, :2]])
    path = write(tmp_path / "a.h5ad", X=logs(COUNTS), counts=scipy.sparse.csc_matrix(COUNTS), raw=scipy.sparse.csr_matrix(raw))
    table = table_in(path, layer="counts")
    assert isinstance(table.values, CountRows)
    np.testing.assert_array_equal(table.dense().values, COUNTS)
    assert (len(table.names), table.notes) == (11, ())
    table = table_in(path, layer="raw")
    np.testing.assert_array_equal(table.dense().values, raw)
    assert len(table.names) == 13
    np.testing.assert_array_equal(read_numbers(str(path), 11, how=Reading(layer="counts")).dense().values, COUNTS)
    chosen = read_numbers(str(path), 2, ["var 12", "var 3"], Reading(layer="raw"))
    np.testing.assert_array_equal(chosen.dense().values, raw[:, [12, 3]])


def test_an_x_of_logarithms_points_to_the_counts(tmp_path):
    path = write(tmp_path / "a.h5ad", X=logs(COUNTS), spliced=logs(COUNTS), umi=scipy.sparse.csr_matrix(COUNTS))
    assert table_in(path).notes == ("X holds no whole counts, but --layer umi does",)
    assert not table_in(write(tmp_path / "b.h5ad", X=logs(COUNTS), spliced=logs(COUNTS))).notes
    assert not table_in(write(tmp_path / "c.h5ad", X=scipy.sparse.csr_matrix(COUNTS), umi=COUNTS)).notes


def test_a_wrong_layer_names_those_there_are(tmp_path):
    held = scipy.sparse.csr_matrix(COUNTS)
    path = write(tmp_path / "a.h5ad", X=held, counts=held, spliced=held, raw=scipy.sparse.csr_matrix((40, 13)))
    assert refusal(path, layer="count") == (f"{path} has no layer 'count': did you mean counts? It has counts, spliced, raw")
    alone = write(tmp_path / "b.h5ad", X=held)
    assert "has X alone, which is read without --layer" in refusal(alone, layer="raw")
    no_x = write(tmp_path / "c.h5ad", counts=held)
    assert "holds no matrix X: give --layer counts" in refusal(no_x)


@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize("indices", [np.int32, np.int64, np.uint32])
@pytest.mark.parametrize("largest", [9, 300, 70_000])
@pytest.mark.parametrize("block", [1, 7, 1 << 18])
def test_blocks_are_the_whole_matrix_with_duplicates_zeros_and_any_order(tmp_path, monkeypatch, kind, indices, largest, block):
    monkeypatch.setattr(h5sparse_module, "BLOCK", block)
    rng = np.random.default_rng(4)
    rows, columns = rng.integers(0, 40, 300), rng.integers(0, 11, 300)
    values = rng.integers(0, 4, 300)
    values[200] = largest
    whole = np.zeros((40, 11), np.int64)
    np.add.at(whole, (rows, columns), values)
    # An unordered matrix with duplicates, built by hand: scipy's own conversions would settle it.
    major, minor = (rows, columns) if kind == "csr" else (columns, rows)
    order = np.argsort(major, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(major, minlength=40 if kind == "csr" else 11))])
    held = getattr(scipy.sparse, f"{kind}_matrix")((values[order], minor[order], starts), shape=(40, 11))
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        put(file, "X", held, indices)
    found = table_in(tmp_path / "a.h5ad").values
    assert isinstance(found, CountRows)
    expected = CountRows.of(scipy.sparse.csr_matrix(whole))
    for name in ("starts", "columns", "values"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
        assert getattr(found, name).dtype == getattr(expected, name).dtype


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_other_numbers_stay_what_they_are(tmp_path, kind):
    for values in (COUNTS * 0.5, -COUNTS, np.minimum(COUNTS, 1), COUNTS.astype(bool)):
        table = table_in(write(tmp_path / "a.h5ad", X=getattr(scipy.sparse, f"{kind}_matrix")(values)))
        assert isinstance(table.values, scipy.sparse.csr_array)
        np.testing.assert_array_equal(table.dense().values, values)


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_parts_that_do_not_fit(tmp_path, kind):
    good = getattr(scipy.sparse, f"{kind}_matrix")(COUNTS)
    for name, wrong in (
        ("indices", good.indices + 99), ("indices", -1 - good.indices), ("indices", good.indices[:-1]),
        ("indptr", good.indptr[:-1]), ("indptr", good.indptr[::-1]), ("data", good.data[:3]),
    ):  # fmt: skip
        path = write(tmp_path / "a.h5ad", X=good)
        with h5py.File(path, "a") as file:
            del file[f"X/{name}"]
            file[f"X/{name}"] = wrong
        assert "sparse matrix whose parts do not fit" in refusal(path)


@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize("largest", [9, 300, 70_000])
def test_the_peak_is_below_one_and_a_half_times_the_arrays(tmp_path, kind, largest):
    """Beside them, blocks take what does not grow with the matrix."""
    rows, columns, each = 20_000, 2_000, 200
    rng = np.random.default_rng(0)
    steps = rng.integers(1, 10, (rows, each), dtype=np.int32)  # columns ascend by at most 9: below 2000
    held = scipy.sparse.csr_matrix(
        (
            rng.integers(1, 9, rows * each).astype(np.float32),
            (np.cumsum(steps, axis=1) - 1).astype(np.int32).ravel(),
            np.arange(0, rows * each + 1, each),
        ),
        shape=(rows, columns),
    )
    held.data[rows * each // 2] = largest
    path = tmp_path / "a.h5ad"
    with h5py.File(path, "w") as file:
        put(file, "X", held if kind == "csr" else held.tocsc())
    arrays = rows * each * (4 + 4) + (rows + 1) * 8
    tracemalloc.start()
    table = table_in(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(table.values, CountRows)
    assert len(table.values.values) == rows * each
    assert table.values.largest == largest
    blocks = 40 * h5sparse_module.BLOCK
    print(f"{kind} {largest}: {peak / arrays:.2f} times the arrays of {arrays / 2**20:.0f} MiB")
    assert peak < 1.5 * arrays + blocks
    assert peak < 1.5 * arrays  # blocks are small beside so many entries
