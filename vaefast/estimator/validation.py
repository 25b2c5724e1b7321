"""What `fit` measures after each epoch by a ranking instead of the ELBO: the metric, and the rows that it takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError, SettingsError
from vaefast.estimator.row_places import check_places
from vaefast.inference.ranking import check_ranks
from vaefast.metrics import hold_out, ndcg_at_k, recall_at_k
from vaefast.models.conditions import Conditioned, parted
from vaefast.models.count_rows import CountRows
from vaefast.models.gaps import rows_with_gaps
from vaefast.tables.scaling import Inputs

BOUND = "elbo"
METRICS = {"ndcg": ndcg_at_k, "recall": recall_at_k}


class Metric(NamedTuple):
    """A metric of the first k columns that are recommended."""

    kind: str  # one of METRICS
    k: int

    def of(self, ids: NDArray[np.int64], held_out: Any) -> float:
        """Its mean over the rows that have something held out; ids is (N, k)."""
        return float(METRICS[self.kind](ids, held_out, self.k))


class Validation(NamedTuple):
    """Rows to validate on, (M, X), and with a metric what is held out of them, (M, X)."""

    rows: Any
    held_out: Any = None


def metric_of(name: Any) -> Metric | None:
    """The metric of this name, such as ndcg@100; None for the ELBO.

    Raises
    ------
    SettingsError
        There is none.
    """
    if name == BOUND:
        return None
    found = re.fullmatch(rf"({'|'.join(METRICS)})@([1-9]\d{{0,6}})", name) if isinstance(name, str) else None
    if found is None:
        raise SettingsError(f"validation_metric is {name!r}: choose elbo, ndcg@K or recall@K, such as ndcg@100")
    return Metric(found[1], int(found[2]))


def check_validation_places(data: Any, metric: Metric | None, covariates: Any, size_factors: Any) -> None:
    """Warn where what is told of the rows that are validated on, or is held out of them, has their index in another order."""
    told = {"validation_covariates": covariates, "validation_size_factors": size_factors}
    if metric is None or not isinstance(data, (tuple, list)) or len(data) != 2:
        check_places(data, "validation_data", **told)
    else:
        check_places(data[0], "validation_data[0]", **told, **{"validation_data[1]": data[1]})


def given(vae: Any, data: Any, metric: Metric | None, read: Callable[[Any, str], Any]) -> Validation | None:
    """What the user validates on, checked as a table.

    Parameters
    ----------
    read
        Checks a table, which messages call by the second argument.

    Raises
    ------
    SettingsError
        A metric has nothing to be measured on.
    DataError
        The rows are no table, or do not fit what is held out of them.
    """
    if metric is None:
        return None if data is None else Validation(read(data, "validation_data"))
    if data is None:
        if not vae.early_stopping:
            raise SettingsError(
                f"validation_metric is {vae.validation_metric!r}, and nothing is held out to measure it on: give fit "
                "validation_data=(seen, held_out), or set early_stopping=True"
            )
        return None
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise DataError(
            f"validation_data is no pair, which {vae.validation_metric} needs: give (seen, held_out), as "
            "vaefast.metrics.hold_out returns them"
        )
    rows, held_out = (read(part, f"validation_data[{i}]") for i, part in enumerate(data))
    for i, part in enumerate((rows, held_out)):
        _check_complete(part, f"validation_data[{i}]")
    if rows.shape != held_out.shape:
        raise DataError(f"validation_data has {rows.shape[0]} rows and {held_out.shape[0]} of what is held out: give as many")
    return Validation(rows, held_out)


def set_aside(rows: Any, metric: Metric | None, inputs: Inputs, seed: int) -> Validation:
    """Rows of the training data that are validated on, (M, X): for a metric without a part of their entries."""
    if metric is None:
        return Validation(rows)
    from scipy import sparse

    table, told = parted(rows)
    _check_complete(table, "X")
    listed = isinstance(table, CountRows)
    whole = sparse.csr_array((table.values, table.columns, table.starts), shape=table.shape) if listed else table
    seen, held_out = hold_out(whole, random_state=seed % 2**32)
    seen = inputs.table(seen)
    seen = replace(seen, sizes=table.sizes) if listed and table.sizes is not None else seen
    return Validation(seen if told is None else Conditioned(seen, told), held_out)


def _check_complete(table: Any, called: str) -> None:
    """Refuse missing values among those of which a part is held out.

    Raises
    ------
    DataError
        There is one.
    """
    if rows_with_gaps(table) is not None:
        raise DataError(f"{called} misses values, and a validation_metric takes none: give 0 for what was not chosen")


def check(metric: Metric | None, likelihood: str) -> None:
    """Refuse a metric of rankings for a likelihood that ranks nothing."""
    if metric is not None:
        check_ranks(likelihood)
