"""Rows with what the networks are told about each of them beside its values: covariates, such as the batch of a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Conditioned:
    """N rows of X columns, and C covariates of each.

    Parameters
    ----------
    values
        The rows, (N, X): a NumPy array, or rows of counts.
    covariates
        Numbers, float32 (N, C). Both networks may see them, and neither is asked to explain them.
    """

    values: Any
    covariates: NDArray[np.float32]

    def __len__(self) -> int:
        """Count the rows: N."""
        return len(self.values)

    def __getitem__(self, rows: Any) -> Conditioned:
        """These rows, in this order."""
        return Conditioned(self.values[rows], self.covariates[rows])

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self.values), int(self.values.shape[1]))


def parted(rows: Any) -> tuple[Any, NDArray[np.float32] | None]:
    """Rows without their covariates, and these, (N, C); None where there are none."""
    return (rows.values, rows.covariates) if isinstance(rows, Conditioned) else (rows, None)


def beside(matrix: NDArray[Any], covariates: NDArray[Any] | None) -> NDArray[Any]:
    """A matrix, (B k, J), with the covariates of each row, (B, C), as its last columns; k rows of it share one of them."""
    if covariates is None:
        return matrix
    repeated = np.repeat(covariates, len(matrix) // max(1, len(covariates)), axis=0)
    return np.concatenate([matrix, repeated.astype(matrix.dtype)], axis=1)
