"""What the rest of vaefast sees of a table: numbers as they stand in the file, with no range and no grey levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vaefast.data.images import Labels
from vaefast.data.reading import new_array
from vaefast.data.values import Cell
from vaefast.data.wording import shown


@dataclass(frozen=True, eq=False)
class Numbers:
    """A table: rows in the order of their source.

    Parameters
    ----------
    source
        The path that the rows come from, or the name of the data.
    values
        (N, columns), all finite: a NumPy array, or a `scipy.sparse.csr_array` where the source is sparse.
    names
        Of the columns; none where the source has none.
    row_names
        Of the rows; none where the source has none.
    labels
        (N,) integers where they are known; they are no column of `values`.
    classes
        Names of the labels 0, 1, ... where the source has labels in words.
    notes
        What was left out or changed, one line each, without the source.
    shape
        Of the picture that a row is, height and width or height, width and channels; None where it is none.
    cell
        What a message calls the value in a row and a column; None where that is as NumPy counts.
    """

    source: str | Path
    values: Any
    names: tuple[str, ...] = ()
    row_names: tuple[str, ...] = ()
    labels: Labels | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    cell: Cell | None = None

    def __len__(self) -> int:
        """Count the rows: N."""
        return int(self.values.shape[0])

    @property
    def name(self) -> str:
        """Of the data, or of the file or folder."""
        return self.source.name if isinstance(self.source, Path) else self.source

    @property
    def notice(self) -> str | None:
        """All notes as one line that a user must see, or None."""
        return f"{shown(self.source)}: {'; '.join(self.notes)}" if self.notes else None

    @property
    def is_sparse(self) -> bool:
        """Whether the values are those of `scipy.sparse`."""
        return not isinstance(self.values, np.ndarray)

    def dense(self) -> Numbers:
        """The same with a NumPy array for the values.

        Raises
        ------
        DataError
            This machine's memory does not hold it.
        """
        if not self.is_sparse:
            return self
        whole = new_array(self.values.shape, self.values.dtype, shown(self.source))
        return replace(self, values=self.values.toarray(out=whole))
