"""A minibatch of a table in blocks of columns: x as the likelihood sees it, with its holes, and what the encoder sees of it.

X columns, V variables, C covariates. Matrices are in panels of 16 columns (`plan.py`).
"""

from __future__ import annotations

import numpy as np

from vaefast.engines.images import DYNAMIC
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, fill, log
from vaefast.engines.numba_cpu.noise import fill_words
from vaefast.engines.numba_cpu.pixels import PANEL_MASK, PANEL_SHIFT, levels_of_floats, place_covariates
from vaefast.engines.plan import FIRST_VARIABLE, INPUTS, KIND, KIND_CODES, LAST_VARIABLE
from vaefast.models.layout import PANEL

COUNTED = KIND_CODES["negative-binomial"]
MISSING = np.float32(np.nan)


@kernel
def load_table(plan, buffers, examples, minibatch, first, last):
    """Fill rows first to last - 1 of a minibatch."""
    row, binarize = buffers.row, examples.binarize
    for r in range(first, last):
        n = minibatch.begin + r
        example = examples.order[n]
        levels = examples.images.floats[example * plan.pixels : (example + 1) * plan.pixels]
        if binarize == DYNAMIC:
            seed, purpose = examples.randomness.seed, examples.randomness.pixels
            fill_words(seed, purpose, minibatch.step, examples.keys[n], levels.size, row.pixel_words)
        levels_of_floats(levels, False, binarize, row.pixel_words, row.pixels)
        for i in range(levels.size):
            row.pixels[i] = row.pixels[i] if levels[i] == levels[i] else MISSING
        _place_x(plan, row.pixels, buffers.workspace, r)
        _place_seen(plan, row.pixels, buffers.workspace, r)
        if plan.layers[0, INPUTS] > plan.pixels + plan.indicators:
            column = plan.pixels + plan.indicators
            place_covariates(plan, examples.covariates, example, buffers.workspace, plan.seen, plan.rows, r, column)


@kernel
def _place_x(plan, values, workspace, r):
    """Row r of x, (rows, padded X): what pads a block of columns is missing."""
    for panel in range(plan.x_panels):
        start = plan.x + (panel * plan.rows + r) * PANEL
        fill(workspace[start : start + PANEL], MISSING)
    for column in range(plan.places.size):
        workspace[_at(plan.x, plan.rows, r, plan.places[column])] = values[column]


@kernel
def _place_seen(plan, values, workspace, r):
    """Row r of what the encoder sees, (rows, X + V + C): zero where nothing was observed, of counts log(1 + x) (61), and which
    variables are missing."""
    for column in range(plan.places.size):
        value = values[column]
        workspace[_at(plan.seen, plan.rows, r, column)] = value if value == value else ZERO
    for b in range(plan.blocks.shape[0]):
        if plan.blocks[b, KIND] == COUNTED:
            for v in range(plan.blocks[b, FIRST_VARIABLE], plan.blocks[b, LAST_VARIABLE]):
                place = _at(plan.seen, plan.rows, r, plan.variables[v, 0])
                workspace[place] = log(ONE + workspace[place])
    for v in range(plan.indicators):
        value = values[plan.variables[v, 0]]
        workspace[_at(plan.seen, plan.rows, r, plan.pixels + v)] = ZERO if value == value else ONE


@kernel
def _at(start, rows, r, column):
    """Where an element of a matrix in panels stands."""
    return start + ((column >> PANEL_SHIFT) * rows + r) * PANEL + (column & PANEL_MASK)
