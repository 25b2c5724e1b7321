"""A disk that fills up in the middle of a run: the first file that does not fit ends it with exit code 6."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from tests.faults import Failed
from tests.faults.runs import check_same, command, outcome, tiny_images
from vaefast.runs.checkpoint import CheckpointFolder

# Without checkpoints in between, metrics.jsonl outgrows everything that is written before it; with them, they do.
RUNS = {
    "checkpoints": ("--checkpoint-every", "1", "--epochs", "6"),
    "metrics": ("--checkpoint-every", "never", "--epochs", "14"),
}
MODEL = ("--engine", "reference", "--hidden", "6", "--latent", "2", "--batch-size", "7", "--threads", "1")


@contextlib.contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Writes past this size fail, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def cases(folder: Path) -> list[tuple[str, int]]:
    """Every size of file at which a run stops at another file, and some between, for each of the two runs."""
    found = []
    for kind in RUNS:
        _, whole = _whole(folder, kind)
        sizes = {path.stat().st_size for path in whole.rglob("*") if path.is_file()}
        sizes |= set(range(0, max(sizes), max(sizes) // 30))
        found += [(kind, size) for size in sorted({max(0, size - 1) for size in sizes} | sizes)]
    return found


def fill(kind: str, size: int, folder: Path) -> str:
    """Run with files of at most `size` bytes, then go on without; returns the name of what did not fit.

    Raises
    ------
    Failed
        The refusal, the checkpoints or the result are not what they must be.
    """
    arguments, whole = _whole(folder, kind)
    case, out = f"files of {size} bytes", folder / f"{kind}-{size}"
    with files_no_longer_than(size):
        code, _, err = command(*arguments, "--out", str(out))
    if code == 0:
        return "nothing"
    if code != 6 or err.count("\n") != 1:
        raise Failed(f"{case}: exit code {code} and {err!r} instead of 6 and one line")
    checkpoints = CheckpointFolder(out / "checkpoint")
    if checkpoints.numbers() and checkpoints.newest()[2]:
        raise Failed(f"{case}: the newest checkpoint is damaged")
    code, _, message = command(*arguments, "--out", str(out), "--resume", "auto")
    if code:
        raise Failed(f"{case}: resuming ended with {code}: {message}")
    check_same(outcome(whole), out, case)
    return Path(err.split(": ")[1].removeprefix("cannot write ")).name


def _whole(folder: Path, kind: str) -> tuple[tuple[str, ...], Path]:
    """The flags of the run, and the folder of the one that nothing happened to."""
    whole = folder / f"{kind}-whole"
    arguments = ("--data", tiny_images(folder / "grey.npy"), *MODEL, *RUNS[kind])
    if not whole.exists() and command(*arguments, "--out", str(whole))[0]:
        raise Failed("the run on an empty disk failed")
    return arguments, whole
