"""The weights phase: each worker takes tasks, and for each computes a weight gradient over the whole minibatch and applies
Adam while the tile is hot. No weight gradient is ever stored beyond a block of 16 rows, and none is summed over workers.

B minibatch; a weight matrix W is (inputs, outputs) in panels of 16 columns; a block is 16 rows of a panel, 1 KB. A number
in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.bf16_weights import update_rounded_panels
from vaefast.engines.numba_cpu.compiler import AS_KERNELS, kernel
from vaefast.engines.numba_cpu.dense_weights import update_bias, update_panels
from vaefast.engines.numba_cpu.elementwise import ZERO, fill
from vaefast.engines.numba_cpu.layers import GATHER_0, GATHER_1, GATHER_2, GATHER_3, GATHERS, half_begin, half_end
from vaefast.engines.numba_cpu.likelihoods import update_likelihood
from vaefast.engines.numba_cpu.precision import in_bf16
from vaefast.engines.numba_cpu.tiles import adam_tile, make_scatter_tile
from vaefast.engines.plan import BLOCK_PIXELS, D_OUTPUT, INPUTS, ROWS, WEIGHT
from vaefast.models.layout import PANEL

scatter_0, scatter_1, scatter_2, scatter_3 = (make_scatter_tile(panels) for panels in GATHERS)


class Weights(NamedTuple):
    """The model in panel form (`layout.py`) and its Adam moments."""

    parameters: NDArray[np.float32]
    first_moments: NDArray[np.float32]
    second_moments: NDArray[np.float32]


class AdamStep(NamedTuple):
    """The scalars of one step of Adam, float32."""

    beta1: np.float32
    beta2: np.float32
    rest1: np.float32  # 1 - beta1
    rest2: np.float32  # 1 - beta2
    epsilon: np.float32
    size: np.float32  # learning rate / (1 - beta1^t)
    correction: np.float32  # 1 / (1 - beta2^t)


class Scratch(NamedTuple):
    """What one worker needs in the weights phase."""

    gradient: NDArray[np.float32]  # a block of pixels and half the panels of the first layer, or what is left of a group
    zeros: NDArray[np.float32]  # one row of a panel
    ones: NDArray[np.float32]  # (B,) padded


@kernel
def update_task(task, network, weights, buffers, scratch, sparse, adam, B):
    """One row (half, layer, first, last) of `weight_tasks`; B counts images."""
    half, i, first, last = task[0], task[1], task[2], task[3]
    plan, workspace = network.plan, buffers.workspace
    if i == 0 and sparse:
        _update_pixels(plan, weights, workspace, buffers.pixels, scratch, adam, B, half, first, last)
    else:
        rows = B * plan.samples if i > plan.heads else B
        _update_panels(plan, i, weights, workspace, scratch, adam, rows, first, last)
        if i == plan.layers.shape[0] - 1:
            update_likelihood(network, weights, workspace, scratch.gradient, adam, B, first, last)


def _update_panels(plan, i, weights, workspace, scratch, adam, B, first, last):
    """Column panels first to last - 1 of a layer: d_W = source^T @ d_output and d_b = sum over B of d_output (8), and Adam."""


@overload(_update_panels, jit_options=AS_KERNELS)
def _choose_panels(plan, i, weights, workspace, scratch, adam, B, first, last):
    def float32(plan, i, weights, workspace, scratch, adam, B, first, last):
        update_panels(plan, i, weights, workspace, scratch, adam, B, first, last)

    def bf16(plan, i, weights, workspace, scratch, adam, B, first, last):
        if i == 0:
            update_panels(plan, i, weights, workspace, scratch, adam, B, first, last)
        else:
            update_rounded_panels(plan, i, weights, workspace, scratch, adam, B, first, last)

    return bf16 if in_bf16(plan) else float32


@kernel
def _update_pixels(plan, weights, workspace, pixels, scratch, adam, B, half, first, last):
    """Pixels first to last - 1 of the first layer, half of its columns: d_W[p] = sum over B of x[p] * d_output, where x[p] is
    not zero (8)."""
    layer = plan.layers[0]
    begin, end = half_begin(layer, half), half_end(layer, half)
    for k in range(first, last, BLOCK_PIXELS):
        height = min(BLOCK_PIXELS, last - k)
        _scatter_gradient(plan, layer, workspace, pixels, scratch.gradient, B, k, begin, end)
        for panel in range(begin, end):
            start = layer[WEIGHT] + (panel * layer[INPUTS] + k) * PANEL
            adam_tile(scratch.gradient, (panel - begin) * BLOCK_PIXELS * PANEL, weights, start, height, adam)
    if first == 0:
        for panel in range(begin, end):
            update_bias(plan, layer, weights, workspace, scratch, adam, B, panel, panel + 1)


@kernel
def _scatter_gradient(plan, layer, workspace, pixels, gradient, B, k, begin, end):
    """The gradient of a block of pixels from k, image after image: each adds its d_output to the rows of its pixels."""
    stride, g_panel, block = layer[ROWS] * PANEL, BLOCK_PIXELS * PANEL, k // BLOCK_PIXELS
    fill(gradient[: (end - begin) * g_panel], ZERO)
    indices, values = pixels.indices, pixels.values
    for b in range(B):
        start = pixels.ends[b, block - 1] if block > 0 else 0
        count = pixels.ends[b, block] - start
        if count == 0:
            continue
        panel, entry = begin, b * pixels.capacity + start
        while panel < end:
            left = end - panel
            d, g = layer[D_OUTPUT] + panel * stride + b * PANEL, (panel - begin) * g_panel
            if left >= GATHER_0:
                scatter_0(workspace, d, stride, indices, values, entry, count, k, gradient, g, g_panel)
                panel += GATHER_0
            elif left >= GATHER_1:
                scatter_1(workspace, d, stride, indices, values, entry, count, k, gradient, g, g_panel)
                panel += GATHER_1
            elif left >= GATHER_2:
                scatter_2(workspace, d, stride, indices, values, entry, count, k, gradient, g, g_panel)
                panel += GATHER_2
            else:
                scatter_3(workspace, d, stride, indices, values, entry, count, k, gradient, g, g_panel)
                panel += GATHER_3
