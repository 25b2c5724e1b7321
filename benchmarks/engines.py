"""The two compiled engines for the CPU beside each other: `python -m benchmarks.engines`.

Both train epochs of MNIST from the same weights in turns, in one process, so that a slow minute of the machine meets both. The
figure is the median of the rounds' ratios; both must end with the same bits.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaefast import engines
from vaefast.data import load
from vaefast.engines.contract import State
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, ObjectiveSettings, TrainingSettings

NAMES = ("numba", "cython")


def rounds(training: TrainingSettings, threads: int, count: int, values: NDArray[np.uint8]) -> list[list[float]]:
    """Seconds of an epoch of each engine, in each round."""
    model = ModelSettings()
    start = State.initial(initial_parameters(Layout(model), "glorot", 0))
    teams = []
    for name in NAMES:
        engine = engines.create(name, model, training, threads)
        engine.load_state(start)
        placed = engine.place(values)
        engine.warm_up(placed)
        teams.append((engine, placed))
    seconds = []
    for turn in range(count):
        order, taken = np.random.default_rng(turn).permutation(len(values)), []
        for engine, placed in teams:
            begin = time.perf_counter()
            engine.train(placed, order)
            taken.append(time.perf_counter() - begin)
        seconds.append(taken)
    first, second = (engine.state().parameters for engine, _ in teams)
    if not np.array_equal(first, second):
        print("the engines' parameters differ")
    return seconds


def main() -> None:
    """Each batch size on one thread and on two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[200, 20])
    parser.add_argument("--images", type=int, help="of an epoch (default all)")
    parser.add_argument("--objective", default="elbo")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--clip-norm", type=float)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    values = load("mnist", options.data_dir).train.values[: options.images]
    objective = ObjectiveSettings(options.objective, options.samples)
    for batch_size in options.batch_sizes:
        training = TrainingSettings(batch_size=batch_size, objective=objective, clip_norm=options.clip_norm)
        for threads in (1, 2):
            seconds = rounds(training, threads, options.rounds, values)
            numba, cython = (statistics.median(taken[i] for taken in seconds) for i in range(2))
            ratio = statistics.median(taken[1] / taken[0] for taken in seconds)
            print(f"batch {batch_size}, {threads} threads: numba {numba:.3f} s, cython {cython:.3f} s, {ratio:.3f} times")


if __name__ == "__main__":
    main()
