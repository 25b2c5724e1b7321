"""Gradients that are stored instead of being used at the tile: for clipping by the norm, and for ranks that sum theirs.

The *type* of the weights chooses what the weights phase does with a gradient (`tiles.weight_step`). So a run that needs none
of this compiles none of it, and Adam at the tile is unchanged. The gradients of all parameters go to one flat buffer in panel
form (`layout.py`), where each element is written by one thread. A number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.barrier import MEETING, fetch_add, meet_all, wait_for
from vaefast.engines.numba_cpu.bf16_weights import round_weights
from vaefast.engines.numba_cpu.compiler import AS_KERNELS, entry_point, kernel
from vaefast.engines.numba_cpu.denormals import flush_denormals, restore_mode
from vaefast.engines.numba_cpu.elementwise import copy
from vaefast.engines.numba_cpu.tiles import adam_tile, scaled_adam_tile
from vaefast.engines.plan import NORM_ROWS, chunk_sums
from vaefast.models.layout import PANEL


class Gradient(NamedTuple):
    """Parameters that stay as they are, and where `factor` times their gradient goes."""

    parameters: NDArray[np.float32]
    gradient: NDArray[np.float32]
    factor: np.float32


class Clipping(NamedTuple):
    """The model, its moments, and the buffers for clipping the norm of the gradient before the step of Adam."""

    parameters: NDArray[np.float32]
    first_moments: NDArray[np.float32]
    second_moments: NDArray[np.float32]
    gradient: NDArray[np.float32]
    factor: np.float32  # 1
    squares: NDArray[np.float64]  # (chunks, 16)
    clip_norm: np.float64


class RoundedClipping(NamedTuple):
    """The same of a model in bfloat16, and the tables of its plan."""

    parameters: NDArray[np.float32]  # with the rounded weights behind them
    first_moments: NDArray[np.float32]
    second_moments: NDArray[np.float32]
    gradient: NDArray[np.float32]
    factor: np.float32
    squares: NDArray[np.float64]
    clip_norm: np.float64
    layers: NDArray[np.int64]
    bf16: NDArray[np.int64]


class Held(NamedTuple):
    """The part of a model that Adam runs on, as the tile of Adam takes it."""

    parameters: NDArray[np.float32]
    first_moments: NDArray[np.float32]
    second_moments: NDArray[np.float32]


def clipping(weights: Any, clip_norm: float, plan: Any) -> Clipping | RoundedClipping:
    """These weights of a model, to be trained with clipped gradients."""
    gradient = np.zeros_like(weights.first_moments)
    held = (weights.parameters, weights.first_moments, weights.second_moments)
    clipped = Clipping(*held, gradient, np.float32(1), chunk_sums(gradient.size), np.float64(clip_norm))
    return RoundedClipping(*clipped, plan.layers, plan.bf16) if hasattr(plan, "bf16") else clipped


def finish_step(weights, worker, adam):
    """The end of a step after the weights phase: nothing, or Adam with the clipped gradient."""


@overload(finish_step, jit_options=AS_KERNELS)
def _choose_finish(weights, worker, adam):
    def clipped(weights, worker, adam):
        _finish_clipped(weights, worker, adam)

    def clipped_and_rounded(weights, worker, adam):
        _finish_clipped(weights, worker, adam)
        round_weights(weights.layers, weights.bf16, weights.parameters, worker.number, worker.workers)
        meet_all(worker)

    def nothing(weights, worker, adam):
        pass

    return {Clipping: clipped, RoundedClipping: clipped_and_rounded}.get(weights.instance_class, nothing)


@kernel
def _finish_clipped(weights, worker, adam):
    sum_squares(weights.gradient, weights.squares, worker.number, worker.workers)
    meet_all(worker)
    held = Held(weights.parameters, weights.first_moments, weights.second_moments)
    scale = clip_scale(weights.squares, weights.clip_norm)
    _update_share(weights.gradient, held, scale, worker.number, worker.workers, adam)
    meet_all(worker)


@kernel
def sum_squares(gradient, squares, worker, workers):
    """The squares of each chunk, lane by lane in ascending order, float64: a product of two float32 is exact in it (41)."""
    for chunk in range(worker, squares.shape[0], workers):
        lanes, start = squares[chunk], chunk * NORM_ROWS
        for j in range(PANEL):
            lanes[j] = 0.0
        for row in range(start, min(start + NORM_ROWS, gradient.size // PANEL)):
            values = gradient[row * PANEL : (row + 1) * PANEL]
            for j in range(PANEL):
                value = np.float64(values[j])
                lanes[j] += value * value


@kernel
def clip_scale(squares, clip_norm):
    """min(1, clip_norm / norm) (41); not a number where the norm is none, so that the guard sees it."""
    total = 0.0
    for chunk in range(squares.shape[0]):
        for j in range(PANEL):
            total += squares[chunk, j]
    norm = math.sqrt(total)
    return np.float32(1.0 if norm <= clip_norm else clip_norm / norm)


@kernel
def _update_share(gradient, held, scale, worker, workers, adam):
    """Adam with `scale` times the gradient (42), on this worker's share of the panel rows."""
    rows = gradient.size // PANEL
    first, last = rows * worker // workers, rows * (worker + 1) // workers
    scaled_adam_tile(gradient, first * PANEL, held, first * PANEL, last - first, adam, scale)


class Contributions(NamedTuple):
    """The contributions of several ranks to a part of a gradient, (n,): that of rank k is from values[first + k * stride]."""

    values: NDArray[np.float32]
    first: int
    stride: int
    ranks: int


@kernel
def _add_up(contributions, total, first, last):
    """total[first:last] = the sum of the contributions, in the order of the ranks."""
    out = total[first:last]
    for rank in range(contributions.ranks):
        start = contributions.first + rank * contributions.stride
        part = contributions.values[start + first : start + last]
        if rank == 0:
            copy(part, out)
        else:
            for j in range(out.size):
                out[j] += part[j]


@entry_point
def sum_in_order(worker, workers, contributions, total):
    """total, (n,) = the sum of the ranks' contributions in the order of the ranks."""
    mode = flush_denormals()
    rows = total.size // PANEL
    _add_up(contributions, total, rows * worker // workers * PANEL, rows * (worker + 1) // workers * PANEL)
    restore_mode(mode)


@entry_point
def update_with_sum(worker, workers, contributions, total, held, adam):
    """`sum_in_order`, and Adam on the part of the model that `held` is, chunk by chunk while the sum is hot."""
    mode = flush_denormals()
    rows = total.size // PANEL
    first, last = rows * worker // workers, rows * (worker + 1) // workers
    for row in range(first, last, NORM_ROWS):
        end = min(row + NORM_ROWS, last)
        _add_up(contributions, total, row * PANEL, end * PANEL)
        adam_tile(total, row * PANEL, held, row * PANEL, end - row, adam)
    restore_mode(mode)


@entry_point
def meet_ranks(counters, ranks, spins):
    """Wait until all ranks of this machine have come here; counters, int64, stand in memory that they share.

    MPI's own barrier gives the core away at once where a rank waits, and with it a slice of some milliseconds to whatever else
    wants to run. Ranks that have a core each wait for their equals, who are some microseconds behind.
    """
    arrived = fetch_add(counters, MEETING, 1)
    wait_for(counters, MEETING, (arrived // ranks + 1) * ranks, spins)


@entry_point
def square_part(worker, workers, gradient, squares):
    """`sum_squares` of a part of a gradient, (n,), of which squares, (chunks, 16), has room for the chunks."""
    sum_squares(gradient, squares, worker, workers)


@entry_point
def update_part(worker, workers, gradient, held, scale, adam):
    """Adam with `scale` times the gradient, (n,), on the part of the model that `held` is."""
    mode = flush_denormals()
    _update_share(gradient, held, scale, worker, workers, adam)
    restore_mode(mode)
