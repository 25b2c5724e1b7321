"""`vaefast.VAE` as people use it: scikit-learn's own checks, training, scores, likelihoods, pandas, pipelines."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaefast
from vaefast import VAE, engines, load
from vaefast.engines import threads
from vaefast.errors import DataError, DataWarning, DivergenceError, OutputError, SettingsError
from vaefast.estimator import parameters
from vaefast.models.settings import LIKELIHOODS
from vaefast.tables.row_order import row_order
from vaefast.training import trainer

QUICK = {"hidden_layer_sizes": (16,), "epochs": 3, "batch_size": 50, "random_state": 0}
CHECKED = [
    VAE(),
    VAE(likelihood="gaussian", hidden_layer_sizes=(20,), n_components=3),
    VAE(likelihood="gaussian", scaling=None, activation="tanh", early_stopping=True, epochs=12),
    VAE(likelihood="bernoulli", scaling="minmax", epochs=8),
    VAE(likelihood="bernoulli", scaling="minmax", binarize="threshold", hidden_layer_sizes=(), epochs=8),
    VAE(likelihood="continuous-bernoulli", scaling="minmax", hidden_layer_sizes=20, epochs=8),
    VAE(engine="reference", likelihood="bernoulli", scaling="minmax", hidden_layer_sizes=(8,), epochs=3),
]


@pytest.fixture(scope="module")
def digits():
    return (load_digits().data / 16).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(digits):
    return VAE(5, likelihood="bernoulli", **QUICK).fit(digits)


# A few of scikit-learn's tables are noise, which has nothing for latents to hold.
@pytest.mark.filterwarnings("ignore::vaefast.DataWarning")
@parametrize_with_checks(CHECKED)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# --- Shapes, scores and noise


def test_shapes_and_types(fitted, digits):
    z = fitted.transform(digits[:7])
    assert (z.shape, z.dtype) == ((7, 5), np.float32)
    mean, std = fitted.posterior(digits[:7])
    assert np.array_equal(mean, z)
    assert (std > 0).all()
    assert fitted.inverse_transform(z).shape == (7, 64)
    assert np.array_equal(fitted.reconstruct(digits[:7]), fitted.inverse_transform(z))
    assert fitted.score_samples(digits[:7]).shape == (7,)
    assert fitted.log_likelihood(digits[:7], n_samples=3).shape == (7,)
    assert fitted.sample(3).shape == (3, 64)
    assert fitted.score(digits) == fitted.score_samples(digits).mean()
    assert list(fitted.get_feature_names_out()) == ["vae0", "vae1", "vae2", "vae3", "vae4"]


def test_interpolations_start_and_end_at_the_reconstructions(fitted, digits):
    one = fitted.interpolate(digits[0], digits[1], 5)
    many = fitted.interpolate(digits[:3], digits[1:4], 5)
    assert one.shape == (5, 64)
    assert many.shape == (3, 5, 64)
    assert np.array_equal(many[0], one)
    assert np.allclose(one[[0, -1]], fitted.reconstruct(digits[:2]), atol=1e-6)
    for steps in (1, 0, -3):
        with pytest.raises(SettingsError, match="steps"):
            fitted.interpolate(digits[0], digits[1], steps)
    with pytest.raises(DataError, match="as many"):
        fitted.interpolate(digits[:2], digits[:3])


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_rows_scores_do_not_depend_on_its_company_or_its_type(digits, likelihood):
    vae = VAE(4, likelihood=likelihood, **QUICK).fit(digits)
    order = np.random.default_rng(0).permutation(len(digits))[:300]
    # The reference's products see the rows beside a row in their last digits.
    tolerance = 0 if vae.engine_ != "reference" else 1e-3
    for method in (vae.score_samples, lambda X: vae.log_likelihood(X, 3), vae.transform):
        whole = method(digits)
        assert np.allclose(method(digits[order]), whole[order], rtol=0, atol=tolerance)
        assert np.allclose(method(digits[7:8]), whole[7:8], rtol=0, atol=tolerance)
        assert np.array_equal(method(digits.astype(np.float64)), whole)
        assert np.array_equal(method(digits), whole)


def test_the_noise_differs_from_row_to_row(fitted, digits):
    nearly = np.repeat(digits[:1], 200, axis=0)
    nearly[:, 0] = np.arange(200) * 1e-6
    scores = fitted.score_samples(nearly)
    assert len(np.unique(scores)) > 190


def test_more_importance_samples_bring_the_estimate_up_to_its_limit(fitted, digits):
    few, many = (fitted.log_likelihood(digits[:200], samples).mean() for samples in (5, 200))
    assert fitted.score(digits[:200]) < few < many


def test_importance_sampling_finds_an_integral_that_is_known():
    """Without hidden layers and with a decoder that is made linear, a Gaussian model is factor analysis: log p(x) is known."""
    X = np.random.default_rng(0).standard_normal((60, 4)) @ np.diag([1.0, 2.0, 0.5, 3.0])
    vae = VAE(2, hidden_layer_sizes=(), likelihood="gaussian", epochs=400, learning_rate=5e-3, random_state=0).fit(X)
    tensors = {name: tensor.astype(np.float64) for name, tensor in vae._network.parameters.items()}
    scale, shift = vae._inputs.scale, vae._inputs.shift
    loadings, noise = tensors["logits.weight"], 1e-4 + np.exp(2 * tensors["x_log_std"])
    covariance = scale[:, None] * (loadings.T @ loadings + np.diag(noise)) * scale
    centred = X - (tensors["logits.bias"] * scale + shift)
    exact = -0.5 * (
        np.linalg.slogdet(2 * np.pi * covariance)[1] + np.sum(centred @ np.linalg.inv(covariance) * centred, axis=1)
    )
    assert np.allclose(vae.log_likelihood(X, 4000), exact, atol=0.1)
    assert vae.score(X) < exact.mean()


def test_samples(fitted):
    assert np.array_equal(fitted.sample(4, random_state=3), fitted.sample(4, random_state=3))
    assert not np.array_equal(fitted.sample(4, random_state=3), fitted.sample(4, random_state=4))
    state = np.random.RandomState(0)
    assert not np.array_equal(fitted.sample(4, state), fitted.sample(4, state))
    drawn = fitted.sample(50, random_state=3, noise_in_x=True)
    assert set(np.unique(drawn)) == {0, 1}
    for wrong in (0, -1, 2.5, None):
        with pytest.raises(SettingsError, match="n_samples"):
            fitted.sample(wrong)


# --- Likelihoods and scaling


def test_the_default_likelihood_is_chosen_by_the_values(digits):
    chosen = {
        "booleans": (digits > 0.5, "bernoulli"), "binary": ((digits > 0.5).astype(np.uint8), "bernoulli"),
        "binary floats": ((digits > 0.5) * 1.0, "bernoulli"), "grey": (digits, "gaussian"),
        "bytes": ((255 * digits).astype(np.uint8), "gaussian"), "counts": (16 * digits, "gaussian"),
        "negative": (-digits, "gaussian"), "integers": ((16 * digits).astype(np.int64), "gaussian"),
        "tiny": (1e-12 * digits, "gaussian"),
    }  # fmt: skip
    for X, likelihood in chosen.values():
        vae = VAE(2, **QUICK).fit(X)
        assert vae.likelihood_ == likelihood
        assert vae.scaling_ == ("standard" if likelihood == "gaussian" else None)
        assert vae.binarize_ == ("none" if likelihood == "gaussian" else "dynamic")


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli"])
@pytest.mark.parametrize("value", [-0.001, 1.25, 300.0])
def test_values_that_do_not_fit_a_likelihood_asked_for_are_refused_with_row_and_column(digits, likelihood, value):
    X = digits.astype(np.float64)
    X[1312, 17] = value
    with pytest.raises(DataError, match=rf"row 1312, column 17 .* is {value}, but likelihood {likelihood} .*minmax"):
        VAE(2, likelihood=likelihood, **QUICK).fit(X)
    vae = VAE(2, likelihood=likelihood, **QUICK).fit(digits)
    for method in (vae.transform, vae.score_samples, vae.log_likelihood, vae.reconstruct, vae.partial_fit):
        with pytest.raises(DataError, match=r"row 1312, column 17"):
            method(X)
    assert np.isfinite(VAE(2, likelihood=likelihood, scaling="minmax", **QUICK).fit(X).score(X))


def test_values_too_large_for_the_networks_are_refused(digits):
    X = digits.astype(np.float64)
    X[5, 3] = 1e39
    with pytest.raises(DataError, match="row 5, column 3"):
        VAE(2, likelihood="gaussian", scaling=None, **QUICK).fit(X)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_grey_levels_are_asked_for_and_have_any_type(digits, likelihood):
    levels = np.rint(255 * digits).astype(np.uint8)
    asked = VAE(3, likelihood=likelihood, scaling="grey", **QUICK).fit(levels)
    for kind in (np.int64, np.float32, np.float64):
        again = VAE(3, likelihood=likelihood, scaling="grey", **QUICK).fit(levels.astype(kind))
        assert np.array_equal(again.transform(levels), asked.transform(levels.astype(kind)))
        assert np.array_equal(again.score_samples(levels), asked.score_samples(levels.astype(kind)))
    assert VAE(3, scaling="grey", **QUICK).fit(levels).likelihood_ == "bernoulli"
    assert 0 <= asked.reconstruct(levels).mean() < 1


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli"])
def test_levels_above_white_are_refused(digits, likelihood):
    X = np.rint(255 * digits)
    X[3, 2] = 256
    with pytest.raises(DataError, match=r"row 3, column 2 .* is 256.0, but .* takes grey levels from 0 to 255"):
        VAE(3, likelihood=likelihood, scaling="grey", **QUICK).fit(X)


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_log_densities_are_those_of_the_values_as_given(scaling):
    X = load_iris().data
    units = np.array([1, 10, 1000, 1e-3])
    likelihood = "gaussian" if scaling == "standard" else "continuous-bernoulli"
    settings = {**QUICK, "likelihood": likelihood, "scaling": scaling}
    here, there = VAE(2, **settings).fit(X), VAE(2, **settings).fit(X * units)
    shift = np.log(units).sum()
    assert np.allclose(here.score_samples(X), there.score_samples(X * units) + shift, atol=1e-3)
    assert np.allclose(here.log_likelihood(X, 5), there.log_likelihood(X * units, 5) + shift, atol=1e-3)
    assert here.history_["train_elbo"][-1] == pytest.approx(there.history_["train_elbo"][-1] + shift, abs=1e-3)
    assert np.allclose(here.inverse_transform(here.transform(X)) * units, there.reconstruct(X * units), rtol=1e-4)


def test_large_offsets_lose_no_digits():
    X = load_iris().data
    near, far = VAE(2, **QUICK).fit(X), VAE(2, **QUICK).fit(X + 2.0**20)
    assert np.allclose(near.transform(X), far.transform(X + 2.0**20), atol=1e-4)
    assert np.allclose(near.reconstruct(X), far.reconstruct(X + 2.0**20) - 2.0**20, atol=1e-3)


@pytest.mark.filterwarnings("ignore:posterior collapse")
def test_constant_columns_are_no_division_by_zero():
    X = np.ones((40, 5)) * [0, 1, 1e8, -3.7, 0.1]
    for likelihood, scaling in (("gaussian", "standard"), ("gaussian", None), ("bernoulli", "minmax")):
        vae = VAE(2, likelihood=likelihood, scaling=scaling, **QUICK)
        if scaling is not None:
            assert np.isfinite(vae.fit(X).score_samples(X)).all()


def test_settings_that_do_not_go_together_are_one_line(digits):
    wrong = {
        "scaling": ({"scaling": "log"}, {"likelihood": "bernoulli", "scaling": "standard"}),
        "binarize": ({"likelihood": "gaussian", "binarize": "dynamic"}, {"binarize": "maybe"}),
        "likelihood": ({"likelihood": "weibull"}, {"likelihood": None}),
        "n_components": ({"n_components": 0}, {"n_components": 2.5}, {"n_components": True}, {"n_components": "ten"}),
        "hidden_layer_sizes": (
            {"hidden_layer_sizes": (0,)},
            {"hidden_layer_sizes": "ab"},
            {"hidden_layer_sizes": None},
            {"hidden_layer_sizes": 2.5},
        ),
        "epochs": ({"epochs": -1}, {"epochs": "many"}, {"epochs": None}),
        "batch_size": ({"batch_size": 0}, {"batch_size": None}, {"batch_size": "big"}),
        "learning_rate": ({"learning_rate": np.nan}, {"learning_rate": "fast"}, {"learning_rate": None}),
        "learning_rate_steps": (
            {"learning_rate_schedule": "steps", "learning_rate_steps": 5},
            {"learning_rate_schedule": "steps", "learning_rate_steps": [3, 4]},
        ),
        "clip_norm": ({"clip_norm": "long"}, {"clip_norm": -1.0}),
        "callbacks": ({"callbacks": 5}, {"callbacks": ["print"]}),
        "verbose": ({"verbose": "loud"},),
        "tol": ({"early_stopping": True, "tol": "small"}, {"early_stopping": True, "tol": np.nan}),
        "init": ({"init": "random"}, {"init": None}),
        "activation": ({"activation": "gelu"}, {"activation": 3}),
        "validation_fraction": ({"early_stopping": True, "validation_fraction": 1.0},),
        "n_iter_no_change": (
            {"early_stopping": True, "n_iter_no_change": 0},
            {"early_stopping": True, "n_iter_no_change": "few"},
        ),
        "epsilon": ({"epsilon": "small"}, {"epsilon": 0.0}),
        "engine": ({"engine": "abacus"},),
        "n_jobs": ({"n_jobs": 0}, {"n_jobs": "two"}),
        "random_state": ({"random_state": -1}, {"random_state": "abc"}, {"random_state": 2.5}),
    }
    for name, cases in wrong.items():
        for about in cases:
            with pytest.raises(SettingsError, match=name) as caught:
                VAE(**{**QUICK, **about}).fit(digits)
            assert "\n" not in str(caught.value)


def test_threads_are_counted_from_the_last_core_as_in_joblib(monkeypatch):
    monkeypatch.setattr(parameters, "granted_cores", lambda: 4)
    monkeypatch.setattr(threads, "granted_cores", lambda: 4)
    counts = {jobs: parameters.threads_of(VAE(n_jobs=jobs)) for jobs in (-1, -2, -4, -9, 3, 9)}
    assert counts == {-1: 4, -2: 3, -4: 1, -9: 1, 3: 3, 9: 4}


def test_a_seed_that_is_too_large_is_told_its_range(digits):
    vae = VAE(2, **QUICK).fit(digits)
    with pytest.raises(SettingsError, match="random_state is 4294967296: give a whole number from 0 to 4294967295, or None"):
        vae.sample(2, random_state=2**32)
    assert len(vae.sample(2, random_state=2**32 - 1)) == 2


# --- Training


def test_the_seed_decides_everything_and_threads_nothing(digits):
    first, second = VAE(4, **QUICK).fit(digits), VAE(4, **QUICK, n_jobs=1).fit(digits)
    assert np.array_equal(first.transform(digits), second.transform(digits))
    other = VAE(4, **{**QUICK, "random_state": 1}).fit(digits)
    assert not np.array_equal(first.transform(digits), other.transform(digits))
    assert (
        VAE(4, **{**QUICK, "random_state": None}).fit(digits).seed_
        != VAE(4, **{**QUICK, "random_state": None}).fit(digits).seed_
    )


def test_history_has_a_row_an_epoch(digits):
    vae = VAE(4, **QUICK).fit(digits)
    assert set(vae.history_) == {
        "epoch", "step", "train_objective", "train_elbo", "train_log_likelihood", "train_kl", "seconds", "images_per_second",
    }  # fmt: skip
    assert vae.history_["epoch"] == [1, 2, 3]
    assert vae.n_iter_ == 3
    assert vae.history_["train_elbo"][-1] > vae.history_["train_elbo"][0]
    vae.fit(digits, validation_data=digits[:100])
    assert vae.history_["validation_elbo"][-1] == pytest.approx(vae.score_samples(digits[:100], n_samples=1).mean(), abs=1e-9)


def test_early_stopping_keeps_the_best_model(digits):
    settings = {**QUICK, "epochs": 400, "hidden_layer_sizes": (100,), "n_iter_no_change": 3, "tol": 0.0}
    vae = VAE(8, likelihood="bernoulli", early_stopping=True, **{**settings, "binarize": "threshold"}).fit(digits[:200])
    bounds = vae.history_["validation_elbo"]
    assert vae.n_iter_ == len(bounds) < 400
    assert vae.best_epoch_ == int(np.argmax(bounds)) + 1 == vae.n_iter_ - 3
    rows = row_order(digits[:200])
    held_out = digits[rows[vae._split(200)[1]]]
    assert vae.score_samples(held_out, n_samples=1).mean() == pytest.approx(max(bounds), abs=1e-9)
    assert max(bounds) > bounds[-1]


@pytest.mark.parametrize(("batch_size", "waited"), [(90, 250), (9, 25), (2, 10)])
def test_early_stopping_waits_for_five_hundred_steps(digits, batch_size, waited):
    """Of 200 rows 180 are trained on; nothing improves by a million nats, so the wait begins with the second epoch."""
    vae = VAE(
        2, **{**QUICK, "epochs": 300, "hidden_layer_sizes": (5,), "batch_size": batch_size}, early_stopping=True, tol=1e6
    )
    assert vae.fit(digits[:200]).n_iter_ == waited + 1


def test_callbacks_see_the_model_and_can_stop_it(digits):
    seen = []

    def watch(vae, metrics):
        seen.append((metrics["epoch"], vae.transform(digits[:2])))
        return metrics["epoch"] == 2

    vae = VAE(3, **{**QUICK, "epochs": 10}, callbacks=[watch]).fit(digits)
    assert [epoch for epoch, _ in seen] == [1, 2] == vae.history_["epoch"]
    assert not np.array_equal(seen[0][1], seen[1][1])
    assert np.array_equal(seen[1][1], vae.transform(digits[:2]))


@pytest.mark.parametrize("train", [VAE.fit, VAE.partial_fit])
def test_ctrl_c_leaves_the_estimator_as_it_was(digits, train):
    def interrupt(vae, metrics):
        raise KeyboardInterrupt

    new = VAE(3, **QUICK, callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        train(new, digits)
    assert not hasattr(new, "history_")
    with pytest.raises(NotFittedError):
        new.transform(digits)
    old = VAE(3, **QUICK).fit(digits)
    latents, epochs = old.transform(digits), old.n_iter_
    with pytest.raises(KeyboardInterrupt):
        train(old.set_params(callbacks=[interrupt], learning_rate=0.1), digits)
    assert np.array_equal(old.transform(digits), latents)
    assert (old.n_iter_, old.history_["epoch"]) == (epochs, [*range(1, epochs + 1)])


@pytest.mark.parametrize(
    "objective",
    [
        {"objective": "iwae"},
        {"objective": "dreg", "samples": 2},
        {"objective": "beta", "beta": 0.5, "kl_warm_up": "linear", "warm_up_epochs": 2},
        {"objective": "free-bits", "free_nats": 0.1, "clip_norm": 5.0},
    ],
    ids=lambda settings: settings["objective"],
)
def test_objectives_are_trained_saved_and_loaded(digits, objective, tmp_path):
    vae = VAE(4, **QUICK, **objective).fit(digits)
    plain = VAE(4, **QUICK).fit(digits)
    assert not np.array_equal(vae.transform(digits[:5]), plain.transform(digits[:5]))
    assert vae.history_["train_objective"][-1] > vae.history_["train_objective"][0]
    vae.save(tmp_path / "model.safetensors")
    again = vaefast.load(tmp_path / "model.safetensors")
    assert again.score(digits) == vae.score(digits)
    assert {name: again.get_params()[name] for name in objective} == objective
    assert again._network.training.objective.samples == {"iwae": 5, "dreg": 2}.get(objective["objective"], 1)


def test_an_objective_is_refused_settings_that_are_not_its_own(digits):
    with pytest.raises(SettingsError, match="but objective iwae has none"):
        VAE(4, **QUICK, objective="iwae", beta=2.0).fit(digits)


def test_partial_fit_continues_where_it_was(digits):
    whole = VAE(4, **QUICK).fit(digits)
    parts = VAE(4, **QUICK)
    for _ in range(3):
        parts.partial_fit(digits)
    assert np.array_equal(whole.transform(digits), parts.transform(digits))
    assert parts.history_["epoch"] == [1, 2, 3]
    again = pickle.loads(pickle.dumps(parts)).partial_fit(digits)
    assert np.array_equal(parts.partial_fit(digits).transform(digits), again.transform(digits))
    assert parts.n_iter_ == 4


def test_what_partial_fit_does_not_measure_is_nan_and_no_callback_sees_it(digits, tmp_path):
    seen = []
    vae = VAE(4, **QUICK).fit(digits, validation_data=digits[:20])
    vae.set_params(callbacks=[lambda vae, metrics: seen.append(metrics)]).partial_fit(digits)
    lengths = {name: len(column) for name, column in vae.history_.items()}
    assert {*lengths.values()} == {4}
    assert np.isnan(vae.history_["validation_elbo"][-1])
    assert "train_elbo" in seen[0]
    assert not any(name.startswith("validation") for name in seen[0])
    vae.save(tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors").history_
    assert {name: np.array(column).tobytes() for name, column in loaded.items()} == {
        name: np.array(column).tobytes() for name, column in vae.history_.items()
    }


def test_partial_fit_takes_another_binarization(digits):
    parts = VAE(4, **QUICK, likelihood="bernoulli").partial_fit(digits)
    assert parts.binarize_ == "dynamic"
    other = pickle.loads(pickle.dumps(parts)).set_params(binarize="none").partial_fit(digits)
    assert other.binarize_ == "none"
    assert not np.array_equal(other.transform(digits), parts.partial_fit(digits).transform(digits))
    with pytest.raises(SettingsError, match="binarize"):
        parts.set_params(binarize="twice").partial_fit(digits)


def test_the_best_epoch_is_that_of_the_last_fit_alone(digits):
    vae = VAE(4, **QUICK, early_stopping=True).fit(digits)
    assert vae.best_epoch_ >= 1
    assert not hasattr(vae.set_params(early_stopping=False).fit(digits), "best_epoch_")


def test_epochs_zero_is_the_initial_model(digits):
    vae = VAE(4, **{**QUICK, "epochs": 0}).fit(digits)
    assert vae.n_iter_ == 0
    assert vae.history_ == {}
    assert np.isfinite(vae.score(digits))


def test_the_bar_is_drawn_and_silence_is_silence(digits, capsys):
    VAE(3, **QUICK, verbose=2).fit(digits, validation_data=digits[:50])
    out, err = capsys.readouterr()
    assert "100%" in err
    assert "ELBO" in err
    assert out.count("validation ELBO") == 3
    VAE(3, **QUICK).fit(digits)
    assert capsys.readouterr() == ("", "")


# --- Manners


def test_pandas_in_and_out(digits):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(digits, columns=[f"pixel{i}" for i in range(64)], index=range(100, 100 + len(digits)))
    vae = VAE(2, **QUICK).set_output(transform="pandas").fit(frame)
    latents = vae.transform(frame)
    assert list(latents.columns) == ["vae0", "vae1"]
    assert (latents.index == frame.index).all()
    assert list(vae.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        vae.transform(frame[frame.columns[::-1]])
    assert list(pandas.DataFrame(vae.history_)["epoch"]) == [1, 2, 3]


def test_clone_pickle_and_copies(fitted, digits):
    assert clone(fitted).get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "likelihood_")
    for twin in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted), copy.copy(fitted)):
        assert np.array_equal(twin.transform(digits), fitted.transform(digits))
        assert np.array_equal(twin.score_samples(digits), fitted.score_samples(digits))


@pytest.mark.filterwarnings("ignore:posterior collapse")
def test_pipeline_and_grid_search():
    X = load_iris().data[np.random.default_rng(0).permutation(150)]
    pipeline = make_pipeline(MinMaxScaler(clip=True), VAE(likelihood="continuous-bernoulli", **QUICK))
    search = GridSearchCV(pipeline, {"vae__n_components": np.array([1, 2]), "vae__epochs": [0, 40]}, cv=2).fit(X)
    assert search.best_params_["vae__epochs"] == 40
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.transform(X).shape[0] == 150


# Where psutil is installed, joblib replaces a process that has grown or waited, and warns of it in the thread that manages
# them: as an error it would end that thread, and the search would wait for ever.
@pytest.mark.filterwarnings("default:A worker stopped:UserWarning")
def test_grid_search_in_processes():
    X = load_iris().data
    search = GridSearchCV(VAE(**QUICK), {"n_components": [1, 2]}, cv=2, n_jobs=2).fit(X)
    alone = GridSearchCV(VAE(**QUICK), {"n_components": [1, 2]}, cv=2).fit(X)
    assert np.array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_inverse_transform_wants_as_many_latents_as_there_are(fitted):
    with pytest.raises(DataError, match="4 columns: give the 5 latents"):
        fitted.inverse_transform(np.zeros((2, 4)))


def test_no_copy_of_the_data_in_float64(digits):
    tracemalloc = pytest.importorskip("tracemalloc")
    levels = np.tile(np.rint(255 * digits).astype(np.uint8), (30, 10))  # 34 MB
    single = levels[:20_000] / np.float32(255)  # 51 MB
    for X in (levels, single):
        vae = VAE(2, likelihood="bernoulli", scaling="grey" if X.dtype == np.uint8 else None,
                  **{**QUICK, "epochs": 1, "batch_size": 1000})  # fmt: skip
        tracemalloc.start()
        vae.fit(X)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # Bytes are listed by their non-zero ones; float32 is copied once into the order of training; float64 would be 8.
        assert peak < (2 if X.dtype == np.uint8 else 6) * X.size


def test_the_public_names_and_a_light_import():
    program = """
import sys, time
import numpy
start = time.process_time()
import vaefast
print(time.process_time() - start)
print(*sorted({"numba", "sklearn", "matplotlib", "scipy", "tqdm", "joblib", "safetensors"} & {*sys.modules}))
"""
    seconds = []
    for _ in range(3):
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        first, *heavy = result.stdout.split()
        seconds.append(float(first))
        assert heavy == []
    assert min(seconds) < 0.05
    assert {"VAE", "load", "TensorBoard", "__version__"} <= set(dir(vaefast))
    with pytest.raises(AttributeError, match="no attribute 'vea'"):
        vaefast.vea  # noqa: B018


def test_errors_name_parameters_and_no_flags(digits, fitted, tmp_path):
    with pytest.raises(DivergenceError, match=r"lower learning_rate$"):
        VAE(5, **QUICK, learning_rate=1e6, engine="reference").fit(digits)
    with pytest.raises(OutputError, match=r"choose another path$"):
        fitted.save(tmp_path / "missing" / "model.safetensors")


def test_a_model_is_loaded_onto_an_engine_and_threads_of_choice(tmp_path):
    X = np.random.default_rng(0).normal(size=(30, 3))
    vae = VAE(2, hidden_layer_sizes=6, epochs=2, engine="reference", n_jobs=1, random_state=0).fit(X)
    vae.save(tmp_path / "vae.safetensors")
    again = load(tmp_path / "vae.safetensors")
    assert (again.engine_, again.engine, again.n_threads_) == ("reference", "reference", 1)
    chosen = engines.choose("auto")
    moved = load(tmp_path / "vae.safetensors", engine="auto", n_jobs=-1)
    assert (moved.engine_, moved.engine, moved.n_jobs, moved.n_threads_) == (chosen, "auto", -1, threads.granted_cores())
    np.testing.assert_allclose(moved.transform(X), vae.transform(X), atol=1e-5)
    with pytest.raises(SettingsError, match="engine is 'abacus': choose auto, "):
        load(tmp_path / "vae.safetensors", engine="abacus")
    with pytest.raises(SettingsError, match="n_jobs is '0': give a whole number from 1"):
        load(tmp_path / "vae.safetensors", n_jobs=0)


@pytest.mark.parametrize("name", ["early_stopping", "encode_covariates", "missing_indicator", "zero_inflation"])
@pytest.mark.parametrize("value", ["no", "False", 2, None])
def test_a_truth_value_is_no_text(digits, name, value):
    with pytest.raises(SettingsError, match=f"{name} is {value!r}: give True or False"):
        VAE(2, **QUICK, **{name: value}).fit(digits)


def test_columns_with_the_same_name_are_refused_in_one_line(digits):
    table = pd.DataFrame(digits[:, :3], columns=["a", "b", "a"])
    with pytest.raises(DataError, match=r"X: two columns are called 'a': give each a name of its own$"):
        VAE(2, **QUICK).fit(table)


def test_a_warning_names_the_line_of_the_caller():
    with pytest.warns(DataWarning) as caught:
        VAE(2, **QUICK).fit(np.array([[1.0, np.nan], [2.0, np.nan]]))
    assert {warning.filename for warning in caught} == {__file__}


# --- Numbers of NumPy, names and dates


def test_parameters_that_are_numbers_of_numpy_are_saved(digits, tmp_path):
    changes = {"early_stopping": np.bool_(True), "n_iter_no_change": np.int64(2), "validation_fraction": np.float32(0.25)}
    vae = VAE(2, **{**QUICK, "epochs": np.int64(3)}, **changes).fit(digits[:200])
    vae.save(tmp_path / "model")
    found = load(tmp_path / "model")
    assert {name: found.get_params()[name] for name in changes} == changes
    assert found.best_epoch_ == vae.best_epoch_


def test_partial_fit_goes_back_to_the_usual_batch_size(digits):
    vae = VAE(2, hidden_layer_sizes=(8,), random_state=0).partial_fit(digits)
    usual = vae.batch_size_
    assert vae.set_params(batch_size=7).partial_fit(digits[:20]).batch_size_ == 7
    assert vae.set_params(batch_size="auto").partial_fit(digits).batch_size_ == usual


def test_the_ends_of_a_line_are_taken_by_the_names_of_their_columns():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 4)), columns=list("abcd"))
    vae = VAE(2, **QUICK).fit(frame)
    line = vae.interpolate(frame.iloc[0], frame.iloc[1], 3)
    assert np.array_equal(line, vae.interpolate(frame.iloc[[0]], frame.iloc[[1]], 3)[0])
    with pytest.raises(ValueError, match="feature names should match"):
        vae.interpolate(frame.iloc[0][::-1], frame.iloc[1])


def test_dates_among_numbers_are_one_line():
    frame = pd.DataFrame({"a": np.arange(60.0), "day": pd.date_range("2020-01-01", periods=60).date})
    with pytest.raises(DataError, match=r"column 'day' is '2020-01-01' \(of type date\), which is no number"):
        VAE(2, likelihood="gaussian").fit(frame)


def test_training_past_the_end_of_a_cosine_is_told():
    X = load_digits().data[:60] / 16
    vae = VAE(2, hidden_layer_sizes=(8,), epochs=2, engine="reference", learning_rate_schedule="cosine", random_state=0).fit(X)
    with pytest.warns(DataWarning, match="the cosine of the learning rate has ended at 0 after 2 epochs"):
        vae.partial_fit(X)
    vae.set_params(final_learning_rate=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "posterior collapse")
        vae.partial_fit(X)


@pytest.mark.filterwarnings("ignore:posterior collapse")
def test_fractions_as_grey_levels_are_told():
    X = load_digits().data[:60] / 16
    quick = {"hidden_layer_sizes": (8,), "epochs": 1, "engine": "reference", "random_state": 0}
    with pytest.warns(DataWarning, match="X holds fractions up to 1, and scaling grey divides by 255"):
        VAE(2, scaling="grey", **quick).fit(X)
    VAE(2, scaling="grey", **quick).fit(np.rint(255 * X))
    VAE(2, scaling="grey", **quick).fit((X > 0.5).astype(float))


def test_the_first_calls_of_a_loaded_model_may_come_at_once(tmp_path):
    X = np.random.default_rng(0).normal(size=(64, 5))
    VAE(2, hidden_layer_sizes=(8,), epochs=1, random_state=0).fit(X).save(tmp_path / "model")
    wanted = vaefast.load(tmp_path / "model").transform(X)
    for _ in range(20):
        vae, together = vaefast.load(tmp_path / "model"), threading.Barrier(8)
        for model in (vae, pickle.loads(pickle.dumps(vae))):

            def call(model=model, together=together):
                together.wait(60)
                return model.transform(X)

            with ThreadPoolExecutor(8) as pool:
                calls = [pool.submit(call) for _ in range(8)]
                assert all(np.array_equal(each.result(), wanted) for each in calls)


def test_the_state_that_a_callback_ends_with_is_looked_at(monkeypatch):
    looked = []
    real = trainer.Guard.verify
    monkeypatch.setattr(trainer.Guard, "verify", lambda guard: looked.append(guard) or real(guard))
    X = np.random.default_rng(0).normal(size=(64, 5))
    VAE(2, hidden_layer_sizes=(8,), epochs=50, random_state=0, callbacks=[lambda *_: True]).fit(X)
    assert looked
