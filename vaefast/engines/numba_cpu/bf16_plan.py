"""Where the rounded factors of products stand, for a model in bfloat16.

They have no arrays of their own: activations and gradients stand in the workspace, behind what `plan.make_plan` puts there,
and weights in the parameters, behind the model. Two elements of bfloat16 take the place of one float32. All layers have them
but the first, whose factors are not rounded (74).

The *type* of a plan says whether products are of bfloat16: that of another model has no field `bf16`, and its kernels
compile nothing of this.
"""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from vaefast.engines.plan import INPUTS, OUTPUT_PANELS, ROWS, Plan, TablePlan
from vaefast.models.layout import PANEL, padded

# Columns of the field `bf16`, one row a layer. Offsets count elements of bfloat16, and are -1 where there is nothing.
SOURCE = 0  # the layer's input, plain
SOURCE_PAIRED = 1  # for the gradient of its weights
D_OUTPUT_PAIRED = 2
STRIDE = 3  # of these, from one panel to the next
WEIGHT = 4  # plain: W as the pass backward takes it
WEIGHT_PAIRED = 5
WEIGHT_STRIDE = 6
COLUMNS = 7

_tuple_of_fields: Any = collections.namedtuple
RoundedPlan = _tuple_of_fields("RoundedPlan", (*Plan._fields, "bf16"))
RoundedTablePlan = _tuple_of_fields("RoundedTablePlan", (*TablePlan._fields, "bf16"))


def rounded_plan(plan: Any, size: int, parameters: int, trains: bool) -> tuple[Any, int]:
    """The plan of a model in bfloat16 and the float32 elements of its workspace.

    `plan` and `size` are those of `make_plan`; the model has so many parameters in panel form. Without training there is
    nothing for the pass backward.
    """
    places = np.full((len(plan.layers), COLUMNS), -1, np.int64)
    activations, weights = _Elements(size), _Elements(parameters)
    for layer, place in list(zip(plan.layers, places, strict=True))[1:]:
        rows, width, outputs = _even(layer[ROWS]), padded(int(layer[INPUTS])), int(layer[OUTPUT_PANELS]) * PANEL
        place[STRIDE] = rows * PANEL
        place[SOURCE] = activations.take(rows * width)
        if trains:
            place[SOURCE_PAIRED] = activations.take(rows * width)
            place[D_OUTPUT_PAIRED] = activations.take(rows * outputs)
        inputs = _even(layer[INPUTS])
        place[WEIGHT_STRIDE] = inputs * PANEL
        place[WEIGHT], place[WEIGHT_PAIRED] = (weights.take(inputs * outputs) for _ in range(2))
    kind = RoundedTablePlan if isinstance(plan, TablePlan) else RoundedPlan
    return kind(*plan, places), activations.floats


def parameters_size(plan: Any, parameters: int) -> int:
    """The float32 elements of the parameters of such a plan and of their rounded copies."""
    copies = (
        2 * place[WEIGHT_STRIDE] * layer[OUTPUT_PANELS] for layer, place in zip(plan.layers[1:], plan.bf16[1:], strict=True)
    )
    return parameters + int(sum(copies)) // 2


def _even(count: int) -> int:
    return int(count + count % 2)


class _Elements:
    """Hands out places for bfloat16 behind so many float32."""

    def __init__(self, floats: int) -> None:
        self.floats = floats

    def take(self, elements: int) -> int:
        place = 2 * self.floats
        self.floats += elements // 2
        return place
