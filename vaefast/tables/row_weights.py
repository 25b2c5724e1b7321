"""What rows count for in training: copies where weights are whole numbers, a share of the minibatches where they are not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaefast.models import noise
from vaefast.models.noise import Purpose

# Whole numbers are numbers of copies as long as these make the table at most so many times as long.
LARGEST_GROWTH = 10


def copies(weights: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """The numbers of copies, (N,), that weights of whole numbers stand for; None where they stand for shares."""
    if weights.sum() > LARGEST_GROWTH * len(weights) or not (weights == np.floor(weights)).all():
        return None
    return weights.astype(np.int64)


def weighted_rows(weights: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """The rows of one epoch, int64 (N,) in ascending order: row i stands there w_i times, rounded up or down at random.

    Systematic resampling (Kitagawa, 1996): one uniform number u an epoch, and row i for each whole number between the running
    sums of the weights before and after it, both shifted by u, the weights being brought to a mean of 1. Each row has w_i
    places in the mean, and so the gradient of an epoch is that of the weighted loss in the mean.
    """
    u = float(noise.uniforms(noise.words(seed, Purpose.EXAMPLE_ORDER, epoch, [0xFFFFFFFF], 1))[0, 0])
    ends = np.cumsum(weights)
    places = np.floor(ends * (len(weights) / ends[-1]) + u).astype(np.int64)
    places[-1] = len(weights)  # what rounding or u would add
    return np.repeat(np.arange(len(weights)), np.diff(places, prepend=0))
