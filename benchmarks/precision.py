"""What products of bfloat16 gain: `python -m benchmarks.precision`.

Both precisions train on MNIST from the same weights in turns, a few minibatches at a time, and score images by importance
sampling. The least of all turns counts, as another program on the machine can only add to it. What they learn is compared by
runs of `vaefast train --precision`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vaefast import engines
from vaefast.data import load
from vaefast.engines.threads import thread_count
from vaefast.models.settings import ModelSettings, TrainingSettings
from vaefast.runs.run_folder import cpu_name
from vaefast.training.initial_state import initial_state

PRECISIONS = ("float32", "bf16")
REPORT, WIDE = ModelSettings(), ModelSettings(hidden=(1000, 1000), latent=100)
# Name, model, minibatch size, and minibatches of a turn.
TRAININGS = (("batch 200", REPORT, 200, 5), ("batch 20", REPORT, 20, 50), ("wide 1000-1000-100, batch 100", WIDE, 100, 1))
SAMPLES = 5_000
TEST_IMAGES = 10_000


def main() -> None:
    """Take turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    values, threads = load("mnist", options.data_dir).train.values, thread_count(options.threads)
    print(f"{cpu_name()}, {threads} threads: seconds an epoch, and of log p(x) of {TEST_IMAGES:,} images")
    for name, model, batch_size, minibatches in TRAININGS:
        order = np.random.default_rng(0).permutation(len(values))[: batch_size * minibatches]
        works = [_training(model, batch_size, precision, values, order, options.engine, threads) for precision in PRECISIONS]
        _report(name, _least(works, options.rounds, len(values) / len(order)))
    works = [_sampling(precision, values[:threads], options.engine, threads) for precision in PRECISIONS]
    _report(f"log p(x) by {SAMPLES:,} samples", _least(works, max(1, options.rounds // 5), TEST_IMAGES / threads))


def _training(
    model: ModelSettings, batch_size: int, precision: str, values: np.ndarray, order: np.ndarray, engine: str, threads: int
) -> Callable[[], object]:
    training = TrainingSettings(batch_size=batch_size, precision=precision)
    made = engines.create(engine, model, training, threads)
    made.load_state(initial_state(model, training, values))
    placed = made.place(values)
    made.warm_up(placed)
    return lambda: made.train(placed, order)


def _sampling(precision: str, values: np.ndarray, engine: str, threads: int) -> Callable[[], object]:
    training = TrainingSettings(precision=precision)
    made = engines.create(engine, REPORT, training, threads)
    made.load_state(initial_state(REPORT, training, values))
    placed = made.place(values)
    return lambda: made.importance_sample(placed, SAMPLES)


def _least(works: list[Callable[[], object]], rounds: int, scale: float) -> list[float]:
    """The least seconds of each work, times the scale; the first round warms up."""
    least = [float("inf")] * len(works)
    for turn in range(rounds + 1):
        for place, work in enumerate(works):
            start = time.perf_counter()
            work()
            if turn > 0:
                least[place] = min(least[place], time.perf_counter() - start)
    return [scale * seconds for seconds in least]


def _report(name: str, seconds: list[float]) -> None:
    plain, rounded = seconds
    print(f"  {name:30s} float32 {plain:8.3f}   bf16 {rounded:8.3f}   {rounded / plain:.2f} times")


if __name__ == "__main__":
    main()
