"""The report's four figures of a trained model: which images go through which network, with which noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data import Dataset
from vaefast.data.wording import shown as printable
from vaefast.engines.contract import Engine
from vaefast.models import noise
from vaefast.models.grey_levels import grey_levels, on_from_half
from vaefast.models.likelihoods import expectation
from vaefast.models.settings import ModelSettings
from vaefast.plots.elbo_curve import draw_elbo_curve
from vaefast.plots.interpolations import draw_interpolations
from vaefast.plots.prior_samples import draw_prior_samples
from vaefast.plots.reconstructions import draw_reconstructions
from vaefast.plots.sheet import missing_letters, save
from vaefast.training.trainer import EpochMetrics

PRIOR_SAMPLES = 25
RECONSTRUCTIONS = 10
INTERPOLATIONS = 5
INTERPOLATION_STEPS = 11
# Images across the plane of two latents, and at most so many points in a scatter.
MANIFOLD_SIDE = 20
SCATTERED = 10_000


def draw(
    engine: Engine,
    data: Dataset,
    metrics: Sequence[EpochMetrics],
    *,
    model: ModelSettings,
    binarize: str,
    seed: int,
    folder: Path,
) -> None:
    """Write `prior_samples.png`, `reconstructions.png`, `interpolations.png` and `elbo.png` into `folder`.

    Two test images are needed for an interpolation, and one epoch for a curve.
    """
    shown = as_seen(data.test.values[: max(RECONSTRUCTIONS, 2 * INTERPOLATIONS)], binarize)
    with missing_letters():
        for name, figure in _figures(engine, data, shown, metrics, model, seed):
            save(figure, folder / f"{name}.png")


def names(data: Dataset, metrics: Sequence[EpochMetrics]) -> list[str]:
    """The files that `draw` writes."""
    drawn = ["prior_samples", "reconstructions"]
    drawn += ["interpolations"] if len(data.test) >= 2 else []
    drawn += ["elbo"] if metrics else []
    return [f"{name}.png" for name in drawn]


def _figures(
    engine: Engine, data: Dataset, shown: NDArray[Any], metrics: Sequence[EpochMetrics], model: ModelSettings, seed: int
) -> Iterator[tuple[str, Any]]:
    """Each figure with its name, drawn when it is asked for."""
    shape, data_name, kind = data.test.shape, printable(data.name), model.likelihood
    samples = prior_samples(engine, model.latent, seed, likelihood=kind)
    yield "prior_samples", draw_prior_samples(samples, shape, data_name=data_name)
    first = shown[:RECONSTRUCTIONS]
    yield "reconstructions", draw_reconstructions(first, reconstruct(engine, first, kind), shape, data_name=data_name)
    pairs = min(INTERPOLATIONS, len(shown) // 2)
    if pairs:
        left, right = shown[0 : 2 * pairs : 2], shown[1 : 2 * pairs : 2]
        paths = interpolate(engine, left, right, INTERPOLATION_STEPS, kind)
        yield "interpolations", draw_interpolations(paths, left, right, shape, data_name=data_name)
    if metrics:
        epochs, train, test = zip(*((m.epoch, m.train_elbo, m.test_elbo) for m in metrics), strict=True)
        yield "elbo", draw_elbo_curve(epochs, train, test, data_name=data_name)


def as_seen(values: NDArray[Any], binarize: str) -> NDArray[np.float32]:
    """Images as a model trained with this binarisation takes them without noise: on from one half, unless `none`."""
    levels = grey_levels(values)
    return levels if binarize == "none" else on_from_half(levels)


def prior_samples(
    engine: Engine, latent: int, seed: int, count: int = PRIOR_SAMPLES, likelihood: str = "bernoulli"
) -> NDArray[np.float32]:
    """Activation probabilities p(x | z), (count, X), of z ~ N(0, I), not binarised (the report's task 3.1)."""
    z = noise.normals(seed, noise.Purpose.PRIOR_SAMPLES, 0, np.arange(count), latent)
    return _probabilities(engine, z, likelihood)


def reconstruct(engine: Engine, x: NDArray[Any], likelihood: str = "bernoulli") -> NDArray[np.float32]:
    """Activation probabilities, (n, X), at the posterior means of x, (n, X) (the report's task 3.2)."""
    return _probabilities(engine, engine.encode(x)[0], likelihood)


def interpolate(
    engine: Engine, left: NDArray[Any], right: NDArray[Any], steps: int, likelihood: str = "bernoulli"
) -> NDArray[np.float32]:
    """Activation probabilities, (n, steps, X), on the straight lines from the posterior means of left, (n, X), to those of
    right, (n, X), both ends included (the report's task 3.3)."""
    start, end = engine.encode(left)[0], engine.encode(right)[0]
    weight = np.linspace(0.0, 1.0, steps, dtype=np.float32)[None, :, None]
    z = (1 - weight) * start[:, None, :] + weight * end[:, None, :]
    return _probabilities(engine, z.reshape(-1, z.shape[-1]), likelihood).reshape(len(left), steps, -1)


def latent_plane(mean: NDArray[Any], log_std: NDArray[Any]) -> tuple[NDArray[np.float64], tuple[str, str]]:
    """Images as points of a plane, (N, 2), and what its axes are, from their posteriors, (N, Z) each.

    Two latents are the plane themselves. More are projected on the two principal components of the posterior means; a single
    one is drawn beside its standard deviation.
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


def manifold(engine: Engine, likelihood: str, side: int = MANIFOLD_SIDE) -> NDArray[np.float32]:
    """What the decoder makes of a grid of two latents, (side, side, X), the second falling with the first index.

    The points are the quantiles (i + 0.5) / side of the prior, as in figure 4 of Kingma & Welling (2014).
    """
    quantiles = [NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)]
    z = np.array([(z1, z2) for z2 in reversed(quantiles) for z1 in quantiles])
    return _probabilities(engine, z, likelihood).reshape(side, side, -1)


def _probabilities(engine: Engine, z: NDArray[Any], likelihood: str) -> NDArray[np.float32]:
    """The mean of p(x | z), which for pixels that are 0 or 1 is a probability; a Gaussian's may leave [0, 1], paper cannot."""
    return np.clip(expectation(likelihood, engine.decode(z)), 0, 1).astype(np.float32)
