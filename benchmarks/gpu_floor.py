"""The least time that a training step can take on a GPU: operations, bytes and meetings, each at the rate of the device."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.measure import step_flop
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings

FLOAT = 4
# Of one multiprocessor and cycle: 128 fused multiply-adds in float32, 1024 by TF32 tensor cores (compute capability 9.0).
FLOP_PER_CYCLE = {"float32": 256, "tf32": 2048}


@dataclass(frozen=True)
class Gpu:
    """What the floor needs to know of a device."""

    name: str
    multiprocessors: int
    clock_hz: float
    bytes_per_second: float


@dataclass(frozen=True)
class Floor:
    """Seconds of one step."""

    arithmetic: float
    memory: float
    meetings: float

    @property
    def seconds(self) -> float:
        """Arithmetic and memory overlap; a meeting of the grid overlaps with nothing."""
        return max(self.arithmetic, self.memory) + self.meetings


def floor(gpu: Gpu, model: ModelSettings, batch: int, precision: str, meeting_seconds: float) -> Floor:
    """Of a dense step of so many images, with a meeting after each of its phases, one of which takes so many seconds."""
    flop = step_flop(model, batch)
    rate = gpu.multiprocessors * gpu.clock_hz * FLOP_PER_CYCLE[precision]
    return Floor(flop / rate, step_bytes(model, batch) / gpu.bytes_per_second, phases(model) * meeting_seconds)


def phases(model: ModelSettings) -> int:
    """Of a step that cannot run side by side: each layer forward, each but the first backward, and the last weights."""
    return 2 * (2 * len(model.hidden) + 2)


def step_bytes(model: ModelSettings, batch: int) -> int:
    """Through device memory at the least: parameters and both moments read and written once, the images' bytes read."""
    return 2 * 3 * FLOAT * Layout(model).size + batch * model.pixels
