"""What the objectives and several samples cost: `python -m benchmarks.objectives`.

Epochs of MNIST on the Numba engine, all objectives in turn in each round; ratios to the ELBO of one sample are taken within a
round, and their median is printed. The first minibatch of each must have the reference engine's terms. `--precision bf16` puts
each objective in bfloat16 beside itself in float32 instead; the reference then rounds the same factors, and the engine must be
nearer to it than the reference in float32 is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from vaefast import engines
from vaefast.data import load
from vaefast.engines.threads import thread_count
from vaefast.models.settings import ModelSettings, ObjectiveSettings, TrainingSettings
from vaefast.runs.run_folder import cpu_name
from vaefast.training.initial_state import initial_state

OBJECTIVES = {
    "elbo": ObjectiveSettings(),
    "elbo, sampled KL": ObjectiveSettings(kl="sampled"),
    "free-bits": ObjectiveSettings("free-bits", free_nats=0.1),
    "elbo, 5 samples": ObjectiveSettings(samples=5),
    "iwae, 5 samples": ObjectiveSettings("iwae", 5),
    "dreg, 5 samples": ObjectiveSettings("dreg", 5),
    "iwae, 50 samples": ObjectiveSettings("iwae", 50),
}
# Terms of one example, nats: see tests/cases.py.
AGREEMENT = 2e-3


def main() -> None:
    """Train in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=200)
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--images", type=int, default=12_000, help="trained in a round; seconds are scaled to 60,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    values, model = load("mnist", options.data_dir).train.values, ModelSettings(activation=options.activation)
    threads = thread_count(options.threads)
    running, order = {}, np.random.default_rng(0).permutation(len(values))[: options.images]
    first = order[: options.batch_size]
    for name, objective in OBJECTIVES.items():
        exact = None
        for precision in ("float32", "bf16")[: 1 + (options.precision == "bf16")]:
            training = TrainingSettings(batch_size=options.batch_size, objective=objective, precision=precision)
            engine, slow = (engines.create(kind, model, training, threads) for kind in ("numba", "reference"))
            for each in (engine, slow):
                each.load_state(initial_state(model, training, values))
            placed = engine.place(values)
            found, right = engine.train(placed, first).objective, slow.train(values, first).objective
            difference, allowed = np.abs(found - right).max(), AGREEMENT if exact is None else np.abs(exact - right).max()
            if not difference < allowed:
                raise RuntimeError(f"{name} in {precision}: the engine is {difference} nats off the reference")
            exact = right
            running[name if precision == "float32" else f"{name}, bf16"] = engine, placed
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(options.rounds):
        for name, (engine, placed) in running.items():
            start = time.perf_counter()
            engine.train(placed, order)
            seconds[name].append((time.perf_counter() - start) * len(values) / options.images)
    print(f"{cpu_name()}, {threads} threads, batch {options.batch_size}, {options.activation}: seconds an epoch of MNIST")
    for name, each in seconds.items():
        beside = name.removesuffix(", bf16") if options.precision == "bf16" else "elbo"
        ratio = statistics.median(mine / first for mine, first in zip(each, seconds[beside], strict=True))
        than = "the same in float32" if options.precision == "bf16" else "the ELBO of one sample"
        print(f"  {name:24s} {statistics.median(each):7.2f}   {ratio:6.2f} times {than}")


if __name__ == "__main__":
    main()
