"""The weights of a layer whose input is a matrix: a gradient tile over the whole minibatch, and Adam while it is hot.

B minibatch; a weight matrix W is (inputs, outputs) in panels of 16 columns. A number in parentheses is an equation of
DERIVATION.md.
"""

from __future__ import annotations

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.products import GROUP, Panels, product
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.tiles import adam_tile, make_gradient_tile, make_update_tile
from vaefast.engines.plan import BIAS, D_OUTPUT, INPUTS, ROWS, SOURCE, WEIGHT
from vaefast.models.layout import PANEL

TILE_ROWS = UNIT.gradient_rows
gradient_wide = make_gradient_tile(TILE_ROWS, GROUP)
gradient_narrow = make_gradient_tile(TILE_ROWS, 1)
update_wide = make_update_tile(TILE_ROWS, GROUP)
update_narrow = make_update_tile(TILE_ROWS, 1)


@kernel
def update_panels(plan, i, weights, workspace, scratch, adam, B, first, last):
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
    update_bias(plan, layer, weights, workspace, scratch, adam, B, first, last)


@kernel
def update_bias(plan, layer, weights, workspace, scratch, adam, B, first, last):
    """d_b = ones (1, B) @ d_output (B, outputs), so that rows are summed in the order of every other product."""
    stride = layer[ROWS] * PANEL
    d_output = Panels(workspace, layer[D_OUTPUT] + first * stride, stride)
    ones, zeros, gradient = Panels(scratch.ones, 0, PANEL), Panels(scratch.zeros, 0, 0), Panels(scratch.gradient, 0, PANEL)
    product(ones, d_output, zeros, gradient, B, 0, 1, last - first)
    adam_tile(scratch.gradient, 0, weights, layer[BIAS] + first * PANEL, last - first, adam)
