"""The kind of a file, found from its first bytes, for text also from its name, and what to do with kinds that are not read."""

from __future__ import annotations

import codecs
import io
import zipfile
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias, cast

from vaefast.data.dialect import encoding_of
from vaefast.data.idx import looks_like_idx
from vaefast.data.reading import BZ2_MAGIC, GZIP_MAGIC, NPY_MAGIC, XZ_MAGIC, ZIP_MAGIC, reading, unpacked
from vaefast.data.wording import shown
from vaefast.errors import DataError

Kind: TypeAlias = Literal["npy", "npz", "sparse", "text", "parquet", "feather", "h5ad", "tenx", "mtx", "idx"]

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ARROW_MAGIC = b"ARROW1"
MATRIX_MARKET = b"%%matrixmarket"
TEXT_ENDINGS = (".csv", ".tsv", ".tab", ".txt", ".dat", ".data", ".psv")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
# One of them is in the name of an IDX file, such as train-images-idx3-ubyte.gz.
IDX_WORDS = ("idx", "ubyte")
FIRST = 4096

AS_CSV = "export it as CSV, and give that"
MATLAB = "in MATLAB writematrix(X, 'x.csv'), and give that"
AS_NPY = "save its array with numpy.save, and give that"
# Kinds that are recognised but not read: first bytes, name, what to do.
FOREIGN_STARTS = (
    (b"%PDF", "a PDF", "give the table itself, as CSV"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", AS_CSV),
    (b"SQLite format 3", "an SQLite database", AS_CSV),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file", MATLAB),
    (b"$FL2", "an SPSS file", AS_CSV),
    (b"$FL3", "an SPSS file", AS_CSV),
    (b"<stata_dta>", "a Stata file", AS_CSV),
    (b"FEA1", "a feather file of version 1", "write it again with a recent pandas"),
    (b"RDX", "an R workspace", "in R write.csv(x, 'x.csv'), and give that"),
    (b"X\n\0\0\0", "an R object (.rds)", "in R write.csv(x, 'x.csv'), and give that"),
    (b"<html", "a web page", AS_CSV),
    (b"<!DOCTYPE", "a web page", AS_CSV),
    (b"<?xml", "an XML file", AS_CSV),
)  # fmt: skip
FOREIGN_ENDINGS = {
    (".pickle", ".pkl", ".p", ".joblib"): ("a pickle, which may run any code when it is read", AS_NPY),
    (".pt", ".pth", ".ckpt"): ("a PyTorch file", f"{AS_NPY} (x.numpy())"),
    (".json", ".jsonl", ".ndjson"): ("JSON", f"{AS_CSV} (pandas.read_json reads it)"),
    (".rds", ".rda", ".rdata"): ("a file of R", "in R write.csv(x, 'x.csv'), and give that"),
    (".mat",): ("a MATLAB file", MATLAB),
    (".sav", ".zsav", ".por"): ("an SPSS file", AS_CSV),
    (".dta",): ("a Stata file", AS_CSV),
    (".sas7bdat", ".xpt"): ("a SAS file", AS_CSV),
    (".xlsx", ".xlsm", ".xls", ".ods", ".numbers"): ("a workbook", f"{AS_CSV} (File, Save as)"),
    (".safetensors",): ("a file of tensors", AS_NPY),
    (".tfrecord", ".lmdb"): ("a store of records", AS_NPY),
    (".arff",): ("a file of Weka", AS_CSV),
    (".doc", ".docx", ".rtf", ".pdf"): ("a document", "give the table itself, as CSV"),
}
KNOWN = "give .csv (or .tsv, .txt), .npy, .npz, .parquet, .feather, .h5ad, .mtx, an IDX file, or a folder of pictures"


def kind_of_file(path: Path) -> Kind:
    """The kind of a file.

    Raises
    ------
    DataError
        The file is of no kind that is read here. The message says what to do.
    """
    with reading(path) as file:
        start = file.read(FIRST)
        file.seek(0)
        kind = _by_bytes(file, start, path)
        packed = start.startswith((GZIP_MAGIC, XZ_MAGIC, BZ2_MAGIC, ZIP_MAGIC))
        if kind is None and packed:
            with unpacked(file, path) as stream:
                start = io.BufferedReader(cast(io.RawIOBase, stream)).peek(FIRST)[:FIRST]
            kind = _by_bytes(file, start, path)
    if kind is not None:
        return kind
    if looks_like_idx(start[:4]):
        return "idx"
    ending = _ending(path, packed)
    _refuse_foreign(path, start, ending)
    if ending in TEXT_ENDINGS or looks_like_table(start):
        return "text"
    if ending == ".mtx":
        raise DataError(f"{shown(path)} is no Matrix Market file, which begins with %%MatrixMarket: fetch it again")
    if packed and any(word in path.name.lower() for word in IDX_WORDS):  # a damaged one
        return "idx"
    if packed and not start:
        raise DataError(f"{shown(path)} is empty once it is unpacked: fetch it again")
    raise DataError(f"{shown(path)} has an unknown format: {KNOWN}")


def _by_bytes(file: BinaryIO, start: bytes, path: Path) -> Kind | None:
    """The kind, as far as the first bytes show it."""
    if start.startswith(NPY_MAGIC):
        return "npy"
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(ARROW_MAGIC):
        return "feather"
    if start.startswith(HDF5_MAGIC):
        return "h5ad" if path.suffix.lower() == ".h5ad" else "tenx"
    if start[: len(MATRIX_MARKET)].lower() == MATRIX_MARKET:
        return "mtx"
    return _kind_of_zip(file, path) if start.startswith(b"PK") else None


def _kind_of_zip(file: BinaryIO, path: Path) -> Kind | None:
    """The kind of a zip archive: arrays, a workbook, or that of the one file in it."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # damaged archives fail in many ways: their reader reports it
        return "npz"
    finally:
        file.seek(0)
    if {"format.npy", "shape.npy"} <= {*names}:
        return "sparse"
    if path.suffix.lower() == ".npz" or not names or any(name.endswith(".npy") for name in names):
        return "npz"
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise DataError(f"{shown(path)} is a workbook or a document of an office program: {AS_CSV} (File, Save as)")
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(f"{shown(path)} is a PyTorch file: {AS_NPY} (x.numpy())")
    return None


def _refuse_foreign(path: Path, start: bytes, ending: str) -> None:
    """Refuse kinds that are recognised but not read."""
    found = next(((what, remedy) for bytes_, what, remedy in FOREIGN_STARTS if start.startswith(bytes_)), None)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        found = FOREIGN_ENDINGS[(".pickle", ".pkl", ".p", ".joblib")]
    if ending in PICTURE_ENDINGS:
        found = ("one picture", "give the folder that it is in")
    found = found or next((said for endings, said in FOREIGN_ENDINGS.items() if ending in endings), None)
    if found is None and start.lstrip()[:1] in (b"{", b"[") and ending not in TEXT_ENDINGS:
        found = FOREIGN_ENDINGS[(".json", ".jsonl", ".ndjson")]
    if found is not None:
        raise DataError(f"{shown(path)} is {found[0]}: {found[1]}")


def _ending(path: Path, packed: bool) -> str:
    """The ending of the name, without that of a packer such as `.gz`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if packed and suffixes and suffixes[-1] in (".gz", ".xz", ".bz2", ".zip"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def looks_like_table(start: bytes) -> bool:
    """Whether the first bytes of a file are lines of text, one of them with a digit and a separator of fields."""
    try:
        text = codecs.getincrementaldecoder(encoding_of(start))().decode(start)  # so that a character may be cut at the end
    except UnicodeDecodeError:
        return False
    marks = (",", ";", "\t", "|", " ")
    has_fields = any(any(c.isdecimal() for c in line) and any(mark in line for mark in marks) for line in text.splitlines())
    return has_fields and all(c.isprintable() or c in "\r\n\t\ufeff" for c in text)
