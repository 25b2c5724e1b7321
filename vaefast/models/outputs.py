"""What the decoder's outputs say of x, for the settings of a model: the mean of p(x | z), and draws from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.models import blocks, likelihoods
from vaefast.models.columns import Blocks
from vaefast.models.settings import ModelSettings

Array = NDArray[np.floating]


def expectation(model: ModelSettings, outputs: Array) -> Array:
    """The mean of p(x | z), (N, X), from the decoder's outputs, (N, O); of counts that of a row of size 1."""
    density = model.density
    if isinstance(density, Blocks):
        return blocks.expectation(outputs, density)
    return likelihoods.expectation(density, outputs, model.zero_inflation)


def draw(
    model: ModelSettings, outputs: Array, parameters: Mapping[str, Any], generator: np.random.RandomState
) -> NDArray[np.float64]:
    """One draw x from p(x | z), (N, X), by the decoder's outputs, (N, O), and the parameters of the model by name.

    For all but the likelihoods of counts, whose draws need the sizes of the rows (`counts.draw`).
    """
    density = model.density
    if isinstance(density, Blocks):
        return blocks.draw(outputs, parameters, density, generator)
    return np.asarray(likelihoods.draw(density, outputs, parameters.get("x_log_std"), generator), np.float64)
