"""A disk that fills up in the middle of a run: the first file that does not fit ends it with exit code 6."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from tests.faults import Failed
from tests.faults.runs import check_same, command, outcome, tiny_images
from vaefast.checkpoint import CheckpointFolder

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


def sizes(folder: Path) -> list[int]:
    """Every size of file at which a run stops at another file, and some between: all sizes of the files of a whole run."""
    _whole(folder)
    found = {path.stat().st_size for path in (folder / "whole").rglob("*") if path.is_file()}
    found |= set(range(0, max(found), max(found) // 20))
    return sorted({max(0, size - 1) for size in found} | found)


def _whole(folder: Path) -> tuple[tuple[str, ...], Path]:
    """The flags of the run, and the folder of the one that nothing happened to."""
    data, whole = tiny_images(folder / "grey.npy"), folder / "whole"
    arguments = ("--data", data, *MODEL, "--checkpoint-every", "1", "--epochs", "6")
    if not whole.exists() and command(*arguments, "--out", str(whole))[0]:
        raise Failed("the run on an empty disk failed")
    return arguments, whole


def fill(size: int, folder: Path) -> str:
    """Run for six epochs with files of at most `size` bytes, then go on without; returns the name of what did not fit.

    Raises
    ------
    Failed
        The refusal, the checkpoints or the result are not what they must be.
    """
    arguments, whole = _whole(folder)
    out = folder / f"full-{size}"
    with files_no_longer_than(size):
        code, _, err = command(*arguments, "--out", str(out))
    if code == 0:
        return "nothing"
    if code != 6 or err.count("\n") != 1:
        raise Failed(f"files of {size} bytes: exit code {code} and {err!r} instead of 6 and one line")
    checkpoints = CheckpointFolder(out / "checkpoint")
    if checkpoints.numbers() and checkpoints.newest()[2]:
        raise Failed(f"files of {size} bytes: the newest checkpoint is damaged")
    code, _, message = command(*arguments, "--out", str(out), "--resume", "auto")
    if code:
        raise Failed(f"files of {size} bytes: resuming ended with {code}: {message}")
    check_same(outcome(whole), out, f"files of {size} bytes")
    return Path(err.split(": ")[1].removeprefix("cannot write ")).name
