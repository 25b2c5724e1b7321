"""The weights phase: each worker takes tasks, and for each computes a weight gradient over the whole minibatch and applies
Adam while the tile is hot. No weight gradient is ever stored beyond a block of 16 rows, and none is summed over workers.

B minibatch; a weight matrix W is (inputs, outputs) in panels of 16 columns; a block is 16 rows of a panel, 1 KB. A number
in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ZERO, fill
from vaefast.engines.numba_cpu.layers import GATHER_0, GATHER_1, GATHER_2, GATHER_3, GATHERS, half_begin, half_end
from vaefast.engines.numba_cpu.likelihoods import update_likelihood
from vaefast.engines.numba_cpu.products import GROUP, Panels, product
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.tiles import adam_tile, make_gradient_tile, make_scatter_tile, make_update_tile
from vaefast.engines.plan import BIAS, BLOCK_PIXELS, D_OUTPUT, INPUTS, ROWS, SOURCE, WEIGHT
from vaefast.models.layout import PANEL

TILE_ROWS = UNIT.gradient_rows
gradient_wide = make_gradient_tile(TILE_ROWS, GROUP)
gradient_narrow = make_gradient_tile(TILE_ROWS, 1)
update_wide = make_update_tile(TILE_ROWS, GROUP)
update_narrow = make_update_tile(TILE_ROWS, 1)
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


@kernel
def _update_panels(plan, i, weights, workspace, scratch, adam, B, first, last):
    """Column panels first to last - 1 of a layer: d_W = source^T @ d_output and d_b = sum over B of d_output (8)."""
    layer = plan.layers[i]
    stride, w_panel = layer[ROWS] * PANEL, layer[INPUTS] * PANEL
    d_output, start = layer[D_OUTPUT] + first * stride, layer[WEIGHT] + first * w_panel
    for k in range(0, layer[INPUTS], PANEL):
        a, w = layer[SOURCE] + (k // PANEL) * stride, start + k * PANEL
        height = min(PANEL, layer[INPUTS] - k)
        for row in range(0, height // TILE_ROWS * TILE_ROWS, TILE_ROWS):
            if last - first == GROUP:
                update_wide(workspace, a + row, workspace, d_output, stride, weights, w + row * PANEL, w_panel, adam, B)
            else:
                update_narrow(workspace, a + row, workspace, d_output, stride, weights, w + row * PANEL, w_panel, adam, B)
        rest = height % TILE_ROWS
        if rest > 0:
            # A tile has more rows than are left here: its gradient goes by way of memory.
            row, g_panel = height - rest, TILE_ROWS * PANEL
            if last - first == GROUP:
                gradient_wide(workspace, a + row, workspace, d_output, stride, scratch.gradient, 0, g_panel, B)
            else:
                gradient_narrow(workspace, a + row, workspace, d_output, stride, scratch.gradient, 0, g_panel, B)
            for q in range(last - first):
                adam_tile(scratch.gradient, q * g_panel, weights, w + q * w_panel + row * PANEL, rest, adam)
    _update_bias(plan, layer, weights, workspace, scratch, adam, B, first, last)


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
            _update_bias(plan, layer, weights, workspace, scratch, adam, B, panel, panel + 1)


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


@kernel
def _update_bias(plan, layer, weights, workspace, scratch, adam, B, first, last):
    """d_b = ones (1, B) @ d_output (B, outputs), so that rows are summed in the order of every other product."""
    stride = layer[ROWS] * PANEL
    d_output = Panels(workspace, layer[D_OUTPUT] + first * stride, stride)
    ones, zeros, gradient = Panels(scratch.ones, 0, PANEL), Panels(scratch.zeros, 0, 0), Panels(scratch.gradient, 0, PANEL)
    product(ones, d_output, zeros, gradient, B, 0, 1, last - first)
    adam_tile(scratch.gradient, 0, weights, layer[BIAS] + first * PANEL, last - first, adam)
