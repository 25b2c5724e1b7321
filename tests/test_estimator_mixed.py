"""`vaefast.VAE` on tables of columns of different kinds: scores, samples, imputation, files, and what it refuses."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from vaefast import VAE, VAEDetector, load
from vaefast.errors import DataError, DataWarning, SettingsError
from vaefast.files import model_file

QUICK = {"hidden_layer_sizes": (24,), "epochs": 30, "random_state": 0}
KINDS = {
    "age": "real", "income": "positive", "return": "heavy-tailed", "visits": "count", "smokes": "binary", "sex": "binary",
    "town": "categorical", "size": "categorical",
}  # fmt: skip


def made(rows, seed):
    """People in two groups, by which every column goes."""
    generator = np.random.default_rng(seed)
    group = generator.random(rows) < 0.4
    towns = np.where(generator.random(rows) < 0.95, np.where(group, "Rome", "Lima"), "Oslo").astype(object)
    return pd.DataFrame(
        {
            "age": np.rint(generator.normal(np.where(group, 30, 60), 5)).astype(np.int64),
            "income": np.exp(generator.normal(np.where(group, 8.0, 11.0), 0.5)),
            "return": generator.standard_t(3, rows) + np.where(group, 0.5, -0.5),
            "visits": generator.poisson(np.where(group, 1.0, 9.0)),
            "smokes": generator.random(rows) < np.where(group, 0.1, 0.9),
            "sex": generator.choice(["f", "m"], rows),
            "town": towns,
            "size": pd.Categorical(np.where(group, "S", generator.choice(["M", "L"], rows)), ["S", "M", "L"], ordered=True),
        },
        index=[f"p{i}" for i in range(rows)],
    )


def holed(table, share, seed=1):
    return table.convert_dtypes().mask(np.random.default_rng(seed).random(table.shape) < share)


@pytest.fixture(scope="module")
def people():
    return made(500, 0)


@pytest.fixture(scope="module")
def fitted(people):
    return VAE(2, **QUICK).fit(people)


@pytest.mark.filterwarnings("ignore::vaefast.DataWarning")
@parametrize_with_checks([VAE(likelihood="mixed", hidden_layer_sizes=(16,), epochs=4)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# --- What is chosen


def test_a_table_of_different_kinds_takes_mixed_by_itself(fitted, people):
    assert fitted.likelihood_ == "mixed"
    assert fitted.scaling_ == "standard"
    assert fitted.binarize_ == "none"
    assert fitted.column_types_ == KINDS
    assert list(fitted.feature_names_in_) == list(people)
    assert fitted.n_features_in_ == 8
    assert fitted.transform(people).shape == (500, 2)


@pytest.mark.filterwarnings("ignore::vaefast.DataWarning")
def test_what_the_choice_of_a_likelihood_goes_by(people):
    generator = np.random.default_rng(0)
    floats = pd.DataFrame(generator.normal(size=(60, 3)), columns=list("abc"))
    pairs = floats.assign(d=generator.poisson(2, 60))
    pairs.columns = pd.MultiIndex.from_product([["a", "b"], [1, 2]])
    chosen = {
        "floats": (floats, "gaussian"),
        "floats of two sizes": (floats.assign(a=floats["a"].astype(np.float32)), "gaussian"),
        "whole numbers": (pd.DataFrame(generator.integers(0, 9, (60, 3)), columns=list("abc")), "gaussian"),
        "counts": (pd.DataFrame(generator.poisson(0.3, (60, 3)), columns=list("abc")), "negative-binomial"),
        "counts of two types": (
            pd.DataFrame(generator.poisson(0.3, (60, 3)), columns=list("abc")).astype({"a": np.int32}), "negative-binomial"
        ),
        "truth values": (floats > 0, "bernoulli"),
        "truth values and 0 and 1": ((floats > 0).assign(d=generator.integers(0, 2, 60)), "bernoulli"),
        "floats and ages": (floats.assign(d=generator.integers(20, 80, 60)), "gaussian"),
        "floats and visits": (floats.assign(d=generator.poisson(2, 60)), "mixed"),
        "floats and truth values": (floats.assign(d=floats["a"] > 0), "mixed"),
        "floats and text": (floats.assign(d=["x", "y"] * 30), "mixed"),
        "floats and numbers as text": (floats.assign(d=pd.Series(["1", "2"] * 30, dtype=object)), "gaussian"),
        "floats and a category": (floats.assign(d=pd.Categorical([1, 2] * 30)), "mixed"),
        "pairs for names": (pairs, "gaussian"),
        "a frame, as an array": (people[["age", "visits"]].to_numpy(), "gaussian"),
    }  # fmt: skip
    for name, (table, likelihood) in chosen.items():
        vae = VAE(2, hidden_layer_sizes=(8,), epochs=1, random_state=0).fit(table)
        assert vae.likelihood_ == likelihood, name
        assert hasattr(vae, "column_types_") == (likelihood == "mixed")


def test_a_frame_of_floats_gives_the_model_of_an_array():
    X = np.random.default_rng(0).normal(size=(200, 2)) @ np.array([[1.0, 2, 3], [3, -1, 2]])
    frame = pd.DataFrame(X, columns=list("abc"))
    one, other = VAE(2, **QUICK).fit(frame), VAE(2, **QUICK).fit(X)
    assert np.array_equal(one.score_samples(frame), other.score_samples(X))


def test_what_was_chosen_is_said(people, capsys):
    VAE(2, **QUICK, verbose=1).fit(people)
    said = "".join(capsys.readouterr())
    assert "likelihood mixed (columns of different kinds: 1 real, 1 positive, 1 heavy-tailed, 1 count, 2 binary, 2 cat" in said


def test_kinds_that_are_asked_for(people):
    vae = VAE(2, column_types={"visits": "real", "income": "heavy-tailed"}, **QUICK).fit(people)
    assert vae.column_types_ == {**KINDS, "visits": "real", "income": "heavy-tailed"}
    assert clone(vae).column_types == {"visits": "real", "income": "heavy-tailed"}
    with pytest.raises(SettingsError, match="column_types are given, but likelihood is 'gaussian'"):
        VAE(2, likelihood="gaussian", column_types={"age": "real"}, **QUICK).fit(people)
    with pytest.raises(SettingsError, match="'weight', which is no column"):
        VAE(2, column_types={"weight": "real"}, **QUICK).fit(people)
    with pytest.raises(SettingsError, match="scaling is 'minmax', but likelihood mixed"):
        VAE(2, likelihood="mixed", scaling="minmax", **QUICK).fit(people)


def test_columns_that_cannot_be_used_are_named_once_and_left_out(people):
    more = people.assign(name=[f"person {i}" for i in range(500)], born=pd.Timestamp("2000-01-01"), planet="Earth")
    with pytest.warns(
        DataWarning, match=r"columns 'name' \(text.*\), 'born' \(dates.*\), 'planet' \(one value.*\) cannot be"
    ) as said:
        vae = VAE(2, **QUICK).fit(more)
    assert len(said) == 1
    assert list(vae.sample(3)) == list(people)
    assert list(vae.feature_names_in_) == list(more)
    missing = more.astype({"age": float}).mask(np.random.default_rng(0).random(more.shape) < 0.1)
    filled = vae.impute(missing)
    assert not filled[list(people)].isna().any().any()
    pd.testing.assert_frame_equal(filled[["name", "born", "planet"]], missing[["name", "born", "planet"]])
    assert np.array_equal(vae.score_samples(more), vae.score_samples(people))


# --- Bits


def test_the_order_of_rows_and_of_columns_changes_nothing(fitted, people):
    order = np.random.default_rng(0).permutation(500)
    again = VAE(2, **QUICK).fit(people.iloc[order])
    turned = people.iloc[order, ::-1]
    assert np.array_equal(again.score_samples(people), fitted.score_samples(people))
    assert np.array_equal(fitted.score_samples(turned), fitted.score_samples(people)[order])
    assert np.array_equal(fitted.log_likelihood(turned[:7], 5), fitted.log_likelihood(people.iloc[order[:7]], 5))
    assert np.array_equal(fitted.transform(turned), fitted.transform(people)[order])


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_any_number_of_threads_gives_the_same(people, share):
    table = holed(people, share)
    one, two = (VAE(2, **QUICK, n_jobs=jobs).fit(table) for jobs in (1, 2))
    assert np.array_equal(one.score_samples(table), two.score_samples(table))
    assert one.impute(table).equals(two.impute(table))


def test_whole_weights_are_copies(people):
    weights = np.random.default_rng(0).integers(0, 3, 500)
    # A row that counts for nothing adds no category, and is not refused.
    people = people.assign(town=people["town"].where(weights > 0, "Atlantis"), age=people["age"].where(weights > 0, -3))
    weighed = VAE(2, **QUICK).fit(people, sample_weight=weights)
    copied = VAE(2, **QUICK).fit(people.iloc[np.repeat(np.arange(500), weights)])
    kept = people[weights > 0]
    assert np.array_equal(weighed.score_samples(kept), copied.score_samples(kept))


# --- Densities


POINTS = {
    "age": np.linspace(0, 110, 151),
    "income": np.exp(np.linspace(2, 16, 151)),
    "return": 150 * np.linspace(-1, 1, 151) ** 3,
    "visits": np.arange(100),
    "smokes": np.array([True, False]),
    "town": np.array(["Rome", "Lima", "Oslo"], object),
    "size": np.array(["S", "M", "L"], object),
}


@pytest.mark.parametrize("column", POINTS)
def test_the_density_adds_up_to_that_of_the_other_columns(fitted, people, column):
    """p(x_other) is the integral of p(x) over one column, in the units of the data, or its sum: this needs every Jacobian."""
    points, some = POINTS[column], people.iloc[:10].astype({"age": float})
    rows = some.iloc[np.repeat(np.arange(10), len(points))].copy()
    rows[column] = pd.Series(np.tile(points, 10), index=rows.index, dtype=rows[column].dtype)
    terms = fitted.log_likelihood(rows, 400).reshape(10, -1)
    steps = np.gradient(points) if column in ("age", "income", "return") else np.ones(len(points))
    largest = terms.max(axis=1, keepdims=True)
    total = largest[:, 0] + np.log(np.sum(np.exp(terms - largest) * steps, axis=1))
    rest = some.convert_dtypes()
    rest[column] = rest[column].where(np.zeros(10, bool))
    # Of one row either estimate has a standard error of 0.1 at most.
    assert (total - fitted.log_likelihood(rest, 400)).mean() == pytest.approx(0, abs=0.1 * np.sqrt(2 / 10) * 2)


def test_scores_by_column_are_those_of_the_users_columns(fitted, people):
    missing = holed(people, 0.2)
    for table in (people, missing):
        columns = fitted.score_samples(table, per_feature=True)
        assert columns.shape == (500, 8)
        assert (columns[np.asarray(table.isna())] == 0).all()
        mean, std = fitted.posterior(table)
        divergence = 0.5 * np.sum(mean.astype(float) ** 2 + std.astype(float) ** 2 - 1 - 2 * np.log(std.astype(float)), axis=1)
        assert np.allclose(columns.sum(axis=1) - divergence, fitted.score_samples(table), atol=1e-3)
    odd = people.assign(town=np.where(people["town"] == "Rome", "Lima", "Rome"))
    lower = fitted.score_samples(odd, per_feature=True).mean(axis=0) - fitted.score_samples(people, per_feature=True).mean(
        axis=0
    )
    assert list(people)[int(lower.argmin())] == "town"


def test_odd_rows_are_found_in_kinds_that_cannot_be_seen_alone(people):
    odd = made(40, 5).assign(town=lambda t: np.where(t["town"] == "Rome", "Lima", "Rome"), smokes=lambda t: ~t["smokes"])
    odd["income"] = np.exp(19 - np.log(odd["income"]))
    both, labels = pd.concat([people, odd]), np.repeat([0, 1], [500, 40])
    detector = VAEDetector(contamination=40 / 540, vae=VAE(2, **QUICK), n_samples=20).fit(people)
    assert roc_auc_score(labels, detector.decision_function(both)) > 0.95
    assert detector.predict(both).shape == (540,)
    assert list(detector.feature_names_in_) == list(people)


def test_cross_validation(people):
    scores = cross_val_score(VAE(2, **QUICK), people, cv=3)
    assert np.isfinite(scores).all()


# --- Samples and means


def test_samples_look_like_the_table(fitted, people):
    new = fitted.sample(4000, random_state=0)
    assert (new.dtypes == people.dtypes).all()
    assert list(new.columns) == list(people)
    assert (new["visits"] >= 0).all()
    assert (new["income"] > 0).all()
    assert set(new["town"]) <= {"Rome", "Lima", "Oslo"}
    for column in ("town", "size", "smokes"):
        shares = [t[column].value_counts(normalize=True).sort_index().to_numpy() for t in (new, people)]
        assert np.abs(shares[0] - shares[1]).max() < 0.1
    assert new["age"].mean() == pytest.approx(people["age"].mean(), abs=3)
    assert np.log(new["income"]).std() == pytest.approx(np.log(people["income"]).std(), rel=0.25)
    # What goes together in the table goes together in the samples.
    assert new.loc[new["town"] == "Rome", "visits"].mean() < new.loc[new["town"] == "Lima", "visits"].mean() - 4
    pd.testing.assert_frame_equal(fitted.sample(9, random_state=4), fitted.sample(9, random_state=4))
    assert not fitted.sample(9, random_state=4).equals(fitted.sample(9, random_state=5))
    assert np.isfinite(fitted.score(new))


def test_means_are_the_most_likely_levels(fitted, people):
    back = fitted.reconstruct(people)
    assert (back.dtypes == people.dtypes).all()
    assert (back["town"] == people["town"]).mean() > 0.9
    pd.testing.assert_frame_equal(fitted.inverse_transform(fitted.transform(people)), back.reset_index(drop=True))
    line = fitted.interpolate(people.iloc[[0, 1]], people.iloc[[2, 3]], 4)
    assert [len(part) for part in line] == [4, 4]
    pd.testing.assert_frame_equal(
        line[1].iloc[[0, 3]].reset_index(drop=True), back.iloc[[1, 3]].reset_index(drop=True), rtol=1e-4
    )
    assert list(fitted.sample(3, noise_in_x=False)) == list(people)


# --- Missing values


@pytest.mark.parametrize("made_of", ["nullable", "plain"])
def test_imputation_fills_what_is_missing_and_nothing_else(fitted, people, made_of):
    gaps = np.random.default_rng(3).random(people.shape) < 0.25
    missing = people.convert_dtypes().mask(gaps) if made_of == "nullable" else people.astype({"smokes": object}).mask(gaps)
    filled = fitted.impute(missing, 200)
    assert not filled.isna().any().any()
    assert (filled.index == people.index).all()
    assert (filled.dtypes == missing.dtypes).all()
    pd.testing.assert_frame_equal(filled.mask(gaps), missing)
    assert (filled["age"] == filled["age"].round()).all()
    right = {name: np.asarray(filled[name] == people[name])[gaps[:, at]].mean() for at, name in enumerate(people)}
    mode = people["town"].value_counts(normalize=True).max()
    assert right["town"] > max(0.85, mode + 0.2)
    assert right["smokes"] > 0.8
    error = np.abs(np.log(filled["income"].astype(float)) - np.log(people["income"]))[gaps[:, 1]].mean()
    assert error < 0.6 * np.log(people["income"]).std()


def test_draws_of_missing_values_differ(fitted, people):
    missing = holed(people, 0.3)
    draws = fitted.impute(missing, 100, multiple=5)
    assert len(draws) == 5
    for draw in draws:
        assert not draw.isna().any().any()
        assert draw.mask(missing.isna()).equals(missing)
    gaps = missing["sex"].isna()
    different = np.mean([(draws[0]["sex"] != draw["sex"])[gaps].mean() for draw in draws[1:]])
    assert 0.3 < different < 0.7
    again = fitted.impute(missing.iloc[:9], 100, multiple=5)
    assert again[3].equals(draws[3].iloc[:9])


def test_training_with_holes(people):
    missing = holed(people, 0.3)
    vae = VAE(2, missing_indicator=True, **QUICK).fit(missing)
    assert vae.column_types_ == KINDS
    assert np.isfinite(vae.score_samples(missing)).all()
    assert (vae.sample(5).dtypes == missing.dtypes).all()
    filled = vae.impute(missing, 200)
    gaps = missing["town"].isna()
    assert (filled["town"] == people["town"])[gaps].mean() > 0.8


# --- Training in other ways


def test_partial_fit_early_stopping_validation_and_covariates(people):
    vae = VAE(2, hidden_layer_sizes=(24,), random_state=0, batch_size=25)
    for _ in range(3):
        vae.partial_fit(people)
    whole = VAE(2, hidden_layer_sizes=(24,), random_state=0, batch_size=25, epochs=3).fit(people)
    assert np.array_equal(vae.score_samples(people), whole.score_samples(people))
    (name, kind), *_ = vae.column_types_.items()
    vae.set_params(column_types={name: kind}).partial_fit(people)  # what the model has
    scores = vae.score_samples(people)
    for changed in ({name: "count" if kind != "count" else "real"}, {"nobody": "real"}):
        with pytest.raises(SettingsError, match=f"column_types has '.*' for '{next(iter(changed))}', but the model"):
            vae.set_params(column_types=changed).partial_fit(people)
    assert np.array_equal(vae.score_samples(people), scores)
    stopped = VAE(2, **QUICK, early_stopping=True, n_iter_no_change=3).fit(people)
    assert len(stopped.history_["validation_elbo"]) <= 30
    with pytest.warns(DataWarning, match="collapse"):  # the town says what the latents would
        told = VAE(2, **QUICK).fit(
            people.drop(columns="town"), covariates=people["town"], validation_data=made(50, 7).drop(columns="town"),
            validation_covariates=made(50, 7)["town"],
        )  # fmt: skip
    assert np.isfinite(told.history_["validation_elbo"]).all()
    # Validation scores are in the units of the data, rows of positive columns included.
    rest = made(50, 7)
    seen = VAE(2, **QUICK).fit(people, validation_data=rest)
    assert seen.history_["validation_elbo"][-1] == pytest.approx(seen.score(rest), abs=1)
    assert seen.history_["train_elbo"][-1] == pytest.approx(seen.score(people), abs=1)
    rome = told.sample(200, random_state=0, covariates=pd.DataFrame({"town": ["Rome"]}))
    assert rome["visits"].mean() < 4


# --- Arrays


def test_arrays_of_objects_and_of_numbers(people):
    array = people.drop(columns="size").to_numpy(dtype=object)
    vae = VAE(2, likelihood="mixed", **QUICK).fit(array)
    assert vae.column_types_ == {at: KINDS[name] for at, name in enumerate(people.drop(columns="size"))}
    assert not hasattr(vae, "feature_names_in_")
    new = vae.sample(4)
    assert (new.shape, new.dtype) == ((4, 7), object)
    missing = array.copy()
    missing[3, 6] = None
    missing[4, 1] = np.nan
    filled = vae.impute(missing)
    assert isinstance(filled[3, 6], str)
    assert filled[4, 1] > 0
    same = np.ones(array.shape, bool)
    same[3, 6] = same[4, 1] = False
    assert (filled[same] == array[same]).all()
    numbers = people[["age", "income", "visits"]].to_numpy()
    vae = VAE(2, column_types={2: "count", 1: "positive"}, **QUICK).fit(numbers)
    assert vae.column_types_ == {0: "real", 1: "positive", 2: "count"}
    assert vae.sample(3).dtype == np.float64
    drawn = vae.impute(np.where(numbers == numbers[5], np.nan, numbers), multiple=2)
    assert (drawn.shape, np.isfinite(drawn).all()) == ((2, 500, 3), True)


def test_arrays_need_no_pandas(tmp_path):
    program = f"""
        import sys
        sys.modules["pandas"] = None
        import numpy as np
        from vaefast import VAE, load
        generator = np.random.default_rng(0)
        table = np.empty((200, 3), object)
        table[:, 0] = generator.normal(size=200)
        table[:, 1] = np.where(table[:, 0] > 0, "high", "low")
        table[:, 2] = generator.poisson(np.where(table[:, 0] > 0, 1, 5))
        vae = VAE(2, likelihood="mixed", hidden_layer_sizes=(8,), epochs=2, engine="reference", random_state=0).fit(table)
        assert vae.column_types_ == {{0: "real", 1: "binary", 2: "count"}}, vae.column_types_
        vae.save(r"{tmp_path / "a.safetensors"}")
        assert (load(r"{tmp_path / "a.safetensors"}").sample(5, 0) == vae.sample(5, 0)).all()
        """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], check=True)


def test_a_model_of_a_frame_asks_for_pandas_where_it_is_missing(fitted, tmp_path):
    fitted.save(tmp_path / "a.safetensors")
    program = f"""
        import sys
        sys.modules["pandas"] = None
        from vaefast import load
        load(r"{tmp_path / "a.safetensors"}").sample(2)
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        "the model was trained on a DataFrame, and gives one back: pip install pandas"
    )


# --- Files


def test_files_and_pickles_give_the_same_model(fitted, people, tmp_path):
    fitted.save(tmp_path / "a.safetensors")
    for other in (load(tmp_path / "a.safetensors"), pickle.loads(pickle.dumps(fitted))):
        assert other.column_types_ == KINDS
        assert other.n_features_in_ == 8
        assert list(other.feature_names_in_) == list(people)
        assert np.array_equal(other.score_samples(people), fitted.score_samples(people))
        pd.testing.assert_frame_equal(other.sample(7, random_state=1), fitted.sample(7, random_state=1))
        missing = holed(people, 0.1)
        assert other.impute(missing).equals(fitted.impute(missing))
        fresh = clone(fitted).fit(people)
        assert np.array_equal(other.partial_fit(people).transform(people), fresh.partial_fit(people).transform(people))


def test_kinds_by_numbers_of_columns_are_kept_in_files(people, tmp_path):
    numbers = people[["age", "income", "visits"]].to_numpy()
    vae = VAE(2, column_types={2: "real"}, **QUICK).fit(numbers)
    vae.save(tmp_path / "a.safetensors")
    other = load(tmp_path / "a.safetensors")
    assert other.column_types == {2: "real"}
    assert np.array_equal(clone(other).fit(numbers).transform(numbers), vae.transform(numbers))


def test_a_file_with_damaged_columns_is_refused(fitted, tmp_path, monkeypatch):
    fitted.save(tmp_path / "a.safetensors")
    read = model_file.read

    def damaged(path):
        saved = read(path)
        del saved.estimator["schema"]["columns"][0]["kind"]
        return saved

    monkeypatch.setattr(model_file, "read", damaged)
    with pytest.raises(DataError, match="columns is damaged"):
        load(tmp_path / "a.safetensors")


# --- What does not fit


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(town="Cairo"), r"row 0 \(counted from 0\), column 'town' is 'Cairo', which training did not see"),
        (lambda t: t.drop(columns="town"), "lacks the column 'town'"),
        (lambda t: t.assign(more=1), "has the column 'more'"),
        (lambda t: t.assign(visits=-1), r"row 0 .* column 'visits' is -1, but the column is one of counts"),
        (lambda t: t.assign(income=-1.0), r"row 0 .* column 'income' is -1, but the column is positive"),
        (lambda t: t.assign(age=np.inf), r"row 0 .* column 'age' is inf, which is infinite"),
        (lambda t: t.assign(age="old"), r"row 0 .* column 'age' is the text 'old'"),
    ],
)
def test_tables_that_do_not_fit_are_refused_in_one_line(fitted, people, change, words):
    for method in (
        fitted.transform,
        fitted.score_samples,
        fitted.log_likelihood,
        fitted.impute,
        fitted.reconstruct,
        fitted.partial_fit,
    ):
        with pytest.raises(DataError, match=words) as caught:
            method(change(people))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="validation_data"):
        VAE(2, **QUICK).fit(people, validation_data=change(people))


def test_what_is_for_other_likelihoods_is_refused(fitted, people, tmp_path):
    with pytest.raises(SettingsError, match="ranks no columns"):
        fitted.recommend(people)
    with pytest.raises(SettingsError, match="has no rates"):
        fitted.normalized(people)
    with pytest.raises(SettingsError, match="mixed has no ONNX graphs"):
        fitted.to_onnx(tmp_path)
    with pytest.raises(DataError, match=r"column 'sex' is the text '\w': choose likelihood mixed"):
        VAE(2, likelihood="gaussian", **QUICK).fit(people.drop(columns="size"))
    with pytest.raises(DataError, match="the text 'a': choose likelihood mixed"):
        VAE(2, **QUICK).fit(np.array([[1.0, "a"], [2.0, "b"]], dtype=object))
    with pytest.raises(SettingsError, match="binarize"):
        VAE(2, binarize="dynamic", **QUICK).fit(people)


# --- Columns that come in another type than they were trained in


@pytest.mark.parametrize("order", [["Rome", "Oslo"], ["Oslo", "Rome"]])
@pytest.mark.parametrize("trained", ["text", "category"])
def test_categories_are_filled_in_whatever_categories_a_frame_has(people, trained, order):
    vae = VAE(2, **QUICK).fit(people.assign(town=people["town"].astype("category")) if trained == "category" else people)
    rows = people[people["town"] != "Lima"].head(40).copy()
    rows["town"] = pd.Categorical(rows["town"], order)
    rows.iloc[3, 6] = rows.iloc[9, 6] = None
    whole = vae.impute(rows)
    text = vae.impute(rows.assign(town=rows["town"].astype(object).where(rows["town"].notna(), None)))
    assert whole["town"].tolist() == text["town"].tolist()
    assert [*whole["town"].cat.categories][:2] == order
    assert not whole.isna().any().any()
    ordered = rows.assign(size=pd.Categorical(rows["size"].astype(str), ["L", "M", "S"], ordered=True))
    ordered.iloc[5, 7] = None
    assert vae.impute(ordered)["size"].notna().all()


def test_a_type_of_whole_numbers_takes_fractions_where_training_had_them(people):
    vae = VAE(2, **QUICK).fit(people)
    rows = people.head(20).assign(income=pd.array([None, *range(1000, 1019)], dtype="Int64"))
    whole = vae.impute(rows)
    assert whole["income"].dtype == "Float64"
    assert whole["income"].iloc[1:].tolist() == [*range(1000, 1019)]
    assert whole["income"].iloc[0] > 0


def test_lists_without_gaps_keep_their_types():
    rows = [[word, 0.5 * at] for at, word in enumerate("abc" * 30)]
    vae = VAE(1, hidden_layer_sizes=(4,), epochs=1, random_state=0, likelihood="mixed").fit(rows)
    assert vae.impute(rows).tolist() == rows
    assert type(vae.impute(rows)[0, 1]) is float


def test_a_stray_of_a_positive_column_is_told_as_it_came():
    size = np.random.default_rng(0).normal(size=200)
    table = pd.DataFrame({"size": size, "income": np.exp(3 + 0.3 * size)})
    table.loc[17, "income"] = 1e300
    words = (
        r"row 17 .* column 'income' is 1e\+300, and its logarithm .* standard deviations of the logarithms of the other values"
    )
    with pytest.warns(DataWarning, match=words):
        VAE(2, **QUICK, column_types={"income": "positive"}).fit(table)
    table.loc[17, "income"] = 20.0
    validation = table[:20].assign(income=1e-300)
    with pytest.warns(DataWarning, match=r"column 'income' is 1e-300, and its logarithm .* times the column's scale"):
        VAE(2, **QUICK, column_types={"income": "positive"}).fit(table, validation_data=validation)


@pytest.mark.filterwarnings("ignore::vaefast.DataWarning")  # noise has nothing for latents to hold
def test_draws_and_means_of_a_positive_column_are_above_zero():
    """Or the model would refuse its own rows."""
    rng = np.random.default_rng(0)
    whole = np.ceil(np.exp(rng.normal(0, 1.5, 300))).astype(int)
    table = pd.DataFrame(
        {"times": whole, "price": np.round(np.exp(rng.normal(-3, 1, 300)), 2).clip(0.01), "kind": ["a", "b"] * 150}
    )
    vae = VAE(2, **QUICK, column_types={"times": "positive", "price": "positive"}).fit(table)
    drawn = vae.sample(2000, random_state=0)
    assert drawn["times"].min() == 1
    assert drawn["price"].min() == 0.01
    assert np.isfinite(vae.score_samples(drawn)).all()
    assert (vae.impute(table.mask(rng.random(table.shape) < 0.3))["times"] >= 1).all()


@pytest.mark.parametrize("huge", [float("inf"), 10**400])
def test_an_infinite_number_among_objects_is_refused_with_its_place(huge):
    rows = [[0.5 * at, "xyz"[at % 3]] for at in range(60)]
    rows[7][0] = huge
    with pytest.raises(DataError, match=r"X: row 7, column 0 \(both counted from 0\) is inf"):
        VAE(2, **QUICK, likelihood="mixed").fit(rows)


@pytest.mark.filterwarnings("ignore::vaefast.DataWarning")  # noise has nothing for latents to hold
def test_sparse_columns_of_pandas_are_columns_like_others():
    rng = np.random.default_rng(0)
    dense = pd.DataFrame({"a": np.where(rng.random(90) < 0.3, np.nan, rng.normal(size=90)), "b": rng.choice(["x", "y"], 90)})
    thin = dense.assign(a=pd.arrays.SparseArray(dense["a"].to_numpy(), fill_value=np.nan))
    models = [VAE(2, **QUICK).fit(table) for table in (dense, thin)]
    assert np.array_equal(models[0].score_samples(dense), models[1].score_samples(thin))
    assert models[1].sample(5, random_state=0).equals(models[0].sample(5, random_state=0))
    assert models[1].impute(thin).equals(models[0].impute(dense))
    flags = pd.get_dummies(dense["b"], sparse=True)
    assert np.array_equal(
        VAE(2, **QUICK).fit(flags).score_samples(flags), VAE(2, **QUICK).fit(flags.to_numpy()).score_samples(flags.to_numpy())
    )


OTHER_TYPES = [
    ("real", [1.5, 2.5, -1.0], "float64", [None, 2.5, -1.0], "float32"),
    ("real", [1.5, 2.5, -1.0], "float64", [None] * 3, "string"),
    ("binary", [True, False, True], "bool", [None, 0.0, 1.0], "float64"),
    ("binary", [True, False, True], "bool", [None] * 3, "float64"),
    ("categorical", ["x", "y", "z"], "object", [None] * 3, "float64"),
    ("categorical", ["x", "y", "z"], "category", [None] * 3, "float64"),
    ("count", [1, 0, 9], "Int64", [None, 0.0, 9.0], "float64"),
]


@pytest.mark.filterwarnings("ignore::vaefast.DataWarning")
@pytest.mark.parametrize(("kind", "values", "dtype", "others", "given"), OTHER_TYPES)
def test_impute_fills_columns_of_another_type_than_in_training(kind, values, dtype, others, given):
    size = np.random.default_rng(0).normal(size=60)
    table = pd.DataFrame({"size": size, "kind": ["a", "b"] * 30, "held": pd.Series(values * 20, dtype=dtype)})
    vae = VAE(2, **QUICK | {"epochs": 1, "engine": "reference"}, column_types={"held": kind}).fit(table)
    table["held"] = pd.Series(others * 20, dtype=given)
    filled = vae.impute(table, 20)["held"]
    assert filled.notna().all()
    there = table["held"].notna()
    assert filled[there].tolist() == table["held"][there].tolist()
    assert {*filled.tolist()} <= {*values} or kind in ("real", "count")


def test_rows_of_lists_are_interpolated(fitted, people):
    first, last = people.iloc[0], people.iloc[1]
    wanted = fitted.interpolate(first, last, 3)
    assert fitted.interpolate(first.tolist(), last.tolist(), 3).equals(wanted)
