"""Matrix Market files, and folders and `.h5` files of 10x Genomics."""

from __future__ import annotations

import bz2
import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from vaefast.data import Numbers, Reading, may_be_table, read, read_any, read_numbers
from vaefast.data.tenx import unique
from vaefast.errors import DataError
from vaefast.models.count_rows import CountRows

COUNTS = np.random.default_rng(3).poisson(0.6, (7, 5))  # cells x genes
GENES = ["Actb", "Gapdh", "Actb", "Cd3e", "Actb"]
UNIQUE = ("Actb", "Gapdh", "Actb-1", "Cd3e", "Actb-2")
CELLS = [f"AAAC{i}-1" for i in range(7)]
BANNER = "%%MatrixMarket matrix coordinate integer general\n"


def table_in(path: Path | str, **chosen: Any) -> Numbers:
    found = read_any(str(path), how=Reading(**chosen))
    assert isinstance(found, Numbers)
    return found


def refused(path: Path, *words: str, **chosen: Any) -> None:
    with pytest.raises(DataError) as caught:
        read_any(str(path), how=Reading(**chosen))
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def dense(table: Numbers) -> Any:
    assert table.is_sparse
    return table.dense().values


def folder_of_tenx(folder: Path, features: str = "features.tsv.gz", types: list[str] | None = None) -> Path:
    """What Cell Ranger writes: packed from version 3 on, with types of features."""
    folder.mkdir(exist_ok=True)
    packed = features.endswith(".gz")
    scipy.io.mmwrite(folder / "matrix.mtx", scipy.sparse.coo_matrix(COUNTS.T), "from a test", "integer")
    lines = [
        f"ENSG{i}\t{name}" + (f"\t{(types or ['Gene Expression'] * 5)[i]}" if packed else "") for i, name in enumerate(GENES)
    ]
    contents = {"barcodes.tsv": CELLS, features.removesuffix(".gz"): lines}
    for name, held in contents.items():
        text = "".join(f"{line}\n" for line in held).encode()
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(text) if packed else text)
    if packed:
        (folder / "matrix.mtx.gz").write_bytes(gzip.compress((folder / "matrix.mtx").read_bytes()))
        (folder / "matrix.mtx").unlink()
    return folder


# --- Plain files


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress], ids=["plain", "gz", "bz2"])
@pytest.mark.parametrize("field", ["integer", "real", "pattern"])
def test_rows_are_examples(tmp_path, pack, field):
    counts = np.minimum(COUNTS, 1) if field == "pattern" else COUNTS
    scipy.io.mmwrite(tmp_path / "plain.mtx", scipy.sparse.coo_matrix(counts), field=field)
    path = tmp_path / "a.mtx.gz"
    path.write_bytes(pack((tmp_path / "plain.mtx").read_bytes()))
    table = table_in(path)
    np.testing.assert_array_equal(dense(table), counts)
    assert (table.names, table.row_names, table.notes) == ((), (), ())
    assert may_be_table(path)
    assert read_numbers(str(path), 5).is_sparse


def test_whole_numbers_without_a_sign(tmp_path):
    """Scipy calls them so in the banner, and does not read them as real numbers."""
    scipy.io.mmwrite(tmp_path / "a.mtx", scipy.sparse.csr_array(COUNTS.astype(np.uint32)))
    assert b"unsigned-integer" in (tmp_path / "a.mtx").read_bytes()
    np.testing.assert_array_equal(dense(table_in(tmp_path / "a.mtx")), COUNTS)


def test_symmetric_matrices_and_dense_ones_and_duplicates(tmp_path):
    path = tmp_path / "a.mtx"
    path.write_text(BANNER.replace("general", "symmetric") + "% said\n\n3 3 2\n1 1 4\n3 2 5\n")
    np.testing.assert_array_equal(dense(table_in(path)), [[4, 0, 0], [0, 0, 5], [0, 5, 0]])
    path.write_text(BANNER.replace("coordinate integer", "array real") + "2 2\n1\n2\n3.5\n4\n")
    table = table_in(path)
    assert not table.is_sparse
    np.testing.assert_array_equal(table.values, [[1, 3.5], [2, 4]])
    path.write_text(BANNER + "2 2 3\n1 1 4\n1 1 5\n2 2 1\n")
    np.testing.assert_array_equal(dense(table_in(path)), [[9, 0], [0, 1]])


def test_a_fraction_among_integers_is_read_as_it_is(tmp_path):
    """scipy takes what stands before the point."""
    path = tmp_path / "a.mtx"
    path.write_text(BANNER + "2 2 2\n1 1 4\n2 2 2.75\n")
    np.testing.assert_array_equal(dense(table_in(path)), [[4, 0], [0, 2.75]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BANNER + "2 3 2\n1 1 1\n3 3 5\n", ("Line 4", "Row index out of bounds")),
        (BANNER + "2 3 2\n1 1 1\n2 x 5\n", ("Line 4", "Invalid integer")),
        (BANNER + "2 3 2\n1 1 1\n2 2 five\n", ("Line 4", "Invalid")),
        (BANNER + "2 3 3\n1 1 1\n2 3 5\n", ("Expected another 1 lines",)),
        (BANNER + "2 3 1\n1 1 1\n2 3 5\n", ("Line 4", "Too many lines")),
        (BANNER + "2 3 900000000000\n1 1 1\n", ("promises 900,000,000,000 entries",)),
        (BANNER, ("header",)),
        ("%%MatrixMarket\n2 2 1\n1 1 1\n", ("header",)),
        (BANNER + "0 3 0\n", ("shape (0, 3)",)),
        (BANNER.replace("integer", "complex") + "2 2 1\n1 1 1 2\n", ("complex", "give numbers")),
        (BANNER.replace("integer", "real") + "2 2 1\n2 1 nan\n", ("row 1, column 0", "missing")),
    ],
)
@pytest.mark.parametrize("name", ["a.mtx", "a.mtx.gz"])
def test_damaged_files_say_where(tmp_path, text, words, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    refused(path, *words)


def test_other_refusals(tmp_path):
    path = tmp_path / "a.mtx.gz"
    path.write_bytes(gzip.compress((BANNER + "2 3 2\n1 1 1\n2 3 5\n" * 99).encode())[:60])
    refused(path, "may be damaged")
    path.write_text(BANNER + "2 3 1\n1 1 1\n")
    refused(path, "no named columns for --label", label="kind")
    refused(path, "is no .h5ad file, and so has no layer 'counts': leave out --layer", layer="counts")
    with pytest.raises(DataError, match="a table, not pictures"):
        read(str(path))


# --- Folders of 10x Genomics


@pytest.mark.parametrize("features", ["features.tsv.gz", "genes.tsv"])
@pytest.mark.parametrize("whole", [True, False], ids=["folder", "matrix"])
def test_a_folder_of_tenx(tmp_path, features, whole):
    folder = folder_of_tenx(tmp_path / "filtered", features)
    path = folder if whole else folder / ("matrix.mtx.gz" if features.endswith("gz") else "matrix.mtx")
    table = table_in(path)
    np.testing.assert_array_equal(dense(table), COUNTS)
    assert table.names == UNIQUE
    assert table.row_names == tuple(CELLS)
    assert "transposed to 7 cells x 5 genes" in table.notes[0]
    known = ["Cd3e", "Actb-2", "Gapdh"]
    chosen = read_numbers(str(path), 3, known)
    np.testing.assert_array_equal(dense(chosen), COUNTS[:, [3, 4, 1]])
    assert chosen.names == tuple(known)
    assert "2 columns that the model does not know take no part" in str(chosen.notice)
    with pytest.raises(DataError, match="lacks the column 'Cd4'"):
        read_numbers(str(path), 1, ["Cd4"])


def test_names_are_made_unique_as_in_scanpy():
    assert unique(["a", "b", "a", "a-1", "a", "b"]) == ("a", "b", "a-2", "a-1", "a-3", "b-1")


def test_features_that_are_no_genes_are_left_out(tmp_path):
    types = ["Gene Expression", "Antibody Capture", "Gene Expression", "Gene Expression", "Custom"]
    table = table_in(folder_of_tenx(tmp_path / "a", types=types))
    np.testing.assert_array_equal(dense(table), COUNTS[:, [0, 2, 3]])
    assert table.names == ("Actb", "Actb-1", "Cd3e")
    assert "2 features that are no genes (Antibody Capture, Custom) are left out" in table.notes
    assert table_in(folder_of_tenx(tmp_path / "b", types=["Peaks"] * 5)).values.shape == (7, 5)


def test_a_sample_among_others_in_one_folder(tmp_path):
    folder = folder_of_tenx(tmp_path / "a")
    for path in [*folder.iterdir()]:
        path.rename(folder / f"GSM7_{path.name}")
    table = table_in(folder / "GSM7_matrix.mtx.gz")
    assert table.names == UNIQUE
    np.testing.assert_array_equal(dense(table), COUNTS)


def test_a_plain_matrix_lies_as_the_names_of_its_cells_say(tmp_path):
    (tmp_path / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in CELLS))
    path = tmp_path / "counts.mtx"
    scipy.io.mmwrite(path, scipy.sparse.coo_matrix(COUNTS.T))
    table = table_in(path)
    np.testing.assert_array_equal(dense(table), COUNTS)
    assert table.notes == ("its 7 columns are the cells of barcodes.tsv: transposed to 7 cells x 5 columns",)
    scipy.io.mmwrite(path, scipy.sparse.coo_matrix(COUNTS))
    table = table_in(path)
    np.testing.assert_array_equal(dense(table), COUNTS)
    assert table.row_names == tuple(CELLS)
    (tmp_path / "barcodes.tsv").write_text("a\nb\n")
    refused(path, "has 7 rows and 5 columns, but barcodes.tsv names 2 cells")


def test_a_folder_without_the_names_of_its_cells_lies_as_its_genes_say(tmp_path):
    folder = folder_of_tenx(tmp_path / "a")
    (folder / "barcodes.tsv.gz").unlink()
    table = read_any(str(folder))
    assert isinstance(table, Numbers)
    np.testing.assert_array_equal(dense(table), COUNTS)
    assert (len(table.names), table.row_names) == (5, ())
    assert table.notes == ("its 5 rows are the genes of features.tsv.gz: transposed to 7 cells x 5 genes",)
    (folder / "features.tsv.gz").write_bytes(gzip.compress(b"ENSG0\tActb\tGene Expression\n"))
    refused(folder / "matrix.mtx.gz", "has 5 rows and 7 columns, but features.tsv.gz names 1 features: put the files of")


def test_a_matrix_of_tenx_without_the_files_beside_it_is_told(tmp_path):
    path = tmp_path / "matrix.mtx"
    scipy.io.mmwrite(path, scipy.sparse.coo_matrix(COUNTS.T))
    table = table_in(path)
    np.testing.assert_array_equal(dense(table), COUNTS.T)
    assert table.notes == (
        "no barcodes.tsv and no features.tsv is beside it: its 5 rows are trained on; 10x Genomics writes genes as rows, "
        "which are turned if barcodes.tsv is there",
    )


def test_features_alone_beside_a_matrix_of_another_name_say_nothing(tmp_path):
    (tmp_path / "features.tsv").write_text("weight\nheight\n")
    scipy.io.mmwrite(tmp_path / "counts.mtx", scipy.sparse.coo_matrix(COUNTS))
    np.testing.assert_array_equal(dense(table_in(tmp_path / "counts.mtx")), COUNTS)


@pytest.mark.parametrize("content", [b"", b"hello\n"])
def test_a_packed_file_that_is_no_matrix(tmp_path, content):
    folder = folder_of_tenx(tmp_path / "a")
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(content))
    with pytest.raises(
        DataError, match=r"matrix\.mtx\.gz is no Matrix Market file, which begins with %%MatrixMarket: fetch it"
    ):
        read_any(str(folder))


def test_files_beside_a_matrix_that_are_damaged(tmp_path):
    folder = folder_of_tenx(tmp_path / "a", "genes.tsv")
    (folder / "genes.tsv").write_text("ENSG0\tActb\nENSG1\n")
    with pytest.raises(DataError, match=re.escape(f"{folder / 'genes.tsv'}: line 2 has 1 fields")):
        read_any(str(folder))
    (folder / "genes.tsv").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match=re.escape("genes.tsv is no text")):
        read_any(str(folder))
    (folder / "genes.tsv").write_text("ENSG0\tActb\n")
    refused(folder / "matrix.mtx", "barcodes.tsv names 7 cells and genes.tsv 1 features: put the files of one matrix together")


# --- .h5 of 10x Genomics


def write_h5(path: Path, version: int = 3, types: str = "Gene Expression") -> Path:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    held = scipy.sparse.csc_matrix(COUNTS.T.astype(np.int32))
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix" if version == 3 else "mm10")
        group["data"], group["indices"], group["indptr"] = (
            held.data,
            held.indices.astype(np.int64),
            held.indptr.astype(np.int64),
        )
        group["shape"], group["barcodes"] = np.array(held.shape, np.int32), [cell.encode() for cell in CELLS]
        if version == 3:
            group["features/name"] = [name.encode() for name in GENES]
            group["features/feature_type"] = [types.encode()] * 4 + [b"Gene Expression"]
        else:
            group["gene_names"] = [name.encode() for name in GENES]
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_h5_of_tenx(tmp_path, version):
    path = write_h5(tmp_path / "filtered_feature_bc_matrix.h5", version)
    table = table_in(path)
    assert isinstance(table.values, CountRows)
    np.testing.assert_array_equal(dense(table), COUNTS)
    assert (table.names, table.row_names) == (UNIQUE, tuple(CELLS))
    np.testing.assert_array_equal(dense(read_numbers(str(path), 2, ["Cd3e", "Actb"])), COUNTS[:, [3, 0]])
    refused(path, "no named columns for --label", label="kind")


def test_h5_refusals(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    path = write_h5(tmp_path / "a.h5")
    assert table_in(write_h5(tmp_path / "b.h5", types="Antibody Capture")).names == ("Actb-2",)
    with h5py.File(path, "a") as file:
        del file["matrix/barcodes"]
        file["matrix/barcodes"] = [b"a"]
    refused(path, "holds 7 cells of 5 features, but names 1 and 5")
    with h5py.File(path, "a") as file:
        file["other/indptr"], file["other/barcodes"] = [0], [b"a"]
    refused(path, "holds 2 genomes (matrix, other)")
    with h5py.File(path, "w") as file:
        file["X"] = COUNTS
    refused(path, "is an HDF5 file", "numpy.save")
