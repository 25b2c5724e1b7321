"""Training over MPI beside one process, and what a step costs on more ranks: `python -m benchmarks.distributed`.

Rounds: `mpiexec -n 2` with one thread each and one process with two threads train MNIST in turns, so that a slow minute of the
machine meets both; the figure is the median of the rounds' ratios. The losses of the first 50 steps are compared, too.

Model: seconds of a step = compute(B / n) + messages * latency + bytes / bandwidth. Compute is a line through the measured
times of one rank alone; what the exchanges take inside this machine is measured on 2 ranks; the sum is checked against 2
ranks, and against 3 and 4 that share two cores. Then wires of 1, 10 and 100 Gbit/s take the place of the memory, and each
rank is a machine with two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings

BYTES = 4 * Layout(ModelSettings()).panel_size
BATCHES = (200, 1000, 4096)
REDUCTIONS = ("shared-memory", "rank-order", "MPI")
RANKS = (1, 2, 4, 8, 16, 32, 64)
# Gbit/s, and seconds a message takes before its first byte: Ethernet of three generations, with kernel TCP but for the last.
WIRES = {1: 50e-6, 10: 20e-6, 100: 3e-6}
FITTED_BATCHES = (50, 100, 200, 500, 1000, 2048)
LOSS_STEPS = 50
LOSS_TOLERANCE = 1e-3  # TOLERANCES["loss_nats"] of tests/cases.py


class Team:
    """A process, or a job of several, that answers requests."""

    def __init__(self, ranks: int, threads: int, kind: str, data_dir: str) -> None:
        command = [sys.executable, "-m", "benchmarks.peers.ranks", str(threads), kind, data_dir]
        prefix = [] if kind == "alone" else [mpiexec(), "-n", str(ranks)]
        self._process = subprocess.Popen([*prefix, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line()

    def ask(self, request: str, *numbers: int) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join([request, *map(str, numbers)]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("end\n")
        self._process.stdin.close()
        self._process.wait(60)

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a team ended with {self._process.wait()}")
        return line


def mpiexec() -> str:
    """Beside the interpreter, or on the path."""
    found = shutil.which("mpiexec", path=sysconfig.get_path("scripts")) or shutil.which("mpiexec")
    if found is None:
        raise SystemExit("mpiexec is missing: pip install 'vaefast[mpi]'")
    return found


def paired_rounds(count: int, data_dir: str, batches: tuple[int, ...]) -> dict[str, Any]:
    """Seconds of an epoch of one process and of two ranks, with MPI's reduction and in rank order, in each round."""
    teams = {"one": Team(1, 2, "alone", data_dir)}
    teams |= {kind: Team(2, 1, kind, data_dir) for kind in REDUCTIONS}
    found: dict[str, Any] = {}
    for batch in batches:
        steps = 60_000 // batch
        for team in teams.values():
            team.ask("epoch", batch, steps)
        rounds = [{name: team.ask("epoch", batch, steps) for name, team in teams.items()} for _ in range(count)]
        losses = {name: np.array(team.ask("losses", batch, LOSS_STEPS)) for name, team in teams.items()}
        found[str(batch)] = {
            "rounds": rounds,
            "speed": {name: statistics.median(r["one"] / r[name] for r in rounds) for name in rounds[0]},
            "largest difference of a loss": {
                name: float(np.abs(values - losses["one"]).max()) for name, values in losses.items()
            },
        }
        print(_round_line(batch, found[str(batch)]), flush=True)
    for team in teams.values():
        team.end()
    return found


def _round_line(batch: int, found: dict[str, Any]) -> str:
    seconds = {name: statistics.median(r[name] for r in found["rounds"]) for name in found["speed"]}
    each = ", ".join(f"{name} {seconds[name]:.3f} s ({speed:.2f})" for name, speed in found["speed"].items())
    loss = max(found["largest difference of a loss"].values())
    return f"batch {batch}: {each}; losses of {LOSS_STEPS} steps differ by {loss:.1e} nats (at most {LOSS_TOLERANCE:g})"


def step_seconds(team: Team, batch: int, repeats: int) -> float:
    """The least of some measurements: what the machine does undisturbed."""
    steps = max(5, 20_000 // batch)
    team.ask("epoch", batch, steps)
    return min(team.ask("epoch", batch, steps) for _ in range(repeats)) / steps


def fitted_line(team: Team, repeats: int) -> tuple[list[float], list[float]]:
    """(seconds of a step, seconds an image) of one team alone, and what was measured."""
    seconds = [step_seconds(team, batch, repeats) for batch in FITTED_BATCHES]
    # Relative errors count: a step of 50 images is as important as one of 2048.
    rows = np.stack((np.ones(len(seconds)), np.array(FITTED_BATCHES, float)), axis=1) / np.array(seconds)[:, None]
    line, *_ = np.linalg.lstsq(rows, np.ones(len(seconds)), rcond=None)
    return line.tolist(), seconds


def exchanges() -> dict[str, dict[str, dict[str, float]]]:
    """Seconds of MPI's exchanges of two sizes on 2, 3 and 4 ranks of this machine."""
    found = {}
    for ranks in (2, 3, 4):
        command = [mpiexec(), "-n", str(ranks), sys.executable, "-m", "benchmarks.peers.ranks", "1", "collectives", ""]
        result = subprocess.run([*command, "1024", str(BYTES)], capture_output=True, text=True, check=True)
        found[str(ranks)] = json.loads(result.stdout)
    return found


def on_wires(compute: list[float], batch: int, ranks: int, gigabits: int) -> float:
    """Seconds of a step on so many machines. To add up parts and to hand them out takes log2(n) messages each, and a rank
    sends (n - 1) / n of the model in each."""
    if ranks == 1:
        return compute[0] + compute[1] * batch
    messages, sent = 2 * math.ceil(math.log2(ranks)), 2 * BYTES * (ranks - 1) / ranks
    return compute[0] + compute[1] * batch / ranks + messages * WIRES[gigabits] + sent / (gigabits * 1e9 / 8)


def projected(compute: list[float]) -> dict[str, Any]:
    """Speed-ups over one machine, and the number of ranks with the largest."""
    found: dict[str, Any] = {}
    for gigabits in WIRES:
        for batch in BATCHES:
            speed = [on_wires(compute, batch, 1, gigabits) / on_wires(compute, batch, n, gigabits) for n in RANKS]
            best = int(np.argmax(speed))
            half = [n for n, s in zip(RANKS, speed, strict=True) if s >= n / 2]
            found[f"{gigabits} Gbit/s, batch {batch}"] = {
                "speed": dict(zip(map(str, RANKS), speed, strict=True)),
                "best": RANKS[best],
                "best speed": speed[best],
                "half efficient up to": max(half),
            }
    return found


def checked(
    line: list[float], waits: dict[str, dict[str, dict[str, float]]], data_dir: str, repeats: int
) -> list[dict[str, float]]:
    """Measured and modelled seconds of a step on 2 ranks, and on 3 and 4 that share two cores."""
    found, cores = [], os.cpu_count() or 1
    for ranks in (2, 3, 4):
        team = Team(ranks, 1, "rank-order", data_dir)
        exchange = waits[str(ranks)][str(BYTES)]
        for batch in (200, 1000):
            crowd = max(1.0, ranks / cores)
            modelled = crowd * (line[0] + line[1] * batch / ranks) + exchange["Alltoall"] + exchange["Allgather"]
            measured = step_seconds(team, batch, repeats)
            found.append({"ranks": ranks, "batch": batch, "measured": measured, "modelled": modelled})
            print(
                f"{ranks} ranks, batch {batch}: {1e3 * measured:.2f} ms a step, by the model {1e3 * modelled:.2f}", flush=True
            )
        team.end()
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """Speed-up against ranks, a panel for each wire."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, gigabits in zip(figure.subplots(1, len(WIRES), sharey=True), WIRES, strict=True):
        for batch in BATCHES:
            speed = found["projection"][f"{gigabits} Gbit/s, batch {batch}"]["speed"]
            axes.plot(RANKS, [speed[str(n)] for n in RANKS], marker="o", label=f"batch {batch}")
        axes.plot(RANKS, RANKS, color="0.7", linestyle=":", label="ideal")
        axes.set(xscale="log", yscale="log", xticks=RANKS, xticklabels=map(str, RANKS), xlabel="machines")
        axes.set(title=f"{gigabits} Gbit/s", ylim=(0.05, 64))
        axes.axhline(1, color="0.4", linewidth=0.8)
        axes.minorticks_off()
    figure.axes[0].set(ylabel="times as fast as one machine")
    figure.axes[-1].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Rounds, fit, check and projection; JSON and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only-rounds", action="store_true")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--out", type=Path, default=Path("distributed.json"), help="JSON; the figure lies beside it")
    options = parser.parse_args()
    found: dict[str, Any] = {"rounds": paired_rounds(options.rounds, options.data_dir, BATCHES[:2])}
    if not options.only_rounds:
        single, double = Team(1, 1, "shared-memory", options.data_dir), Team(1, 2, "alone", options.data_dir)
        (line, measured), (machine, _) = fitted_line(single, options.repeats), fitted_line(double, options.repeats)
        single.end()
        double.end()
        print(f"one rank: {1e3 * line[0]:.2f} ms a step + {1e6 * line[1]:.2f} us an image", flush=True)
        found["one rank"] = {"line": line, "batches": FITTED_BATCHES, "seconds": measured}
        found["one machine, two threads"] = {"line": machine}
        found["exchanges"] = exchanges()
        for name, seconds in found["exchanges"]["2"][str(BYTES)].items():
            print(f"  2 ranks, {BYTES / 1e6:.2f} MB, {name}: {1e3 * seconds:.3f} ms")
        found["check"] = checked(line, found["exchanges"], options.data_dir, options.repeats)
        found["projection"] = projected(machine)
        for name, case in found["projection"].items():
            best = f"at most {case['best speed']:.1f} times as fast, on {case['best']}"
            print(f"{name}: {best}; half of ideal up to {case['half efficient up to']}")
        draw(found, options.out.with_suffix(".png"))
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
