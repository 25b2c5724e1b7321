"""The contract of an engine on top of the kernels. This module owns the memory of the device and calls the kernels."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, ImportanceTerms, Pace, State, are_finite
from vaefast.engines.cuda_gpu.call import PACES, Call
from vaefast.engines.cuda_gpu.images import Placed, lists, sent
from vaefast.engines.cuda_gpu.launching import Launcher, chain_here, machine_here
from vaefast.engines.cuda_gpu.memory import allocated
from vaefast.engines.cuda_gpu.plan import PRECISIONS, Plan, empty_program, make_plan, parameter_size
from vaefast.engines.cuda_gpu.rows import BINARIZATION_CODES
from vaefast.engines.cuda_gpu.target import TENSOR_CORES
from vaefast.engines.cuda_gpu.tiling import Machine
from vaefast.engines.objectives import bounded
from vaefast.errors import EngineUnavailable, SettingsError
from vaefast.models.grey_levels import grey_levels
from vaefast.models.layout import PANEL, Layout, padded
from vaefast.models.noise import Purpose
from vaefast.models.settings import ModelSettings, TrainingSettings

# Rows of a forward pass: a wave of the largest tiles for each multiprocessor, and so many elements of workspace at most.
FORWARD_ROWS, FORWARD_ELEMENTS = 4096, 1 << 27
# Samples of an image that pass the decoder together. The result's last bits depend on it, so it is the same for any set.
GROUP = 16
# Elements that the kernels' 32-bit indices reach, less what is read past the end.
LARGEST_ARENA = 2**31
SMALLER = "choose a smaller --hidden, --latent or --batch-size, or engine cython or numba"


class CudaEngine:
    """See `vaefast.engines.contract.Engine`; float32, or products by TF32 tensor cores where the settings ask for it.

    Parameters
    ----------
    model, training
        Checked settings.
    threads
        Of the CPU, which does little here.
    machine, chain
        For tests and benchmarks: what the plan is made for, and how phases are chained (`launching.py`).
    """

    name = "cuda"

    def __init__(
        self,
        model: ModelSettings,
        training: TrainingSettings,
        threads: int = 1,
        machine: Machine | None = None,
        chain: str | None = None,
    ) -> None:
        self.model, self.training, self.threads = model, training, threads
        self.layout = Layout(model)
        self.step = 0
        if training.precision == "tf32" and not TENSOR_CORES:
            raise EngineUnavailable("precision tf32 needs a GPU of compute capability 8.0 or more: choose float32")
        machine = machine or machine_here()
        precision = PRECISIONS[training.precision]
        self._launcher = Launcher(chain_here(chain), machine, precision)
        self._parameters = parameter_size(self.layout)
        self._plan = make_plan(self.layout, training.batch_size, machine, 3 * self._parameters, precision)
        self._forward_plan = make_plan(self.layout, _forward_rows(model), machine, self._plan.end, precision)
        size = self._forward_plan.end
        if size > LARGEST_ARENA:
            raise SettingsError(
                f"a model of {self.layout.size:,} parameters takes more than the 2^31 numbers that kernels count: {SMALLER}"
            )
        self._arena = allocated(
            lambda: cuda.device_array(size, np.float32), 4 * size, f"a model of {self.layout.size:,} parameters", SMALLER
        )
        self._programs: dict[int, Any] = {}
        self._seed = sent(np.array([training.seed & 0xFFFFFFFF, training.seed >> 32], np.uint32))
        self.load_state(State.zeros(self.layout.size))

    def state(self, out: State | None = None) -> State:
        return State.from_panels(self.layout, self._panels(), self.step, out)

    def is_finite(self) -> bool:
        return are_finite(*self._panels())

    def _panels(self) -> NDArray[np.float32]:
        """A copy of parameters and moments in panel form, (3, panel_size)."""
        self._launcher.synchronize()
        return self._arena[: 3 * self._parameters].copy_to_host().reshape(3, -1)[:, : self.layout.panel_size]

    def load_state(self, state: State) -> None:
        panels = np.zeros((3, self._parameters), np.float32)
        for vector, row in zip((state.parameters, state.first_moments, state.second_moments), panels, strict=True):
            self.layout.to_panels(vector, row[: self.layout.panel_size])
        self._launcher.synchronize()
        self._arena[: panels.size].copy_to_device(panels.reshape(-1))
        self.step = state.step

    def place(self, values: NDArray[Any]) -> Placed:
        grey = values.dtype != np.uint8 or self.training.binarize == "none"
        starts, pixels, levels = lists(grey_levels(values) if grey else values)
        in_bytes, nothing = levels.dtype == np.uint8, np.empty(0, levels.dtype)
        return allocated(
            lambda: Placed(
                starts=sent(starts),
                pixels=sent(pixels),
                bytes=sent(levels if in_bytes else nothing.astype(np.uint8)),
                floats=sent(nothing.astype(np.float32) if in_bytes else levels),
                in_bytes=in_bytes,
                size=len(values),
            ),
            starts.nbytes + pixels.nbytes + levels.nbytes,
            f"a set of {len(values):,} images",
            "train on fewer of them",
        )

    def warm_up(self, placed: Placed) -> None:
        call = self._call(placed, np.empty(0, np.int64), None, self.training.batch_size, 0)
        self._run(call._replace(steps=1), self._plan, self._plan.programs.draw)
        self._run(call, self._plan, self._plan.programs.step)
        self._launcher.synchronize()

    def train(self, placed: Placed, order: NDArray[np.int64], pace: Pace | None = None) -> BoundTerms:
        batch, adam, objective = self.training.batch_size, self.training.adam, self.training.objective
        steps = -(-len(order) // batch)
        pace = pace or Pace.constant(adam.learning_rate, objective.beta, steps)
        if not steps:
            return BoundTerms.of_elbo(np.empty(0), np.empty(0))
        call = self._call(placed, order, None, batch, steps)
        call = call._replace(
            pace=sent(self._corrected(pace)),
            step=self.step,
            stride=1,
            pixel_purpose=int(Purpose.TRAINING_PIXELS),
            latent_purpose=int(Purpose.TRAINING_LATENTS),
        )
        self._run(call._replace(steps=1), self._plan, self._plan.programs.draw)
        self._run(call, self._plan, self._plan.programs.step)
        self.step += steps
        log_likelihood, kl = self._terms(call)
        weights = np.repeat(pace.kl_weights, batch)[: len(order)]
        return BoundTerms(log_likelihood, kl, log_likelihood - weights * kl)

    def evaluate(self, placed: Placed, examples: NDArray[np.int64] | None = None) -> BoundTerms:
        rows = self._forward_plan.places.rows
        call = self._call(placed, np.arange(placed.size), examples, rows, -(-placed.size // rows))
        self._run(call, self._forward_plan, self._forward_plan.programs.evaluate)
        return BoundTerms.of_elbo(*self._terms(call))

    def importance_sample(self, placed: Placed, samples: int, examples: NDArray[np.int64] | None = None) -> ImportanceTerms:
        numbers = np.arange(placed.size) if examples is None else examples
        group = min(samples, GROUP)
        images = max(1, self._forward_plan.places.rows // group)
        parts = [
            self._importance(placed, np.arange(first, min(first + images, placed.size)), numbers, samples, group)
            for first in range(0, placed.size, images)
        ]
        return ImportanceTerms(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def encode(self, x: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        plan, latent = self._forward_plan, self.model.latent
        width = padded(latent)
        heads = np.empty((len(x), 2 * width), np.float32)
        for first in range(0, len(x), plan.places.rows):
            block = np.asarray(x[first : first + plan.places.rows], np.float32)
            call = self._call(self.place(block), np.arange(len(block)), None, len(block), 1)
            self._run(call._replace(binarize=BINARIZATION_CODES["none"]), plan, plan.programs.encode)
            heads[first : first + len(block)] = self._matrix(plan.places.heads, 2 * width)[: len(block)]
        return heads[:, :latent].copy(), bounded(heads[:, width : width + latent])

    def decode(self, z: NDArray[Any]) -> NDArray[np.float32]:
        plan = self._forward_plan
        rows, width, nothing = plan.places.rows, padded(self.model.latent), self.place(np.empty((0, 1), np.uint8))
        logits = np.empty((len(z), self.model.pixels), np.float32)
        for first in range(0, len(z), rows):
            block = z[first : first + rows]
            panels = np.zeros((width // PANEL, rows, PANEL), np.float32)
            for panel, columns in enumerate(range(0, self.model.latent, PANEL)):
                part = block[:, columns : columns + PANEL]
                panels[panel, : len(block), : part.shape[1]] = part
            self._launcher.synchronize()
            self._arena[plan.places.z : plan.places.z + panels.size].copy_to_device(panels.reshape(-1))
            self._run(self._call(nothing, np.arange(len(block)), None, len(block), 1), plan, plan.programs.decode)
            outputs = self._matrix(plan.layers[-1].output, padded(self.model.pixels))
            logits[first : first + len(block)] = outputs[: len(block), : self.model.pixels]
        return logits

    def empty_phase_seconds(self, phases: int, steps: int) -> float:
        """What a phase costs in which there is nothing to do, for benchmarks: the median of five runs, in seconds.

        Of the difference between so many steps and twice as many, without what a call costs.
        """
        nothing = self.place(np.empty((0, 1), np.uint8))
        calls = [self._call(nothing, np.empty(0, np.int64), None, 1, times * steps) for times in (1, 2)]
        program, seconds = empty_program(phases), []
        for _ in range(6):
            once, twice = (self._seconds(call, program) for call in calls)
            seconds.append((twice - once) / (steps * phases))
        return statistics.median(seconds[1:])

    def close(self) -> None:
        self._launcher.synchronize()
        self._arena, self._programs = None, {}

    def _seconds(self, call: Call, program: NDArray[np.int64]) -> float:
        self._launcher.synchronize()
        begin = time.perf_counter()
        self._run(call, self._plan, program)
        self._launcher.synchronize()
        return time.perf_counter() - begin

    def _importance(
        self, placed: Placed, images: NDArray[np.int64], numbers: NDArray[np.int64], samples: int, group: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of some images, each in `group` rows, which take every so-many-th sample and are added up here (26)."""
        plan, rows = self._forward_plan, np.repeat(images, group)
        call = self._call(placed, rows, numbers[rows], len(rows), 1)
        self._run(call, plan, plan.programs.encode)
        call = call._replace(
            repeated=1,
            steps=-(-samples // group),
            samples=samples,
            group=group,
            latent_purpose=int(Purpose.IMPORTANCE_SAMPLES),
        )
        self._run(call, plan, plan.programs.samples)
        self._launcher.synchronize()
        size = plan.places.rows
        running = self._arena[plan.places.running : plan.places.running + 3 * size].copy_to_host().reshape(3, size)
        largest, total, squares = running[:, : len(rows)].astype(np.float64).reshape(3, len(images), group)
        highest = largest.max(axis=1)
        shrink = np.exp(largest - highest[:, None])
        total, squares = (total * shrink).sum(axis=1), (squares * shrink**2).sum(axis=1)
        return highest + np.log(total / samples), total**2 / squares

    def _call(self, placed: Placed, order: NDArray[np.int64], keys: NDArray[np.int64] | None, batch: int, steps: int) -> Call:
        """Rows of a set in steps of `batch`, as evaluation sees them; one step of noise for all."""
        adam = self.training.adam
        scalars = (adam.beta1, adam.beta2, 1 - adam.beta1, 1 - adam.beta2, adam.epsilon)
        on_device = sent(np.ascontiguousarray(order, np.int64))
        return Call(
            self._arena, placed.starts, placed.pixels, placed.bytes, placed.floats, on_device,
            on_device if keys is None else sent(np.ascontiguousarray(keys, np.int64)),
            self._seed,
            sent(np.zeros(PACES, np.float32)),
            cuda.device_array(max(1, len(order)), np.float32), cuda.device_array(max(1, len(order)), np.float32),
            in_bytes=int(placed.in_bytes), size=len(order), batch=batch, steps=steps, repeated=0, samples=1, group=1,
            step=0, stride=0,
            pixel_purpose=int(Purpose.EVALUATION_PIXELS), latent_purpose=int(Purpose.EVALUATION_LATENTS),
            binarize=BINARIZATION_CODES[self.training.binarize],
            **dict(zip(Call._fields[-5:], (np.float32(value) for value in scalars), strict=True)),
        )  # fmt: skip

    def _corrected(self, pace: Pace) -> NDArray[np.float32]:
        """`Call.pace` of these steps, which begin after the engine's last."""
        adam, steps = self.training.adam, len(pace.learning_rates)
        t = self.step + 1 + np.arange(steps, dtype=np.float64)
        columns = (pace.learning_rates / (1 - adam.beta1**t), 1 / (1 - adam.beta2**t), pace.kl_weights)
        return np.stack(columns, axis=1).astype(np.float32).reshape(-1)

    def _run(self, call: Call, plan: Plan, program: NDArray[np.int64]) -> None:
        if id(program) not in self._programs:
            self._programs[id(program)] = (
                program,
                cuda.to_device(program.astype(np.int32)),
            )  # held, so that no other gets its identity
        self._launcher.run(call, plan.places, self._programs[id(program)][1])

    def _terms(self, call: Call) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        self._launcher.synchronize()
        arrays = (terms.copy_to_host()[: call.size] for terms in (call.log_likelihood, call.kl))
        log_likelihood, kl = (array.astype(np.float64) for array in arrays)
        return log_likelihood, kl

    def _matrix(self, offset: int, width: int) -> NDArray[np.float32]:
        """A matrix of the forward workspace, (R, width)."""
        self._launcher.synchronize()
        rows = self._forward_plan.places.rows
        panels = self._arena[offset : offset + rows * width].copy_to_host().reshape(-1, rows, PANEL)
        return panels.swapaxes(0, 1).reshape(rows, width)


def _forward_rows(model: ModelSettings) -> int:
    width = 5 * padded(model.latent) + 3 * padded(model.pixels) + 4 * sum(padded(size) for size in model.hidden)
    return int(min(FORWARD_ROWS, max(64, FORWARD_ELEMENTS // width)))
