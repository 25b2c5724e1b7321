"""The driver library, compiled into a folder, and the environment in which a process finds it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).parent / "c"
ROOT = Path(__file__).parents[3]
LIBRARY = "libcuda.so.1"
# Floats as written: no contraction, and `fma` where PTX says so.
FLAGS = (
    "-std=gnu11", "-fPIC", "-shared", "-Wl,-Bsymbolic", "-fno-strict-aliasing", "-fwrapv", "-ffp-contract=off",
    "-fno-math-errno", "-march=native",
)  # fmt: skip


def reason_against() -> str | None:
    """Why the stand-in cannot be built here, or None."""
    if sys.platform != "linux":
        return "the stand-in for a GPU needs Linux"
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    if header() is None:
        return "nvidia-cuda-runtime, which has cuda.h, is not installed"
    return (
        "nvidia-nvjitlink is installed, which makes machine code that no CPU runs" if _installed("nvidia-nvjitlink") else None
    )


def header() -> Path | None:
    """NVIDIA's cuda.h, from its wheel."""
    try:
        files = importlib.metadata.files("nvidia-cuda-runtime") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(path.locate())) for path in files if path.name == "cuda.h"), None)


def _installed(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def build(folder: Path) -> dict[str, str]:
    """Compile the driver into a folder; the variables under which a process takes it for the real one."""
    cuda = header()
    assert cuda is not None
    compiled(
        sorted(SOURCES.glob("*.c")),
        folder / LIBRARY,
        "-O2",
        f"-I{cuda.parent}",
        f"-Wl,-soname,{LIBRARY}",
        "-lm",
        "-ldl",
        "-lpthread",
    )
    others = os.environ.get("LD_LIBRARY_PATH")
    return {
        "LD_LIBRARY_PATH": f"{folder}:{others}" if others else str(folder),
        "NUMBA_CACHE_DIR": f"{folder}/kernels",  # what was linked here is PTX, and nothing for a GPU
        "VAEFAST_STANDIN_FOLDER": str(folder),
        "VAEFAST_STANDIN_TRANSLATE": f"cd '{ROOT}' && '{sys.executable}' -m tests.gpu.standin.translate",
    }


def compiled(sources: Sequence[Path], target: Path, *flags: str) -> None:
    """Compile C into a shared object.

    Raises
    ------
    RuntimeError
        With what the compiler says.
    """
    command = ["gcc", *FLAGS, f"-I{SOURCES}", *map(str, sources), "-o", str(target), *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if result.returncode:
        raise RuntimeError(f"gcc: {result.stderr[:4000]}")
