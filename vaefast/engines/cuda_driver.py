"""Ask the driver whether a CUDA GPU can be used here, without starting Numba or a CUDA context."""

from __future__ import annotations

import ctypes
import importlib.util
import os

DRIVERS = ("libcuda.so.1", "nvcuda.dll")
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


def fault() -> str | None:
    """The reason why the CUDA engine cannot run and the remedy, in one line. None if it can run."""
    if importlib.util.find_spec("numba_cuda") is None:
        return 'numba-cuda is not installed; pip install "vaefast[cuda]"'
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        return None
    driver = _driver()
    if driver is None:
        return "no NVIDIA driver is found; install one from 580 on, or choose engine cython or numba"
    count = ctypes.c_int(0)
    error = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if error == NO_DEVICE or (error == 0 and count.value == 0):
        return "there is no GPU that this process may use; look at nvidia-smi and CUDA_VISIBLE_DEVICES"
    if error:
        return f"the NVIDIA driver fails with error {error}; nvidia-smi may say more"
    return None


def _driver() -> ctypes.CDLL | None:
    for name in DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
