"""Read sparse matrices that `scipy.sparse.save_npz` has written. They stay sparse, as CSR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.numbers import Numbers
from vaefast.data.numpyfile import check_members
from vaefast.data.reading import reading
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError


def read_sparse(path: Path) -> Numbers:
    """Read a matrix of format CSR, CSC, COO, BSR or DIA as CSR.

    Raises
    ------
    DataError
        The file is damaged, or holds no numbers.
    """
    import scipy.sparse

    check_members(path)
    with reading(path) as file:
        try:
            held = scipy.sparse.load_npz(file)
            found = scipy.sparse.csr_array(held)
        except Exception as error:  # scipy raises almost anything for indices that do not fit
            raise DataError(
                f"{shown(path)} is not a sparse matrix that scipy can read ({reason(error)}): save it again"
            ) from error
    return Numbers(path, settled(found, shown(path)))


def checked_sparse(
    kind: str, shape: tuple[int, int], data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], origin: str
) -> Any:
    """These parts of a CSR or CSC matrix as `scipy.sparse.csr_array`.

    Raises
    ------
    DataError
        The parts do not fit together.
    """
    import scipy.sparse

    try:
        held = getattr(scipy.sparse, f"{kind}_array")((data, indices, indptr), shape=shape)
        held.check_format(full_check=True)
    except ValueError as error:
        raise DataError(f"{origin} holds a sparse matrix whose parts do not fit ({reason(error)}): write it again") from error
    return settled(held.tocsr(), origin)


def settled(matrix: Any, origin: str) -> Any:
    """The matrix with its cells in order, each of them once.

    Raises
    ------
    DataError
        The matrix has no row or no column, an index is out of range, or the values are not numbers.
    """
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"{origin} has shape {matrix.shape}: give at least one row and one column")
    if matrix.dtype.kind not in "buif":
        raise DataError(f"{origin} holds values of type {matrix.dtype}: give numbers")
    try:
        matrix.check_format(full_check=True)
    except ValueError as error:
        raise DataError(f"{origin} holds a sparse matrix whose parts do not fit ({reason(error)}): write it again") from error
    if matrix.dtype == np.bool_:
        matrix = matrix.astype(np.uint8)
    matrix.sum_duplicates()
    return matrix
