"""`VAE.impute`: against integrals by quadrature, and what must not change a bit of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from vaefast import VAE, engines
from vaefast.errors import DataError, SettingsError
from vaefast.inference.imputation import occurrences

NAN = np.nan
ENGINES = [name for name in engines.FOR_CPU if "missing values" not in engines.LACKING[name] and not engines.why_not(name)]
LIKELIHOODS = ("gaussian", "student-t", "bernoulli", "continuous-bernoulli")

pytestmark = pytest.mark.filterwarnings("ignore::vaefast.DataWarning")


def table(likelihood="gaussian", rows=120):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(rows, 2)) @ generator.normal(size=(2, 5)) + 0.4 * generator.normal(size=(rows, 5))
    if likelihood == "bernoulli":
        X = (X > 0).astype(float)
    elif likelihood == "continuous-bernoulli":
        X = stats.norm.cdf(X)
    return np.where(generator.random(X.shape) < 0.4, NAN, X)


@pytest.fixture(scope="module", params=LIKELIHOODS)
def trained(request):
    """A likelihood, a table for it, and a model of two latents that uses them."""
    X = table(request.param)
    model = VAE(2, hidden_layer_sizes=(12,), likelihood=request.param, epochs=80, batch_size=20, random_state=0)
    return request.param, X, model.set_params(engine=ENGINES[0]).fit(X)


def softplus(a):
    return np.logaddexp(0, a)


def quadrature(likelihood, model, row):
    """log p(x_observed) in nats and E[x_missing | x_observed] of a row as the networks see it, on a grid of latents."""
    at = np.linspace(-7, 7, 561)
    z = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)
    own = {name: tensor.astype(float) for name, tensor in model._network.parameters.items()}
    g = np.maximum(z @ own["decoder.0.weight"] + own["decoder.0.bias"], 0)
    a = g @ own["logits.weight"] + own["logits.bias"]
    if likelihood == "gaussian":
        mean, terms = a, stats.norm.logpdf(row, a, np.sqrt(1e-4 + np.exp(2 * own["x_log_std"])))
    elif likelihood == "student-t":
        scale = softplus(g @ own["scales.weight"] + own["scales.bias"]) + 0.001
        freedom = softplus(g @ own["freedoms.weight"] + own["freedoms.bias"]) + 3
        mean, terms = a, stats.t.logpdf(row, freedom, a, scale)
    else:
        p = 1 / (1 + np.exp(-a))
        mean, terms = p, row * a - softplus(a)
        if likelihood == "continuous-bernoulli":
            near = np.abs(1 - 2 * p) < 1e-6
            q = np.where(near, 0.4, p)
            mean = np.where(near, 0.5, q / (2 * q - 1) + 1 / (2 * np.arctanh(1 - 2 * q)))
            terms = terms + np.log(np.where(near, 2, 2 * np.arctanh(1 - 2 * q) / (1 - 2 * q)))
    log_w = np.nansum(terms, axis=1) + stats.norm.logpdf(z).sum(axis=1)
    largest = log_w.max()
    w = np.exp(log_w - largest)
    return largest + np.log(w.sum() * (at[1] - at[0]) ** 2), (w @ mean / w.sum())[np.isnan(row)]


def test_means_and_densities_are_those_of_quadrature(trained):
    likelihood, X, model = trained
    inputs, rows = model._inputs, np.flatnonzero(np.isnan(X).any(axis=1))[:5]
    scaled = inputs.exact(X[rows])
    exact = [quadrature(likelihood, model, row) for row in scaled]
    log_p = np.array([value for value, _ in exact]) - inputs.log_volume_of(X[rows])
    means = np.concatenate([mean for _, mean in exact])
    errors, bounds = {}, {}
    for samples in (3, 100, 300_000):
        filled = inputs.exact(model.impute(X[rows], samples))
        errors[samples] = np.sqrt(np.mean((filled[np.isnan(scaled)] - means) ** 2))
        bounds[samples] = np.abs(model.log_likelihood(X[rows], samples) - log_p).mean()
    assert errors[3] > 3 * errors[100] > 9 * errors[300_000]
    assert errors[300_000] < 0.01
    assert bounds[300_000] < 0.01
    assert bounds[3] > bounds[300_000]


def test_draws_are_spread_as_the_posterior_predictive(trained):
    likelihood, X, model = trained
    rows = np.flatnonzero(np.isnan(X).any(axis=1))[:5]
    draws, means = model.impute(X[rows], 5000, multiple=4000), model.impute(X[rows], 5000)
    assert draws.shape == (4000, 5, 5)
    gaps = np.isnan(X[rows])
    np.testing.assert_array_equal(draws[:, ~gaps], np.broadcast_to(X[rows][~gaps], (4000, int((~gaps).sum()))))
    spread = draws[:, gaps].std(axis=0)
    assert (spread > 0).all()
    assert (np.abs(draws[:, gaps].mean(axis=0) - means[gaps]) < 6 * spread / np.sqrt(1500)).all()
    if likelihood == "bernoulli":
        assert set(np.unique(draws[:, gaps])) == {0.0, 1.0}
    first, second = (model.impute(X[rows], 100, multiple=3, random_state=seed) for seed in (5, 6))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, model.impute(X[rows], 100, multiple=3, random_state=5))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_bit_depends_on_the_other_rows_or_on_threads(engine):
    X = table()
    X[5] = NAN
    about = {"hidden_layer_sizes": (12,), "epochs": 3, "random_state": 0, "engine": engine}
    one, two = VAE(2, **about, n_jobs=1).fit(X), VAE(2, **about, n_jobs=2).fit(X)
    whole = one.impute(X, 1500)
    for rows in (slice(3, 9), [5], np.arange(len(X))[::-1]):
        if engine == "reference":
            # NumPy multiplies one row with other code than many, and CPUs differ in it: the float32 sums of 12 terms agree.
            np.testing.assert_allclose(one.impute(X[rows], 1500), whole[rows], rtol=1e-4, atol=1e-5)
            continue
        assert np.array_equal(one.impute(X[rows], 1500), whole[rows])
        apart = ~np.isnan(X[rows]).all(axis=1)  # rows without any value are equal, and drawn one after the other
        draws = one.impute(X[rows], 1500, multiple=2), one.impute(X, 1500, multiple=2)[:, rows]
        assert np.array_equal(draws[0][:, apart], draws[1][:, apart])
    if engine != "reference":
        assert np.array_equal(two.impute(X, 1500), whole)
    # Of a row without any value: the mean of the prior.
    assert np.allclose(whole[5], one.sample(20_000, random_state=0).mean(axis=0), atol=0.05)


def test_a_model_of_a_complete_table_fills_gaps_too():
    X = table()
    complete = SimpleImputer().fit_transform(X)
    model = VAE(2, hidden_layer_sizes=(12,), epochs=3, random_state=0).fit(complete)
    assert not model._network.model.missing
    filled = model.impute(X, 100)
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[3:5], model.impute(X[3:5], 100))


# --- The form in which it comes back


@pytest.fixture(scope="module")
def fitted():
    return VAE(2, hidden_layer_sizes=(12,), epochs=3, random_state=0).fit(table())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_an_array_keeps_its_type_and_its_values(fitted, dtype):
    X = table().astype(dtype)
    X[0, 0], X[1, 0] = -0.0, NAN
    before = X.copy()
    filled = fitted.impute(X, 10)
    assert filled.dtype == dtype
    assert filled[~np.isnan(X)].tobytes() == X[~np.isnan(X)].tobytes()
    np.testing.assert_array_equal(X, before)
    assert not np.isnan(filled).any()


def test_other_tables_become_arrays(fitted):
    X = table()
    filled = fitted.impute(X, 10)
    objects = X.astype(object)
    objects[np.isnan(X)] = None
    for other in (X.tolist(), objects, np.ma.masked_invalid(X), np.asfortranarray(X)):
        given = fitted.impute(other, 10)
        assert type(given) is np.ndarray
        assert np.array_equal(given, filled)
    whole = np.nan_to_num(X)
    assert np.array_equal(fitted.impute(whole.tolist()), whole)
    assert fitted.impute(whole) is not whole
    assert fitted.impute(whole, multiple=2).shape == (2, *X.shape)
    assert (fitted.impute(sparse.csr_array(whole)) != sparse.csr_array(whole)).nnz == 0


def test_a_frame_stays_a_frame():
    generator = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "whole": np.arange(80), "gaps": np.where(generator.random(80) < 0.3, NAN, np.arange(80.0)),
            "small": generator.normal(size=80).astype(np.float32), "Int64": pd.array([1, 2, 3, None] * 20, dtype="Int64"),
            "objects": [1, 2, 3, None] * 20, "Float32": pd.array([0.5, None] * 40, dtype="Float32"),
        },
        index=[f"row {i}" for i in range(80)],
    )  # fmt: skip
    frame.loc["row 7", "small"] = NAN
    before = frame.copy()
    model = VAE(2, hidden_layer_sizes=(12,), epochs=3, random_state=0).fit(frame)
    filled = model.impute(frame, 20)
    pd.testing.assert_frame_equal(frame, before)
    assert filled.index.equals(frame.index)
    assert [*filled.columns] == [*frame.columns]
    assert [str(dtype) for dtype in filled.dtypes] == ["int64", "float64", "float32", "Float64", "float64", "Float32"]
    assert not filled.isna().any().any()
    known = ~frame.isna().to_numpy()
    assert (filled.to_numpy(float)[known] == frame.to_numpy(float, na_value=NAN)[known]).all()
    assert np.array_equal(filled["gaps"], model.impute(frame.astype(float), 20)["gaps"])
    each = model.impute(frame, 20, multiple=3)
    assert [type(one) for one in each] == [pd.DataFrame] * 3
    assert len({one["gaps"].sum() for one in each}) == 3


def test_as_a_step_of_a_pipeline(fitted):
    X = table()
    y = np.nan_to_num(X).sum(axis=1) > 0
    step = FunctionTransformer(fitted.impute, kw_args={"n_samples": 50}, feature_names_out="one-to-one")
    pipeline = make_pipeline(step, LogisticRegression()).fit(X, y)
    assert pipeline.score(X, y) > 0.8
    frame = pd.DataFrame(X, columns=list("abcde"))
    named = VAE(2, hidden_layer_sizes=(12,), epochs=3, random_state=0).fit(frame)
    frames = make_pipeline(FunctionTransformer(named.impute, feature_names_out="one-to-one"), LogisticRegression())
    assert frames.fit(frame, y)[0].transform(frame).columns.tolist() == list("abcde")


def test_what_is_refused(fitted):
    X = table()
    for wrong in (0, 1.5, "many"):
        with pytest.raises(SettingsError, match="n_samples is"):
            fitted.impute(X, wrong)
        with pytest.raises(SettingsError, match="multiple is"):
            fitted.impute(X, multiple=wrong)
    with pytest.raises(ValueError, match="features"):
        fitted.impute(X[:, :3])
    with pytest.raises(DataError, match="is infinite"):
        fitted.impute(np.where(np.isnan(X), np.inf, X))
    counts = np.random.default_rng(0).poisson(0.4, (50, 4)).astype(float)
    model = VAE(2, hidden_layer_sizes=(8,), epochs=1, likelihood="poisson", random_state=0).fit(counts)
    assert np.array_equal(model.impute(counts), counts)
    counts[3, 1] = NAN
    with pytest.raises(DataError, match=r"row 3, column 1 .* is missing \(NaN\), and the rates of counts"):
        model.impute(counts)


def test_rows_with_equal_content_are_drawn_apart():
    """Or a mean over n of them would vary n times too much (Rubin, 1987); their means are the same."""
    f = pd.DataFrame({"sex": ["m", "f"] * 300, "group": ["a", "a", "b"] * 200, "smokes": ["y", "n", "n", "y", "n"] * 120})
    vae = VAE(2, likelihood="mixed", hidden_layer_sizes=(8,), epochs=5, random_state=0, engine=ENGINES[0]).fit(f)
    f.loc[f.sex == "m", "smokes"] = None
    equal = (f.sex == "m") & (f.group == "a")
    draws = vae.impute(f, 50, multiple=20)
    shares = np.array([(draw.loc[equal, "smokes"] == "y").mean() for draw in draws])
    p = shares.mean()
    assert 0.2 < p < 0.6
    assert shares.std() < 3 * np.sqrt(p * (1 - p) / equal.sum())
    assert vae.impute(f, 50).loc[equal, "smokes"].nunique() == 1
    first = f.index[equal][0]
    alone = vae.impute(f.loc[[first]], 50, multiple=20)
    assert [draw["smokes"].iloc[0] for draw in alone] == [draw.loc[first, "smokes"] for draw in draws]
    again = vae.impute(f, 50, multiple=20)
    assert all(one.equals(other) for one, other in zip(draws, again, strict=True))


def test_occurrences_count_what_came_before():
    assert occurrences(np.array([5, 3, 5, 5, 3, 7])).tolist() == [0, 0, 1, 2, 1, 0]
    assert occurrences(np.empty(0, np.int64)).tolist() == []


@pytest.mark.parametrize("likelihood", ["gaussian", "mixed"])
def test_draws_of_a_row_too_far_out_for_float32_are_its_means(likelihood):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 4))
    X[:, 3] = rng.poisson(3, 100) * (rng.random(100) < 0.7)
    types = {3: "count"} if likelihood == "mixed" else None
    vae = VAE(2, likelihood=likelihood, column_types=types, hidden_layer_sizes=(8,), epochs=3, random_state=0).fit(X)
    row = X[:2].copy()
    row[0, 0], row[:, 3] = 1e300, np.nan
    filled, draws = vae.impute(row), np.asarray(vae.impute(row, multiple=3), float)
    assert not np.isnan(draws).any()
    assert np.array_equal(draws[:, 0].astype(float), np.repeat(np.asarray(filled[:1], float), 3, axis=0))


def test_a_seed_that_is_none_is_refused_by_its_name():
    X = table()
    vae = VAE(2, hidden_layer_sizes=(8,), epochs=1, random_state=0, engine=ENGINES[0]).fit(X)
    for rows in (X, np.nan_to_num(X)):
        with pytest.raises(SettingsError, match="random_state is -1"):
            vae.impute(rows, 5, random_state=-1)
