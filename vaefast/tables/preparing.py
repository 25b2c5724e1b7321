"""What training makes of a table: which rows, in which order, scaled how, under which likelihood.

Both doors, the estimator and the command line, come through here, so the same rows give the same model, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError, SettingsError
from vaefast.models.conditions import Conditioned, parted
from vaefast.models.count_rows import CountRows
from vaefast.models.settings import COUNT_LIKELIHOODS
from vaefast.tables.columns import Stray
from vaefast.tables.counting import AnyTable, counted, dense, looks_counted, nearly_counted
from vaefast.tables.gaps import count_gaps
from vaefast.tables.mixed import choosing
from vaefast.tables.mixed.schema import Schema
from vaefast.tables.row_order import row_order
from vaefast.tables.row_weights import copies, quantiles, weighted_rows, with_stand_ins
from vaefast.tables.scaling import Inputs, choose

# Quantiles of the sizes of rows of counts that a model keeps, for its samples: from the smallest to the largest.
SIZES = 101
# A row of counts that is so many times as large as most is not held out: see `Prepared.held_out`.
HUGE = 10


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table, (N, X), ready for training.

    Parameters
    ----------
    X
        The table: a NumPy array, or rows of counts; with covariates if it has any.
    inputs
        Likelihood and scaling, chosen where they were left to choose.
    rows
        Which rows of the table to train on, in which order; None for all as they stand.
    weights
        What each of these counts for; None for all alike.
    strays
        The columns that few values dominate.
    missing
        How many values of these rows are missing.
    slip
        The warning on a table that a few values keep from being one of counts.
    """

    X: Any
    inputs: Inputs
    rows: NDArray[np.int64] | None
    weights: NDArray[np.float64] | None = None
    strays: list[Stray] = field(default_factory=list)
    missing: int = 0
    slip: str | None = None

    def row_sizes(self) -> NDArray[np.float64]:
        """Of rows of counts: what the rates of each add up to, (N,)."""
        sizes: NDArray[np.float64] = parted(self.X)[0].row_sizes()
        return sizes

    def values(self) -> Any:
        """The rows to train on as the networks see them: bytes or float32, or counts.

        Raises
        ------
        DataError
            A value does not fit the likelihood.
        """
        return self.inputs.enter(self.X, self.rows, training=True)

    def log_volume(self) -> NDArray[np.float64] | float:
        """What to take from a log-density of each of the rows to train on, in nats, as `Inputs.log_volume_of` gives it."""
        return self.inputs.log_volume_of(self.X, self.rows)

    def held_out(
        self, kept: NDArray[np.int64], out: NDArray[np.int64], seed: int, *, of_any_size: bool = False
    ) -> tuple[Prepared, NDArray[np.int64]]:
        """The same without the rows to validate on, and which rows of the table these are.

        A row of counts that is more than `HUGE` times as large as the median of those that are not empty is trained on, and
        another held out in its place. One of the worm neurons has 7,556 counts, where the median is 245. Among 189
        held-out ones it alone would say when training is to stop.

        Parameters
        ----------
        kept, out
            Places among `rows`. A row to validate on stands there as often as it counts.
        of_any_size
            Hold out rows of any size, for a metric to which each of them counts the same.
        """
        rows, weights = np.arange(len(self.X)) if self.rows is None else self.rows, self.weights
        if self.inputs.are_counts and not of_any_size:
            order, sizes = np.concatenate([out, kept]), self.row_sizes()[rows]
            is_huge = sizes[order] > HUGE * np.median(sizes[sizes > 0]) if sizes.any() else np.zeros(len(order), bool)
            out, kept = np.split(np.concatenate([order[~is_huge], order[is_huge]]), [len(out)])
        if weights is not None:
            out = out[weighted_rows(weights[out], seed, 0)]
            weights = weights[kept]
        return replace(self, rows=rows[kept], weights=weights), rows[out]


def prepare(
    X: Any,
    likelihood: str,
    scaling: str | None,
    *,
    sample_weight: NDArray[np.float64] | None = None,
    subset: NDArray[np.int64] | None = None,
    names: NDArray[Any] | None = None,
    called: str = "X",
    covariates: NDArray[np.float32] | None = None,
    sizes: NDArray[np.float64] | None = None,
    schema: Schema | None = None,
) -> Prepared:
    """Choose rows, their order, likelihood and scaling for a table, (N, X), of numbers that are finite or missing, dense or
    sparse.

    Parameters
    ----------
    likelihood, scaling
        As for `scaling.choose`.
    sample_weight
        What each row counts for, (N,).
    subset
        The rows of the table to look at, as if it held no others; all without it.
    names, called
        Of the columns, and of the table, for messages.
    covariates, sizes
        Of each row: covariates as the networks see them, (N, C), and what the rates of its counts add up to, (N,).
    schema
        By which the table was encoded, if its columns are of different kinds.

    Raises
    ------
    SettingsError
        There is no such scaling, or it does not go with the likelihood; or there are sizes, and it is not one of counts.
    DataError
        A number is no count under a likelihood of counts; or every value is missing.
    """
    free = likelihood == "auto" and scaling == "auto" and schema is None
    # A row that counts for nothing has no say, and is not refused as no row of counts.
    read = None if sample_weight is None or (sample_weight > 0).all() else with_stand_ins(sample_weight)
    natural = free and looks_counted(X, subset if read is None else np.unique(read))
    slip = nearly_counted(X, names, called) if free and not natural else None
    chosen = "negative-binomial" if natural else likelihood
    if chosen in COUNT_LIKELIHOODS:
        X = counted(X if read is None or isinstance(X, CountRows) else X[read], names, called)
    else:
        X = dense(X, called)
    if sizes is not None:
        if not isinstance(X, CountRows):
            raise SettingsError("size_factors are for a likelihood of counts: leave them out, or choose negative-binomial")
        X = replace(X, sizes=sizes)
    told = X if covariates is None else Conditioned(X, covariates)
    rows, weights = chosen_rows(told, scaling, sample_weight, subset)
    inputs, strays = choose(X, chosen, scaling, rows, weights, names, schema)
    missing = int(count_gaps(X, rows).sum())
    if missing and missing == X.shape[1] * (len(X) if rows is None else len(rows)):
        raise DataError(f"{called}: every value is missing: give some to learn from")
    return Prepared(told, inputs, rows, weights, strays, missing, slip)


def chosen_rows(
    X: AnyTable | Conditioned,
    scaling: str | None,
    sample_weight: NDArray[np.float64] | None = None,
    subset: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64] | None, NDArray[np.float64] | None]:
    """Which rows of X to train on, in which order, and what each counts for; None for all as they are, and alike.

    Covariates decide the order of rows that are otherwise equal.

    Pictures keep their order and need no copy. Other rows are sorted, so that the order in which they came changes nothing.
    """
    values, told = parted(X)
    if scaling == "grey":
        order = np.arange(len(values)) if subset is None else subset
    elif subset is None:
        order = row_order(values, told)
    else:
        order = subset[row_order(values[subset], None if told is None else told[subset])]
    if sample_weight is None:
        return (None if scaling == "grey" and subset is None else order), None
    order = order[sample_weight[order] > 0]
    numbers = copies(sample_weight)
    if numbers is not None:
        return np.repeat(order, numbers[order]), None
    return order, sample_weight[order]


def size_quantiles(sizes: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> tuple[float, ...]:
    """Quantiles of the sizes of rows of counts, (N,), at equal steps from the smallest to the largest; `weights`, (N,), are
    what each row counts for."""
    return tuple(quantiles(sizes, np.linspace(0, 1, SIZES), weights).tolist())


def why(likelihood: str, scaling: str | None, inputs: Inputs) -> str:
    """Why this likelihood was chosen where `likelihood` and `scaling` were asked for; empty where it was asked for."""
    chosen = inputs.likelihood
    if likelihood != "auto":
        return ""
    if inputs.schema is not None:
        return choosing.why(inputs.schema)
    if scaling in ("grey", "minmax", "standard"):
        return f"scaling {scaling}"
    if chosen == "negative-binomial":
        return "whole numbers, most of them zero"
    return {"bernoulli": "every value is 0 or 1", "gaussian": "not every value is 0 or 1"}[chosen]
