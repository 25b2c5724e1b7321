"""What a run does between two pieces of training: write a checkpoint when one is due, and end when it was asked to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from vaefast.engines.contract import State
from vaefast.errors import CheckpointError
from vaefast.runs.checkpoint import Checkpoint, CheckpointFolder
from vaefast.runs.checkpoint_policy import Schedule
from vaefast.runs.interruption import Interruption
from vaefast.training.trainer import EpochMetrics, Position

# What a line of metrics lacks where there is no test set.
UNMEASURED = dict.fromkeys(("test_elbo", "test_log_likelihood", "test_kl"), float("nan"))


class Keeper:
    """To be called by the trainer as its `on_pause`.

    Parameters
    ----------
    folder
        Where the checkpoints go.
    run
        What the run is, for each checkpoint to hold.
    epochs
        After so many, a checkpoint is written in any case, as it is before the first step and when a signal has come.
    schedule
        When else one is due.
    interruption
        Where signals are noted from the first pause on.
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        run: Mapping[str, Any],
        epochs: int,
        schedule: Schedule,
        interruption: Interruption,
    ) -> None:
        self.number = 0  # of the newest checkpoint
        self._folder, self._run, self._epochs = folder, run, epochs
        self._schedule, self._interruption = schedule, interruption
        self._place: tuple[int, int] | None = None

    def resumed(self, number: int, position: Position) -> None:
        """The run goes on from this checkpoint, of which everything holds still, so that it need not be written again."""
        self.number, self._place = number, (position.epoch, position.images)
        self._schedule.written(0.0)

    def __call__(self, position: Position, state: Callable[[], State]) -> bool:
        # Before the first call, while kernels are compiled, a signal loses nothing.
        self._interruption.defer()
        stop = self._interruption.requested is not None
        last = position.epoch > self._epochs or position.is_over
        due = stop or last or self._schedule.is_due(position.epoch - 1, position.images == 0)
        if due and (position.epoch, position.images) != self._place:
            self.write(position, state())
        return not stop

    def write(self, position: Position, state: State) -> None:
        """Write a checkpoint of this position, at which the engine has this state."""
        start = time.monotonic()
        self.number = self._folder.write(_checkpoint(position, state, self._run))
        self._place = position.epoch, position.images
        self._schedule.written(time.monotonic() - start)


def _checkpoint(position: Position, state: State, run: Mapping[str, Any]) -> Checkpoint:
    history = [line.as_dict() for line in position.history]
    best = None if position.stopping is None or position.stopping.best is None else position.stopping.best.parameters
    return Checkpoint(state, position.epoch, position.images, position.seconds, position.terms, history, run, best)


def position_in(checkpoint: Checkpoint, size: int, batch_size: int) -> Position:
    """Where the run of a checkpoint stands, in a training set of `size` images.

    Raises
    ------
    CheckpointError
        There is no such place, or the history is none of this version's.
    """
    steps = (checkpoint.epoch - 1) * -(-size // batch_size) + -(-checkpoint.images // batch_size)
    whole = checkpoint.images % batch_size == 0 or checkpoint.images == size
    names = {field.name for field in fields(EpochMetrics)}
    always = {field.name for field in fields(EpochMetrics) if field.default is MISSING} - {*UNMEASURED}
    numbers = (value for line in checkpoint.history for value in line.values())
    if any(not always <= {*line} <= names for line in checkpoint.history) or not all(
        isinstance(value, (int, float)) for value in numbers
    ):
        raise CheckpointError("the checkpoint's history has other columns than this version of vaefast: resume with its own")
    history = [EpochMetrics(**{**UNMEASURED, **line}) for line in checkpoint.history]
    if not whole or checkpoint.images > size or checkpoint.state.step != steps:
        raise CheckpointError("the checkpoint's position is none of this run: it was changed after it was written")
    parts = [checkpoint.terms] if checkpoint.images else []
    return Position(checkpoint.epoch, checkpoint.images, checkpoint.seconds, parts, history)
