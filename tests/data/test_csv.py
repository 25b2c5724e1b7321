"""Comma-separated files as pandas, R and spreadsheets write them: what is a header, an index, a label, a grey level."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from vaefast.data import Dataset, Rows, csvlines, load, read
from vaefast.data.kinds import looks_like_table
from vaefast.errors import DataError

pytestmark = pytest.mark.filterwarnings("error")

RNG = np.random.default_rng(0)
FRACTIONS = RNG.random((30, 20)).astype(np.float32)
GREY = RNG.integers(0, 256, (30, 64)).astype(np.uint8)
BINARY = RNG.integers(0, 2, (30, 20))
LABELS = RNG.integers(0, 10, 30)


def written(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows_of(path: Path) -> Rows:
    found = read(str(path))
    assert isinstance(found, Rows)
    return found


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        read(str(path))
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def holds(rows: Rows, expected: NDArray[Any], *notes: str) -> None:
    """These values, of this type, and a notice of exactly these notes."""
    np.testing.assert_array_equal(rows.images.values, expected)
    assert rows.images.values.dtype == expected.dtype
    assert (rows.notice or "").split(": ", 1)[-1] == "; ".join(notes)


COUNTED = "the first line counts the columns 0 to 19: taken as a header"
NUMBERED = "the first column has no name and holds the rows' numbers: left out"
NAMED = "the first column has no name and holds the rows' names: left out"
SAID = "whole numbers up to 255 are taken as grey levels 0 to 255; for a table of counts use vaefast.VAE in Python"
LABELLED = "column {} 'label' holds labels ({} different): not trained on"


# --- The header


def test_a_header_of_pandas_that_counts_the_columns(tmp_path):
    path = tmp_path / "a.csv"
    pd.DataFrame(FRACTIONS).to_csv(path, index=False)
    holds(rows_of(path), FRACTIONS, COUNTED)
    pd.DataFrame(BINARY).to_csv(path, index=False)
    holds(rows_of(path), BINARY.astype(np.float32), COUNTED)
    pd.DataFrame(GREY).to_csv(path, index=False)
    holds(rows_of(path), GREY, "the first line counts the columns 0 to 63: taken as a header", SAID)
    assert len(load(str(path)).train) + len(load(str(path)).test) == 30


def test_a_header_that_counts_from_1_or_beside_names(tmp_path):
    holds(rows_of(written(tmp_path, "1,2,3\n0.5,0,1\n0,0,1\n")), np.array([[0.5, 0, 1], [0, 0, 1]], np.float32),
          "the first line counts the columns 1 to 3: taken as a header")  # fmt: skip
    path = tmp_path / "a.csv"
    frame = pd.DataFrame(GREY)
    frame["label"] = LABELS
    frame.to_csv(path, index=False)
    rows = rows_of(path)
    holds(rows, GREY, LABELLED.format(65, len(set(LABELS))), SAID)
    assert rows.labels is not None
    assert rows.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "0,1\n1,0\n1,1\n",  # two columns are soon a row of data
        "0,1\n0.5,0.25\n",
        "0,0,1\n1,0,1\n",
        "0,1,0.5\n0,1,1\n",
        "0.0,1.0,0.0\n0,1,1\n",
    ],
)
def test_a_row_of_data_is_no_header(tmp_path, text):
    table = np.loadtxt(text.splitlines(), np.float32, delimiter=",")
    holds(rows_of(written(tmp_path, text)), table)


def test_rows_that_go_on_counting_have_no_header(tmp_path):
    table = np.arange(255).reshape(17, 15).astype(np.uint8)
    path = tmp_path / "a.csv"
    np.savetxt(path, table, "%d", ",")
    holds(rows_of(path), table, SAID.replace("255 are", "254 are"))
    same = np.tile(np.arange(10, dtype=np.uint8), (4, 1))
    same[3, 0] = 255
    np.savetxt(path, same, "%d", ",")
    holds(rows_of(path), same, SAID)


def test_names_of_kaggle_need_no_word(tmp_path):
    for names in ([f"pixel{i}" for i in range(15)], [f"{i}x{j}" for i in range(1, 4) for j in range(1, 6)]):
        frame = pd.DataFrame(GREY[:, :15], columns=names)
        frame.insert(0, "label", LABELS)
        frame.to_csv(tmp_path / "a.csv", index=False)
        rows = rows_of(tmp_path / "a.csv")
        holds(rows, GREY[:, :15], LABELLED.format(1, len(set(LABELS))))
        assert rows.names == tuple(names)


# --- The index


def test_the_index_of_pandas_is_left_out(tmp_path):
    path = tmp_path / "a.csv"
    pd.DataFrame(FRACTIONS).to_csv(path)
    holds(rows_of(path), FRACTIONS, COUNTED, NUMBERED)
    pd.DataFrame(FRACTIONS[:, :1]).to_csv(path)
    holds(rows_of(path), FRACTIONS[:, :1], "the first line counts the columns 0 to 0: taken as a header", NUMBERED)
    named = pd.DataFrame(FRACTIONS, columns=[f"gene {i}" for i in range(20)])
    named.sample(frac=1, random_state=0).to_csv(path)
    holds(rows_of(path), named.sample(frac=1, random_state=0).to_numpy(), NUMBERED)
    pd.read_csv(path, dtype=np.float32).to_csv(path)
    holds(rows_of(path), named.sample(frac=1, random_state=0).to_numpy(), NUMBERED, NUMBERED)
    named.set_index(pd.date_range("2026-01-01", periods=30)).to_csv(path)
    holds(rows_of(path), named.to_numpy(), NAMED)
    named.reset_index().to_csv(path, index=False)
    holds(rows_of(path), named.to_numpy(), "the first column, index, counts the rows: left out")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ('"","V1","V2"\n"1",0,0.5\n"2",1,0.25\n', NUMBERED),  # write.csv
        ('"V1","V2"\n"1",0,0.5\n"2",1,0.25\n', NUMBERED),  # write.table(sep = ",")
        ('"","V1","V2"\n"Mazda RX4",0,0.5\n"a ""b"", c",1,0.25\n', NAMED),
        ('V1,V2\nfirst,0,0.5\nsecond,1,0.25\n', NAMED),
        ("Unnamed: 0,V1,V2\n7,0,0.5\n3,1,0.25\n", NUMBERED),
        ("ID,V1,V2\n1,0,0.5\n2,1,0.25\n", "the first column, ID, counts the rows: left out"),
    ],
)  # fmt: skip
def test_the_row_names_of_r_are_left_out(tmp_path, text, note):
    holds(rows_of(written(tmp_path, text)), np.array([[0, 0.5], [1, 0.25]], np.float32), note)


def test_a_first_column_that_is_no_index(tmp_path):
    refused(written(tmp_path, ",a\n0.5,1\n0.25,0\n"), "its first column has no name", "name it in the header", "remove it")
    refused(written(tmp_path, ",a\n1,1\n1,0\n"), "its first column has no name")
    refused(written(tmp_path, "a\n1;1\n1;0\n"), "the header names 1 columns, the first row has 2: make them agree")
    # A name is a wish: what does not count the rows is data.
    holds(rows_of(written(tmp_path, "id,a\n1,1\n0,0\n")), np.array([[1, 1], [0, 0]], np.float32))
    refused(written(tmp_path, ",\n"), "line 1, column 1", "a value is missing")
    refused(written(tmp_path, '"",\n1,\n2,\n'), "line 1, column 1")


# --- Labels


@pytest.mark.parametrize("name", ["label", "Label", "class", "TARGET", "y", "labels"])
def test_columns_of_labels(tmp_path, name):
    frame = pd.DataFrame(FRACTIONS, columns=[f"p{i}" for i in range(20)])
    frame.insert(3, name, LABELS)
    frame.to_csv(tmp_path / "a.csv", index=False)
    rows = rows_of(tmp_path / "a.csv")
    holds(rows, FRACTIONS, f"column 4 '{name}' holds labels ({len(set(LABELS))} different): not trained on")
    assert rows.labels is not None
    assert rows.labels.dtype == np.int64
    assert rows.labels.tolist() == LABELS.tolist()
    dataset = load(str(tmp_path / "a.csv"))
    assert dataset.notice == rows.notice
    assert dataset.train_labels is not None
    row = int(np.argmax((dataset.train.values[0] == FRACTIONS).all(axis=1)))
    assert dataset.train_labels[0] == LABELS[row]


def test_labels_that_are_text_or_written_as_fractions(tmp_path):
    rows = rows_of(written(tmp_path, 'a,class\n0,"shirt, blue"\n1,bag\n0.5,"shirt, blue"\n'))
    holds(rows, np.array([[0], [1], [0.5]], np.float32), "column 2 'class' holds labels (2 different): not trained on")
    assert rows.classes == ("bag", "shirt, blue")
    assert rows.labels is not None
    assert rows.labels.tolist() == [1, 0, 1]
    rows = rows_of(written(tmp_path, "a,label\n0,True\n1,False\n"))
    assert rows.labels is not None
    assert rows.labels.tolist() == [1, 0]
    rows = rows_of(written(tmp_path, "a,y\n0,3.0\n1,4.0\n"))
    assert rows.labels is not None
    assert rows.labels.tolist() == [3, 4]


def test_two_columns_of_labels(tmp_path):
    rows = rows_of(written(tmp_path, "a,target,class\n0,3,x\n1,4,y\n"))
    holds(rows, np.array([[0], [1]], np.float32), "column 2 'target' holds labels (2 different): not trained on",
          "column 3 'class' holds labels (2 different): not trained on")  # fmt: skip
    assert rows.labels is not None
    assert rows.labels.tolist() == [3, 4]


def test_columns_that_only_are_named_like_labels(tmp_path):
    other = "column {} does not look like labels: trained on like the others"
    holds(
        rows_of(written(tmp_path, "a,target\n0,0.5\n1,1\n")), np.array([[0, 0.5], [1, 1]], np.float32), other.format("target")
    )
    holds(rows_of(written(tmp_path, "x,y\n0,1\n1,0\n")), np.array([[0, 1], [1, 0]], np.float32), other.format("y"))
    many = np.c_[np.arange(101) % 2 * 255, np.arange(101)].astype(np.uint8)
    np.savetxt(tmp_path / "a.csv", many, "%d", ",", header="pixel1,class", comments="")
    assert rows_of(tmp_path / "a.csv").images.values.tolist() == many.tolist()


def test_a_label_that_is_missing(tmp_path):
    for missing in ("", "NA", "nan"):
        for other in ("3", "bag"):
            text = f"a,label\n0,{other}\n1,{missing}\n"
            refused(written(tmp_path, text), "line 3, column 2 'label': a label is missing: fill it in")


# --- Grey levels and counts


@pytest.mark.parametrize("largest", [2, 16, 40, 100, 127])
def test_counts_are_no_grey_levels(tmp_path, largest):
    counts = np.minimum(GREY[:, :20], largest)
    counts[0, 0] = largest
    for names in ([f"gene{i}" for i in range(20)], [f"pixel_{i}" for i in range(20)]):
        pd.DataFrame(counts, columns=names).to_csv(tmp_path / "a.csv")
        refused(tmp_path / "a.csv", f"whole numbers up to {largest} look like counts", f"divide by {largest} ", "vaefast.VAE")


def test_grey_levels_are_said_where_they_might_be_counts(tmp_path):
    path = tmp_path / "a.csv"
    grey = np.maximum(GREY, np.uint8(255) * (np.arange(64) == 0)).astype(np.uint8)
    np.savetxt(path, grey, "%d", ",")
    holds(rows_of(path), grey, SAID)
    wide = np.tile(grey, (1, 13))[:, :784]
    np.savetxt(path, wide, "%d", ",")
    holds(rows_of(path), wide)  # as wide as MNIST
    dark = np.tile(np.arange(28, dtype=np.uint8), (2, 28))
    np.savetxt(path, dark[:, ::-1], "%d", ",")
    holds(rows_of(path), dark[:, ::-1], SAID.replace("up to 255", "up to 27"))


def test_levels_out_of_range_are_named_with_their_column(tmp_path):
    refused(written(tmp_path, "id,p,q\n0,1,2\n1,300,0\n"), "line 3, column 2 'p'", "300", "0 to 255")
    refused(written(tmp_path, '"","p","q"\n1,1,0\n2,0,-1\n'), "line 3, column 3 'q'", "-1.0")


# --- Quotes, gaps and other damage


def test_quoted_numbers(tmp_path):
    expected = np.array([[0, 0.5], [1, 0.25]], np.float32)
    holds(rows_of(written(tmp_path, '"0","0.5"\n"1","0.25"\n')), expected)
    holds(rows_of(written(tmp_path, '"a, first", "b"\n0, "0.5"\n"1" ,0.25\n')), expected)
    rows = rows_of(written(tmp_path, '"a, first","say ""b"""\r\n"0","0.5"\r\n\r\n"1","0.25"\r\n'))
    holds(rows, expected)
    assert rows.names == ("a, first", 'say "b"')
    pd.DataFrame(GREY).to_csv(tmp_path / "a.csv", quoting=1)
    holds(rows_of(tmp_path / "a.csv"), GREY, "the first line counts the columns 0 to 63: taken as a header", NUMBERED, SAID)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n0,\n1,0\n", ("line 2, column 2 'b' is empty ('')", "a value is missing: fill it in")),
        ("a,b\n0,1\nNA,0\n", ("line 3, column 1 'a'", "'NA': a value is missing")),
        ("a,b\n0,1\n0,NaN\n", ("line 3, column 2 'b'", "nan': a value is missing")),
        ("a,b\n0,#N/A\n", ("line 2, column 2 'b'", "a value is missing")),
        ("a,b\n0,1\n0,red\n", ("line 3, column 2 'b'", "'red', which is not a number: give a number")),
        (",a,b\nn1,0,1\nn2,0,red\n", ("line 3, column 3 'b'", "'red'")),
        ("name,a\nn1,0\nn2,1\n", ("column 1 'name' holds text, such as 'n1' in line 2", "--label name")),
        ("0.5,1,Iris-setosa\n1,2,Iris-setosa\n", ("column 3 holds text, such as 'Iris-setosa' in line 1", "--label 3")),
        ("a,b\n,1\n\n0,NA\n1,?\n-,2\n", ("line 2, column 1 'a'", "the first of 4", "fill them in")),
        ("a;b\n1.5;1\n2,5;2\n", ("line 3, column 1 'a' is '2,5'", "write decimals with a point")),
        ('a,b\n"1,234.5",1\n', ("line 2, column 1 'a' is '1,234.5'", "without thousands separators")),
        ('a,b\n"1,234",1\n', ("line 2, column 1 'a' is '1,234'", "without thousands separators")),
        ("a\tb\n1,234\t1\n2,345\t1\n", ("line 2, column 1 'a' is '1,234'", "without thousands separators")),
        ("a;b\n1.234,5;1\n2,5;1\n", ("line 2, column 1 'a' is '1.234,5'", "without thousands separators")),
        ("a,b\n5%,1\n", ("line 2, column 1 'a' is '5%'", "without per cent or currency signs")),
        ('a,b\n"0,5",1\n', ("line 2, column 1 'a'", "write decimals with a point")),
        ("a,b\n0,1\nTRUE,0\n", ("line 3, column 1 'a'", "'TRUE': write 1 for true")),
        ('a,b\n0,1\n"1,0\n', ("line 3 has an unmatched quote",)),
        ("a,b\n0,1\n0,1,0\n", ("line 3 has 3 values where line 2 has 2",)),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    refused(written(tmp_path, text), *words)


def test_a_line_without_end_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(csvlines, "LONGEST_LINE", 50)
    refused(written(tmp_path, gzip.compress(b"0," * 1000), "a.csv.gz"), "more than 50 characters a line")
    monkeypatch.setattr(csvlines, "machine_memory", lambda: 80.0)
    refused(written(tmp_path, gzip.compress(b"0,1\n" * 1000), "a.csv.gz"), "more rows than this machine's memory holds")


# --- Gzipped


@pytest.mark.parametrize("name", ["a.csv.gz", "A.CSV.GZ", "a.gz", "a.csv"])
def test_gzipped_text(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(pd.DataFrame(FRACTIONS).to_csv().encode()))
    holds(rows_of(path), FRACTIONS, COUNTED, NUMBERED)
    dataset = load(str(path))
    assert isinstance(dataset, Dataset)
    assert dataset.name == name


def test_gzipped_text_that_is_damaged(tmp_path):
    whole = gzip.compress(pd.DataFrame(FRACTIONS).to_csv().encode())
    refused(written(tmp_path, whole[: len(whole) // 2], "a.csv.gz"), "cannot be read", "damaged")
    refused(written(tmp_path, whole[:-3] + b"xyz", "a.csv.gz"), "cannot be read", "damaged")
    refused(written(tmp_path, gzip.compress(b"hello"), "a.csv.gz"), "no numbers")
    refused(written(tmp_path, gzip.compress(b"hello"), "a.gz"), "unknown format")
    refused(written(tmp_path, gzip.compress(b""), "a.gz"), "is empty once it is unpacked")
    refused(written(tmp_path, gzip.compress(b"hello"), "train-images-idx3-ubyte.gz"), "not an IDX file")


def test_text_is_known_by_its_first_bytes():
    assert looks_like_table(b"0,1\n")
    assert looks_like_table("größe,b\n0,1".encode())
    assert looks_like_table("0,1,ö".encode()[:-1])  # cut within a character
    assert not looks_like_table(b"hello, world")
    assert looks_like_table(b"0 1 2\n")
    assert looks_like_table("a;b\n0;1\n".encode("utf-16"))
    assert not looks_like_table(b"0,1\0")
    assert not looks_like_table(b"\xff0,1\n")


def test_a_header_alone_and_one_of_other_length(tmp_path):
    refused(written(tmp_path, "label,a\n"), "no numbers")
    refused(written(tmp_path, ",0,1\n"), "no numbers")
    refused(written(tmp_path, "a,b,c,label\n0,1\n"), "the header names 4 columns, the first row has 2: make them agree")
    refused(written(tmp_path, "label\n8,3,4\n,a,b\n"), "the header names 1 columns, the first row has 3")
