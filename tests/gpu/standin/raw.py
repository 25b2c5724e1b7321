"""The stand-in's driver through ctypes: kernels of hand-written PTX, one call each."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_size_t, c_uint64, c_void_p
from typing import Any

import numpy as np

HEADER = ".version 8.0\n.target sm_90\n.address_size 64\n"
FORWARDS, BACKWARDS, SHUFFLED = range(3)


class DriverError(RuntimeError):
    """An entry point failed; `code` is its CUresult."""

    def __init__(self, code: int, name: str) -> None:
        super().__init__(f"{name}: error {code}")
        self.code = code


class Driver:
    """The library that this process takes for the CUDA driver, with a current context."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.check("cuInit", 0)
        context = c_void_p()
        self.check("cuDevicePrimaryCtxRetain", byref(context), 0)
        self.check("cuCtxSetCurrent", context)

    def check(self, name: str, *arguments: Any) -> None:
        code = getattr(self.library, name)(*arguments)
        if code:
            raise DriverError(code, name)

    def order(self, mode: int, seed: int = 0) -> None:
        """How blocks, and threads of a block, follow each other."""
        self.library.standin_order(c_int(mode), c_uint64(seed))

    def forgive(self) -> None:
        """Mend a context that a fault has broken."""
        self.library.standin_forgive()

    def module(self, body: str) -> Module:
        return Module(self, HEADER + body)

    def put(self, array: np.ndarray) -> int:
        address = self.allocate(array.nbytes)
        self.check(
            "cuMemcpyHtoD_v2", c_uint64(address), np.ascontiguousarray(array).ctypes.data_as(c_void_p), c_size_t(array.nbytes)
        )
        return address

    def allocate(self, size: int) -> int:
        address = c_uint64()
        self.check("cuMemAlloc_v2", byref(address), c_size_t(size))
        return address.value

    def get(self, address: int, array: np.ndarray) -> np.ndarray:
        self.check("cuMemcpyDtoH_v2", array.ctypes.data_as(c_void_p), c_uint64(address), c_size_t(array.nbytes))
        return array

    def free(self, *addresses: int) -> None:
        for address in addresses:
            self.check("cuMemFree_v2", c_uint64(address))


class Module:
    """A loaded PTX text."""

    def __init__(self, driver: Driver, text: str) -> None:
        self.driver, self.handle = driver, c_void_p()
        driver.check("cuModuleLoadData", byref(self.handle), text.encode() + b"\0")

    def run(
        self, kernel: str, *values: int, grid: int = 1, block: int = 32, together: bool = False, stream: c_void_p | None = None
    ) -> None:
        """Launch on parameters of 64 bits; without a stream, and wait."""
        function = c_void_p()
        self.driver.check("cuModuleGetFunction", byref(function), self.handle, kernel.encode())
        held = [c_uint64(value) for value in values]
        pointers = (c_void_p * max(1, len(held)))(*(ctypes.cast(byref(value), c_void_p) for value in held))
        shape = [ctypes.c_uint(size) for size in (grid, 1, 1, block, 1, 1, 0)]
        if together:
            self.driver.check("cuLaunchCooperativeKernel", function, *shape, stream, pointers)
        else:
            self.driver.check("cuLaunchKernel", function, *shape, stream, pointers, None)
        if stream is None:
            self.driver.check("cuCtxSynchronize")
