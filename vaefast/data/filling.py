"""Files of tables with other values in some cells: all else, text included, stays as it came."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.arrow import opened as opened_arrow
from vaefast.data.arrowkinds import filled_column
from vaefast.data.csvfields import QUOTE
from vaefast.data.csvlines import records
from vaefast.data.csvtable import lines_of
from vaefast.data.h5ad import chosen_matrix
from vaefast.data.h5sparse import changed
from vaefast.data.kinds import kind_of_file
from vaefast.data.reading import reading, unpacked
from vaefast.data.spelling import Spelling
from vaefast.data.wording import shown
from vaefast.errors import DataError

# Kinds of files that can be written with other values, and the endings of their names.
ENDINGS = {
    "text": (".csv", ".tsv", ".tab", ".txt", ".dat", ".data", ".psv"), "parquet": (".parquet",), "feather": (".feather",),
    "npy": (".npy",), "h5ad": (".h5ad",),
}  # fmt: skip
# A field of a line in which runs of spaces separate.
WORD = re.compile(r'"(?:[^"]|"")*"|\S+')


@dataclass(frozen=True, eq=False)
class Filling:
    """What goes into the gaps of one column of a file.

    Parameters
    ----------
    at
        Place of the column in the file, from 0.
    gaps
        Where a value is missing, (N,).
    values
        (N,): float64; or objects, which are text, numbers, or true and false. Only those in gaps are taken.
    whole
        Whether numbers are whole numbers, and written as such.
    """

    at: int
    gaps: NDArray[np.bool_]
    values: NDArray[Any]
    whole: bool = False

    def value(self, row: int) -> Any:
        """The value of a row, as Python has it."""
        value = self.values[row]
        value = value.item() if isinstance(value, np.generic) else value
        return int(value) if self.whole and isinstance(value, float) else value


def of_numbers(gaps: NDArray[np.bool_], values: NDArray[np.float64], at: Sequence[int]) -> list[Filling]:
    """The columns of a table of numbers, (N, X) each, that have gaps.

    Parameters
    ----------
    at
        The places of the X columns in the file; empty where they are all of its columns, in their order.
    """
    at = at or range(gaps.shape[1])
    return [Filling(at[column], gaps[:, column], values[:, column]) for column in np.flatnonzero(gaps.any(axis=0)).tolist()]


def filled_file(path: Path, columns: Sequence[Filling], layer: str | None = None, names: Sequence[str] = ()) -> bytes:
    """The content of a file with these values where its rows have gaps.

    Parameters
    ----------
    layer
        For `.h5ad`: the layer to change instead of X.
    names
        Of the columns, if the file names them: a text file then begins with a header that holds these.

    Raises
    ------
    DataError
        Files of this kind are not written.
    """
    kind = kind_of_file(path)
    if kind == "text":
        return _text(path, columns, names)
    if kind in ("parquet", "feather"):
        return _arrow(path, kind, columns)
    if kind == "npy":
        return _array(path, columns)
    if kind == "h5ad":
        return changed(path, lambda file: _fill_matrix(chosen_matrix(file, layer, path)[0], columns))
    raise DataError(f"{shown(path)} is no CSV, parquet, feather, .npy or .h5ad file: give the table as one of these")


def _text(path: Path, columns: Sequence[Filling], names: Sequence[str]) -> bytes:
    """A text file, packed or not, as text that is not packed, in its encoding and with its ends of lines."""
    rows, styles = {}, {column.at: Spelling() for column in columns}
    here = np.logical_or.reduce([column.gaps for column in columns]) if columns else np.zeros(0, bool)
    with lines_of(path, names) as (lines, encoding):
        separator, decimal = lines.dialect.separator, lines.dialect.decimal
        for _ in lines:
            if len(here) and here[lines.row]:
                rows[lines.number] = lines.row
            for at, (start, end) in enumerate(spans(lines.raw, separator) if styles else ()):
                if at in styles and not styles[at].is_known:
                    styles[at].see(lines.raw[start:end].strip())
    with reading(path) as file, unpacked(file, path) as stream:
        raw = stream.read()
    encoding = _encoding(encoding, raw[:3])
    content = io.TextIOWrapper(io.BytesIO(raw), encoding=encoding, errors="surrogateescape", newline="")
    result = io.StringIO(newline="")
    for number, line in records(iter(content)):
        row = rows.get(number)
        if row is None:
            result.write(line)
            continue
        texts = {
            column.at: styles[column.at].written(column.value(row), separator, decimal)
            for column in columns
            if column.gaps[row]
        }
        result.write(_with_texts(line, separator, texts))
    return result.getvalue().encode(encoding, errors="surrogateescape")


def _encoding(known: str, start: bytes) -> str:
    """The encoding in which a file is written again: without a mark of UTF-8 if it came without."""
    return "utf-8" if known == "utf-8-sig" and not start.startswith(codecs.BOM_UTF8) else known


def _with_texts(line: str, separator: str | None, texts: dict[int, str]) -> str:
    """A line with other texts in some of its fields."""
    parts, done = [], 0
    for place, (start, end) in enumerate(spans(line, separator)):
        if place in texts:
            field = line[start:end]
            start += len(field) - len(field.lstrip(" \t"))
            end = max(start, end - (len(field) - len(field.rstrip(" \t\r\n"))))
            parts += [line[done:start], texts[place]]
            done = end
    return "".join([*parts, line[done:]])


def spans(line: str, separator: str | None) -> list[tuple[int, int]]:
    """Where each field of a line begins and ends, spaces and quotes included, the end of the line not."""
    body = line.rstrip("\r\n")
    if separator is None:
        return [match.span() for match in WORD.finditer(body)]
    found, start, at = [], 0, 0
    while at < len(body):
        if body[at] == separator:
            found.append((start, at))
            start = at + 1
        # Only one that begins a field opens quotes; others in plain text are letters, as in 3",5".
        elif body[at] == QUOTE and not body[start:at].strip():
            at = _closing_quote(body, at)
        at += 1
    return [*found, (start, len(body))]


def _closing_quote(body: str, at: int) -> int:
    """The place of the quote that closes the one here, or the end: a doubled one is a letter."""
    while (at := body.find(QUOTE, at + 1)) >= 0 and body[at + 1 : at + 2] == QUOTE:
        at += 1
    return at if at >= 0 else len(body)


def _arrow(path: Path, kind: str, columns: Sequence[Filling]) -> bytes:
    with opened_arrow(path) as arrow:
        held = (arrow.parquet.read_table if kind == "parquet" else arrow.feather.read_table)(path)
        for column in columns:
            old = held.column(column.at)
            new = filled_column(arrow, old, column.gaps, column.value, column.values)
            field = held.schema.field(column.at).with_type(new.type)
            held = held.set_column(column.at, field, new)
            if new.type != old.type and arrow.types.is_floating(new.type):
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


def _array(path: Path, columns: Sequence[Filling]) -> bytes:
    held = np.load(path, allow_pickle=False)
    whole = np.array(held, held.dtype if held.dtype.kind == "f" else np.float64, order="C")  # whose reshape is no copy
    rows = whole.reshape(len(whole), -1)
    for column in columns:
        rows[column.gaps, column.at] = column.values[column.gaps].astype(np.float64)
    sink = io.BytesIO()
    np.save(sink, whole)
    return sink.getvalue()


def _fill_matrix(held: Any, columns: Sequence[Filling]) -> None:
    """Fill the matrix of an open file. One of whole numbers becomes one of float64 where a fraction is filled in.

    A sparse one, which misses nothing, is left as it is.
    """
    if not columns:
        return
    whole, fills = held[()], [column.values[column.gaps].astype(np.float64) for column in columns]
    grows = whole.dtype.kind != "f" and any((fill != np.rint(fill)).any() for fill in fills)
    whole = whole.astype(np.float64) if grows else whole
    for column, fill in zip(columns, fills, strict=True):
        whole[column.gaps, column.at] = fill
    if not grows:
        held[...] = whole
        return
    parent, name, attributes = held.parent, held.name, dict(held.attrs)
    del parent[name]
    parent.create_dataset(name, data=whole).attrs.update(attributes)
