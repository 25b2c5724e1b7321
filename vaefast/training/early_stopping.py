"""Early stopping: which examples are held out, when training stops, and which model is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import State
from vaefast.errors import SettingsError
from vaefast.models import noise
from vaefast.models.noise import Purpose


def held_out(count: int, amount: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to train on and the rows to validate on: a random choice, the same for the same seed.

    Parameters
    ----------
    amount
        Below 1 a share of the rows, at least one of them; from 1 on their number.

    Raises
    ------
    SettingsError
        Nothing would be left to train on.
    """
    rows = int(amount) if amount >= 1 else max(1, round(amount * count))
    if rows >= count:
        raise SettingsError(f"validation takes {rows:,} of {count:,} training images: leave some to train on")
    order = noise.permutation(seed, Purpose.TRAIN_TEST_SPLIT, 0, count)
    return order[rows:], order[:rows]


class Stopping:
    """Watches a bound, or another metric, from epoch to epoch and keeps the best model so far.

    Parameters
    ----------
    patience
        Epochs in a row without an improvement after which it is time to stop.
    tolerance
        The smallest rise above the best bound that is an improvement, in nats, or in the unit of the metric.
    watched
        Its name in the metrics of an epoch.
    """

    def __init__(self, patience: int, tolerance: float, watched: str = "validation_elbo") -> None:
        self.patience, self.tolerance, self.watched = patience, tolerance, watched
        self.best_epoch, self.best_bound = 0, -np.inf
        self.best: State | None = None
        self._waited = 0

    @property
    def is_over(self) -> bool:
        """Whether it is time to stop."""
        return self._waited >= self.patience

    def after(self, metrics: Any, keep: Callable[[State | None], State]) -> None:
        """An epoch has ended with these metrics. If it is the best, `keep` gives its state and takes back the one before."""
        if self._improves(metrics):
            self.best = keep(self.best)

    def replay(self, history: Iterable[Any], best: State | None) -> None:
        """Restore the state after these epochs. `best` is the model of the best of them."""
        for metrics in history:
            self._improves(metrics)
        self.best = best

    def _improves(self, metrics: Any) -> bool:
        """Whether this is the best epoch so far; a rise below the tolerance is kept, but does not end the wait."""
        bound = getattr(metrics, self.watched)
        self._waited = 0 if bound > self.best_bound + self.tolerance else self._waited + 1
        if bound <= self.best_bound:
            return False
        self.best_epoch, self.best_bound = metrics.epoch, bound
        return True
