"""Frames of polars and tables of Arrow give the model of the same frame of pandas."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from vaefast import VAE, VAEDetector
from vaefast.errors import DataError
from vaefast.tables import frames
from vaefast.tables.frames import as_pandas

pl = pytest.importorskip("polars")

pytestmark = pytest.mark.filterwarnings("ignore::vaefast.DataWarning")
QUICK = {"hidden_layer_sizes": (8,), "epochs": 1, "engine": "reference", "random_state": 0}
ROWS = 60


@pytest.fixture
def polar():
    """Columns of all kinds, with gaps in three of them."""
    generator = np.random.default_rng(0)
    size = generator.normal(size=ROWS)
    return pl.DataFrame(
        {
            "size": [None if value > 1 else value for value in size],
            "visits": [
                None if value < -1 else int(count) for value, count in zip(size, generator.poisson(1, ROWS), strict=True)
            ],
            "town": [["Rome", None, "Oslo"][i % 3] for i in range(ROWS)],
            "smokes": [i % 2 == 0 for i in range(ROWS)],
            "grade": pl.Series(["b", "a"] * (ROWS // 2)).cast(pl.Enum(["b", "a"])),
        }
    )


def test_they_give_the_bits_of_pandas(polar):
    frame = as_pandas(polar)
    assert frame["visits"].dtype == "Int64"  # whole, where pandas alone would have made it float
    wanted = VAE(2, **QUICK).fit(frame)
    assert wanted.column_types_["visits"] == "count"
    for table in (polar, polar.to_arrow()):
        vae = VAE(2, **QUICK).fit(table)
        assert vae.column_types_ == wanted.column_types_
        assert np.array_equal(vae.transform(table), wanted.transform(frame))
        assert np.array_equal(vae.score_samples(table), wanted.score_samples(frame))
        assert np.array_equal(vae.transform(polar.select(polar.columns[::-1])), wanted.transform(frame))
        assert vae.sample(5, random_state=0).equals(wanted.sample(5, random_state=0))
    detector = VAEDetector(vae=VAE(2, **QUICK), n_samples=5)
    assert np.array_equal(detector.fit(polar).decision_scores_, detector.fit(frame).decision_scores_)


def test_numbers_alone_keep_their_names(polar):
    numbers = polar.select("size", pl.col("size").alias("again"))
    vae = VAE(2, **QUICK).fit(numbers)
    assert vae.feature_names_in_.tolist() == ["size", "again"]
    assert np.array_equal(vae.transform(numbers), VAE(2, **QUICK).fit(as_pandas(numbers)).transform(as_pandas(numbers)))
    assert isinstance(vae.set_output(transform="polars").transform(numbers), pl.DataFrame)


def test_impute_gives_back_what_it_took(polar):
    vae = VAE(2, **QUICK).fit(polar)
    wanted = vae.impute(as_pandas(polar), 20)
    filled = vae.impute(polar, 20)
    assert isinstance(filled, pl.DataFrame)
    assert filled.null_count().sum_horizontal().item() == 0
    assert filled["town"].to_list() == wanted["town"].tolist()
    assert filled["visits"].dtype == pl.Int64
    assert filled["visits"].to_list() == wanted["visits"].tolist()
    assert isinstance(vae.impute(polar.to_arrow(), 20), pa.Table)
    draws = vae.impute(polar, 20, multiple=2)
    assert [type(draw) for draw in draws] == [pl.DataFrame] * 2
    assert isinstance(vae.impute(filled), pl.DataFrame)  # nothing is missing
    assert [type(whole) for whole in vae.impute(filled, multiple=2)] == [pl.DataFrame] * 2


def test_columns_keep_their_types(polar):
    days = pl.Series("day", [datetime.date(2020, 1, 1 + i % 28) for i in range(ROWS)])
    large = pl.Series("id", [9007199254740993 + i for i in range(ROWS)])
    table = polar.with_columns(days, large, pl.col("visits").cast(pl.Int32), pl.col("size").cast(pl.Float32))
    vae = VAE(2, **QUICK).fit(table)
    filled = vae.impute(table, 20)
    assert filled.schema == table.schema
    assert filled["id"].equals(large)
    assert filled["day"].equals(days)
    arrow = table.to_arrow()
    assert vae.impute(arrow, 20).schema.types == arrow.schema.types


def test_covariates_and_weights(polar):
    X, known = np.random.default_rng(1).normal(size=(ROWS, 3)), polar.select("smokes", "grade")
    numbers = pl.Series("age", np.arange(ROWS))
    for given, same in (
        (known, known.to_pandas()),
        (numbers, numbers.to_pandas()),
        (known["grade"], known["grade"].to_pandas()),
        ({"age": numbers, "grade": known["grade"]}, {"age": numbers.to_numpy(), "grade": known["grade"].to_list()}),
    ):
        vae, wanted = VAE(2, **QUICK).fit(X, covariates=given), VAE(2, **QUICK).fit(X, covariates=same)
        assert vae._told.covariates == wanted._told.covariates
        assert np.array_equal(vae.score_samples(X, covariates=given), wanted.score_samples(X, covariates=same))
    weights = np.arange(ROWS) % 3
    weighted = VAE(2, **QUICK).fit(polar, sample_weight=pl.Series(weights))
    assert np.array_equal(
        weighted.transform(polar), VAE(2, **QUICK).fit(as_pandas(polar), sample_weight=weights).transform(polar)
    )


@pytest.mark.parametrize(
    "dates",
    [
        pd.Series(pd.date_range("2020-01-01", periods=ROWS)),
        np.arange(ROWS).astype("datetime64[D]"),
        [datetime.date(2020, 1, 1)] * ROWS,
        pl.Series([datetime.date(2020, 1, 1)] * ROWS),
        pd.Series(pd.to_timedelta(np.arange(ROWS), unit="D")),
    ],
)
def test_dates_are_no_covariates(dates):
    with pytest.raises(DataError, match="'seen' holds dates or times: give numbers, such as days since the first"):
        VAE(2, **QUICK).fit(np.random.default_rng(1).normal(size=(ROWS, 3)), covariates={"seen": dates})


def test_what_cannot_be_read_says_how(polar, monkeypatch):
    with pytest.raises(DataError, match=r"X is a lazy frame: give X\.collect\(\)"):
        VAE(2, **QUICK).fit(polar.lazy())
    monkeypatch.setattr(frames, "_package", lambda X: "polars")

    class Bare:
        def to_pandas(self):
            raise ModuleNotFoundError("pandas")

    with pytest.raises(DataError, match="X is a Bare of polars, which pandas reads: pip install pandas pyarrow"):
        as_pandas(Bare())


def arrow_column(values, kind):
    return pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array(values, kind)])))


@pytest.mark.parametrize("values", ["text", "numbers"])
@pytest.mark.parametrize("holes", [False, True])
def test_dictionaries_of_arrow_within_pandas_are_categories(polar, values, holes):
    levels = {"text": ["low", "high"], "numbers": [7, 5]}[values]
    given = [None if holes and i % 5 == 0 else levels[i % 2] for i in range(ROWS)]
    frame = pd.DataFrame({"size": np.arange(ROWS) + 0.5, "level": arrow_column(given, None).astype(object)})
    kind = pa.dictionary(pa.int8() if holes else pa.uint32(), pa.string() if values == "text" else pa.int64())
    twin = frame.assign(level=arrow_column(given, kind))
    seen = [*dict.fromkeys(value for value in given if value is not None)]
    frame = frame.assign(level=pd.Categorical(given, categories=seen))
    vae, wanted = VAE(2, **QUICK).fit(twin), VAE(2, **QUICK).fit(frame)
    assert np.array_equal(vae.transform(twin), wanted.transform(frame))
    assert vae.sample(9, random_state=0).equals(wanted.sample(9, random_state=0))
    filled = vae.impute(twin)["level"].astype(object)
    assert filled.tolist() == wanted.impute(frame)["level"].astype(object).tolist()
    assert not filled.isna().any()


@pytest.mark.parametrize("among", ["text", "numbers"])
@pytest.mark.parametrize("form", ["arrow", "objects"])
def test_decimals_of_a_data_base_are_numbers(among, form):
    numbers = np.round(np.random.default_rng(0).normal(size=(ROWS, 2)), 2)
    beside = {"town": ["Rome", "Oslo"] * (ROWS // 2)} if among == "text" else {}
    frame = pd.DataFrame({"price": numbers[:, 0], "size": numbers[:, 1], **beside})
    frame.loc[:4, "price"] = np.nan
    given = [None if value != value else Decimal(f"{value:.2f}") for value in frame["price"]]
    twin = frame.assign(price=arrow_column(given, pa.decimal128(9, 2)) if form == "arrow" else pd.Series(given, dtype=object))
    vae, wanted = VAE(2, **QUICK).fit(twin), VAE(2, **QUICK).fit(frame)
    assert np.array_equal(vae.transform(twin), wanted.transform(frame))
    pd.testing.assert_frame_equal(pd.DataFrame(vae.sample(5, random_state=0)), pd.DataFrame(wanted.sample(5, random_state=0)))
    pd.testing.assert_frame_equal(vae.impute(twin), wanted.impute(frame))
    whole = [Decimal("0.00") if value is None else value for value in given]
    kept = arrow_column(whole, pa.decimal128(9, 2)) if form == "arrow" else pd.Series(whole)
    told = [frame["price"].fillna(0), kept.rename("price")]
    of_told = [VAE(2, **QUICK).fit(numbers, covariates=covariates) for covariates in told]
    assert of_told[0]._told.covariates == of_told[1]._told.covariates


def test_fractions_are_not_cut_to_the_type_of_a_column(polar):
    """Whole numbers and truth values that a Gaussian fills in are numbers, in every kind of frame."""
    given = pl.DataFrame({"visits": [1, None, 3], "smokes": [True, None, False], "size": [0.5, 1.5, None]})
    frame = as_pandas(given)
    for table in (given, given.to_arrow()):
        filled = frame.astype({"visits": float, "smokes": float, "size": float}).fillna(
            {"visits": 0.97, "smokes": 0.03, "size": 2.0}
        )
        came = frames.as_it_came(filled, table)
        assert type(came) is type(table)
        assert came["visits"].to_pylist() == [1, 0.97, 3] if table is not given else came["visits"].to_list() == [1, 0.97, 3]
        assert list(came["smokes"].to_numpy()) == [1, 0.03, 0]
        whole = frames.as_it_came(filled.assign(visits=[1.0, 2.0, 3.0], smokes=[1.0, 1.0, 0.0]), table)
        assert whole.schema == table.schema


@pytest.mark.parametrize("gaps", [True, False])
def test_whole_numbers_past_those_of_float64_stay_exact(gaps):
    """Such as ids, beside a gap, too."""
    ids = [2**53 + 1, None if gaps else 7, 5, -(2**60) - 1]
    large = [2**64 - 1, None if gaps else 7, 5, 6]
    given = pl.DataFrame({"id": ids, "large": pl.Series(large, dtype=pl.UInt64), "small": [1, 2, None, 4]})
    for table in (given, given.to_arrow()):
        found = as_pandas(table)
        for name, values in (("id", ids), ("large", large)):
            assert [None if value is pd.NA else int(value) for value in found[name]] == values
        assert found["small"].dtype == "Int64"
        assert frames.as_it_came(found, table).equals(table)
    found = as_pandas(given["id"])
    assert [None if value is pd.NA else int(value) for value in found] == ids


@pytest.mark.parametrize("name", [None, "cell"])
def test_a_table_of_arrow_with_the_index_of_a_frame(name):
    """Its columns are found by their names."""
    frame = pd.DataFrame({"a": [1.0, np.nan, 3, 4], "b": [1, 2, 3, 4]}).iloc[[0, 1, 3]]
    frame.index = pd.Index([7, 8, 9], name=name)
    table = pa.Table.from_pandas(frame)
    assert as_pandas(table).equals(frame)
    index = table.column_names[-1]
    for given in (table, table.select([index, "a", "b"])):
        vae = VAE(1, **QUICK).fit(given)
        assert vae.feature_names_in_.tolist() == ["a", "b"]
        filled = vae.impute(given, 5)
        assert filled.column(index).to_pylist() == [7, 8, 9]
        assert filled["b"].to_pylist() == [1, 2, 4]
        assert filled["a"].null_count == 0
        assert filled.to_pandas().index.equals(frame.index)


def test_tables_with_two_columns_of_one_name_are_told_and_other_frames_pass():
    columns = [pa.array([1.5, 2.0, None]), pa.array([1, 2, None])]
    found = as_pandas(pa.Table.from_arrays(columns, names=["a", "a"]))
    assert [str(dtype) for dtype in found.dtypes] == ["float64", "Int64"]

    class Other:
        def to_pandas(self):
            return pd.DataFrame({"a": [1.0, np.nan]})

    assert as_pandas(Other()).equals(Other().to_pandas())
