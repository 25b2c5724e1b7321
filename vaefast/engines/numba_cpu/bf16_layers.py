"""Layers with rounded factors, forward and backward, half of their columns at a time: those of layers.py in bfloat16.

J counts the columns of a half of a layer. A number in parentheses is an equation of DERIVATION.md. Each factor is rounded
once, by the worker that has just made it: an activation after its layer, z after its sample, a gradient where it is
transposed. Shares of rows begin at even rows, so a pair of rows has one owner.
"""

from __future__ import annotations

from vaefast.engines.numba_cpu.bf16_plan import (
    D_OUTPUT_PAIRED,
    SOURCE,
    SOURCE_PAIRED,
    STRIDE,
    WEIGHT,
    WEIGHT_PAIRED,
    WEIGHT_STRIDE,
)
from vaefast.engines.numba_cpu.bf16_products import add_product, product
from vaefast.engines.numba_cpu.bf16_rounding import round_both, round_plain, turn_some, turn_whole
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.layers import (
    BLOCK,
    activate_panels,
    dense_layer,
    half_begin,
    half_end,
    make_partial_sources,
    sparse_layer,
)
from vaefast.engines.numba_cpu.products import Panels
from vaefast.engines.plan import BIAS, D_OUTPUT, INPUTS, OUTPUT, ROWS
from vaefast.engines.plan import SOURCE as SOURCE_IN_FLOAT32
from vaefast.models.layout import PANEL


@kernel
def first_layer(plan, parameters, buffers, sparse, first, last, half):
    """The first layer, whose factors are not rounded, and its output rounded for the next one."""
    if sparse:
        sparse_layer(plan, parameters, buffers.workspace, buffers.pixels, first, last, half)
    else:
        dense_layer(plan, 0, parameters, buffers.workspace, first, last, half)
    _round_output(plan, 0, buffers.workspace, first, last, half)


@kernel
def rounded_layer(plan, i, parameters, workspace, first, last, half):
    """output = activation(bf(source) @ bf(W) + b) (74), and the output rounded for the next layer; i > 0."""
    layer, places = plan.layers[i], plan.bf16[i]
    stride, begin, end = layer[ROWS] * PANEL, half_begin(layer, half), half_end(layer, half)
    source, w_panel = Panels(workspace, places[SOURCE], places[STRIDE]), places[WEIGHT_STRIDE]
    W, bias = Panels(parameters, places[WEIGHT_PAIRED] + begin * w_panel, w_panel), layer[BIAS] + begin * PANEL
    out = Panels(workspace, layer[OUTPUT] + begin * stride, stride)
    product(source, W, Panels(parameters, bias, PANEL), out, layer[INPUTS], first, last, end - begin)
    activate_panels(layer, workspace, first, last, begin, end)
    _round_output(plan, i, workspace, first, last, half)


@kernel
def _round_output(plan, i, workspace, first, last, half):
    """Half of a layer's output, where the next layer takes it as its source: not that of the heads nor the last."""
    if i != plan.heads and i + 1 < plan.layers.shape[0]:
        layer = plan.layers[i]
        _round_source(plan, i + 1, workspace, first, last, half_begin(layer, half), half_end(layer, half))


@kernel
def round_samples(plan, workspace, first, last):
    """z of rows first to last - 1, with the covariates behind it, for the first layer of the decoder."""
    _round_source(plan, plan.heads + 1, workspace, first, last, 0, plan.z_panels)


@kernel
def _round_source(plan, i, workspace, first, last, begin, end):
    """Panels begin to end - 1 of a layer's source: plain, and paired for training."""
    layer, places = plan.layers[i], plan.bf16[i]
    for panel in range(begin, end):
        source = layer[SOURCE_IN_FLOAT32] + (panel * layer[ROWS] + first) * PANEL
        shift = panel * places[STRIDE] + first * PANEL
        if places[SOURCE_PAIRED] >= 0:
            plain, paired = places[SOURCE] + shift, places[SOURCE_PAIRED] + shift
            round_both(workspace, source, last - first, workspace, plain, paired)
        else:
            round_plain(workspace, source, last - first, workspace, places[SOURCE] + shift, 0)


@kernel
def _weights_from(plan, i, parameters, block):
    """W from a panel of its columns on, plain."""
    w_panel = plan.bf16[i, WEIGHT_STRIDE]
    return Panels(parameters, plan.bf16[i, WEIGHT] + block * w_panel, w_panel)


@kernel
def _round_and_turn(plan, i, workspace, out, first, last, block, stop):
    """d_output of column panels block to stop - 1, rounded: for the gradient of the weights, and transposed, (J, rows), to
    `out`."""
    layer, places, t_panel = plan.layers[i], plan.bf16[i], (stop - block) * BLOCK
    for panel in range(block, stop):
        source, paired = layer[D_OUTPUT] + panel * layer[ROWS] * PANEL, places[D_OUTPUT_PAIRED] + panel * places[STRIDE]
        for r in range(first, last, PANEL):
            rows, t = last - r, (panel - block) * BLOCK + (r - first) // PANEL * t_panel
            if rows >= PANEL:
                turn_whole(workspace, source + r * PANEL, PANEL, workspace, paired + r * PANEL, out, t)
            else:
                turn_some(workspace, source + r * PANEL, rows, workspace, paired + r * PANEL, out, t)


# d_source^T = bf(W) @ bf(d_output)^T (75)
rounded_sources = make_partial_sources(product, add_product, _weights_from, _round_and_turn)
