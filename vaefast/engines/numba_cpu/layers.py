"""Layers forward and backward, half of their columns at a time.

B minibatch, r counts its rows; J the columns of one half of a layer. A number in parentheses is an equation of
DERIVATION.md. Each element is summed in one fixed order. So the output of a row depends neither on the other rows nor on the
number of workers.

Backward, d_source = d_output @ W^T is taken as W @ d_output^T, whose left operand is W as it stands: a copy of all weights
that is transposed in every step would be 1 MB written by one core and read by the other. The small d_output is transposed
instead, 16 rows at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, fill, fma, tanh
from vaefast.engines.numba_cpu.products import Panels, add_product, product
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.tiles import fold_tile, make_gather_tile, transpose_tile
from vaefast.engines.plan import (
    ACTIVATION,
    BIAS,
    D_OUTPUT,
    D_SOURCE,
    INPUTS,
    OUTPUT,
    OUTPUT_PANELS,
    OUTPUTS,
    RELU,
    ROWS,
    SOURCE,
    SOURCE_ACTIVATION,
    SOURCE_SPLIT,
    SPLIT,
    TANH,
    TRANSPOSED_PANELS,
    WEIGHT,
)
from vaefast.models.layout import PANEL

GATHERS = UNIT.gathers
BLOCK = PANEL * PANEL
# Blocks of pixels that a row is summed over before the next row is, and the entries that it must have in them on average. Four
# panels of such weights, 32 KB, come from the first-level cache; a visit costs as much as some six entries. MNIST has too few.
GATHER_BLOCKS = 2
WORTH_A_VISIT = 16
gather_0, gather_1, gather_2, gather_3 = (make_gather_tile(panels) for panels in GATHERS)
GATHER_0, GATHER_1, GATHER_2, GATHER_3 = GATHERS


class Backward(NamedTuple):
    """Buffers of the products backward, for one group of rows; columns count rows of the minibatch, in panels of 16."""

    transposed: NDArray[np.float32]  # (J, rows), TRANSPOSED_PANELS of J at most: d_output^T of one half, of this worker alone
    partial: NDArray[np.float32]  # 2 x 2 matrices (inputs, rows): the halves' d_source^T, of two layers in turn
    size: int  # elements of one of them
    zeros: NDArray[np.float32]  # one row of a panel


@kernel
def half_begin(layer, half):
    """The first panel of a half of a layer's output."""
    return layer[SPLIT] if half == 1 else 0


@kernel
def half_end(layer, half):
    """The panel after the last of a half of a layer's output."""
    return layer[OUTPUT_PANELS] if half == 1 else layer[SPLIT]


@kernel
def dense_layer(plan, i, parameters, workspace, first, last, half):
    """output = activation(source @ W + b) (5)."""
    layer = plan.layers[i]
    stride = layer[ROWS] * PANEL
    begin, end = half_begin(layer, half), half_end(layer, half)
    w_panel, output = layer[INPUTS] * PANEL, layer[OUTPUT] + begin * stride
    source, bias = Panels(workspace, layer[SOURCE], stride), Panels(parameters, layer[BIAS] + begin * PANEL, PANEL)
    W, out = Panels(parameters, layer[WEIGHT] + begin * w_panel, w_panel), Panels(workspace, output, stride)
    product(source, W, bias, out, layer[INPUTS], first, last, end - begin)
    activate_panels(layer, workspace, first, last, begin, end)


@kernel
def sparse_layer(plan, parameters, workspace, pixels, first, last, half):
    """The first layer as sums of the rows of W that belong to non-zero pixels: the same bits as the dense product.

    A row takes GATHER_BLOCKS blocks of pixels before the next row does, where rows have enough pixels in them for it. Between
    blocks the sums rest in the output, which is exact.
    """
    layer = plan.layers[0]
    blocks, entries = pixels.ends.shape[1], 0
    for r in range(first, last):
        entries += pixels.ends[r, blocks - 1]
    dense = entries >= WORTH_A_VISIT * (last - first) * ((blocks + GATHER_BLOCKS - 1) // GATHER_BLOCKS)
    width = GATHER_BLOCKS if dense else blocks
    for block in range(0, blocks, width):
        for r in range(first, last):
            entry = pixels.ends[r, block - 1] if block > 0 else 0
            stop = pixels.ends[r, min(block + width, blocks) - 1]
            _gather_row(layer, parameters, workspace, pixels, r, entry, stop - entry, block == 0, half)
    activate_panels(layer, workspace, first, last, half_begin(layer, half), half_end(layer, half))


@kernel
def _gather_row(layer, parameters, workspace, pixels, r, entry, count, fresh, half):
    """Some entries of row r: to the bias if `fresh`, else to what the output holds."""
    stride = layer[ROWS] * PANEL
    begin, end, w_panel = half_begin(layer, half), half_end(layer, half), layer[INPUTS] * PANEL
    index, value, panel = pixels.indices, pixels.values, begin
    entry += r * pixels.capacity
    start, s_panel = parameters if fresh else workspace, PANEL if fresh else stride
    while panel < end:
        left = end - panel
        w, c = layer[WEIGHT] + panel * w_panel, layer[OUTPUT] + panel * stride + r * PANEL
        s = layer[BIAS] + panel * PANEL if fresh else c
        if left >= GATHER_0:
            gather_0(parameters, w, w_panel, index, value, entry, count, start, s, s_panel, workspace, c, stride)
            panel += GATHER_0
        elif left >= GATHER_1:
            gather_1(parameters, w, w_panel, index, value, entry, count, start, s, s_panel, workspace, c, stride)
            panel += GATHER_1
        elif left >= GATHER_2:
            gather_2(parameters, w, w_panel, index, value, entry, count, start, s, s_panel, workspace, c, stride)
            panel += GATHER_2
        else:
            gather_3(parameters, w, w_panel, index, value, entry, count, start, s, s_panel, workspace, c, stride)
            panel += GATHER_3


@kernel
def _weights_from(plan, i, parameters, block):
    """W from a panel of its columns on."""
    w_panel = plan.layers[i, INPUTS] * PANEL
    return Panels(parameters, plan.layers[i, WEIGHT] + block * w_panel, w_panel)


@kernel
def _transpose_panels(plan, i, workspace, out, first, last, block, stop):
    """out = d_output^T of column panels block to stop - 1, in panels."""
    layer = plan.layers[i]
    stride, t_panel = layer[ROWS] * PANEL, (stop - block) * BLOCK
    for panel in range(block, stop):
        source = layer[D_OUTPUT] + panel * stride + first * PANEL
        _transpose_rows(workspace, source, last - first, out, (panel - block) * BLOCK, t_panel)


def make_partial_sources(multiply, multiply_and_add, weights_from, transpose):
    """partial_sources(plan, i, parameters, workspace, backward, turn, first, last, half), by these products of W, from a panel
    on, and of d_output, of which `transpose` makes d_output^T.

    It is this half's part of d_source^T = W @ d_output^T (8), the sum over its columns, TRANSPOSED_PANELS of them at a time.
    Between these blocks the sums rest in the part, which is exact.
    """

    @kernel
    def partial_sources(plan, i, parameters, workspace, backward, turn, first, last, half):
        layer = plan.layers[i]
        begin, end = half_begin(layer, half), half_end(layer, half)
        inputs, out = layer[INPUTS], (2 * turn + half) * backward.size
        p_panel = (inputs + PANEL - 1) // PANEL * BLOCK
        rows = (last - first + PANEL - 1) // PANEL
        part, zeros = Panels(backward.partial, out, p_panel), Panels(backward.zeros, 0, 0)
        # An empty half is a block without columns.
        for block in range(begin, max(end, begin + 1), TRANSPOSED_PANELS):
            stop = min(block + TRANSPOSED_PANELS, end)
            columns = min(layer[OUTPUTS], stop * PANEL) - block * PANEL
            W = weights_from(plan, i, parameters, block)
            transpose(plan, i, workspace, backward.transposed, first, last, block, stop)
            d_output = Panels(backward.transposed, 0, (stop - block) * BLOCK)
            if block == begin:
                multiply(W, d_output, zeros, part, columns, 0, inputs, rows)
            else:
                multiply_and_add(W, d_output, part, columns, 0, inputs, rows)
        for panel in range(rows):
            row = out + panel * p_panel
            fill(backward.partial[row + inputs * PANEL : row + p_panel], ZERO)

    return partial_sources


partial_sources = make_partial_sources(product, add_product, _weights_from, _transpose_panels)


@kernel
def fold_sources(plan, i, workspace, backward, turn, first, last, half):
    """d_source, a half of its own columns: the sum of both parts, times the slope of the activation that made the source
    (9, 10)."""
    layer = plan.layers[i]
    stride = layer[ROWS] * PANEL
    panels = (layer[INPUTS] + PANEL - 1) // PANEL
    begin = layer[SOURCE_SPLIT] if half == 1 else 0
    end = panels if half == 1 else layer[SOURCE_SPLIT]
    for panel in range(begin, end):
        shift = panel * stride + first * PANEL
        fold_panel(backward, turn, panel, panels, workspace, layer[D_SOURCE] + shift, last - first)
        start, size = layer[D_SOURCE] + shift, (last - first) * PANEL
        source = layer[SOURCE] + shift
        _multiply_by_slope(workspace[start : start + size], workspace[source : source + size], layer[SOURCE_ACTIVATION])


@kernel
def fold_panel(backward, turn, panel, panels, out, place, rows):
    """One panel of d_source, (rows, 16) from out[place]: the sum of both parts, transposed back."""
    first = 2 * turn * backward.size
    second = first + backward.size
    partial = backward.partial
    for r in range(0, rows, PANEL):
        shift = (r // PANEL * panels + panel) * BLOCK
        p, q, target = first + shift, second + shift, place + r * PANEL
        if r + PANEL <= rows:
            fold_tile(partial, p, q, out, target)
        else:
            for row in range(rows - r):
                for j in range(PANEL):
                    out[target + row * PANEL + j] = partial[p + j * PANEL + row] + partial[q + j * PANEL + row]


@kernel
def _transpose_rows(source, place, rows, out, target, t_panel):
    """A panel (rows, 16) from source[place] to columns of out, (16, rows) in panels; a ragged last is padded with zeros."""
    for r in range(0, rows, PANEL):
        block, t = place + r * PANEL, target + r // PANEL * t_panel
        if r + PANEL <= rows:
            transpose_tile(source, block, out, t)
        else:
            fill(out[t : t + BLOCK], ZERO)
            for row in range(rows - r):
                for j in range(PANEL):
                    out[t + j * PANEL + row] = source[block + row * PANEL + j]


@kernel
def activate_panels(layer, workspace, first, last, begin, end):
    """The activation of a layer, in place, in panels begin to end - 1 of its output."""
    for panel in range(begin, end):
        start = layer[OUTPUT] + panel * layer[ROWS] * PANEL
        _activate(workspace[start + first * PANEL : start + last * PANEL], layer[ACTIVATION])


@kernel
def _activate(h, activation):
    if activation == RELU:
        for j in range(h.size):
            # NaN is neither below nor above zero and goes through, for the guard to see.
            h[j] = ZERO if h[j] < ZERO else h[j]
    elif activation == TANH:
        for j in range(h.size):
            h[j] = tanh(h[j])


@kernel
def _multiply_by_slope(d_h, h, activation):
    if activation == RELU:
        # h = relu(a) (9)
        for j in range(d_h.size):
            d_h[j] = d_h[j] if h[j] > ZERO else ZERO
    elif activation == TANH:
        # h = tanh(a) (10)
        for j in range(d_h.size):
            d_h[j] = d_h[j] * fma(-h[j], h[j], ONE)
