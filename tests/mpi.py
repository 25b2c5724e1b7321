"""`mpiexec` for the tests: programs and commands on several ranks, and what becomes of them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

# Beside the interpreter, where the wheel of MPICH puts it, or on the path.
MPIEXEC = shutil.which("mpiexec", path=sysconfig.get_path("scripts")) or shutil.which("mpiexec")
HERE = Path(__file__).parent

with_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs mpi4py and mpiexec: pip install 'vaefast[mpi]'",
)


def started(ranks: int, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`mpiexec -n ranks python arguments`, in a group of its own, as a shell would start it."""
    assert MPIEXEC is not None
    path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [MPIEXEC, "-n", str(ranks), sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], timeout: float = 240) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a job, which must end by itself."""
    try:
        out, error = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, error = process.communicate()
        pytest.fail(f"the job did not end: {out}{error}")
    return process.returncode, out, error


def run(ranks: int, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a job."""
    return ended(started(ranks, *arguments, **environment))


def train(ranks: int, *flags: str) -> tuple[int, str, str]:
    """`python -m vaefast.train` on several ranks."""
    return run(ranks, "-m", "vaefast.train", *flags)
