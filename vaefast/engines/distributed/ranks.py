"""The ranks of a job and their communication. No other module imports mpi4py."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.plan import CACHE_LINE, from_cache_line
from vaefast.errors import EngineUnavailable

# A follower polls for the next command for this long, which is more than the leader takes between two pieces of training. Then
# it sleeps between polls, so that the leader has the cores to itself when it evaluates, writes and draws.
ALERT_SECONDS = 0.02
NAP_SECONDS, LONGEST_NAP = 0.001, 0.01
# Values sent in one message: MPI counts them in 32 bits.
MESSAGE = 1 << 26
# Seconds in which the launcher reads what a rank said before it ends the job.
LAST_WORDS = 0.5
# How gradients are summed: on one machine in shared memory, in the order of the ranks; over a network by MPI's own reduction,
# or by sending each part to the rank that sums it, in the order of the ranks.
SHARED_MEMORY, RANK_ORDER, MPI = "shared memory", "rank order", "MPI"


def join() -> Ranks:
    """Start MPI in this process.

    Raises
    ------
    EngineUnavailable
        mpi4py or an MPI library is not installed.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise EngineUnavailable('training over MPI needs mpi4py, which is not installed: pip install "vaefast[mpi]"')
    try:
        from mpi4py import MPI as mpi
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise EngineUnavailable(f'mpi4py finds no MPI library ({reason}): pip install "vaefast[mpi]"') from error
    return Ranks(mpi.COMM_WORLD)


class Ranks:
    """All processes of the job. `rank` is the number of this one, and rank 0 leads."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self.rank, self.size = int(world.rank), int(world.size)
        self.together = False  # in a call that every rank must take part in
        self._windows: list[Any] = []
        # Ranks of this machine on the cores of this rank, itself included: a launcher may bind each to cores of its own.
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
        node = self._node()
        self.sharers = sum(not cores.isdisjoint(others) for others in node.allgather(cores))
        self.one_machine = world.allreduce(int(node.size)) == self.size**2
        node.Free()

    def _node(self) -> Any:
        """The ranks of this machine."""
        from mpi4py import MPI as mpi

        return self._world.Split_type(mpi.COMM_TYPE_SHARED)

    def reduction(self, in_order: bool) -> str:
        """How gradients are summed: one of the ways above."""
        if self.one_machine:
            return SHARED_MEMORY
        return RANK_ORDER if in_order else MPI

    def shared_memory(self, size: int) -> NDArray[np.float32]:
        """float32 zeros, (size,), aligned to a cache line and shared by all ranks of this machine until `release`."""
        from mpi4py import MPI as mpi

        extent = 4 * size + CACHE_LINE if self.rank == 0 else 0
        window = mpi.Win.Allocate_shared(extent, 1, comm=self._world)
        window.Lock_all()  # for as long as the job lasts: what `Sync` asks for
        self._windows.append(window)
        memory, _ = window.Shared_query(0)
        raw: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)  # type: ignore[call-overload]
        array = from_cache_line(raw, size)
        if self.rank == 0:
            array[:] = 0
        self.meet()
        return array

    def release(self) -> None:
        """Free the shared memory on every rank. No array in it may be used afterwards."""
        while self._windows:
            window = self._windows.pop()
            window.Unlock_all()
            window.Free()

    def meet(self) -> None:
        """Wait for all ranks. Afterwards each sees what the others have written to shared memory."""
        for window in self._windows:
            window.Sync()
        self._world.Barrier()
        for window in self._windows:
            window.Sync()

    def send_command(self, command: Any) -> None:
        """On the leader: send the command to every follower."""
        request = self._world.Ibarrier()
        request.Wait()
        self._world.bcast(command, root=0)

    def next_command(self) -> Any:
        """On a follower: wait for a command of the leader, without taking a core from it for long."""
        request, begin = self._world.Ibarrier(), time.monotonic()
        while not request.Test():
            idle = time.monotonic() - begin
            if idle > ALERT_SECONDS:
                time.sleep(min(max(NAP_SECONDS, idle / 100), LONGEST_NAP))
        return self._world.bcast(None, root=0)

    def gather(self, value: Any) -> list[Any] | None:
        """The ranks' values, on the leader."""
        return self._world.gather(value, root=0)

    def swap(self, values: list[Any]) -> list[Any]:
        """Send each rank its value, and receive the one that each has for this rank."""
        return self._world.alltoall(values)

    def total(self, number: int) -> int:
        """The sum of the ranks' numbers, on all of them."""
        return int(self._world.allreduce(number))

    def largest(self, numbers: tuple[float, ...]) -> tuple[float, ...]:
        """The largest of each of the ranks' numbers, on all of them."""
        return tuple(max(each) for each in zip(*self._world.allgather(numbers), strict=True))

    def broadcast(self, array: NDArray[Any]) -> None:
        """Send the leader's array to all ranks, in place."""
        flat = array.reshape(-1)
        for start in range(0, flat.size, MESSAGE):
            self._world.Bcast(flat[start : start + MESSAGE], root=0)

    def send(self, array: NDArray[Any], rank: int) -> None:
        flat = array.reshape(-1)
        for start in range(0, flat.size, MESSAGE):
            self._world.Send(np.ascontiguousarray(flat[start : start + MESSAGE]), dest=rank)

    def receive(self, array: NDArray[Any]) -> None:
        """From the leader, in place."""
        flat = array.reshape(-1)
        for start in range(0, flat.size, MESSAGE):
            self._world.Recv(flat[start : start + MESSAGE], source=0)

    def scatter_sum(self, array: NDArray[np.float32], part: NDArray[np.float32]) -> None:
        """part, (n,) = this rank's part of the sum of the ranks' arrays, (ranks * n,), in the order that MPI takes."""
        self._world.Reduce_scatter_block(array, part)

    def scatter(self, array: NDArray[np.float32], parts: NDArray[np.float32]) -> None:
        """parts, (ranks, n): each rank's contribution to this rank's part of the arrays, (ranks * n,)."""
        self._world.Alltoall(array, parts)

    def share(self, array: NDArray[Any]) -> None:
        """array, (ranks * n,), of which each rank has computed its part, becomes the same everywhere."""
        from mpi4py import MPI as mpi

        self._world.Allgather(mpi.IN_PLACE, array)

    def abort(self, code: int) -> None:
        """End every process of the job with this exit code, now."""
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        # The launcher kills all processes at once, and loses what it has not yet read of their messages.
        time.sleep(LAST_WORDS)
        self._world.Abort(code)
