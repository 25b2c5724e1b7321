"""The learning rate and the weight of the KL divergence at each step: functions of the settings and the step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import Pace
from vaefast.models.settings import ObjectiveSettings, TrainingSettings

# Its end lies beyond any number of epochs.
LAST_STAGE = 20


def pace(training: TrainingSettings, epoch_steps: int, first: int, steps: int) -> Pace:
    """The pace of steps first to first + steps - 1, counted from 0, with this many steps in an epoch."""
    epochs = (first + np.arange(steps)) / epoch_steps
    return Pace(_learning_rates(training, epochs), _kl_weights(training.objective, epochs))


def _learning_rates(training: TrainingSettings, epochs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The learning rates after these numbers of epochs, (steps,)."""
    first, schedule = training.adam.learning_rate, training.rate_schedule
    if schedule.name == "steps":
        limits, factors = zip(*schedule.steps, strict=True)
        return first * np.array([1.0, *factors])[np.searchsorted(limits, epochs, side="right")]
    if schedule.name == "cosine":
        # A run that is made longer from Python stays at the end of its cosine.
        share = np.minimum(epochs / max(training.epochs, 1), 1.0)
        return schedule.final + (first - schedule.final) * 0.5 * (1 + np.cos(np.pi * share))
    if schedule.name == "staged":
        return first * 10.0 ** (-stage(epochs) / 7)
    return np.full(len(epochs), first)


def stage(epochs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which stage of Burda et al. (2015) runs after so many epochs: 0 in the first epoch, 1 in the next 3, 2 in the next 9."""
    ends = [stage_end(i) for i in range(LAST_STAGE)]
    return np.searchsorted(ends, epochs, side="right")


def stage_end(number: int) -> int:
    """How many epochs are trained when this stage, counted from 0, is over: 1, 4, 13, 40, ..."""
    return (3 ** (number + 1) - 1) // 2


def _kl_weights(objective: ObjectiveSettings, epochs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weights of the KL divergence after these numbers of epochs, (steps,): beta once the warm-up is over."""
    if objective.warm_up == "linear":
        share = epochs / objective.warm_up_epochs
    elif objective.warm_up == "cyclic":
        # Fu et al. (2019), section 3: the first half of a cycle rises, the second stays.
        share = 2 * (epochs % objective.warm_up_epochs) / objective.warm_up_epochs
    else:
        share = np.ones_like(epochs)
    return objective.beta * np.minimum(share, 1.0)
