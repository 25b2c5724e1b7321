r"""One peer in a process of its own, driven line by line, so that a comparer can interleave the epochs of several.

    python -m benchmarks.peers.run PEER --settings settings.json --data data.npz --weights weights.npz \
        --rounds-from-stdin

`settings.json` holds activation, batch_size, binarize, threads and seed; `data.npz` holds `train_images` and
`test_images`, float32 in [0, 1]; `weights.npz` holds the weights to start from. The process warms up, prints

    {"ready": true, "name": ..., "version": ..., "warm_up_seconds": ...}

and then answers each line of standard input with one line of JSON, waiting idle between them:

    epoch [steps]    {"seconds": ..., "elbo": ...}       trains; compiling for a new `steps` is not in the seconds
    evaluate         {"elbo": ...}                       of the test images
    memory           {"peak_rss_mb": ...}                of this process so far, data included
    quit             ends, as the end of standard input does

Without `--rounds-from-stdin` it does one epoch, evaluate and memory. An error is a line {"error": ...} and an exit
code: 1 the peer failed or is not installed, 2 the command line, the settings or a command, 3 the data or the weights.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, get_type_hints

from benchmarks.peers import BF16_PEERS, GPU_PEERS, PEERS, Settings, limit_threads

if TYPE_CHECKING:
    import numpy as np

SETTINGS = get_type_hints(Settings)
ONE_ROUND = ("epoch", "evaluate", "memory")


class PeerError(Exception):
    """Ends the process with one line of JSON and this exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as every other error here."""

    def error(self, message: str) -> NoReturn:
        raise PeerError(message, 2)


def main() -> int:
    """Serve; every error becomes one line of JSON."""
    # Whatever a library prints goes to standard error: standard output is the protocol's alone.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        _serve(answers)
    except PeerError as error:
        _answer(answers, error=str(error))
        return error.exit_code
    except Exception as error:
        _answer(answers, error=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _serve(answers: TextIO) -> None:
    arguments = _parse()
    settings = _read_settings(arguments.settings)
    limit_threads(settings.threads)
    try:
        peer = importlib.import_module(f"benchmarks.peers.{arguments.peer}")
    except ImportError as error:
        raise PeerError(f"{arguments.peer} cannot run here: {error}", 1) from error
    data = _read_arrays(arguments.data, ("train_images", "test_images"))
    trainer = peer.Trainer(data.pop("train_images"), _read_arrays(arguments.weights, ("logits.weight",)), settings)
    warm_up_seconds = trainer.warm_up()
    _answer(answers, ready=True, name=peer.NAME, version=peer.version(), warm_up_seconds=warm_up_seconds)

    warm: set[int | None] = {None}
    commands: Iterable[str] = sys.stdin if arguments.rounds_from_stdin else ONE_ROUND
    for line in commands:
        match line.split():
            case []:
                continue
            case ["quit"]:
                return
            case ["memory"]:
                _answer(answers, peak_rss_mb=peak_rss_mb())
            case ["evaluate"]:
                _answer(answers, elbo=_finite(trainer.evaluate(data["test_images"])))
            case ["epoch"]:
                _answer(answers, **_timed_epoch(trainer, None, warm))
            case ["epoch", steps] if steps.isdecimal() and int(steps) > 0:
                _answer(answers, **_timed_epoch(trainer, int(steps), warm))
            case _:
                raise PeerError(f"{line.strip()!r} is no command: epoch [steps], evaluate, memory or quit", 2)


def _timed_epoch(trainer: Any, steps: int | None, warm: set[int | None]) -> dict[str, float]:
    if steps not in warm:
        trainer.warm_up(steps)
        warm.add(steps)
    start = time.perf_counter()
    elbo = trainer.epoch(steps)
    return {"seconds": time.perf_counter() - start, "elbo": _finite(elbo)}


def peak_rss_mb() -> float:
    """The largest resident set of this process, in MB (10^6 bytes).

    Linux's own high-water mark where there is one: `ru_maxrss` also counts the parent process as it was at `exec`.
    """
    status = Path("/proc/self/status")
    if status.exists():
        kilobytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(kilobytes) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _parse() -> argparse.Namespace:
    parser = Parser(prog="python -m benchmarks.peers.run", description="Train one peer in a process of its own.")
    parser.add_argument("peer", choices=sorted({*PEERS, *BF16_PEERS, *GPU_PEERS}))
    parser.add_argument("--settings", type=Path, required=True, help="JSON: " + ", ".join(SETTINGS))
    parser.add_argument("--data", type=Path, required=True, help="npz: train_images, test_images, float32 in [0, 1]")
    parser.add_argument("--weights", type=Path, required=True, help="npz: the weights to start from")
    parser.add_argument("--rounds-from-stdin", action="store_true", help="answer commands from standard input")
    return parser.parse_args()


def _read_settings(path: Path) -> Settings:
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise PeerError(f"{path}: {error}", 2) from error
    if not isinstance(settings, dict) or settings.keys() != SETTINGS.keys():
        raise PeerError(f"{path}: give exactly {', '.join(SETTINGS)}", 2)
    for name, kind in SETTINGS.items():
        if type(settings[name]) is not kind:
            raise PeerError(f"{path}: {name} is {settings[name]!r}, not of type {kind.__name__}", 2)
    return Settings(**settings)


def _read_arrays(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise PeerError(f"{path}: {error}", 3) from error
    for name in needed:
        if name not in arrays:
            raise PeerError(f"{path}: holds no {name}", 3)
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise PeerError(f"{path}: {name} is {array.dtype}, not float32", 3)
    return arrays


def _finite(elbo: float) -> float:
    if not math.isfinite(elbo):
        raise PeerError(f"the ELBO is {elbo}", 1)
    return elbo


def _answer(answers: TextIO, **fields: Any) -> None:
    print(json.dumps(fields), file=answers, flush=True)


if __name__ == "__main__":
    sys.exit(main())
