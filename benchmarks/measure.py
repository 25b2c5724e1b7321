"""What every benchmark is measured against: the machine's own matrix-product rate, in the same run."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from vaefast.models.settings import ModelSettings

# A product large enough to run at the full rate, small enough to take 0.1 s: 2 * 2048^3 = 17 GFLOP.
SIDE = 2048


def sgemm_rate(threads: int, repeats: int = 5) -> float:
    """FLOP/s of NumPy's float32 product of two 2048 x 2048 matrices: the median of `repeats` after one warm-up."""
    a = np.random.default_rng(0).random((SIDE, SIDE), dtype=np.float32)
    out = np.empty_like(a)
    with threadpool_limits(threads):
        np.matmul(a, a, out=out)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            np.matmul(a, a, out=out)
            seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / statistics.median(seconds)


def step_flop(model: ModelSettings, batch: int) -> int:
    """Floating-point operations of one dense training step: forward, weight gradients, activation gradients.

    The same count for every engine and peer, whether it skips zeros or not.
    """
    sizes = [(model.pixels, *model.hidden), (model.latent, *reversed(model.hidden), model.pixels)]
    encoder, decoder = (list(itertools.pairwise(network)) for network in sizes)
    encoder.append(((model.hidden or (model.pixels,))[-1], 2 * model.latent))
    weights = [a * b for a, b in encoder + decoder]
    first = weights[0]  # its input needs no gradient
    return 2 * batch * (3 * sum(weights) - first)


class OtherPrograms:
    """How much of the machine's processor time goes to anyone but this process and those given. Linux only."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = [os.getpid(), *pids]
        self.start()

    def start(self) -> None:
        """Count from here."""
        self._all, self._busy, self._ours = self._ticks()

    def part(self) -> float | None:
        """Of all cores, since `start`, time stolen by a hypervisor included; None where the system does not say."""
        everything, busy, ours = self._ticks()
        if everything == self._all:
            return None
        return max(0.0, (busy - self._busy) - (ours - self._ours)) / (everything - self._all)

    def _ticks(self) -> tuple[int, int, int]:
        """Clock ticks since the system started: of all cores, of them not idle, of our processes."""
        if not Path("/proc/stat").exists():
            return 0, 0, 0
        # user nice system idle iowait irq softirq steal; guest time is part of user time.
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        # Fields 14 and 15 of a process, counted after its name, which may hold spaces: its user and system time.
        fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in self._pids]
        return sum(ticks), sum(ticks) - ticks[3] - ticks[4], sum(int(f[11]) + int(f[12]) for f in fields)
