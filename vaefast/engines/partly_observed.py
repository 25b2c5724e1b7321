"""An engine for complete rows, beside a second one for rows that miss values, on the same parameters.

A model that was trained on a complete table takes rows with missing values, too. Complete rows go to the engine that they
always went to, so that no score depends on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vaefast import engines
from vaefast.engines.contract import BoundTerms, Engine, ImportanceTerms, Pace, State
from vaefast.models.gaps import rows_with_gaps
from vaefast.models.settings import ModelSettings, TrainingSettings

Terms = TypeVar("Terms", BoundTerms, ImportanceTerms)


@dataclass(frozen=True, eq=False)
class Divided:
    """Rows that were placed on two engines, and which are which, (n,) each."""

    complete: NDArray[np.int64]
    partly: NDArray[np.int64]
    placed_complete: Any
    placed_partly: Any

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.complete) + len(self.partly)


class PartlyObserved:
    """The contract of an engine for a model of complete rows, which also takes rows that miss values, except to train on.

    Parameters
    ----------
    engine
        Of the model.
    second
        Makes an engine of the same model for rows that miss values (`ModelSettings.missing`). It is called when the first
        such row comes.
    """

    def __init__(self, engine: Engine, second: Callable[[], Engine]) -> None:
        self.engine, self._make = engine, second
        self._second: Engine | None = None
        self.name, self.threads, self.layout = engine.name, engine.threads, engine.layout
        self.ranks = getattr(engine, "ranks", 1)

    @property
    def step(self) -> int:
        return self.engine.step

    def state(self, out: State | None = None) -> State:
        return self.engine.state(out)

    def is_finite(self) -> bool:
        return self.engine.is_finite()

    def load_state(self, state: State) -> None:
        self.engine.load_state(state)

    def place(self, values: Any) -> Any:
        gaps = rows_with_gaps(values)
        if gaps is None:
            return self.engine.place(values)
        complete, partly = np.flatnonzero(~gaps), np.flatnonzero(gaps)
        return Divided(complete, partly, self.engine.place(values[complete]), self._for_gaps().place(values[partly]))

    def warm_up(self, placed: Any) -> None:
        self.engine.warm_up(placed)

    def train(self, placed: Any, order: NDArray[np.int64], pace: Pace | None = None) -> BoundTerms:
        return self.engine.train(placed, order, pace)

    def evaluate(self, placed: Any, examples: NDArray[np.int64] | None = None) -> BoundTerms:
        return self._joined(placed, examples, lambda engine, rows, numbers: engine.evaluate(rows, numbers))

    def importance_sample(self, placed: Any, samples: int, examples: NDArray[np.int64] | None = None) -> ImportanceTerms:
        return self._joined(placed, examples, lambda engine, rows, numbers: engine.importance_sample(rows, samples, numbers))

    def encode(self, x: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        gaps = rows_with_gaps(x)
        if gaps is None:
            return self.engine.encode(x)
        complete, partly = np.flatnonzero(~gaps), np.flatnonzero(gaps)
        heads = self._for_gaps().encode(x[partly])
        if not len(complete):
            return heads
        first, second = (
            _merged(complete, one, partly, other) for one, other in zip(self.engine.encode(x[complete]), heads, strict=True)
        )
        return first, second

    def decode(self, z: NDArray[Any]) -> NDArray[Any]:
        return self.engine.decode(z)

    def close(self) -> None:
        self.engine.close()
        if self._second is not None:
            self._second.close()

    def _for_gaps(self) -> Engine:
        """The second engine, with the parameters of the first."""
        if self._second is None:
            self._second = self._make()
        self._second.load_state(self.engine.state())
        return self._second

    def _joined(
        self,
        placed: Any,
        examples: NDArray[np.int64] | None,
        terms_of: Callable[[Engine, Any, NDArray[np.int64] | None], Terms],
    ) -> Terms:
        """The terms of all rows, in their order."""
        if not isinstance(placed, Divided):
            return terms_of(self.engine, placed, examples)
        numbers = np.arange(len(placed)) if examples is None else examples
        second = terms_of(self._for_gaps(), placed.placed_partly, numbers[placed.partly])
        if not len(placed.complete):
            return second
        first = terms_of(self.engine, placed.placed_complete, numbers[placed.complete])
        merged = (_merged(placed.complete, one, placed.partly, other) for one, other in zip(first, second, strict=True))
        return type(first)(*merged)


def for_any_rows(
    engine: Engine,
    model: ModelSettings,
    training: TrainingSettings,
    create: Callable[[str, ModelSettings], Engine] | None = None,
) -> Engine:
    """An engine of this model for complete rows and for those that miss values: itself, unless it takes complete ones alone.

    The second engine is of the same name, or the fastest one that can take missing values. `create` makes it; by default it
    has as many threads as the first.
    """
    if model.missing or model.counts:
        return engine
    open_to_gaps = replace(model, missing=True)
    lacks = {*engines.needs(open_to_gaps, training)} & {*engines.LACKING.get(engine.name, ())}
    name = "auto" if lacks else engine.name
    make = create or (lambda name, model: engines.create(name, model, training, engine.threads))
    return PartlyObserved(engine, lambda: make(name, open_to_gaps))


def _merged(some: NDArray[np.int64], one: NDArray[Any], rest: NDArray[np.int64], other: NDArray[Any]) -> NDArray[Any]:
    whole = np.empty((len(some) + len(rest), *one.shape[1:]), one.dtype)
    whole[some], whole[rest] = one, other
    return whole
