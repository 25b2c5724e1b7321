"""What training settings are where nobody gives them: by the data, or by the objective.

`vaefast train` and `vaefast.VAE` both ask here. `python -m benchmarks.defaults` measures what stands here anew.
"""

from __future__ import annotations

from typing import NamedTuple

from vaefast.models.settings import IMPORTANCE_SAMPLES, IMPORTANCE_WEIGHTED, AdamSettings

# About so many minibatches make an epoch, of sizes between these two.
MINIBATCHES, SMALLEST_BATCH, LARGEST_BATCH = 100, 20, 200
# Training rows up to which a run has so many epochs; with more rows than the last it has EPOCHS_OF_MANY. See `usual_length`.
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
    """Batch size and epochs for so many training rows.

        The batch size makes about `MINIBATCHES` steps an epoch. The report's 200 images and 30 epochs, chosen for the 60,000 of
        MNIST, hold from 20,000 to 200,000 rows. Fewer rows need more epochs, for Adam needs some thousand steps in any case: the
        digits end at a KL divergence of 0.2 nats, a collapsed model, with MNIST's values. How many more depends on `binarize`.
        Where it is `dynamic`, pixels are drawn afresh in each epoch and hardly a model overfits; where rows never change, one
        of many columns does.

        Held-out ELBO in nats with the batch size that is given here, after a number of epochs (star: what is given here), as
        `python -m benchmarks.defaults` measures it:

        ===========================  ======  =======  =======  ========  ========  =======
        data                         rows    20       50       100       200       250
        ===========================  ======  =======  =======  ========  ========  =======
    @@@
        ===========================  ======  =======  =======  ========  ========  =======

        Parameters
        ----------
        rows
            Training rows, held-out ones included.
        binarize
            As in `TrainingSettings`.
    """
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
