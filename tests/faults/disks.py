"""Fail the Nth write, fsync or rename of a run, once or from then on, or cut the power there: for every N."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import Failed
from tests.faults.runs import TINY, Outcome, check_same, command, outcome, tiny_images
from vaefast.files import atomic
from vaefast.runs.checkpoint import CheckpointFolder

ONCE, FOR_GOOD, POWER_CUT = "fails once", "fails from then on", "is cut by a power failure"
MODES = (ONCE, FOR_GOOD, POWER_CUT)
FIRST_CHECKPOINT = "rename checkpoint-000001.manifest.json"


class PowerCut(BaseException):
    """The machine stops here; no handler of an error runs in a machine without power, and those here change nothing."""


@dataclass
class FailingDisk(atomic.Disk):
    """Counts what it is asked for, and fails when its time has come.

    After a power cut, what was not flushed is gone: half of a file that was written, and a name given since the last
    flush of its folder.
    """

    fails_at: int = 0  # 0: never
    mode: str = ONCE
    calls: list[str] = field(default_factory=list)
    files: dict[int, bool] = field(default_factory=dict)  # whether each file with its inode was flushed
    names: list[tuple[Path, Path | None]] = field(default_factory=list)  # given and not flushed; what each replaced

    def write(self, file: int, content: memoryview) -> int:
        self.files[os.fstat(file).st_ino] = False
        if self._fails(f"write {_name(file)}"):
            if self.mode == POWER_CUT:
                super().write(file, content[: len(content) // 2])
            self._fail(errno.ENOSPC)
        return super().write(file, content)

    def fsync(self, file: int) -> None:
        if self._fails(f"fsync {_name(file)}"):
            self._fail(errno.EIO)
        self.files[os.fstat(file).st_ino] = True
        if stat.S_ISDIR(os.fstat(file).st_mode):
            folder = Path(os.readlink(f"/proc/self/fd/{file}"))
            self.names = [(name, old) for name, old in self.names if name.parent.resolve() != folder]

    def rename(self, source: Path, target: Path) -> None:
        if self._fails(f"rename {target.name}"):
            self._fail(errno.EIO)
        old = None
        if target.exists():
            old = target.with_name(f"{target.name}.replaced")
            os.link(target, old)
        self.names.append((target, old))
        super().rename(source, target)

    def _fails(self, call: str) -> bool:
        self.calls.append(call)
        number = len(self.calls)
        return self.fails_at == number or (self.mode == FOR_GOOD and 0 < self.fails_at < number)

    def _fail(self, number: int) -> None:
        if self.mode == POWER_CUT:
            raise PowerCut
        raise OSError(number, os.strerror(number))

    def lose_what_was_not_flushed(self, folder: Path) -> None:
        """What the disk holds when the power is back."""
        for name, old in reversed(self.names):
            if old is None:
                name.unlink(missing_ok=True)
            else:
                os.replace(old, name)
        for path in folder.rglob("*"):
            if path.name.endswith(".replaced"):
                path.unlink()
            elif path.is_file() and not self.files.get(path.stat().st_ino, True):
                os.truncate(path, path.stat().st_size // 2)


@contextlib.contextmanager
def injected(disk: atomic.Disk) -> Iterator[None]:
    """All writing goes to this disk."""
    real, atomic.disk = atomic.disk, disk
    try:
        yield
    finally:
        atomic.disk = real


@dataclass(frozen=True)
class Unbroken:
    """The run that nothing happened to: its result, and what it asked of the disk."""

    data: str
    outcome: Outcome
    calls: list[str]


def unbroken(folder: Path) -> Unbroken:
    """Train it, in `folder`."""
    data, disk = tiny_images(folder / "grey.npy"), FailingDisk()
    with injected(disk):
        code, _, err = command(*_arguments(data, folder / "unbroken"))
    if code:
        raise Failed(f"the unbroken run ended with {code}: {err}")
    for path in folder.rglob("*.replaced"):
        path.unlink()
    return Unbroken(data, outcome(folder / "unbroken"), disk.calls)


def fail_at(number: int, mode: str, run: Unbroken, folder: Path) -> None:
    """Let the disk fail at its call of this number; the run must say so, and then go on to the same end.

    Raises
    ------
    Failed
        It did not.
    """
    case = f"call {number} of {len(run.calls)} ({run.calls[number - 1]}) {mode}"
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    disk = FailingDisk(fails_at=number, mode=mode)
    with injected(disk):
        try:
            code, _, err = command(*_arguments(run.data, out))
        except PowerCut:
            if mode != POWER_CUT:
                raise
            disk.lose_what_was_not_flushed(out)
        else:
            _check_refusal(case, mode, code, err)
            for path in out.rglob("*.replaced"):
                path.unlink()
    # Two calls on from its last name: the flush of the folder is over as well.
    _check_checkpoints(case, number > run.calls.index(FIRST_CHECKPOINT) + 2, out)
    code, _, err = command(*_arguments(run.data, out), "--resume", "auto")
    if code:
        raise Failed(f"{case}: resuming ended with {code}: {err}")
    check_same(run.outcome, out, case)


def _arguments(data: str, out: Path) -> tuple[str, ...]:
    return ("--data", data, *TINY, "--checkpoint-every", "1", "--out", str(out))


def _check_refusal(case: str, mode: str, code: int, err: str) -> None:
    if mode == POWER_CUT or code != 6 or err.count("\n") != 1 or "cannot " not in err:
        raise Failed(f"{case}: exit code {code} and {err!r} instead of 6 and one line")


def _name(file: int) -> str:
    """Of an open file, without what is random in it."""
    return re.sub(r"\.\w+\.part$", "", os.path.basename(os.readlink(f"/proc/self/fd/{file}"))).lstrip(".")


def _check_checkpoints(case: str, complete: bool, out: Path) -> None:
    """Once the first checkpoint is complete, one loads at any time, and none looks damaged."""
    folder = CheckpointFolder(out / "checkpoint")
    if complete or folder.numbers():
        _, _, damages = folder.newest()
        if damages:
            raise Failed(f"{case}: {damages}")
