"""Rank 0 implements the contract of an engine, and all ranks take part in each call. The other ranks run `follow`."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, ImportanceTerms, Pace, State
from vaefast.engines.distributed.delivery import described
from vaefast.engines.distributed.member import Member
from vaefast.engines.distributed.ranks import Ranks
from vaefast.engines.numba_cpu.compiler import keep_quiet
from vaefast.engines.threads import asked_of_environment, granted_cores, thread_count
from vaefast.errors import SettingsError
from vaefast.models.conditions import parted
from vaefast.models.settings import ModelSettings, TrainingSettings

MAKE, CLOSE, END = "make", "close", "end"
# Each engine of a job has a number of its own.
_numbers = count()


def lead(
    ranks: Ranks, model: ModelSettings, training: TrainingSettings, threads: int | None, reduction: str
) -> DistributedEngine:
    """The engine of all ranks.

    `threads` counts for each rank, and by default is its share of the cores of its node. `reduction` is one of those in
    ranks.py.

    Raises
    ------
    SettingsError
        The objective is not a mean over images, which is what ranks can share, or products are to be in bfloat16.
    """
    if training.precision != "float32":
        raise SettingsError(f"precision {training.precision} is not for several ranks: train in one process, on all its cores")
    if training.objective.name == "free-bits":
        raise SettingsError(
            "objective free-bits needs each latent's KL over the whole minibatch, which no rank has: "
            "train in one process, or choose objective beta"
        )
    return DistributedEngine(ranks, model, training, threads, reduction)


def follow(ranks: Ranks) -> None:
    """Take part in the calls of the leader until it ends. Every other rank runs this."""
    keep_quiet()
    members: dict[int, Member] = {}
    while True:
        method, number, arguments = ranks.next_command()
        if method == END:
            ranks.release()
            return
        if method == MAKE:
            members[number] = _make(ranks, *arguments)
        elif method == CLOSE:
            members.pop(number).close()
        else:
            getattr(members[number], method)(*arguments)


def end(ranks: Ranks) -> None:
    """Tell the followers to end."""
    ranks.send_command((END, -1, ()))
    ranks.release()


def _make(ranks: Ranks, model: ModelSettings, training: TrainingSettings, threads: int | None, reduction: str) -> Member:
    return Member(ranks, model, training, threads_of_a_rank(ranks, threads), reduction)


def threads_of_a_rank(ranks: Ranks, threads: int | None) -> int:
    """The number that was asked for, here or by the environment, or this rank's share of the cores that it may use."""
    if threads is not None or asked_of_environment() is not None:
        return thread_count(threads)
    return max(1, granted_cores() // ranks.sharers)


class DistributedEngine:
    """See `vaefast.engines.contract.Engine`; float32, on all ranks."""

    name = "numba"

    def __init__(
        self, ranks: Ranks, model: ModelSettings, training: TrainingSettings, threads: int | None, reduction: str
    ) -> None:
        self._ranks, self._adam, self._beta = ranks, training.adam, training.objective.beta
        self._batch_size, self.ranks, self._number, self._closed = training.batch_size, ranks.size, next(_numbers), False
        settings = (model, training, threads, reduction)
        ranks.together = True
        ranks.send_command((MAKE, self._number, settings))
        self._member = _make(ranks, *settings)
        ranks.together = False
        self.threads, self.layout = self._member.engine.threads, self._member.engine.layout

    @property
    def step(self) -> int:
        return self._member.engine.step

    def state(self, out: State | None = None) -> State:
        state: State = self._call("state")
        return state if out is None else state.copy(out)

    def is_finite(self) -> bool:
        return self._call("is_finite")

    def load_state(self, state: State) -> None:
        self._call("load_state", state)

    def place(self, values: Any) -> int:
        """Place a set and return its number. What is not in memory is read by each rank (`delivery.Source`)."""
        rows, covariates = parted(values)
        source, rows = described(rows, self._member.engine.model)
        return self._call_with("place", (source, 0 if covariates is None else covariates.shape[1]), rows, covariates)

    def warm_up(self, placed: int) -> None:
        self._call("warm_up", placed)

    def train(self, placed: int, order: NDArray[np.int64], pace: Pace | None = None) -> BoundTerms:
        steps = -(-len(order) // self._batch_size)
        return self._call("train", placed, order, pace or Pace.constant(self._adam.learning_rate, self._beta, steps))

    def evaluate(self, placed: int, examples: NDArray[np.int64] | None = None) -> BoundTerms:
        return self._call("evaluate", placed, examples)

    def importance_sample(self, placed: int, samples: int, examples: NDArray[np.int64] | None = None) -> ImportanceTerms:
        return self._call("importance_sample", placed, samples, examples)

    def encode(self, x: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._member.engine.encode(x)

    def decode(self, z: NDArray[Any]) -> NDArray[np.float32]:
        return self._member.engine.decode(z)

    def close(self) -> None:
        """End the engines of all ranks, unless the others wait inside a call that has failed."""
        if not (self._closed or self._ranks.together):
            self._ranks.send_command((CLOSE, self._number, ()))
        self._closed = True
        self._member.close()

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the member of every rank."""
        return self._call_with(method, arguments)

    def _call_with(self, method: str, arguments: tuple[Any, ...], *own: Any) -> Any:
        """The same with more arguments here. If it fails, `together` stays set: the others wait inside it."""
        self._ranks.together = True
        self._ranks.send_command((method, self._number, arguments))
        result = getattr(self._member, method)(*arguments, *own)
        self._ranks.together = False
        return result
