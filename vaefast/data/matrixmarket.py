"""Read Matrix Market files (`.mtx`, plain or packed) by scipy. They stay sparse, as CSR."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from vaefast.data.numbers import Numbers
from vaefast.data.reading import LARGEST_INFLATION, reading, unpacked
from vaefast.data.sparse import settled
from vaefast.data.tenx import BARCODES, FEATURES, MATRIX, Companions, companions_of
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError

BANNER = b"%%MatrixMarket"
# The longest line that is looked for before the numbers begin; 10x writes a comment of some hundred characters.
LONGEST_LINE = 1 << 16
# The shortest entry: a row, a column and the ends of both. Its value may be left out.
SHORTEST_ENTRY = len(b"1 1\n")


def read_matrix_market(path: Path) -> Numbers:
    """Read a matrix, with the names of rows and columns that 10x Genomics puts beside it.

    Without such files the rows are the examples. With them the examples are the cells, whichever way the matrix lies.

    Raises
    ------
    DataError
        The file is damaged, which its line shows where scipy says it, or does not fit the files beside it.
    """
    origin, beside = shown(path), companions_of(path)
    held = _matrix(path)
    notes: tuple[str, ...] = ()
    if beside is not None:
        held, notes = _turned(held, beside, origin)
    elif MATRIX in path.name:
        notes = (
            f"no {BARCODES} and no {FEATURES[0]} is beside it: its {held.shape[0]:,} rows are trained on; 10x Genomics writes "
            f"genes as rows, which are turned if {BARCODES} is there",
        )
    names = () if beside is None or beside.features is None else beside.features.names
    row_names = () if beside is None else beside.barcodes
    values = np.ascontiguousarray(held) if isinstance(held, np.ndarray) else settled(_csr(held), origin)
    numbers = Numbers(path, values, names, row_names, notes=notes)
    return numbers if beside is None or beside.features is None else beside.features.genes_alone(numbers)


def _csr(held: Any) -> Any:
    import scipy.sparse

    return scipy.sparse.csr_array(held)


def _matrix(path: Path) -> Any:
    """The matrix as it lies in the file: `scipy.sparse.coo_matrix`, or a NumPy array if it is a dense one."""
    import scipy.io

    with reading(path) as file:
        largest = os.fstat(file.fileno()).st_size * LARGEST_INFLATION
        with unpacked(file, path) as stream:
            content = _Content(stream)
            if content.entries * SHORTEST_ENTRY > largest:
                raise DataError(f"{shown(path)} is damaged (it promises {content.entries:,} entries): fetch it again")
            try:
                return scipy.io.mmread(content)
            except (ValueError, OverflowError, MemoryError) as error:
                said = f"{shown(path)} is not a readable Matrix Market file ({reason(error)})"
                raise DataError(f"{said}: write it again") from error


class _Content:
    """The bytes of a file for scipy, with `real` for `integer` in the banner.

    Of a fraction among integers scipy would take what stands before the point. Real numbers are read as they are, and
    whole ones up to 2^53 are exact.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, head, line = stream, [stream.readline(LONGEST_LINE)], b""
        head[0] = head[0].lower().replace(b"unsigned-integer", b"real").replace(b"integer", b"real")
        head[0] = head[0].replace(BANNER.lower(), BANNER)
        while len(head[-1]) and (len(head) == 1 or line[:1] == b"%" or not line.strip()):
            line = stream.readline(LONGEST_LINE)
            head.append(line)
        self._head = b"".join(head)
        sizes = line.split()
        # The number of entries that the line of sizes promises; 0 if it is none, of which scipy has the words.
        self.entries = int(sizes[2]) if len(sizes) == 3 and sizes[2].isdigit() else 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes: the head of the file first."""
        if not self._head:
            return self._stream.read(size)
        if size < 0:
            size = len(self._head)
        first, self._head = self._head[:size], self._head[size:]
        return first


def _turned(held: Any, beside: Companions, origin: str) -> tuple[Any, tuple[str, ...]]:
    """The matrix with cells for rows, and what to say of it.

    Raises
    ------
    DataError
        It has as many rows and columns as the files beside it name in neither way.
    """
    rows, columns = held.shape
    cells = len(beside.barcodes) if beside.barcodes_file else None
    genes, file = (None, "") if beside.features is None else (len(beside.features.names), beside.features.file)
    if cells in (None, columns) and genes in (None, rows):
        lies = (
            f"{rows:,} rows are the genes of {file}"
            if cells is None
            else f"{columns:,} columns are the cells of {beside.barcodes_file}"
        )
        return held.T, (f"its {lies}: transposed to {columns:,} cells x {rows:,} {'genes' if genes else 'columns'}",)
    if cells in (None, rows) and genes in (None, columns):
        return held, ()
    named = [] if cells is None else [f"{beside.barcodes_file} names {cells:,} cells"]
    named += [] if genes is None else [f"{file} {'' if named else 'names '}{genes:,} features"]
    raise DataError(
        f"{origin} has {rows:,} rows and {columns:,} columns, but {' and '.join(named)}: put the files of one matrix together"
    )
