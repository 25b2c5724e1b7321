"""log p(x) of MNIST by importance sampling, beside PyTorch in paired rounds: `python -m benchmarks.importance MODEL`.

Each estimator lives in a process of its own; they take turns, a block of test images each, and ratios are taken within a
round. All see the same images, on from one half, and must agree on their mean log p(x) within their standard errors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np

from benchmarks.measure import OtherPrograms
from benchmarks.peers.process import Process
from vaefast.engines.threads import thread_count
from vaefast.runs.run_folder import cpu_name

PEERS = ("ours", "ours in bf16", "PyTorch", "PyTorch compiled")
# Two runs of the estimator differ by their samples alone: by so many standard errors of the difference of two block means, the
# error of an image being sqrt(1 / effective samples - 1 / samples) (delta method; its tails are heavier than a normal's).
STANDARD_ERRORS = 6.0
IMAGES = 10_000


class Estimator(Process):
    """A process that scores."""

    def __init__(self, name: str, python: str, model: Path, threads: int, samples: int) -> None:
        command = [
            python,
            "-m",
            "benchmarks.peers.importance",
            name,
            str(model),
            f"--threads={threads}",
            f"--samples={samples}",
        ]
        self.name, self._samples = name, samples
        super().__init__(name, command)
        self.seconds: list[float] = []
        self.means: list[float] = []
        self.errors: list[float] = []  # of the means, where the estimator says
        self.warm_up_seconds, self.peak = self.answer()["warm_up_seconds"], 0.0

    def score(self, first: int, last: int) -> None:
        """These images."""
        answer = self.ask(f"{first} {last}")
        self.seconds.append(answer["seconds"])
        self.means.append(float(np.mean(answer["log_likelihoods"])))
        variances = 1 / np.array(answer["effective_samples"]) - 1 / self._samples
        self.errors.append(float(np.sqrt(variances.sum()) / max(1, len(variances))))
        self.peak = answer["peak_rss_mb"]


def main() -> None:
    """Take turns, compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.safetensors of a run on MNIST")
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--images", type=int, default=100, help="of a round (default: 100)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--peer", action="append", choices=PEERS[1:])
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has PyTorch and vaefast")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    threads = thread_count(options.threads)
    names = ["ours", *(options.peer or PEERS[1:])]
    running = [Estimator(name, options.python, options.model, threads, options.samples) for name in names]
    others, taken = OtherPrograms([estimator.pid for estimator in running]), []
    for i in range(options.rounds):
        others.start()
        for estimator in running:
            estimator.score(i * options.images, (i + 1) * options.images)
        taken.append(others.part() or 0.0)
    for estimator in running:
        for ours, error, theirs in zip(running[0].means, running[0].errors, estimator.means, strict=True):
            if not abs(ours - theirs) <= STANDARD_ERRORS * np.sqrt(2) * error:
                raise RuntimeError(f"{estimator.name} finds another log p(x) than ours: {theirs} against {ours}")
        estimator.close()
    print(f"{cpu_name()}, {threads} threads; {options.images} images a round, {options.samples} samples each")
    print(f"  {'':18s} {'s/round':>8s} {'x ours':>7s} {'10,000 images':>14s} {'warm-up':>8s} {'peak MB':>8s} {'log p(x)':>9s}")
    rows = []
    for estimator in running:
        seconds = statistics.median(estimator.seconds)
        ratio = statistics.median(t / o for t, o in zip(estimator.seconds, running[0].seconds, strict=True))
        whole, mean = seconds * IMAGES / options.images, float(np.mean(estimator.means))
        print(
            f"  {estimator.name:18s} {seconds:8.2f} {ratio:7.2f} {whole:12.0f} s {estimator.warm_up_seconds:7.1f}s "
            f"{estimator.peak:8.0f} {mean:9.2f}"
        )
        rows.append(
            {
                "name": estimator.name,
                "each": estimator.seconds,
                "times ours": ratio,
                "peak MB": estimator.peak,
                "log p(x)": mean,
            }
        )
    print(f"  other programs took at most {max(taken):.1%} of the machine")
    if options.json:
        options.json.write_text(json.dumps({"cpu": cpu_name(), "threads": threads, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
