"""How a table of the user's becomes the inputs of the networks, and how the decoder's answers go back to the user's units.

No copy of the data is made in float64: whatever arrives is taken a block of rows at a time into bytes or float32, and bytes
and float32 that need no change are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError, SettingsError

SCALINGS = ("auto", "standard", "minmax", None)
# Values in one go: the temporaries of a block stay in the cache.
BLOCK = 1 << 18
WHITE = 255


@dataclass(frozen=True)
class Inputs:
    """What happens to each value on its way into the networks: x = (value - shift) / scale.

    Parameters
    ----------
    likelihood
        The one that the values must fit.
    method
        `standard` (mean 0, standard deviation 1 of each column), `minmax` (each column to [0, 1], later values clipped), or
        None: values as they are.
    grey_levels
        Bytes stand for level / 255; without it they are numbers like any others.
    shift, scale
        (X,) float64 each; None where there is no method.
    """

    likelihood: str
    method: str | None = None
    grey_levels: bool = False
    shift: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None

    @property
    def log_volume(self) -> float:
        """What to take from a log-density of x, in nats, for that of the values: 0 where p(x | z) is no density."""
        return 0.0 if self.scale is None or self.likelihood == "bernoulli" else float(np.log(self.scale).sum())

    def enter(self, X: NDArray[Any]) -> NDArray[Any]:
        """The values, (N, X), as the networks see them: C-contiguous bytes or float32.

        Raises
        ------
        DataError
            A value does not fit the likelihood; the message holds its row and its column.
        """
        if X.dtype == np.uint8 and self.grey_levels and self.shift is None:
            return np.ascontiguousarray(X)
        if X.dtype == np.float32 and self.shift is None and X.flags.c_contiguous:
            for rows in _blocks(X):
                self._check(X[rows], X[rows], rows.start)
            return X
        white = WHITE if X.dtype == np.uint8 and self.grey_levels else 1
        x = np.empty(X.shape, np.float32)
        for rows in _blocks(X):
            block: NDArray[Any] = X[rows] / white if white > 1 else X[rows]
            if self.shift is not None and self.scale is not None:
                block = (block - self.shift) / self.scale
            if self.method == "minmax":
                block = np.clip(block, 0, 1)
            self._check(block, X[rows], rows.start)
            x[rows] = block
        return x

    def leave(self, x: NDArray[Any]) -> NDArray[Any]:
        """Means of x, (..., X), in the units of the values."""
        return x if self.shift is None or self.scale is None else x * self.scale + self.shift

    def _check(self, block: NDArray[Any], given: NDArray[Any], first_row: int) -> None:
        low, high = (-3e38, 3e38) if self.likelihood == "gaussian" else (0, 1)
        if block.size == 0 or (block.min() >= low and block.max() <= high):
            return
        row, column = np.unravel_index(np.argmin((block >= low) & (block <= high)), block.shape)
        place = f"X: row {first_row + row}, column {column} (both counted from 0) is {given[row, column]}"
        if self.likelihood == "gaussian":
            raise DataError(f"{place}, which is too large: scale the column, or choose scaling='standard'")
        raise DataError(
            f"{place}, but likelihood {self.likelihood} takes numbers in [0, 1] or uint8 grey levels: scale the column, "
            "choose scaling='minmax', or likelihood='gaussian'"
        )


def choose(X: NDArray[Any], likelihood: str, scaling: str | None) -> Inputs:
    """Likelihood and scaling for these values, (N, X), where either is left to choose.

    `auto` is Bernoulli for values in [0, 1], uint8 grey levels included, and Gaussian for all others; its scaling is
    `standard` for a Gaussian and none for the others.

    Raises
    ------
    SettingsError
        There is no such scaling, or it does not go with the likelihood.
    """
    if scaling not in SCALINGS:
        raise SettingsError(f"scaling is {scaling!r}: choose 'auto', 'standard', 'minmax' or None")
    grey_levels = bool(X.dtype == np.uint8 and X.max() > 1)
    if likelihood == "auto":
        within = grey_levels or (X.min() >= 0 and X.max() <= 1)
        real = scaling == "standard" or (scaling != "minmax" and not within)
        likelihood = "gaussian" if real else "bernoulli"
    if scaling == "auto":
        scaling = "standard" if likelihood == "gaussian" else None
    if scaling == "standard" and likelihood != "gaussian":
        raise SettingsError(f"scaling is 'standard', but likelihood {likelihood} takes values in [0, 1]: choose 'minmax'")
    shift, scale = _measured(X, scaling, WHITE if grey_levels else 1)
    return Inputs(likelihood, scaling, grey_levels, shift, scale)


def _measured(
    X: NDArray[Any], method: str | None, white: int
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Shift and scale of each column; a column that never changes is not stretched."""
    if method is None:
        return None, None
    if method == "minmax":
        low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
        shift, scale = low / white, (high - low) / white
    else:
        shift = X.mean(axis=0, dtype=np.float64) / white
        squares = np.zeros(X.shape[1])
        for rows in _blocks(X):
            squares += np.square(X[rows] / white - shift).sum(axis=0)
        scale = np.sqrt(squares / len(X))
    # Rounding alone gives a constant column of large numbers a tiny spread.
    constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(shift)
    return shift, np.where(constant, 1.0, scale)


def _blocks(X: NDArray[Any]) -> Iterator[slice]:
    step = max(1, BLOCK // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        yield slice(start, min(start + step, len(X)))
