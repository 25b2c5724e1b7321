"""Tables of counts: what is one, what is none, and which a likelihood of counts is the natural choice for."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError
from vaefast.models.count_rows import LARGEST_COUNT, CountRows, first_wrong
from vaefast.tables.checking import place
from vaefast.tables.pieces import pieces

# What training takes: numbers as they are, or lists of what is not zero.
AnyTable: TypeAlias = "NDArray[Any] | CountRows"

# A table of whole numbers of which so many are zero is one of counts: of cells 3 in 4 are and more, of ages and prices none.
MOSTLY_ZERO = 2 / 3
# The largest level of a grey picture: a table whose largest number it is may be one of pictures.
WHITE = 255
# If no more of the values of a sparse table are no counts, they are a mistake: of rates and logarithms nearly all are none.
FEW = 1 / 100


def counted(X: Any, names: NDArray[Any] | None = None, called: str = "X") -> CountRows:
    """A table of counts, (N, X), dense or scipy's, as rows of what is not zero.

    Raises
    ------
    DataError
        A number is negative, no whole number, too large, or missing; the message holds its row and its column.
    """
    if isinstance(X, CountRows):
        return X
    X = X.tocsr() if is_sparse(X) else X
    values = X.data if is_sparse(X) else X
    wrong = first_wrong(values)
    if wrong is None:
        return CountRows.looking_at(X) if is_sparse(X) else CountRows.of(X)
    cell, value = _cell(X, wrong), values[wrong]
    if np.isnan(value):
        raise DataError(
            f"{called}: {place(*cell, names)} is missing (NaN), and the rates of counts are shares of a row's total, which it "
            "leaves unknown: choose likelihood gaussian or mixed, or fill it in"
        )
    head, what = "", "larger than 16,777,216" if value == np.floor(value) else "no whole number"
    if value < 0:
        head, what = "Negative values in data: ", "below 0"  # the words that scikit-learn asks for
    raise DataError(
        f"{called}: {head}{place(*cell, names)} is {value:g}, which is {what}: a likelihood of counts takes whole numbers "
        "from 0; give counts as they were counted, or likelihood gaussian for other numbers"
    )


def is_sparse(X: Any) -> bool:
    """Whether X is a matrix or an array of scipy.sparse."""
    return hasattr(X, "tocsr")


def dense(X: Any, called: str = "X") -> NDArray[Any]:
    """A table as a NumPy array, for a likelihood that is not one of counts.

    Raises
    ------
    DataError
        It is sparse, and would not fit into this machine's memory.
    """
    if not isinstance(X, CountRows) and not is_sparse(X):
        return np.asarray(X)
    size = X.shape[0] * X.shape[1] * 8
    if size > _memory():
        raise DataError(
            f"{called} is sparse, and {size / 2**30:.1f} GiB without its zeros left out, more than this machine has: give "
            "whole counts and a likelihood of counts, which keep it sparse, or fewer rows"
        )
    return X.dense() if isinstance(X, CountRows) else np.asarray(X.toarray())


def _memory() -> float:
    """Bytes of physical memory; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


def looks_counted(X: Any, rows: NDArray[np.int64] | None = None) -> bool:
    """Whether a likelihood of counts is the natural one for a table: whole numbers, not all 0 or 1, most of them zero, and no
    grey levels, which are bytes or end at 255."""
    if isinstance(X, CountRows):
        return X.largest > 1
    if is_sparse(X):
        X = X.tocsr() if rows is None else X.tocsr()[rows]
        return first_wrong(X.data) is None and bool(X.data.size) and X.data.max() > 1
    if X.dtype == np.uint8 or X.dtype.kind not in "iuf":
        return False
    zeros, largest, size = 0, 0.0, 0
    for _, block in pieces(X, rows):
        if first_wrong(block) is not None:
            return False
        zeros, size = zeros + int(np.count_nonzero(block == 0)), size + block.size
        largest = max(largest, float(block.max(initial=0)))
    return largest > 1 and largest != WHITE and zeros >= MOSTLY_ZERO * size


def nearly_counted(X: Any, names: NDArray[Any] | None = None, called: str = "X") -> str | None:
    """The warning on a sparse table that is none of counts because of a few values; None for any other table."""
    if not is_sparse(X):
        return None
    X = X.tocsr()
    wrong = first_wrong(X.data)
    if wrong is None:
        return None
    others = int(np.count_nonzero(~((X.data >= 0) & (X.data <= LARGEST_COUNT) & (X.data == np.floor(X.data)))))
    if others > FEW * X.data.size:
        return None
    held = f"{others:,} of its {X.data.size:,} values {'is no count' if others == 1 else 'are no counts'}"
    return (
        f"{called}: {place(*_cell(X, wrong), names)} is {X.data[wrong]:g}, and so the table is taken for one of real "
        f"numbers, though only {held}: mend what is wrong, or leave its row out"
    )


def _cell(X: Any, place_in_values: tuple[Any, ...]) -> tuple[int, int]:
    """Row and column of a value."""
    if not is_sparse(X):
        return int(place_in_values[0]), int(place_in_values[1])
    entry = int(place_in_values[0])
    return int(np.searchsorted(X.indptr, entry, side="right")) - 1, int(X.indices[entry])
