"""`sample_weight`: whole weights are copies, and a row of weight 0 is as good as absent, whatever it holds."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from vaefast import VAE, VAEDetector
from vaefast.errors import DataError
from vaefast.tables.told import Told

SMALL = {"hidden_layer_sizes": (8,), "epochs": 2, "random_state": 0, "n_jobs": 1}
# The last row counts for nothing.
WEIGHTS = np.append(np.ones(60), 0)
KEPT = WEIGHTS > 0


def counted(seed=0):
    return np.random.default_rng(seed).poisson(0.3, (61, 6))


def fractions_last(table):
    values = table.astype(np.float64)
    values[-1] = 0.5
    return values


def trained(X, **about):
    return VAE(2, **SMALL).fit(X, **about)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.csc_matrix, pd.DataFrame])
def test_fractions_in_a_row_that_counts_for_nothing_leave_a_table_one_of_counts(form):
    weighted = trained(form(fractions_last(counted())), sample_weight=WEIGHTS)
    alone = trained(form(counted()[KEPT].astype(np.float64)))
    assert weighted.likelihood_ == alone.likelihood_ == "negative-binomial"
    assert weighted.size_quantiles_ == alone.size_quantiles_
    assert np.array_equal(weighted.score_samples(counted()[KEPT]), alone.score_samples(counted()[KEPT]))


def test_text_in_a_row_that_counts_for_nothing_leaves_a_column_one_of_numbers():
    rng = np.random.default_rng(1)
    people = pd.DataFrame({"age": [*rng.normal(50, 9, 60), "n/a"], "town": [*rng.choice(["Rome", "Lima"], 60), "Rome"]})
    kept = people[KEPT].astype({"age": np.float64})
    weighted, alone = trained(people, sample_weight=WEIGHTS), trained(kept)
    assert weighted.column_types_ == alone.column_types_ == {"age": "real", "town": "binary"}
    assert np.array_equal(weighted.score_samples(kept), alone.score_samples(kept))
    told = trained(counted(), covariates=people["age"], sample_weight=WEIGHTS)
    assert told.transform(counted()[KEPT], covariates=kept["age"]).shape == (60, 2)
    assert told.get_params()["encode_covariates"] is False
    ages = [np.mean(told.inverse_transform(np.zeros((1, 2)), covariates=[[age]])) for age in (40.0, 60.0)]
    assert np.isfinite(ages).all()  # any number, not only those of training


def test_a_size_factor_that_counts_for_nothing_may_be_missing():
    sizes = np.append(np.linspace(0.5, 2, 60), np.nan)
    weighted = trained(counted(), size_factors=sizes, sample_weight=WEIGHTS)
    alone = trained(counted()[KEPT], size_factors=sizes[KEPT])
    assert weighted.size_quantiles_ == alone.size_quantiles_
    scores = [model.score_samples(counted()[KEPT], size_factors=sizes[KEPT]) for model in (weighted, alone)]
    np.testing.assert_allclose(*scores, rtol=1e-6)


def test_whole_weights_are_copies_in_what_sample_draws():
    table, weights = counted(), np.random.default_rng(2).integers(0, 3, 61)
    weighted, copied = trained(table, sample_weight=weights), trained(np.repeat(table, weights, axis=0))
    assert weighted.size_quantiles_ == copied.size_quantiles_
    assert np.array_equal(weighted.sample(20, random_state=0), copied.sample(20, random_state=0))
    ones, none = trained(table, sample_weight=np.ones(61)), trained(table)
    assert np.array_equal(ones.sample(20, random_state=0), none.sample(20, random_state=0))


def test_a_row_too_far_out_for_a_number_does_not_spoil_a_score_it_does_not_count_in():
    X = np.random.default_rng(3).normal(size=(61, 4))
    model = trained(X)
    X[-1] = 1e300
    assert model.score_samples(X)[-1] == -np.inf
    assert model.score(X, sample_weight=WEIGHTS) == pytest.approx(model.score(X[KEPT]))


@pytest.mark.parametrize("scale", [1, 0.7])
def test_the_threshold_of_a_detector_is_of_the_rows_that_count(scale):
    rng = np.random.default_rng(4)
    inliers, outliers = rng.normal(size=(100, 4)), rng.normal(0, 8, (20, 4))
    weights = scale * np.append(np.ones(100), np.zeros(20))
    found = VAEDetector(vae=VAE(2, **SMALL)).fit(np.vstack([inliers, outliers]), sample_weight=weights)
    assert found.labels_[:100].mean() == pytest.approx(0.1, abs=0.011)  # a row more or less
    assert found.labels_[100:].mean() > 0.9


def test_categories_of_whole_numbers_stay_categories():
    batch = pd.Series(pd.Categorical(np.arange(61) % 3))
    weights = np.ones(61)
    weights[0] = 0
    for covariates in (pd.DataFrame({"batch": batch}), batch.rename("batch")):
        vae = trained(counted(), covariates=covariates, sample_weight=weights)
        assert vae._told.covariates.columns[0].categories == ("0", "1", "2")
        assert vae.score_samples(counted(), covariates=covariates).shape == (61,)


def test_weights_and_size_factors_of_any_type_and_text_is_refused():
    weights, sizes = WEIGHTS + 0.5, np.linspace(0.5, 2, 61)
    wanted = trained(counted(), sample_weight=weights, size_factors=sizes)
    for of in (lambda values: [Decimal(value) for value in values], lambda values: pd.Series(values).astype("Float64")):
        same = trained(counted(), sample_weight=of(weights), size_factors=of(sizes))
        assert np.array_equal(same.transform(counted()), wanted.transform(counted()))
    for name in ("sample_weight", "size_factors"):
        with pytest.raises(DataError, match=f"^{name} holds 'heavy': give numbers$"):
            trained(counted(), **{name: [1.0] * 60 + ["heavy"]})


def test_a_row_that_counts_for_nothing_may_miss_counts_beside_size_factors():
    X, sizes = np.random.default_rng(0).poisson(3, (5, 4)).astype(float), np.arange(1.0, 6.0)
    weights = np.array([1, 2, 1, 0.5, 0])
    X[-1] = np.nan
    told = Told.learned(X, None, sizes, weights=weights)[0]
    alone = Told.learned(X[:4], None, sizes[:4], weights=weights[:4])[0]
    assert told.size_scale == alone.size_scale == pytest.approx(X[:4].sum(1) @ weights[:4] / (sizes[:4] @ weights[:4]))
