"""Table 1 of Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders* (2015), for one stochastic layer on MNIST: the
published values, and how each row is trained here.

The paper and its authors' code differ, and `VARIANTS` has both:

    paper   Adam with beta1 0.9 from moments of 0; in stage i, counted from 0, the learning rate is 0.001 * 10^(-i/7)
    code    beta1 0.99; second moments that begin at 1 for the gradient summed over the minibatch, so that the first epochs
            take smaller steps; 0.0001 times 10^(1 - i/7) rounded to one decimal; the KL divergence from the samples

Both add epsilon = 1e-4 to the root of the second moments of a gradient that is summed over the 20 images of a minibatch;
ours is their mean, 1/20 of it, and Adam's step is the same where epsilon is 1/20, too, and the second moments begin at
1/20^2. The code multiplies the step by sqrt(1 - beta2^t) where Adam's algorithm 1 divides the second moments, so that its
epsilon counts for 1 / sqrt(1 - beta2^t) as much: 32 times at the first step, where its second moments near 1 outweigh it
all the same, and 2.6 % more after an epoch of 3000 steps.

What differs from both: they trained on 59,600 images, keeping 400, and the code takes them in the same order in each epoch,
where here all 60,000 are in a new random order; the test images are drawn black or white once, by our own seed. The code
counts active units on 500 training images, here it is done on the test set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vaefast.training.schedules import stage_end

STAGES = 8
BATCH = 20
LEARNING_RATE, EPSILON = 1e-3, 1e-4
VARIANTS = ("paper", "code")


class Row(NamedTuple):
    """One cell of the table: `samples` k of the objective, negative log-likelihood in nats and active units as published."""

    objective: str
    samples: int
    nll: float
    active_units: int


ROWS = {
    "vae-1": Row("elbo", 1, 86.76, 19),
    "vae-5": Row("elbo", 5, 86.47, 20),
    "vae-50": Row("elbo", 50, 86.35, 20),
    "iwae-5": Row("iwae", 5, 85.54, 22),
    "iwae-50": Row("iwae", 50, 84.78, 25),
}


def settings(row: Row, variant: str, beta1: float | None = None, kl: str | None = None) -> dict[str, Any]:
    """How a row is trained, by the names of the flags of `vaefast train`, but for the number of epochs.

    Parameters
    ----------
    variant
        One of `VARIANTS`.
    beta1, kl
        Instead of the variant's.
    """
    code = variant == "code"
    chosen: dict[str, Any] = {
        "hidden": [200, 200],
        "latent": 50,
        "activation": "tanh",
        "likelihood": "bernoulli",
        "binarize": "dynamic",
        "init": "data-mean",
        "batch_size": BATCH,
        "objective": row.objective,
        "samples": row.samples,
        "learning_rate": LEARNING_RATE,
        "beta1": beta1 if beta1 is not None else 0.99 if code else 0.9,
        "beta2": 0.999,
        "epsilon": EPSILON / BATCH,
        "initial_second_moments": 1 / BATCH**2 if code else 0.0,
    }
    if row.objective == "elbo":
        chosen["kl"] = kl or ("sampled" if code else "closed")
    if code:
        return {**chosen, "learning_rate_schedule": "steps", "learning_rate_steps": _rounded_steps()}
    return {**chosen, "learning_rate_schedule": "staged"}


def _rounded_steps() -> list[list[int | float]]:
    """The factors of the code's stages: 0.72, 0.52, 0.37, ..."""
    return [[stage_end(i - 1), round(10.0 ** (1 - i / 7), 1) / 10] for i in range(1, STAGES)]
