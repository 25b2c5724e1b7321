"""`VAE(validation_metric=...)`: what is measured after each epoch, when training stops by it, and which model is kept."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from vaefast import VAE, load
from vaefast.errors import DataError, DataWarning, SettingsError
from vaefast.metrics import hold_out, ndcg_at_k, recall_at_k

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")


def clicks(rows=260, width=40, seed=0):
    """Rows with two tastes and some chance."""
    rng = np.random.default_rng(seed)
    shares = np.exp(1.6 * rng.standard_normal((rows, 2)) @ np.random.default_rng(9).standard_normal((2, width)))
    return sparse.csr_array(rng.poisson(15 * shares / shares.sum(axis=1, keepdims=True)))


def vae(**changes):
    given = {"likelihood": "multinomial", "hidden_layer_sizes": (16,), "epochs": 6, "random_state": 0, **changes}
    return VAE(3, **given)


@pytest.mark.parametrize(("name", "metric"), [("ndcg@7", ndcg_at_k), ("recall@5", recall_at_k)])
@pytest.mark.parametrize("likelihood", ["multinomial", "negative-binomial", "bernoulli"])
def test_each_epoch_has_the_metric_of_its_model(name, metric, likelihood):
    """As a callback measures it, with `recommend`; and training itself is what it is without a metric."""
    X, pair = clicks(), hold_out(clicks(60, seed=1), random_state=0)
    if likelihood == "bernoulli":
        X, pair = (X > 0).astype(int), tuple((part > 0).astype(int) for part in pair)
    k, seen = int(name.split("@")[1]), []
    watching = [lambda model, metrics: seen.append(metric(model.recommend(pair[0], k)[0], pair[1], k)) and None]
    model = vae(likelihood=likelihood, validation_metric=name, callbacks=watching).fit(X, validation_data=pair)
    assert model.history_[f"validation_{name}"] == seen
    assert len(seen) == 6
    assert "validation_metric" not in model.history_
    plain = vae(likelihood=likelihood).fit(X, validation_data=pair[0])
    assert model.history_["validation_elbo"] == plain.history_["validation_elbo"]
    assert np.array_equal(model.transform(X), plain.transform(X))


def test_the_best_epochs_model_is_kept_and_training_ends_when_it_no_longer_improves(tmp_path):
    X, pair = clicks(), hold_out(clicks(80, seed=1), random_state=0)
    given = {"validation_metric": "ndcg@10", "epochs": 60, "learning_rate": 0.01, "n_iter_no_change": 4}
    model = vae(**given, early_stopping=True).fit(X, validation_data=pair)
    found = model.history_["validation_ndcg@10"]
    assert model.n_iter_ < 60
    assert model.best_epoch_ == int(np.argmax(found)) + 1 == model.n_iter_ - 4
    assert ndcg_at_k(model.recommend(pair[0], 10)[0], pair[1], 10) == max(found)
    # The ELBO goes on to rise, or falls sooner: what is watched is the metric.
    by_elbo = vae(**{**given, "validation_metric": "elbo"}, early_stopping=True).fit(X, validation_data=pair[0])
    assert by_elbo.best_epoch_ != model.best_epoch_
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.get_params() == model.get_params()
    assert again.history_ == model.history_
    assert np.array_equal(again.recommend(pair[0])[0], model.recommend(pair[0])[0])


@pytest.mark.parametrize("likelihood", ["multinomial", "bernoulli"])
def test_without_validation_data_rows_are_set_aside_with_a_part_of_their_entries(likelihood):
    X = clicks() if likelihood == "multinomial" else (clicks().toarray() > 0).astype(np.int64)
    given = {"likelihood": likelihood, "early_stopping": True, "n_iter_no_change": 6, "validation_metric": "recall@5"}
    model = vae(**given).fit(X)
    again = vae(**given).fit(X)
    assert len(model.history_["validation_recall@5"]) == 6
    assert model.history_["validation_recall@5"] == again.history_["validation_recall@5"]
    assert 0 < max(model.history_["validation_recall@5"]) <= 1


def test_a_smaller_rise_than_tol_does_not_end_the_wait():
    X, pair = clicks(), hold_out(clicks(80, seed=1), random_state=0)
    given = {
        "validation_metric": "ndcg@10",
        "early_stopping": True,
        "epochs": 40,
        "n_iter_no_change": 3,
        "learning_rate": 0.01,
    }
    assert vae(**given, tol=1.0).fit(X, validation_data=pair).n_iter_ == 4  # the first epoch is better than none
    assert vae(**given).fit(X, validation_data=pair).n_iter_ > 4


def test_verbose_says_it(capfd):
    vae(epochs=1, verbose=2, validation_metric="ndcg@10").fit(clicks(), validation_data=hold_out(clicks(40, seed=1)))
    assert "  ndcg@10 0." in capfd.readouterr().out


PAIR = hold_out(clicks(30, seed=1), random_state=0)


@pytest.mark.parametrize(
    ("changes", "data", "error", "message"),
    [
        ({"validation_metric": "map@10"}, PAIR, SettingsError, "is 'map@10': choose elbo, ndcg@K or recall@K"),
        ({"validation_metric": "ndcg@0"}, PAIR, SettingsError, "choose elbo, ndcg@K or recall@K"),
        ({"validation_metric": None}, PAIR, SettingsError, "choose elbo, ndcg@K or recall@K"),
        ({"validation_metric": "ndcg@9"}, None, SettingsError, "nothing is held out to measure it on"),
        ({"validation_metric": "ndcg@9"}, PAIR[0], DataError, "validation_data is no pair"),
        ({"validation_metric": "ndcg@9"}, (PAIR[0], PAIR[1][:7]), DataError, "has 30 rows and 7 of what is held out"),
        ({"validation_metric": "ndcg@9"}, (PAIR[0], PAIR[1] * 0), DataError, "nothing is held out of any row"),
        ({"validation_metric": "ndcg@9", "likelihood": "gaussian"}, PAIR, SettingsError, "gaussian ranks no columns"),
        ({"tol": "small", "early_stopping": True}, PAIR[0], SettingsError, "tol is 'small': give a number from 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_line(changes, data, error, message):
    model = vae(epochs=1, **{"likelihood": "multinomial", **changes})
    with pytest.raises(error, match=message) as caught:
        model.fit(clicks(), validation_data=data)
    assert "\n" not in str(caught.value)
    assert not hasattr(model, "history_")


def test_it_goes_with_covariates_and_sizes():
    X, (seen, out) = clicks(), hold_out(clicks(60, seed=1), random_state=0)
    groups, others = np.arange(260)[:, None] % 3 * 1.0, np.arange(60)[:, None] % 3 * 1.0
    given = {"validation_metric": "recall@5", "likelihood": "negative-binomial", "early_stopping": True}
    model = vae(**given).fit(
        X, validation_data=(seen, out), covariates=groups, size_factors=np.arange(260) + 1.0, validation_covariates=others,
        validation_size_factors=np.ones(60),
    )  # fmt: skip
    best = recall_at_k(model.recommend(seen, 5, covariates=others)[0], out, 5)
    assert best == max(model.history_["validation_recall@5"])
    alone = vae(**given).fit(X, covariates=groups, size_factors=np.arange(260) + 1.0)
    assert len(alone.history_["validation_recall@5"]) == 6


def test_rows_of_the_pair_that_are_in_another_order_are_warned_of():
    X = pd.DataFrame(clicks(40).toarray()).add_prefix("item ")
    seen, held_out = (pd.DataFrame(part.toarray(), X.index, X.columns) for part in hold_out(X, random_state=0))
    sizes = X.sum(axis=1) + 1.0
    model = vae(validation_metric="ndcg@5", epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        model.fit(X, validation_data=(seen, held_out), size_factors=sizes, validation_size_factors=sizes)
    with pytest.warns(
        DataWarning, match=r"^validation_data\[1\] and validation_data\[0\] have the same index in another order"
    ):
        model.fit(X, validation_data=(seen, held_out.iloc[::-1]))
    told = {"size_factors": sizes, "validation_size_factors": sizes.iloc[::-1]}
    with pytest.warns(DataWarning, match=r"^validation_size_factors and validation_data\[0\] have the same index"):
        model.fit(X, validation_data=(seen, held_out), **told)
    with pytest.warns(DataWarning, match="in the order of validation_data.index"):
        vae(epochs=1).fit(X, validation_data=X, **told)
