"""How good a trained model is on images it has not seen: bounds, log p(x) by importance sampling, and what its latents do.

Images are taken a block at a time, so the memory does not grow with their number; no result depends on the blocks, because the
noise of an image goes by its content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast import engines
from vaefast.engines import in_float64
from vaefast.engines.as_drawn import drawn
from vaefast.engines.contract import State
from vaefast.engines.in_float64 import ExactRows
from vaefast.engines.objectives import latent_kl
from vaefast.errors import DataError
from vaefast.files.model_file import SavedModel
from vaefast.inference.network import Network
from vaefast.models.count_rows import keys_of
from vaefast.models.settings import REAL_LIKELIHOODS, TrainingSettings

# Images in one block.
BLOCK = 1000
# A latent is active where the variance over images of its posterior mean is larger (Burda et al. 2015, section 5).
ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True)
class Assessment:
    """Of N images; everything in nats an image, means over the images unless it says otherwise.

    Parameters
    ----------
    elbo, log_likelihood, kl
        The one-sample evidence lower bound, as in training, and its two terms.
    log_p
        log p(x) from `samples` samples of q(z | x); in expectation below the truth.
    standard_error
        Of `log_p` as an estimate for all images of this kind: the spread over images / sqrt(N).
    monte_carlo_error
        Of `log_p` for these very images: what other samples would change. To first order, from the effective sample sizes.
    effective_samples_median, effective_samples_smallest
        (sum of weights)^2 / sum of squared weights, over images.
    collapsed
        Share of images whose effective sample size is below `FEW_EFFECTIVE`.
    latent_kl
        KL(q(z | x), p(z)) of each latent.
    mean_variances
        Variance over images of each latent's posterior mean.
    """

    images: int
    samples: int
    elbo: float
    log_likelihood: float
    kl: float
    log_p: float
    standard_error: float
    monte_carlo_error: float
    effective_samples_median: float
    effective_samples_smallest: float
    collapsed: float
    latent_kl: list[float]
    mean_variances: list[float]

    @property
    def active_units(self) -> int:
        """How many latents vary with the image."""
        return sum(variance > ACTIVE_VARIANCE for variance in self.mean_variances)


# Below so many effective samples one draw decides the estimate of an image.
FEW_EFFECTIVE = 2.0


def network(saved: SavedModel, engine: str, threads: int) -> Network:
    """A saved model on an engine; `auto` is the fastest that has a kernel for importance sampling.

    What it was trained by is left behind: every engine can evaluate a model of any objective. Its precision stays if that is
    bf16; tf32, which only a GPU has, becomes float32.

    Raises
    ------
    SettingsError
        There is no such engine, it cannot run here, or the settings of the model are none.
    """
    about = saved.training
    known = {name: about[name] for name in ("binarize", "seed") if name in about}
    precision = about.get("precision", "float32")
    training = TrainingSettings(**known, precision="float32" if precision == "tf32" else precision)
    name = engines.choose(engine, engines.needs(saved.model, training))
    return Network(saved.model, training, name, threads, State.initial(saved.parameters))


def assess(
    model: Network,
    values: NDArray[np.generic],
    samples: int,
    on_progress: Callable[[int], None] = lambda images: None,
    *,
    exact_rows: ExactRows | None = None,
    log_volume: NDArray[np.float64] | float = 0.0,
) -> Assessment:
    """Evaluate a model on values, (N, X), with so many samples an image for log p(x).

    Parameters
    ----------
    on_progress
        Called with the number of images that are done.
    exact_rows
        From numbers of images to their values in float64, where some may be past what float32 holds.
    log_volume
        What to take from a log-density of the values, in nats, for that of the data as given: of all images, or of each, (N,).

    Raises
    ------
    DataError
        An estimate is not a finite number.
    """
    terms: list[NDArray[np.float64]] = []  # (5, B) of each block
    keys: list[NDArray[np.int64]] = []
    moments = _Moments(model.model.latent)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        with model.quiet():
            keys.append(keys_of(block))
            terms.append(_terms(model, block, keys[-1], samples, moments, _from(exact_rows, start)))
        bad = ~np.isfinite(terms[-1]).all(axis=0)
        if bad.any():
            raise DataError(
                f"the bound or log p(x) of image {start + int(np.argmax(bad)) + 1} is not a finite number: the image lies too "
                "far from what this model was trained on"
            )
        on_progress(min(start + BLOCK, len(values)))
    densities = np.array([1.0, 1.0, 0.0, 1.0, 0.0])  # of ELBO, log-likelihood and log p(x)
    return _summary(np.concatenate(terms, axis=1) - densities[:, None] * log_volume, np.concatenate(keys), moments, samples)


def _from(exact_rows: ExactRows | None, start: int) -> ExactRows | None:
    """The same for rows that are counted from `start` on."""
    return None if exact_rows is None else lambda rows: exact_rows(rows + start)


def _terms(
    model: Network,
    block: Any,
    keys: NDArray[np.int64],
    samples: int,
    moments: _Moments,
    exact_rows: ExactRows | None,
) -> NDArray[np.float64]:
    """ELBO, its two terms, log p(x) and the effective sample size of each image of a block, (5, B)."""
    engine = model.engine
    placed = engine.place(block)
    if exact_rows is None:
        bounds, importance = engine.evaluate(placed, keys), engine.importance_sample(placed, samples, keys)
    else:
        about = engine, model.model, model.training, placed
        bounds = in_float64.evaluate(*about, keys, exact_rows)
        importance = in_float64.importance_sample(*about, samples, keys, exact_rows)
    if exact_rows is not None and model.model.likelihood in (*REAL_LIKELIHOODS, "mixed"):
        moments.add(*model.posterior(block, exact_rows))
    else:
        moments.add(*engine.encode(block if model.model.counts else drawn(block, model.training, keys)))
    return np.stack((bounds.elbo, bounds.log_likelihood, bounds.kl, *importance))


def _summary(terms: NDArray[np.float64], keys: NDArray[np.int64], moments: _Moments, samples: int) -> Assessment:
    elbo, log_likelihood, kl, log_p, effective = terms
    images = len(elbo)
    # The variance of log(mean of weights) to first order: the squared coefficient of variation of the mean.
    variances = np.maximum(1 / effective - 1 / samples, 0)
    # Equal images have the same noise, so their errors add up; those of different ones are independent.
    errors = np.bincount(np.unique(keys, return_inverse=True)[1].reshape(-1), np.sqrt(variances))
    return Assessment(
        images=images,
        samples=samples,
        elbo=float(elbo.mean()),
        log_likelihood=float(log_likelihood.mean()),
        kl=float(kl.mean()),
        log_p=float(log_p.mean()),
        standard_error=float(log_p.std(ddof=1) / np.sqrt(images)) if images > 1 else 0.0,
        monte_carlo_error=float(np.sqrt(np.square(errors).sum()) / images),
        effective_samples_median=float(np.median(effective)),
        effective_samples_smallest=float(effective.min()),
        collapsed=float(np.mean(effective < FEW_EFFECTIVE)) if samples > 1 else 0.0,
        latent_kl=[float(value) for value in moments.kl / images],
        mean_variances=[float(value) for value in moments.squares / images],
    )


class _Moments:
    """Sums over images of each latent's KL and of the squared deviations of its posterior mean from their average.

    Blocks are joined by the formula of Chan, Golub & LeVeque (1979), which loses no digits where the mean is large.
    """

    def __init__(self, latent: int) -> None:
        self.count, self.average = 0, np.zeros(latent)
        self.squares, self.kl = np.zeros(latent), np.zeros(latent)

    def add(self, mean: NDArray[np.floating], log_std: NDArray[np.floating]) -> None:
        """Another block; both (B, Z)."""
        mean, log_std = mean.astype(np.float64), log_std.astype(np.float64)
        count, average = len(mean), mean.mean(axis=0)
        total, difference = self.count + count, average - self.average
        self.squares += ((mean - average) ** 2).sum(axis=0) + difference**2 * (self.count * count / total)
        self.average = self.average + difference * (count / total)
        self.count = total
        self.kl += latent_kl(mean, log_std).sum(axis=0)
