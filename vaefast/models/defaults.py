"""What training settings are where nobody gives them: by the data, or by the objective.

`vaefast train` and `vaefast.VAE` both ask here. `python -m benchmarks.defaults` measures what stands here anew.
"""

from __future__ import annotations

from typing import NamedTuple

from vaefast.models.settings import IMPORTANCE_SAMPLES, IMPORTANCE_WEIGHTED, AdamSettings

# About so many minibatches make an epoch, of sizes between these two.
MINIBATCHES, SMALLEST_BATCH, LARGEST_BATCH = 100, 20, 200
# Training rows up to which so many epochs are trained; more rows than any of these take `EPOCHS_OF_MANY`. See `usual_length`.
EPOCHS_REDRAWN = ((2_000, 250), (10_000, 100), (200_000, 30))
EPOCHS_FIXED = ((10_000, 100), (200_000, 30))
EPOCHS_OF_MANY = 10
# Inputs up to which Adam's usual learning rate serves: see `usual_learning_rate`.
WIDEST_AT_FULL_RATE = 3000


class Length(NamedTuple):
    """How long a run is, in the two numbers that decide it."""

    batch_size: int
    epochs: int


def usual_length(rows: int, binarize: str) -> Length:
    """Batch size and epochs for so many training rows."""
    batch_size = min(LARGEST_BATCH, max(SMALLEST_BATCH, rows // MINIBATCHES))
    table = EPOCHS_REDRAWN if binarize == "dynamic" else EPOCHS_FIXED
    return Length(batch_size, next((epochs for most, epochs in table if rows <= most), EPOCHS_OF_MANY))


def usual_learning_rate(columns: int) -> float:
    """Adam's step size for inputs of this width.

    A step of Adam moves every weight by about the learning rate, most of them the same way at first, and a unit of the first
    layer adds up as many weights as there are inputs: with 20,000 of them 0.001 throws it off by tens in one step. So the rate
    falls as one over the width from `WIDEST_AT_FULL_RATE` on.
    """
    return AdamSettings.learning_rate * min(1.0, WIDEST_AT_FULL_RATE / columns)


def usual_samples(objective: str) -> int:
    """Samples of an objective that does not say how many."""
    return IMPORTANCE_SAMPLES if objective in IMPORTANCE_WEIGHTED else 1
