"""Which columns of a row a trained model ranks first: what it recommends to a user of whom it has seen some clicks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import SettingsError
from vaefast.models.count_rows import CountRows
from vaefast.models.counts import log_mean_shares
from vaefast.models.gaps import gaps_of
from vaefast.models.settings import COUNT_LIKELIHOODS

# Elements of the scores of a block of rows, each of which has some temporaries beside it: bounds the memory.
BLOCK = 1 << 22
# Where a row has fewer columns than are asked for.
NO_COLUMN = -1


def check_ranks(likelihood: str) -> None:
    """Refuse a likelihood under which columns are no choices of a row that could be ranked.

    Raises
    ------
    SettingsError
        It is one.
    """
    if likelihood not in (*COUNT_LIKELIHOODS, "bernoulli"):
        raise SettingsError(
            f"likelihood {likelihood} ranks no columns: recommendations are for bernoulli and for counts, such as multinomial"
        )


def log_scores(likelihood: str, outputs: NDArray[Any], zero_inflation: bool = False) -> NDArray[Any]:
    """The logarithm of the mean of each column, (N, X), from what the decoder says: of a share, or of the probability of 1."""
    if likelihood == "bernoulli":
        return -np.logaddexp(0, -outputs)
    return log_mean_shares(outputs, zero_inflation)


def top_columns(scores: NDArray[Any], k: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The k columns with the highest scores of each row, (N, k), best first, ties in column order; and their scores.

    Columns with the score -inf are none. Where less than k are left, the rest is `NO_COLUMN` with the score -inf.
    """
    rows, width = scores.shape
    ids, best = np.full((rows, k), NO_COLUMN, np.int64), np.full((rows, k), -np.inf, scores.dtype)
    taken = min(k, width)
    if not rows or not taken:
        return ids, best
    lowest = np.partition(scores, width - taken, axis=1)[:, width - taken, None]
    chosen = scores >= lowest
    tied = np.flatnonzero(np.count_nonzero(chosen, axis=1) > taken)
    if tied.size:
        # Of the columns that share the lowest score that is still among the best, the first ones.
        above, equal = scores[tied] > lowest[tied], scores[tied] == lowest[tied]
        chosen[tied] = above | (equal & (np.cumsum(equal, axis=1) <= taken - above.sum(axis=1, keepdims=True)))
    columns = np.flatnonzero(chosen).reshape(rows, taken) - width * np.arange(rows)[:, None]
    found = np.take_along_axis(scores, columns, axis=1)
    order = _falling(found)
    best[:, :taken] = np.take_along_axis(found, order, axis=1)
    ids[:, :taken] = np.take_along_axis(columns, order, axis=1)
    ids[np.isneginf(best)] = NO_COLUMN
    return ids, best


def _falling(scores: NDArray[Any]) -> NDArray[np.int64]:
    """The order of each row by falling score, equal ones in their order."""
    order = np.argsort(-scores, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    tied = np.flatnonzero((ranked[:, 1:] == ranked[:, :-1]).any(axis=1))
    if tied.size:
        # A sort that keeps the order of equal scores takes several times as long.
        order[tied] = np.argsort(-scores[tied], axis=1, kind="stable")
    return order


def recommend(
    decode: Callable[[slice], NDArray[Any]], likelihood: str, zero_inflation: bool, seen: Any, k: int, exclude_seen: bool
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """`top_columns` of the rows `seen`, (N, X), in blocks; `decode` gives what the decoder says of some of them."""
    rows, width = seen.shape
    ids, scores = np.empty((rows, k), np.int64), np.empty((rows, k), np.float32)
    step = max(1, BLOCK // width)
    for start in range(0, rows, step):
        some = slice(start, min(start + step, rows))
        block = log_scores(likelihood, decode(some), zero_inflation)
        if exclude_seen:
            block[_non_zero(seen[some])] = -np.inf
        ids[some], scores[some] = top_columns(block, k)
    return ids, scores


def _non_zero(rows: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows and columns of what is neither zero nor missing."""
    if isinstance(rows, CountRows):
        return np.repeat(np.arange(len(rows)), np.diff(rows.starts)), rows.columns
    gaps = gaps_of(rows)
    row, column = np.nonzero(rows if gaps is None else np.where(gaps, 0, rows))
    return row, column
