"""The training loop: epochs, minibatches in pieces, metrics. No mathematics, and the only loop of the project."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast import noise
from vaefast.engines.contract import BoundTerms, Engine
from vaefast.errors import DivergenceError

# The engine is called for about so long at a time, so that progress moves and Ctrl-C is answered.
PIECE_SECONDS = 0.1


@dataclass(frozen=True)
class EpochMetrics:
    """One line of metrics.jsonl; bounds in nats an image, `seconds` of training alone."""

    epoch: int
    step: int
    train_elbo: float
    train_log_likelihood: float
    train_kl: float
    test_elbo: float
    test_log_likelihood: float
    test_kl: float
    seconds: float
    evaluation_seconds: float
    images_per_second: float


@dataclass(frozen=True)
class Progress:
    """Where a running epoch stands."""

    epoch: int
    epochs: int
    images: int  # trained in this epoch
    size: int  # of the training set
    elbo: float  # mean over this epoch so far


def train(
    engine: Engine,
    train_values: NDArray[Any],
    test_values: NDArray[Any] | None,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    first_epoch: int = 1,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[EpochMetrics]:
    """Train `engine` for so many epochs, yielding the metrics of each when it ends.

    Parameters
    ----------
    train_values, test_values
        Images, (N, X), uint8 or float32. Without a test set its metrics are NaN.
    seed
        Decides the order of the examples in each epoch; the engine has its own copy for the noise.
    first_epoch
        Number of the first of them: the order of the examples goes by it.
    on_progress
        Called several times a second.

    Raises
    ------
    DivergenceError
        A bound is no longer a finite number.
    """
    placed, test = engine.place(train_values), _TestSet(engine, test_values)
    engine.warm_up(placed)
    size, piece = len(train_values), 1
    last = first_epoch + epochs - 1
    for epoch in range(first_epoch, last + 1):
        order = noise.permutation(seed, noise.Purpose.EXAMPLE_ORDER, epoch, size)
        parts: list[BoundTerms] = []
        begin, seconds, total = 0, 0.0, 0.0
        while begin < size:
            start = time.perf_counter()
            terms = engine.train(placed, order[begin : begin + piece * batch_size])
            elapsed = time.perf_counter() - start
            _check_finite(terms, f"epoch {epoch}, minibatch", begin, batch_size)
            parts.append(terms)
            begin += len(terms.kl)
            seconds += elapsed
            total += float(terms.elbo.sum())
            piece = _next_piece(piece, elapsed)
            on_progress(Progress(epoch, last, begin, size, total / begin))
        train_terms = BoundTerms.concatenate(parts)
        start = time.perf_counter()
        test_terms = test.terms(epoch)
        yield EpochMetrics(
            epoch=epoch,
            step=engine.step,
            train_elbo=float(train_terms.elbo.mean()),
            train_log_likelihood=float(train_terms.log_likelihood.mean()),
            train_kl=float(train_terms.kl.mean()),
            test_elbo=float(test_terms.elbo.mean()),
            test_log_likelihood=float(test_terms.log_likelihood.mean()),
            test_kl=float(test_terms.kl.mean()),
            seconds=seconds,
            evaluation_seconds=time.perf_counter() - start,
            images_per_second=size / seconds,
        )


class _TestSet:
    """Images that are scored after each epoch, each with noise that goes by its content; without any, the terms are NaN."""

    def __init__(self, engine: Engine, values: NDArray[Any] | None) -> None:
        self._engine = engine
        self._placed = None if values is None else engine.place(values)
        self._keys = None if values is None else noise.row_keys(values)

    def terms(self, epoch: int) -> BoundTerms:
        if self._placed is None:
            return BoundTerms(np.full(1, np.nan), np.full(1, np.nan))
        terms = self._engine.evaluate(self._placed, self._keys)
        _check_finite(terms, f"the test set after epoch {epoch}, image", 0, 1)
        return terms


def _next_piece(piece: int, elapsed: float) -> int:
    """So many minibatches take about PIECE_SECONDS; the first guess may include a compilation, so growth is stepwise."""
    if elapsed < PIECE_SECONDS / 2:
        return piece * 2
    return max(1, piece // 2) if elapsed > PIECE_SECONDS * 2 else piece


def _check_finite(terms: BoundTerms, place: str, offset: int, size: int) -> None:
    """Name the first example, or the first group of `size` examples, whose bound is not a finite number."""
    wrong = np.flatnonzero(~np.isfinite(terms.elbo))
    if len(wrong):
        first = int(wrong[0])
        name = "log-likelihood" if np.isfinite(terms.kl[first]) else "KL"
        number = (offset + first) // size + 1
        raise DivergenceError(f"the {name} is no longer a finite number in {place} {number}: lower --learning-rate")
