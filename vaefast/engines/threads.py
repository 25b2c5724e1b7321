"""The number of threads of a run. It is decided here and nowhere else."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from vaefast.errors import SettingsError

# If no number is asked for, the first of these that is set decides. Other numerical codes use the last two.
CGROUPS, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
VARIABLES = ("VAEFAST_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def granted_cores() -> int:
    """Cores that this process may use, by its affinity and cgroup quotas."""
    from joblib import cpu_count

    return max(1, min(int(cpu_count()), quota()))


def quota(root: Path = CGROUPS, process: Path = OWN_CGROUP) -> int:
    """The cores that the quotas of this process's control group and of all those above it grant; a large number without any.

    joblib asks the root group alone, which is the process's own in a container, and not in a service of systemd.
    """
    granted = sys.maxsize
    with contextlib.suppress(OSError, StopIteration):
        lines = process.read_text(encoding="utf-8").splitlines()
        folder = root / next(line.removeprefix("0::") for line in lines if line.startswith("0::")).strip("/")
        while folder != root and folder.is_relative_to(root):
            with contextlib.suppress(OSError, ValueError):
                given, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
                granted = granted if given == "max" else min(granted, -(-int(given) // int(period)))
            folder = folder.parent
    return granted


def asked_of_environment() -> int | None:
    """The number that the environment asks for; None if it asks for none.

    Raises
    ------
    SettingsError
        It is not a whole number from 1.
    """
    for name in VARIABLES:
        text = os.environ.get(name, "").strip()
        if text:
            # OMP_NUM_THREADS may list a number for each nesting level; the first is for the outermost.
            return _checked(name, text.split(",")[0])
    return None


def thread_count(requested: int | None) -> int:
    """The number that was asked for, or that of the environment, or all cores. Never more than the cores granted.

    Raises
    ------
    SettingsError
        The number asked for, or that of the environment, is not a whole number from 1.
    """
    cores = granted_cores()
    asked = asked_of_environment() if requested is None else _checked("threads", str(requested))
    return cores if asked is None else min(asked, cores)


def _checked(name: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise SettingsError(f"{name} is {text!r}: give a whole number from 1")
    return int(text)
