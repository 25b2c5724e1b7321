"""Rows as an engine sees them in evaluation: grey levels that are drawn on or off, or are on from one half."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaefast.models import noise
from vaefast.models.conditions import Conditioned, parted
from vaefast.models.count_rows import CountRows
from vaefast.models.grey_levels import grey_levels, on_from_half
from vaefast.models.noise import Purpose
from vaefast.models.settings import TrainingSettings

Rows: TypeAlias = NDArray[Any] | CountRows | Conditioned


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
