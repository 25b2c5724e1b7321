"""`vaefast.VAE` on tables with missing values: training, scores, files, and rows with gaps for a model without."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer

from vaefast import VAE, VAEDetector, engines, load
from vaefast.errors import DataError, SettingsError

NAN = np.nan
ENGINES = [name for name in engines.FOR_CPU if "missing values" not in engines.LACKING[name] and not engines.why_not(name)]
QUICK = {"hidden_layer_sizes": (16,), "epochs": 3, "batch_size": 32, "random_state": 0}
LIKELIHOODS = ("gaussian", "student-t", "bernoulli", "continuous-bernoulli")

pytestmark = pytest.mark.filterwarnings("ignore::vaefast.DataWarning")


def whole(rows=150, columns=6, seed=0):
    generator = np.random.default_rng(seed)
    noise = 0.3 * generator.normal(size=(rows, columns))
    return (generator.normal(size=(rows, 2)) @ generator.normal(size=(2, columns)) + noise) * np.logspace(-2, 3, columns) + 5


def holed(X, share=0.3, seed=1):
    return np.where(np.random.default_rng(seed).random(X.shape) < share, NAN, X)


def data(likelihood, seed=0):
    """A table that fits a likelihood, and the same with gaps."""
    X = whole(seed=seed)
    if likelihood == "bernoulli":
        X = (np.median(X, axis=0) < X).astype(float)
    elif likelihood == "continuous-bernoulli":
        X = (X - X.min(axis=0)) / (X.max(axis=0) - X.min(axis=0))
    return X, holed(X)


def vae(likelihood="auto", **parameters):
    return VAE(2, **{**QUICK, "likelihood": likelihood, **parameters})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("indicator", [False, True])
def test_every_method_takes_missing_values(likelihood, engine, indicator):
    _, X = data(likelihood)
    model = vae(likelihood, engine=engine, missing_indicator=indicator).fit(X)
    assert model._network.model.missing
    assert model._network.layout.tensors["encoder.0.weight"].inputs == (12 if indicator else 6)
    for result in (model.transform(X), model.reconstruct(X), model.score_samples(X), model.log_likelihood(X, 5)):
        assert len(result) == len(X)
        assert np.isfinite(result).all()
    columns = model.score_samples(X, per_feature=True)
    assert (columns[np.isnan(X)] == 0).all()
    assert np.isfinite(columns).all()
    assert model.sample(5, random_state=0, noise_in_x=True).shape == (5, 6)
    assert model.inverse_transform(model.transform(X)).shape == X.shape
    mean, std = model.posterior(X)
    assert (std > 0).all()
    # A bound, and log p(x) above it on average.
    assert model.log_likelihood(X, 200).mean() > model.score_samples(X).mean()
    kl = 0.5 * (mean.astype(float) ** 2 + std**2 - 1 - 2 * np.log(std)).sum(axis=1)
    assert np.allclose(columns.sum(axis=1) - kl, model.score_samples(X), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_no_result_depends_on_the_other_rows(likelihood, engine):
    X, H = data(likelihood)
    mixed = np.where(np.arange(len(X))[:, None] % 3 == 0, X, H)
    complete = ~np.isnan(mixed).any(axis=1)
    assert 40 < complete.sum() < 110
    exact = {"rtol": 1e-5, "atol": 1e-4} if engine == "reference" else {"rtol": 0, "atol": 0}
    for model in (vae(likelihood, engine=engine).fit(X), vae(likelihood, engine=engine).fit(H)):
        for method in (model.score_samples, lambda rows, m=model: m.log_likelihood(rows, 5), model.transform, model.impute):
            together = method(mixed)
            for rows in (complete, ~complete, slice(7, 8), np.arange(len(X))[::-1]):
                np.testing.assert_allclose(together[rows], method(mixed[rows]), **exact)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_complete_table_gives_the_model_of_a_likelihood_without_gaps(engine):
    X = whole()
    model = vae(engine=engine).fit(X)
    assert not model._network.model.missing
    assert "missing" not in model._network.model.as_values()
    as_floats = vae(engine=engine).fit(pd.DataFrame(X))
    assert np.array_equal(model._network.state.parameters, as_floats._network.state.parameters)


@pytest.mark.parametrize("engine", ENGINES)
def test_training_depends_neither_on_order_nor_on_form_nor_on_threads(engine):
    X = holed(whole())
    order = np.random.default_rng(2).permutation(len(X))
    masked = np.ma.masked_array(np.nan_to_num(X, nan=-1e6), np.isnan(X))
    first = vae(engine=engine, n_jobs=1).fit(X)
    for other in (X[order], masked, pd.DataFrame(X).convert_dtypes(), X.tolist()):
        second = vae(engine=engine, n_jobs=2 if engine != "reference" else 1).fit(other)
        assert np.array_equal(first._network.state.parameters, second._network.state.parameters)
        assert first.history_["train_elbo"] == second.history_["train_elbo"]


def test_densities_are_in_the_units_of_what_is_there():
    X = holed(whole())
    metres, millimetres = vae(engine="reference").fit(X), vae(engine="reference").fit(X * 1000)
    observed = (~np.isnan(X)).sum(axis=1)
    shift = metres.score_samples(X) - millimetres.score_samples(X * 1000)
    assert np.allclose(shift, observed * np.log(1000), atol=1e-2)
    assert np.allclose(metres.history_["train_elbo"], millimetres.history_["train_elbo"] + observed.mean() * np.log(1000))


def test_the_history_is_in_the_units_of_score_samples():
    X, validation = holed(whole()), holed(whole(seed=9))
    model = vae().fit(X, validation_data=validation)
    assert model.history_["validation_elbo"][-1] == pytest.approx(
        model.score_samples(validation, n_samples=1).mean(), abs=1e-6
    )
    weights = np.random.default_rng(0).random(len(X))
    for fitted in (vae().fit(X, sample_weight=weights), vae().fit(X), vae().partial_fit(X)):
        before = fitted.history_["train_elbo"][-1]
        assert before == pytest.approx(fitted.score(X), abs=2.0)


def test_missing_values_among_rows_to_validate_on_alone():
    X = whole()
    plain, gaps = vae().fit(X, validation_data=whole(seed=9)), vae().fit(X, validation_data=holed(whole(seed=9)))
    assert np.array_equal(plain._network.state.parameters, gaps._network.state.parameters)
    assert np.isfinite(gaps.history_["validation_elbo"]).all()
    expected = gaps.score_samples(holed(whole(seed=9)), n_samples=1).mean()
    assert gaps.history_["validation_elbo"][-1] == pytest.approx(expected, abs=1e-6)


def test_early_stopping_covariates_and_weights():
    X = holed(whole())
    batch = np.array(list("abc"))[np.arange(len(X)) % 3]
    model = vae(early_stopping=True, n_iter_no_change=1, encode_covariates=True, epochs=6)
    model.fit(X, covariates=batch, sample_weight=np.arange(len(X)) // 3 % 3)
    assert model.best_epoch_ >= 1
    filled = model.impute(X, 50, covariates=batch)
    np.testing.assert_array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])
    other = model.impute(X, 50, covariates=np.roll(batch, 1))
    assert not np.array_equal(filled, other)
    with pytest.raises(DataError, match="was trained with covariates"):
        model.impute(X)


def test_partial_fit_goes_on_with_missing_values():
    X = whole()
    model = vae().partial_fit(X)
    assert not model._network.model.missing
    model.partial_fit(holed(X))
    assert model._network.model.missing
    assert model.n_iter_ == 2
    with pytest.raises(SettingsError, match="missing_indicator is True, but the model that partial_fit continues has False"):
        model.set_params(missing_indicator=True).partial_fit(holed(X))


def test_files_pickles_and_clones(tmp_path):
    X = holed(whole())
    X[:, 4] = NAN
    for indicator in (False, True):
        model = vae("student-t", missing_indicator=indicator).fit(X)
        model.save(tmp_path / "model.safetensors")
        for other in (load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(model))):
            assert other._network.model == model._network.model
            assert other.missing_indicator == indicator
            assert np.array_equal(other.score_samples(X), model.score_samples(X))
            assert np.array_equal(other.impute(X, 20), model.impute(X, 20))
            assert other._inputs.unseen.tolist() == [False] * 4 + [True, False]
            other.partial_fit(X)
        assert clone(model).missing_indicator == indicator


def test_the_detector_scores_rows_with_missing_values():
    X = holed(whole(300), share=0.15)
    X[17, [0, 3]] = [4000.0, -9000.0]
    detector = VAEDetector(0.05, vae=vae(epochs=30)).fit(X)
    assert detector.decision_scores_.argmax() == 17
    assert np.array_equal(detector.decision_function(X[5:9]), detector.decision_scores_[5:9])


def test_the_tags_say_what_is_true():
    assert vae().__sklearn_tags__().input_tags.allow_nan
    assert not vae("poisson").__sklearn_tags__().input_tags.allow_nan
    assert VAEDetector().__sklearn_tags__().input_tags.allow_nan
    assert not VAEDetector(vae=vae("multinomial")).__sklearn_tags__().input_tags.allow_nan
    with pytest.raises(SettingsError, match="missing"):
        vae("poisson", missing_indicator=True).fit(np.random.default_rng(0).poisson(0.3, (50, 4)))


def test_a_metric_of_rankings_takes_no_missing_values():
    X = (whole() > 5).astype(float)
    H = holed(X)
    with pytest.raises(DataError, match="validation_metric"):
        vae("bernoulli", validation_metric="recall@2", early_stopping=True).fit(H)
    with pytest.raises(DataError, match="validation_metric"):
        vae("bernoulli", validation_metric="recall@2").fit(X, validation_data=(X, H))


def test_what_is_missing_can_be_recommended():
    X = (whole() > 5).astype(float)
    H = X.copy()
    H[3] = [1, NAN, 1, 1, NAN, 1]
    ids, _ = vae("bernoulli").fit(H).recommend(H[3:4], 6)
    assert sorted(ids[0].tolist()) == [-1, -1, -1, -1, 1, 4]


def test_rows_that_are_too_far_for_float32_have_scores():
    X = holed(whole())
    far = X[:4].copy()
    far[0, 2], far[1, 1], far[1, 0] = 1e30, -1e25, NAN
    for model in (vae().fit(X), vae().fit(whole())):
        for scores in (model.score_samples(far), model.log_likelihood(far)):
            assert np.isfinite(scores).all()
            assert scores[0] < scores[1] < scores[2] + scores[3]
        filled = model.impute(far, 50)
        assert np.isfinite(filled).all()
        np.testing.assert_array_equal(filled[~np.isnan(far)], far[~np.isnan(far)])


def test_real_data_with_half_of_it_missing_are_learned():
    X = load_breast_cancer().data
    H = holed(X, 0.5)
    model = VAE(5, hidden_layer_sizes=(64,), random_state=0, epochs=60).fit(H)
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    filled = (model.impute(H, 200) - X.mean(axis=0)) / X.std(axis=0)
    missing = np.isnan(H)
    assert np.mean((filled - scaled)[missing] ** 2) < 0.5
    assert np.mean(scaled[missing] ** 2) > 0.9


def test_grey_levels_are_filled_with_grey_levels():
    levels = np.clip(np.rint(whole(200, 8) * 3 + 150), 0, 255)
    gaps = np.isnan(holed(levels, 0.1))
    filled = [
        VAE(2, **QUICK, likelihood="bernoulli", binarize="none", scaling=scaling).fit(X).impute(np.where(gaps, NAN, X))
        for scaling, X in (("grey", levels), (None, levels / 255))
    ]
    assert np.array_equal(filled[0][~gaps], levels[~gaps])
    assert np.allclose(filled[0], 255 * filled[1], atol=2)
    assert filled[0][gaps].min() > 2
    several = VAE(2, **QUICK, likelihood="bernoulli", binarize="none", scaling="grey").fit(levels)
    drawn = np.array(several.impute(np.where(gaps, NAN, levels), multiple=3, random_state=0))[:, gaps]
    assert {*np.unique(drawn)} <= {0.0, 255.0}
