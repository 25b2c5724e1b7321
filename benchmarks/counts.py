"""Counts beside scvi-tools, in one run: `python -m benchmarks.counts --scvi PYTHON`.

PYTHON is the interpreter of an environment with scvi-tools, which needs one of its own. Cells are drawn from a model with five
factors, so that their number and depth can be chosen: 10,000 cells of 2,000 genes, about one count in four above zero. Both
programs train a negative binomial with one hidden layer, in minibatches of 128, in turns, an epoch each. Ratios are taken
within a round, and their median is printed. scvi-tools runs twice: as its users run it, and without batch normalisation and
dropout, like for like. All are then scored on the same held-out cells, and the program fails if vaefast is more than one part
in a hundred behind the like-for-like score. `--zero-inflation` trains zero-inflated models instead, and `--rows 100000` is
ten times as many cells, which are drawn in pieces and stay sparse.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from vaefast import VAE
from vaefast.engines.threads import granted_cores
from vaefast.models import noise
from vaefast.models.count_rows import CountRows
from vaefast.models.noise import Purpose
from vaefast.runs.run_folder import cpu_name
from vaefast.tables.row_order import row_order

PEER = Path(__file__).parent / "peers" / "scvi_counts.py"
FACTORS, HELD_OUT, WARM_UP, BEHIND = 5, 0.1, 2, 0.01
# Cells that are drawn at a time: half a gigabyte of rates at 2,000 genes.
PIECE = 10_000


def cells(rows: int, genes: int, seed: int = 0) -> sparse.csr_array:
    """Counts, (rows, genes), of cells with log-normal depths."""
    rng = np.random.default_rng(seed)
    factors, loadings = rng.standard_normal((rows, FACTORS)), rng.standard_normal((FACTORS, genes))
    abundances = np.exp(1.3 * rng.standard_normal(genes))
    depths = np.exp(rng.normal(np.log(1800), 0.4, (rows, 1)))
    pieces = []
    for first in range(0, rows, PIECE):
        own = slice(first, first + PIECE)
        shares = np.exp(0.6 * factors[own] @ loadings) * abundances
        rates = depths[own] * shares / shares.sum(axis=1, keepdims=True)
        pieces.append(sparse.csr_array(rng.poisson(rng.gamma(2.0, rates / 2.0)).astype(np.int32)))
    return sparse.vstack(pieces, "csr")


class Scvi:
    """scvi-tools in a process of its own."""

    def __init__(self, python: str, settings: dict[str, Any], folder: Path, name: str) -> None:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(settings))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([python, str(PEER), str(path)], text=True, **pipes)
        self.about = self._answer()

    def epoch(self) -> float:
        """The seconds of one more epoch."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def scores(self) -> dict[str, float]:
        """What the last epoch left."""
        found = self._answer()
        self._process.wait()
        return found

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit("scvi-tools ended without an answer: try the interpreter by hand")


class Ours:
    """vaefast in this process: the engine, an epoch at a time."""

    def __init__(self, table: Any, options: argparse.Namespace) -> None:
        # One epoch by the estimator makes the model; the epochs that are timed go on with its engine.
        self.vae = VAE(
            options.latent, hidden_layer_sizes=(options.hidden,), likelihood="negative-binomial", learning_rate=1e-3, epochs=1,
            batch_size=options.batch_size, n_jobs=options.threads, random_state=0, zero_inflation=options.zero_inflation,
            input_dropout=0.0,
        )  # fmt: skip
        self.vae.fit(table)
        rows = CountRows.of(table)
        self._engine, self._size, self._done = self.vae._network.engine, len(rows), 1
        self._placed = self._engine.place(rows[row_order(rows)])

    def epoch(self) -> float:
        """The seconds of one more epoch."""
        self._done += 1
        order = noise.permutation(0, Purpose.EXAMPLE_ORDER, self._done, self._size)
        start = time.perf_counter()
        self._engine.train(self._placed, order)
        return time.perf_counter() - start


def main() -> None:
    """Train in turns, print, and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scvi", metavar="PYTHON", help="an interpreter with scvi-tools; without it vaefast runs alone")
    parser.add_argument("--rows", "--cells", type=int, default=10_000)
    parser.add_argument("--zero-inflation", action="store_true")
    for name, usual in (("genes", 2_000), ("hidden", 128), ("latent", 10), ("batch-size", 128)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=100, help="of log p(x) of a held-out cell")
    parser.add_argument("--threads", type=int, default=granted_cores())
    options = parser.parse_args()
    table = cells(options.rows, options.genes)
    first = round(HELD_OUT * options.rows)
    rest, train = table[:first], table[first:]
    share = train.nnz / (train.shape[0] * train.shape[1])
    print(
        f"{cpu_name()}, {options.threads} threads; {train.shape[0]:,} cells of {options.genes:,} genes, {share:.0%} non-zero"
    )
    with tempfile.TemporaryDirectory() as folder:
        peers = _peers(options, train, rest, Path(folder)) if options.scvi else {}
        ours = Ours(train, options)
        seconds: dict[str, list[float]] = {"vaefast": [], **{name: [] for name in peers}}
        for number in range(WARM_UP + options.rounds):
            for name, found in seconds.items():
                taken = ours.epoch() if name == "vaefast" else peers[name].epoch()
                if number >= WARM_UP:
                    found.append(taken)
        _print(seconds)
        log_p = ours.vae.log_likelihood(rest, n_samples=options.samples).mean()
        print(
            f"held out after {WARM_UP + options.rounds + 1} epochs, log p(x) by {options.samples} samples: vaefast {log_p:.1f}"
        )
        scores = {name: peer.scores() for name, peer in peers.items()}
        _print_memory(options, train, Path(folder))
        for name, found in scores.items():
            after = WARM_UP + options.rounds
            print(f"    after {after}: {name} {found['log_p']:.1f}, peak memory of training {found['peak']:.0f} MB")
    behind = [found["log_p"] - log_p for found in scores.values()]
    if scores and behind[-1] > BEHIND * abs(log_p):
        raise SystemExit(f"vaefast is {behind[-1]:.1f} nats behind scvi-tools, like for like: the times say nothing")


def _peers(options: argparse.Namespace, train: Any, rest: Any, folder: Path) -> dict[str, Scvi]:
    for name, part in (("train", train), ("rest", rest)):
        sparse.save_npz(folder / f"{name}.npz", sparse.csr_matrix(part))
    settings = _settings(options, folder)
    started = {
        "scvi-tools": Scvi(options.scvi, {**settings, "plain": False}, folder, "users"),
        "scvi-tools, like for like": Scvi(options.scvi, {**settings, "plain": True}, folder, "plain"),
    }
    about = next(iter(started.values())).about
    print(f"scvi-tools {about['version']} on PyTorch {about['torch']}")
    return started


def _print_memory(options: argparse.Namespace, train: Any, folder: Path) -> None:
    """The peak of vaefast, in a process that reads the table and trains."""
    path = folder / "memory.json"
    sparse.save_npz(folder / "train.npz", sparse.csr_matrix(train))
    path.write_text(json.dumps(_settings(options, folder)))
    command = [sys.executable, "-m", "benchmarks.peers.vaefast_counts", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"peak memory of training with vaefast {found['peak']:.0f} MB, {found['table']:.0f} MB of it the table of scipy")


def _settings(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What the programs are told."""
    return {
        "data": str(folder / "train.npz"), "held_out": str(folder / "rest.npz"), "threads": options.threads,
        "hidden": options.hidden, "latent": options.latent, "batch_size": options.batch_size,
        "epochs": WARM_UP + options.rounds, "samples": options.samples,
        "likelihood": "zinb" if options.zero_inflation else "nb",
    }  # fmt: skip


def _print(seconds: dict[str, list[float]]) -> None:
    for name, found in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(found, seconds["vaefast"], strict=True)]
        spread = f"{statistics.median(ratios):5.2f} times as long as vaefast ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:28s} {statistics.median(found):7.3f} s an epoch   {spread}")


if __name__ == "__main__":
    main()
