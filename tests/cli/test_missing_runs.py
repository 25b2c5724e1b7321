"""`vaefast train`, `evaluate`, `transform` and `impute` on tables with missing values: the bits of `vaefast.VAE`."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.faults import runs
from vaefast import VAE, engines, evaluate, impute, load, transform
from vaefast.data.split import split_rows
from vaefast.engines import threads

NAN = np.nan
ENGINES = [name for name in engines.FOR_CPU if "missing values" not in engines.LACKING[name] and not engines.why_not(name)]
RNG = np.random.default_rng(0)
WHOLE = RNG.normal(size=(120, 2)) @ RNG.normal(size=(2, 4)) + 0.3 * RNG.normal(size=(120, 4))
WHOLE = WHOLE * [10.0, 1e6, 1e-3, 1.0] + [170.0, 3e6, 1.0, 0.0]
FRAME = pd.DataFrame(np.where(RNG.random(WHOLE.shape) < 0.25, NAN, WHOLE), columns=["height", "income", "ratio", "count"])
SETTINGS = ("--hidden", "12", "--latent", "2", "--batch-size", "25", "--seed", "5", "--epochs", "3", "--threads", "2")
SAME = {"n_components": 2, "hidden_layer_sizes": (12,), "batch_size": 25, "random_state": 5, "epochs": 3, "n_jobs": 1}
GAPS = int(FRAME.isna().sum().sum())

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse", "ignore:X. ")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with `gaps.csv`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    monkeypatch.setattr(threads, "granted_cores", lambda: 2)
    FRAME.to_csv("gaps.csv", index=False)


def train(*flags: str, engine: str = ENGINES[0], out: str = "run") -> tuple[int, str, str]:
    return runs.command(*SETTINGS, "--engine", engine, "--out", out, *flags)


def trained_on(frame: pd.DataFrame = FRAME) -> pd.DataFrame:
    return frame.iloc[np.sort(split_rows(len(frame), 0.1)[0])]


def metrics(folder: str = "run") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "as they are": ((), {}),
    "indicator": (("--missing-indicator",), {"missing_indicator": True}),
    "Student-t": (("--likelihood", "student-t"), {"likelihood": "student-t"}),
    "a share held out": (
        ("--validation", "0.2", "--patience", "1"),
        {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 1, "tol": 0.0},
    ),
    "continuous Bernoulli": (
        ("--scaling", "minmax", "--likelihood", "continuous-bernoulli"),
        {"scaling": "minmax", "likelihood": "continuous-bernoulli"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES)
def test_the_model_is_that_of_the_estimator(case, engine):
    flags, parameters = CASES[case]
    code, out, err = train("--data", "gaps.csv", *flags, engine=engine)
    assert code == 0, err
    assert f"; {GAPS} of 480 values ({100 * GAPS / 480:.2g} %) are missing\n" in out
    vae, loaded = VAE(**SAME, **parameters, engine=engine).fit(trained_on()), load("run")
    assert loaded._network.model == vae._network.model
    assert np.array_equal(loaded._network.state.parameters, vae._network.state.parameters)
    assert np.array_equal(loaded.score_samples(FRAME), load("run").score_samples(FRAME))
    lines = metrics()
    for key in ("train_objective", "train_elbo", "train_log_likelihood", "train_kl", "validation_elbo"):
        assert [line[key] for line in lines if key in line] == vae.history_.get(key, [])
    test = FRAME.iloc[split_rows(120, 0.1)[1]]
    assert lines[-1]["test_elbo"] == pytest.approx(load("run").score_samples(test, n_samples=1).mean(), abs=1e-5)
    for name in ("columns", "pairs", "latents", "elbo"):
        assert (Path("run/figures") / f"{name}.png").stat().st_size > 5000


def test_a_run_goes_on_as_if_it_had_never_stopped():
    assert train("--data", "gaps.csv", "--missing-indicator", "--missing", "-999")[0] == 0
    assert train("--data", "gaps.csv", "--missing-indicator", "--missing", "-999", "--epochs", "1", out="short")[0] == 0
    assert runs.command("--resume", "short", "--epochs", "3")[0] == 0
    assert (Path("short") / "model.safetensors").read_bytes() == (Path("run") / "model.safetensors").read_bytes()
    assert train("--data", "gaps.csv", "--missing-indicator", "--start-from", "run", "--epochs", "1", out="on")[0] == 0


def test_gaps_among_the_test_rows_alone_do_not_change_the_model():
    whole = pd.DataFrame(WHOLE, columns=FRAME.columns)
    rows = split_rows(120, 0.1)[1]
    whole.to_csv("whole.csv", index=False)
    whole.iloc[rows, 2] = NAN
    whole.to_csv("test.csv", index=False)
    for name in ("whole", "test"):
        code, _, err = train("--data", f"{name}.csv", out=name)
        assert code == 0, err
    assert (Path("whole") / "model.safetensors").read_bytes() == (Path("test") / "model.safetensors").read_bytes()
    expected = load("test").score_samples(whole.iloc[rows], n_samples=1).mean()
    assert metrics("test")[-1]["test_elbo"] == pytest.approx(expected, abs=1e-5)
    assert evaluate.main(["test", "--samples", "5", "--no-figures"]) == 0
    # A model of complete rows goes on with others.
    assert train("--data", "gaps.csv", "--start-from", "whole", out="gaps")[0] == 0


def written(kind: str) -> tuple[str, tuple[str, ...]]:
    """The table as a file of this kind, and the flags that it needs."""
    if kind == "sentinel":
        FRAME.fillna(-999).to_csv("x.csv", index=False)
        return "x.csv", ("--missing", "-999")
    if kind == "words":
        FRAME.to_csv("x.csv", index=False, na_rep="unknown")
        return "x.csv", ("--missing", "?", "unknown")
    if kind == "gzip":
        Path("x.csv.gz").write_bytes(gzip.compress(FRAME.to_csv(index=False).encode()))
        return "x.csv.gz", ()
    if kind == "npy":
        np.save("x.npy", FRAME.to_numpy())
        return "x.npy", ()
    if kind == "h5ad":
        anndata = pytest.importorskip("anndata")
        anndata.AnnData(FRAME.to_numpy(), var=pd.DataFrame(index=FRAME.columns)).write_h5ad("x.h5ad")
        return "x.h5ad", ()
    name = f"x.{kind}"
    (FRAME.to_parquet if kind == "parquet" else FRAME.to_feather)(name)
    return name, ()


@pytest.mark.parametrize("kind", ["parquet", "feather", "npy", "h5ad", "gzip", "sentinel", "words"])
def test_every_kind_of_file_gives_the_same(kind):
    assert train("--data", "gaps.csv", engine="reference")[0] == 0
    name, flags = written(kind)
    assert train("--data", name, *flags, engine="reference", out="other")[0] == 0
    one, other = load("run"), load("other")
    assert np.array_equal(one._network.state.parameters, other._network.state.parameters)
    # What stands for a missing value is known from the run, and from the model alone.
    shutil.copy("other/model.safetensors", "alone.safetensors")
    for model in ("other", "other/model.safetensors", "alone.safetensors"):
        assert transform.main([model, "--data", name, "--out", "z.npy", "--samples", "5", "--force"]) == 0
        table = np.load("z.npy")
        assert np.array_equal(table[:, :2].astype(np.float32), one.transform(FRAME))
        assert np.array_equal(table[:, 3], other.log_likelihood(FRAME.to_numpy() if kind == "npy" else FRAME, 5))
    assert evaluate.main(["other", "--samples", "5", "--no-figures"]) == 0
    assert evaluate.main(["other", "--data", name, "--samples", "5", "--no-figures"]) == 0


# --- vaefast impute


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    VAE(**SAME, engine="reference").fit(FRAME).save(path)
    return path


def filled(model: Path, name: str, *flags: str, out: str | None = None) -> Path:
    result = Path(out or f"filled{Path(name).suffix}")
    assert impute.main([str(model), "--data", name, "--out", str(result), "--samples", "20", "--force", *flags]) == 0
    return result


def test_a_text_file_stays_as_it_came_but_for_its_gaps(model, capsys):
    lines = [
        "# made by hand\r\n", "id;height ;income;ratio;count;note\r\n", "\r\n", "7;170,50;3000000;1,001;0,5;first\r\n",
        '3; NA ;"2500000";;1,5e0;"a;b ""c"""\r\n', "5;169;?;1,00;2;\r\n", "1;;;;;NA\r\n", "2;171;3100000;1;-1,25;last",
    ]  # fmt: skip
    Path("x.csv").write_text("".join(lines), encoding="utf-8", newline="")
    result = filled(model, "x.csv").read_bytes().decode().splitlines(keepends=True)
    assert "x.csv: 5 rows | 7 of 20 values (35 %) are missing, filled in | filled.csv" in capsys.readouterr().out
    for at in (0, 1, 2, 3, 7):
        assert result[at] == lines[at]
    rows = [[170.5, 3e6, 1.001, 0.5], [NAN, 2.5e6, NAN, 1.5], [169, NAN, 1, 2], [NAN] * 4, [171, 3.1e6, 1, -1.25]]
    values = load(model).impute(pd.DataFrame(rows, columns=FRAME.columns), 20)
    a, b, c = ([repr(value).replace(".", ",") for value in values.iloc[at].tolist()] for at in (1, 2, 3))
    assert result[4] == f'3; {a[0]} ;"2500000";{a[2]};1,5e0;"a;b ""c"""\r\n'
    assert result[5] == f"5;169;{b[1]};1,00;2;\r\n"
    assert result[6] == f"1;{c[0]};{c[1]};{c[2]};{c[3]};NA\r\n"


@pytest.mark.parametrize("kind", ["csv", "parquet", "feather", "npy", "h5ad", "sentinel", "words", "gzip"])
def test_files_are_filled_as_the_estimator_fills_rows(model, kind):
    name, flags = ("gaps.csv", ()) if kind == "csv" else written(kind)
    expected = load(model).impute(FRAME, 20)
    result = filled(model, name, *flags, out="filled.csv" if kind == "gzip" else None)
    if kind == "npy":
        read = pd.DataFrame(np.load(result), columns=FRAME.columns)
    elif kind == "h5ad":
        import anndata

        held = anndata.read_h5ad(result)
        read = pd.DataFrame(np.asarray(held.X), columns=held.var_names)
    else:
        read = {".parquet": pd.read_parquet, ".feather": pd.read_feather}.get(result.suffix, pd.read_csv)(result)
    assert [*read.columns] == [*FRAME.columns]
    assert np.array_equal(read.to_numpy(), expected.to_numpy())


@pytest.mark.parametrize("kind", ["parquet", "feather", "csv"])
def test_other_columns_another_order_and_types_stay(model, kind):
    frame = FRAME.assign(name=[f"row {i}" for i in range(120)], flag=np.arange(120) % 2 == 0)
    frame["count"] = frame["count"].astype(np.float32)
    frame = frame[["flag", "count", "ratio", "name", "height", "income"]]
    write = {"parquet": frame.to_parquet, "feather": frame.to_feather, "csv": lambda path: frame.to_csv(path, index=False)}
    write[kind](f"x.{kind}")
    read = {"parquet": pd.read_parquet, "feather": pd.read_feather, "csv": pd.read_csv}[kind]
    before, after = read(f"x.{kind}"), read(filled(model, f"x.{kind}"))
    assert [*after.columns] == [*frame.columns]
    assert not after.isna().any().any()
    for column in frame:
        assert after[column].dtype == before[column].dtype
        known = before[column].notna()
        assert (after[column][known] == before[column][known]).all()
    numbers = before[FRAME.columns.tolist()].astype(float)
    assert np.allclose(after[numbers.columns].astype(float), load(model).impute(numbers, 20), rtol=1e-6)


def test_whole_numbers_with_gaps_become_fractions(model):
    frame = FRAME.assign(income=pd.array([3_000_000, None, 2_500_000] * 40, dtype="Int64"))
    frame.to_parquet("x.parquet")
    after = pd.read_parquet(filled(model, "x.parquet"))
    assert after["income"].dtype == np.float64
    assert not after.isna().any().any()


def test_a_matrix_of_whole_numbers_takes_fractions(model):
    anndata = pytest.importorskip("anndata")
    whole = np.rint(FRAME.fillna(-1.0).to_numpy() / [1, 1e4, 0.1, 1]).astype(np.int64)
    anndata.AnnData(whole, var=pd.DataFrame(index=FRAME.columns)).write_h5ad("whole.h5ad")
    held = anndata.read_h5ad(filled(model, "whole.h5ad", "--missing", "-1"))
    expected = load(model).impute(pd.DataFrame(np.where(whole == -1, NAN, whole), columns=FRAME.columns), 20)
    assert (expected.to_numpy() % 1 > 0).any()
    np.testing.assert_array_equal(held.X, expected.to_numpy())


def test_a_complete_file_is_said_to_be_complete(model, capsys):
    text = FRAME.fillna(1.0).to_csv(index=False)
    Path("whole.csv").write_text(text)
    assert filled(model, "whole.csv").read_text() == text
    assert "whole.csv: 120 rows | no value is missing | filled.csv" in capsys.readouterr().out


def test_what_impute_refuses(model, capsys):
    def refused(code: int, *arguments: str) -> str:
        assert impute.main([str(model), *arguments]) == code
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    assert "the following arguments are required: --out" in refused(2, "--data", "gaps.csv")
    assert "is a file that this command reads" in refused(2, "--data", "gaps.csv", "--out", "gaps.csv")
    Path("there.csv").write_text("")
    assert "there.csv exists" in refused(2, "--data", "gaps.csv", "--out", "there.csv")
    for ending in (".parquet", ".gz", ".xlsx"):
        message = refused(2, "--data", "gaps.csv", "--out", f"z{ending}")
        assert f"--out z{ending} ends in {ending}, but gaps.csv is written as .csv: name it so" in message
    np.savez("x.npz", X=WHOLE)
    assert "no file that can be written again: give a table as .csv, .parquet" in refused(
        3, "--data", "x.npz", "--out", "z.npz"
    )
    assert "samples is 0" in refused(2, "--data", "gaps.csv", "--out", "z.csv", "--samples", "0")
    FRAME.drop(columns="ratio").to_csv("less.csv", index=False)
    assert "lacks the column 'ratio'" in refused(3, "--data", "less.csv", "--out", "z.csv")
    FRAME.assign(ratio=np.inf).to_csv("far.csv", index=False)
    assert "line 2, column 3 'ratio' is inf" in refused(3, "--data", "far.csv", "--out", "z.csv")
    assert not Path("z.csv").exists()
    counts = np.random.default_rng(0).poisson(0.5, (40, 4))
    VAE(2, hidden_layer_sizes=(4,), epochs=1, random_state=0, likelihood="poisson").fit(counts).save("counts.safetensors")
    assert impute.main(["counts.safetensors", "--data", "gaps.csv", "--out", "z.csv"]) == 3
    assert "counts.safetensors is a model of counts, which takes no missing values" in capsys.readouterr().err


def test_settings_from_a_file():
    Path("run.toml").write_text('data = "gaps.csv"\nmissing = ["-999", "unknown"]\nmissing-indicator = true\n')
    assert train("--config", "run.toml")[0] == 0
    assert load("run")._network.model.missing_indicator
    Path("wrong.toml").write_text('data = "gaps.csv"\nmissing = [-999]\n')
    code, _, err = train("--config", "wrong.toml", out="other")
    assert code == 2
    assert "missing has -999: give what a cell says, such as NA as text in quotes" in err
