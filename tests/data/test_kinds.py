"""Kinds of files that are known and not read: refused with what to do, and never opened by what could run code."""

from __future__ import annotations

import gzip
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vaefast.data import read, read_any, read_numbers
from vaefast.errors import DataError


class Trap:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def workbook(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/worksheets/sheet1.xml", "<worksheet/>")


def opened(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", "<office/>")


def torch(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"\x80\x02.")
        archive.writestr("x/data/0", b"\0" * 8)


FILES = {
    "a.xlsx": (workbook, ("office program", "export it as CSV")),
    "b.csv": (workbook, ("office program", "export it as CSV")),
    "a.ods": (opened, ("office program", "export it as CSV")),
    "a.pt": (torch, ("PyTorch file", "numpy.save")),
    "a.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), ("an Excel workbook", "export it as CSV")),
    "a.json": (json.dumps([{"a": 1, "b": 2}]).encode(), ("JSON", "export it as CSV")),
    "records": (json.dumps([{"a": 1, "b": 2}]).encode(), ("JSON", "export it as CSV")),
    "a.rds": (gzip.compress(b"X\n\0\0\0\3"), ("an R object", "write.csv")),
    "a.RData": (gzip.compress(b"RDX3\nX\n"), ("an R workspace", "write.csv")),
    "a.mat": (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", ("a MATLAB file", "writematrix")),
    "a.sav": (b"$FL2@(#) SPSS DATA FILE", ("an SPSS file", "export it as CSV")),
    "a.dta": (b"<stata_dta><header>", ("a Stata file", "export it as CSV")),
    "a.sas7bdat": (b"\0\0\1\2\3", ("a SAS file", "export it as CSV")),
    "a.pdf": (b"%PDF-1.7\n", ("a PDF", "as CSV")),
    "a.db": (b"SQLite format 3\0", ("an SQLite database", "export it as CSV")),
    "a.csv": (b"<!DOCTYPE html><html>", ("a web page",)),
    "a.png": (b"\x89PNG\r\n\x1a\n", ("one picture", "give the folder")),
    "a.arff": (b"@relation iris\n", ("a file of Weka", "export it as CSV")),
    "a.safetensors": (b"\x08\0\0\0\0\0\0\0{}      ", ("a file of tensors", "numpy.save")),
    "a.xyz": (b"\x01\x02\x03", ("unknown format", "give .csv")),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_programs(tmp_path, name):
    make, words = FILES[name]
    path = tmp_path / name
    path.write_bytes(make) if isinstance(make, bytes) else make(path)
    for reader in (read, read_any, lambda given: read_numbers(given, 3)):
        with pytest.raises(DataError) as caught:
            reader(str(path))
        assert "\n" not in str(caught.value)
        for word in (str(path), *words):
            assert word in str(caught.value)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.joblib", "a.csv", "a.npy", "a"])
def test_nothing_is_unpickled(tmp_path, name, protocol):
    (tmp_path / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol))
    with pytest.raises(DataError, match="a pickle, which may run any code" if protocol or name[:3] in ("a.p", "a.j") else "."):
        read_any(str(tmp_path / name))
    assert not (tmp_path / "sprung").exists()


def test_objects_in_sparse_archives_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", format=b"csr", shape=np.array([1, 1]), data=np.array([Trap(tmp_path / "sprung")], object),
             indices=np.array([0]), indptr=np.array([0, 1]))  # fmt: skip
    with pytest.raises(DataError):
        read_any(str(tmp_path / "a.npz"))
    assert not (tmp_path / "sprung").exists()
