"""Warnings about a table and its model, one line each, in words for both the estimator and the command line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.models.conditions import parted
from vaefast.tables.checking import place
from vaefast.tables.columns import Stray
from vaefast.tables.covariates import Covariates
from vaefast.tables.mixed.kinds import is_identifier
from vaefast.tables.scaling import Inputs

# If training diverges, a column with values of this size is named.
LARGE = 1e3
# Columns that one warning names.
MOST_NAMED = 5
# Steps of float32 from this share of a column's scale on change the latents visibly.
COARSE = 0.01
# In nats. A KL divergence below this is less than one bit per 14 rows.
COLLAPSED = 0.05


def of_strays(
    found: list[Stray], rows: NDArray[np.int64] | None, inputs: Inputs, robust: bool, called: str = "X"
) -> str | None:
    """The warning on columns that a few values dominate, with the worst value. `rows` are those that were searched."""
    if not found:
        return None
    worst = max(found, key=lambda stray: abs(stray.value - stray.mean) / stray.spread)
    row = worst.row if rows is None else int(rows[worst.row])
    others = f", and {len(found) - 1} other columns have such values" if len(found) > 1 else ""
    cure = (
        "scaling leaves such values out, training cuts them, and scores take them as they are"
        if robust
        else "such values dominate the scaling of the column; choose scaling auto, which leaves them out"
    )
    times = abs(worst.value - worst.mean) / worst.spread
    value, its, values = _as_given(worst.value, worst.column, inputs)
    return (
        f"{called}: {place(row, worst.column, inputs.names)} is {value:g}, {its}{times:.2g} standard deviations of {values} "
        f"({worst.spread:.3g}) from their mean{others}: {cure}"
    )


def _as_given(value: float, column: int, inputs: Inputs) -> tuple[float, str, str]:
    """An encoded value of a column as it came, and what to call its distance: logarithms are taken of positive columns."""
    held = () if inputs.schema is None else inputs.schema.used
    if any(each.kind == "positive" and each.place.start == column for each in held):
        return math.exp(value), "and its logarithm ", "the logarithms of the other values"
    return value, "", "the other values"


def of_far_values(inputs: Inputs, X: NDArray[Any], called: str, consequence: str) -> str | None:
    """The warning on the value of X, (N, X), that is farthest from the training data; None if no value is far."""
    found = inputs.far(X)
    if found is None:
        return None
    row, column, distance = found
    X, _ = parted(X)
    value, its, _ = _as_given(X[row, column], column, inputs)
    return (
        f"{called}: {place(row, column, inputs.names)} is {value:g}, {its}{distance:.2g} times the column's scale in training "
        f"away from its mean; {consequence}"
    )


def of_unseen(inputs: Inputs, called: str = "X") -> str | None:
    """The warning on columns of which no value was seen in training."""
    if inputs.unseen is None:
        return None
    columns = np.flatnonzero(inputs.unseen)
    names = [str(column) if inputs.names is None else repr(str(inputs.names[column])) for column in columns]
    told = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    one = len(names) == 1
    return (
        f"{called}: column{'' if one else 's'} {told} {'has' if one else 'have'} no value in the training data: "
        f"{'it is' if one else 'they are'} kept, and what the model says of {'it' if one else 'them'} means nothing"
    )


def of_coarse_columns(inputs: Inputs) -> str | None:
    """The warning on columns, such as times in seconds, whose values float32 rounds by a share of their spread that tells."""
    if inputs.shift is None or inputs.scale is None:
        return None
    steps = np.spacing(np.abs(inputs.shift).astype(np.float32)).astype(np.float64)
    # Of a constant column the graph subtracts the same rounded number.
    varies = True if inputs.constant is None else ~inputs.constant
    columns = np.flatnonzero((steps > COARSE * inputs.scale) & varies)
    if not columns.size:
        return None
    worst = int(columns[np.argmax((steps / inputs.scale)[columns])])
    name = str(worst) if inputs.names is None else repr(str(inputs.names[worst]))
    others = f" (and {columns.size - 1} more)" if columns.size > 1 else ""
    return (
        f"column {name}{others} lies near {inputs.shift[worst]:.6g}, where float32 has steps of {steps[worst]:.3g}, and is "
        "rounded by the graph: subtract a constant from it before training"
    )


def of_identifying_covariates(covariates: Covariates | None, rows: int) -> str | None:
    """The warning on a covariate of text that is different in nearly every one of the rows: it says which row it is."""
    for column in () if covariates is None else covariates.columns:
        if column.categories is not None and is_identifier(len(column.categories), rows):
            return (
                f"covariates: {column.name!r} has {len(column.categories):,} different values in {rows:,} rows, and becomes a "
                "column for each: leave it out if it names the rows"
            )
    return None


def of_grey_fractions(inputs: Inputs, X: Any) -> str | None:
    """The warning on fractions that scaling `grey`, which is for levels from 0 to 255, makes next to black."""
    values, _ = parted(X)
    if inputs.method != "grey" or not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        return None
    if not 0 < np.nanmax(values, initial=0) <= 1 or np.isin(values[~np.isnan(values)], (0, 1)).all():
        return None
    return (
        "X holds fractions up to 1, and scaling grey divides by 255: leave scaling out for numbers in [0, 1], or give levels "
        "from 0 to 255"
    )


def of_collapse(kl: float) -> str | None:
    """The warning on a collapsed model. `kl` is its KL divergence in the last epoch, in nats."""
    if kl >= COLLAPSED:
        return None
    return (
        f"posterior collapse: the KL divergence is {kl:.2g} nats, so the latents carry almost no information; train for "
        "more epochs, with smaller minibatches, or with objective beta and a linear warm-up of the KL divergence; if the "
        "columns are independent of each other, there is nothing to encode"
    )


def of_large_values(values: Any, names: NDArray[Any] | None) -> str:
    """What to add to the message of a divergence if values, (N, X) as the networks see them, are large enough to cause it."""
    values, _ = parted(values)
    is_scaled = isinstance(values, np.ndarray) and values.dtype == np.float32
    largest = np.nan_to_num(np.fmax.reduce(np.abs(values))) if is_scaled else np.zeros(1)
    column = int(np.argmax(largest))
    if largest[column] < LARGE:
        return ""
    name = f"column {column}" if names is None else f"column {str(names[column])!r}"
    return f", or scale {name}, in which values are as large as {largest[column]:.3g} (scaling standard)"
