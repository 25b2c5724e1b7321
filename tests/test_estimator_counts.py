"""`VAE` on tables of counts: sparse and dense, their scores against what they must be, and everything that is refused."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.utils.estimator_checks import parametrize_with_checks

from vaefast import VAE, load
from vaefast.errors import DataError, DataWarning, SettingsError
from vaefast.tables.preparing import prepare
from vaefast.training.early_stopping import held_out

KINDS = [
    {"likelihood": "negative-binomial"},
    {"likelihood": "negative-binomial", "zero_inflation": True},
    {"likelihood": "poisson"},
    {"likelihood": "multinomial"},
]
by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: " ".join(map(str, kind.values())))


def counted(rows=200, columns=40, seed=0):
    """Overdispersed counts with three factors behind them, two in three of them zero."""
    rng = np.random.default_rng(seed)
    shares = np.exp(rng.standard_normal((rows, 3)) @ rng.standard_normal((3, columns)))
    rates = 30 * shares / shares.sum(axis=1, keepdims=True)
    return rng.poisson(rng.gamma(2.0, rates / 2.0))


def vae(**changes):
    return VAE(3, **{"hidden_layer_sizes": (16,), "epochs": 4, "random_state": 0, **changes})


@pytest.fixture(scope="module")
def fitted():
    return {kind["likelihood"] + str(len(kind)): vae(**kind).fit(counted()) for kind in KINDS}


class OfFractions(VAE):
    """A `VAE` of counts that are made of numbers from 0 to 1."""

    def fit(self, X, y=None, *, sample_weight=None):
        return super().fit(self._counted(X), sample_weight=sample_weight)

    def transform(self, X):
        return super().transform(self._counted(X))

    def _counted(self, X):
        return (9 * X).floor() if sparse.issparse(X) else np.floor(9 * X)


@pytest.mark.filterwarnings("ignore::vaefast.DataWarning")
@parametrize_with_checks([VAE(2, hidden_layer_sizes=(8,), epochs=3, n_jobs=1, **kind) for kind in KINDS])
def test_scikit_learns_own_checks(estimator, check):
    # Its checks of weights take fractions whatever the tags say, which counts cannot be.
    if "sample_weight_equivalence" in str(check):
        estimator = OfFractions(**estimator.get_params())
    check(estimator)


@by_kind
def test_sparse_or_dense_in_any_order_and_type_it_is_the_same_model(kind, fitted):
    X, one = counted(), fitted[kind["likelihood"] + str(len(kind))]
    for other in (
        sparse.csr_matrix(X[::-1].astype(np.float32)), sparse.csc_array(X), sparse.coo_array(X.astype(np.uint8)),
        X.astype(np.float64)[np.random.default_rng(1).permutation(len(X))],
    ):  # fmt: skip
        state = vae(**kind).fit(other)._network.state
        assert np.array_equal(state.parameters, one._network.state.parameters)
    for given in (sparse.csr_array(X), sparse.coo_matrix(X)):
        assert np.array_equal(one.transform(given), one.transform(X))
        assert np.array_equal(one.score_samples(given), one.score_samples(X))


@by_kind
def test_training_raises_the_bound_and_log_p_lies_above_it(kind):
    X = counted()
    model = vae(**kind, epochs=40).fit(X)
    assert model.history_["train_elbo"][-1] > model.history_["train_elbo"][0] + 3
    elbo, log_p = model.score_samples(X), model.log_likelihood(X, 200)
    assert log_p.mean() > elbo.mean()
    per_column = model.score_samples(X[:9], per_feature=True)
    assert per_column.shape == (9, 40)
    assert (per_column.sum(axis=1) > elbo[:9]).all()  # the divergence is what lies between


@by_kind
def test_the_log_probabilities_of_all_small_tables_add_up_to_one(kind):
    """Of rows of two columns with total 3, given the total: multinomial. Of the others, the marginal is below one."""
    rows = np.array([[i, 3 - i] for i in range(4)])
    model = vae(**kind, epochs=2).fit(np.vstack([rows] * 5))
    total = np.exp(model.log_likelihood(rows, 4000)).sum()
    if kind["likelihood"] == "multinomial":
        assert total == pytest.approx(1.0, abs=0.02)
    else:
        assert 0 < total < 1


@by_kind
def test_means_samples_and_files(kind, fitted, tmp_path):
    X, model = counted(), fitted[kind["likelihood"] + str(len(kind))]
    rates, means = model.normalized(X[:20]), model.reconstruct(X[:20])
    whole = 1.0 if len(kind) == 1 else rates.sum(axis=1)
    assert np.allclose(rates.sum(axis=1), whole, atol=1e-5)
    assert (rates.sum(axis=1) <= 1 + 1e-5).all()
    assert np.allclose(means, rates * X[:20].sum(axis=1, keepdims=True), rtol=1e-5)
    assert np.array_equal(rates, model.inverse_transform(model.transform(X[:20])))
    drawn = model.sample(500, random_state=1, noise_in_x=True)
    assert drawn.dtype == np.int64
    assert drawn.min() >= 0
    assert np.array_equal(drawn, model.sample(500, random_state=1, noise_in_x=True))
    totals = X.sum(axis=1)
    assert model.sample(500, random_state=1).sum(axis=1).max() <= totals.max() + 0.1
    if kind["likelihood"] == "multinomial":
        assert set(drawn.sum(axis=1)) <= set(range(totals.min(), totals.max() + 1))
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.get_params() == model.get_params()
    assert np.array_equal(again.score_samples(X), model.score_samples(X))
    assert np.array_equal(again.sample(9, 3, noise_in_x=True), model.sample(9, 3, noise_in_x=True))
    assert np.array_equal(again.partial_fit(X).transform(X), load(tmp_path / "model.safetensors").partial_fit(X).transform(X))


def test_early_stopping_and_validation_data_take_sparse_rows():
    X = counted(400)
    model = vae(epochs=30, early_stopping=True, n_iter_no_change=3).fit(sparse.csr_array(X))
    assert len(model.history_["validation_elbo"]) == model.n_iter_
    given = vae().fit(sparse.csr_array(X[:300]), validation_data=sparse.csc_array(X[300:]))
    assert given.history_["validation_elbo"][-1] == pytest.approx(given.score_samples(X[300:], n_samples=1).mean(), abs=1e-3)
    doubled = vae().fit(X, sample_weight=np.full(len(X), 2.0))
    assert np.array_equal(doubled.transform(X), vae().fit(np.vstack([X, X])).transform(X))


def with_huge_rows():
    """Rows of which each fifth is 1,000 times as large as the others."""
    X = counted(200) + 1
    X[::5] *= 1000
    return X


@pytest.mark.parametrize("weights", [None, np.full(200, 0.5)])
def test_no_huge_row_decides_when_to_stop(weights):
    X = with_huge_rows()
    prepared = prepare(X, "negative-binomial", None, sample_weight=weights)
    kept, out = held_out(200, 0.5, 0)
    rest, rows = prepared.held_out(kept, out, 0)
    is_huge = np.arange(200) % 5 == 0
    assert not is_huge[rows].any()
    assert is_huge[rest.rows].sum() == 40
    assert len(rows) == len(rest.rows) == 100
    if weights is None:
        assert set(rows) | set(rest.rows) == set(range(200))
        assert set(rows) >= set(prepared.rows[out]) - set(np.flatnonzero(is_huge))
    of_any, rows = prepared.held_out(kept, out, 0, of_any_size=True)
    assert is_huge[rows].sum() + is_huge[of_any.rows].sum() >= 40
    assert is_huge[rows].any()


def test_rows_of_usual_sizes_are_held_out_as_they_were_drawn():
    prepared, (kept, out) = prepare(counted(200) + 1, "poisson", None), held_out(200, 0.1, 3)
    rest, rows = prepared.held_out(kept, out, 3)
    assert np.array_equal(rows, prepared.rows[out])
    assert np.array_equal(rest.rows, prepared.rows[kept])
    assert np.array_equal(rows, prepared.held_out(kept, out, 3, of_any_size=True)[1])


@pytest.mark.parametrize("empty", [150, 200])
def test_rows_are_not_huge_beside_empty_ones(empty):
    X = counted(200) + 1
    X[:empty] = 0
    prepared, (kept, out) = prepare(X, "poisson", None), held_out(200, 0.3, 0)
    rest, rows = prepared.held_out(kept, out, 0)
    assert np.array_equal(rows, prepared.rows[out])
    assert np.array_equal(rest.rows, prepared.rows[kept])
    assert (X[rows].sum(axis=1) > 0).any() == (empty < 200)


def test_a_metric_of_recommendations_counts_huge_rows_like_others():
    X, seen = with_huge_rows(), []

    def watch(model, metrics):
        seen.append(model.validation_rows.max())

    class Watched(VAE):
        def _train(self, values, validation, *others):
            self.validation_rows = validation.rows.dense().sum(axis=1)
            super()._train(values, validation, *others)

    given = {
        **vae().get_params(),
        "likelihood": "multinomial",
        "early_stopping": True,
        "validation_fraction": 0.5,
        "epochs": 1,
    }
    for metric in ("elbo", "ndcg@5"):
        Watched(**{**given, "validation_metric": metric, "callbacks": [watch]}).fit(X)
    assert seen[0] < 1000 < seen[1]


def test_auto_takes_counts_for_whole_numbers_that_are_mostly_zero_and_says_so(capfd):
    X = counted()
    assert vae(epochs=1, verbose=1).fit(X).likelihood_ == "negative-binomial"
    assert "likelihood negative-binomial (whole numbers, most of them zero)" in capfd.readouterr().out
    assert vae(epochs=1).fit(sparse.csr_array(X)).likelihood_ == "negative-binomial"
    for other in (
        X + 1,  # whole numbers, none of them zero: ages, years
        np.where(X > 0, 255, 0),  # grey levels
        np.minimum(X, 255).astype(np.uint8),  # bytes
        X * 0.5,
        -X,
    ):
        assert vae(epochs=1).fit(other).likelihood_ == "gaussian"
    assert vae(epochs=1).fit(np.minimum(X, 1)).likelihood_ == "bernoulli"


@pytest.mark.filterwarnings("ignore::vaefast.errors.DataWarning")
def test_sparse_tables_of_other_numbers_are_trained_as_dense_ones():
    X = counted() * 0.5
    assert np.array_equal(vae(epochs=1).fit(sparse.csr_array(X)).transform(X), vae(epochs=1).fit(X).transform(X))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_matrix])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1.0, "X: Negative values in data: row 7, column 3 .* is -1, which is below 0"),
        (0.5, "X: row 7, column 3 .* is 0.5, which is no whole number"),
        (1e9, "X: row 7, column 3 .* is 1e\\+09, which is larger than 16,777,216"),
        (np.nan, "X: row 7, column 3 .* is missing"),
        (np.inf, "X: row 7, column 3 .* is infinite"),
    ],
)
def test_what_is_no_count_is_named_by_row_and_column(form, value, message):
    X = counted().astype(float)
    X[7, 3] = value
    with pytest.raises(DataError, match=message):
        vae(likelihood="poisson").fit(form(X))
    model = vae(likelihood="poisson", epochs=1).fit(counted())
    with pytest.raises(DataError, match=message):
        model.score_samples(form(X))


def test_settings_that_do_not_go_with_counts_are_refused():
    X = counted()
    with pytest.raises(SettingsError, match="poisson has no zero inflation"):
        vae(likelihood="poisson", zero_inflation=True).fit(X)
    with pytest.raises(SettingsError, match="encoder_input is 'log1p', which is for counts"):
        vae(likelihood="gaussian", encoder_input="log1p").fit(X)
    with pytest.raises(SettingsError, match=r"input_dropout is 0\.5, which is for counts"):
        vae(likelihood="gaussian", input_dropout=0.5).fit(X)
    with pytest.raises(SettingsError, match=r"input_dropout is '0\.5': give a number from 0 below 1"):
        vae(input_dropout="0.5").fit(X)
    with pytest.raises(SettingsError, match="scaling is 'standard', but likelihood multinomial takes counts as they are"):
        vae(likelihood="multinomial", scaling="standard").fit(X)
    with pytest.raises(SettingsError, match="normalized is for a likelihood of counts"):
        vae(likelihood="gaussian", epochs=1).fit(X).normalized(X)


def test_a_row_of_zeros_a_column_never_seen_and_one_huge_count():
    X = counted()
    X[5], X[:, 7], X[6, 0] = 0, 0, 10_000_000
    model = vae(epochs=3).fit(X)
    scores = model.score_samples(X)
    assert np.isfinite(scores).all()
    assert -1 < scores[5] <= 0  # nothing was counted, which is certain; what is left is the divergence
    unseen = X[:3].copy()
    unseen[:, 7] = 4  # odd, and possible
    assert np.isfinite(model.score_samples(unseen)).all()
    assert (model.score_samples(unseen) < model.score_samples(X[:3])).all()


@pytest.mark.parametrize("value", [-1, 0.5])
def test_a_few_values_that_are_no_counts_are_named(value):
    X = sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (60, 20)).astype(np.float64))
    X.data[3] = value
    with pytest.warns(DataWarning, match=rf"row 0, column .* is {value}, and so .* only 1 of its [\d,]+ values is no count"):
        assert vae(epochs=1).fit(X).likelihood_ == "gaussian"


@pytest.mark.parametrize("likelihood", ["auto", "gaussian"])
def test_rates_and_an_asked_for_likelihood_need_no_such_warning(likelihood):
    X = sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (60, 20)).astype(np.float64))
    X.data[3 if likelihood == "gaussian" else slice(None)] += 0.5
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vae(epochs=1, likelihood=likelihood).fit(X)
    assert not [warning for warning in caught if "count" in str(warning.message)]


@pytest.mark.parametrize("likelihood", ["auto", "poisson"])
def test_entries_of_a_sparse_table_that_are_there_twice_are_added(likelihood):
    """SciPy's own example of counting words has a 1 for each of them."""
    table = counted()
    row, column = np.nonzero(table)
    times = table[row, column]
    places = np.r_[0, table.sum(axis=1).cumsum()]
    words = sparse.csr_array((np.ones(times.sum(), np.int64), np.repeat(column, times), places), shape=table.shape)
    halves = words.copy()
    halves.data = halves.data / 2
    halves.indices, halves.data = np.repeat(halves.indices, 2), np.repeat(halves.data, 2)
    halves.indptr = 2 * halves.indptr
    wanted = vae(likelihood=likelihood).fit(sparse.csr_array(table))
    for form in (words, halves):
        stored = form.nnz
        found = vae(likelihood=likelihood).fit(form)
        assert found.likelihood_ == wanted.likelihood_
        assert np.array_equal(found.score_samples(form), wanted.score_samples(table))
        assert form.nnz == stored  # the user's table is as it was
