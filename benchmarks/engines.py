"""The two compiled engines for the CPU beside each other: `python -m benchmarks.engines [--precision bf16]`.

Both train epochs of MNIST from the same weights in turns, in one process, so that a slow minute of the machine meets both. The
figure is the median of the rounds' ratios; both must end with the same bits. The work is that of `benchmarks.compare`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare import SCENARIOS, Scenario, filled
from vaefast import engines
from vaefast.data import load
from vaefast.engines.contract import State
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ObjectiveSettings, TrainingSettings
from vaefast.runs.run_folder import cpu_name

NAMES = ("numba", "cython")


def rounds(scenario: Scenario, training: TrainingSettings, count: int, values: NDArray[np.uint8]) -> list[list[float]]:
    """Seconds of an epoch of each engine, in each round."""
    model = scenario.model
    training = replace(training, batch_size=scenario.batch_size, binarize="none" if scenario.dense else "dynamic")
    x = filled(values) if scenario.dense else values
    start = State.initial(initial_parameters(Layout(model), "glorot", 0))
    teams = []
    for name in NAMES:
        engine = engines.create(name, model, training, scenario.threads)
        engine.load_state(start)
        placed = engine.place(x)
        engine.warm_up(placed)
        teams.append((engine, placed))
    seconds = []
    for turn in range(count):
        order, taken = np.random.default_rng(turn).permutation(len(x)), []
        for engine, placed in teams:
            begin = time.perf_counter()
            engine.train(placed, order)
            taken.append(time.perf_counter() - begin)
        seconds.append(taken)
    first, second = (engine.state().parameters for engine, _ in teams)
    if not np.array_equal(first, second):
        raise RuntimeError(f"{scenario.name}: the engines' parameters differ")
    for engine, _ in teams:
        engine.close()
    return seconds


def main() -> None:
    """Each scenario, a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="default: all")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--objective", default="elbo")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--clip-norm", type=float)
    parser.add_argument("--images", type=int, help="of an epoch (default all)")
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    values = load("mnist", options.data_dir).train.values[: options.images]
    objective = ObjectiveSettings(options.objective, options.samples)
    training = TrainingSettings(objective=objective, clip_norm=options.clip_norm, precision=options.precision)
    print(f"{cpu_name()}, {options.precision}; seconds an epoch, medians of {options.rounds} rounds", flush=True)
    for name in options.scenario or SCENARIOS:
        seconds = rounds(SCENARIOS[name], training, options.rounds, values)
        numba, cython = (statistics.median(taken[i] for taken in seconds) for i in range(2))
        ratio = statistics.median(taken[1] / taken[0] for taken in seconds)
        print(f"{name:24s} numba {numba:.3f}, cython {cython:.3f}: {ratio:.3f} times", flush=True)


if __name__ == "__main__":
    main()
