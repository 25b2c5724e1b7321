"""What a run leaves behind: settings, environment, metrics, the model and its figures, in one folder."""

from __future__ import annotations

import errno
import itertools
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from pathlib import Path

from vaefast import atomic
from vaefast.errors import OutputError, SettingsError
from vaefast.trainer import EpochMetrics
from vaefast.version import __version__

# Of a default folder; four bytes each and the date stay below the 255 bytes that file systems allow.
LONGEST_NAME = 50
PACKAGES = ("numpy", "numba", "llvmlite", "safetensors", "matplotlib", "scikit-learn")


class RunFolder:
    """A new folder for one run: `settings.json`, `environment.json`, `metrics.jsonl`, `model.safetensors`, `figures/`."""

    def __init__(self, path: Path) -> None:
        """Make the folder.

        Raises
        ------
        SettingsError
            The folder holds files already.
        OutputError
            It cannot be made or written to.
        """
        self.path = path
        self.figures = path / "figures"
        try:
            if path.is_dir() and any(path.iterdir()):
                raise SettingsError(f"{path} is not empty: choose another --out, or remove it to train anew")
            self.figures.mkdir(parents=True)
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"cannot make the folder {path}: {reason}; choose another --out") from error
        self._metrics = path / "metrics.jsonl"

    def write_json(self, name: str, content: Mapping[str, object]) -> None:
        self.write(name, (json.dumps(content, indent=2) + "\n").encode())

    def write(self, name: str, content: bytes) -> None:
        atomic.write_bytes(self.path / name, content)

    def append_metrics(self, metrics: EpochMetrics) -> None:
        """Add a line, whole or not at all, and flush it, so that a reader can follow the run."""
        line = (json.dumps(asdict(metrics)) + "\n").encode()
        try:
            with self._metrics.open("ab", buffering=0) as file:
                end = file.tell()
                try:
                    if file.write(line) < len(line):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            raise OutputError(f"cannot write {self._metrics}: {error.strerror or error}; free space") from error


def claim_default(data: str, now: datetime) -> Path:
    """Make the empty folder `runs/<data>-<date>-<time>`, with a number after it where runs start in the same second.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    name = "".join(c if c.isalnum() else "-" for c in data.lower())[:LONGEST_NAME]
    first = Path("runs") / f"{name}-{now:%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        path = first if number == 1 else first.with_name(f"{first.name}-{number}")
        try:
            path.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"cannot make the folder {path}: {error.strerror or error}; choose an --out") from error
    return path


def environment(engine: str, threads: int, data_sha256: str) -> dict[str, object]:
    """Where and with what a run was made."""
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
