"""The weights of layers with rounded factors: gradient tiles of bfloat16, Adam in float32, and the new weights rounded again.

B minibatch; a weight matrix W is (inputs, outputs) in panels of 16 columns. A number in parentheses is an equation of
DERIVATION.md.
"""

from __future__ import annotations

from vaefast.engines.numba_cpu.bf16_plan import (
    D_OUTPUT_PAIRED,
    SOURCE_PAIRED,
    STRIDE,
    WEIGHT_PAIRED,
    WEIGHT_STRIDE,
)
from vaefast.engines.numba_cpu.bf16_plan import WEIGHT as ROUNDED_WEIGHT
from vaefast.engines.numba_cpu.bf16_rounding import round_both, round_weight_rows
from vaefast.engines.numba_cpu.bf16_tiles import make_gradient_tile, make_update_tile
from vaefast.engines.numba_cpu.compiler import entry_point, kernel
from vaefast.engines.numba_cpu.dense_weights import TILE_ROWS, update_bias
from vaefast.engines.numba_cpu.products import GROUP
from vaefast.engines.numba_cpu.tiles import adam_tile
from vaefast.engines.plan import INPUTS, OUTPUT_PANELS, WEIGHT
from vaefast.models.layout import PANEL

gradient_wide = make_gradient_tile(TILE_ROWS, GROUP)
gradient_narrow = make_gradient_tile(TILE_ROWS, 1)
update_wide = make_update_tile(TILE_ROWS, GROUP)
update_narrow = make_update_tile(TILE_ROWS, 1)


@kernel
def update_rounded_panels(plan, i, weights, workspace, scratch, adam, B, first, last):
    """Column panels first to last - 1 of a layer: d_W = bf(source)^T @ bf(d_output) (75), Adam, and both copies of the new W.

    d_b is the sum over B of d_output in float32.
    """
    layer, places = plan.layers[i], plan.bf16[i]
    stride, w_panel, r_panel = places[STRIDE], layer[INPUTS] * PANEL, places[WEIGHT_STRIDE]
    d_output = places[D_OUTPUT_PAIRED] + first * stride
    for k in range(0, layer[INPUTS], PANEL):
        a, w = places[SOURCE_PAIRED] + (k // PANEL) * stride, layer[WEIGHT] + first * w_panel + k * PANEL
        shift, height = first * r_panel + k * PANEL, min(PANEL, layer[INPUTS] - k)
        plain, paired = places[ROUNDED_WEIGHT] + shift, places[WEIGHT_PAIRED] + shift
        for row in range(0, height // TILE_ROWS * TILE_ROWS, TILE_ROWS):
            left, at, p, q = a + 2 * row, w + row * PANEL, plain + row * PANEL, paired + row * PANEL
            if last - first == GROUP:
                update_wide(workspace, left, workspace, d_output, stride, weights, at, w_panel, p, q, r_panel, adam, B)
            else:
                update_narrow(workspace, left, workspace, d_output, stride, weights, at, w_panel, p, q, r_panel, adam, B)
        rest = height % TILE_ROWS
        if rest > 0:
            # A tile has more rows than are left here: its gradient goes by way of memory.
            row, g_panel = height - rest, TILE_ROWS * PANEL
            left = a + 2 * row
            if last - first == GROUP:
                gradient_wide(workspace, left, workspace, d_output, stride, scratch.gradient, 0, g_panel, B)
            else:
                gradient_narrow(workspace, left, workspace, d_output, stride, scratch.gradient, 0, g_panel, B)
            for panel in range(last - first):
                at, shift = w + panel * w_panel + row * PANEL, panel * r_panel + row * PANEL
                adam_tile(scratch.gradient, panel * g_panel, weights, at, rest, adam)
                round_weight_rows(weights, at, rest, plain + shift, paired + shift)
    update_bias(plan, layer, weights, workspace, scratch, adam, B, first, last)


@kernel
def round_weights(layers, bf16, parameters, worker, workers):
    """This worker's share of both copies of all weights."""
    for i in range(1, layers.shape[0]):
        layer, places = layers[i], bf16[i]
        for panel in range(worker, layer[OUTPUT_PANELS], workers):
            shift = panel * places[WEIGHT_STRIDE]
            plain, paired = places[ROUNDED_WEIGHT] + shift, places[WEIGHT_PAIRED] + shift
            start = layer[WEIGHT] + panel * layer[INPUTS] * PANEL
            round_both(parameters, start, layer[INPUTS], parameters, plain, paired)


@entry_point
def round_parameters(worker, workers, layers, bf16, parameters):
    """Both copies of weights that did not come from a step."""
    round_weights(layers, bf16, parameters, worker, workers)
