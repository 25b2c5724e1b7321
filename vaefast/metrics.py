"""How good recommendations are, by what was held out of each row: `vaefast.metrics.recall_at_k` and `ndcg_at_k`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaefast.errors import DataError, SettingsError
from vaefast.inference.ranking import BLOCK, NO_COLUMN, top_columns

__all__ = ["hold_out", "ndcg_at_k", "recall_at_k"]


def recall_at_k(recommended: ArrayLike, held_out: Any, k: int, *, per_row: bool = False) -> Any:
    """Recall@k: which share of what was held out is among the first k columns that are recommended.

    The number of hits of a row is divided by the smaller of k and the number of columns that were held out, so that the best
    ranking has 1. Rows of which nothing was held out say nothing; they are left out.

    Parameters
    ----------
    recommended : array-like of shape (N, K) or (N, X)
        Whole numbers are columns, best first, as `VAE.recommend` returns them, at least k of them; -1 is none. Real numbers
        are scores of all X columns. Ties are in column order, and a column with the score -inf is not recommended.
    held_out : array-like or sparse matrix of shape (N, X)
        What is not zero was held out.
    k : int
        How many columns count.
    per_row : bool, default=False
        Give the recall of each row of which something was held out instead of their mean.

    Returns
    -------
    float, or ndarray of shape (rows with something held out,), float64
        From 0 to 1.

    Raises
    ------
    DataError
        The two do not have the same rows, a column is out of range or twice in a row, or nothing was held out of any row.
    SettingsError
        k is less than 1.

    References
    ----------
    D. Liang, R. G. Krishnan, M. D. Hoffman & T. Jebara, *Variational Autoencoders for Collaborative Filtering*, WWW 2018,
    section 4.2.

    Examples
    --------
    >>> from vaefast.metrics import recall_at_k
    >>> recall_at_k([[2, 0], [1, 2]], [[1, 1, 0], [0, 0, 0]], k=2)  # the second row has nothing held out
    0.5
    """
    hits, relevant = _hits(recommended, held_out, k)
    return _result(hits.sum(axis=1) / np.minimum(relevant, k), per_row)


def ndcg_at_k(recommended: ArrayLike, held_out: Any, k: int, *, per_row: bool = False) -> Any:
    """NDCG@k: as `recall_at_k`, but a hit at place r counts for 1 / log2(r + 1), so that it matters who comes first.

    The sum over the first k places (DCG) is divided by that of the best ranking of the row, in which the first min(k, number
    of held-out columns) places are hits. What was held out counts alike, whatever its number. Rows of which nothing was held
    out are left out.

    Parameters
    ----------
    recommended : array-like of shape (N, K) or (N, X)
        Columns or scores, as for `recall_at_k`.
    held_out, k, per_row
        As for `recall_at_k`.

    Returns
    -------
    float or ndarray
        As `recall_at_k` gives them, from 0 to 1.

    Raises
    ------
    DataError, SettingsError
        As for `recall_at_k`.

    References
    ----------
    K. Järvelin & J. Kekäläinen, *Cumulated Gain-Based Evaluation of IR Techniques*, ACM TOIS 2002. Truncated as in Liang et
    al. (2018), section 4.2.

    Examples
    --------
    >>> from vaefast.metrics import ndcg_at_k
    >>> ndcg_at_k([[2, 0]], [[1, 0, 0]], k=2)  # the hit is in the second place: 1 / log2(3)
    0.6309297535714575
    """
    hits, relevant = _hits(recommended, held_out, k)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(relevant, k) - 1]
    return _result(hits @ discounts / ideal, per_row)


def hold_out(X: Any, share: float = 0.2, random_state: int | np.random.RandomState | None = None) -> tuple[Any, Any]:
    """Split the entries of each row in two: what a model may see of it, and what it is to predict.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (N, X)
        Rows of counts, such as the clicks of users.
    share : float, default=0.2
        Share of the entries of each row that is held out, rounded down, but at least one if the row has two.
    random_state : int, RandomState or None, default=None
        An int gives the same split each time.

    Returns
    -------
    seen, held_out : csr_array of shape (N, X)
        They add up to X.

    Raises
    ------
    SettingsError
        The share is not between 0 and 1.
    DataError
        A value is missing, or is no number.

    References
    ----------
    Strong generalisation, as in Liang et al. (2018), section 4.1.
    """
    from scipy import sparse
    from sklearn.utils import check_random_state

    if not 0 < share < 1:
        raise SettingsError(f"share is {share!r}: give a number between 0 and 1, such as 0.2")
    table = sparse.csr_array(_numbers(X, "X"), copy=True)
    _check_complete(table.data, "X")
    table.sum_duplicates()
    table.eliminate_zeros()
    lengths = np.diff(table.indptr)
    count = np.minimum(np.maximum((share * lengths).astype(np.int64), 1), np.maximum(lengths - 1, 0))
    row = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((check_random_state(random_state).random_sample(len(row)), row))
    place = np.empty(len(row), np.int64)
    place[order] = np.arange(len(row)) - table.indptr[row]
    out = place < count[row]
    parts = []
    for chosen in (~out, out):
        starts = np.concatenate(([0], np.cumsum(np.bincount(row[chosen], minlength=len(lengths)))))
        parts.append(sparse.csr_array((table.data[chosen], table.indices[chosen], starts), shape=table.shape))
    return parts[0], parts[1]


def _hits(recommended: ArrayLike, held_out: Any, k: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Of the rows that have something held out: which of the first k columns are hits, (n, k), and how much was held out."""
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise SettingsError(f"k is {k!r}: give a whole number from 1")
    relevant = held_out.tocsr() if hasattr(held_out, "tocsr") else _numbers(held_out, "held_out")
    _check_complete(relevant.data if hasattr(relevant, "tocsr") else relevant, "held_out")
    given = np.asarray(recommended) if hasattr(recommended, "tocsr") else _numbers(recommended, "recommended")
    if given.ndim != 2 or len(relevant.shape) != 2 or len(given) != relevant.shape[0]:
        raise DataError(
            f"recommended has the shape {given.shape} and held_out {relevant.shape}: give one row of each for every user"
        )
    if given.dtype.kind == "b":  # scores of 0 and 1
        given = given.astype(np.float64)
    of_columns = given.dtype.kind in "iu"
    if of_columns:
        _check_columns(given[:, :k], relevant.shape[1], k)
    elif given.shape != relevant.shape:
        raise DataError(f"recommended has scores of the shape {given.shape}, and held_out is {relevant.shape}: give as many")
    elif np.isnan(given).any():
        raise DataError("recommended has scores that are missing (NaN): give -inf for a column that is not recommended")
    hits, numbers = [], []
    step = max(1, BLOCK // relevant.shape[1])
    for start in range(0, len(given), step):
        block = relevant[start : start + step]
        block = (block.toarray() if hasattr(block, "toarray") else block) != 0
        some = block.any(axis=1)
        chosen = given[start : start + step][some]
        ids = chosen[:, :k].astype(np.int64) if of_columns else top_columns(chosen, k)[0]
        hits.append(np.take_along_axis(block[some], np.maximum(ids, 0), axis=1) & (ids != NO_COLUMN))
        numbers.append(block[some].sum(axis=1))
    found = np.concatenate(hits) if hits else np.empty((0, k), np.bool_)
    if not len(found):
        raise DataError("nothing is held out of any row: give held_out at least one entry that is not zero")
    return found, np.concatenate(numbers)


def _numbers(table: Any, called: str) -> Any:
    """A table of numbers, sparse or an array: of objects, and of types of pandas that become such, what they hold."""
    array = table if hasattr(table, "tocsr") else np.asarray(table)
    if hasattr(array, "tocsr") or array.dtype.kind not in "OUS":
        return array
    if all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in array.flat):
        return array.astype(np.int64)
    try:
        return table.to_numpy(np.float64, na_value=np.nan) if hasattr(table, "iloc") else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{called} holds what is no number: give numbers") from error


def _check_complete(values: Any, called: str) -> None:
    if values.dtype.kind in "fO" and bool((values != values).any()):
        raise DataError(f"{called} misses values (NaN): give 0 for what was not chosen")


def _check_columns(ids: NDArray[Any], width: int, k: int) -> None:
    if ids.shape[1] < k:
        raise DataError(f"recommended has {ids.shape[1]} columns of each row, and k is {k}: recommend at least {k}")
    if ids.size and (ids.min() < NO_COLUMN or ids.max() >= width):
        wrong = ids.min() if ids.min() < NO_COLUMN else ids.max()
        raise DataError(f"recommended has the column {wrong}: give columns of held_out, 0 to {width - 1}, or -1 for none")
    ordered = np.sort(ids, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NO_COLUMN)
    if twice.any():
        row = int(np.argmax(twice.any(axis=1)))
        raise DataError(f"recommended has the column {ordered[row, 1:][twice[row]][0]} twice in row {row}: give each once")


def _result(values: NDArray[np.float64], per_row: bool) -> Any:
    return values if per_row else float(values.mean())
