"""One party of `benchmarks.distributed`: trains MNIST on the ranks that it is started on and answers requests, one a line.

epoch BATCH STEPS   seconds of so many steps of minibatches of BATCH, and the parts of it that this rank measured
losses BATCH STEPS  the loss of each of the first steps, from the initial weights
collectives BYTES   seconds of the exchanges of a gradient so large: what MPI offers, beside each other
end
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vaefast import engines
from vaefast.data import load
from vaefast.engines.contract import State
from vaefast.models import noise
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

REPEATS = 200


class Party:
    """One engine at a time, for one batch size."""

    def __init__(self, ranks: Any, threads: int, reduction: str, data_dir: str) -> None:
        self._ranks, self._threads, self._reduction = ranks, threads, reduction
        self._values = load("mnist", Path(data_dir) if data_dir else None).train.values
        self._batch, self._engine, self._placed = 0, None, None
        model = ModelSettings()
        self._model, self._start = model, State.initial(initial_parameters(Layout(model), "glorot", 0))

    def engine(self, batch: int) -> Any:
        """That of this batch size, warm."""
        if batch != self._batch:
            training = TrainingSettings(batch_size=batch)
            if self._engine is not None:
                self._engine.close()
            if self._ranks is None:
                self._engine = engines.create("numba", self._model, training, self._threads)
            else:
                from vaefast.engines import distributed

                self._engine = distributed.lead(self._ranks, self._model, training, self._threads, self._reduction)
            self._placed = self._engine.place(self._values)
            self._engine.warm_up(self._placed)
            self._engine.load_state(self._start)
            self._batch = batch
        return self._engine

    def epoch(self, batch: int, steps: int) -> float:
        """Seconds of so many steps, in pieces of a tenth of a second or so, as the trainer makes them."""
        engine, order = self.engine(batch), np.random.default_rng(0).permutation(len(self._values))
        order = np.resize(order, steps * batch)
        piece = max(1, 10_000 // batch) * batch
        begin = time.perf_counter()
        for start in range(0, len(order), piece):
            engine.train(self._placed, order[start : start + piece])
        return time.perf_counter() - begin

    def losses(self, batch: int, steps: int) -> list[float]:
        """From the initial weights."""
        engine = self.engine(batch)
        engine.load_state(self._start)
        order = noise.permutation(0, noise.Purpose.EXAMPLE_ORDER, 1, len(self._values))[: steps * batch]
        return (-engine.train(self._placed, order).elbo.reshape(steps, batch).mean(axis=1)).tolist()


def collectives(world: Any, size: int) -> dict[str, float]:
    """Median seconds of each exchange of `size` bytes of float32 in place or between buffers."""
    from mpi4py import MPI

    n = max(1, size // 4 // world.size) * world.size
    gradient, gathered, part = np.ones(n, np.float32), np.ones(n, np.float32), np.ones(n // world.size, np.float32)
    matrix = np.ones((300, 300), np.float32)

    def compute() -> None:
        for _ in range(4):
            matrix @ matrix

    def overlapped() -> None:
        request = world.Iallreduce(MPI.IN_PLACE, gradient)
        compute()
        request.Wait()

    def in_turn() -> None:
        compute()
        world.Allreduce(MPI.IN_PLACE, gradient)

    forms: dict[str, Callable[[], Any]] = {
        "Allreduce": lambda: world.Allreduce(MPI.IN_PLACE, gradient),
        "Reduce_scatter": lambda: world.Reduce_scatter_block(gradient, part),
        "Alltoall": lambda: world.Alltoall(gradient, gathered),
        "Allgather": lambda: world.Allgather(MPI.IN_PLACE, gathered),
        "Barrier": world.Barrier,
        "compute, then Allreduce": in_turn,
        "compute during Iallreduce": overlapped,
    }
    return {name: _median(world, form) for name, form in forms.items()}


def _median(world: Any, form: Callable[[], Any]) -> float:
    # Ranks that share a core wait for each other's turns, for milliseconds each time.
    crowded = world.size > (os.cpu_count() or 1)
    for _ in range(3 if crowded else 20):
        form()
    world.Barrier()
    seconds = []
    for _ in range(REPEATS // 10 if crowded else REPEATS):
        begin = time.perf_counter()
        form()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main() -> None:
    """threads, `alone`, `collectives`, or a reduction with `-` for its spaces, data folder or nothing."""
    threads, kind, data_dir, *sizes = int(sys.argv[1]), *sys.argv[2:]
    if kind == "alone":
        _answer(Party(None, threads, "", data_dir))
        return
    from vaefast.engines import distributed

    ranks = distributed.join()
    if kind == "collectives":
        found = {size: collectives(ranks._world, int(size)) for size in sizes}
        if ranks.rank == 0:
            print(json.dumps(found))
    elif ranks.rank == 0:
        _answer(Party(ranks, threads, kind.replace("-", " "), data_dir))
        distributed.end(ranks)
    else:
        distributed.follow(ranks)


def _answer(party: Party) -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        request, *numbers = line.split()
        if request == "end":
            break
        print(json.dumps(getattr(party, request)(*map(int, numbers))), flush=True)


if __name__ == "__main__":
    main()
