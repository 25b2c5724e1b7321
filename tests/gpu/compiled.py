"""All entry points compiled to PTX and assembled without a GPU: `python -m tests.gpu.compiled 9.0`, the compute capability.

Prints one JSON object: for each kernel its registers, bytes of stack and of spills, and what its PTX holds. Whether a
cooperative kernel's device library is found is asked of nvlink.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TENSOR_CORES_FROM = (8, 0)


def main(compute: str) -> None:
    """Compile, assemble, link, report."""
    # Read when Numba is imported. Nothing asks for a device then.
    os.environ["NUMBA_FORCE_CUDA_CC"] = compute
    major, minor = (int(part) for part in compute.split("."))
    _without_a_device((major, minor))
    report = {name: _report(name, signature, (major, minor)) for name, signature in _signatures((major, minor)).items()}
    print(json.dumps(report))


def _without_a_device(capability: tuple[int, int]) -> None:
    """What Numba asks of a device and of nvrtc while it compiles."""
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import nvrtc

    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    nvrtc.get_arch_option = lambda major, minor, arch="": f"compute_{_architecture((major, minor))}"


def _architecture(capability: tuple[int, int]) -> str:
    """As Numba compiles for a device: from 9.0 on with what only that device has."""
    return "{}{}{}".format(*capability, "a" if capability >= (9, 0) else "")


def _signatures(capability: tuple[int, int]) -> dict[str, Any]:
    from numba import types

    from vaefast.engines.cuda_gpu.call import Call
    from vaefast.engines.cuda_gpu.plan import Places

    vectors = dict.fromkeys(("arena", "floats", "pace", "log_likelihood", "kl"), types.float32[::1])
    vectors |= dict.fromkeys(("starts", "order", "keys"), types.int64[::1])
    vectors |= {"pixels": types.int32[::1], "bytes": types.uint8[::1]}
    vectors["seed"] = types.uint32[::1]
    scalars = dict.fromkeys(Call._fields[-5:], types.float32)
    fields = tuple(vectors.get(name) or scalars.get(name, types.int64) for name in Call._fields)
    call, places = types.NamedTuple(fields, Call), types.NamedUniTuple(types.int64, len(Places._fields), Places)
    program, clock, meetings = types.int32[:, ::1], types.int64[::1], types.uint32[::1]
    launch = types.void(call, places, program, clock, types.int64)
    run = types.void(call, places, program, meetings)
    kernels = {"launch_phase": launch, "run_steps": run}
    if capability >= TENSOR_CORES_FROM:
        kernels |= {"launch_phase_tf32": launch, "run_steps_tf32": run}
    return kernels


def _report(name: str, signature: Any, capability: tuple[int, int]) -> dict[str, Any]:
    from numba import cuda

    from vaefast.engines.cuda_gpu import phases
    from vaefast.engines.cuda_gpu.target import LAUNCH_BOUNDS

    function = getattr(phases, name).py_func
    ptx, _ = cuda.compile(function, signature, cc=capability, device=False, abi="numba", launch_bounds=LAUNCH_BOUNDS)
    with tempfile.TemporaryDirectory() as folder:
        source, relocatable = Path(folder) / "kernel.ptx", Path(folder) / "kernel.o"
        source.write_text(ptx)
        architecture = f"sm_{_architecture(capability)}"
        said = _run(tool("ptxas"), f"-arch={architecture}", "-v", "-c", str(source), "-o", str(relocatable))
        _run(
            tool("nvlink"),
            f"-arch={architecture}",
            str(relocatable),
            str(tool("libcudadevrt.a")),
            "-o",
            f"{folder}/kernel.cubin",
        )
    return {"ptxas": said} | resources(said) | contents(ptx)


def resources(said: str) -> dict[str, int]:
    """Registers, stack and spills from what `ptxas -v` says of one kernel."""
    patterns = {
        "registers": r"Used (\d+) registers",
        "stack": r"(\d+) bytes stack frame",
        "spill stores": r"(\d+) bytes spill stores",
        "spill loads": r"(\d+) bytes spill loads",
    }
    return {name: int(re.findall(pattern, said)[-1]) for name, pattern in patterns.items()}


def contents(ptx: str) -> dict[str, int]:
    """How often the PTX has what a kernel should have, or should not."""
    patterns = {
        "float64": r"\.f64",
        "cached as constant": r"ld\.global\.nc",
        "local memory": r"\b(?:ld|st)\.local",
        "float atomics": r"\b(?:atom|red)\.[^;]*\.f32",
        "tensor cores": r"mma\.sync",
        "quad loads from memory": r"ld\.global\.v4\.f32",
        "lines at constant distances": r"ld\.shared\.v4\.f32[^;]*\+(?:144|288|432)\]",
        "meetings": r"red\.release\.gpu\.add\.u32|ld\.acquire\.gpu\.u32",
        "untyped accesses": r"\b(?:ld|st)\.(?:v4\.)?f32",
    }
    return {name: len(re.findall(pattern, ptx)) for name, pattern in patterns.items()}


def tool(name: str) -> Path:
    """A file of NVIDIA's wheels."""
    for package in ("nvidia-cuda-nvcc", "nvidia-cuda-runtime"):
        for path in files(package) or ():
            if path.name == name:
                return Path(str(path.locate()))
    raise FileNotFoundError(f"{name} is in neither nvidia-cuda-nvcc nor nvidia-cuda-runtime")


def _run(*command: object) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    if result.returncode:
        raise RuntimeError(f"{command[0]}: {result.stdout}{result.stderr}")
    return result.stdout + result.stderr


if __name__ == "__main__":
    main(sys.argv[1])
