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
from vaefast.engines.numba_cpu.plan import (
    BIAS,
    BLOCK_PIXELS,
    D_OUTPUT,
    INPUTS,
    OUTPUT_PANELS,
    SOURCE,
    TRANSPOSED,
    WEIGHT,
)
from vaefast.engines.numba_cpu.rows import (
    GATHER,
    GROUP,
    SMALL_GATHER,
    tile_narrow_1,
    tile_wide_1,
)
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.tiles import adam_tile, make_gradient_tile, make_scatter_tile, make_update_tile, transpose_tile
from vaefast.layout import PANEL

ROWS = UNIT.gradient_rows
BLOCK = PANEL * PANEL
gradient_wide = make_gradient_tile(ROWS, GROUP)
gradient_narrow = make_gradient_tile(ROWS, 1)
update_wide = make_update_tile(ROWS, GROUP)
update_narrow = make_update_tile(ROWS, 1)
scatter_wide = make_scatter_tile(GATHER)
scatter_small = make_scatter_tile(SMALL_GATHER)
scatter_one = make_scatter_tile(1)


class Weights(NamedTuple):
    """The model in panel form (`layout.py`), its Adam moments, and the transposed weights for the backward products."""

    parameters: NDArray[np.float32]
    first_moments: NDArray[np.float32]
    second_moments: NDArray[np.float32]
    transposed: NDArray[np.float32]


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

    gradient: NDArray[np.float32]  # a block of 32 pixels and all panels of the first layer, or what is left of a group
    zeros: NDArray[np.float32]  # one padded row of the widest layer
    ones: NDArray[np.float32]  # (B,) padded


@kernel
def update_task(task, plan, weights, workspace, pixels, sparse, scratch, adam, B):
    """One row (layer, first, last) of `weight_tasks`."""
    i, first, last = task[0], task[1], task[2]
    if i == 0 and sparse:
        _update_pixels(plan, weights, workspace, pixels, scratch, adam, B, first, last)
    else:
        _update_panels(plan, i, weights, workspace, scratch, adam, B, first, last)


@kernel
def _update_panels(plan, i, weights, workspace, scratch, adam, B, first, last):
    """Column panels first to last - 1 of a layer: d_W = source^T @ d_output and d_b = sum over B of d_output (8)."""
    layer = plan.layers[i]
    stride, w_panel = plan.rows * PANEL, layer[INPUTS] * PANEL
    d_output, start = layer[D_OUTPUT] + first * stride, layer[WEIGHT] + first * w_panel
    for k in range(0, layer[INPUTS], PANEL):
        a, w = layer[SOURCE] + (k // PANEL) * stride, start + k * PANEL
        height = min(PANEL, layer[INPUTS] - k)
        for row in range(0, height // ROWS * ROWS, ROWS):
            if last - first == GROUP:
                update_wide(workspace, a + row, workspace, d_output, stride, weights, w + row * PANEL, w_panel, adam, B)
            else:
                update_narrow(workspace, a + row, workspace, d_output, stride, weights, w + row * PANEL, w_panel, adam, B)
        rest = height % ROWS
        if rest > 0:
            # A tile has more rows than are left here: its gradient goes by way of memory.
            row, g_panel = height - rest, ROWS * PANEL
            if last - first == GROUP:
                gradient_wide(workspace, a + row, workspace, d_output, stride, scratch.gradient, 0, g_panel, B)
            else:
                gradient_narrow(workspace, a + row, workspace, d_output, stride, scratch.gradient, 0, g_panel, B)
            for q in range(last - first):
                adam_tile(scratch.gradient, q * g_panel, weights, w + q * w_panel + row * PANEL, rest, adam)
        if layer[TRANSPOSED] >= 0:
            for panel in range(first, last):
                _transpose(layer, weights, panel, k, height)
    _update_bias(plan, layer, weights, workspace, scratch, adam, B, first, last)


@kernel
def _update_pixels(plan, weights, workspace, pixels, scratch, adam, B, first, last):
    """Pixels first to last - 1 of the first layer: d_W[p] = sum over B of x[p] * d_output, where x[p] is not zero (8)."""
    layer = plan.layers[0]
    for k in range(first, last, BLOCK_PIXELS):
        height = min(BLOCK_PIXELS, last - k)
        _scatter_gradient(plan, layer, workspace, pixels, scratch.gradient, B, k)
        for panel in range(layer[OUTPUT_PANELS]):
            start = layer[WEIGHT] + (panel * layer[INPUTS] + k) * PANEL
            adam_tile(scratch.gradient, panel * BLOCK_PIXELS * PANEL, weights, start, height, adam)
    if first == 0:
        for panel in range(layer[OUTPUT_PANELS]):
            _update_bias(plan, layer, weights, workspace, scratch, adam, B, panel, panel + 1)


@kernel
def _scatter_gradient(plan, layer, workspace, pixels, gradient, B, k):
    """The gradient of a block of pixels from k, image after image: each adds its d_output to the rows of its pixels."""
    stride, g_panel, block = plan.rows * PANEL, BLOCK_PIXELS * PANEL, k // BLOCK_PIXELS
    fill(gradient[: layer[OUTPUT_PANELS] * g_panel], ZERO)
    indices, values = pixels.indices, pixels.values
    for b in range(B):
        begin = pixels.ends[b, block - 1] if block > 0 else 0
        count = pixels.ends[b, block] - begin
        if count == 0:
            continue
        panel, entry = 0, b * plan.pixels + begin
        while panel < layer[OUTPUT_PANELS]:
            left = layer[OUTPUT_PANELS] - panel
            d, g = layer[D_OUTPUT] + panel * stride + b * PANEL, panel * g_panel
            if left >= GATHER:
                scatter_wide(workspace, d, stride, indices, values, entry, count, k, gradient, g, g_panel)
                panel += GATHER
            elif left >= SMALL_GATHER:
                scatter_small(workspace, d, stride, indices, values, entry, count, k, gradient, g, g_panel)
                panel += SMALL_GATHER
            else:
                scatter_one(workspace, d, stride, indices, values, entry, count, k, gradient, g, g_panel)
                panel += 1


@kernel
def _update_bias(plan, layer, weights, workspace, scratch, adam, B, first, last):
    """d_b = ones (1, B) @ d_output (B, outputs), so that rows are summed in the order of every other product."""
    stride = plan.rows * PANEL
    d_output = layer[D_OUTPUT] + first * stride
    ones, zeros, gradient = scratch.ones, scratch.zeros, scratch.gradient
    if last - first == GROUP:
        tile_wide_1(ones, 0, PANEL, workspace, d_output, stride, zeros, 0, gradient, 0, PANEL, B)
    else:
        tile_narrow_1(ones, 0, PANEL, workspace, d_output, stride, zeros, 0, gradient, 0, PANEL, B)
    adam_tile(gradient, 0, weights, layer[BIAS] + first * PANEL, last - first, adam)


@kernel
def _transpose(layer, weights, panel, k, height):
    """Rows k to k + height - 1 of a panel to their columns of the transposed weights, (outputs, inputs) in panels."""
    start = layer[WEIGHT] + (panel * layer[INPUTS] + k) * PANEL
    target = layer[TRANSPOSED] + ((k // PANEL) * layer[OUTPUT_PANELS] + panel) * BLOCK
    if height == PANEL:
        transpose_tile(weights.parameters, start, weights.transposed, target)
    else:
        for i in range(height):
            for j in range(PANEL):
                weights.transposed[target + j * PANEL + i] = weights.parameters[start + i * PANEL + j]
