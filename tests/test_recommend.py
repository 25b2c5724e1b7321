"""`VAE.recommend`: against sorting by hand, for every likelihood that ranks columns, at its ends, and in bounded memory."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from vaefast import VAE, load
from vaefast.errors import SettingsError
from vaefast.inference import ranking

KINDS = {
    "negative-binomial": {},
    "zero-inflated": {"likelihood": "negative-binomial", "zero_inflation": True},
    "poisson": {},
    "multinomial": {"input_dropout": 0.5},
    "bernoulli": {},
}
WIDTH = 30


def clicks(rows=150, seed=0):
    rng = np.random.default_rng(seed)
    shares = np.exp(1.5 * rng.standard_normal((rows, 2)) @ rng.standard_normal((2, WIDTH)))
    X = rng.poisson(8 * shares / shares.sum(axis=1, keepdims=True))
    X[0], X[1] = 0, 1
    return X


@pytest.fixture(scope="module")
def models():
    found = {}
    for name, more in KINDS.items():
        X = clicks() > 0 if name == "bernoulli" else clicks()
        vae = VAE(3, hidden_layer_sizes=(16,), epochs=5, random_state=0, **{"likelihood": name, **more})
        found[name] = vae.fit(X.astype(np.int64))
    return found


def by_hand(scores, seen, k):
    """Columns by falling score, ties in column order, those seen left out; -1 where there is none left."""
    ids = np.full((len(scores), k), -1)
    for row, values in enumerate(scores):
        order = sorted((j for j in range(WIDTH) if not seen[row, j]), key=lambda j: (-values[j], j))[:k]
        ids[row, : len(order)] = order
    return ids


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("k", [1, 7, WIDTH, WIDTH + 5])
def test_the_best_columns_by_the_means_of_the_model_without_those_seen(models, name, k):
    vae, X = models[name], clicks(seed=1)
    X = (X > 0).astype(np.int64) if name == "bernoulli" else X
    means = vae.inverse_transform(vae.transform(X)).astype(np.float64)
    for given in (X, sparse.csr_array(X), sparse.coo_matrix(X)):
        for exclude, seen in ((True, X > 0), (False, np.zeros_like(X))):
            ids, scores = vae.recommend(given, k, exclude_seen=exclude)
            assert ids.dtype == np.int64
            assert scores.dtype == np.float32
            assert ids.shape == scores.shape == (len(X), k)
            full = np.full((len(X), WIDTH), -np.inf)
            np.put_along_axis(full, np.maximum(ids, 0), np.where(ids >= 0, scores, -np.inf).astype(float), axis=1)
            some = ids >= 0
            found = np.take_along_axis(means, np.maximum(ids, 0), axis=1)
            assert np.allclose(scores[some], np.log(found[some]), atol=2e-5)
            assert np.array_equal(some, np.isfinite(scores))
            assert np.isneginf(scores[~some]).all()
            assert (np.diff(np.where(some, scores, -1e30), axis=1) <= 0).all()
            expected = by_hand(np.log(means), seen, k)
            assert np.array_equal(some, expected >= 0)
            # Neighbours in order may be equal to rounding.
            right = np.take_along_axis(means, np.maximum(expected, 0), axis=1)
            assert np.allclose(found[some], right[some], rtol=2e-5)
            assert not np.take_along_axis(seen > 0, np.maximum(ids, 0), axis=1)[some].any()
    assert (vae.recommend(X[1:2], 3)[0] == -1).all()  # who has seen everything


def test_ties_are_in_column_order_and_no_column_has_no_number():
    scores = np.array([[1.0, 3.0, 3.0, 2.0, 3.0, 1.0], [0, 0, 0, 0, 0, 0], [-np.inf, 5, -np.inf, -np.inf, 5, -np.inf]])
    for k, expected in (
        (2, [[1, 2], [0, 1], [1, 4]]),
        (4, [[1, 2, 4, 3], [0, 1, 2, 3], [1, 4, -1, -1]]),
        (8, [[1, 2, 4, 3, 0, 5, -1, -1], [0, 1, 2, 3, 4, 5, -1, -1], [1, 4, -1, -1, -1, -1, -1, -1]]),
    ):
        ids, best = ranking.top_columns(scores, k)
        assert ids.tolist() == expected
        assert np.isneginf(best[ids < 0]).all()
        some = ids >= 0
        assert np.array_equal(best[some], np.take_along_axis(scores, np.maximum(ids, 0), axis=1)[some])


def test_top_columns_against_a_stable_sort():
    rng = np.random.default_rng(0)
    for width in (1, 2, 17, 300):
        scores = rng.integers(0, 9, (200, width)).astype(np.float32)
        for k in {1, min(3, width), width}:
            assert np.array_equal(ranking.top_columns(scores, k)[0], np.argsort(-scores, axis=1, kind="stable")[:, :k])


@pytest.mark.parametrize("name", ["multinomial", "bernoulli"])
def test_blocks_rows_beside_it_and_a_file_change_nothing(models, name, monkeypatch, tmp_path):
    vae, X = models[name], (clicks(seed=2) > 0).astype(np.int64)
    whole = vae.recommend(X, 9)
    vae.save(tmp_path / "model.safetensors")
    monkeypatch.setattr(ranking, "BLOCK", 4 * WIDTH)
    for other in (vae.recommend(X, 9), load(tmp_path / "model.safetensors").recommend(X, 9)):
        assert all(np.array_equal(*pair) for pair in zip(whole, other, strict=True))
    alone = vae.recommend(X[77:78], 9)
    assert all(np.array_equal(one[0], all_[77]) for one, all_ in zip(alone, whole, strict=True))


@pytest.mark.filterwarnings("ignore:posterior collapse")
def test_memory_is_that_of_a_block_not_of_the_table():
    width, rows = 20_000, 3_000
    rng = np.random.default_rng(0)
    X = sparse.csr_array(
        (np.ones(rows * 10), rng.integers(0, width, rows * 10), np.arange(0, rows * 10 + 1, 10)), shape=(rows, width)
    )
    vae = VAE(2, hidden_layer_sizes=(), likelihood="multinomial", epochs=1, random_state=0).fit(X[:100])
    tracemalloc.start()
    ids, _ = vae.recommend(X, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ids.shape == (rows, 5)
    # 4 Mi scores of a block: float32 and some copies, flags, and a running number of 8 bytes each. The table would be 240 MB.
    assert peak < 40 * ranking.BLOCK


@pytest.mark.filterwarnings("ignore:posterior collapse")
def test_what_ranks_no_columns_is_refused(models):
    X = np.random.default_rng(0).random((40, 5))
    for likelihood in ("gaussian", "continuous-bernoulli"):
        vae = VAE(2, hidden_layer_sizes=(4,), likelihood=likelihood, epochs=1).fit(X)
        with pytest.raises(SettingsError, match=f"likelihood {likelihood} ranks no columns") as caught:
            vae.recommend(X)
        assert "\n" not in str(caught.value)
    for k in (0, -1, 2.5, True):
        with pytest.raises(SettingsError, match="give a whole number from 1"):
            models["poisson"].recommend(clicks(), k)


def test_what_was_chosen_is_not_recommended_whatever_its_scale():
    """A column that is 1 in every row is 0 by minmax."""
    X = (clicks() > 0).astype(np.float64)
    X[:, 3] = 1
    vae = VAE(2, hidden_layer_sizes=(8,), epochs=1, random_state=0, likelihood="bernoulli", scaling="minmax").fit(X)
    ids, _ = vae.recommend(X, WIDTH - 1)
    assert not (ids == 3).any()
