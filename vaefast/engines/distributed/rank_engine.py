"""The computation of one rank: the gradient of its share of a minibatch, and Adam on its part of the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, Pace, State, are_finite
from vaefast.engines.distributed.ranks import MPI, RANK_ORDER, SHARED_MEMORY, Ranks
from vaefast.engines.numba_cpu import NumbaEngine
from vaefast.engines.numba_cpu.barrier import SPINS
from vaefast.engines.numba_cpu.compiler import compile_once
from vaefast.engines.numba_cpu.engine import Placed
from vaefast.engines.numba_cpu.gradients import (
    Contributions,
    Gradient,
    Held,
    clip_scale,
    meet_ranks,
    square_part,
    sum_in_order,
    update_part,
    update_with_sum,
)
from vaefast.engines.numba_cpu.weights import AdamStep, Weights
from vaefast.engines.plan import aligned, chunk_sums
from vaefast.engines.threads import granted_cores
from vaefast.engines.workers import Arguments, Team
from vaefast.models.layout import PANEL
from vaefast.models.settings import ModelSettings, TrainingSettings

# About two milliseconds. A rank with a core of its own is never that far behind another.
PATIENT_SPINS = 100 * SPINS
NO_EXAMPLES = np.empty(0, np.int64)


class RankEngine(NumbaEngine):
    """The Numba engine of one rank.

    It holds all parameters, but only the moments of its own part: the model in panel form, padded to a whole number of panel
    rows a rank, is cut into equal parts. If all ranks are on one machine, gradients and parameters lie in shared memory, and
    nothing is sent.
    """

    def __init__(self, model: ModelSettings, training: TrainingSettings, threads: int, ranks: Ranks, reduction: str) -> None:
        largest_share = -(-training.batch_size // ranks.size)
        super().__init__(model, replace(training, batch_size=largest_share, clip_norm=None), threads)
        if threads == 1:
            self._team.close()
            self._team = _Alone(1, compile_once)
        size, self._ranks, self._clip_norm = self.layout.panel_size, ranks, training.clip_norm
        part = -(-size // (PANEL * ranks.size)) * PANEL
        self._reduction, self._own = reduction, slice(ranks.rank * part, (ranks.rank + 1) * part)
        self._take_memory(part * ranks.size, part)
        self._weights = Weights(self._all_parameters[:size], aligned(part), aligned(part))
        self._held = Held(self._all_parameters[self._own], self._weights.first_moments, self._weights.second_moments)
        self._sum = aligned(part)
        self._squares = np.zeros((ranks.size, *chunk_sums(part).shape))

    def _take_memory(self, size: int, part: int) -> None:
        """Allocate the parameters, this rank's gradient, and the contributions of all ranks to its part."""
        ranks = self._ranks
        if self._reduction == SHARED_MEMORY:
            memory = ranks.shared_memory(PANEL + (ranks.size + 1) * size)
            self._counters, everything = memory[:PANEL].view(np.int64), memory[PANEL:]
            self._all_parameters = everything[ranks.size * size :]
            self._gradient = everything[ranks.rank * size : (ranks.rank + 1) * size]
            self._contributions = Contributions(everything, self._own.start, size, ranks.size)
            crowded = ranks.sharers * self.threads > granted_cores()
            self._spins = SPINS if crowded else PATIENT_SPINS
        else:
            self._all_parameters, self._gradient = aligned(size), aligned(size)
            received = aligned(size if self._reduction == RANK_ORDER else 0)
            self._contributions = Contributions(received, 0, part, ranks.size)

    def warm_up(self, placed: Placed) -> None:
        no_steps = Pace.constant(0.0, 0.0, 0)
        self._run_steps(self._taking(1.0), placed, NO_EXAMPLES, NO_EXAMPLES, no_steps)
        nothing, held = self._sum[:0], Held(*(array[:0] for array in self._held))
        adam = self._adam_step(Pace.constant(0.0, 0.0, 1))
        if self._reduction == SHARED_MEMORY:
            meet_ranks(np.zeros(PANEL, np.float32).view(np.int64), 1, SPINS)
        if self._reduction != MPI:
            self._run(update_with_sum, self._contributions, nothing, held, adam)
        if self._reduction == MPI or self._clip_norm is not None:
            self._run(update_part, nothing, held, np.float32(1), adam)
        if self._clip_norm is not None:
            self._run(sum_in_order, self._contributions, nothing)
            self._run(square_part, nothing, chunk_sums(0))
        self.evaluate(placed._replace(size=0))

    def find_gradient(
        self, placed: Placed, examples: NDArray[np.int64], keys: NDArray[np.int64], minibatch: int, pace: Pace
    ) -> BoundTerms:
        """This rank's contribution to the gradient of the next step, and the terms of its examples.

        `minibatch` is the size of the whole minibatch.
        """
        if len(examples) == 0:
            self._gradient[:] = 0
            return BoundTerms.of_elbo(np.empty(0), np.empty(0))
        # The kernels take the mean over the share.
        return self._run_steps(self._taking(len(examples) / minibatch), placed, examples, keys, pace)

    def finish_step(self, pace: Pace) -> None:
        """Sum all contributions, run Adam on the own part of the model, and share the new parameters."""
        ranks, adam = self._ranks, self._adam_step(pace)
        if self._reduction == SHARED_MEMORY:
            meet_ranks(self._counters, ranks.size, self._spins)
        elif self._reduction == RANK_ORDER:
            ranks.scatter(self._gradient, self._contributions.values)
        else:
            ranks.scatter_sum(self._gradient, self._sum)
        if self._clip_norm is not None:
            self._run(update_part, self._sum, self._held, self._clip_scale(), adam)
        elif self._reduction == MPI:
            self._run(update_part, self._sum, self._held, np.float32(1), adam)
        else:
            self._run(update_with_sum, self._contributions, self._sum, self._held, adam)
        if self._reduction == SHARED_MEMORY:
            meet_ranks(self._counters, ranks.size, self._spins)
        else:
            ranks.share(self._all_parameters)
        self.step += 1

    def state(self, out: State | None = None) -> State:
        """The parameters only: this rank does not hold all moments."""
        parameters = self.layout.from_panels(self._weights.parameters, None if out is None else out.parameters)
        return State(parameters, np.empty(0, np.float32), np.empty(0, np.float32), self.step)

    def is_finite(self) -> bool:
        """Of this rank's part."""
        return are_finite(*self._held)

    def own_moments(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """First and second moments of this rank's part."""
        return self._held.first_moments, self._held.second_moments

    def state_with(self, moments: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> State:
        """The whole state, from the moments of all ranks."""
        size, plain = self.layout.panel_size, self.layout.from_panels
        first, second = (np.concatenate(parts)[:size] for parts in zip(*moments, strict=True))
        return State(plain(self._weights.parameters), plain(first), plain(second), self.step)

    def load_state(self, state: State) -> None:
        # In shared memory all ranks write the same values, and none reads them before all have reached this point.
        self.layout.to_panels(state.parameters, self._weights.parameters)
        whole = np.zeros(self._all_parameters.size, np.float32)
        for vector, part in ((state.first_moments, self._held[1]), (state.second_moments, self._held[2])):
            self.layout.to_panels(vector, whole)
            part[:] = whole[self._own]
        self.step = state.step
        self._ranks.meet()

    def _taking(self, factor: float) -> Gradient:
        """Weights that store the gradient instead of taking a step of Adam."""
        return Gradient(self._weights.parameters, self._gradient[: self.layout.panel_size], np.float32(factor))

    def _clip_scale(self) -> np.float32:
        """The factor that clips the norm of the summed gradient (41)."""
        if self._reduction != MPI:
            self._run(sum_in_order, self._contributions, self._sum)
        self._run(square_part, self._sum, self._squares[self._ranks.rank])
        self._ranks.share(self._squares)
        return np.float32(clip_scale(self._squares.reshape(-1, PANEL), np.float64(self._clip_norm)))

    def _adam_step(self, pace: Pace) -> AdamStep:
        adam = self.training.adam
        size, correction, _ = self._scalars(pace)[0]
        scalars = (adam.beta1, adam.beta2, 1 - adam.beta1, 1 - adam.beta2, adam.epsilon, size, correction)
        return AdamStep(*(np.float32(s) for s in scalars))

    def _run(self, kernel: Any, *shared: Any) -> None:
        self._team.run(kernel, [(w, self.threads, *shared) for w in range(self.threads)])


class _Alone(Team):
    """A team of the calling thread alone, so that no other thread has to be woken twice a step."""

    def run(self, kernel: Any, arguments: Arguments) -> None:
        if self._prepare is not None and not kernel.overloads:
            # One of the ranks of a machine compiles, and the others load.
            self._prepare(kernel, arguments)
        kernel(*arguments[0])
