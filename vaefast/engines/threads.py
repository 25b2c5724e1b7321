"""The number of threads of a run. It is decided here and nowhere else."""

from __future__ import annotations

import os

from vaefast.errors import SettingsError

# If no number is asked for, the first of these that is set decides. Other numerical codes use the last two.
VARIABLES = ("VAEFAST_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def granted_cores() -> int:
    """Cores that this process may use, by its affinity and cgroup quotas."""
    from joblib import cpu_count

    return int(cpu_count())


def thread_count(requested: int | None) -> int:
    """The number that was asked for, or that of the environment, or all cores. Never more than the cores granted.

    Raises
    ------
    SettingsError
        The number asked for, or that of the environment, is not a whole number from 1.
    """
    cores = granted_cores()
    if requested is not None:
        return min(_checked("threads", str(requested)), cores)
    for name in VARIABLES:
        text = os.environ.get(name, "").strip()
        if text:
            # OMP_NUM_THREADS may list a number for each nesting level; the first is for the outermost.
            return min(_checked(name, text.split(",")[0]), cores)
    return cores


def _checked(name: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise SettingsError(f"{name} is {text!r}: give a whole number from 1")
    return int(text)
