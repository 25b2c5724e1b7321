"""The folder of a run: settings, environment, metrics, checkpoints, the model and its figures."""

from __future__ import annotations

import itertools
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path

from vaefast.errors import OutputError, SettingsError
from vaefast.files import atomic
from vaefast.runs.checkpoint import CheckpointFolder
from vaefast.runs.folder_lock import NAME as LOCK
from vaefast.runs.folder_lock import FolderLock
from vaefast.training.trainer import EpochMetrics
from vaefast.version import __version__

# Of a default folder; four bytes each and the date stay below the 255 bytes that file systems allow.
LONGEST_NAME = 50
# What a folder holds from which no run can be continued, and what helps.
BARELY_BEGUN = "holds a run that ended before its first checkpoint: start it anew with --resume auto --out {}"
PACKAGES = ("numpy", "numba", "llvmlite", "safetensors", "matplotlib", "scikit-learn")


class RunFolder:
    """The folder of one run, locked: `settings.json`, `environment.json`, `metrics.jsonl`, `checkpoint/`,
    `model.safetensors`, `figures/`."""

    def __init__(self, path: Path, *, existing: bool = False) -> None:
        """Make the folder, or take over one that a run has left.

        Raises
        ------
        SettingsError
            A new one holds files already, or another run is using it.
        OutputError
            It cannot be made or written to.
        """
        self.path = path
        self.figures = path / "figures"
        self.checkpoints = CheckpointFolder(path / "checkpoint")
        self._metrics = path / "metrics.jsonl"
        self._lock: FolderLock | None = None
        try:
            if not existing:
                self._refuse_files()
            atomic.make_folder(path)
            self._lock = FolderLock(path)
            if not existing:
                self._refuse_files()
            self.figures.mkdir(exist_ok=existing)
            for folder in (path, self.figures, self.checkpoints.path) if existing else ():
                atomic.remove_temporaries(folder)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise atomic.cannot_make(path, error) from error
            raise

    def close(self) -> None:
        """Release the lock of the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def write_json(self, name: str, content: Mapping[str, object]) -> None:
        self.write(name, (json.dumps(content, indent=2) + "\n").encode())

    def write(self, name: str, content: bytes) -> None:
        atomic.write_bytes(self.path / name, content)

    def holds(self, name: str, content: bytes) -> bool:
        """Whether the file of this name is there and has this content."""
        path = self.path / name
        return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content

    def append_metrics(self, metrics: EpochMetrics) -> None:
        """Append a line, whole or not at all, and flush it, so that the file can be followed."""
        atomic.append(self._metrics, _line(metrics))

    def restore_metrics(self, history: Sequence[EpochMetrics]) -> None:
        """Cut the file to these lines. The epochs after the checkpoint are trained again."""
        content = b"".join(map(_line, history))
        if content or self._metrics.exists():
            self.write(self._metrics.name, content)

    def _refuse_files(self) -> None:
        """Refuse a folder that holds anything but a lock. `FolderLock` decides whether the owner of the lock is alive."""
        if self.path.is_dir() and any(path.name != LOCK for path in self.path.iterdir()):
            if (self.path / LOCK).exists():
                FolderLock(self.path).release()  # says so where a run is under way
            if is_barely_begun(self.path):
                raise SettingsError(f"{self.path} {BARELY_BEGUN.format(self.path)}")
            raise SettingsError(f"{self.path} is not empty: choose another --out, or continue its run with --resume")


def is_barely_begun(path: Path) -> bool:
    """Whether a folder holds nothing, or only what a run killed before its first checkpoint can have left."""
    if not path.exists():
        return True
    if not path.is_dir():
        return False
    known = {LOCK, "settings.json", "environment.json", "figures", "checkpoint", "tensorboard"}
    names = {entry.name for entry in path.iterdir() if not entry.name.endswith(atomic.TEMPORARY)}
    figures, checkpoints = path / "figures", CheckpointFolder(path / "checkpoint")
    return names <= known and not (figures.is_dir() and any(figures.iterdir())) and not checkpoints.numbers()


def newest_run(runs: Path) -> Path | None:
    """Of the runs in a folder, the one whose checkpoints were written last; None where there are no checkpoints."""
    found = []
    for path in runs.iterdir() if runs.is_dir() else ():
        folder = CheckpointFolder(path / "checkpoint")
        if folder.numbers():
            # The time of the folder, because a run that is under way removes files meanwhile.
            found.append((folder.path.stat().st_mtime_ns, path))
    return max(found)[1] if found else None


def _line(metrics: EpochMetrics) -> bytes:
    return (json.dumps(metrics.as_dict()) + "\n").encode()


def claim_default(data: str, now: datetime) -> Path:
    """Make the empty folder `runs/<data>-<date>-<time>`, with a number after it where runs start in the same second.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    name = "".join(c if c.isalnum() else "-" for c in data.lower())[:LONGEST_NAME]
    first = Path("runs") / f"{name}-{now:%Y%m%d-%H%M%S}"
    try:
        atomic.make_folder(first.parent)
        path = _made(first)
        atomic.sync_folder(first.parent)
    except OSError as error:
        raise OutputError(f"cannot make the folder {first}: {error.strerror or error}; choose an --out") from error
    return path


def _made(first: Path) -> Path:
    """This folder, or the first with a number after its name that nothing has."""
    for number in itertools.count(1):
        path = first if number == 1 else first.with_name(f"{first.name}-{number}")
        try:
            path.mkdir()
            break
        except FileExistsError:
            continue
    return path


def environment(engine: str, threads: int, data_sha256: str) -> dict[str, object]:
    """The machine and the software of a run."""
    return {
        "vaefast": __version__,
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "engine": engine,
        "threads": threads,
        "data_sha256": data_sha256,
    }


def cpu_name() -> str:
    """The processor as the operating system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
