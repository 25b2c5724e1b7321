"""log p(x) by importance sampling with the networks of any engine. Engines without a kernel for it use this."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import Engine, ImportanceTerms
from vaefast.engines.reference import log_likelihood
from vaefast.models import noise
from vaefast.models.conditions import Conditioned, beside, parted
from vaefast.models.count_rows import CountRows
from vaefast.models.grey_levels import grey_levels, on_from_half
from vaefast.models.noise import Purpose
from vaefast.models.settings import ModelSettings, TrainingSettings

# Rows whose samples are decoded in one call, and their values. This bounds the memory and changes no result.
ROWS, VALUES = 1024, 1 << 22

Rows: TypeAlias = NDArray[Any] | CountRows | Conditioned


def importance_sample(
    engine: Engine,
    model: ModelSettings,
    training: TrainingSettings,
    values: Rows,
    samples: int,
    examples: NDArray[np.int64] | None,
) -> ImportanceTerms:
    """The engine's `importance_sample` of values, (N, X), sample after sample with running sums."""
    numbers = np.arange(len(values)) if examples is None else examples
    result = ImportanceTerms(np.empty(len(values)), np.empty(len(values)))
    step = max(1, min(ROWS, VALUES // model.pixels))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        block = _block(engine, model, training, drawn(values[rows], training, numbers[rows]), numbers[rows], samples)
        for whole, part in zip(result, block, strict=True):
            whole[rows] = part
    return result


def _block(
    engine: Engine,
    model: ModelSettings,
    training: TrainingSettings,
    x: Rows,
    numbers: NDArray[np.int64],
    samples: int,
) -> ImportanceTerms:
    """The mean of p(x | z) p(z) / q(z | x) over z ~ q(z | x) (26), its sums kept relative to the largest term so far."""
    mean, log_std = (head.astype(np.float64) for head in engine.encode(x))
    parameters = engine.layout.views(engine.state().parameters)
    values, covariates = parted(x)
    counted = isinstance(values, CountRows)
    exact = values.dense(np.float64) if counted else values.astype(np.float64)
    size = values.sizes[:, None] if counted and values.sizes is not None else None
    largest = np.full(len(x), -np.inf)
    total, squares = np.zeros(len(x)), np.zeros(len(x))
    for sample in range(samples):
        epsilon = noise.normals(training.seed, Purpose.IMPORTANCE_SAMPLES, sample, numbers, model.latent)
        z = mean + np.exp(log_std) * epsilon
        # log p(z) - log q(z | x): the normalising constants cancel
        log_w = np.sum(0.5 * (epsilon**2 - z**2) + log_std, axis=1)
        outputs = engine.decode(beside(z, covariates)).astype(np.float64)
        # With zero inflation, the zero_logits stand behind the logits.
        zero_logits = outputs[:, model.pixels :] if model.zero_inflation else None
        outputs = outputs[:, : model.pixels] if model.zero_inflation else outputs
        log_w += log_likelihood(parameters, exact, outputs, model.density, zero_logits, size)
        higher = np.maximum(largest, log_w)
        shrink, w = np.exp(largest - higher), np.exp(log_w - higher)
        total, squares, largest = total * shrink + w, squares * shrink**2 + w**2, higher
    return ImportanceTerms(largest + np.log(total / samples), total**2 / squares)


def drawn(rows: Rows, training: TrainingSettings, numbers: NDArray[np.int64]) -> Rows:
    """Rows as in evaluation, (N, X): pixels are drawn as for the ELBO, and rows of counts are what they are."""
    values, covariates = parted(rows)
    if covariates is not None:
        return Conditioned(drawn(values, training, numbers), covariates)
    if isinstance(values, CountRows):
        return values
    if training.binarize == "dynamic":
        x = noise.drawn_pixels(values, training.seed, Purpose.EVALUATION_PIXELS, 0, numbers).astype(np.float32)
    elif training.binarize == "threshold":
        x = on_from_half(grey_levels(values))
    else:
        return grey_levels(values)
    # What is missing is not drawn.
    return x if values.dtype == np.uint8 else np.where(np.isnan(values), np.float32(np.nan), x)
