"""What should not be overlooked about a table and the model of it, in one line each, in words that fit both doors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.tables.checking import place
from vaefast.tables.columns import Stray
from vaefast.tables.scaling import Inputs

# Values of this size that are not scaled are named where training diverges.
LARGE = 1e3
# Below so many nats the latents tell rows apart by less than one bit in 14 rows.
COLLAPSED = 0.05


def of_strays(
    found: list[Stray], rows: NDArray[np.int64] | None, names: NDArray[Any] | None, robust: bool, called: str = "X"
) -> str | None:
    """On all columns that a few values dominate, with the worst of them; `rows` are those in which they were found."""
    if not found:
        return None
    worst = max(found, key=lambda stray: abs(stray.value - stray.mean) / stray.spread)
    row = worst.row if rows is None else int(rows[worst.row])
    others = f", and {len(found) - 1} other columns have such values" if len(found) > 1 else ""
    cure = (
        "such values are left out of the scaling and cut in training, and scored as they are"
        if robust
        else "the others are squeezed together; scaling auto leaves such values out"
    )
    times = abs(worst.value - worst.mean) / worst.spread
    return (
        f"{called}: {place(row, worst.column, names)} is {worst.value:g}, {times:.2g} standard deviations of the other values "
        f"({worst.spread:.3g}) from their mean{others}: {cure}"
    )


def of_far_values(inputs: Inputs, X: NDArray[Any], called: str, consequence: str) -> str | None:
    """On the value of X, (N, X), that is farthest from what training saw, if any is far."""
    found = inputs.far(X)
    if found is None:
        return None
    row, column, distance = found
    return (
        f"{called}: {place(row, column, inputs.names)} is {X[row, column]:g}, {distance:.2g} times the column's scale in "
        f"training away from its mean; {consequence}"
    )


def of_collapse(kl: float) -> str | None:
    """On a model whose latents hold next to nothing, `kl` being the divergence in the last epoch, nats."""
    if kl >= COLLAPSED:
        return None
    return (
        f"posterior collapse: the KL divergence is {kl:.2g} nats, so the latents hold next to nothing of a row; train for "
        "more epochs, with smaller minibatches, or with objective beta and a linear warm-up of the KL divergence; columns "
        "that do not depend on each other have nothing to hold"
    )


def of_large_values(values: Any, names: NDArray[Any] | None) -> str:
    """What to add to a divergence in which values, (N, X) as the networks see them, are large enough to be its cause."""
    is_scaled = isinstance(values, np.ndarray) and values.dtype == np.float32
    largest = np.abs(values).max(axis=0) if is_scaled else np.zeros(1)
    column = int(np.argmax(largest))
    if largest[column] < LARGE:
        return ""
    name = f"column {column}" if names is None else f"column {str(names[column])!r}"
    return f", or scale {name}, in which values are as large as {largest[column]:.3g} (scaling standard)"
