"""Tables in parquet, feather, h5ad and NumPy files, and sparse ones, each made by the library that its users use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.typing import NDArray

from vaefast.data import Numbers, Reading, Rows, may_be_table, read, read_any, read_numbers
from vaefast.data import numbers as numbers_module
from vaefast.data import reading as reading_module
from vaefast.data.arrow import arrow_file
from vaefast.data.kindsfile import Kinds
from vaefast.data.writing import NewColumn
from vaefast.errors import DataError
from vaefast.models.count_rows import CountRows

RNG = np.random.default_rng(5)
VALUES = RNG.normal(size=(12, 3))
FRAME = pd.DataFrame(VALUES, columns=["age", "size", "weight"])
COUNTS = RNG.poisson(0.4, (12, 30))
KINDS = ["red", "green", "blue"] * 4


def table_in(path: Path, **chosen: object) -> Numbers:
    found = read_any(str(path), how=Reading(**chosen))  # type: ignore[arg-type]
    assert isinstance(found, Numbers)
    return found


def refused(path: Path, *words: str, **chosen: object) -> None:
    with pytest.raises(DataError) as caught:
        read_any(str(path), how=Reading(**chosen))  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


# --- .parquet and .feather

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def write(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_feather(path)
    return path


@pytest.fixture(params=["a.parquet", "a.feather"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def test_columns_of_pandas(path):
    table = table_in(write(FRAME, path))
    np.testing.assert_array_equal(table.values, VALUES)
    assert table.names == ("age", "size", "weight")
    assert (table.notes, table.labels, table.row_names) == ((), None, ())
    assert table.values.flags.c_contiguous


def test_the_type_holds_all_columns(path):
    whole = pd.DataFrame({"a": np.array([1, 200, 3], np.int16), "b": [1000, -2, 3]})
    assert table_in(write(whole, path)).values.dtype == np.int64
    mixed = pd.DataFrame({"a": np.array([1, 2, 3], np.float32), "b": np.array([True, False, True])})
    table = table_in(write(mixed * 2.5, path))
    assert table.values.tolist() == [[2.5, 2.5], [5, 0], [7.5, 2.5]]
    assert table_in(write(mixed, path)).values.dtype == np.float32


def test_the_index_of_pandas_is_left_out(path, tmp_path):
    path = tmp_path / "a.parquet"
    table = table_in(write(FRAME.set_index(pd.Index([f"p{i}" for i in range(12)], name="patient")), path))
    np.testing.assert_array_equal(table.values, VALUES)
    assert table.notes == ("the index patient of pandas is left out",)
    assert table.row_names[:2] == ("p0", "p1")
    table = table_in(write(FRAME.sample(frac=1, random_state=0), path))
    assert table.notes == ("the index __index_level_0__ of pandas is left out",)
    table = table_in(write(FRAME.reset_index(), path))
    assert table.notes == ("the first column, index, counts the rows: left out",)
    np.testing.assert_array_equal(table.values, VALUES)


def test_labels_of_frames(path):
    for kinds in (KINDS, pd.Categorical(KINDS)):
        write(FRAME.assign(kind=kinds), path)
        table = table_in(path, label="kind")
        np.testing.assert_array_equal(table.values, VALUES)
        assert table.classes == ("blue", "green", "red")
        assert table.labels is not None
        assert [table.classes[i] for i in table.labels] == KINDS
        assert table_in(path, label="4").classes == table.classes
        refused(path, "column 'kind' holds text, such as 'red' in row 0 (counted from 0)", "--label kind")
    write(FRAME.assign(target=np.arange(12) % 2), path)
    refused(path, "column 4 'target' looks like labels", "--label target", "--all-columns")
    assert table_in(path, all_columns=True).values.shape == (12, 4)


def test_pixels_in_frames_are_pictures(path):
    grey = RNG.integers(0, 256, (12, 784)).astype(np.uint8)
    found = read_any(str(write(pd.DataFrame(grey, columns=[f"pixel{i}" for i in range(784)]).assign(label=3), path)))
    assert isinstance(found, Rows)
    np.testing.assert_array_equal(found.images.values, grey)
    assert found.labels is not None
    assert set(found.labels) == {3}


def test_frames_with_holes_dates_and_infinities(path):
    holes = FRAME.copy()
    holes.iloc[4, 1] = holes.iloc[7, 2] = np.nan
    for frame in (holes, holes.astype({"size": "Float64"}), holes.assign(extra=None)):
        read = table_in(write(frame, path)).values
        np.testing.assert_array_equal(read, frame.to_numpy(np.float64, na_value=np.nan))
    refused(write(FRAME.assign(when=pd.Timestamp("2026-01-01")), path), "column 'when' holds dates or times")
    refused(write(FRAME.assign(lists=[[1, 2]] * 12), path), "column 'lists' holds values of type list")
    refused(write(FRAME.assign(big=np.inf), path), "row 0 (counted from 0), column 'big' is inf")
    refused(write(FRAME[:0], path), "holds no numbers")


def test_a_damaged_frame(path):
    content = write(FRAME, path).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(path, "is damaged")


@pytest.mark.parametrize(("name", "package"), [("a.parquet", "pyarrow"), ("a.feather", "pyarrow"), ("a.h5ad", "h5py")])
def test_without_the_extra_the_remedy_is_named(tmp_path, monkeypatch, name, package):
    start = {"a.parquet": b"PAR1", "a.feather": b"ARROW1", "a.h5ad": b"\x89HDF\r\n\x1a\n"}[name]
    (tmp_path / name).write_bytes(start + bytes(100))
    monkeypatch.setitem(sys.modules, package, None)
    extra = "tables" if package == "pyarrow" else "anndata"
    refused(tmp_path / name, f'needs {package}, which is not installed: pip install "vaefast[{extra}]"')


# --- scipy.sparse


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("make", ["matrix", "array"])
def test_sparse_stays_sparse(tmp_path, kind, make):
    held = getattr(scipy.sparse, f"{kind}_{make}")(COUNTS.astype(np.int32))
    scipy.sparse.save_npz(tmp_path / "a.npz", held)
    table = table_in(tmp_path / "a.npz")
    assert table.is_sparse
    assert isinstance(table.values, scipy.sparse.csr_array)
    assert table.values.dtype == np.int32
    assert len(table) == 12
    np.testing.assert_array_equal(table.values.toarray(), COUNTS)
    dense = table.dense()
    assert not dense.is_sparse
    np.testing.assert_array_equal(dense.values, COUNTS)
    assert read_numbers(str(tmp_path / "a.npz"), 30).is_sparse
    assert dense.dense() is dense


def test_a_sparse_table_that_memory_does_not_hold(tmp_path, monkeypatch):
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.csr_array(COUNTS))
    table = table_in(tmp_path / "a.npz")
    monkeypatch.setattr(reading_module, "machine_memory", lambda: 100.0)
    with pytest.raises(DataError, match="memory"):
        table.dense()
    assert numbers_module.new_array is reading_module.new_array


def test_sparse_refusals(tmp_path):
    path = tmp_path / "a.npz"
    held = scipy.sparse.csr_array(VALUES)
    held.data[4] = np.nan
    scipy.sparse.save_npz(path, held)
    refused(path, "row 1, column 1 (both counted from 0) is 'nan': a value is missing")
    held.data[4] = np.inf
    scipy.sparse.save_npz(path, held)
    refused(path, "row 1, column 1 (both counted from 0) is inf")
    scipy.sparse.save_npz(path, scipy.sparse.csr_array((0, 3)))
    refused(path, "shape (0, 3)")
    good = scipy.sparse.csr_array(COUNTS)
    for name, wrong in (("indices", good.indices + 99), ("indptr", good.indptr[:-1]), ("data", good.data[:3])):
        parts = {"indices": good.indices, "indptr": good.indptr, "data": good.data} | {name: wrong}
        np.savez(path, format=b"csr", shape=np.array(good.shape), **parts)
        refused(path, "sparse matrix")


# --- .h5ad


def write_h5ad(path: Path, X: Any, obs: dict[str, Any] | None = None) -> Path:
    """A file with the layout that anndata documents (version 0.1.0 of its encodings)."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        if isinstance(X, np.ndarray):
            file["X"] = X
        else:
            group = file.create_group("X")
            group.attrs["encoding-type"] = f"{X.format}_matrix"
            group.attrs["shape"] = X.shape
            for name in ("data", "indices", "indptr"):
                group[name] = getattr(X, name)
        for name, count in (("obs", X.shape[0]), ("var", X.shape[1])):
            group = file.create_group(name)
            group.attrs["_index"] = "_index"
            group["_index"] = [f"{name} {i}" for i in range(count)]
        for name, values in (obs or {}).items():
            if isinstance(values, pd.Categorical):
                group = file["obs"].create_group(name)
                group["codes"], group["categories"] = values.codes, [*values.categories]
            elif isinstance(values, pd.arrays.IntegerArray):
                group = file["obs"].create_group(name)
                group["values"], group["mask"] = values.fillna(0).to_numpy(np.int64), values.isna()
            else:
                file["obs"][name] = values
    return path


@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
def test_h5ad(tmp_path, kind):
    X: Any = COUNTS.astype(np.float32)
    path = write_h5ad(tmp_path / "a.h5ad", X if kind == "dense" else getattr(scipy.sparse, f"{kind}_matrix")(X))
    table = table_in(path)
    assert table.is_sparse == (kind != "dense")
    assert isinstance(table.values, np.ndarray if kind == "dense" else CountRows)
    assert table.dense().values.dtype == np.float32
    np.testing.assert_array_equal(table.dense().values, COUNTS)
    assert table.names == tuple(f"var {i}" for i in range(30))
    assert table.row_names == tuple(f"obs {i}" for i in range(12))
    assert read_numbers(str(path), 30).names == table.names


@pytest.mark.parametrize("values", [pd.Categorical(KINDS), KINDS])
def test_labels_of_h5ad(tmp_path, values):
    path = write_h5ad(tmp_path / "a.h5ad", VALUES, {"cell_type": values, "batch": np.arange(12) % 2, "depth": VALUES[:, 0]})
    table = table_in(path, label="cell_type")
    assert table.labels is not None
    assert [table.classes[i] for i in table.labels] == KINDS
    batch = table_in(path, label="batch")
    assert batch.labels is not None
    assert batch.labels.tolist() == (np.arange(12) % 2).tolist()
    whole, holes = pd.array([*range(12)], "Int64"), pd.array([1, None] * 6, "Int64")
    path = write_h5ad(tmp_path / "b.h5ad", VALUES, {"cell_type": KINDS, "depth": VALUES[:, 0], "n": whole, "m": holes})
    numbered = table_in(path, label="n")
    assert numbered.labels is not None
    assert numbered.labels.tolist() == [*range(12)]
    refused(path, "row 1 (counted from 0), column 'm' of obs: a label is missing", label="m")
    refused(path, "no column 'celltype' in obs: did you mean 'cell_type'? It has", "cell_type", label="celltype")
    refused(path, "column 'depth' of obs holds real numbers, not labels", label="depth")


def test_h5ad_refusals(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    path = write_h5ad(tmp_path / "a.h5ad", VALUES, {"kind": pd.Categorical([None, *KINDS[1:]])})
    refused(path, "row 0 (counted from 0), column 'kind' of obs: a label is missing", label="kind")
    refused(write_h5ad(tmp_path / "c.h5ad", np.array([[b"a", b"b"]])), "holds an X of type |S1")
    (tmp_path / "b.h5").write_bytes(path.read_bytes())
    refused(tmp_path / "b.h5", "is an HDF5 file", "numpy.save")
    with h5py.File(path, "a") as file:
        del file["X"]
    refused(path, "holds no matrix X")
    path.write_bytes(path.read_bytes()[:100])
    refused(path, "is damaged")


# --- .npy and .npz


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.int8])
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_arrays_keep_their_type(tmp_path, dtype, ending):
    values = (VALUES * 50).astype(dtype)
    path = tmp_path / f"a.{ending}"
    (np.save if ending == "npy" else np.savez)(path, values)
    table = table_in(path)
    assert table.values.dtype == dtype
    np.testing.assert_array_equal(table.values, values)


def test_small_whole_numbers_are_a_table_and_grey_levels_are_pictures(tmp_path):
    path = tmp_path / "a.npy"
    for array, kind in (
        (COUNTS, Numbers),
        (COUNTS.astype(np.uint8), Rows),
        (COUNTS * 100 % 256, Rows),
        (COUNTS > 0, Rows),
        (RNG.random((5, 4)), Rows),
        (RNG.random((5, 4)) + 1, Numbers),
        (RNG.random((5, 2, 2)), Rows),
        (COUNTS * 1000, Numbers),
        (np.tile(COUNTS[:, :28], 28), Rows),
    ):
        np.save(path, array)
        assert isinstance(read_any(str(path)), kind)


def test_a_table_of_pictures_knows_their_shape(tmp_path):
    np.save(tmp_path / "a.npy", RNG.normal(size=(5, 4, 2, 3)))
    table = table_in(tmp_path / "a.npy")
    assert (table.values.shape, table.shape) == ((5, 24), (4, 2, 3))


def test_arrays_with_labels_beside_them(tmp_path):
    for names in (("X", "y"), ("x", "y")):
        np.savez(tmp_path / "a.npz", **{names[0]: VALUES, names[1]: np.arange(12) % 3})  # type: ignore[arg-type]
        table = table_in(tmp_path / "a.npz")
        np.testing.assert_array_equal(table.values, VALUES)
        assert table.labels is not None
        assert table.labels.tolist() == (np.arange(12) % 3).tolist()


def test_arrays_with_holes(tmp_path):
    holes: NDArray[Any] = VALUES.copy()
    holes[7, 2] = holes[9, 0] = np.nan
    np.save(tmp_path / "a.npy", holes)
    np.testing.assert_array_equal(table_in(tmp_path / "a.npy").values, holes)
    np.testing.assert_array_equal(table_in(tmp_path / "a.npy", missing=("-", repr(float(VALUES[1, 1])))).values[1, 1], np.nan)
    np.save(tmp_path / "a.npy", np.full((3, 2), np.nan))
    refused(tmp_path / "a.npy", "holds no numbers: every value is missing")
    holes[0, 1] = -np.inf
    np.save(tmp_path / "a.npy", np.nan_to_num(holes, nan=0.0, neginf=-np.inf))
    refused(tmp_path / "a.npy", "row 0, column 1 (both counted from 0) is -inf")
    np.save(tmp_path / "a.npy", VALUES)
    refused(tmp_path / "a.npy", "no named columns for --label kind", label="kind")


def test_pictures_only_where_pictures_are_asked_for(tmp_path):
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.csr_array(COUNTS))
    with pytest.raises(DataError, match="holds a table, not pictures"):
        read(str(tmp_path / "a.npz"))


def test_what_may_be_a_table_is_told_without_reading_it(tmp_path):
    for name, array in (("a", VALUES), ("b", COUNTS.astype(np.uint8)), ("c", VALUES > 0), ("d", VALUES.reshape(3, 2, 6))):
        np.save(tmp_path / f"{name}.npy", array)
        assert may_be_table(tmp_path / f"{name}.npy") == (name == "a")
    np.savez(tmp_path / "a.npz", x_train=VALUES, x_test=VALUES)
    assert not may_be_table(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", X=VALUES, y=np.arange(12))
    assert may_be_table(tmp_path / "a.npz")
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.csr_array(COUNTS))
    assert may_be_table(tmp_path / "a.npz")
    (tmp_path / "a.csv").write_text("label,pixel0,pixel1\n0,1,2\n")
    assert not may_be_table(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("label;age;size\n0;1;2\n")
    assert may_be_table(tmp_path / "a.csv")
    assert may_be_table(write(FRAME, tmp_path / "a.feather"))


def test_without_a_model_labels_are_asked_for(tmp_path):
    path = write(FRAME.assign(label=1), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="looks like labels"):
        read_numbers(str(path))
    assert read_numbers(str(path), how=Reading(label="label")).names == ("age", "size", "weight")
    assert read_numbers(str(path), how=Reading(all_columns=True)).values.shape == (12, 4)
    assert read_numbers(str(path), 4).values.shape == (12, 4)
    assert read_numbers(str(path), 3).values.shape == (12, 3)


@pytest.mark.parametrize("gap", [None, 5])
def test_whole_numbers_beyond_what_float64_holds_exactly(path, gap):
    ids = pd.Series([1_234_567_890_123_456_789 + i for i in range(20)], dtype="Int64")
    if gap is not None:
        ids[gap] = pd.NA
    frame = pd.DataFrame({"x": np.linspace(0.5, 2, 20), "tweet": ids, "word": ["a", "b"] * 10})
    assert table_in(write(frame[["x", "tweet"]], path)).values.shape == (20, 2)
    found = table_in(write(frame, path), kinds=Kinds())
    np.testing.assert_allclose(found.values[0, 1], 1.234567890123456789e18)
    assert [field.name for field in found.fields.columns] == ["x", "tweet", "word"]


@pytest.mark.parametrize("token", ["-999.9", "-99.99", "1e20"])
def test_numbers_for_missing_values_are_found_in_float32(tmp_path, path, token):
    values = RNG.normal(size=(30, 3)).astype(np.float32)
    values[3, 1] = values[7, 2] = np.float32(token)
    np.save(tmp_path / "a.npy", values)
    expected = np.zeros(values.shape, bool)
    expected[3, 1] = expected[7, 2] = True
    assert np.array_equal(np.isnan(read_numbers(tmp_path / "a.npy", how=Reading(missing=(token,))).values), expected)
    # Beside another type of number, and beside text.
    frame = pd.DataFrame(values, columns=["a", "b", "c"])
    for other in ({"d": np.arange(30.0)}, {"d": ["u", "v", "w"] * 10}):
        found = table_in(write(frame.assign(**other), path), missing=(token,), kinds=Kinds())
        assert np.array_equal(np.isnan(found.values[:, :3].astype(float)), expected)
        assert np.array_equal([field.missing for field in found.fields.columns[:3]], expected.T)
    # What is too large for the type is not infinity, which stays an error.
    np.save(tmp_path / "b.npy", np.where(expected, np.float32(np.inf), values))
    with pytest.raises(DataError, match="inf"):
        read_numbers(tmp_path / "b.npy", how=Reading(missing=("1e300",)))


def test_views_of_text_are_text(tmp_path):
    """As polars writes them into feather files."""
    polars = pytest.importorskip("polars")
    polars.DataFrame({"town": ["Oslo", "Rome"] * 10, "size": np.linspace(0, 1, 20)}).write_ipc(tmp_path / "a.feather")
    found = table_in(tmp_path / "a.feather", kinds=Kinds())
    assert [field.family for field in found.fields.columns] == ["labels", "numbers"]
    assert found.fields.columns[0].values.tolist() == ["Oslo", "Rome"] * 10


@pytest.mark.parametrize("kind", ["int64", "int16", "double", "float", "bool", "string"])
def test_new_columns_of_the_types_of_arrow_in_pandas(path, kind):
    """A model that was trained on a frame of these types writes its samples."""
    values = np.array(["a", "b"], object) if kind == "string" else np.array([1.0, 0.0])
    column = NewColumn("a", values, f"{kind}[pyarrow]", kind.startswith("int"))
    path.write_bytes(arrow_file([column], path.suffix[1:], path))
    found = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_feather(path)
    assert found["a"].tolist() == (["a", "b"] if kind == "string" else [1, 0])
    usual = {"double": "float64", "float": "float32"}.get(kind, kind)
    assert kind == "string" or found["a"].dtype == usual
