"""Memory of the device. The need of a model is computed and checked before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda

from vaefast.engines.cuda_gpu.target import SIMULATED
from vaefast.errors import SettingsError

# Left to the driver, to the kernels' code, and to rounding of each allocation.
RESERVE = 64 << 20
OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"


def allocated(allocate: Callable[[], Any], size: int, what: str, remedy: str) -> Any:
    """What `allocate` returns, of so many bytes.

    Raises
    ------
    SettingsError
        The device has not as much left.
    """
    free = cuda.current_context().get_memory_info().free
    if size + RESERVE > free and not SIMULATED:
        # Numba keeps some of what nobody holds any more, to free it together.
        cuda.current_context().memory_manager.deallocations.clear()
        free = cuda.current_context().get_memory_info().free
    if size + RESERVE > free:
        raise SettingsError(_message(size, free, what, remedy))
    try:
        return allocate()
    except Exception as error:
        if OUT_OF_MEMORY not in str(error):
            raise
        raise SettingsError(_message(size, free, what, remedy)) from error


def _message(size: int, free: float, what: str, remedy: str) -> str:
    return f"{what} takes {size / 1e9:.2f} GB of GPU memory, and {free / 1e9:.2f} GB are free: {remedy}"
