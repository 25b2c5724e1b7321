"""Memory for factors of products in bfloat16, in words of two: their forms, plain and paired, are described in bfloat16.h."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.plan import INPUTS, OUTPUT_PANELS, Plan, aligned
from vaefast.models.layout import PANEL


class RoundedWeights(NamedTuple):
    """The weights of every layer but the first in both forms, uint32."""

    plain: NDArray[np.uint32]  # (panel_size / 2,): an element of the parameters at half its offset
    paired: NDArray[np.uint32]
    paired_begins: NDArray[np.int64]  # (layers,): where those of each layer begin in `paired`


class RoundedFactors(NamedTuple):
    """The activations of a workspace, and in training their gradients, uint32: an element at half its offset."""

    plain: NDArray[np.uint32]  # (size / 2,)
    paired: NDArray[np.uint32]  # the same; empty where there is no training


def even(rows: int) -> int:
    """The next even number of rows, so that each has a partner."""
    return rows + rows % 2


def rounded_weights(plan: Plan, panel_size: int) -> RoundedWeights:
    """Memory for the weights of a model whose parameters take so many elements."""
    sizes = [0, *((layer[INPUTS] + 1) // 2 * PANEL * layer[OUTPUT_PANELS] for layer in plan.layers[1:])]
    ends = np.cumsum(sizes, dtype=np.int64)
    return RoundedWeights(_words(panel_size // 2), _words(int(ends[-1])), ends - sizes)


def rounded_factors(size: int, training: bool) -> RoundedFactors:
    """Memory for the factors in a workspace of so many elements."""
    return RoundedFactors(_words(size // 2), _words(size // 2 if training else 0))


def _words(size: int) -> NDArray[np.uint32]:
    """Zeros that begin at a cache line."""
    return aligned(size).view(np.uint32)
