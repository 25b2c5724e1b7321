"""The learning rate and the weight of the KL divergence in every step of a run: a function of the settings and the step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import Pace
from vaefast.settings import ObjectiveSettings, TrainingSettings


def pace(training: TrainingSettings, epoch_steps: int, first: int, steps: int) -> Pace:
    """Of steps first to first + steps - 1 of a run, counted from 0, where so many steps make an epoch."""
    epochs = (first + np.arange(steps)) / epoch_steps
    return Pace(np.full(steps, training.adam.learning_rate), _kl_weights(training.objective, epochs))


def _kl_weights(objective: ObjectiveSettings, epochs: NDArray[np.float64]) -> NDArray[np.float64]:
    """After so many epochs, (steps,): beta, reached by the warm-up."""
    if objective.warm_up == "linear":
        share = epochs / objective.warm_up_epochs
    elif objective.warm_up == "cyclic":
        # Fu et al. (2019), section 3: the first half of a cycle rises, the second stays.
        share = 2 * (epochs % objective.warm_up_epochs) / objective.warm_up_epochs
    else:
        share = np.ones_like(epochs)
    return objective.beta * np.minimum(share, 1.0)
