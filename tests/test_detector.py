"""`VAEDetector`: scores, threshold and labels as users of PyOD know them."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaefast
from vaefast import VAE, VAEDetector
from vaefast.errors import DataError, SettingsError


def rows(count=400, odd=20):
    """Rows on a plane with some noise, the last of them off it, and which these are."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(count, 2)) @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(count, 6))
    X[-odd:] += rng.normal(0, 3, (odd, 6))
    return X, np.arange(count) >= count - odd


def detector(**changes):
    about = {"vae": VAE(2, hidden_layer_sizes=(32,), epochs=60), "random_state": 0, "n_samples": 20, **changes}
    return VAEDetector(**{"contamination": 0.05, **about})


def test_what_is_off_the_plane_is_found():
    X, odd = rows()
    found = detector().fit(X)
    assert roc_auc_score(odd, found.decision_scores_) > 0.97
    assert found.labels_.sum() == 20
    assert found.labels_[odd].mean() > 0.8
    assert np.array_equal(found.labels_, found.decision_scores_ > found.threshold_)
    assert np.array_equal(detector().fit_predict(X), found.labels_)


def test_a_score_is_minus_the_log_density_whatever_the_rows_beside_it():
    X, _ = rows()
    found = detector().fit(X)
    assert np.array_equal(found.decision_function(X), found.decision_scores_)
    assert np.array_equal(found.decision_function(X[7:9]), found.decision_scores_[7:9])
    assert np.array_equal(found.decision_scores_, -found.vae_.log_likelihood(X, 20))
    assert np.array_equal(found.predict(X), found.labels_)
    assert np.array_equal(pickle.loads(pickle.dumps(found)).decision_function(X), found.decision_scores_)


def test_the_share_of_outliers_moves_the_threshold_alone():
    X, _ = rows()
    few, many = (detector(contamination=share).fit(X) for share in (0.01, 0.5))
    assert np.array_equal(few.decision_scores_, many.decision_scores_)
    assert (few.labels_.sum(), many.labels_.sum()) == (4, 200)


def test_the_oddest_row_comes_first_even_past_the_end_of_float64():
    X, _ = rows()
    found = detector().fit(X)
    far = np.array([1e2, 1e10, 1e25, 1e60, 1e200])[:, None] * np.ones((5, 6))
    scores = found.decision_function(far)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) >= 0).all()
    assert scores[0] > found.decision_scores_.max()
    assert found.predict(far).all()


def test_tables_of_any_kind_are_taken():
    X, odd = rows()
    frame = pd.DataFrame(X, columns=list("abcdef"))
    found = detector().fit(frame)
    assert list(found.feature_names_in_) == list("abcdef")
    assert np.array_equal(found.decision_scores_, detector().fit(X).decision_scores_)
    kinds = np.array(["a", "b"])[np.arange(200) % 2]
    rates = np.outer(np.random.default_rng(1).gamma(1, 1, 200), np.linspace(0, 1, 30)) + np.eye(30)[np.arange(200) % 30] * 4
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(rates))
    found = detector().fit(counts, covariates=kinds)
    assert found.vae_.likelihood_ == "negative-binomial"
    assert np.array_equal(found.decision_function(counts, covariates=kinds), found.decision_scores_)
    assert odd.any()


def test_the_given_model_is_not_trained():
    X, _ = rows()
    vae = VAE(2, epochs=30)
    found = VAEDetector(vae=vae, random_state=3).fit(X)
    assert not hasattr(vae, "history_")
    assert found.vae_.seed_ == 3
    assert found.vae_.n_components == 2
    assert clone(found).vae is not vae


@parametrize_with_checks([VAEDetector(vae=VAE(2, hidden_layer_sizes=(8,), epochs=2), n_samples=2, random_state=0)])
@pytest.mark.filterwarnings("ignore:posterior collapse:vaefast.DataWarning")
def test_scikit_learn_finds_no_fault(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contamination": 0.0}, "contamination is 0.0: give a share above 0"),
        ({"contamination": 0.6}, "contamination is 0.6"),
        ({"contamination": "auto"}, "contamination is 'auto'"),
        ({"n_samples": 0}, "n_samples is 0"),
        ({"vae": "VAE"}, "vae is 'VAE': give a VAE, or None"),
    ],
)
def test_parameters_out_of_range_are_refused(changes, words):
    with pytest.raises(SettingsError) as error:
        detector(**changes).fit(rows()[0])
    assert words in str(error.value)


def test_other_columns_are_refused():
    found = detector().fit(rows()[0])
    with pytest.raises((DataError, ValueError), match="5 features"):
        found.decision_function(np.zeros((3, 5)))
    assert vaefast.VAEDetector is VAEDetector


def test_a_fit_that_fails_in_its_scores_leaves_the_detector_as_it_was(monkeypatch):
    X, _ = rows()
    quick = {"vae": VAE(2, hidden_layer_sizes=(8,), epochs=1), "random_state": 0, "n_samples": 2}
    found, fresh = VAEDetector(**quick).fit(X), VAEDetector(**quick)
    before = found.vae_, found.threshold_

    def fails(self, X, n_samples, **told):
        raise KeyboardInterrupt

    monkeypatch.setattr(VAE, "log_likelihood", fails)
    for each in (found, fresh):
        with pytest.raises(KeyboardInterrupt):
            each.fit(X + 1)
    assert (found.vae_, found.threshold_) == before
    assert not hasattr(fresh, "vae_")


def test_scores_go_on_with_the_samples_of_the_threshold():
    X, _ = rows()
    found = detector(vae=VAE(2, hidden_layer_sizes=(8,), epochs=2)).fit(X)
    found.set_params(n_samples=1)
    assert np.array_equal(found.decision_function(X), found.decision_scores_)
    assert np.array_equal(found.predict(X), found.labels_)
