"""The target of the kernels, a GPU or Numba's simulator, and the compilation for it.

The simulator (`NUMBA_ENABLE_CUDASIM=1`) runs each GPU thread as a Python thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config, cuda, types

# What numba-cuda has and Numba itself has not.
jit: Any = cuda.jit
settings: Any = config

SIMULATED = bool(settings.ENABLE_CUDASIM)
FLOAT = types.float32 if not SIMULATED else np.float32
INT = types.int32 if not SIMULATED else np.int32
# Of shared memory, for accesses of 16 bytes.
ALIGNMENT = None if SIMULATED else 16
THREADS = 256
# Two such blocks on each multiprocessor leave 128 of its 65,536 registers to a thread.
LAUNCH_BOUNDS = (THREADS, 2)


def _has_tensor_cores() -> bool:
    """Whether what kernels are compiled for has the TF32 form of `mma`."""
    if SIMULATED:
        return True
    forced = settings.FORCE_CUDA_CC
    return tuple(forced[:2] if forced else cuda.get_current_device().compute_capability) >= (8, 0)


TENSOR_CORES = _has_tensor_cores()

if SIMULATED:

    def device(function: Any) -> Any:
        """As it is, unless it asks which thread runs it: the simulator takes long to tell that in every call."""
        return jit(device=True)(function) if "cuda" in function.__code__.co_names else function

    entry_point = jit
else:
    from vaefast.engines.cuda_gpu.kept import Kept

    device = jit(device=True, forceinline=True)

    def entry_point(function: Any) -> Any:
        """A kernel, and its machine code kept on disk.

        Without optimisation when it is linked: it is one module, and what is linked is the PTX that was checked.
        """
        kernel = jit(launch_bounds=LAUNCH_BOUNDS, lto=False)(function)
        kernel._cache = Kept(function.__name__)
        return kernel
