"""Flags that come twice, that belong to something else, values that begin with a dash, and values of TOML files."""

import contextlib
import io
import json
import os
import stat

import numpy as np
import pandas as pd
import pytest
from faults import runs

from vaefast import evaluate, impute, sample, transform
from vaefast.cli import console
from vaefast.cli.options import parse
from vaefast.errors import SettingsError
from vaefast.evaluate import parse as parse_evaluation
from vaefast.files import atomic
from vaefast.runs.run_folder import is_barely_begun

TINY = ("--engine", "reference", "--latent", "2", "--hidden", "6", "--epochs", "1", "--seed", "0", "--threads", "1")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Two columns that go together, whole numbers, text, and two covariates, one of whose names holds a sign."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    size = rng.normal(size=(60, 1))
    frame = pd.DataFrame(size + 0.1 * rng.normal(size=(60, 2)), columns=["long", "wide"])
    frame["eggs"], frame["town"] = rng.poisson(1, 60), np.array(["Oslo", "Rome", "Bonn"])[rng.integers(0, 3, 60)]
    frame["batch"], frame["dose=mg"] = np.array(["x", "y"])[rng.integers(0, 2, 60)], rng.normal(size=60)
    frame.to_csv("birds.csv", index=False)
    return frame


def trained(*flags, code=0):
    found, out, err = runs.command(*TINY, *flags)
    assert found == code, err
    return out, err


def called(main, *arguments, code=0):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        found = main([*map(str, arguments)])
    assert found == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def refused(arguments, *words, by=parse):
    with pytest.raises(SettingsError) as caught:
        by([*arguments])
    for word in words:
        assert word in str(caught.value)


# --- Several values


@pytest.mark.parametrize("name", ["covariates", "missing", "column_types"])
def test_a_flag_of_several_values_may_come_several_times(name):
    flag, values = f"--{name.replace('_', '-')}", ("age=real", "batch=count")
    assert getattr(parse([flag, values[0], flag, values[1]]), name) == values
    assert getattr(parse([flag, *values]), name) == values
    assert parse(["--hidden", "9", "--hidden", "8", "7"]).model.hidden == (8, 7)  # the last, as of all others


def test_values_that_begin_with_a_dash():
    assert parse(["--missing=-x", "--missing=--", "--missing", "NA", "-5"]).missing == ("-x", "--", "NA", "-5")
    assert evaluate.missing_of(runs.Path("anywhere"), parse_evaluation(["run", "--missing=--"]).missing) == ("--",)
    for given in (("-x",), ("NA", "-1e9"), ("-n/a-", "NA")):
        word = next(word for word in given if word.startswith("-"))
        refused(("--missing", *given), f"a value that begins with a dash is given as --missing={word}")
    refused(("--latent", "2", "-x"), "unrecognized arguments: -x")


# --- Settings of something that is not asked for


@pytest.mark.parametrize(
    ("flags", "needs", "remedy"),
    [
        (("--objective", "beta", "--warm-up-epochs", "20"), "kl_warm_up", "--kl-warm-up linear"),
        (("--warm-up-epochs", "20"), "kl_warm_up", "--objective beta --kl-warm-up linear"),
        (("--validation", "6", "--min-improvement", "0.5"), "patience", "--patience 10"),
        (("--min-improvement", "0.5"), "patience", "--validation 0.1 --patience 10"),
    ],
)
def test_a_setting_of_something_that_is_not_asked_for_is_refused(flags, needs, remedy):
    refused(flags, f"which counts with {needs} only: add {remedy}, or")
    assert parse([*flags, *remedy.split()]).given
    off = {"kl_warm_up": ("--kl-warm-up", "none"), "patience": ("--patience", "0")}[needs]
    assert parse([*flags, *off]).given


# --- TOML files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("test-fraction = 1979-05-27", "test-fraction is 1979-05-27: give a number"),
        ("test-fraction = false", "test-fraction is False: give a number"),
        ("beta = 1" + 400 * "0", "beta is 1000"),
        ('distributed = "nccl"', "distributed is 'nccl': choose auto, mpi"),
        ('scaling = "foo"', "scaling is 'foo': choose"),
    ],
)
def test_values_of_a_file_are_checked_as_those_of_flags(tmp_path, text, message):
    (tmp_path / "a.toml").write_text(text + "\n")
    refused(("--config", str(tmp_path / "a.toml")), message)


def test_a_file_of_an_editor_that_marks_its_encoding(tmp_path):
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbflatent = 3\r\nlearning-rate = "auto"\r\nvalidation = 6\r\n')
    options = parse(["--config", str(tmp_path / "a.toml")])
    assert (options.model.latent, options.training.validation.held_out) == (3, 6)


def test_a_run_with_whole_numbers_for_fractions_is_resumed_and_evaluated(table):
    """Of a TOML file, in which 0 is none; and of runs that recorded them so."""
    with open("a.toml", "w") as file:
        file.write('data = "birds.csv"\ntest-fraction = 0\nlikelihood = "mixed"\nlabel = "batch"\n')
    trained("--config", "a.toml", "--out", "run")
    assert "nothing to do" in trained("--resume", "run")[0]
    source = json.dumps({"test_fraction": 0.0})
    for path in os.scandir("run/checkpoint"):
        if path.name.endswith(".json"):
            with open(path) as file:
                assert source[1:-1] in file.read() or "manifest" in path.name
    from vaefast.inputs.source import recorded

    assert type(recorded({"data": "x.csv", "data_dir": None, "kind": "table", "test_fraction": 0}).test_fraction) is float


# --- A run from a model


def test_a_start_from_a_model_has_its_kinds_and_its_missing_values(table):
    table.loc[3, "long"] = -999
    table.to_csv("birds.csv", index=False)
    trained("--data", "birds.csv", "--column-types", "eggs=count", "--missing", "-999", "--out", "first")
    trained("--data", "birds.csv", "--start-from", "first", "--column-types", "3=count", "--out", "second")
    trained("--data", "birds.csv", "--start-from", "first", "--missing", "-999", "--out", "again")
    second, again = (json.loads(runs.Path(name, "metrics.jsonl").read_text()) for name in ("second", "again"))
    assert second["train_elbo"] == again["train_elbo"]
    assert evaluate.missing_of(runs.Path("second"), None) == ("-999",)
    for asked in ("eggs=real", "3=real", "nothing=real"):
        err = trained("--data", "birds.csv", "--start-from", "first", "--column-types", asked, "--out", "third", code=2)[1]
        assert "leave out --column-types" in err


def test_numbers_of_columns_count_those_of_the_file_in_a_start_from_a_model_too(table):
    """Of which labels are none of the model's."""
    table[["town", "long", "wide", "eggs"]].to_csv("labelled.csv", index=False)
    flags = ("--data", "labelled.csv", "--label", "town")
    trained(*flags, "--column-types", "4=count", "--out", "first")
    trained(*flags, "--column-types", "4=count", "--start-from", "first", "--out", "second")
    assert (
        "first has long as real" not in trained(*flags, "--column-types", "2=real", "--start-from", "first", "--out", "z")[1]
    )
    err = trained(*flags, "--column-types", "3=count", "--start-from", "first", "--out", "third", code=2)[1]
    assert "but this run count: leave out --column-types" in err


# --- Evaluation


def test_a_file_without_a_header_is_evaluated_where_it_holds_the_labels(table):
    for name, labels in (("words", table["town"]), ("numbers", pd.factorize(table["town"])[0])):
        table[["long", "wide"]].assign(label=labels).to_csv(f"{name}.csv", index=False, header=False)
        trained("--data", f"{name}.csv", "--label", "3", "--out", name)
        flags = ("--samples", "5", "--no-figures", "--json", "--engine", "reference")
        whole, own = (json.loads(called(evaluate.main, name, *flags, *more)[0]) for more in ((), ("--data", f"{name}.csv")))
        assert whole["elbo"] == own["elbo"]


@pytest.mark.parametrize("flag", ["--missing", "--layer"])
def test_flags_of_other_data_are_refused_without_them(table, flag):
    trained("--data", "birds.csv", "--out", "run")
    assert f"{flag} is for --data" in called(evaluate.main, "run", flag, "x", code=2)[1]
    err = called(evaluate.main, "run", "--samples", "5", "--no-figures", "--engine", "reference", "--data-dir", "nowhere")[1]
    assert "--data-dir nowhere is not used" in err


def test_the_numbers_are_said_before_they_are_written(table, monkeypatch):
    trained("--data", "birds.csv", "--out", "run")

    def full(path, content):
        raise atomic.cannot_write(path, OSError(28, "No space left on device"))

    monkeypatch.setattr(atomic, "write_bytes", full)
    out, err = called(evaluate.main, "run", "--samples", "5", "--no-figures", "--engine", "reference", code=6)
    assert "log p(x)" in out
    assert "No space left" in err


# --- Where results go


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_computed(table, monkeypatch):
    trained("--data", "birds.csv", "--out", "run")
    os.mkdir("closed")
    os.symlink("nowhere/z.csv", "link.csv")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and real(path, mode))
    monkeypatch.setattr("vaefast.estimator.load", None)
    read = ("run", "--data", "birds.csv")
    for main in (transform.main, impute.main):
        assert "/dev/null is a pipe or a device" in called(main, *read, "--out", "/dev/null", code=6)[1]
        assert "cannot be written to: choose another --out" in called(main, *read, "--out", "closed/z.csv", code=6)[1]
        assert "nowhere of --out link.csv does not exist" in called(main, *read, "--out", "link.csv", code=6)[1]
    assert "closed cannot be written to" in called(evaluate.main, "run", "--out", "closed", "--samples", "5", code=6)[1]


@pytest.mark.parametrize("text", ["~$birds.csv", "~nobody-at-all/z.csv"])
def test_a_path_of_a_home_that_there_is_not_is_a_path(table, text):
    trained("--data", "birds.csv", "--out", "run")
    for main in (transform.main, impute.main):
        err = called(main, "run", "--data", text, "--out", "z.csv", code=3)[1]
        assert text in err
        assert "internal error" not in err
    assert "internal error" not in called(evaluate.main, "run", "--data", text, code=3)[1]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_private_file_that_is_replaced_stays_private(tmp_path):
    path = tmp_path / "patients.csv"
    for mode in (0o600, 0o664, 0o640):
        path.write_bytes(b"old")
        path.chmod(mode)
        atomic.write_bytes(path, b"new")
        assert path.read_bytes() == b"new"
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize(("main", "advice"), [(sample.main, "fewer --rows"), (transform.main, "fewer --samples")])
def test_where_memory_ends_each_command_names_its_own_flags(table, monkeypatch, main, advice):
    trained("--data", "birds.csv", "--out", "run")

    def none_left(*arguments, **named):
        raise MemoryError

    monkeypatch.setattr("vaefast.estimator.load", none_left)
    flags = ("--rows", "5") if main is sample.main else ("--data", "birds.csv")
    err = called(main, "run", *flags, "--out", "z.csv", code=2)[1]
    assert advice in err
    assert "--hidden" not in err
    assert "--hidden" in console.SMALLER


# --- Runs that ended before their first checkpoint


def test_a_run_that_ended_before_its_first_checkpoint_says_how_to_begin_again(table):
    os.makedirs("dead/tensorboard")
    with open("dead/settings.json", "w") as file:
        file.write("{}")
    assert is_barely_begun(runs.Path("dead"))
    remedy = "start it anew with --resume auto --out dead"
    assert remedy in trained("--data", "birds.csv", "--out", "dead", code=2)[1]
    assert remedy in trained("--resume", "dead", code=4)[1]
    trained("--data", "birds.csv", "--resume", "auto", "--out", "dead")


def test_a_run_goes_on_writing_tensorboards_files(table, monkeypatch):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    trained("--data", "birds.csv", "--tensorboard", "--out", "run")
    written = {path.name for path in os.scandir("run/tensorboard")}
    trained("--resume", "run", "--epochs", "2")
    assert {path.name for path in os.scandir("run/tensorboard")} > written
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    assert "the run goes on without TensorBoard's files" in trained("--resume", "run", "--epochs", "3")[1]


def test_shards_in_a_folder_whose_name_is_a_pattern_are_found_again(tmp_path, monkeypatch):
    (tmp_path / "p[1]" / "shards").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "p[1]")
    for name in ("a", "b"):
        runs.tiny_images(runs.Path("shards") / f"{name}.npy")
    trained("--data", "shards/*.npy", "--batch-size", "7", "--out", "run")
    assert "nothing to do" in trained("--resume", "run")[0]


# --- Columns and covariates


def test_kinds_of_a_column_by_its_name_and_its_number_are_refused(table):
    err = trained("--data", "birds.csv", "--column-types", "eggs=real", "3=count", "--out", "run", code=2)[1]
    assert "column_types has the column '3' twice, by its name and its number" in err


def test_covariates_of_new_rows_may_have_any_name_and_come_once(table):
    trained("--data", "birds.csv", "--covariates", "batch", "dose=mg", "--out", "run")
    known = ("run", "--rows", "5", "--covariates", "batch=x")
    called(sample.main, *known, "--covariates", "dose=mg=0.5", "--out", "new.csv")
    assert len(pd.read_csv("new.csv")) == 5
    assert "batch twice: give it once" in called(sample.main, *known, "batch=y", "dose=mg=1", "--out", "x.csv", code=2)[1]
    assert "which is no NAME=VALUE" in called(sample.main, *known, "dose=5", "--out", "x.csv", code=2)[1]
