"""The training loop: epochs, minibatches in pieces, metrics. No mathematics, and the only loop of the project."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, Engine, State
from vaefast.engines.in_float64 import ExactRows, evaluate
from vaefast.models import noise
from vaefast.models.count_rows import keys_of
from vaefast.models.settings import TrainingSettings
from vaefast.tables.row_weights import weighted_rows
from vaefast.training.divergence import Guard
from vaefast.training.early_stopping import Stopping
from vaefast.training.log_volumes import NO_VOLUMES, LogVolumes
from vaefast.training.schedules import pace

# A mean that float64 cannot hold is the last number that it can: metrics are JSON, which knows no infinity.
LARGEST = float(np.finfo(np.float64).max)
# The engine is called for about so long at a time, so that progress moves and Ctrl-C is answered.
PIECE_SECONDS = 0.1


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.jsonl; bounds in nats an example, in the unit of the data as given; `seconds` of training alone."""

    epoch: int
    step: int
    train_objective: float
    train_elbo: float
    train_log_likelihood: float
    train_kl: float
    test_elbo: float  # these three are NaN without a test set
    test_log_likelihood: float
    test_kl: float
    seconds: float
    evaluation_seconds: float
    images_per_second: float
    validation_elbo: float | None = None  # where a part of the training set is held out
    validation_log_likelihood: float | None = None
    validation_kl: float | None = None
    validation_metric: float | None = None  # where `train` is given one to measure

    def as_dict(self) -> dict[str, Any]:
        """By name, without what was not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None and not math.isnan(value)}


@dataclass(frozen=True)
class Progress:
    """Where a running epoch stands."""

    epoch: int
    epochs: int
    images: int  # trained in this epoch
    size: int  # of the training set
    elbo: float  # mean over this epoch so far


@dataclass
class Position:
    """Where a run stands between two minibatches: with the engine's state, all that is needed to go on."""

    epoch: int = 1  # the running one
    images: int = 0  # trained in it
    seconds: float = 0.0  # of training in it
    parts: list[BoundTerms] = field(default_factory=list)  # of these images
    history: list[EpochMetrics] = field(default_factory=list)  # of the epochs before it
    stopping: Stopping | None = None

    @property
    def is_over(self) -> bool:
        """Whether training is to stop here, whatever epochs are left."""
        return self.stopping is not None and self.stopping.is_over

    @property
    def terms(self) -> BoundTerms:
        """The ELBO terms of the images trained in the running epoch, in their order."""
        return BoundTerms.concatenate(self.parts) if self.parts else BoundTerms.of_elbo(np.empty(0), np.empty(0))

    def add(self, terms: BoundTerms, seconds: float) -> None:
        self.parts.append(terms)
        self.images += len(terms.kl)
        self.seconds += seconds

    def end_epoch(self, metrics: EpochMetrics) -> None:
        self.history.append(metrics)
        self.epoch, self.images, self.seconds, self.parts = self.epoch + 1, 0, 0.0, []


def train(
    engine: Engine,
    train_values: Any,
    test_values: Any,
    training: TrainingSettings,
    *,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    position: Position | None = None,
    on_pause: Callable[[Position, Callable[[], State]], bool] = lambda position, state: True,
    until: int | None = None,
    validation_values: NDArray[Any] | None = None,
    weights: NDArray[np.float64] | None = None,
    exact_test_rows: ExactRows | None = None,
    exact_validation_rows: ExactRows | None = None,
    log_volumes: LogVolumes = NO_VOLUMES,
    measure: Callable[[], float] | None = None,
) -> Iterator[EpochMetrics]:
    """Train `engine` until `training.epochs` epochs are complete, yielding the metrics of each when it ends.

    Parameters
    ----------
    train_values, test_values
        Images, (N, X), uint8 or float32, or rows of counts (`CountRows`). Without a test set its metrics are NaN.
    validation_values
        More images to score after each epoch.
    until
        End after so many epochs instead.
    weights
        What each image counts for, (N,), relative to the others; alike without it.
    exact_test_rows
        From numbers of test images to their values in float64, where some may be past what float32 holds. Without it a bound
        that float32 cannot hold means that training has diverged.
    exact_validation_rows
        The same of the validation images.
    log_volumes
        Those of the images.
    measure
        Called after each epoch, with the engine as the epoch left it: another metric of it.
    training
        What the engine was made with; here it decides the order of the examples, the learning rate and the KL's weight.
    on_progress
        Called several times a second.
    position
        Where to go on, the engine having its state from there; it is kept up to date. The start by default. Its `stopping`,
        where it has one, may end the training sooner.
    on_pause
        Called before the first piece, after each, and after each epoch, with the position and a function that gives the
        engine's state once every number in it is known to be finite. If it returns False, training ends there.

    Raises
    ------
    DivergenceError
        A bound, a parameter or a moment is no longer a finite number.
    """
    position, last = position or Position(), training.epochs if until is None else until
    placed, test = engine.place(train_values), _TestSet(engine, training, test_values, exact_test_rows)
    validation = _TestSet(engine, training, validation_values, exact_validation_rows)
    engine.warm_up(placed)
    guard = Guard(engine, placed, training.batch_size)
    size, piece, batch_size = len(train_values), 1, training.batch_size
    epoch_steps = -(-size // batch_size)
    going_on = on_pause(position, guard.verified)
    while going_on and position.epoch <= last and not position.is_over:
        order = noise.permutation(training.seed, noise.Purpose.EXAMPLE_ORDER, position.epoch, size)
        if weights is not None:
            order = weighted_rows(weights, training.seed, position.epoch)[order]
        total, volume = float(position.terms.elbo.sum()), log_volumes.of_training(order)
        while going_on and position.images < size:
            begin = position.images
            examples = order[begin : begin + piece * batch_size]
            step = (position.epoch - 1) * epoch_steps + begin // batch_size
            now = pace(training, epoch_steps, step, -(-len(examples) // batch_size))
            start = time.perf_counter()
            terms = engine.train(placed, examples, now)
            elapsed = time.perf_counter() - start
            guard.trained(position.epoch, begin, examples, terms, now)
            position.add(terms, elapsed)
            total += float(terms.elbo.sum())
            piece = _next_piece(piece, elapsed)
            on_progress(Progress(position.epoch, last, position.images, size, total / position.images - volume))
            going_on = on_pause(position, guard.verified)
        if going_on:
            position.end_epoch(_metrics(engine, position, test, validation, guard, log_volumes, volume, measure))
            if position.stopping is not None:
                position.stopping.after(position.history[-1], guard.keep)
            yield position.history[-1]
            going_on = on_pause(position, guard.verified)
    guard.verify()


def _metrics(
    engine: Engine,
    position: Position,
    test: _TestSet,
    validation: _TestSet,
    guard: Guard,
    log_volumes: LogVolumes,
    volume: float,
    measure: Callable[[], float] | None,
) -> EpochMetrics:
    """Of the epoch that has just been trained; `volume` is the mean over its images."""
    start = time.perf_counter()
    train_terms, test_terms, validation_terms = position.terms, test.terms(), validation.terms()
    if test.exists:
        guard.evaluated(position.epoch, test_terms, any_values=test.has_any_values)
    validated = {}
    if validation.exists:
        guard.evaluated(position.epoch, validation_terms, "validation", any_values=validation.has_any_values)
        validated = _means(validation_terms, "validation", log_volumes.of_part("validation"))
    if measure is not None:
        validated["validation_metric"] = measure()
    return EpochMetrics(
        epoch=position.epoch,
        step=engine.step,
        train_objective=float(train_terms.objective.mean()) - volume,
        **_means(train_terms, "train", volume),
        **_means(test_terms, "test", log_volumes.of_part("test")),
        seconds=position.seconds,
        evaluation_seconds=time.perf_counter() - start,
        images_per_second=position.images / position.seconds,
        **validated,
    )


def _means(terms: BoundTerms, part: str, log_volume: float) -> dict[str, float]:
    """The ELBO and its terms, means over the images of a part of the data."""
    densities = {f"{part}_{name}": getattr(terms, name).mean() - log_volume for name in ("elbo", "log_likelihood")}
    means = {**densities, f"{part}_kl": terms.kl.mean()}
    return {name: float(np.clip(mean, -LARGEST, LARGEST)) for name, mean in means.items()}


class _TestSet:
    """Images that are scored after each epoch, each with noise that goes by its content; without any, the terms are NaN."""

    def __init__(
        self,
        engine: Engine,
        training: TrainingSettings,
        values: NDArray[Any] | None,
        exact_rows: ExactRows | None = None,
    ) -> None:
        self._engine, self._training, self.exists = engine, training, values is not None
        self._exact_rows, self.has_any_values = exact_rows, exact_rows is not None
        self._placed = None if values is None else engine.place(values)
        self._keys = None if values is None else keys_of(values)

    def terms(self) -> BoundTerms:
        if self._keys is None:
            return BoundTerms.of_elbo(np.full(1, np.nan), np.full(1, np.nan))
        engine = self._engine
        if self._exact_rows is None:
            return engine.evaluate(self._placed, self._keys)
        return evaluate(engine, engine.layout.model, self._training, self._placed, self._keys, self._exact_rows)


def _next_piece(piece: int, elapsed: float) -> int:
    """So many minibatches take about PIECE_SECONDS; the first guess may include a compilation, so growth is stepwise."""
    if elapsed < PIECE_SECONDS / 2:
        return piece * 2
    return max(1, piece // 2) if elapsed > PIECE_SECONDS * 2 else piece
