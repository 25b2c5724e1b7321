"""What training settings are where nobody gives them: by the data, or by the objective.

`vaefast train` and `vaefast.VAE` both ask here. `python -m benchmarks.defaults` measures what stands here anew.
"""

from __future__ import annotations

from typing import NamedTuple

from vaefast.models.settings import COUNT_LIKELIHOODS, IMPORTANCE_SAMPLES, IMPORTANCE_WEIGHTED, AdamSettings

# About so many minibatches make an epoch, of sizes between these two.
MINIBATCHES, SMALLEST_BATCH, LARGEST_BATCH = 100, 20, 200
# Training rows up to which a run has so many epochs; with more rows than the last it has EPOCHS_OF_MANY. See `usual_length`.
EPOCHS_REDRAWN = ((2_000, 200), (10_000, 100), (200_000, 30))
EPOCHS_FIXED = ((10_000, 75), (200_000, 30))
EPOCHS_OF_MANY = 10
# The share of entries that the encoder misses in training of rows of so many counts or more: see `usual_input_dropout`.
DROPPED_OF_COUNTS, WIDE_COUNTS = 0.5, 500
# Added to the root of Adam's second moments for rates of counts: see `usual_epsilon`.
EPSILON_OF_RATES = 0.01
# Early stopping waits for so many epochs, and for so many steps.
PATIENT_EPOCHS, PATIENT_STEPS = 10, 500
# Inputs up to which Adam's usual learning rate serves: see `usual_learning_rate`.
WIDEST_AT_FULL_RATE = 3000


class Length(NamedTuple):
    """How long a run is, in the two numbers that decide it."""

    batch_size: int
    epochs: int


def usual_length(rows: int, binarize: str) -> Length:
    """Batch size and epochs for so many training rows.

    The batch size makes about `MINIBATCHES` steps an epoch. The report's 200 and 30, chosen for the 60,000 images of MNIST,
    hold from 20,000 to 200,000 rows. Fewer rows need more epochs, because Adam needs some thousand steps in any case: with
    MNIST's values the 1,617 digits end at a KL divergence of 0.2 nats, a collapsed model. How many more depends on `binarize`.
    Where it is `dynamic`, pixels are drawn afresh in each epoch, and more epochs go on helping. Where rows never change, more
    epochs overfit, all the sooner the more columns there are.

    Held-out ELBO in nats after a number of epochs at the batch size that is given here (star: the number that is given here;
    one seed; `python -m benchmarks.defaults` measures it anew):

    ===================  =========  =======  =======  ========  =======  =======  ========
    data                 rows       20       50       75        100      200      250
    ===================  =========  =======  =======  ========  =======  =======  ========
    wine                 142        -21.52   -20.49   -19.88*   -19.50   -19.16   -19.48
    diabetes             354        17.66    18.51    19.09*    19.46    20.03    20.30
    breast cancer        455        10.61    18.27    21.89*    20.15    1.05     -4.35
    digits as numbers    1,438      -117.34  -106.12  -109.74*  -121.49  -151.50  -172.77
    digits, redrawn      500        -27.51   -26.06   -25.83    -25.21   -24.06*  -23.84
    digits, redrawn      1,617      -25.87   -24.18   -23.75    -23.80   -23.14*  -23.08
    ===================  =========  =======  =======  ========  =======  =======  ========

    A million rows of 10 columns have a held-out ELBO of -12.13, -12.02, -11.78, -11.82 and -11.72 nats after 1 to 5 epochs.

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


def usual_binarization(likelihood: str) -> str:
    """What becomes of numbers between 0 and 1 in training."""
    return "dynamic" if likelihood == "bernoulli" else "none"


def usual_encoder_input(likelihood: str) -> str:
    """What the encoder sees of counts: their logarithms, which tame the largest; for a multinomial, whose rows differ in their
    totals alone, counts over the row's norm (Liang et al., 2018)."""
    return {"negative-binomial": "log1p", "poisson": "log1p", "multinomial": "l2"}.get(likelihood, "none")


def usual_input_dropout(likelihood: str, columns: int) -> float:
    """The probability that the encoder misses an entry of a row in training: 0.5 of wide rows of counts (Liang et al., 2018).

    It keeps the encoder from learning the training rows by heart. Real cells gain in log p(x), and their latents tell
    the types of cells better. In narrow rows nothing else stands for what is missed. Held-out log p(x) in nats by the
    share missed (star: what is given here; one seed, with an epsilon of 1e-8; `python -m benchmarks.dropout FOLDER` measures
    it anew):

    =============  =====  =======  ========  ========  ========  ========
    data           rows   columns  0         0.1       0.3       0.5
    =============  =====  =======  ========  ========  ========  ========
    drawn          2,000  200      -429.3*   -428.9    -431.4    -436.9
    drawn          2,000  400      -612.2*   -611.8    -612.7    -614.0
    drawn          2,000  800      -962.2    -963.6    -962.1    -962.8*
    drawn          9,000  2,000    -1556.8   -1556.2   -1555.7   -1555.5*
    mouse bladder  1,890  2,000    -1516.5   -1514.6   -1510.0   -1507.1*
    =============  =====  =======  ========  ========  ========  ========
    """
    return DROPPED_OF_COUNTS if likelihood in COUNT_LIKELIHOODS and columns >= WIDE_COUNTS else 0.0


def usual_epsilon(likelihood: str, encoder_input: str) -> float:
    """What is added to the root of Adam's second moments: 0.01 where rates of counts are learned, as in scvi-tools.

    Adam divides the gradient of a weight by its root mean square. So the weights of a column that is counted in one row of a
    thousand move as far in a step as those of a column that is counted in all rows, and learn the few rows by heart. With an
    epsilon above these roots they move in proportion to their gradients, which are small. A multinomial loses: its encoder
    sees rows of length 1, whose gradients are small for frequent columns, too, and with 0.01 the latents of users are not
    used. Held-out log p(x) in nats by epsilon (star: what is given here; one seed, of bladder three;
    measured anew by `python -m benchmarks.epsilon FOLDER --movielens FILE`):

    =============  =====  =======  ========  ========  ========  ========  ========
    data           rows   columns  1e-8      1e-4      1e-3      1e-2      1e-1
    =============  =====  =======  ========  ========  ========  ========  ========
    drawn          2,000  200      -429.4    -429.7    -428.9    -428.5*   -427.3
    drawn          2,000  400      -612.0    -612.6    -612.5    -611.2*   -608.2
    drawn          2,000  800      -963.0    -962.9    -962.2    -961.0*   -958.2
    bladder        1,890  2,000    -1507.3   -1507.2   -1506.3   -1505.7*  -1510.7
    worm           1,890  11,955   -1055.9   -1039.1   -1016.4   -994.0*   -1022.7
    users          788    1,447    -164.1    -164.0    -162.9    -164.5*   -174.3
    =============  =====  =======  ========  ========  ========  ========  ========
    """
    rates = likelihood in ("negative-binomial", "poisson") and encoder_input != "l2"
    return EPSILON_OF_RATES if rates else AdamSettings.epsilon


def usual_patience(epoch_steps: int) -> int:
    """Epochs without an improvement after which early stopping ends a training with so many steps an epoch.

    A network whose latents tell nothing yet may stand still for a few hundred steps before they do. Ten epochs are fewer than
    that where minibatches are large beside the table.
    """
    return max(PATIENT_EPOCHS, -(-PATIENT_STEPS // epoch_steps))
