"""What an engine for the CPU keeps of an objective: its kind, memory for the weights of samples, and the terms of examples.

k samples of the latents an image, Z latents, padded to panels. A number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms
from vaefast.engines.objectives import log_mean_exp
from vaefast.engines.plan import Plan
from vaefast.models.layout import PANEL
from vaefast.models.settings import ObjectiveSettings

# What the samples of an image count for in the gradient of a `Weighted` objective.
SAMPLED, IWAE, DREG = 0, 1, 2
WEIGHTINGS = {"iwae": IWAE, "dreg": DREG}
# A sample that counts for less adds nothing that float32 could show, and one over its weight would lose all digits.
SMALLEST_WEIGHT = 1e-12


class Averaged(NamedTuple):
    """The samples have equal weights, and the KL divergence is in closed form: `elbo` and `beta`."""

    samples: int


class FreeBits(NamedTuple):
    """The same, but each latent's KL divergence, averaged over the minibatch, counts for at least so many nats."""

    samples: int
    free_nats: float
    kl: NDArray[np.float32]  # (rows * padded Z,): of each image and latent


class Weighted(NamedTuple):
    """log p(z) - log q(z | x) is taken from the samples, which count alike or by their importance."""

    samples: int
    weighting: int
    weights: NDArray[np.float32]  # (rows * k,)
    inverses: NDArray[np.float32]  # (rows * k,): one over them, and zero for a weight that is next to nothing


class Terms(NamedTuple):
    """The terms of the examples of a call, in nats, float64."""

    log_likelihood: NDArray[np.float64]  # (2, n k): the halves of the pixels apart
    kl: NDArray[np.float64]  # (n,), in closed form
    ratio: NDArray[np.float64]  # (n k,): log p(z) - log q(z | x), where it is weighted; else empty
    floor: NDArray[np.float64]  # (steps,): what free bits make of the KL divergence; else empty


def objective_of(settings: ObjectiveSettings, plan: Plan) -> Averaged | FreeBits | Weighted:
    """The type that stands for an objective, with the memory that it needs."""
    rows = plan.rows * settings.samples
    if settings.importance_weighted or settings.kl == "sampled":
        weights = np.full(rows, 1 / settings.samples, np.float32)
        return Weighted(settings.samples, WEIGHTINGS.get(settings.name, SAMPLED), weights, np.ones(rows, np.float32))
    if settings.name == "free-bits":
        kl = np.zeros(plan.rows * plan.latent_panels * PANEL, np.float32)
        return FreeBits(settings.samples, float(settings.free_nats), kl)
    return Averaged(settings.samples)


def make_terms(objective: Averaged | FreeBits | Weighted, examples: int, steps: int) -> Terms:
    """Memory for the terms of a call."""
    samples = examples * objective.samples
    return Terms(
        log_likelihood=np.empty((2, samples)),
        kl=np.empty(examples),
        ratio=np.empty(samples if isinstance(objective, Weighted) else 0),
        floor=np.empty(steps if isinstance(objective, FreeBits) else 0),
    )


def bound_terms(
    objective: Averaged | FreeBits | Weighted, terms: Terms, kl_weights: NDArray[np.float64], batch_size: int
) -> BoundTerms:
    """The bound terms of the examples of a call, (n,), in minibatches whose KL had these weights, (steps,)."""
    log_p = terms.log_likelihood.sum(axis=0).reshape(-1, objective.samples)  # (n, k)
    average = log_p.mean(axis=1)
    if isinstance(objective, Weighted):
        log_w = log_p + terms.ratio.reshape(log_p.shape)
        value = log_w.mean(axis=1) if objective.weighting == SAMPLED else log_mean_exp(log_w).astype(np.float64)
    elif isinstance(objective, FreeBits):
        value = average - np.repeat(terms.floor, batch_size)[: len(average)]
    else:
        value = average - np.repeat(kl_weights, batch_size)[: len(average)] * terms.kl
    return BoundTerms(average, terms.kl, value)
