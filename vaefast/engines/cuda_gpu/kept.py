"""The compiled CUDA kernels, cached on disk between processes; see `vaefast.engines.kept_kernels`."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import cuda
from numba.cuda import dispatcher

from vaefast.engines.kept_kernels import KernelFile, folder_of, kept_or_not, key_of
from vaefast.models import layout, noise, settings

# What has a part in the machine code, as it is installed.
TOOLS = ("numba-cuda", "cuda-bindings", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink")


class Kept:
    """The interface that a dispatcher of numba-cuda expects of its cache."""

    cache_path = None

    def __init__(self, name: str) -> None:
        self._file = KernelFile(name, cache_folder)

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled kernel, or None."""
        target_context.refresh()
        try:
            state = self._file.load(_version_of(signature))
            kernel = None if state is None else dispatcher._Kernel._rebuild(**state)
        except Exception:
            # Whatever a foreign or outdated file makes Numba raise, the remedy is the same: compile.
            kernel = None
        if kernel is None:
            announce_compilation()
        return kernel

    def save_overload(self, signature: Any, kernel: Any) -> None:
        """Save the kernel for the next process. If that fails, the next process compiles."""
        self._file.save(_version_of(signature), kernel._reduce_states())

    def enable(self) -> None:
        """Do nothing: it is always enabled."""

    def disable(self) -> None:
        """Where nothing can be kept, there is no folder."""

    def flush(self) -> None:
        """Do nothing: no code is held in memory."""


def cache_folder() -> Path | None:
    """The private folder of compiled kernels; None where no such folder can be had."""
    return folder_of(_key())


@functools.cache
def _key() -> str:
    """Changes with any kernel source and any version of what compiles it."""
    others = (Path(str(module.__file__)) for module in (noise, layout, settings))
    sources = [*sorted(Path(__file__).parent.glob("*.py")), *others]
    return key_of(sources, numba.__version__, llvmlite.__version__, *map(_version, TOOLS))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _version_of(signature: Any) -> tuple[str, Any]:
    """Machine code is for arguments of certain types, and for one compute capability."""
    return repr(signature), tuple(cuda.get_current_device().compute_capability)


@functools.cache
def announce_compilation() -> None:
    """Print once a process that kernels are being compiled, which takes some seconds."""
    kept = kept_or_not(cache_folder())
    print(f"vaefast: compiling the CUDA kernels, some seconds, {kept}", file=sys.stderr, flush=True)
