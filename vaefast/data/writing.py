"""New tables as files: text, parquet or feather."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.arrow import arrow_file

# Endings of the names of tables that can be written, and what separates the fields of those that are text.
SEPARATORS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*SEPARATORS, ".csv.gz", ".tsv.gz", ".parquet", ".feather")


@dataclass(frozen=True, eq=False)
class NewColumn:
    """One column of a new table.

    Parameters
    ----------
    name
        Of the column.
    values
        (N,): float64, or objects, which are text, numbers, or true and false; None and NaN are missing.
    dtype
        The name of its type in pandas.
    whole
        Whether its numbers are whole.
    categories, ordered
        Of a category: its values in their order, and whether that means something.
    """

    name: str
    values: NDArray[Any]
    dtype: str
    whole: bool = False
    categories: tuple[Any, ...] | None = None
    ordered: bool = False

    def cells(self) -> list[Any]:
        """The values as Python has them; None where one is missing."""
        values = [None if value is None or value != value else value for value in self.values.tolist()]
        if self.whole and self.values.dtype == np.float64:
            return [None if value is None else int(value) for value in values]
        return values


def ending_of(path: Path) -> str | None:
    """The one of `ENDINGS` that a name has, longest first; None if it has none."""
    name = path.name.lower()
    return next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.endswith(ending)), None)


def table_file(columns: Sequence[NewColumn], path: Path, named: bool = True) -> bytes:
    """The content of a file of this name, which ends in one of `ENDINGS`.

    Parameters
    ----------
    named
        Whether the columns have names of their own: text has no header without.

    Raises
    ------
    DataError
        A package that writes such files is not installed.
    """
    ending = ending_of(path)
    if ending in (".parquet", ".feather"):
        return arrow_file(columns, ending[1:], path)
    assert ending is not None
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=SEPARATORS[ending[:4]], lineterminator="\n")
    if named:
        writer.writerow([column.name for column in columns])
    writer.writerows(zip(*(column.cells() for column in columns), strict=True))
    content = file.getvalue().encode()
    # Without a time in its head, so that the same table is the same file.
    return gzip.compress(content, mtime=0) if ending.endswith(".gz") else content
