"""What is told of rows goes by their places, as in scikit-learn: a warning where an index says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaefast.estimator.warning import warn


def check_places(X: Any, called: str = "X", **told: Any) -> None:
    """Warn where what is told of the rows of X has the index of X in another order.

    Parameters
    ----------
    X
        Rows, (N, X). Only a DataFrame has an index.
    called
        What messages call X.
    told
        Covariates, size factors or weights by the names of their parameters, in any form that these take.

    Warns
    -----
    DataWarning
        Once for each that is so.
    """
    index = getattr(X, "index", None)
    if not hasattr(index, "get_indexer"):
        return
    for name, values in told.items():
        parts = values.values() if isinstance(values, Mapping) else [values]
        if any(_is_reordered(index, getattr(part, "index", None)) for part in parts):
            warn(
                f"{name} and {called} have the same index in another order, but rows go by their places: give {name} in the "
                f"order of {called}.index, or, if they are in that order, as an array"
            )


def _is_reordered(index: Any, other: Any) -> bool:
    """Whether an index of pandas is another one in another order."""
    if not hasattr(other, "get_indexer") or len(other) != len(index) or other.equals(index):
        return False
    if not (other.is_unique and index.is_unique) or hasattr(index, "is_overlapping"):  # of intervals
        return False
    return bool((index.get_indexer(other) >= 0).all())
