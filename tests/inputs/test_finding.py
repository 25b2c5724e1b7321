"""What is a table and what are pictures, how both are split, and what a run keeps to find them again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaefast.data import Dataset, Reading, load
from vaefast.data.split import split_rows
from vaefast.errors import DataError, SettingsError
from vaefast.inputs import RunData, Source, finding, for_pictures, for_table
from vaefast.inputs.source import PICTURES, TABLE, recorded
from vaefast.models.settings import ValidationSettings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


GREY = np.random.default_rng(0).random((6, 4))
BITS = np.random.default_rng(0).integers(0, 2, (6, 4))
NAMES = ("age", "income", "height", "weight")


def csv(values, names=NAMES) -> str:
    np.savetxt("t.csv", values, delimiter=",", header=",".join(names), comments="")
    return "t.csv"


def test_a_table_is_split_as_pictures_are():
    values = np.random.default_rng(1).normal(size=(50, 4))
    found = finding.find(Source(csv(values), test_fraction=0.2))
    assert isinstance(found, finding.Table)
    assert len(found.test) == 10
    np.save("grey.npy", np.arange(50, dtype=np.float32)[:, None] / 50)
    pictures = load("grey.npy", how=Reading(test_fraction=0.2))
    assert np.array_equal(np.rint(pictures.test.values[:, 0] * 50), found.test)
    assert np.array_equal(np.rint(pictures.train.values[:, 0] * 50), found.train)
    assert np.array_equal(found.X, np.loadtxt("t.csv", delimiter=",", skiprows=1))
    assert found.names == NAMES


def test_all_rows_of_a_table_may_be_trained_on_but_not_all_of_pictures():
    found = finding.find(Source(csv(GREY), test_fraction=0.0))
    assert isinstance(found, finding.Table)
    assert (found.train.tolist(), found.test.tolist()) == ([0, 1, 2, 3, 4, 5], [])
    np.save("grey.npy", GREY)
    with pytest.raises(SettingsError, match="--test-fraction 0 leaves no test pictures"):
        finding.find(Source("grey.npy", test_fraction=0.0))


def test_one_row_cannot_be_split():
    with pytest.raises(DataError, match=r"t.csv holds 1 row: .* --test-fraction 0"):
        finding.find(Source(csv(GREY[:1])))


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2.0, float("nan")])
def test_a_share_that_is_none(fraction):
    with pytest.raises(SettingsError, match="test_fraction is"):
        Source("t.csv", test_fraction=fraction)


@pytest.mark.parametrize(
    ("scaling", "kind"), [("auto", "pictures"), ("grey", "pictures"), ("standard", "table"), ("none", "table")]
)
def test_scaling_says_what_numbers_are(scaling, kind):
    np.save("grey.npy", GREY)
    found = finding.find(Source("grey.npy", scaling=scaling))
    assert isinstance(found, Dataset) is (kind == "pictures")


def test_pictures_may_be_scaled_like_a_table():
    found = finding.find(Source("digits", scaling="standard"))
    assert isinstance(found, finding.Table)
    digits = load("digits")
    assert found.shape == (8, 8)
    assert np.array_equal(found.X[found.train], digits.train.values)
    assert np.array_equal(found.X[found.test], digits.test.values)


def prepared(source: Source, **validation: float) -> RunData:
    found = finding.find(source)
    settings = ValidationSettings(**validation)  # type: ignore[arg-type]
    if isinstance(found, Dataset):
        return for_pictures(found, source.likelihood, settings, 3)
    return for_table(found, source, settings, 3)


def test_parts_of_a_table_hold_what_was_given_and_what_the_networks_see():
    values = np.random.default_rng(1).normal(5.0, 2.0, size=(50, 4))
    data = prepared(Source(csv(values)), held_out=0.2)
    train, test = split_rows(50, 0.1)
    assert data.test is not None
    assert data.validation is not None
    assert np.array_equal(data.test.given, values[test])
    assert len(data.train), len(data.validation) == (36, 9)
    assert data.size == len(train)
    seen = (data.test.given - data.inputs.shift) / data.inputs.scale
    assert np.array_equal(data.test.values, seen.astype(np.float32))
    assert data.test.exact is not None
    assert np.array_equal(data.test.exact(np.array([2, 0])), seen[[2, 0]])
    trained = np.concatenate([data.inputs.leave(data.train), data.validation.given])
    assert np.allclose(np.sort(trained, axis=0), np.sort(values[train], axis=0), atol=1e-5)


def test_a_value_that_does_not_fit_is_named_by_its_row_in_the_file():
    values = np.round(GREY)
    values[4, 1] = 2.0
    with pytest.raises(DataError, match=r"t\.csv: line 6, column 2 'income' is 2\.0, but likelihood bernoulli"):
        prepared(Source(csv(values), likelihood="bernoulli"))
    np.savetxt("t.csv", values, delimiter=",")  # no header
    with pytest.raises(DataError, match=r"t\.csv: line 5, column 2 is 2\.0, but likelihood bernoulli"):
        prepared(Source("t.csv", likelihood="bernoulli", scaling="none"))
    np.save("t.npy", values)
    with pytest.raises(DataError, match=r"t\.npy: row 4, column 1 \(both counted from 0\) is 2\.0, but likelihood"):
        prepared(Source("t.npy", likelihood="bernoulli", scaling="none"))


def test_what_was_chosen_is_one_line_and_why():
    line = prepared(Source(csv(GREY))).choice
    assert line == (
        "t.csv: a table; 1 of its 6 rows are held out as the test set; likelihood gaussian (not every value is 0 or 1), "
        "scaling standard"
    )
    assert "likelihood bernoulli (every value is 0 or 1), scaling none" in prepared(Source(csv(BITS))).choice
    assert "likelihood gaussian, scaling none" in prepared(Source(csv(GREY), likelihood="gaussian", scaling="none")).choice
    np.save("grey.npy", GREY)
    assert prepared(Source("grey.npy")).choice == ""


def test_stray_values_are_said():
    values = np.random.default_rng(1).normal(size=(200, 4))
    values[17, 2] = 1e9
    (notice,) = prepared(Source(csv(values), test_fraction=0.0)).notices
    assert notice.startswith("t.csv: line 19, column 3 'height' is 1e+09")
    assert "scaling leaves such values out" in notice


def test_a_run_keeps_what_finds_its_data_again(tmp_path):
    table = Source("t.csv", None, "gaussian", "minmax", 0.25)
    assert recorded(table.record(TABLE, "t.csv")) == Source(
        str(tmp_path / "t.csv"), None, scaling="minmax", test_fraction=0.25, kind=TABLE
    )
    assert Source(None, Path("there")).record(PICTURES, "mnist") == {"data": "mnist", "data_dir": str(tmp_path / "there")}
    assert recorded({"data": "digits", "data_dir": None}) == Source("digits", kind=PICTURES)
