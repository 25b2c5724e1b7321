"""Files of tables with other numbers in some cells: all else, text included, stays as it came."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.arrow import opened as opened_arrow
from vaefast.data.csvfields import QUOTE
from vaefast.data.csvtable import lines_of
from vaefast.data.h5ad import chosen_matrix
from vaefast.data.h5sparse import changed
from vaefast.data.kinds import kind_of_file
from vaefast.data.reading import reading, unpacked
from vaefast.data.wording import shown
from vaefast.errors import DataError

# Kinds of files that can be written with other numbers, and the endings of their names.
ENDINGS = {
    "text": (".csv", ".tsv", ".tab", ".txt", ".dat", ".data", ".psv"), "parquet": (".parquet",), "feather": (".feather",),
    "npy": (".npy",), "h5ad": (".h5ad",),
}  # fmt: skip
# A field of a line in which runs of spaces separate.
WORD = re.compile(r'"[^"]*"|\S+')


def filled_file(
    path: Path, gaps: NDArray[np.bool_], values: NDArray[np.float64], at: Sequence[int], layer: str | None = None
) -> bytes:
    """The content of a file with these values, (N, X), where its rows have gaps, (N, X).

    Parameters
    ----------
    at
        The places of the X columns in the file; empty where they are all of its columns, in their order.
    layer
        For `.h5ad`: the layer to change instead of X.

    Raises
    ------
    DataError
        Files of this kind are not written.
    """
    kind, at = kind_of_file(path), at or range(gaps.shape[1])
    if kind == "text":
        return _text(path, gaps, values, at)
    if kind in ("parquet", "feather"):
        return _arrow(path, kind, gaps, values, at)
    if kind == "npy":
        return _array(path, gaps, values)
    if kind == "h5ad":
        return changed(path, lambda file: _fill_matrix(chosen_matrix(file, layer, path)[0], gaps, values, at))
    raise DataError(f"{shown(path)} is no CSV, parquet, feather, .npy or .h5ad file: give the table as one of these")


def _text(path: Path, gaps: NDArray[np.bool_], values: NDArray[np.float64], at: Sequence[int]) -> bytes:
    """A text file, packed or not, as text that is not packed, in its encoding and with its ends of lines."""
    places, rows = [*at], {}
    with lines_of(path) as (lines, encoding):
        separator, decimal = lines.dialect.separator, lines.dialect.decimal
        for _ in lines:
            if gaps[lines.row].any():
                rows[lines.number] = lines.row
    with reading(path) as file, unpacked(file, path) as stream:
        raw = stream.read()
    encoding = _encoding(encoding, raw[:3])
    content = io.TextIOWrapper(io.BytesIO(raw), encoding=encoding, errors="surrogateescape", newline="")
    result = io.StringIO(newline="")
    for number, line in enumerate(content, 1):
        row = rows.get(number)
        if row is None:
            result.write(line)
            continue
        numbers = {places[column]: repr(float(values[row, column])) for column in np.flatnonzero(gaps[row]).tolist()}
        result.write(_with_numbers(line, separator, decimal, numbers))
    return result.getvalue().encode(encoding, errors="surrogateescape")


def _encoding(known: str, start: bytes) -> str:
    """The encoding in which a file is written again: without a mark of UTF-8 if it came without."""
    return "utf-8" if known == "utf-8-sig" and not start.startswith(codecs.BOM_UTF8) else known


def _with_numbers(line: str, separator: str | None, decimal: str, numbers: dict[int, str]) -> str:
    """A line with other numbers in some of its fields."""
    parts, done = [], 0
    for place, (start, end) in enumerate(spans(line, separator)):
        if place in numbers:
            field = line[start:end]
            start += len(field) - len(field.lstrip(" \t"))
            end = max(start, end - (len(field) - len(field.rstrip(" \t\r\n"))))
            parts += [line[done:start], numbers[place].replace(".", decimal)]
            done = end
    return "".join([*parts, line[done:]])


def spans(line: str, separator: str | None) -> list[tuple[int, int]]:
    """Where each field of a line begins and ends, spaces and quotes included, the end of the line not."""
    body = line.rstrip("\r\n")
    if separator is None:
        return [match.span() for match in WORD.finditer(body)]
    found, start, quoted = [], 0, False
    for at, letter in enumerate(body):
        quoted ^= letter == QUOTE
        if letter == separator and not quoted:
            found.append((start, at))
            start = at + 1
    return [*found, (start, len(body))]


def _arrow(path: Path, kind: str, gaps: NDArray[np.bool_], values: NDArray[np.float64], at: Sequence[int]) -> bytes:
    with opened_arrow(path) as arrow:
        held = (arrow.parquet.read_table if kind == "parquet" else arrow.feather.read_table)(path)
        for column in np.flatnonzero(gaps.any(axis=0)).tolist():
            place, here = at[column], gaps[:, column]
            old = held.column(place)
            is_real = arrow.types.is_floating(old.type)
            whole = old.cast(old.type if is_real else arrow.float64()).to_numpy().copy()
            whole[here] = values[here, column]
            field = held.schema.field(place).with_type(arrow.from_numpy_dtype(whole.dtype))
            held = held.set_column(place, field, [whole])
            if not is_real:
                held = held.replace_schema_metadata(_as_real(held.schema.metadata, field.name))
        sink = io.BytesIO()
        (arrow.parquet.write_table if kind == "parquet" else arrow.feather.write_feather)(held, sink)
        return sink.getvalue()


def _as_real(metadata: dict[bytes, bytes] | None, name: str) -> dict[bytes, bytes] | None:
    """The metadata of a table, in which pandas says what type each column has, for a column that is one of float now."""
    if metadata is None or b"pandas" not in metadata:
        return metadata
    said = json.loads(metadata[b"pandas"])
    for column in said.get("columns", ()):
        if column.get("field_name", column.get("name")) == name:
            column |= {"pandas_type": "float64", "numpy_type": "float64"}
    return {**metadata, b"pandas": json.dumps(said).encode()}


def _array(path: Path, gaps: NDArray[np.bool_], values: NDArray[np.float64]) -> bytes:
    held = np.load(path, allow_pickle=False)
    whole = held.astype(held.dtype if held.dtype.kind == "f" else np.float64)
    whole[gaps.reshape(held.shape)] = values[gaps]
    sink = io.BytesIO()
    np.save(sink, whole)
    return sink.getvalue()


def _fill_matrix(held: Any, gaps: NDArray[np.bool_], values: NDArray[np.float64], at: Sequence[int]) -> None:
    """Fill the matrix of an open file."""
    whole = held[()]
    rows, columns = np.nonzero(gaps)
    whole[rows, np.asarray(at)[columns]] = values[rows, columns]
    held[...] = whole
