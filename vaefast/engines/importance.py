"""log p(x) by importance sampling with the networks of any engine. Engines without a kernel for it use this."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import Engine, ImportanceTerms
from vaefast.engines.reference import log_likelihood
from vaefast.models import noise
from vaefast.models.grey_levels import grey_levels, on_from_half
from vaefast.models.noise import Purpose
from vaefast.models.settings import ModelSettings, TrainingSettings

# Images whose samples are decoded in one call. This bounds the memory and changes no result.
ROWS = 1024


def importance_sample(
    engine: Engine,
    model: ModelSettings,
    training: TrainingSettings,
    values: NDArray[Any],
    samples: int,
    examples: NDArray[np.int64] | None,
) -> ImportanceTerms:
    """The engine's `importance_sample` of values, (N, X), sample after sample with running sums."""
    numbers = np.arange(len(values)) if examples is None else examples
    result = ImportanceTerms(np.empty(len(values)), np.empty(len(values)))
    for start in range(0, len(values), ROWS):
        rows = slice(start, start + ROWS)
        block = _block(engine, model, training, drawn(values[rows], training, numbers[rows]), numbers[rows], samples)
        for whole, part in zip(result, block, strict=True):
            whole[rows] = part
    return result


def _block(
    engine: Engine,
    model: ModelSettings,
    training: TrainingSettings,
    x: NDArray[np.float32],
    numbers: NDArray[np.int64],
    samples: int,
) -> ImportanceTerms:
    """The mean of p(x | z) p(z) / q(z | x) over z ~ q(z | x) (26), its sums kept relative to the largest term so far."""
    mean, log_std = (head.astype(np.float64) for head in engine.encode(x))
    parameters = engine.layout.views(engine.state().parameters)
    exact, largest = x.astype(np.float64), np.full(len(x), -np.inf)
    total, squares = np.zeros(len(x)), np.zeros(len(x))
    for sample in range(samples):
        epsilon = noise.normals(training.seed, Purpose.IMPORTANCE_SAMPLES, sample, numbers, model.latent)
        z = mean + np.exp(log_std) * epsilon
        # log p(z) - log q(z | x): the normalising constants cancel
        log_w = np.sum(0.5 * (epsilon**2 - z**2) + log_std, axis=1)
        log_w += log_likelihood(parameters, exact, engine.decode(z).astype(np.float64), model.likelihood)
        higher = np.maximum(largest, log_w)
        shrink, w = np.exp(largest - higher), np.exp(log_w - higher)
        total, squares, largest = total * shrink + w, squares * shrink**2 + w**2, higher
    return ImportanceTerms(largest + np.log(total / samples), total**2 / squares)


def drawn(values: NDArray[Any], training: TrainingSettings, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows as in evaluation, (N, X): pixels are drawn as for the ELBO."""
    if training.binarize == "dynamic":
        return noise.drawn_pixels(values, training.seed, Purpose.EVALUATION_PIXELS, 0, numbers).astype(np.float32)
    x = grey_levels(values)
    return on_from_half(x) if training.binarize == "threshold" else x
