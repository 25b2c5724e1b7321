"""How the phases of a program are chained on the device.

* `grid`: one cooperative launch for all steps; the whole grid meets after each phase. The default where the device can.
* `graph`: the launches of one step are recorded once in a CUDA graph and replayed.
* `launches`: each phase is launched from Python. For the simulator, for debugging, and where a device cannot do better.

All three run the same device code on the same tasks.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from vaefast.engines.cuda_gpu.call import Call
from vaefast.engines.cuda_gpu.phases import launch_phase, launch_phase_tf32, run_steps, run_steps_tf32
from vaefast.engines.cuda_gpu.plan import FLOAT32, TF32, Places
from vaefast.engines.cuda_gpu.target import SIMULATED, THREADS
from vaefast.engines.cuda_gpu.tiling import Machine
from vaefast.errors import SettingsError

CHAINS = ("grid", "graph", "launches")
VARIABLE = "VAEFAST_CUDA_CHAIN"
BLOCKS_PER_MULTIPROCESSOR = 2
KERNELS = {FLOAT32: (launch_phase, run_steps), TF32: (launch_phase_tf32, run_steps_tf32)}
# Of the simulator: every GPU thread is a thread of Python.
SIMULATED_MACHINE = Machine(warps=4, blocks=3)


def machine_here() -> Machine:
    """The current device, as plans see it."""
    if SIMULATED:
        return SIMULATED_MACHINE
    multiprocessors = int(cuda.get_current_device().MULTIPROCESSOR_COUNT)
    return Machine(THREADS // 32, BLOCKS_PER_MULTIPROCESSOR * multiprocessors)


def chain_here(asked: str | None = None) -> str:
    """The chain asked for, by argument or environment, or the best that the device can.

    Raises
    ------
    SettingsError
        There is no such chain, or the device cannot.
    """
    name = asked or os.environ.get(VARIABLE)
    cooperative = not SIMULATED and bool(cuda.get_current_device().COOPERATIVE_LAUNCH)
    if name is None:
        return "grid" if cooperative else "launches"
    if name not in CHAINS:
        raise SettingsError(f"{VARIABLE} is {name!r}: choose {', '.join(CHAINS[:-1])} or {CHAINS[-1]}")
    if (name == "grid" and not cooperative and not SIMULATED) or (name == "graph" and SIMULATED):
        raise SettingsError(f"{VARIABLE} is {name!r}, which this device cannot: unset it")
    return name


class Launcher:
    """Runs programs by one chain, with products of one precision."""

    def __init__(self, chain: str, machine: Machine, precision: int) -> None:
        self.chain, self.machine = chain, machine
        launch_phase, self._run_steps = KERNELS[precision]
        self._threads = machine.warps * 32
        self._stream = cuda.stream()
        self._phase = self._configured(launch_phase, machine.blocks)
        self._grid: Any = None

    def run(self, call: Call, places: Places, program: Any) -> None:
        """All steps of a call; the results are in its arrays once `synchronize` returns."""
        if self.chain == "grid":
            meetings = cuda.to_device(np.zeros(1, np.uint32), stream=self._stream)
            self._grid = self._grid or self._open_grid(call, places, program, meetings)
            self._grid(call, places, program, meetings)
            return
        clock = cuda.to_device(first_clock(program.shape[0]), stream=self._stream)
        if self.chain == "graph" and call.steps > 1:
            self._launch_step(call, places, program, clock)  # compiled, before it is recorded
            replay(lambda: self._launch_step(call, places, program, clock), self._stream, call.steps - 1)
            return
        for _ in range(call.steps):
            self._launch_step(call, places, program, clock)

    def synchronize(self) -> None:
        """Wait for the device."""
        self._stream.synchronize()

    def _launch_step(self, call: Call, places: Places, program: Any, clock: Any) -> None:
        for phase in range(program.shape[0]):
            self._phase(call, places, program, clock, phase)

    def _configured(self, kernel: Any, blocks: int) -> Any:
        """The kernel with its grid. Numba warns of grids below 128 blocks, which fill a GPU of up to 63 multiprocessors."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grid size .* low occupancy")
            return kernel[blocks, self._threads, self._stream]

    def _open_grid(self, *arguments: Any) -> Any:
        """The cooperative kernel, compiled for these arguments, with as many blocks as can be on the device at once."""
        largest = 1  # the simulator can have one
        if not SIMULATED:
            compiled = self._run_steps.compile(tuple(self._run_steps.typeof_pyval(value) for value in arguments))
            largest = int(compiled.max_cooperative_grid_blocks(self._threads))
        if largest == 0:
            raise SettingsError(f"the kernel of all phases does not fit this GPU: set {VARIABLE}=launches")
        return self._configured(self._run_steps, min(self.machine.blocks, largest))


def first_clock(phases: int) -> NDArray[np.int64]:
    """How often each phase has run before the first step: each sets forward the one before it, the first the last."""
    clock = np.zeros(phases, np.int64)
    clock[-1] = -1
    return clock


def replay(launch: Any, stream: Any, times: int) -> None:
    """Record what `launch` launches on the stream, and run it so many times."""
    from cuda.bindings import driver

    handle = driver.CUstream(int(stream.handle))
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    # Arrays that nobody holds any more are freed in between otherwise, which ends the recording.
    with cuda.defer_cleanup():
        _checked(driver.cuStreamBeginCapture(handle, mode))
        try:
            launch()
        finally:
            recorded = driver.cuStreamEndCapture(handle)
    graph = _checked(recorded)
    executable = _checked(driver.cuGraphInstantiate(graph, 0))
    try:
        for _ in range(times):
            _checked(driver.cuGraphLaunch(executable, handle))
        stream.synchronize()
    finally:
        _checked(driver.cuGraphExecDestroy(executable))
        _checked(driver.cuGraphDestroy(graph))


def _checked(answer: tuple[Any, ...]) -> Any:
    error, *values = answer
    if int(error) != 0:
        raise RuntimeError(f"the CUDA driver refused a graph: {error.name}")
    return values[0] if values else None
