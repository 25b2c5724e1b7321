"""`VAE` with covariates and size factors: what they are, what they change, and what is refused."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import vaefast
from vaefast.errors import DataError, SettingsError

GENES = 30


def cells(count=600, seed=0):
    """Counts, (count, GENES), of cells of two types from two batches, and what is known of each cell."""
    rng = np.random.default_rng(seed)
    types, batches = rng.integers(0, 2, count), rng.integers(0, 2, count)
    by_type, by_batch = np.exp(rng.normal(0, 1, (2, GENES))), np.exp(rng.normal(0, 1, (2, GENES)))
    rates = by_type[types] * by_batch[batches] * rng.gamma(8, 1 / 4, (count, 1))
    known = pd.DataFrame({"batch": np.array(["first", "second"])[batches], "age": rng.normal(50, 10, count)})
    return rng.poisson(rates), known, types, batches


def vae(**changes):
    about = {"hidden_layer_sizes": (32,), "likelihood": "negative-binomial", "epochs": 40, "random_state": 0, **changes}
    return vaefast.VAE(4, **about)


def told(latents, labels):
    """How often a linear model tells the labels from the latents, from one half on what chance would."""
    return cross_val_score(LogisticRegression(max_iter=1000), latents, labels).mean()


@pytest.mark.parametrize("encoded", [False, True])
def test_latents_need_not_carry_what_the_decoder_is_told(encoded):
    X, known, types, batches = cells()
    alone = vae().fit(X).transform(X)
    model = vae(encode_covariates=encoded).fit(X, covariates=known)
    z = model.transform(X, covariates=known)
    assert told(alone, batches) > 0.9
    assert told(z, batches) < 0.75
    assert told(z, types) > 0.95


@pytest.mark.parametrize("encoded", [False, True])
def test_fit_transform_is_fit_and_transform(encoded):
    X, known, _, _ = cells(100)
    expected = vae(epochs=1, encode_covariates=encoded).fit(X, covariates=known)
    expected = expected.transform(X, covariates=known if encoded else None)
    assert np.array_equal(vae(epochs=1, encode_covariates=encoded).fit_transform(X, covariates=known), expected)
    framed = vae(epochs=1, encode_covariates=encoded).set_output(transform="pandas").fit_transform(X, covariates=known)
    assert [*framed] == ["vae0", "vae1", "vae2", "vae3"]
    assert np.array_equal(framed.to_numpy(), expected)


@pytest.mark.parametrize("alien", ["third", None])
@pytest.mark.parametrize("form", [pd.Series.to_frame, pd.Series, np.asarray, lambda batch: {"batch": batch}])
def test_a_row_that_counts_for_nothing_adds_no_category(form, alien):
    X, known, _, _ = cells(100)
    batch, weights = known["batch"].astype(object), np.ones(100)
    weights[[0, 7]] = 0
    batch[7] = alien
    kept = weights > 0
    weighted = vae(epochs=1).fit(X, covariates=form(batch), sample_weight=weights)
    alone = vae(epochs=1).fit(X[kept], covariates=form(batch[kept]))
    scores = [model.score_samples(X[kept], covariates=form(batch[kept])) for model in (weighted, alone)]
    assert np.array_equal(*scores)


def test_rows_that_count_several_times_are_those_rows_for_covariates_and_sizes_as_well():
    X, known, _, _ = cells(120)
    weights = np.random.default_rng(0).integers(1, 4, 120)
    weights[:20] = 0
    sizes = np.random.default_rng(1).uniform(0.5, 4, 120)
    again = np.repeat(np.arange(120), weights)
    weighted = vae(epochs=1).fit(X, covariates=known, size_factors=sizes, sample_weight=weights)
    repeated = vae(epochs=1).fit(X[again], covariates=known.iloc[again], size_factors=sizes[again])
    for one, other in zip(weighted._told.covariates.columns, repeated._told.covariates.columns, strict=True):
        assert (one.name, one.categories) == (other.name, other.categories)
        np.testing.assert_allclose((one.mean, one.scale), (other.mean, other.scale), rtol=1e-12)
    assert weighted._told.size_scale == pytest.approx(repeated._told.size_scale, rel=1e-12)
    np.testing.assert_allclose(weighted.size_quantiles_, repeated.size_quantiles_, rtol=1e-12)


def test_the_decoder_can_be_asked_for_any_batch():
    X, known, _, batches = cells()
    model = vae().fit(X, covariates=known)
    z = model.transform(X)  # the encoder does not see the covariates
    shares = X / X.sum(axis=1, keepdims=True)
    for batch, name in enumerate(("first", "second")):
        asked = model.inverse_transform(z, covariates=pd.DataFrame({"batch": [name], "age": [50.0]}))
        distance = [np.abs(asked.mean(axis=0) - shares[batches == other].mean(axis=0)).sum() for other in (0, 1)]
        assert distance[batch] < 0.3 * distance[1 - batch]
    drawn = model.sample(400, random_state=0, noise_in_x=True, covariates=[["first", 50.0]])
    share = drawn.sum(axis=0) / drawn.sum()
    assert np.abs(share - shares[batches == 0].mean(axis=0)).sum() < np.abs(share - shares[batches == 1].mean(axis=0)).sum()


def test_rows_in_another_order_and_of_another_type_give_the_same_model():
    X, known, _, _ = cells(200)
    X[10:20] = X[0]  # equal rows, whose covariates differ
    order = np.random.default_rng(1).permutation(len(X))
    one = vae(epochs=3).fit(X, covariates=known)
    two = vae(epochs=3).fit(sparse.csc_matrix(X[order]), covariates=known.iloc[order])
    assert np.array_equal(one.transform(X), two.transform(X))
    assert np.array_equal(one.score_samples(X, covariates=known), two.score_samples(X, covariates=known))


@pytest.mark.parametrize("engine", ["cython", "numba", "reference"])
def test_engines_agree(engine):
    X, known, _, _ = cells(100)
    about = {"epochs": 2, "encode_covariates": True}
    one, two = (vae(engine=name, **about).fit(X, covariates=known) for name in (engine, "reference"))
    scores = [model.score_samples(X, covariates=known) for model in (one, two)]
    assert np.allclose(*scores, atol=2e-2)


def test_every_kind_of_table_is_understood():
    X, known, _, _ = cells(100)
    batch = known["batch"]
    for table in (batch, batch.astype("category"), batch.to_frame(), batch.to_numpy(), batch.tolist(), batch == "first"):
        model = vae(epochs=1).fit(X, covariates=table)
        assert model._told.width == 2
        assert model.inverse_transform(np.zeros((3, 4)), covariates=table[:1]).shape == (3, GENES)
    for table in (
        known["age"],
        known["age"].tolist(),
        known["age"].astype("float32").to_numpy(),
        known["age"].round().astype("Int64"),
    ):
        assert vae(epochs=1).fit(X, covariates=table)._told.width == 1
    mixed = [[b, a] for b, a in zip(known["batch"], known["age"], strict=True)]
    assert vae(epochs=1).fit(X, covariates=mixed)._told.width == 3
    # Numbers that pandas holds as categories are categories, and 1 is 1.0.
    numbered = pd.Series((batch == "first").astype(float)).astype("category")
    model = vae(epochs=1).fit(X, covariates=numbered)
    assert model.score_samples(X, covariates=numbered.astype(int).astype(str)).shape == (100,)


def test_columns_of_a_dict_are_those_of_a_frame_and_one_value_stands_for_all():
    X, known, _, _ = cells(100)
    numbered = known["batch"].map({name: at for at, name in enumerate(known["batch"].unique())})
    frame = known.assign(batch=numbered.astype("category"))
    model = vae(epochs=1).fit(X, covariates=frame)
    other = vae(epochs=1).fit(X, covariates={name: frame[name] for name in frame})
    assert np.array_equal(model.transform(X), other.transform(X))
    latents, ages = np.zeros((3, 4)), [30.0, 40.0, 50.0]
    expected = model.inverse_transform(latents, covariates=pd.DataFrame({"batch": ["1"] * 3, "age": ages}))
    for batch in (["1"], "1"):
        assert np.array_equal(model.inverse_transform(latents, covariates={"batch": batch, "age": ages}), expected)
    one = model.inverse_transform(latents, covariates={"batch": "1", "age": 40.0})
    assert np.array_equal(one[0], expected[1])


def test_columns_are_matched_by_name():
    X, known, _, _ = cells(100)
    model = vae(epochs=1).fit(X, covariates=known)
    expected = model.score_samples(X, covariates=known)
    assert np.array_equal(model.score_samples(X, covariates=known[["age", "batch"]].assign(other=1)), expected)


def test_files_copies_and_chunks_keep_the_covariates(tmp_path):
    X, known, _, _ = cells(200)
    factors = X.sum(axis=1) / 7
    model = vae(epochs=2, encode_covariates=True).fit(X, covariates=known, size_factors=factors)
    expected = model.score_samples(X, covariates=known, size_factors=factors)
    model.save(tmp_path / "model.safetensors")
    for other in (vaefast.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.score_samples(X, covariates=known, size_factors=factors), expected)
        other.partial_fit(X, covariates=known, size_factors=factors)
        assert other.n_iter_ == 3
    chunked = vae(encode_covariates=True, batch_size=20)
    for rows in (slice(0, 100), slice(100, 200)):
        chunked.partial_fit(X[rows], covariates=known[rows], size_factors=factors[rows])
    assert chunked.n_iter_ == 2


def test_validation_rows_have_their_own():
    X, known, _, _ = cells(200)
    factors = X.sum(axis=1) * 2.0
    train, held = slice(0, 150), slice(150, 200)
    model = vae(epochs=2).fit(
        X[train], covariates=known[train], size_factors=factors[train], validation_data=X[held],
        validation_covariates=known[held], validation_size_factors=factors[held],
    )  # fmt: skip
    bound = model.score_samples(X[held], covariates=known[held], size_factors=factors[held], n_samples=1).mean()
    assert model.history_["validation_elbo"][-1] == pytest.approx(bound)
    stopped = vae(early_stopping=True, epochs=3).fit(X, covariates=known, size_factors=factors)
    assert len(stopped.history_["validation_elbo"]) == 3


def test_size_factors_that_are_totals_change_no_bit():
    X = cells(200)[0]
    X[3] = X[4]
    with_factors = vae(epochs=2).fit(X, size_factors=X.sum(axis=1))
    without = vae(epochs=2).fit(X)
    assert np.array_equal(with_factors.transform(X), without.transform(X))
    assert with_factors._told.size_scale == 1.0


@pytest.mark.parametrize("likelihood", ["negative-binomial", "poisson"])
def test_size_factors_scale_the_rates(likelihood):
    """Only their ratios count; a row of twice the size has twice the mean."""
    X = cells(200)[0]
    factors = np.random.default_rng(0).uniform(0.5, 2, len(X))
    one, two = (vae(epochs=2, likelihood=likelihood).fit(X, size_factors=by * factors) for by in (1.0, 8.0))
    assert np.allclose(one.score_samples(X, size_factors=factors), two.score_samples(X, size_factors=8 * factors))
    means = [one.reconstruct(X, size_factors=by * factors) for by in (1.0, 2.0)]
    assert np.allclose(means[1], 2 * means[0])
    assert means[0].sum() == pytest.approx(X.sum(), rel=1e-6)


def test_real_numbers_and_pictures_take_covariates():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 400)
    X = rng.normal(size=(400, 1)) @ rng.normal(size=(1, 6)) + 4 * group[:, None] + 0.1 * rng.normal(size=(400, 6))
    names = np.array(["low", "high"])[group]
    model = vaefast.VAE(2, hidden_layer_sizes=(32,), epochs=60, random_state=0).fit(X, covariates=names)
    assert model.likelihood_ == "gaussian"
    z = model.transform(X)
    low, high = (model.inverse_transform(z, covariates=[name]).mean() for name in ("low", "high"))
    assert high - low == pytest.approx(4, abs=0.8)
    # A row that float32 cannot hold is scored in float64, with its covariates.
    X[0] = 1e25
    assert np.isfinite(model.score_samples(X, covariates=names)).all()
    pictures = rng.integers(0, 256, (100, 20)).astype(np.uint8)
    grey = vaefast.VAE(2, hidden_layer_sizes=(8,), epochs=1, scaling="grey", encode_covariates=True)
    grey.fit(pictures, covariates=names[:100])
    assert grey.interpolate(pictures[0], pictures[1], 3, covariates=["low"]).shape == (3, 20)


@pytest.mark.parametrize("encoded", [False, True])
def test_onnx_takes_covariates_as_last_columns(tmp_path, encoded):
    runtime = pytest.importorskip("onnxruntime")
    X, known, _, _ = cells(50)
    model = vae(epochs=2, encode_covariates=encoded).fit(X, covariates=known)
    encoder, decoder = (runtime.InferenceSession(str(path)) for path in model.to_onnx(tmp_path))
    numbers = model._told.covariates.encoded(known, len(X))
    x = np.concatenate([X, numbers], axis=1) if encoded else X
    mean, _ = encoder.run(None, {"x": x.astype(np.float32)})
    assert np.allclose(mean, model.transform(X, covariates=known), atol=1e-5)
    rates = decoder.run(None, {"z": np.concatenate([mean, numbers], axis=1).astype(np.float32)})[0]
    assert np.allclose(rates, model.normalized(X, covariates=known), atol=1e-5)


KNOWN = pd.DataFrame({"batch": ["a", "b", "a"], "age": [1.0, 2.0, 3.0]})
ROWS = np.array([[1, 0, 2], [0, 3, 1], [2, 2, 0]])


@pytest.mark.parametrize(
    ("covariates", "words"),
    [
        (KNOWN.assign(batch=["a", None, "b"]), "row 1 (counted from 0) of 'batch' is missing"),
        (KNOWN.assign(age=[1, np.nan, 2]), "row 1 (counted from 0) of 'age' is missing"),
        (KNOWN.assign(age=[1, np.inf, 2]), "of 'age' is infinite"),
        (KNOWN[:2], "covariates have 2 rows, but X has 3"),
        (KNOWN[[]], "covariates have no column"),
        (np.zeros((3, 2, 2)), "covariates have 3 dimensions"),
    ],
)
def test_covariates_that_cannot_be_learned_are_refused(covariates, words):
    with pytest.raises(DataError) as error:
        vae(epochs=1).fit(ROWS, covariates=covariates)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("covariates", "words"),
    [
        (None, "trained with covariates 'batch', 'age': give covariates, too"),
        (KNOWN.assign(batch=["a", "q", "b"]), "row 1 (counted from 0) of 'batch' is 'q', which training did not see"),
        (KNOWN[["age"]], "covariates lack the column 'batch'"),
        ([[1.0], [2.0], [3.0]], "covariates have 1 columns, but the model was trained with 2: 'batch', 'age'"),
        (KNOWN.assign(age=["x", "y", "z"]), "'age' holds text, but was a number in training"),
    ],
)
def test_covariates_that_do_not_fit_the_model_are_refused(covariates, words):
    model = vae(epochs=1).fit(ROWS, covariates=KNOWN)
    for call in (model.score_samples, model.log_likelihood, model.reconstruct, model.normalized, model.score):
        with pytest.raises(DataError) as error:
            call(ROWS, covariates=covariates)
        assert words in str(error.value)


def test_what_a_model_was_not_told_is_refused():
    model = vae(epochs=1).fit(ROWS)
    with pytest.raises(DataError, match="covariates are given, but the model was trained without"):
        model.transform(ROWS, covariates=KNOWN)
    with pytest.raises(DataError, match="size_factors are given, but the model was trained without"):
        model.score_samples(ROWS, size_factors=[1, 2, 3])
    with pytest.raises(SettingsError, match="encode_covariates is true, but there are no covariates"):
        vae(epochs=1, encode_covariates=True).fit(ROWS)
    sized = vae(epochs=1).fit(ROWS, size_factors=[1, 2, 3])
    with pytest.raises(DataError, match="trained with size factors: give size_factors"):
        sized.score_samples(ROWS)
    for factors, words in (([1, 0, 2], "row 1 (counted from 0) is 0"), ([1, 2], "2 values, but X has 3 rows")):
        with pytest.raises(DataError) as error:
            vae(epochs=1).fit(ROWS, size_factors=factors)
        assert words in str(error.value)
    with pytest.raises(SettingsError, match="size_factors are for a likelihood of counts"):
        vaefast.VAE(2, epochs=1, likelihood="gaussian").fit(ROWS * 0.5, size_factors=[1, 2, 3])


def test_recommendations_follow_the_covariates():
    X, known, _, _ = cells(300)
    X = X * (np.random.default_rng(2).random(X.shape) < 0.3)
    model = vae(likelihood="multinomial").fit(X, covariates=known["batch"])
    ids = {name: model.recommend(X, 5, covariates=[name], exclude_seen=False)[0] for name in ("first", "second")}
    z = model.transform(X)
    for name, best in ids.items():
        shares = model.inverse_transform(z, covariates=[name])
        assert np.array_equal(np.sort(best, axis=1), np.sort(np.argsort(-shares, axis=1)[:, :5], axis=1))
    assert not np.array_equal(ids["first"], ids["second"])


@pytest.mark.parametrize(
    "twice", [lambda a, b: pd.DataFrame(np.c_[a, b], columns=["age", "age"]), lambda a, b: {1: a, "1": b}]
)
def test_two_covariates_of_one_name_are_refused(twice):
    X, known, _, batches = cells(50)
    with pytest.raises(DataError, match=r"covariates: two columns are called '.*': give each a name of its own"):
        vae().fit(X, covariates=twice(known["age"].to_numpy(), batches))


def test_what_lies_under_a_mask_is_missing():
    X, known, _, _ = cells(50)
    masked = np.ma.masked_array(known["age"].to_numpy(), mask=np.arange(50) == 3)
    for covariates in (masked, masked[:, None], {"age": masked}):
        with pytest.raises(DataError, match=r"row 3 \(counted from 0\) of '.*' is missing"):
            vae().fit(X, covariates=covariates)
    with pytest.raises(DataError, match=r"size_factors: row 3 \(counted from 0\) is nan: give a number above 0"):
        vae().fit(X, size_factors=np.ma.masked_array(np.ones(50), mask=np.arange(50) == 3))


@pytest.mark.parametrize("dtype", ["string", "boolean", "Int64", "category"])
def test_a_covariate_that_pandas_calls_missing_is_one_line(dtype):
    X, _, _, batches = cells(50)
    values = {"string": batches.astype(str), "boolean": batches.astype(bool)}.get(dtype, batches)
    column = pd.Series(values, name="batch").astype(dtype)
    column[3] = None
    with pytest.raises(DataError, match=r"covariates: row 3 \(counted from 0\) of 'batch' is missing: fill it"):
        vae().fit(X, covariates=column)


@pytest.mark.parametrize("constant", [0.1, 0.7, 37.2, -1e9, 0])
def test_a_constant_number_has_its_unit(constant):
    """The standard deviation of a hundred times 0.1 is 4e-17 by rounding."""
    X, _, _, _ = cells(100)
    model = vae(epochs=1).fit(X, covariates=np.full(100, constant))
    column = model._told.covariates.columns[0]
    assert column.scale == 1
    assert column.mean == pytest.approx(constant, rel=1e-12)


def test_what_is_told_in_another_order_than_the_index_of_X_is_warned_of():
    X, known, _, _ = cells(40)
    X = pd.DataFrame(X, columns=[f"gene {at}" for at in range(GENES)], index=[f"cell {at}" for at in range(40)])
    known.index = X.index
    sizes = X.sum(axis=1) + 1.0
    other = X.index[::-1]
    model = vae(epochs=1, encode_covariates=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, covariates=known, size_factors=sizes, sample_weight=sizes)
        model.fit(X, covariates=known.reset_index(drop=True), size_factors=sizes.to_numpy())  # by their places, as ever
        model.transform(X.iloc[:5], covariates=known.iloc[:5])
    for name, told in (("covariates", known), ("size_factors", sizes), ("sample_weight", sizes)):
        with pytest.warns(vaefast.DataWarning, match=f"{name} and X have the same index in another order") as said:
            vae(epochs=1).fit(X, **{name: told.loc[other]})
        assert [warning.filename for warning in said] == [__file__]
    with pytest.warns(vaefast.DataWarning, match="sample_weight and X have the same index in another order"):
        vae(epochs=1).fit(X).score(X, sample_weight=sizes.loc[other])
    model.fit(X, covariates=known)
    for call in (model.transform, model.reconstruct, model.score_samples, model.partial_fit, model.normalized):
        with pytest.warns(vaefast.DataWarning, match="covariates and X have the same index in another order"):
            call(X, covariates={name: known[name].loc[other] for name in known})


def test_a_covariate_that_names_the_rows_is_warned_of():
    X, known, _, _ = cells(40)
    names = known.assign(cell=[f"cell {at}" for at in range(40)])
    with pytest.warns(vaefast.DataWarning, match="covariates: 'cell' has 40 different values in 40 rows, .*: leave it out"):
        vae(epochs=1).fit(X, covariates=names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae(epochs=1).fit(X, covariates=known)
