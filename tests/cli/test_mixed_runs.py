"""Tables of columns of different kinds on the command line: the model of `vaefast.VAE` bit for bit, and what comes of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests import mpi
from tests.faults import runs
from vaefast import VAE, engines, evaluate, impute, load, transform
from vaefast.data.split import split_rows
from vaefast.engines import threads
from vaefast.files import model_file
from vaefast.runs.interruption import EXIT_CODES

ENGINES = [name for name in ("cython", "numba") if engines.why_not(name) is None] or ["reference"]
ENGINE = ENGINES[0]
ROWS = 120
SETTINGS = ("--hidden", "8", "--latent", "2", "--batch-size", "25", "--seed", "5", "--epochs", "2", "--threads", "1")
SAME: dict[str, Any] = {
    "n_components": 2, "hidden_layer_sizes": (8,), "batch_size": 25, "random_state": 5, "epochs": 2, "n_jobs": 1,
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse", "ignore:X. ")


def birds() -> pd.DataFrame:
    """Text, measurements, counts, whole numbers, true and false, a date and notes, with holes in most of them."""
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 3, ROWS)
    table = pd.DataFrame({
        "species": np.array(["Adelie", "Chinstrap", "Gentoo"])[kind],
        "bill": np.round(np.array([38.8, 48.8, 47.5])[kind] + generator.normal(size=ROWS), 1),
        "flipper": np.round(np.array([190.0, 196.0, 217.0])[kind] + 5 * generator.normal(size=ROWS)),
        "eggs": generator.poisson(1.5, ROWS),
        "tagged": generator.random(ROWS) < 0.4,
        "sex": generator.choice(["female", "male"], ROWS),
        "seen": pd.date_range("2024-01-01", periods=ROWS).strftime("%Y-%m-%d"),
        "note": [f"bird {i}, found" for i in range(ROWS)],
    })  # fmt: skip
    for column, share in (("species", 0.05), ("bill", 0.1), ("flipper", 0.1), ("sex", 0.1)):
        table.loc[generator.random(ROWS) < share, column] = None
    return table


TABLE = birds()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with `birds.csv`, in which whole numbers with holes are whole numbers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    monkeypatch.setattr(threads, "granted_cores", lambda: 2)
    written().to_csv("birds.csv", index=False)


def written(table: pd.DataFrame = TABLE) -> pd.DataFrame:
    return table.assign(flipper=table["flipper"].astype("Int64"))


def train(*flags: str, engine: str = ENGINE, out: str = "run", data: str = "birds.csv") -> tuple[int, str, str]:
    return runs.command("--data", data, *SETTINGS, "--engine", engine, "--out", out, *flags)


def trained_on(table: pd.DataFrame, fraction: float = 0.1) -> pd.DataFrame:
    return table.iloc[np.sort(split_rows(len(table), fraction)[0])] if fraction else table


def metrics(folder: str = "run") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def called(main: Callable[[list[str]], int], capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    return main([*arguments]), *capfd.readouterr()


# --- Both doors


CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "as it is": ((), {}),
    "by name": (("--likelihood", "mixed"), {"likelihood": "mixed"}),
    "kinds": (
        ("--column-types", "eggs=real", "flipper=heavy-tailed", "bill=positive"),
        {"column_types": {"eggs": "real", "flipper": "heavy-tailed", "bill": "positive"}},
    ),
    "by number": (("--column-types", "4=categorical"), {"column_types": {"eggs": "categorical"}}),
    "no scaling": (("--likelihood", "mixed", "--scaling", "none"), {"likelihood": "mixed", "scaling": None}),
    "a share held out": (
        ("--validation", "0.2", "--patience", "1", "--missing-indicator"),
        {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 1, "tol": 0.0, "missing_indicator": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES)
def test_the_model_is_that_of_the_estimator(case, engine):
    flags, parameters = CASES[case]
    code, _, err = train(*flags, engine=engine)
    assert code == 0, err
    table = pd.read_csv("birds.csv")
    vae, loaded = VAE(**SAME, **parameters, engine=engine).fit(trained_on(table)), load("run")
    assert vae.likelihood_ == "mixed"
    assert loaded._network.model == vae._network.model
    assert np.array_equal(loaded._network.state.parameters, vae._network.state.parameters)
    assert loaded.column_types_ == vae.column_types_
    assert [*loaded.feature_names_in_] == [*table.columns]
    assert np.array_equal(loaded.score_samples(table), vae.score_samples(table))
    lines = metrics()
    for key in ("train_objective", "train_elbo", "train_log_likelihood", "train_kl", "validation_elbo"):
        assert [line[key] for line in lines if key in line] == vae.history_.get(key, [])
    test = table.iloc[split_rows(ROWS, 0.1)[1]]
    assert lines[-1]["test_elbo"] == pytest.approx(loaded.score_samples(test, n_samples=1).mean(), abs=1e-5)


NUMBERS = np.random.default_rng(1)
RULE: dict[str, tuple[pd.DataFrame, str]] = {
    "reals": (pd.DataFrame(NUMBERS.normal(size=(60, 3)), columns=list("abc")), "gaussian"),
    "whole numbers alone": (pd.DataFrame(NUMBERS.integers(100, 200, (60, 3)), columns=list("abc")), "gaussian"),
    "counts beside reals": (pd.DataFrame({"a": NUMBERS.normal(size=60), "b": NUMBERS.poisson(2, 60)}), "mixed"),
    "truth values beside reals": (pd.DataFrame({"a": NUMBERS.normal(size=60), "b": NUMBERS.random(60) < 0.5}), "mixed"),
    "truth values beside bits": (pd.DataFrame({"a": NUMBERS.integers(0, 2, 60), "b": NUMBERS.random(60) < 0.5}), "bernoulli"),
    "mostly zeros": (pd.DataFrame(NUMBERS.poisson(0.2, (60, 4)), columns=list("abcd")), "negative-binomial"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather"])
@pytest.mark.parametrize("case", RULE)
def test_the_rule_is_that_of_the_estimator(case, kind):
    table, likelihood = RULE[case]
    {"csv": lambda path: table.to_csv(path, index=False), "parquet": table.to_parquet, "feather": table.to_feather}[kind](
        f"x.{kind}"
    )
    assert train(data=f"x.{kind}", engine="reference")[0] == 0
    vae, loaded = VAE(**SAME, engine="reference").fit(trained_on(table)), load("run")
    assert vae.likelihood_ == loaded.likelihood_ == likelihood
    assert np.array_equal(loaded._network.state.parameters, vae._network.state.parameters)


@pytest.mark.parametrize("kind", ["parquet", "feather", "tsv", "gzip", "words", "sheet"])
def test_every_kind_of_file_gives_the_same(kind, capfd):
    table, name, flags = written(), f"x.{kind}", ()
    if kind in ("parquet", "feather"):
        {"parquet": table.to_parquet, "feather": table.to_feather}[kind](name)
    elif kind == "tsv":
        table.to_csv(name, index=False, sep="\t")
    elif kind == "gzip":
        name = "x.csv.gz"
        table.to_csv(name, index=False)
    elif kind == "words":
        table.to_csv(name, index=False, na_rep="not known")
        flags = ("--missing", "not known")
    else:
        table.to_csv(name, index=False, sep=";", decimal=",", encoding="utf-8-sig", lineterminator="\r\n", quoting=2)
    assert train()[0] == 0
    assert train(*flags, data=name, out="other")[0] == 0
    one, other = load("run"), load("other")
    assert np.array_equal(one._network.state.parameters, other._network.state.parameters)
    code, _, _ = called(transform.main, capfd, "other", "--data", name, "--out", "z.npy", "--samples", "5")
    assert code == 0
    assert np.array_equal(np.load("z.npy")[:, :2].astype(np.float32), one.transform(TABLE))
    assert np.array_equal(np.load("z.npy")[:, 3], one.log_likelihood(TABLE, 5))
    with runs.plain_figures():
        assert called(evaluate.main, capfd, "other", "--samples", "3", "--engine", ENGINE)[0] == 0


def test_the_first_lines_say_which_column_is_what():
    code, out, err = train()
    assert code == 0
    gaps = int(TABLE.isna().sum().sum())
    first, kinds, plan, *_ = out.splitlines()
    assert first == (
        "birds.csv: a table; 12 of its 120 rows are held out as the test set; likelihood mixed (columns of different kinds: "
        f"1 categorical, 2 real, 1 count, 2 binary), scaling standard; {gaps} of 720 values ({100 * gaps / 720:.2g} %) are "
        "missing"
    )
    assert kinds == "birds.csv: real bill, flipper; count eggs; binary tagged, sex; categorical species (3 values)"
    assert "108 training examples of 6 columns, 8 values | " in plan
    assert err == (
        "vaefast: birds.csv: columns 'seen' (dates or times), 'note' (text that is different in most rows) cannot be "
        "used, and are left out of the model\n"
    )


def test_labels_and_rows_that_are_counted_are_left_out_as_ever():
    named = TABLE.assign(target=np.where(np.arange(ROWS) % 2, "yes", "no"))
    named.insert(0, "bird_id", np.arange(ROWS) + 1000)
    named.to_csv("named.csv", index=False)
    code, _, err = train(data="named.csv")
    assert (code, "looks like labels: give --label target" in err) == (3, True)
    code, _, err = train("--label", "target", data="named.csv")
    assert code == 0
    assert "the first column, bird_id, numbers the rows: left out" in err
    vae = VAE(**SAME, engine=ENGINE).fit(trained_on(TABLE))
    assert np.array_equal(load("run")._network.state.parameters, vae._network.state.parameters)
    # Numbers count the columns of the file.
    assert train("--label", "10", "--column-types", "5=real", data="named.csv", out="numbered")[0] == 0
    assert load("numbered").column_types_["eggs"] == "real"


def test_codes_of_digits_and_letters_may_be_digits_alone_in_another_file(capfd):
    codes = np.array(["12", "7", "A1", "B"])[np.arange(ROWS) % 4]
    for header in (True, False):
        pd.DataFrame({"code": codes, "x": TABLE["eggs"] + 0.5}).to_csv("x.csv", index=False, header=header)
        pd.DataFrame({"code": ["7", "12", None], "x": [0.5, 1.5, 1.5]}).to_csv("y.csv", index=False, header=header)
        out = f"run{header}"
        assert train(data="x.csv", out=out)[0] == 0
        assert called(transform.main, capfd, out, "--data", "y.csv", "--out", "z.npy", "--force")[0] == 0
        rows = pd.DataFrame({"code": ["7", "12", None], "x": [0.5, 1.5, 1.5]})
        rows = rows if header else rows.set_axis([0, 1], axis=1)
        assert np.array_equal(np.load("z.npy")[:, :2].astype(np.float32), load(out).transform(rows))


def test_settings_from_a_file():
    Path("run.toml").write_text('data = "birds.csv"\ncolumn-types = ["eggs=real"]\n')
    assert runs.command("--config", "run.toml", *SETTINGS, "--out", "run")[0] == 0
    assert load("run").column_types_["eggs"] == "real"


# --- Runs that go on


@pytest.mark.parametrize("pause", [2, 5])
@pytest.mark.parametrize("flags", [("--column-types", "eggs=real"), ("--validation", "0.2", "--patience", "3")])
def test_a_run_that_was_stopped_ends_with_the_same_bits(signal_at, pause, flags, monkeypatch):
    monkeypatch.setattr("vaefast.training.trainer._next_piece", lambda piece, elapsed: 1)
    assert train(*flags, out="whole", engine="reference")[0] == 0
    whole = runs.outcome(Path("whole"))
    signal_at(pause)
    assert train(*flags, engine="reference")[0] == 128 + signal.SIGTERM
    code, _, _ = runs.command("--resume", "run")
    assert code == 0
    runs.check_same(whole, Path("run"), "stopped")
    code, _, err = runs.command("--resume", "run", "--epochs", "3", "--column-types", "eggs=count")
    assert (code, "column_types" in err) == (4, True)


def test_a_run_starts_from_another_whatever_the_order_of_the_columns():
    assert train(out="first")[0] == 0
    TABLE[[*TABLE.columns[::-1]]].drop(columns="note").assign(more=1).to_csv("turned.csv", index=False)
    assert train("--start-from", "first", "--epochs", "0", data="turned.csv")[0] == 0
    first, run = (model_file.read(Path(name) / "model.safetensors") for name in ("first", "run"))
    assert np.array_equal(first.parameters, run.parameters)
    code, _, err = train("--start-from", "first", "--likelihood", "gaussian", out="other")
    assert (code, "has likelihood mixed, but this run gaussian" in err) == (2, True)


@mpi.with_mpi
def test_two_ranks_train_on_such_a_table():
    flags = ("--data", "birds.csv", *SETTINGS, "--engine", "numba", "--out", "together")
    code, _, err = mpi.train(2, *flags)
    assert code == 0, err
    assert train(engine="numba")[0] == 0
    alone, together = load("run"), load("together")
    assert together.column_types_ == alone.column_types_
    assert np.allclose(alone._network.state.parameters, together._network.state.parameters, atol=1e-4)


# --- What is made of a run


def test_a_run_is_evaluated_on_its_own_data_and_on_others(capfd):
    assert train()[0] == 0
    TABLE[[*TABLE.columns[::-1]]].to_csv("turned.csv", index=False)
    TABLE.iloc[:30].drop(columns=["seen", "note"]).to_csv("other.csv", index=False)
    table, vae = pd.read_csv("birds.csv"), load("run")
    test = table.iloc[split_rows(ROWS, 0.1)[1]]
    for flags, rows, part in (((), test, "12 test rows"), (("--data", "turned.csv"), test, "12 test rows"),
                              (("--data", "other.csv"), table.iloc[:30], "all 30 rows")):  # fmt: skip
        with runs.plain_figures():
            code, out, _ = called(evaluate.main, capfd, "run", "--samples", "9", "--engine", ENGINE, "--json", *flags)
        report = json.loads(out)
        assert (code, report["evaluated"]) == (0, part)
        assert report["elbo"] == pytest.approx(vae.score_samples(rows, n_samples=1).mean(), abs=1e-5)
        assert report["log_p"] == pytest.approx(vae.log_likelihood(rows, 9).mean(), abs=1e-5)
        by_column = vae.score_samples(rows, n_samples=1, per_feature=True).mean(axis=0)
        assert report["column_log_likelihoods"] == pytest.approx(
            dict(zip(vae.column_types_, by_column, strict=True)), abs=1e-5
        )
        assert sum(report["column_log_likelihoods"].values()) == pytest.approx(report["log_likelihood"], abs=1e-4)
    with runs.plain_figures():
        said = called(evaluate.main, capfd, "run", "--samples", "9", "--engine", ENGINE)[1]
    assert "\nlog-likelihood    by column: " in said


def test_a_category_that_only_test_rows_have_counts_as_missing_there(capfd):
    table, (row, *_) = TABLE.copy(), split_rows(ROWS, 0.1)[1]
    table.loc[row, "species"] = "Emperor"
    written(table).to_csv("birds.csv", index=False)
    code, _, err = train()
    assert code == 0
    assert f"birds.csv: line {row + 2}, column 1 'species', in a test row, is a value that no training row has" in err
    with_gap = table.copy()
    with_gap.loc[row, "species"] = None
    vae = load("run")
    expected = vae.score_samples(with_gap.iloc[split_rows(ROWS, 0.1)[1]], n_samples=1).mean()
    assert metrics()[-1]["test_elbo"] == pytest.approx(expected, abs=1e-5)
    assert runs.command("--resume", "run", "--epochs", "3")[0] == 0
    with runs.plain_figures():
        assert called(evaluate.main, capfd, "run", "--samples", "3", "--engine", ENGINE)[0] == 0


def test_a_column_without_values_in_training_may_have_some_later(capfd):
    TABLE.assign(wing=np.nan).to_csv("empty.csv", index=False)
    assert "'wing' (nothing but missing values)" in train(data="empty.csv")[2]
    TABLE.assign(wing=1.5).to_csv("full.csv", index=False)
    assert called(transform.main, capfd, "run", "--data", "full.csv", "--out", "z.npy")[0] == 0
    assert np.array_equal(np.load("z.npy")[:, :2].astype(np.float32), load("run").transform(TABLE.assign(wing=1.5)))


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather"])
def test_files_are_filled_as_the_estimator_fills_rows(capfd, kind):
    table = written().assign(count=range(ROWS))[["note", "count", *[c for c in TABLE if c != "note"]]]
    {"csv": lambda path: table.to_csv(path, index=False), "parquet": table.to_parquet, "feather": table.to_feather}[kind](
        f"x.{kind}"
    )
    assert train()[0] == 0
    code, out, _ = called(impute.main, capfd, "run", "--data", f"x.{kind}", "--out", f"y.{kind}", "--samples", "20")
    gaps = int(TABLE.isna().sum().sum())
    assert (code, f"120 rows | {gaps} of 720 values" in out) == (0, True)
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "feather": pd.read_feather}[kind]
    before, after = read(f"x.{kind}"), read(f"y.{kind}")
    assert [*after.columns] == [*before.columns]
    if kind != "csv":
        assert (after.dtypes == before.dtypes).all()
    expected = load("run").impute(table[TABLE.columns], 20)
    for column in TABLE:
        assert after[column].notna().all()
        assert after[column].astype(object).tolist() == expected[column].astype(object).tolist()


def test_a_sheet_keeps_its_spelling(capfd):
    lines = [
        "\ufeffspecies;bill;flipper;eggs;tagged;sex;seen;note\r\n",
        'Adelie;"38,5";190;1;WAHR;"male";01.02.2024;"a;b ""c"""\r\n', ";;;2;FALSCH;;;\r\n",
    ]  # fmt: skip
    table = written().assign(tagged=np.where(TABLE["tagged"], "WAHR", "FALSCH"))
    body = table.to_csv(None, index=False, header=False, sep=";", decimal=",", lineterminator="\r\n")
    Path("x.csv").write_text("".join(lines) + body, encoding="utf-8", newline="")
    assert train(data="x.csv")[0] == 0
    assert called(impute.main, capfd, "run", "--data", "x.csv", "--out", "y.csv", "--samples", "20")[0] == 0
    result = Path("y.csv").read_bytes().decode().splitlines(keepends=True)
    assert result[:2] == lines[:2]
    row = pd.read_csv("x.csv", sep=";", decimal=",").iloc[[1]]
    filled = load("run").impute(row, 20).iloc[0]
    bill = repr(float(filled["bill"])).replace(".", ",")
    assert result[2] == f'{filled["species"]};{bill};{int(filled["flipper"])};2;FALSCH;"{filled["sex"]}";;\r\n'


def test_cells_of_several_lines_are_cells(capfd):
    rows = [
        f'{at};"{"Oslo" if at % 2 else "Rome"}";"said {at % 3},\nand ""more"""\n'.replace("3;", ";", 1) for at in range(40)
    ]
    Path("x.csv").write_text('"size\n(cm)";town;note\n' + "".join(rows))
    assert train(data="x.csv")[0] == 0
    vae = load("run")
    assert [*vae.feature_names_in_] == ["size\n(cm)", "town", "note"]
    assert vae._inputs.schema.columns[2].levels == tuple(f'said {at},\nand "more"' for at in range(3))
    assert called(impute.main, capfd, "run", "--data", "x.csv", "--out", "y.csv", "--samples", "20")[0] == 0
    before, after = (pd.read_csv(name, sep=";") for name in ("x.csv", "y.csv"))
    assert after.drop(columns=after.columns[0]).equals(before.drop(columns=before.columns[0]))
    known = before.iloc[:, 0].notna()
    assert (~known).sum() == 1
    assert after.iloc[:, 0].notna().all()
    assert after.iloc[:, 0][known].equals(before.iloc[:, 0][known].astype(after.iloc[:, 0].dtype))
    # A message counts lines as an editor does.
    Path("x.csv").write_text(Path("x.csv").read_text() + 'far;"Oslo";"said 1,\nand ""more"""\n')
    code, _, err = train(data="x.csv", out="other")
    assert (code, "line 83, column 1" in err) == (3, True)
    Path("x.csv").write_text('a,b\n1,"x\n' + "".join(f"{at},y\n" for at in range(200)))
    code, _, err = train(data="x.csv", out="other")
    assert (code, "line 2 has an unmatched quote: close it, or remove it" in err) == (3, True)


def test_figures_are_drawn(capfd):
    handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
    from vaefast import train as command

    try:
        assert command.main(["--data", "birds.csv", *SETTINGS, "--engine", ENGINE, "--out", "run"]) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert {path.name for path in Path("run/figures").iterdir()} == {"columns.png", "pairs.png", "latents.png", "elbo.png"}
    assert called(evaluate.main, capfd, "run", "--samples", "3", "--engine", ENGINE)[0] == 0
    assert {path.name for path in Path("run/evaluation").iterdir()} == {
        "evaluation.json", "columns.png", "pairs.png", "latents.png", "latent_kl.png",
    }  # fmt: skip


# --- Data and flags that are wrong


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.assign(species=["Adelie", "Emperor"] * 60), "line 3, column 1 'species' is 'Emperor', which"),
        (lambda table: table.drop(columns="eggs"), "lacks the column 'eggs'"),
        (lambda table: table.assign(eggs=["few", "many"] * 60), "line 2, column 4 'eggs' is the text 'few', but the column"),
        (lambda table: table.assign(eggs=-1), "line 2, column 4 'eggs' is -1, but the column is one of counts"),
        (lambda table: table.assign(bill=np.inf), "line 2, column 2 'bill' is inf, which is infinite"),
    ],
)  # fmt: skip
def test_rows_that_a_model_does_not_know_are_one_line(capfd, change, words):
    assert train()[0] == 0
    change(TABLE).to_csv("wrong.csv", index=False)
    for command, flags in ((transform, ("--out", "o.csv")), (impute, ("--out", "o.csv")), (evaluate, ("--no-figures",))):
        code, out, err = called(command.main, capfd, "run", "--data", "wrong.csv", *flags)
        assert (code, out) == (3, "")
        message = err.splitlines()[-1]
        assert words in message
        assert "wrong.csv" in message
        assert "internal error" not in message
        assert not Path("o.csv").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--column-types", "wings=real"), "column_types has 'wings', which is no column to train on: choose among species"),
        (("--column-types", "9=real"), "column_types has '9', which is no column"),
        (("--column-types", "eggs=whole"), "column_types has 'whole' for 'eggs': choose real, positive"),
        (("--column-types", "eggs"), "column_types has 'eggs': give a column and its kind, such as age=real"),
        (("--column-types", "eggs=real", "eggs=count"), "column_types has 'eggs' twice"),
        (("--column-types", "eggs=real", "--likelihood", "gaussian"), "column_types are given, but likelihood is 'gaussian'"),
        (("--column-types", "species=real"), "column 'species' holds the text"),
        (("--column-types", "species=binary"), "column 'species' has 3 different values, and cannot be binary"),
        (("--likelihood", "gaussian"), "column 1 'species' holds text, such as"),
        (("--scaling", "minmax"), "column 1 'species' holds text, such as"),
        (("--likelihood", "mixed", "--scaling", "minmax"), "scaling is 'minmax', but likelihood mixed"),
        (("--engine", "cuda"), "cuda"),
    ],
)  # fmt: skip
def test_flags_that_do_not_fit_are_one_line(flags, words):
    code, out, err = train(*flags)
    assert code in (2, 3)
    assert (out, err.count("\n")) == ("", 1), err
    assert words in err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["1.5"] * 59 + ["l.5"], "line 61, column 1 'size' is 'l.5', which is not a number: give a number, say by --missing"),
        (["12 %", "7 %"] * 30, "line 2, column 1 'size' is '12 %': write plain numbers, without per cent or currency signs"),
        (['"1,234"', '"12,345"'] * 30, "write numbers without thousands separators"),
    ],
)  # fmt: skip
def test_numbers_that_are_written_wrong_are_no_text(cells, words):
    Path("x.csv").write_text(
        "size,town\n" + "".join(f"{cell},{'Oslo' if at % 2 else 'Rome'}\n" for at, cell in enumerate(cells))
    )
    code, _, err = train(data="x.csv")
    assert (code, err.count("\n")) == (3, 1)
    assert words in err
    if "l.5" in cells:
        assert train("--column-types", "size=categorical", data="x.csv")[0] == 0
        assert train("--missing", "l.5", data="x.csv", out="missing")[0] == 0


def test_names_with_quotes_and_tickets_that_are_mostly_numbers_are_text():
    tickets = [f"PC {at}" if at % 4 == 0 else str(1000 + at) for at in range(60)]
    people = [f'Smith{at}, Mr. John "J{at}"' for at in range(60)]
    table = pd.DataFrame({"PassengerId": range(1, 61), "Age": NUMBERS.normal(30, 9, 60), "Name": people, "Ticket": tickets})
    table.to_csv("x.csv", index=False)
    code, _, err = train(data="x.csv")
    assert code == 0
    assert "the first column, PassengerId, counts the rows: left out" in err
    assert "'Name' (text that is different in most rows), 'Ticket' (text that is different in most rows)" in err


def test_columns_that_are_called_the_same(capfd):
    lines = "".join(f"{at % 7}.5,{at % 3},{'yes' if at % 2 else 'no'}\n" for at in range(40))
    Path("x.csv").write_text("a,a,said\n" + lines)
    code, out, err = train(data="x.csv")
    assert (code, out, err) == (3, "", "vaefast: x.csv: two columns are called 'a': give each a name of its own\n")
    Path("x.csv").write_text("a,a,b\n" + lines.replace("yes", "1").replace("no", "0"))
    assert train(data="x.csv")[0] == 0
    assert load("run").likelihood_ == "gaussian"
    assert train("--likelihood", "mixed", data="x.csv", out="other")[0] == 3


def test_columns_without_name_and_values_are_left_out(capfd):
    table = written().assign(x=None, y=None)
    Path("x.csv").write_text(table.to_csv(index=False).replace(",x,y\n", ",,\n", 1))
    code, _, err = train(data="x.csv")
    assert (code, "x.csv: 2 columns without a name and without values: left out" in err) == (0, True)
    assert [*load("run").feature_names_in_] == [*TABLE.columns]
    assert called(impute.main, capfd, "run", "--data", "x.csv", "--out", "y.csv", "--samples", "20")[0] == 0
    assert Path("y.csv").read_text().splitlines()[0].endswith(",note,,")
    assert called(transform.main, capfd, "run", "--data", "x.csv", "--out", "z.npy")[0] == 0


def test_pictures_and_sparse_tables_are_not_of_kinds():
    grey = ("--likelihood", "mixed", "--scaling", "grey")
    code, _, err = runs.command("--data", "digits", *grey, *SETTINGS, "--out", "run")
    assert (code, err) == (
        2,
        "vaefast: likelihood mixed is for tables, and digits holds pictures: choose another likelihood\n",
    )
    sparse = pytest.importorskip("scipy.sparse")
    sparse.save_npz("x.npz", sparse.csr_array(np.random.default_rng(0).poisson(0.2, (40, 5))))
    code, _, err = train("--likelihood", "mixed", data="x.npz")
    assert (code, err.count("\n")) == (3, 1)
    assert "is sparse, and likelihood mixed takes a dense table" in err


def test_an_array_of_numbers_may_be_taken_by_its_kinds(capfd):
    generator = np.random.default_rng(0)
    X = np.column_stack([generator.normal(size=60), generator.poisson(2, 60), generator.integers(0, 2, 60)])
    X[3, 0] = np.nan
    np.save("x.npy", X)
    assert train("--likelihood", "mixed", "--column-types", "2=count", data="x.npy")[0] == 0
    vae = VAE(**SAME, engine=ENGINE, likelihood="mixed", column_types={1: "count"}).fit(X[split_rows(60, 0.1)[0]])
    assert np.array_equal(load("run")._network.state.parameters, vae._network.state.parameters)
    assert called(impute.main, capfd, "run", "--data", "x.npy", "--out", "y.npy", "--samples", "20")[0] == 0
    assert np.array_equal(np.load("y.npy"), vae.impute(X, 20))
