"""The figures of a trained model: which images go through which network, with which noise; of tables: `table_figures.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.wording import shown as printable
from vaefast.engines.contract import Engine
from vaefast.inputs import ScoredData
from vaefast.models import noise
from vaefast.models.grey_levels import grey_levels, on_from_half
from vaefast.models.likelihoods import expectation
from vaefast.models.settings import ModelSettings
from vaefast.plots.elbo_curve import draw_elbo_curve
from vaefast.plots.interpolations import draw_interpolations
from vaefast.plots.prior_samples import draw_prior_samples
from vaefast.plots.reconstructions import draw_reconstructions
from vaefast.plots.sheet import missing_letters, save
from vaefast.plots.table_figures import NAMES as TABLE_FIGURES
from vaefast.plots.table_figures import of_table
from vaefast.training.trainer import EpochMetrics

PRIOR_SAMPLES = 25
RECONSTRUCTIONS = 10
INTERPOLATIONS = 5
INTERPOLATION_STEPS = 11
# Images across the plane of two latents.
MANIFOLD_SIDE = 20


def draw(
    engine: Engine,
    data: ScoredData,
    metrics: Sequence[EpochMetrics],
    *,
    model: ModelSettings,
    binarize: str,
    seed: int,
    folder: Path,
) -> None:
    """Write the figures of a model into `folder`, under `names(data, metrics)`.

    Of pictures these are samples from the prior, reconstructions and interpolations, of a table its columns, pairs of them and
    its rows in latent space; of both the curve of the bound.
    """
    drawn = (
        _figures(engine, data, model, binarize, seed) if data.is_pictures else of_table(engine, data, model, binarize, seed)
    )
    with missing_letters():
        for name, figure in drawn:
            save(figure, folder / f"{name}.png")
        if metrics:
            epochs, train, test = zip(*((m.epoch, m.train_elbo, m.test_elbo) for m in metrics), strict=True)
            figure = draw_elbo_curve(epochs, train, test, data_name=printable(data.name), unit=data.unit)
            save(figure, folder / "elbo.png")


def names(data: ScoredData, metrics: Sequence[EpochMetrics]) -> list[str]:
    """The files that `draw` writes: two images are needed for an interpolation, and one epoch for a curve."""
    if data.is_pictures:
        drawn = ["prior_samples", "reconstructions"]
        drawn += ["interpolations"] if len(data.drawn) >= 2 else []
    else:
        drawn = [*TABLE_FIGURES]
    drawn += ["elbo"] if metrics else []
    return [f"{name}.png" for name in drawn]


def _figures(engine: Engine, data: ScoredData, model: ModelSettings, binarize: str, seed: int) -> Iterator[tuple[str, Any]]:
    """Each figure of pictures with its name, drawn when it is asked for."""
    shown = as_seen(data.drawn.values[: max(RECONSTRUCTIONS, 2 * INTERPOLATIONS)], binarize)
    assert data.shape is not None
    shape, data_name, kind = data.shape, printable(data.name), model.likelihood
    samples = prior_samples(engine, model.latent, seed, likelihood=kind)
    yield "prior_samples", draw_prior_samples(samples, shape, data_name=data_name)
    first = shown[:RECONSTRUCTIONS]
    yield "reconstructions", draw_reconstructions(first, reconstruct(engine, first, kind), shape, data_name=data_name)
    pairs = min(INTERPOLATIONS, len(shown) // 2)
    if pairs:
        left, right = shown[0 : 2 * pairs : 2], shown[1 : 2 * pairs : 2]
        paths = interpolate(engine, left, right, INTERPOLATION_STEPS, kind)
        yield "interpolations", draw_interpolations(paths, left, right, shape, data_name=data_name)


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
