"""`vaefast.metrics` against loops that follow the definitions, and against scikit-learn where the two agree."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import ndcg_score

import vaefast
from vaefast.errors import DataError, SettingsError
from vaefast.inference import ranking
from vaefast.metrics import hold_out, ndcg_at_k, recall_at_k


def ranked(scores):
    """Columns by falling score, ties in column order, -inf left out."""
    return sorted((j for j in range(len(scores)) if scores[j] > -math.inf), key=lambda j: (-scores[j], j))


def oracle(columns, held_out, k):
    """Recall and NDCG of each row that has something held out, by their definitions."""
    recalls, gains = [], []
    for ids, row in zip(columns, held_out, strict=True):
        relevant = {j for j, count in enumerate(row) if count}
        if relevant:
            first = [j for j in list(ids)[:k] if j >= 0]
            recalls.append(len(relevant & set(first)) / min(k, len(relevant)))
            gain = sum(1 / math.log2(place + 2) for place, j in enumerate(first) if j in relevant)
            gains.append(gain / sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant)))))
    return recalls, gains


def drawn(seed=0, rows=60, columns=40):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((rows, columns)).round(1)  # with ties
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    held_out = rng.poisson(0.1, scores.shape)
    held_out[::7] = 0
    return scores, held_out


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_both_are_those_of_loops_for_scores_and_for_columns_sparse_or_dense(k):
    scores, held_out = drawn()
    recalls, gains = oracle(map(ranked, scores), held_out, k)
    ids, _ = ranking.top_columns(scores, max(k, 5))
    for given in (scores, scores.astype(np.float32), ids, ids.astype(np.int32)):
        for table in (held_out, sparse.csr_matrix(held_out), sparse.coo_array(held_out > 0), held_out.tolist()):
            assert recall_at_k(given, table, k) == pytest.approx(np.mean(recalls), rel=1e-12)
            assert ndcg_at_k(given, table, k) == pytest.approx(np.mean(gains), rel=1e-12)
    assert np.allclose(recall_at_k(ids, held_out, k, per_row=True), recalls, rtol=1e-12)
    assert np.allclose(ndcg_at_k(ids, held_out, k, per_row=True), gains, rtol=1e-12)
    assert 0 < np.mean(gains) < 1


@pytest.mark.parametrize("k", [1, 5, 30])
def test_ndcg_is_scikit_learns_for_relevance_of_0_and_1_and_scores_without_ties(k):
    rng = np.random.default_rng(1)
    scores, held_out = rng.random((50, 30)), rng.random((50, 30)) < 0.15
    held_out[3] = False
    some = held_out.any(axis=1)
    assert not some.all()  # scikit-learn gives 0 to a row without relevant columns; here it is left out
    assert ndcg_at_k(scores, held_out, k) == pytest.approx(ndcg_score(held_out[some], scores[some], k=k), rel=1e-12)


def test_the_best_ranking_has_1_and_one_without_hits_0():
    held_out = np.array([[0, 1, 0, 3], [1, 0, 0, 0]])
    for metric in (recall_at_k, ndcg_at_k):
        assert metric([[3, 1], [0, -1]], held_out, 2) == 1.0
        assert metric([[0, 2], [-1, -1]], held_out, 2) == 0.0
        assert metric([[3], [0]], held_out, 1) == 1.0  # one hit of one place, though two are held out


def test_blocks_change_nothing(monkeypatch):
    scores, held_out = drawn(3)
    whole = recall_at_k(scores, held_out, 5, per_row=True)
    monkeypatch.setattr("vaefast.metrics.BLOCK", 100)
    assert np.array_equal(recall_at_k(scores, sparse.csr_array(held_out), 5, per_row=True), whole)


@pytest.mark.parametrize(
    ("recommended", "held_out", "k", "error", "message"),
    [
        ([[0, 1]], [[1, 0, 0]], 0, SettingsError, "k is 0: give a whole number from 1"),
        ([[0, 1]], [[1, 0, 0]], 2.0, SettingsError, r"k is 2\.0: give a whole number"),
        ([[0, 1]], [[1, 0, 0]], 3, DataError, "has 2 columns of each row, and k is 3: recommend at least 3"),
        ([[0, 1]], [[1, 0, 0], [1, 0, 0]], 2, DataError, "give one row of each for every user"),
        ([0, 1], [[1, 0, 0]], 2, DataError, "give one row of each for every user"),
        ([[0.5, 0.1]], [[1, 0, 0]], 2, DataError, "scores of the shape"),
        ([[0, 3]], [[1, 0, 0]], 2, DataError, "the column 3: give columns of held_out, 0 to 2, or -1 for none"),
        ([[0, -2]], [[1, 0, 0]], 2, DataError, "the column -2"),
        ([[0, 1], [2, 2]], [[1, 0, 0]] * 2, 2, DataError, "the column 2 twice in row 1"),
        ([[0.5, np.nan, 0.1]], [[1, 0, 0]], 2, DataError, "missing"),
        ([[0, 1]], [[0, 0, 0]], 2, DataError, "nothing is held out of any row"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(recommended, held_out, k, error, message):
    for metric in (recall_at_k, ndcg_at_k):
        with pytest.raises(error, match=message) as caught:
            metric(recommended, held_out, k)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_hold_out_splits_the_entries_of_each_row(share):
    X = np.random.default_rng(2).poisson(0.4, (80, 30))
    X[0], X[1], X[1, 4], X[2], X[2, [3, 5]] = 0, 0, 7, 0, 1
    for table in (X, sparse.csr_matrix(X), sparse.coo_array(X)):
        seen, out = hold_out(table, share, 0)
        assert np.array_equal((seen + out).toarray(), X)
        assert not (seen.toarray() * out.toarray()).any()
        entries, held = np.count_nonzero(X, axis=1), np.count_nonzero(out.toarray(), axis=1)
        assert np.array_equal(held, np.minimum(np.maximum((share * entries).astype(int), 1), np.maximum(entries - 1, 0)))
    again = hold_out(X, share, 0)[1].toarray()
    assert np.array_equal(again, out.toarray())
    assert not np.array_equal(again, hold_out(X, share, 1)[1].toarray())
    with pytest.raises(SettingsError, match="share is 1: give a number between 0 and 1"):
        hold_out(X, 1)


def test_hold_out_leaves_the_table_as_it_was():
    table = sparse.csr_array((np.array([2.0, 0.0, 1.0, 4.0]), np.array([3, 0, 3, 1]), np.array([0, 3, 4])), shape=(2, 5))
    before = [part.copy() for part in (table.data, table.indices, table.indptr)]
    for part in (table.data, table.indices, table.indptr):
        part.flags.writeable = False
    seen, out = hold_out(table, 0.5, 0)
    assert np.array_equal((seen + out).toarray(), [[0, 0, 0, 3, 0], [0, 4, 0, 0, 0]])
    assert all(np.array_equal(*pair) for pair in zip(before, (table.data, table.indices, table.indptr), strict=True))


def test_tables_of_pandas_are_split_whatever_their_type():
    counts = np.random.default_rng(0).poisson(1.0, (20, 6))
    wanted = [part.toarray() for part in hold_out(counts, random_state=0)]
    for kind in ("Int64", "int64[pyarrow]", object):
        found = [part.toarray() for part in hold_out(pd.DataFrame(counts).astype(kind), random_state=0)]
        assert np.array_equal(found, wanted)
    for wrong, message in ((pd.DataFrame([["a", 1]]), "X holds what is no number"), (pd.DataFrame([[1, None]]), "X misses")):
        with pytest.raises(DataError, match=message):
            hold_out(wrong)
    scores, held = np.random.default_rng(1).random((20, 6)), wanted[1]
    nullable = recall_at_k(pd.DataFrame(scores).astype("Float64"), pd.DataFrame(held).astype("Int64"), 2)
    assert nullable == recall_at_k(scores, held, 2)
    best = np.argsort(-scores, axis=1)
    for kind in ("Int64", "int64[pyarrow]", object):
        assert recall_at_k(pd.DataFrame(best).astype(kind), held, 2) == recall_at_k(best, held, 2)


def test_every_entry_is_held_out_as_often_as_the_others():
    X, times = np.ones((1, 20)), np.zeros(20)
    for seed in range(400):
        times += hold_out(X, 0.25, seed)[1].toarray()[0] > 0
    assert np.abs(times / 400 - 0.25).max() < 4.5 * math.sqrt(0.25 * 0.75 / 400)


def test_they_are_found_where_a_user_looks():
    assert vaefast.metrics.recall_at_k is recall_at_k


def test_nan_is_not_held_out():
    """As `pivot_table` makes it where nothing was chosen."""
    scores, held_out = drawn()
    holed = np.where(held_out > 0, held_out, np.nan)
    for metric in (recall_at_k, ndcg_at_k):
        with pytest.raises(DataError, match=r"held_out misses values \(NaN\): give 0 for what was not chosen"):
            metric(scores, holed, 5)
        with pytest.raises(DataError, match="held_out misses values"):
            metric(scores, sparse.csr_array(holed), 5)
    with pytest.raises(DataError, match=r"X misses values \(NaN\): give 0 for what was not chosen"):
        hold_out(holed)


def test_truth_values_are_scores():
    held_out, scores = np.eye(6, 9), np.random.default_rng(0).random((6, 9)) > 0.5
    wanted = recall_at_k(scores.astype(float), held_out, 5)
    for given in (scores, pd.DataFrame(scores), pd.DataFrame(scores).astype("boolean"), scores.astype(object)):
        assert recall_at_k(given, held_out, 5) == wanted
