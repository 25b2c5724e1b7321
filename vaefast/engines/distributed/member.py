"""The part of one rank in every call that all ranks take part in: the same on the leader and on its followers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, ImportanceTerms, Pace, State
from vaefast.engines.distributed.delivery import CountsInMemory, InMemory, Source
from vaefast.engines.distributed.held import Held
from vaefast.engines.distributed.placing import placed_part, with_covariates
from vaefast.engines.distributed.rank_engine import RankEngine
from vaefast.engines.distributed.ranks import Ranks
from vaefast.engines.distributed.shares import owners, part, takers
from vaefast.models.settings import ModelSettings, TrainingSettings

# Examples whose guests are exchanged together. This bounds the room for guests.
SETTLED = 8192


class Set(NamedTuple):
    """A set of rows, of which this rank holds a part."""

    size: int  # of the whole
    first: int  # number of this rank's first
    held: Held


class Member:
    """The engine of one rank, its parts of the sets of rows, and its part in each call."""

    def __init__(self, ranks: Ranks, model: ModelSettings, training: TrainingSettings, threads: int, reduction: str) -> None:
        self._ranks, self._training = ranks, training
        self.engine = RankEngine(model, training, threads, ranks, reduction)
        self._sets: list[Set] = []

    def place(
        self, source: Source | InMemory | CountsInMemory, told: int, rows: Any = None, covariates: NDArray[Any] | None = None
    ) -> int:
        """Take this rank's part of a set, with `told` covariates of each row, and return the number of the set.

        Only the leader has the rows that are in memory, and the covariates, (N, told).
        """
        size = source.shape[0]
        room = self._most_guests(size)
        held = placed_part(self._ranks, self.engine.model, source, rows, room)
        if told:
            held = with_covariates(self._ranks, held, size, told, covariates, room)
        self._sets.append(Set(size, part(size, self._ranks.rank, self._ranks.size)[0], held))
        return len(self._sets) - 1

    def warm_up(self, number: int) -> None:
        self.engine.warm_up(self._sets[number].held.placed)

    def train(self, number: int, order: NDArray[np.int64], pace: Pace) -> BoundTerms | None:
        """Train on the examples of `order`, which are numbers in the whole set. The leader gets the terms of all of them."""
        some, batch = self._sets[number], self._training.batch_size
        settled = max(1, SETTLED // batch) * batch
        mine: list[NDArray[np.int64]] = []
        terms = [BoundTerms.of_elbo(np.empty(0), np.empty(0))]
        for start in range(0, len(order), settled):
            examples = order[start : start + settled]
            places, local = self._settle(some, examples)
            mine.append(places + start)
            terms += self._train_settled(some, examples, places, local, Pace(*(values[start // batch :] for values in pace)))
        return self._gathered(len(order), np.concatenate([np.empty(0, np.int64), *mine]), BoundTerms.concatenate(terms))

    def evaluate(self, number: int, keys: NDArray[np.int64] | None) -> BoundTerms | None:
        some = self._sets[number]
        terms = self.engine.evaluate(some.held.placed, self._own_keys(some, keys))
        return self._joined(terms)

    def importance_sample(self, number: int, samples: int, keys: NDArray[np.int64] | None) -> ImportanceTerms | None:
        some = self._sets[number]
        terms = self.engine.importance_sample(some.held.placed, samples, self._own_keys(some, keys))
        return self._joined(terms)

    def state(self) -> State | None:
        moments = self._ranks.gather(self.engine.own_moments())
        return None if moments is None else self.engine.state_with(moments)

    def is_finite(self) -> bool | None:
        parts = self._ranks.gather(self.engine.is_finite())
        return None if parts is None else all(parts)

    def load_state(self, state: State) -> None:
        self.engine.load_state(state)

    def close(self) -> None:
        self.engine.close()

    def _train_settled(
        self, some: Set, examples: NDArray[np.int64], places: NDArray[np.int64], local: NDArray[np.int64], pace: Pace
    ) -> list[BoundTerms]:
        batch, terms = self._training.batch_size, []
        for step, start in enumerate(range(0, len(examples), batch)):
            minibatch = min(batch, len(examples) - start)
            begin, end = np.searchsorted(places, (start, start + minibatch))
            keys, now = examples[places[begin:end]], Pace(*(values[step : step + 1] for values in pace))
            terms.append(self.engine.find_gradient(some.held.placed, local[begin:end], keys, minibatch, now))
            self.engine.finish_step(now)
        return terms

    def _settle(self, some: Set, examples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The places in `examples` that this rank trains on, ascending, and where it holds each of them."""
        ranks, batch = self._ranks, self._training.batch_size
        owner = owners(examples, some.size, ranks.size)
        starts = range(0, len(examples), batch)
        taker = np.concatenate([takers(owner[start : start + batch], ranks.size) for start in starts])
        local = examples - some.first
        if not np.array_equal(owner, taker):
            goes = (owner == ranks.rank) & (taker != ranks.rank)
            leaving = [some.held.take(local[goes & (taker == to)]) for to in range(ranks.size)]
            some.held.welcome(ranks.swap(leaving))
            arrived = (taker == ranks.rank) & (owner != ranks.rank)
            # They are ordered by owner, and then by example.
            order = np.flatnonzero(arrived)[np.argsort(owner[arrived], kind="stable")]
            local[order] = some.held.size + np.arange(len(order))
        places = np.flatnonzero(taker == ranks.rank)
        return places, local[places]

    def _gathered(self, size: int, places: NDArray[np.int64], terms: BoundTerms) -> BoundTerms | None:
        """On the leader: the terms of the examples of all ranks, each in its place."""
        gathered = self._ranks.gather((places, np.stack(terms)))
        if gathered is None:
            return None
        whole = np.empty((len(terms), size))
        for where, values in gathered:
            whole[:, where] = values
        return BoundTerms(*whole)

    def _joined(self, terms: Any) -> Any:
        """On the leader: the terms of all parts, one after the other."""
        gathered = self._ranks.gather(np.stack(terms))
        return None if gathered is None else type(terms)(*np.concatenate(gathered, axis=1))

    def _own_keys(self, some: Set, keys: NDArray[np.int64] | None) -> NDArray[np.int64]:
        numbers = np.arange(some.first, some.first + some.held.size)
        return numbers if keys is None else keys[numbers]

    def _most_guests(self, size: int) -> int:
        """The largest possible number of guests: a whole settled block."""
        batch = self._training.batch_size
        steps = max(1, SETTLED // batch)
        return min(size, steps * -(-batch // self._ranks.size)) if self._ranks.size > 1 else 0
