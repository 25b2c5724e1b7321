"""What every benchmark is measured against: the machine's own matrix-product rate, in the same run."""

from __future__ import annotations

import itertools
import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

from vaefast.settings import ModelSettings

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
