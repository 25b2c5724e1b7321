"""SIGKILL at a random moment of a run, which is then resumed: the result must be the unbroken run's, bit for bit."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults import Failed
from tests.faults.runs import Outcome, check_same, outcome, process, tiny_images
from vaefast.files import atomic
from vaefast.runs.checkpoint import CheckpointFolder

# A second of training or less, and a checkpoint after every piece of it; a write takes about a tenth as long as a piece.
MODEL = ("--hidden", "100", "100", "--latent", "8", "--batch-size", "10", "--seed", "3")
RUN = (*MODEL, "--epochs", "6", "--checkpoint-every", "0m", "--validation", "400", "--patience", "2")
LIMIT = 120.0


@dataclass(frozen=True)
class Unbroken:
    """The run that is not killed: its data and result, and the seconds from its folder's making to two other moments."""

    data: str
    outcome: Outcome
    to_first_checkpoint: float
    to_model: float


def unbroken(folder: Path) -> Unbroken:
    """Train it, in `folder`."""
    data = tiny_images(folder / "grey.npy", 4000, 64)
    run, start = _started(folder, data, "unbroken")
    first = _seconds_to(folder / "unbroken" / "checkpoint" / "checkpoint-000001.manifest.json", run, start)
    model = _seconds_to(folder / "unbroken" / "model.safetensors", run, start)
    _, err = run.communicate(timeout=LIMIT)
    if run.returncode:
        raise Failed(f"the unbroken run ended with {run.returncode}: {err}")
    return Unbroken(data, outcome(folder / "unbroken"), first, model)


def kill(seed: int, number: int, folder: Path, whole: Unbroken) -> str:
    """Kill a run, resume it with one thread or two, and compare; returns in which part of the run it was killed.

    Raises
    ------
    Failed
        The result differs, or resuming failed.
    """
    rng = random.Random(f"{seed}-{number}")
    # Most kernels are loaded, and most figures drawn, with nothing at stake: one kill in ten will do for each.
    start, end = rng.choice(((0.0, 1.0), *9 * ((whole.to_first_checkpoint / whole.to_model, 1.1),)))
    delay, threads = whole.to_model * rng.uniform(start, end), rng.choice((1, 2))
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    run, begun = _started(folder, whole.data, "run")
    time.sleep(max(0.0, begun + delay - time.monotonic()))
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=LIMIT)
    part = _part(out) if run.returncode == -signal.SIGKILL else "after its end"
    case = f"case {number} of seed {seed}, killed {part}"
    arguments = ("--data", whole.data, *RUN, "--out", "run", "--resume", "auto", "--threads", str(threads))
    with process(folder, *arguments) as resumed:
        _, err = resumed.communicate(timeout=LIMIT)
    if resumed.returncode or "damaged" in err:
        raise Failed(f"{case}: resuming ended with {resumed.returncode}: {err}")
    check_same(whole.outcome, out, case)
    return part


def _part(out: Path) -> str:
    """Of the run, to judge by what it left."""
    checkpoints = CheckpointFolder(out / "checkpoint").numbers()
    if (out / "model.safetensors").exists():
        return "while figures were drawn"
    if not checkpoints:
        return "before its first checkpoint"
    writing = any(path.name.endswith(atomic.TEMPORARY) for path in out.rglob(".*"))
    return "within a write" if writing else "between two writes"


def _started(folder: Path, data: str, name: str) -> tuple[subprocess.Popen[str], float]:
    """The run, and when its folder was there."""
    run = process(folder, "--data", data, *RUN, "--out", name, "--threads", "2")
    start = time.monotonic()
    return run, start + _seconds_to(folder / name, run, start)


def _seconds_to(path: Path, run: subprocess.Popen[str], start: float) -> float:
    """From `start` until a running process has made this file or folder."""
    while not path.exists() and run.poll() is None and time.monotonic() < start + LIMIT:
        time.sleep(0.001)
    return time.monotonic() - start
