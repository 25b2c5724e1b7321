"""Where a model starts: initial parameters for its settings and its training set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import State
from vaefast.models.conditions import parted
from vaefast.models.count_rows import CountRows
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

# Values squared in one go, so that the spread of a large set needs no second copy of it.
BLOCK = 1 << 20


def initial_state(model: ModelSettings, training: TrainingSettings, values: Any) -> State:
    """Step 0 of training on values, (N, X) uint8, float32 or counts: what scheme and likelihood need of them is measured."""
    values, _ = parted(values)
    layout = Layout(model)
    state = State.zeros(layout.size)
    measured = _measured(model, training, values)
    initial_parameters(layout, training.initialization, training.seed, **measured, out=state.parameters)
    return state


def _measured(model: ModelSettings, training: TrainingSettings, values: Any) -> dict[str, NDArray[np.float64] | None]:
    """What `initial_parameters` needs of the values."""
    if model.counts:
        return {"column_totals": column_totals(values)}
    gaussian = model.likelihood in ("gaussian", "mixed")
    if not gaussian and training.initialization != "data-mean":
        return {}
    if model.missing:
        return dict(zip(("mean_pixels", "pixel_stds"), observed_moments(values), strict=True))
    means = mean_pixels(values)
    return {"mean_pixels": means, "pixel_stds": pixel_stds(values, means) if gaussian else None}


def column_totals(values: Any) -> NDArray[np.float64]:
    """The sum of each column of counts, (X,): whole numbers, so that it is the same in any pieces."""
    if isinstance(values, CountRows):
        return values.column_totals()
    step = max(1, BLOCK // values.shape[1])
    pieces = (CountRows.of(values[start : start + step]) for start in range(0, values.shape[0], step))
    return sum((piece.column_totals() for piece in pieces), np.zeros(values.shape[1]))


def mean_pixels(values: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of each pixel, bytes counting as level / 255, float64 (X,)."""
    return values.mean(axis=0, dtype=np.float64) / _white(values)


def pixel_stds(values: NDArray[Any], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each pixel about these means, float64 (X,)."""
    step, total = max(1, BLOCK // values.shape[1]), np.zeros(values.shape[1])
    for start in range(0, len(values), step):
        total += np.square(values[start : start + step] / _white(values) - means).sum(axis=0)
    return np.sqrt(total / len(values))


def observed_moments(values: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of what was observed of each column, float64 (X,) each; 0 and 1 where nothing was."""
    step, columns = max(1, BLOCK // values.shape[1]), values.shape[1]
    count, total, squares = np.zeros(columns), np.zeros(columns), np.zeros(columns)
    for start in range(0, len(values), step):
        rows = values[start : start + step].astype(np.float64)
        count += (~np.isnan(rows)).sum(axis=0)
        total += np.nansum(rows, axis=0)
    means = total / np.maximum(count, 1)
    for start in range(0, len(values), step):
        squares += np.nansum(np.square(values[start : start + step] - means), axis=0)
    return means, np.where(count > 0, np.sqrt(squares / np.maximum(count, 1)), 1.0)


def _white(values: NDArray[Any]) -> float:
    return 255.0 if values.dtype == np.uint8 else 1.0
