"""`vaefast.VAE` on the numbers that people bring: outliers, proportions, other types and units, columns of no spread."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score

import vaefast
from vaefast import VAE, DataWarning
from vaefast.errors import DataError, DivergenceError, SettingsError
from vaefast.tables.columns import moments, strays

QUICK = {"hidden_layer_sizes": (20,), "epochs": 4, "random_state": 0}
quiet = pytest.mark.filterwarnings("ignore::vaefast.DataWarning")


@pytest.fixture(scope="module")
def normal():
    return np.random.default_rng(4).normal(size=(1000, 8))


@pytest.fixture(scope="module")
def factors():
    """Rows of two factors and noise, with something for latents to hold."""
    generator = np.random.default_rng(7)
    return generator.normal(size=(300, 2)) @ generator.normal(size=(2, 6)) * 2 + generator.normal(size=(300, 6)) * 0.5


@pytest.fixture(scope="module")
def fitted(factors):
    return VAE(3, hidden_layer_sizes=(40,), epochs=40, random_state=0).fit(factors)


# --- Scores of what is far out


@quiet
def test_the_strongest_anomalies_have_the_lowest_scores(normal):
    vae = VAE(random_state=4).fit(normal)
    odd = normal[:3].copy()
    odd[0, 3], odd[1, 2] = 1e4, 1e6
    for scores in (vae.score_samples(odd), vae.log_likelihood(odd)):
        assert np.isfinite(scores).all()
        assert scores[1] < scores[0] < scores[2] < 0
        # The one cell alone is a square of 1e4 standard deviations.
        assert scores[0] < -0.4e8
        assert scores[1] < -0.4e12
    assert np.isfinite(vae.score(odd))
    labels = np.repeat([0, 1], [1000, 2])
    assert roc_auc_score(labels, -vae.score_samples(np.vstack([normal, odd[:2]]))) == 1.0
    folds = normal.copy()
    folds[7, 1] = 1e9
    assert np.isfinite(cross_val_score(VAE(epochs=2, random_state=0), folds, cv=3)).all()


@quiet
@pytest.mark.parametrize("cell", [1e8, -1e15, 1e25, 1e60, -1e120])
@pytest.mark.parametrize("scaling", ["auto", None])
def test_scores_fall_with_the_distance_whatever_holds_them(factors, cell, scaling):
    """Past 1e19 the squares are no float32, and past 3e38 neither are the values."""
    X = factors.astype(np.float32) if abs(cell) < 1e38 else factors
    vae = VAE(3, scaling=scaling, **QUICK).fit(X)
    rows = np.repeat(X[:1], 4, axis=0)
    rows[1:, 2] = np.array([1, 10, 100]) * cell
    scores, many = vae.score_samples(rows), vae.log_likelihood(rows, n_samples=5)
    for each in (scores, many):
        assert np.isfinite(each).all()
        assert (np.diff(each) < 0).all()
    assert np.isfinite(vae.transform(rows)).all()
    assert np.isfinite(vae.posterior(rows)[1]).all()
    # A row's score is the same alone.
    assert np.array_equal(vae.score_samples(rows[2:3]), scores[2:3])


@quiet
def test_minus_infinity_is_what_no_float64_can_say(fitted, factors):
    rows = factors[:3].copy()
    rows[0, 0], rows[1, 1] = 1e200, -1e308
    scores = fitted.score_samples(rows)
    assert scores[:2].tolist() == [-np.inf, -np.inf]
    assert np.isfinite(scores[2])
    assert np.isfinite(fitted.transform(rows[[0, 2]])).all()


def test_which_column_makes_a_row_odd(fitted, factors):
    rows = factors[:4].copy()
    rows[1, 4], rows[2, 0], rows[3, 5] = 60.0, -1e5, 1e25
    columns = fitted.score_samples(rows, per_feature=True)
    assert columns.shape == (4, 6)
    assert np.isfinite(columns).all()
    assert columns[1:].argmin(axis=1).tolist() == [4, 0, 5]


@quiet
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "continuous-bernoulli"])
def test_columns_and_divergence_add_up_to_the_score(factors, likelihood):
    vae = VAE(3, likelihood=likelihood, scaling="standard" if likelihood == "gaussian" else "minmax", **QUICK).fit(factors)
    columns = vae.score_samples(factors, per_feature=True).sum(axis=1)
    mean, std = vae.posterior(factors)
    divergence = 0.5 * (std**2.0 + mean**2.0 - 1 - 2 * np.log(std)).sum(axis=1)
    # Where pixels are drawn, the encoder of `posterior` sees them as they are.
    if likelihood != "bernoulli":
        assert np.allclose(columns - divergence, vae.score_samples(factors), atol=1e-4)
    assert (columns > vae.score_samples(factors)).all()


# --- What `auto` takes


@quiet
@pytest.mark.parametrize("outliers", ["uniform", "just outside"])
def test_proportions_get_a_density(outliers):
    generator = np.random.default_rng(0)
    X = generator.beta(50, 50, size=(1000, 8))
    odd = generator.random((100, 8)) if outliers == "uniform" else 1 + 1e-3 * generator.random((100, 8))
    vae = VAE(random_state=0, epochs=20).fit(X)
    assert vae.likelihood_ == "gaussian"
    labels = np.repeat([0, 1], [1000, 100])
    assert roc_auc_score(labels, -vae.score_samples(np.vstack([X, odd]))) > 0.999


@quiet
def test_auto_is_bernoulli_for_zeros_and_ones_alone(normal):
    binary, small = normal > 0, np.abs(normal) * 1e-12
    for X in (binary, binary.astype(np.int8), binary.astype(np.float16), pandas.DataFrame(binary), binary.tolist()):
        assert VAE(2, **QUICK).fit(X).likelihood_ == "bernoulli"
    almost = binary.astype(float)
    almost[3, 3] = 0.5
    for X in (small, almost, -binary.astype(int), 2 * binary.astype(int), np.clip(normal, 0, 1)):
        assert VAE(2, **QUICK).fit(X).likelihood_ == "gaussian"


def test_what_was_chosen_is_said(factors, capsys):
    vae = VAE(3, **QUICK)
    assert ":" not in repr(vae)
    vae.set_params(verbose=1).fit(factors)
    assert "likelihood gaussian (not every value is 0 or 1), scaling standard" in capsys.readouterr().out
    assert repr(vae).endswith(
        f"likelihood gaussian, scaling standard, binarize none, batch size 20, epochs {QUICK['epochs']}, learning rate 0.001, "
        f"engine {vae.engine_}"
    )


@quiet
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64, object])
def test_the_type_of_the_numbers_changes_nothing(kind):
    """Ages, pressures and heights."""
    generator = np.random.default_rng(1)
    X = np.rint(generator.normal([40, 100, 70], [8, 9, 7], (200, 3))).clip(1, 127)
    exact = VAE(2, **QUICK).fit(X)
    other = VAE(2, **QUICK).fit(X.astype(kind))
    assert (other.likelihood_, other.scaling_) == ("gaussian", "standard")
    assert np.array_equal(other.transform(X.astype(kind)), exact.transform(X))
    assert np.array_equal(other.score_samples(X.astype(kind)), exact.score_samples(X))
    assert np.allclose(other.reconstruct(X.astype(kind)).mean(axis=0), X.mean(axis=0), atol=1.0)


@quiet
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
def test_the_order_of_the_rows_changes_nothing(factors, layout):
    order = np.random.default_rng(2).permutation(len(factors))
    X = {"C": factors, "F": np.asfortranarray(factors), "strided": np.repeat(factors, 2, axis=0)[::2]}[layout]
    first, second = VAE(3, **QUICK).fit(factors), VAE(3, **QUICK).fit(X[order])
    assert np.array_equal(first.transform(factors), second.transform(factors))
    assert first.history_["train_elbo"] == second.history_["train_elbo"]
    binary = (factors > 0).astype(np.uint8)
    assert np.array_equal(
        VAE(2, **QUICK).fit(binary).transform(binary), VAE(2, **QUICK).fit(binary[order].astype(float)).transform(binary)
    )


# --- Tables that are no plain numbers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X: X.reshape(-1, 2, 3), r"shape \(300, 2, 3\).*X\.reshape\(len\(X\), -1\)"),
        (lambda X: (X, X[:, 0]), r"X is a tuple of 2 arrays: give the rows alone"),
        (lambda X: np.where(X[9, 4] == X, -np.inf, X), r"row 9, column 4 .* is infinite \(-inf\)"),
    ],
)
def test_arrays_that_are_no_tables(factors, fitted, change, words):
    for attempt in (VAE(2, **QUICK).fit, fitted.transform, fitted.score_samples, fitted.partial_fit):
        with pytest.raises(DataError, match=words) as caught:
            attempt(change(factors))
        assert "\n" not in str(caught.value)


def test_a_mask_that_hides_nothing_is_no_matter(factors):
    masked = np.ma.masked_array(factors, np.zeros(factors.shape, bool))
    assert np.array_equal(VAE(2, **QUICK).fit(masked).transform(masked), VAE(2, **QUICK).fit(factors).transform(factors))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["Paris", "Rome", "Oslo"] * 100, "column 'extra' is the text 'Paris': .*OneHotEncoder"),
        (pandas.Categorical(["low", "high", "low"] * 100), "column 'extra' is the text 'low'"),
        (pandas.date_range("2021-01-01", periods=300), "column 'extra' holds dates or times .* days since"),
        ([1, "two", pandas.NA] * 100, r"row 1 .*column 'extra' is the text 'two'"),
        (pandas.array(["a", pandas.NA, "b"] * 100, dtype="string"), "column 'extra' is the text 'a'"),
    ],
)
def test_columns_of_a_frame_are_named(factors, column, words):
    frame = pandas.DataFrame(factors, columns=list("abcdef")).assign(extra=column)
    with pytest.raises(DataError, match=words) as caught:
        VAE(2, likelihood="gaussian", **QUICK).fit(frame)
    assert "\n" not in str(caught.value)


def test_numbers_in_disguise_are_numbers(factors):
    frame = pandas.DataFrame(np.rint(factors), columns=list("abcdef"))
    plain = VAE(2, **QUICK).fit(frame)
    nullable = VAE(2, **QUICK).fit(frame.astype("Int64"))
    assert np.array_equal(plain.transform(frame), nullable.transform(frame.astype("Int64")))
    assert VAE(2, **QUICK).fit(frame.astype(str).astype(object)).likelihood_ == "gaussian"


def test_values_that_do_not_fit_name_the_column_of_a_frame(factors):
    frame = pandas.DataFrame(np.abs(factors) / 20, columns=list("abcdef"))
    frame.loc[7, "d"] = 1.5
    with pytest.raises(DataError, match=r"row 7 \(counted from 0\), column 'd' is 1.5, but likelihood bernoulli"):
        VAE(2, likelihood="bernoulli", **QUICK).fit(frame)


def test_validation_data_are_called_so(factors):
    with pytest.raises(DataError, match=r"^validation_data is a tuple of 2 arrays"):
        VAE(2, **QUICK).fit(factors, validation_data=(factors, factors[:, 0]))
    with pytest.raises(DataError, match=r"^validation_data: row 0, column 0 .* infinite"):
        VAE(2, **QUICK).fit(factors, validation_data=np.full((3, 6), np.inf))


# --- Training that goes on


@quiet
@pytest.mark.parametrize(
    ("rows", "columns", "epochs"), [(100, 20_000, 9), (500, 10_000, 5), (40, 100_000, 8), (60, 1, 15), (200, 37, 15)]
)
def test_every_width_trains_with_the_defaults(rows, columns, epochs):
    generator = np.random.default_rng(0)
    X = generator.normal(size=(rows, 5)) @ generator.normal(size=(5, columns)) + generator.normal(size=(rows, columns))
    constant = (-0.5 * np.log(2 * np.pi * X.var(axis=0)) - 0.5).sum()
    vae = VAE(random_state=0, epochs=epochs).fit(X)
    bounds = vae.history_["train_elbo"]
    assert bounds[0] > constant - 0.5 * abs(constant) - 10
    if columns > 1:
        assert bounds[-1] > constant
    assert bounds[-1] > bounds[0]


@pytest.mark.parametrize("value", [1e3, 1e12, -1e30, 1e100])
def test_an_outlier_among_validation_rows_ends_nothing(factors, value):
    validation = factors[:50].copy()
    validation[3, 1] = value
    with pytest.warns(DataWarning, match=r"validation_data: row 3, column 1 .* is -?1(000|e\+)"):
        vae = VAE(3, **QUICK).fit(factors[50:], validation_data=validation)
    assert vae.n_iter_ == 4
    assert np.isfinite(vae.history_["validation_elbo"]).all()
    assert vae.history_["validation_elbo"][-1] < -1000


@pytest.mark.parametrize("value", [1e6, 1e30, -1e300])
def test_an_outlier_among_training_rows_leaves_the_others_alone(value):
    X = load_breast_cancer().data
    others = np.delete(np.arange(len(X)), 5)
    clean = VAE(random_state=0, epochs=20).fit(X[others])
    spoiled = X.copy()
    spoiled[5, 3] = value
    words = rf"row 5, column 3 \(both counted from 0\) is {value:g}, .* standard deviations of the other values"
    with pytest.warns(DataWarning, match=words.replace("+", r"\+")) as caught:
        vae = VAE(random_state=0, epochs=20).fit(spoiled)
    assert len(caught) == 1
    before, after = np.median(clean.score_samples(X[others])), np.median(vae.score_samples(X[others]))
    assert abs(after - before) < 1.5
    # Minus infinity is the score of a square that is no float64.
    assert vae.score_samples(spoiled).argmin() == 5


def test_two_outliers_and_a_name(factors):
    frame = pandas.DataFrame(factors, columns=list("abcdef"))
    frame.loc[[10, 200], "c"] = [1e7, -1e9]
    frame.loc[20, "e"] = 1e5
    with pytest.warns(DataWarning, match=r"row 200 .*column 'c' is -1e\+09.* and 1 other columns have such values"):
        vae = VAE(3, **QUICK).fit(frame)
    assert np.isfinite(vae.score_samples(frame)).all()
    with pytest.warns(
        DataWarning, match=r"such values dominate the scaling of the column; choose scaling auto, which leaves them out"
    ):
        VAE(3, scaling="standard", **QUICK).fit(frame)


def test_what_dominates_a_column_and_what_does_not():
    generator = np.random.default_rng(0)

    def found(column):
        X = np.asarray(column, float)[:, None]
        return [stray.row for stray in strays(X, *moments(X))]

    normal = generator.normal(size=500)
    assert found(np.append(normal, 1e5)) == [500]
    assert found(np.append(normal, [40, 1e30])) == [501]
    assert found(np.append(normal, 50)) == []
    assert found(generator.exponential(size=1000)) == []
    assert found(np.exp(generator.normal(size=1000))) == []
    assert found(generator.standard_t(3, size=1000)) == []
    # Zeros with a few other numbers, one number that is not like the others, and no spread at all.
    assert found(np.append(np.zeros(400), generator.normal(size=20))) == []
    assert found(np.append(np.zeros(400), [1] * 19 + [1e12])) == [419]
    assert found(np.append(np.zeros(400), 1e12)) == []
    assert found(np.ones(50)) == []
    for table in (load_iris, load_wine, load_breast_cancer):
        assert strays(table().data, *moments(table().data)) == []


@pytest.mark.parametrize("unit", [1e-300, 1e-12, 1.0, 1e12, 1e300])
def test_moments_have_no_unit_that_is_too_small_or_too_large(unit):
    X = np.random.default_rng(0).normal(3, 2, (400, 2))
    mean, deviation = moments(X * unit)
    assert np.allclose(mean / unit, X.mean(axis=0))
    assert np.allclose(deviation / unit, X.std(axis=0))


@quiet
@pytest.mark.parametrize("later", ["varied", "another constant", "huge"])
def test_a_column_that_varies_only_later(factors, later):
    """Its scale comes from the first chunk in which it has one."""
    first, second = factors[:150].copy(), factors[150:].copy()
    first[:, 2] = 5.0
    second[:, 2] = {"varied": 1e4 + 300 * second[:, 2], "another constant": 7.0, "huge": 1e20 * second[:, 2]}[later]
    vae = VAE(3, **QUICK).partial_fit(first)
    for _ in range(30):
        vae.partial_fit(second)
        vae.partial_fit(first)
    assert np.isfinite(vae.history_["train_elbo"]).all()
    scores = vae.score_samples(second)
    assert np.isfinite(scores).all()
    if later == "varied":
        assert abs(vae.reconstruct(second)[:, 2].mean() - 1e4) < 3000


def test_a_later_chunk_far_outside_is_named(factors):
    vae = VAE(3, **QUICK).partial_fit(factors)
    far = factors.copy()
    far[3, 1] = 1e9
    with pytest.warns(DataWarning, match=r"X: row 3, column 1 .* is 1e\+09, .* times the column's scale .* it is cut there"):
        vae.partial_fit(far)
    assert np.isfinite(vae.score_samples(far)).all()


# --- What changes between calls


def test_a_failed_refit_leaves_the_old_model(factors):
    vae = VAE(3, **QUICK).fit(factors)
    scores, latents, history = vae.score_samples(factors), vae.transform(factors), copy.deepcopy(vae.history_)
    for change, error in (
        ({"learning_rate": 1e6}, DivergenceError),
        ({"n_components": 0}, SettingsError),
        ({"likelihood": "bernoulli"}, DataError),
        ({"callbacks": [lambda vae, metrics: 1 / 0]}, ZeroDivisionError),
    ):
        before = vae.get_params()
        vae.set_params(**change)
        with pytest.raises(error):
            vae.fit(factors)
        with pytest.raises((error, DataError, SettingsError)):
            vae.partial_fit(factors * 1e30 if error is DataError else factors)
        vae.set_params(**before)
        assert np.array_equal(vae.score_samples(factors), scores)
        assert np.array_equal(vae.transform(factors), latents)
        assert vae.history_ == history
    new = VAE(3, learning_rate=1e6, **QUICK)
    with pytest.raises(DivergenceError):
        new.fit(factors)
    assert not hasattr(new, "likelihood_")


def test_training_parameters_change_between_calls_of_partial_fit(factors):
    same, faster = VAE(3, **QUICK).partial_fit(factors), VAE(3, **QUICK).partial_fit(factors)
    faster.set_params(learning_rate=1e-2, batch_size=50)
    same.partial_fit(factors), faster.partial_fit(factors)
    assert (faster.learning_rate_, faster.batch_size_) == (1e-2, 50)
    assert faster.history_["step"] == [15, 21]
    assert not np.array_equal(same.transform(factors), faster.transform(factors))
    faster.set_params(n_jobs=1, engine="reference").partial_fit(factors)
    assert (faster.engine_, faster.n_threads_) == ("reference", 1)


@pytest.mark.parametrize(
    "change",
    [{"n_components": 5}, {"hidden_layer_sizes": (20, 20)}, {"activation": "tanh"}, {"likelihood": "bernoulli"},
     {"scaling": "minmax"}],
)  # fmt: skip
def test_model_parameters_do_not(factors, change):
    vae = VAE(3, **QUICK).partial_fit(factors)
    before = vae.transform(factors)
    with pytest.raises(SettingsError, match=f"{next(iter(change))}.*call fit to begin anew"):
        vae.set_params(**change).partial_fit(factors)
    assert np.array_equal(vae.transform(factors), before)


@pytest.mark.parametrize("truth", [True, np.bool_(True), 1, "stop"])
def test_what_a_callback_returns_is_true_or_not(factors, truth):
    assert VAE(2, callbacks=[lambda vae, metrics: truth], **QUICK).fit(factors).n_iter_ == 1
    assert VAE(2, callbacks=[lambda vae, metrics: np.bool_(False)], **QUICK).fit(factors).n_iter_ == 4


def test_a_saved_model_goes_on_where_it_was(factors, tmp_path):
    vae = VAE(3, **QUICK).partial_fit(factors)
    vae.save(tmp_path / "whole")
    vae.save(tmp_path / "small", optimizer=False)
    assert (tmp_path / "whole").stat().st_size > 2 * (tmp_path / "small").stat().st_size
    whole, small = vaefast.load(tmp_path / "whole"), vaefast.load(tmp_path / "small")
    assert np.array_equal(small.transform(factors), vae.transform(factors))
    expected = vae.partial_fit(factors).partial_fit(factors).transform(factors)
    assert np.array_equal(whole.partial_fit(factors).partial_fit(factors).transform(factors), expected)
    with pytest.warns(DataWarning, match="without the optimizer's moments.*optimizer=True"):
        small.partial_fit(factors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small.partial_fit(factors)
    assert not np.array_equal(small.transform(factors), expected)


def test_an_array_of_dates_is_refused_in_one_line():
    days = np.array([["2020-01-01", "2020-01-02"], ["2020-01-05", "2020-01-03"]], "M8[D]")
    for X in (days, days - days[0]):
        with pytest.raises(DataError, match=r"^X holds dates or times \(.*\): give numbers, such as days since the first$"):
            VAE(2, **QUICK).fit(X)


def test_a_model_that_knows_constant_columns_is_saved_with_them(factors, tmp_path):
    first = factors.copy()
    first[:, 2] = 5.0
    vae = VAE(3, **QUICK).partial_fit(first)
    vae.save(tmp_path / "model")
    again = vaefast.load(tmp_path / "model")
    assert np.array_equal(again.partial_fit(factors).transform(factors), vae.partial_fit(factors).transform(factors))


def test_a_collapsed_model_is_warned_of():
    noise = np.random.default_rng(0).normal(size=(2000, 3))
    with pytest.warns(DataWarning, match=r"posterior collapse: the KL divergence is .* nats"):
        VAE(2, epochs=20, random_state=0).fit(noise)


# --- Weights


def test_whole_weights_are_copies(factors):
    weights = np.random.default_rng(0).integers(0, 4, len(factors))
    order = np.random.default_rng(1).permutation(len(factors))
    repeated = VAE(3, **QUICK).fit(np.repeat(factors, weights, axis=0))
    weighted = VAE(3, **QUICK).fit(factors[order], sample_weight=weights[order])
    assert np.array_equal(repeated.transform(factors), weighted.transform(factors))
    scores = weighted.score_samples(factors)
    assert weighted.score(factors, sample_weight=weights) == pytest.approx((scores * weights).sum() / weights.sum())
    assert weighted.score(factors, sample_weight=weights) == pytest.approx(repeated.score(np.repeat(factors, weights, axis=0)))


def test_shares_draw_the_model_to_the_heavier_rows():
    generator = np.random.default_rng(0)
    X = np.vstack([generator.normal(0, 1, (300, 4)), generator.normal(6, 1, (300, 4))])
    weights = np.repeat([0.9, 0.1], 300)
    vae = VAE(2, epochs=30, random_state=0).fit(X, sample_weight=weights)
    assert vae.score(X[:300]) > vae.score(X[300:]) + 1
    scaled = VAE(2, epochs=30, random_state=0).fit(X, sample_weight=weights / 7)
    assert np.allclose(scaled._inputs.shift, vae._inputs.shift)
    assert np.allclose(vae._inputs.shift, np.average(X, axis=0, weights=weights))
    early = VAE(2, epochs=30, early_stopping=True, random_state=0).fit(X, sample_weight=weights)
    assert np.isfinite(early.history_["validation_elbo"]).all()


@pytest.mark.parametrize("weights", [np.zeros(300), -np.ones(300), np.ones(299), np.full(300, np.nan)])
def test_weights_that_are_none(factors, weights):
    with pytest.raises(ValueError, match=r"weight|NaN"):
        VAE(2, **QUICK).fit(factors, sample_weight=weights)


# --- Any table at all


@st.composite
def tables(draw):
    rows, columns = draw(st.integers(2, 200)), draw(st.integers(1, 50))
    kind = draw(st.sampled_from(["normal", "cauchy", "integers", "sparse", "anything"]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "anything":
        columns = min(columns, 6)
        finite = st.floats(-1e12, 1e12, allow_subnormal=False)
        return draw(arrays(np.float64, (min(rows, 30), columns), elements=finite))
    X = {
        "normal": lambda: generator.normal(size=(rows, columns)),
        "cauchy": lambda: generator.standard_cauchy((rows, columns)) ** draw(st.sampled_from([1, 3])),
        "integers": lambda: generator.integers(-3, 4, (rows, columns)).astype(float),
        "sparse": lambda: generator.normal(size=(rows, columns)) * (generator.random((rows, columns)) < 0.05),
    }[kind]()
    X = X * 10.0 ** generator.uniform(*draw(st.sampled_from([(0, 0), (-12, 12), (-12, -12), (12, 12)])), columns)
    X = X + draw(st.sampled_from([0.0, 1.0, -1e6])) * np.abs(X).max(axis=0)
    if draw(st.booleans()):
        X[:, 0] = draw(st.sampled_from([0.0, -7.5, 1e12]))
    if draw(st.booleans()):
        X[:, -1] = X[:, 0]
    if draw(st.booleans()):
        X[-1] = X[0]
    return X


@quiet
@settings(max_examples=60, deadline=None, derandomize=True)
@given(X=tables(), kind=st.sampled_from([np.float64, np.float32, np.int64]))
def test_any_finite_table_trains_and_scores(X, kind):
    X = X.astype(kind)
    order = np.random.default_rng(0).permutation(len(X))
    vae = VAE(3, epochs=5, random_state=0).fit(X)
    scores, latents = vae.score_samples(X), vae.transform(X)
    assert np.isfinite(scores).all()
    assert np.isfinite(latents).all()
    assert np.isfinite(vae.log_likelihood(X, n_samples=3)).all()
    assert np.isfinite(vae.reconstruct(X)).all()
    assert np.array_equal(vae.score_samples(X[order]), scores[order])
    other = VAE(3, epochs=5, random_state=0).fit(X[order].astype(np.float64))
    assert np.array_equal(other.transform(X), latents)
    assert np.array_equal(other.score_samples(X.astype(np.float64)), scores)


@quiet
def test_more_samples_of_a_score_have_less_noise(normal):
    X = normal @ np.random.default_rng(1).normal(size=(8, 8))
    vae = VAE(4, **QUICK).fit(X)
    exact = vae.score_samples(X, n_samples=300)
    errors = [np.abs(vae.score_samples(X, n_samples=k) - exact).mean() for k in (1, 10, 100)]
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[1]
    assert vae.score(X) == vae.score_samples(X, n_samples=10).mean()
    with pytest.raises(SettingsError, match="n_samples"):
        vae.score_samples(X, n_samples=0)
