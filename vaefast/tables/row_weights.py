"""Weights of rows in training: numbers of copies if they are whole, otherwise shares of the minibatches."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaefast.models import noise
from vaefast.models.noise import Purpose

# Whole numbers are numbers of copies, unless these make the table more than this many times as long.
LARGEST_GROWTH = 10


def copies(weights: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """The numbers of copies, (N,), for weights that are whole numbers; None if the weights are shares."""
    if weights.sum() > LARGEST_GROWTH * len(weights) or not (weights == np.floor(weights)).all():
        return None
    return weights.astype(np.int64)


def rows_that_count(weights: ArrayLike, rows: int) -> NDArray[np.int64] | None:
    """Which of so many rows to look at, as often as they count if weights are numbers of copies; None for weights that are
    refused elsewhere."""
    given = np.asarray(weights, np.float64)
    if given.shape != (rows,) or not (given >= 0).all() or not given.any():
        return None
    numbers = copies(given)
    return np.flatnonzero(given > 0) if numbers is None else np.repeat(np.arange(rows), numbers)


def with_stand_ins(weights: ArrayLike) -> NDArray[np.int64]:
    """Of each row the one whose values to read, (N,): itself, or the first that counts in place of a row of weight 0.

    So nothing is learned of rows that do not count, nor are they refused, and messages number the others as they came.
    """
    counts = np.asarray(weights, np.float64) > 0
    return np.where(counts, np.arange(len(counts)), np.argmax(counts))


def quantiles(
    values: NDArray[np.float64], at: NDArray[np.float64] | list[float], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Quantiles of the values of rows, (N,), where `weights`, (N,), are what each row counts for.

    Weights that are numbers of copies give those of the copies. Others give values of rows, without interpolation.
    """
    if weights is None:
        return np.quantile(values, at)
    numbers = copies(weights)
    if numbers is not None:
        return np.quantile(np.repeat(values, numbers), at)
    seen = np.flatnonzero(weights > 0)
    ascending = seen[np.argsort(values[seen], kind="stable")]
    below = np.cumsum(weights[ascending])
    places = np.searchsorted(below, np.asarray(at) * below[-1])
    return np.asarray(values[ascending[np.minimum(places, len(ascending) - 1)]])


def weighted_rows(weights: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """The rows of one epoch, int64 (N,) in ascending order. Row i occurs w_i times, rounded up or down at random.

    This is systematic resampling (Kitagawa, 1996). The weights are scaled to a mean of 1, and a uniform number u is drawn for
    the epoch. Row i occurs once for each whole number between the running sums of the weights before and after it, both
    shifted by u. So row i occurs w_i times on average, and the expected gradient of an epoch is that of the weighted loss.
    """
    u = float(noise.uniforms(noise.words(seed, Purpose.EXAMPLE_ORDER, epoch, [0xFFFFFFFF], 1))[0, 0])
    ends = np.cumsum(weights)
    places = np.floor(ends * (len(weights) / ends[-1]) + u).astype(np.int64)
    places[-1] = len(weights)  # rounding or u may add one
    return np.repeat(np.arange(len(weights)), np.diff(places, prepend=0))
