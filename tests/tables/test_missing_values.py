"""Missing values of a table: what is one, and that scaling, order, keys and volumes go by the others alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from vaefast import VAE, DataWarning, load
from vaefast.errors import DataError
from vaefast.models.noise import row_keys
from vaefast.tables.checking import table
from vaefast.tables.columns import extremes, moments, strays
from vaefast.tables.gaps import count_gaps
from vaefast.tables.preparing import prepare
from vaefast.tables.row_order import row_order
from vaefast.tables.scaling import CUT_OF_STRAYS, choose

NAN = np.nan


def holed(rows=200, columns=6, share=0.3, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(rows, columns)) * np.logspace(-3, 4, columns) + np.linspace(-50, 9, columns)
    return np.where(generator.random(X.shape) < share, NAN, X)


# --- What is missing


PLAIN = np.array([[1.0, NAN, 3.0], [NAN, 5.0, 6.0], [7.0, 8.0, NAN]])
FRAME = pd.DataFrame({
    "a": pd.array([1, None, 7], dtype="Int64"), "b": [None, 5, 8], "c": pd.array([3.0, 6.0, None], dtype="Float32"),
})  # fmt: skip
FORMS = {
    "float64": PLAIN,
    "float32": PLAIN.astype(np.float32),
    "nested lists": PLAIN.tolist(),
    "None": [[1, None, 3], [None, 5, 6], [7, 8, None]],
    "pandas.NA": [[1, pd.NA, 3], [pd.NA, 5, 6], [7, 8, pd.NA]],
    "objects": np.array([[1, None, 3.0], [pd.NA, 5, 6], [7, 8.0, NAN]], dtype=object),
    "masked": np.ma.masked_array(np.nan_to_num(PLAIN, nan=-1).astype(int), np.isnan(PLAIN)),
    "masked float32": np.ma.masked_array(np.nan_to_num(PLAIN, nan=-1).astype(np.float32), np.isnan(PLAIN)),
    "DataFrame": pd.DataFrame(PLAIN, columns=list("abc")),
    "nullable": FRAME,
    "text that is numbers": pd.DataFrame({"a": ["1", None, "7"], "b": [pd.NA, 5, "8"], "c": [3, 6, None]}, dtype=object),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_what_is_missing_is_nan(form):
    X = FORMS[form]
    before = X.copy() if hasattr(X, "copy") else X
    values = table(VAE(), X, reset=True)
    np.testing.assert_array_equal(np.asarray(values, float), PLAIN)
    assert values.dtype.kind == "f"
    if isinstance(X, pd.DataFrame):
        pd.testing.assert_frame_equal(X, before)


def test_truth_values_that_are_missing():
    frame = pd.DataFrame({"a": pd.array([True, None, False], dtype="boolean"), "b": [0, 1, 1]})
    np.testing.assert_array_equal(table(VAE(), frame, reset=True), [[1, 0], [NAN, 1], [0, 1]])
    assert choose(np.array([[1, 0], [NAN, 1], [0, 1]]), "auto", "auto")[0].likelihood == "bernoulli"


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_what_is_infinite_is_refused_beside_what_is_missing(value):
    X = holed()
    X[7, 3], X[3] = value, NAN
    with pytest.raises(DataError, match=rf"row 7, column 3 \(both counted from 0\) is infinite \({value}\)"):
        table(VAE(), X, reset=True)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    with pytest.raises(DataError, match=r"row 7 \(counted from 0\), column 'd' is infinite"):
        table(VAE(), frame, reset=True)


def test_a_sparse_table_misses_nothing():
    X = sparse.random(20, 5, 0.5, random_state=0, format="csr")
    X.data[4] = NAN
    with pytest.raises(DataError, match=r"is missing \(NaN\): fill it, or give a dense table"):
        table(VAE(), X, reset=True)


def test_a_likelihood_of_counts_takes_no_missing_values():
    X = np.random.default_rng(0).poisson(0.3, (60, 5)).astype(float)
    X[4, 2] = NAN
    with pytest.raises(DataError, match=r"row 4, column 2 .* is missing .* shares of a row's total.* choose likelihood gauss"):
        VAE(likelihood="poisson").fit(X)
    assert prepare(X, "auto", "auto").inputs.likelihood == "gaussian"


def test_a_table_of_nothing_is_refused():
    with pytest.raises(DataError, match="X: every value is missing: give some to learn from"):
        VAE().fit(np.full((5, 3), NAN))


# --- Scaling


def test_statistics_are_those_of_the_values_that_are_there():
    X = holed()
    mean, deviation = moments(X)
    low, high = extremes(X)
    for column, values in enumerate(X.T):
        known = values[~np.isnan(values)][:, None]
        assert np.allclose([mean[column], deviation[column]], np.ravel(moments(known)), rtol=1e-13)
        assert (low[column], high[column]) == (known.min(), known.max())
    assert count_gaps(X).tolist() == np.isnan(X).sum(axis=0).tolist()


def test_statistics_of_a_complete_column_do_not_depend_on_its_neighbours():
    X = holed()
    X[:, 2] = np.linspace(0, 1, len(X)) ** 3
    complete = np.where(np.isnan(X), 7.0, X)
    for weights in (None, np.random.default_rng(1).random(200)):
        one, other = moments(complete, weights=weights), moments(X, weights=weights)
        assert (one[0][2], one[1][2]) == (other[0][2], other[1][2])


def test_weighted_statistics_are_those_of_copies():
    X, copies = holed(), np.random.default_rng(1).integers(1, 4, 200)
    weighted, copied = moments(X, weights=copies.astype(float)), moments(np.repeat(X, copies, axis=0))
    assert np.allclose(weighted, copied, rtol=1e-12)


def test_stray_values_are_found_beside_missing_ones():
    X = np.random.default_rng(2).normal(size=(600, 2))
    X[::3, 0], X[301, 0] = NAN, 1e7
    (stray,) = strays(X, *moments(X))
    assert (stray.column, stray.row, stray.value) == (0, 301, 1e7)
    inputs = choose(X, "auto", "auto")[0]
    assert inputs.cut is not None
    assert inputs.cut[0] == CUT_OF_STRAYS
    few = np.full((600, 1), NAN)
    few[:5, 0] = [1, 2, 3, 4, 1e6]
    assert [stray.row for stray in strays(few, *moments(few))] == [4]


def test_minmax_goes_by_the_values_that_are_there():
    X = np.array([[NAN, 2.0], [4.0, 6.0], [8.0, NAN]])
    inputs = choose(X, "bernoulli", "minmax")[0]
    np.testing.assert_array_equal(inputs.enter(X), np.array([[NAN, 0], [0, 1], [1, NAN]], np.float32))
    with pytest.raises(DataError, match=r"row 0, column 1 .* is 2\.0, but likelihood bernoulli takes numbers in \[0, 1\]"):
        choose(X, "bernoulli", None)[0].enter(X)


@pytest.mark.parametrize("scaling", ["auto", "standard", "minmax", None])
def test_a_column_without_values_is_kept_and_named(scaling):
    frame = pd.DataFrame(holed(), columns=list("abcdef")).assign(c=NAN, e=None)
    vae = VAE(2, hidden_layer_sizes=(8,), epochs=1, scaling=scaling, random_state=0, batch_size=100, clip_norm=1.0)
    vae.set_params(engine="reference")
    if scaling is None:
        frame = frame.astype(float) / frame.astype(float).abs().max().fillna(1)
    with pytest.warns(DataWarning) as caught:
        vae.fit(frame.astype(float))
    (named,) = [str(warning.message) for warning in caught if "no value" in str(warning.message)]
    assert named.startswith("X: columns 'c', 'e' have no value in the training data: they are kept")
    if scaling is not None:
        assert vae._inputs.shift[2] == 0
        assert vae._inputs.scale[2] == 1
    assert np.isfinite(vae.score_samples(frame)).all()


@pytest.mark.filterwarnings("ignore::vaefast.DataWarning")
def test_a_column_gets_its_scale_from_the_first_values_that_come():
    first, second = holed(), holed(seed=1)
    first[:, 4] = NAN
    vae = VAE(2, hidden_layer_sizes=(8,), engine="reference", random_state=0).partial_fit(first)
    assert vae._inputs.unseen.tolist() == [False, False, False, False, True, False]
    vae.partial_fit(first)
    assert vae._inputs.unseen[4]
    vae.partial_fit(second)
    assert np.allclose([vae._inputs.shift[4], vae._inputs.scale[4]], np.ravel(moments(second[:, 4:5])))
    assert not vae._inputs.unseen.any()


@pytest.mark.filterwarnings("ignore::vaefast.DataWarning")
@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli", "gaussian"])
def test_minmax_takes_the_range_of_a_column_from_the_first_values_that_differ(likelihood, tmp_path):
    """One that was constant, and one without values; saved between, too."""
    first, second = np.abs(holed()), np.abs(holed(seed=1))
    first[:, 1], first[:, 4] = 5.0, NAN
    vae = VAE(2, likelihood=likelihood, scaling="minmax", hidden_layer_sizes=(8,), engine="reference", random_state=0)
    vae.partial_fit(first)
    vae.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again._inputs.constant.tolist() == vae._inputs.constant.tolist() == [False, True, False, False, True, False]
    assert again._inputs.cut is None
    for model in (vae, again):
        model.partial_fit(second)
        seen = np.append(second[:, 1], 5.0)
        assert model._inputs.shift[[1, 4]].tolist() == [np.nanmin(seen), np.nanmin(second[:, 4])]
        assert model._inputs.scale[[1, 4]].tolist() == [
            np.nanmax(seen) - np.nanmin(seen),
            np.ptp(second[~np.isnan(second[:, 4]), 4]),
        ]
        assert not model._inputs.constant.any()
    assert np.array_equal(again.transform(second), vae.transform(second))


# --- Order and keys


def test_the_order_of_rows_with_missing_values_does_not_depend_on_how_they_came():
    X = np.round(holed(share=0.5), 0)
    X[:, :2] = np.where(np.isnan(X[:, :2]), NAN, 1.0)
    shuffled = np.random.default_rng(3).permutation(len(X))
    first, second = X[row_order(X)], X[shuffled][row_order(X[shuffled])]
    np.testing.assert_array_equal(first, second)


def test_every_nan_is_the_same_to_the_key_of_a_row():
    X = holed().astype(np.float32)
    other = X.copy()
    bits = other.view(np.uint32)
    bits[np.isnan(X)] = np.random.default_rng(4).integers(0xFFC00001, 0xFFFFFFFF, int(np.isnan(X).sum()), np.uint32)
    assert np.isnan(other[np.isnan(X)]).all()
    assert np.array_equal(row_keys(X), row_keys(other))
    assert len(np.unique(row_keys(X))) == len(X)
    complete = ~np.isnan(X).any(axis=1)
    assert np.array_equal(row_keys(X)[complete], row_keys(X[complete]))


def test_the_volume_of_a_row_is_that_of_what_is_there():
    X = holed()
    inputs = choose(X, "auto", "auto")[0]
    volumes = inputs.log_volume_of(X)
    expected = [np.log(inputs.scale)[~np.isnan(row)].sum() for row in X]
    assert np.allclose(volumes, expected)
    complete = ~np.isnan(X).any(axis=1)
    assert (volumes[complete] == inputs.log_volume).all()
    assert inputs.log_volume_of(X[complete]) == inputs.log_volume
    order = np.arange(0, len(X), 3)
    assert np.array_equal(inputs.log_volume_of(X, order), volumes[order])
