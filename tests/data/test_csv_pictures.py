"""Pictures as lines of comma-separated grey levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.making import (
    everything,
    refused,
)
from vaefast.data import load, values

pytestmark = pytest.mark.filterwarnings("error")


def csv(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,0.5\n1,0.25\n", np.array([[0, 0.5], [1, 0.25]], np.float32)),
        ("0,1\n1,0", np.array([[0, 1], [1, 0]], np.float32)),  # black and white, not grey levels 0 and 1 of 255
        ("0,255\n7,0\n", np.array([[0, 255], [7, 0]], np.uint8)),
        ("0,255.0\n7,0e3\n", np.array([[0, 255], [7, 0]], np.uint8)),
        ("\ufeffa,b\r\n\r\n 0 , 200\r\n3,4\r\n\r\n", np.array([[0, 200], [3, 4]], np.uint8)),
        ("\ufeff0,2\n3,128\n", np.array([[0, 2], [3, 128]], np.uint8)),
        ('"a","1x1"\n0,2\n3,255\n', np.array([[0, 2], [3, 255]], np.uint8)),
        ("3\n255\n", np.array([[3], [255]], np.uint8)),
    ],
)
def test_csv(tmp_path: Path, text: str, expected: NDArray[Any]) -> None:
    dataset = load(str(csv(tmp_path, text)))
    assert dataset.name == "a.csv"
    rows = everything(dataset)
    assert rows.dtype == expected.dtype
    np.testing.assert_array_equal(rows, expected)


def test_csv_rows_are_counted_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "BLOCK", 4)
    table = 6 * np.arange(40).reshape(20, 2)
    path = tmp_path / "a.csv"
    np.savetxt(path, table, fmt="%d", delimiter=",")
    np.testing.assert_array_equal(everything(load(str(path))), table)
    table[13, 1] = 256
    np.savetxt(path, table, fmt="%d", delimiter=",")
    refused(path, "line 14, column 2")


@pytest.mark.parametrize("text", ["label,a,b\n7,0,200\n8,3,4\n", "a,Label,b\n0,7,200\n3,8,4\n"])
def test_csv_column_of_labels(tmp_path: Path, text: str) -> None:
    dataset = load(str(csv(tmp_path, text)))
    np.testing.assert_array_equal(everything(dataset), np.array([[0, 200], [3, 4]]))
    assert dataset.train_labels is not None
    assert dataset.train_labels.tolist() == [7 if dataset.train.values[0, 0] == 0 else 8]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,1\n1\n", ("line 2 has 1 value where line 1 has 2:",)),
        ("a,b\n0,1\n\n1,0\n1,0,1\n", ("line 5 has 3 values where line 2 has 2",)),
        ("0,1\n1,x\n", ("line 2, column 2 is 'x'",)),
        ("0,\n1,0\n", ("line 1, column 2", "''")),
        ("0,1+2j\n", ("'1+2j'",)),
        ("0,1_0\n1,1\n", ("'1_0'",)),
        ("0,nan\n1,0\n", ("line 1, column 2", "nan", "a value is missing: fill it in")),
        ("0,7\n1,nan\n", ("line 2, column 2", "nan", "a value is missing: fill it in")),
        ("0,7\n-inf,0\n", ("line 2, column 1", "-inf")),
        ("0,300\n2,0\n", ("line 1, column 2", "300", "0 to 255")),
        ("0,0.5\n2,0\n", ("line 2, column 1", "2.0", "[0, 1]")),
        ("0,1\n-0.5,0\n", ("line 2, column 1", "-0.5")),
        ("label,a\n1,0\n2,9.5\n", ("line 3, column 2 'a'", "9.5")),
        ("label\n1\n2\n", ("no column of pixels",)),
        ("a,b,c\n1,0\n1,1\n", ("3 columns",)),
        ("", ("no numbers",)),
        ("\n\n", ("no numbers",)),
        ("a,b\n", ("no numbers",)),
        ("0,1\n", ("1 image:",)),
        (b"0,1\n\xff\xfe,0\n", ("line 2, column 1 is 'ÿþ'",)),
        (b"0,1\n\0,0\n", ("line 2, column 1",)),
    ],
)
def test_csv_refusals(tmp_path: Path, text: str | bytes, words: tuple[str, ...]) -> None:
    path = csv(tmp_path, text)
    refused(path, str(path), *words)
