"""The objectives and the weight of each sample in their gradients: the specification, in plain NumPy of any dtype.

Dimensions: B minibatch, k samples of the latents an image, Z latents. The k samples of an image lie together: a matrix of
(B k, Z) holds those of image 0 first. A number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.models.settings import LOG_STD_BOUNDS, ObjectiveSettings

Array = NDArray[np.floating]


class Credit(NamedTuple):
    """The weights with which terms and samples enter the gradient of an objective."""

    samples: Array  # (B, k): factor of the gradient of log p(x | z) of each sample; the k of an image add up to 1
    kl_weights: Array | None  # (Z,): factor of each latent's closed KL; None where log p(z) - log q(z | x) is differentiated
    doubly: bool  # DReG: the encoder's gradient has the factor once more, and none of log q's own parameters


def bounded(log_std: Array) -> Array:
    """The log standard deviation of the posterior that is sampled, in the shape of what the encoder says (43)."""
    return np.clip(log_std, *LOG_STD_BOUNDS)


def log_weights(log_likelihood: Array, z: Array, log_std: Array, standard_normals: Array) -> Array:
    """log w = log p(x | z) + log p(z) - log q(z | x) of each sample in nats, (B, k) (30).

    log_likelihood is (B, k), z and the noise (B k, Z), log_std (B, Z). Source: Burda, Grosse & Salakhutdinov (2015), eq. 8.
    """
    samples = log_likelihood.shape[1]
    ratio = 0.5 * (standard_normals**2 - z**2) + np.repeat(bounded(log_std), samples, axis=0)
    return log_likelihood + ratio.sum(axis=1).reshape(log_likelihood.shape)


def log_mean_exp(values: Array) -> Array:
    """The logarithm of the mean of exp(values) over the last axis, without overflow; of log weights the IWAE bound (31)."""
    largest = values.max(axis=-1, keepdims=True)
    return largest[..., 0] + np.log(np.mean(np.exp(values - largest), axis=-1))


def normalised_weights(log_w: Array) -> Array:
    """Each weight over the sum of its image's k weights, (B, k) (32)."""
    w = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    return w / w.sum(axis=1, keepdims=True)


def latent_kl(mean: Array, log_std: Array) -> Array:
    """KL(q(z | x), N(0, I)) of each latent in nats, (B, Z): the summands of (4), and beyond the bounds (44)."""
    c = bounded(log_std)
    variance = np.exp(2 * c)
    return 0.5 * (variance + mean**2 - 1 - 2 * c + 2 * (log_std - c) * (variance - 1))


def value_and_credit(
    objective: ObjectiveSettings,
    kl_weight: float,
    log_likelihood: Array,
    mean: Array,
    log_std: Array,
    z: Array,
    standard_normals: Array,
) -> tuple[Array, Credit]:
    """The objective of each image in nats, (B,), and the weights of its gradient.

    log_likelihood is log p(x | z) of each sample, (B, k); mean and log_std are (B, Z), z and the noise (B k, Z).
    """
    equal = np.full_like(log_likelihood, 1 / log_likelihood.shape[1])
    average, kl = log_likelihood.mean(axis=1), latent_kl(mean, log_std)
    if objective.importance_weighted:
        log_w = log_weights(log_likelihood, z, log_std, standard_normals)
        return log_mean_exp(log_w), Credit(normalised_weights(log_w), None, objective.name == "dreg")  # (31), (32)
    if objective.kl == "sampled":
        return log_weights(log_likelihood, z, log_std, standard_normals).mean(axis=1), Credit(equal, None, False)  # (30)
    if objective.name == "free-bits":
        mean_kl = kl.mean(axis=0)  # (Z,)
        paid = mean_kl > objective.free_nats
        floor = np.maximum(mean_kl, objective.free_nats).sum()  #                                            (29)
        return average - floor, Credit(equal, paid.astype(mean.dtype), False)
    weights = np.full(mean.shape[1], kl_weight, mean.dtype)
    return average - kl_weight * kl.sum(axis=1), Credit(equal, weights, False)  #                            (27), (28)
