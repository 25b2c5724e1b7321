"""Tables of columns of different kinds: which kind each column is, how it is encoded, and that it comes back as it was."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from vaefast.errors import DataError, SettingsError
from vaefast.models.settings import ModelSettings
from vaefast.tables.mixed import kinds
from vaefast.tables.mixed.fields import fields_of
from vaefast.tables.mixed.frames import table_of
from vaefast.tables.mixed.kinds import are_dates
from vaefast.tables.mixed.schema import Schema


def learned(table, column_types=None):
    fields = fields_of(table)
    schema, left_out = Schema.learned(fields, column_types)
    return schema, schema.encoded(fields), left_out


def kinds_of(table, column_types=None):
    return {column.name: column.kind for column in learned(table, column_types)[0].columns}


@pytest.fixture
def people():
    """400 people with a column of every kind, and of kinds that cannot be used."""
    generator = np.random.default_rng(0)
    rows = 400
    return pd.DataFrame(
        {
            "name": [f"person {i}" for i in range(rows)],
            "born": pd.date_range("1950-01-01", periods=rows),
            "age": generator.integers(18, 90, rows),
            "height": generator.normal(170, 9, rows),
            "income": np.exp(generator.normal(10, 1, rows)),
            "return": generator.standard_t(3, rows),
            "visits": generator.negative_binomial(1, 0.3, rows),
            "smokes": generator.random(rows) < 0.3,
            "sex": generator.choice(["f", "m"], rows),
            "town": generator.choice(["Rome", "Lima", "Oslo"], rows),
            "size": pd.Categorical(generator.choice(["S", "M", "L"], rows), ["S", "M", "L", "XL"], ordered=True),
            "treated": generator.integers(1, 3, rows),
            "flag": generator.choice([0.0, 1.0], rows),
            "planet": "Earth",
            "empty": np.nan,
        }
    )


# --- Which kind


def test_the_kind_of_each_column_goes_by_its_type_and_values(people):
    schema, _, left_out = learned(people)
    assert {column.name: column.kind for column in schema.columns} == {
        "name": None, "born": None, "age": "real", "height": "real", "income": "positive", "return": "heavy-tailed",
        "visits": "count", "smokes": "binary", "sex": "binary", "town": "categorical", "size": "categorical",
        "treated": "binary", "flag": "binary", "planet": None, "empty": None,
    }  # fmt: skip
    assert dict(left_out) == {
        "name": "text that is different in most rows", "born": "dates or times", "planet": "one value in every row",
        "empty": "nothing but missing values",
    }  # fmt: skip
    # The unused size is a level, too.
    assert schema.blocks == (
        ("gaussian", 3), ("student-t", 1), ("negative-binomial", 1), ("bernoulli", 4), ("categorical", 3), ("categorical", 4),
    )  # fmt: skip
    ModelSettings(schema.width, likelihood="mixed", columns=schema.blocks)


def test_the_kind_does_not_depend_on_the_order_of_the_rows(people):
    shuffled = people.sample(frac=1, random_state=1)
    assert learned(shuffled)[0] == learned(people)[0]


def test_a_user_can_say_the_kind(people):
    asked = {"visits": "real", "age": "count", "treated": "categorical", "name": "categorical", "height": "positive"}
    found = kinds_of(people, asked)
    assert {name: found[name] for name in asked} == asked
    with pytest.raises(SettingsError, match="'weight', which is no column"):
        learned(people, {"weight": "real"})
    with pytest.raises(SettingsError, match="'integer' for 'age': choose real, positive"):
        learned(people, {"age": "integer"})
    with pytest.raises(DataError, match=r"'town' holds the text .* cannot be real"):
        learned(people, {"town": "real"})
    with pytest.raises(DataError, match=r"'age' has 7\d different values, and cannot be binary"):
        learned(people, {"age": "binary"})
    with pytest.raises(DataError, match="'born' holds dates or times, and cannot be categorical"):
        learned(people, {"born": "categorical"})
    with pytest.raises(DataError, match=r"row \d+ .*, column 'height' .* positive"):
        learned(people.assign(height=-people["height"]), {"height": "positive"})
    with pytest.raises(DataError, match=r"row 0 .*, column 'height' is 17[\d.]+, but the column is one of counts"):
        learned(people.assign(height=171.5), {"height": "count"})


def test_whole_numbers_with_holes_stay_whole_numbers(people):
    holed = people[["visits", "age", "treated"]].astype(float)
    holed.iloc[::7] = np.nan
    assert kinds_of(holed) == {"visits": "count", "age": "real", "treated": "binary"}
    schema, encoded, _ = learned(holed)
    pd.testing.assert_frame_equal(table_of(schema, encoded), holed)
    assert kinds_of(people[["visits"]].astype(float))["visits"] != "count"


def test_a_table_of_which_nothing_can_be_used_is_refused(people):
    with pytest.raises(DataError, match=r"no column can be used: 'name' \(text .*'born' \(dates"):
        learned(people[["name", "born"]])


def test_thresholds_of_kinds():
    generator = np.random.default_rng(3)
    normal = np.sort(generator.normal(size=20_000))
    assert kinds.geary(normal) == pytest.approx(np.sqrt(2 / np.pi), abs=0.01)
    assert kinds.geary(np.sort(generator.laplace(size=20_000))) == pytest.approx(np.sqrt(1 / 2), abs=0.01)
    # A log-normal of spread s: log sd(x) - log s, less the mean of the logarithm.
    expected = 0.5 * np.log((np.exp(0.25) - 1) * np.exp(0.25)) - np.log(0.5)
    assert kinds.gain_of_logarithm(np.exp(0.5 * normal) * 1e150) == pytest.approx(expected, abs=0.02)
    assert kinds.gain_of_logarithm(normal) == 0
    assert kinds.is_count(np.array([0.0, 0, 1, 4]))
    assert not kinds.is_count(np.array([30.0, 40, 50]))
    assert not kinds.is_count(np.array([-1.0, 0, 1, 4]))
    assert kinds.is_identifier(21, 41)
    assert not kinds.is_identifier(20, 20)
    assert not kinds.is_identifier(21, 42)


# --- There and back


def test_a_table_comes_back_with_its_columns_order_and_types(people):
    schema, encoded, _ = learned(people)
    assert encoded.dtype == np.float64
    assert np.isfinite(encoded).all()
    usable = people.drop(columns=["name", "born", "planet", "empty"])
    pd.testing.assert_frame_equal(table_of(schema, encoded), usable, rtol=1e-14)
    again = Schema.from_json(json.loads(json.dumps(schema.as_json())))
    assert again == schema


def test_what_is_missing_comes_back_missing(people):
    usable = people.drop(columns=["name", "born", "planet", "empty"])
    holed = usable.convert_dtypes().mask(np.random.default_rng(1).random(usable.shape) < 0.2)
    schema, encoded, _ = learned(holed)
    for column in schema.used:
        whole_groups = np.isnan(encoded[:, column.place])
        assert (whole_groups.all(axis=1) == holed[column.name].isna()).all()
        assert (whole_groups.any(axis=1) == whole_groups.all(axis=1)).all()
    pd.testing.assert_frame_equal(table_of(schema, encoded), holed, rtol=1e-14)


def test_types_without_room_for_holes_become_nullable_ones(people):
    schema, encoded, _ = learned(people)
    encoded[3] = np.nan
    types = table_of(schema, encoded).dtypes
    assert (types["age"], types["smokes"], types["height"]) == ("Int64", "boolean", "float64")
    assert table_of(schema, encoded).iloc[3].isna().all()


def test_numbers_that_a_type_cannot_hold_go_to_its_ends():
    table = pd.DataFrame({"a": np.array([1, 5, 9], np.uint8), "b": np.array([5, 2, -4], np.int64)})
    schema, encoded, _ = learned(table, {"a": "real", "b": "real"})
    encoded[0] = (-3.7, 1e300)
    encoded[1] = (300.2, -1e300)
    back = table_of(schema, encoded)
    assert back["a"].tolist() == [0, 255, 9]
    assert back["b"].tolist()[2] == -4
    assert back["b"][0] > 9e18
    assert back["b"][1] < -9e18


def test_draws_have_the_decimals_of_the_training_data():
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "a": generator.normal(size=90).round(1),
            "b": generator.normal(size=90),
            "c": generator.normal(0, 1e6, 90).round(),
            "d": 1e300,
        }
    )
    schema, encoded, _ = learned(table)
    assert [column.decimals for column in schema.columns] == [1, None, 0, None]
    between = encoded + 1 / 3
    assert np.array_equal(table_of(schema, between), between)
    drawn = table_of(schema, between, drawn=True)
    assert np.array_equal(drawn["a"], between[:, 0].round(1))
    assert np.array_equal(drawn["b"], between[:, 1])
    assert np.array_equal(drawn["c"], between[:, 2].round())
    assert Schema.from_json(schema.as_json()) == schema


LABELS = st.one_of(st.text(max_size=3), st.integers(-5, 5))
COLUMNS = {
    "float64": st.floats(-1e6, 1e6, allow_nan=False),
    "int64": st.integers(-(2**53), 2**53),
    "uint8": st.integers(0, 255),
    "bool": st.booleans(),
    "str": st.text(alphabet="abcdé ", max_size=2),
    "object": LABELS,
    "Int64": st.one_of(st.none(), st.integers(-1000, 1000)),
    "Float64": st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False)),
    "boolean": st.one_of(st.none(), st.booleans()),
    "category": st.one_of(st.none(), st.sampled_from(["x", "y", "z"])),
    "string": st.one_of(st.none(), st.sampled_from(["x", "y", "z"])),
}


@st.composite
def frames(draw):
    rows = draw(st.integers(2, 25))
    types = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=6))
    names = draw(
        st.lists(st.one_of(st.text(max_size=3), st.integers(0, 9)), min_size=len(types), max_size=len(types), unique=True)
    )
    columns = {}
    for name, dtype in zip(names, types, strict=True):
        columns[name] = pd.Series(draw(st.lists(COLUMNS[dtype], min_size=rows, max_size=rows)), dtype=dtype)
    return pd.DataFrame(columns)


@given(frames())
@settings(max_examples=300, deadline=None)
def test_any_table_is_decoded_to_what_was_encoded(frame):
    try:
        schema, encoded, left_out = learned(frame)
    except DataError:
        reject()
    assert encoded.shape == (len(frame), schema.width)
    kept = frame.drop(columns=[each.name for each in left_out])
    back = table_of(Schema.from_json(json.loads(json.dumps(schema.as_json()))), encoded, frame.index)
    pd.testing.assert_frame_equal(back, kept, rtol=1e-12, check_column_type=False)
    for column in schema.used:
        if column.kind != "positive":
            assert back[column.name].equals(kept[column.name])
    # A shuffled table with its columns in another order is encoded alike.
    order = np.random.default_rng(0).permutation(len(frame))
    turned = frame.iloc[order, ::-1]
    assert np.array_equal(schema.encoded(fields_of(turned)), encoded[order], equal_nan=True)


def test_arrays_have_places_for_names():
    table = np.array([[1.5, "a", 3], [2.5, "b", None], [0.25, "c", 0], [-3.0, None, 7]], dtype=object)
    schema, encoded, _ = learned(table)
    assert not schema.named
    assert [column.name for column in schema.columns] == [0, 1, 2]
    assert [column.kind for column in schema.columns] == ["real", "categorical", "count"]
    back = table_of(schema, encoded)
    assert back.dtype == object
    assert np.array_equal(back, table)
    with pytest.raises(DataError, match="X has 2 features, but VAE is expecting 3 features as input"):
        schema.encoded(fields_of(table[:, :2]))
    numbers = np.array([[0, 2.5, 3], [1, 1.5, 0], [1, 0.5, 9]])
    schema, encoded, _ = learned(np.ma.masked_equal(numbers, 9))
    back = table_of(schema, encoded)
    assert back.dtype == np.float64
    assert np.array_equal(back, np.where(numbers == 9, np.nan, numbers), equal_nan=True)


# --- Tables that do not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.assign(town=t["town"].where(t.index != 7, "Cairo")),
            r"row 7 .*, column 'town' is 'Cairo', which training",
        ),
        (lambda t: t.assign(treated=t["treated"].where(t.index != 5, 3)), r"row 5 .*, column 'treated' is 3, .*one of 1, 2,"),
        (lambda t: t.drop(columns="age"), "X lacks the column 'age'"),
        (lambda t: t.assign(weight=1.0), "X has the column 'weight', which the model was not trained with"),
        (lambda t: t.assign(visits=t["visits"] - 1), r"row \d+ .*, column 'visits' is -1, but the column is one of counts"),
        (lambda t: t.assign(visits=t["visits"] + 0.5), r"row 0 .*, column 'visits' is .*\.5, but the column is one of counts"),
        (lambda t: t.assign(income=0.0), r"row 0 .*, column 'income' is 0, but the column is positive"),
        (lambda t: t.assign(height=t["height"].where(t.index != 2, np.inf)), r"row 2 .*, column 'height' is inf, .*infinite"),
        (lambda t: t.assign(height="tall"), r"row 0 .*, column 'height' is the text 'tall', but the column was real"),
        (lambda t: t.assign(town=t["born"]), "column 'town' holds dates or times, but was categorical in training"),
        (lambda t: t.assign(height=t["born"]), "column 'height' holds dates or times, but was real in training"),
        (lambda t: t.set_axis([*t.columns[:-1], "age"], axis=1), "two columns are called 'age'"),
        (lambda t: t.rename(columns={"age": 2.5}), r"a column is called 2\.5"),
    ],
)
def test_tables_that_do_not_fit_are_refused_in_one_line(people, change, message):
    schema, _, _ = learned(people)
    with pytest.raises(DataError, match=message) as caught:
        schema.encoded(fields_of(change(people)))
    assert "\n" not in str(caught.value)


def test_columns_that_were_left_out_may_be_there_or_not(people):
    schema, encoded, _ = learned(people)
    bare = people[["town", "age"] + [c for c in people if c not in ("town", "age", "name", "born", "planet", "empty")]]
    assert np.array_equal(schema.encoded(fields_of(bare)), encoded)


def test_a_damaged_schema_is_refused(people):
    content = learned(people)[0].as_json()
    for wrong in (
        {**content, "columns": [{**content["columns"][2], "kind": "odd"}]},
        {**content, "columns": [{**content["columns"][8], "levels": ["f"]}]},
        {**content, "columns": [{**content["columns"][9], "levels": [["f"], "g"]}]},
        {"named": True},
    ):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Schema.from_json(wrong)


def test_log_slopes_are_those_of_positive_columns(people):
    schema, encoded, _ = learned(people)
    slopes = schema.log_slopes(encoded)
    at = next(column for column in schema.used if column.name == "income").start
    assert np.allclose(slopes[:, at], np.log(people["income"]))
    assert not np.delete(slopes, at, axis=1).any()
    summed = schema.by_column(np.ones_like(encoded))
    assert (summed[0] == [column.width for column in schema.used]).all()


@pytest.mark.parametrize(
    "text",
    ["2024-02-01", "2024-2-1 09:30", "2024-02-01T09:30:05.25Z", "1.2.2024", "01/02/24", "2024/02/01", "9:30", "09:30:00 PM",
     "2024-02-01 09:30:00+01:00"],
)  # fmt: skip
def test_text_that_is_dates_or_times_is_left_out(text):
    assert are_dates([text])
    table = pd.DataFrame({"when": [text] * 5 + ["2020-01-01"] * 5, "x": np.arange(10.0)})
    schema, left_out = Schema.learned(fields_of(table))
    assert [(column.name, column.reason) for column in left_out] == [("when", "dates or times")]
    assert schema.kinds == {"x": "real"}
    assert Schema.learned(fields_of(table), {"when": "binary"})[0].kinds["when"] == "binary"


@pytest.mark.parametrize(
    "text", ["1-2", "2024", "12-34-567", "1.2.3.4", "9:3", "2024-02", "Feb 2024", "a 2024-02-01", "1/2.2024"]
)
def test_text_that_is_no_date_is_used(text):
    assert not are_dates([text, "2020-01-01"])


def test_a_positive_number_of_any_size_has_a_logarithm():
    assert np.isfinite(kinds.gain_of_logarithm(np.array([5e-324, 1.0, 2.0])))
