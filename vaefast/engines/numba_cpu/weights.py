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
from vaefast.engines.numba_cpu.elementwise import ZERO, fma
from vaefast.engines.numba_cpu.plan import (
    BIAS,
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
    gather_one,
    gather_small,
    gather_wide,
    tile_narrow_1,
    tile_wide_1,
)
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.tiles import make_gradient_tile
from vaefast.layout import PANEL

ROWS = UNIT.gradient_rows
BLOCK = PANEL * PANEL
gradient_wide = make_gradient_tile(ROWS, GROUP)
gradient_narrow = make_gradient_tile(ROWS, 1)


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

    gradient: NDArray[np.float32]  # a block of 16 rows, all panels of the widest first layer or a group
    zeros: NDArray[np.float32]  # one padded row of the widest layer
    ones: NDArray[np.float32]  # (B,) padded
    cursor: NDArray[np.int64]  # (B,): the next entry of each row's list of pixels
    indices: NDArray[np.int32]  # (16 * B,): rows of the minibatch in which each pixel of a block is not zero
    values: NDArray[np.float32]  # (16 * B,)
    lengths: NDArray[np.int64]  # (16,)


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
    stride = plan.rows * PANEL
    d_output = layer[D_OUTPUT] + first * stride
    for k in range(0, layer[INPUTS], PANEL):
        height = min(PANEL, layer[INPUTS] - k)
        a = layer[SOURCE] + (k // PANEL) * stride
        for row in range(0, height, ROWS):
            g = row * PANEL
            if last - first == GROUP:
                gradient_wide(workspace, a + row, workspace, d_output, stride, scratch.gradient, g, BLOCK, B)
            else:
                gradient_narrow(workspace, a + row, workspace, d_output, stride, scratch.gradient, g, BLOCK, B)
        for q in range(last - first):
            _update_block(layer, weights, adam, first + q, k, height, scratch.gradient[q * BLOCK :])
    _update_bias(plan, layer, weights, workspace, scratch, adam, B, first, last)


@kernel
def _update_pixels(plan, weights, workspace, pixels, scratch, adam, B, first, last):
    """Pixels first to last - 1 of the first layer: d_W[p] = sum of d_output over the rows in which p is not zero (8)."""
    layer = plan.layers[0]
    for b in range(B):
        scratch.cursor[b] = _first_at_least(pixels.indices, b * plan.pixels, pixels.lengths[b], first)
    for k in range(first, last, PANEL):
        height = min(PANEL, last - k)
        _transpose_lists(plan, pixels, scratch, B, k, k + height)
        for row in range(height):
            _gather_gradient(plan, layer, workspace, scratch, row)
        for panel in range(layer[OUTPUT_PANELS]):
            _update_block(layer, weights, adam, panel, k, height, scratch.gradient[panel * BLOCK :])
    if first == 0:
        for panel in range(layer[OUTPUT_PANELS]):
            _update_bias(plan, layer, weights, workspace, scratch, adam, B, panel, panel + 1)


@kernel
def _transpose_lists(plan, pixels, scratch, B, first, last):
    """From each row's list of pixels to each pixel's list of rows, for pixels first to last - 1, rows ascending."""
    scratch.lengths[:] = 0
    for b in range(B):
        entry, stop = scratch.cursor[b], b * plan.pixels + pixels.lengths[b]
        while entry < stop and pixels.indices[entry] < last:
            p = pixels.indices[entry] - first
            place = p * scratch.cursor.size + scratch.lengths[p]
            scratch.indices[place] = b
            scratch.values[place] = pixels.values[entry]
            scratch.lengths[p] += 1
            entry += 1
        scratch.cursor[b] = entry


@kernel
def _first_at_least(index, start, count, pixel):
    """The place in an ascending list, index[start : start + count], of the first entry that is not below `pixel`."""
    low, high = start, start + count
    while low < high:
        middle = (low + high) // 2
        if index[middle] < pixel:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _gather_gradient(plan, layer, workspace, scratch, row):
    stride = plan.rows * PANEL
    panel, entry, count = 0, row * scratch.cursor.size, scratch.lengths[row]
    index, value, zeros, gradient = scratch.indices, scratch.values, scratch.zeros, scratch.gradient
    while panel < layer[OUTPUT_PANELS]:
        left = layer[OUTPUT_PANELS] - panel
        d, g = layer[D_OUTPUT] + panel * stride, panel * BLOCK + row * PANEL
        if left >= GATHER:
            gather_wide(workspace, d, stride, index, value, entry, count, zeros, 0, gradient, g, BLOCK)
            panel += GATHER
        elif left >= SMALL_GATHER:
            gather_small(workspace, d, stride, index, value, entry, count, zeros, 0, gradient, g, BLOCK)
            panel += SMALL_GATHER
        else:
            gather_one(workspace, d, stride, index, value, entry, count, zeros, 0, gradient, g, BLOCK)
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
    start, size = layer[BIAS] + first * PANEL, (last - first) * PANEL
    _adam(weights, start, gradient[:size], adam)


@kernel
def _update_block(layer, weights, adam, panel, k, height, gradient):
    """Adam on rows k to k + height - 1 of a panel, and their copy in the transposed weights."""
    start, size = layer[WEIGHT] + (panel * layer[INPUTS] + k) * PANEL, height * PANEL
    _adam(weights, start, gradient[:size], adam)
    if layer[TRANSPOSED] >= 0:
        rows = layer[OUTPUT_PANELS] * PANEL
        target = layer[TRANSPOSED] + ((k // PANEL) * rows + panel * PANEL) * PANEL
        _transpose(weights.parameters[start : start + size], weights.transposed[target : target + BLOCK])


@kernel
def _adam(weights, start, gradient, adam):
    """Kingma & Ba (2015), algorithm 1: (14), (15) and (16); padded columns have gradient 0 and stay 0."""
    stop = start + gradient.size
    parameters = weights.parameters[start:stop]
    first_moments = weights.first_moments[start:stop]
    second_moments = weights.second_moments[start:stop]
    for j in range(gradient.size):
        g = gradient[j]
        m = fma(adam.beta1, first_moments[j], adam.rest1 * g)
        v = fma(adam.beta2, second_moments[j], adam.rest2 * (g * g))
        first_moments[j] = m
        second_moments[j] = v
        parameters[j] -= adam.size * m / (np.sqrt(v * adam.correction) + adam.epsilon)


@kernel
def _transpose(block, out):
    """(height, 16) to columns 0 to height - 1 of (16, 16)."""
    height = block.size // PANEL
    for j in range(PANEL):
        row = out[j * PANEL : (j + 1) * PANEL]
        for i in range(height):
            row[i] = block[i * PANEL + j]


@kernel
def transpose_weights(plan, weights):
    """The transposed copy of every weight matrix but the first layer's; its padding stays zero."""
    weights.transposed[:] = ZERO
    for i in range(1, plan.layers.shape[0]):
        layer = plan.layers[i]
        rows = layer[OUTPUT_PANELS] * PANEL
        for panel in range(layer[OUTPUT_PANELS]):
            for k in range(0, layer[INPUTS], PANEL):
                start = layer[WEIGHT] + (panel * layer[INPUTS] + k) * PANEL
                size = min(PANEL, layer[INPUTS] - k) * PANEL
                target = layer[TRANSPOSED] + ((k // PANEL) * rows + panel * PANEL) * PANEL
                _transpose(weights.parameters[start : start + size], weights.transposed[target : target + BLOCK])
