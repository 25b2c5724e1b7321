"""Files that are written again with other values in their gaps: the rest stays as it is."""

from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from vaefast.data.filling import Filling, filled_file, spans


def filling(at, values, row, value, **about):
    """Column `at` of a table with this many values, which has a gap in one row."""
    gaps = np.arange(values) == row
    return Filling(at, gaps, np.full(values, value, np.float64 if isinstance(value, float) else object), **about)


@pytest.mark.parametrize(
    "line",
    [
        '"12"" pipe, steel",,5', '"a,""b"",c",,5', '"""",,5', '"",,5', 'an inch, 3",5"', ' "a, b" ,,"c"', '"never closed,,5',
        '"closed" and more",5',
    ],
)  # fmt: skip
def test_fields_of_a_line_are_those_of_the_csv_module(line):
    found = [line[start:end].strip() for start, end in spans(line, ",")]
    wanted = next(csv.reader([line], skipinitialspace=True))
    read = [next(csv.reader([field], skipinitialspace=True), None) or [""] for field in found]
    assert [only.strip() for (only,) in read] == [field.strip() for field in wanted]


def test_words_between_spaces_may_be_quoted_and_hold_quotes():
    line = '"12"" pipe" NA  5'
    assert [line[start:end] for start, end in spans(line, None)] == ['"12"" pipe"', "NA", "5"]


def test_text_with_separators_and_quotes_stays_beside_a_gap(tmp_path):
    path = tmp_path / "parts.csv"
    path.write_text('part,length,price\n"12"" pipe, steel",,5\n"nut, ""M4""",2.5,1\n')
    written = filled_file(path, [filling(1, 2, 0, 3.25)], names=("part", "length", "price")).decode()
    assert written == 'part,length,price\n"12"" pipe, steel",3.25,5\n"nut, ""M4""",2.5,1\n'


def test_an_array_in_the_order_of_columns_is_filled(tmp_path):
    whole = np.asfortranarray(np.arange(12.0).reshape(3, 2, 2))
    held = whole.copy(order="F")
    held[1, 0, 1] = np.nan
    np.save(tmp_path / "a.npy", held)
    assert np.array_equal(np.load(io.BytesIO(filled_file(tmp_path / "a.npy", [filling(1, 3, 1, 5.0)]))), whole)


@pytest.mark.parametrize("write", [parquet.write_table, feather.write_feather])
def test_a_value_that_a_file_of_categories_has_not_seen_is_added(tmp_path, write):
    """The model has seen it."""
    column = pa.array(["a", "b", None, "a"]).dictionary_encode()
    path = tmp_path / f"some.{'parquet' if write is parquet.write_table else 'feather'}"
    write(pa.table({"n": [1, 2, 3, 4], "kind": column}), path)
    content = io.BytesIO(filled_file(path, [filling(1, 4, 2, "c")]))
    read = parquet.read_table if write is parquet.write_table else feather.read_table
    found = read(content)
    assert found["kind"].to_pylist() == ["a", "b", "c", "a"]
    assert found["n"].to_pylist() == [1, 2, 3, 4]
    assert pa.types.is_dictionary(found["kind"].type)


def test_a_sparse_matrix_of_anndata_comes_back_as_it_is(tmp_path):
    """It misses nothing."""
    h5py, anndata = pytest.importorskip("h5py"), pytest.importorskip("anndata")
    from scipy import sparse

    path, matrix = tmp_path / "cells.h5ad", np.eye(4, 3, dtype=np.float32) * 2.5
    with h5py.File(path, "w") as file:
        anndata.io.write_elem(file, "X", sparse.csr_matrix(matrix))
    with h5py.File(io.BytesIO(filled_file(path, [])), "r") as file:
        assert np.array_equal(anndata.io.read_elem(file["X"]).toarray(), matrix)
