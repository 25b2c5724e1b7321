"""vaefast beside its peers, in one run: `python -m benchmarks.compare`.

Each peer lives in a process of its own and idles while another computes; they take turns, one epoch each, for several
rounds. Ratios are taken within a round, where the machine was the same for all, and their median is what is printed. A round
in which other programs took more than 2 % of the machine is done again. The machine's matrix-product rate is measured in every
round too. All peers start from the same weights and must reach the same ELBO, or the comparison is void. With `--precision
bf16` vaefast and compiled PyTorch run in bfloat16, too, and ratios are those to vaefast in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import OtherPrograms, sgemm_rate, step_flop
from benchmarks.peers import BF16_PEERS, PEERS
from benchmarks.peers.process import Process
from vaefast.data import load
from vaefast.engines.threads import granted_cores
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings
from vaefast.runs.run_folder import cpu_name

# Runs differ in their random numbers alone: after two or more epochs of MNIST their test ELBOs lie within so many nats, or
# within this part of them where the data are grey and the bound is hundreds of nats.
ELBO_SPREAD, ELBO_SHARE = 4.0, 0.02
# autograd takes half a minute an epoch: so many of its minibatches are timed and scaled to an epoch.
SLOW_PEERS = {"autograd_report": 5}
# Of the processor time of all cores in a round, taken by others. Two such threads out of two slow a barrier down.
DISTURBED = 0.02
# Disturbed rounds that are done again, in all.
EXTRA_ROUNDS = 6


@dataclass(frozen=True)
class Scenario:
    """One piece of work for all."""

    name: str
    batch_size: int = 200
    threads: int = 2
    hidden: tuple[int, ...] = (200, 200)
    latent: int = 50
    activation: str = "relu"
    dense: bool = False
    with_slow_peers: bool = False

    @property
    def model(self) -> ModelSettings:
        """Sizes; the pixels are MNIST's."""
        return ModelSettings(784, self.hidden, self.latent, self.activation)


SCENARIOS = {
    s.name: s
    for s in (
        Scenario("batch 200", with_slow_peers=True),
        Scenario("batch 20", batch_size=20),
        Scenario("batch 20, tanh", batch_size=20, activation="tanh"),
        Scenario("batch 100", batch_size=100),
        Scenario("batch 1000", batch_size=1000),
        Scenario("batch 200, one thread", threads=1),
        Scenario("wide 1000-1000-100", hidden=(1000, 1000), latent=100),
        Scenario("dense data", dense=True),
    )
}


class Peer(Process):
    """A process that trains one peer, and what it answered."""

    def __init__(self, name: str, python: str, folder: Path) -> None:
        command = [python, "-m", "benchmarks.peers.run", name, "--rounds-from-stdin"]
        for option in ("settings.json", "data.npz", "weights.npz"):
            command += [f"--{option.split('.')[0]}", str(folder / option)]
        super().__init__(name, command)
        self.steps = SLOW_PEERS.get(name)
        ready = self.answer()
        self.name, self.version, self.warm_up_seconds = ready["name"], ready["version"], ready["warm_up_seconds"]
        self.seconds: list[float] = []

    def epoch(self, scale: float) -> None:
        """One epoch, or a scaled part of one."""
        answer = self.ask("epoch" if self.steps is None else f"epoch {self.steps}")
        self.seconds.append(answer["seconds"] * (1.0 if self.steps is None else scale / self.steps))


def compare(scenario: Scenario, peers: list[str], rounds: int, python: str, data_dir: Path | None) -> dict[str, Any]:
    """Run one scenario; the result as plain data, times in seconds an epoch."""
    data = load("mnist", data_dir)
    train, test = (_levels(images.values, scenario.dense) for images in (data.train, data.test))
    layout = Layout(scenario.model)
    weights = layout.views(initial_parameters(layout, "glorot", 0).astype(np.float32))
    steps = -(-len(train) // scenario.batch_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "data.npz", train_images=train, test_images=test)
        np.savez(folder / "weights.npz", **weights)
        settings = {
            "activation": scenario.activation,
            "batch_size": scenario.batch_size,
            "binarize": "none" if scenario.dense else "dynamic",
            "threads": scenario.threads,
            "seed": 0,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        running = [Peer(peer, python, folder) for peer in peers]
    rates, taken = _quiet_rounds(running, rounds, steps, scenario.threads)
    elbos = {peer.name: peer.ask("evaluate")["elbo"] for peer in running if peer.steps is None}
    allowed = max(ELBO_SPREAD, ELBO_SHARE * abs(min(elbos.values())))
    if max(elbos.values()) - min(elbos.values()) > allowed:
        raise RuntimeError(f"{scenario.name}: the peers did not reach the same test ELBO: {elbos}")
    flop, rate = step_flop(scenario.model, len(train)), statistics.median(rates)
    first = running[0]
    rows = []
    for peer in running:
        ratios = [theirs / ours for theirs, ours in zip(peer.seconds, first.seconds, strict=True)]
        rows.append(
            {
                "peer": peer.name,
                "version": peer.version,
                "seconds": statistics.median(peer.seconds),
                "each": peer.seconds,
                "times ours": statistics.median(ratios),
                "share of sgemm": flop / statistics.median(peer.seconds) / rate,
                "warm-up seconds": peer.warm_up_seconds,
                "peak MB": peer.ask("memory")["peak_rss_mb"],
                "test ELBO": elbos.get(peer.name),
            }
        )
        peer.close()
    return {
        "scenario": asdict(scenario),
        "sgemm GFLOP/s": rate / 1e9,
        "dense limit seconds": flop / rate,
        "taken by others": max(taken) if taken else None,
        "rows": rows,
    }


def _quiet_rounds(running: list[Peer], rounds: int, steps: int, threads: int) -> tuple[list[float], list[float]]:
    """So many rounds of one epoch each on an undisturbed machine: product rates and the part taken by others in each.

    Raises
    ------
    RuntimeError
        The machine is too busy.
    """
    others = OtherPrograms([peer.pid for peer in running])
    rates: list[float] = []
    taken: list[float] = []
    for _ in range(rounds + EXTRA_ROUNDS):
        others.start()
        for peer in running:
            peer.epoch(steps)
        rate, part = sgemm_rate(threads, repeats=3), others.part()
        if part is not None and part > DISTURBED:
            print(f"  other programs took {part:.1%} of the machine: this round is done again", file=sys.stderr, flush=True)
            for peer in running:
                peer.seconds.pop()
            continue
        rates.append(rate)
        if part is not None:
            taken.append(part)
        if len(rates) == rounds:
            return rates, taken
    raise RuntimeError(f"other programs took more than {DISTURBED:.0%} of the machine in most rounds: end them and try again")


def _levels(values: np.ndarray, dense: bool) -> np.ndarray:
    """float32 in [0, 1]."""
    return filled(values) if dense else values.astype(np.float32) / 255


def filled(values: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1], the black background filled with a grey that no two images share."""
    x = values.astype(np.float32) / 255
    return 0.1 + 0.8 * x + 0.1 * np.random.default_rng(0).random(x.shape, dtype=np.float32)


def table(result: dict[str, Any]) -> str:
    """The result of one scenario as lines of text."""
    lines = [
        f"{result['scenario']['name']}, {result['scenario']['threads']} threads; matrix products at "
        f"{result['sgemm GFLOP/s']:.0f} GFLOP/s, a dense epoch at that rate {result['dense limit seconds']:.2f} s",
        f"  {'':24s} {'s/epoch':>8s} {'x ours':>7s} {'of sgemm':>8s} {'warm-up':>8s} {'peak MB':>8s} {'test ELBO':>9s}",
    ]
    for row in result["rows"]:
        elbo = f"{row['test ELBO']:9.2f}" if row["test ELBO"] is not None else f"{'-':>9s}"
        lines.append(
            f"  {row['peer'] + ' ' + row['version']:24s} {row['seconds']:8.2f} {row['times ours']:7.2f} "
            f"{row['share of sgemm']:8.2f} {row['warm-up seconds']:7.1f}s {row['peak MB']:8.0f} {elbo}"
        )
    return "\n".join(lines)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Bars of seconds an epoch, a group a scenario."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.6 + 1.1 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 1, squeeze=False)[:, 0]
    for ax, result in zip(axes, results, strict=True):
        rows = [row for row in result["rows"] if row["times ours"] < 8]
        ax.barh([row["peer"] for row in rows], [row["seconds"] for row in rows], color=["#0072b2"] + ["#999999"] * 9)
        for i, row in enumerate(rows):
            ax.text(row["seconds"], i, f" {row['seconds']:.2f} s", va="center", fontsize=8)
        ax.axvline(result["dense limit seconds"], color="black", linewidth=0.8, linestyle=":")
        ax.set_title(result["scenario"]["name"], loc="left", fontsize=9)
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    axes[-1].set_xlabel("seconds an epoch of MNIST (dotted: all products dense, at the rate of sgemm)", fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Parse, run each scenario, print tables, and write JSON and a figure where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="default: all")
    parser.add_argument("--peer", action="append", choices=PEERS[1:], help="default: all, but autograd only at batch 200")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the peers and vaefast")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--figure", type=Path, help="draw the times here")
    options = parser.parse_args()
    print(f"{cpu_name()}, {granted_cores()} cores", flush=True)
    results = []
    for name in options.scenario or SCENARIOS:
        scenario = SCENARIOS[name]
        peers = options.peer or [peer for peer in PEERS[1:] if scenario.with_slow_peers or peer not in SLOW_PEERS]
        ours = ["ours"] if options.precision == "float32" else [*BF16_PEERS, "ours"]
        result = compare(scenario, [*ours, *peers], options.rounds, options.python, options.data_dir)
        results.append(result)
        print(table(result), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"cpu": cpu_name(), "results": results}, indent=2) + "\n")
    if options.figure:
        draw(results, options.figure)


if __name__ == "__main__":
    main()
