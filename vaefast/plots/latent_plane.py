"""Posterior means as points of a plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# At most this many points in a scatter plot.
SCATTERED = 10_000


def latent_plane(mean: NDArray[Any], log_std: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Examples as points of a plane, (N, 2), and the names of its axes, from their posteriors, (N, Z) each.

    Two latents are the axes of the plane. More latents are projected on the two principal components of the posterior means.
    A single latent is drawn against its standard deviation.
    """
    mean = mean.astype(np.float64)
    if mean.shape[1] == 1:
        return np.hstack((mean, np.exp(log_std.astype(np.float64)))), ("posterior mean", "posterior standard deviation")
    if mean.shape[1] == 2:
        return mean, ("posterior mean of latent 0", "posterior mean of latent 1")
    centred = mean - mean.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(mean))  # ascending
    chosen = directions[:, :-3:-1]
    # The sign of a component is arbitrary: its largest entry is made positive.
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), [0, 1]])
    shares = 100 * variances[:-3:-1] / max(variances.sum(), np.finfo(np.float64).tiny)
    first, second = (f"principal component {i + 1} of the means ({shares[i]:.0f} % of their variance)" for i in range(2))
    return centred @ chosen, (first, second)
