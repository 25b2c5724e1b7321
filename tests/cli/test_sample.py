"""`vaefast sample`: new tables with the columns, categories and types of the one that a model was trained on."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.faults import runs
from vaefast import VAE, load, sample
from vaefast.engines import threads

ROWS = 60
RNG = np.random.default_rng(0)
SMALL: dict[str, Any] = {"n_components": 2, "hidden_layer_sizes": (4,), "epochs": 1, "random_state": 0, "engine": "reference"}
REAL = pd.DataFrame(RNG.normal(size=(ROWS, 3)), columns=["a", "b c", 'd"'])
KINDS = pd.DataFrame({
    "town": pd.Categorical(RNG.choice(["Rome", "Oslo", "Lima"], ROWS), categories=["Rome", "Oslo", "Lima"], ordered=True),
    "said": RNG.choice(["yes, now", 'no "never"'], ROWS),
    "size": np.round(RNG.normal(50, 9, ROWS), 1),
    "small": RNG.normal(size=ROWS).astype(np.float32),
    "count": RNG.poisson(1.0, ROWS).astype(np.int16),
    "gaps": pd.array([None, *range(ROWS - 1)], dtype="Int64"),
    "on": RNG.random(ROWS) < 0.5,
    "day": pd.date_range("2024-01-01", periods=ROWS),
})  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse", "ignore:X. ")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    monkeypatch.setattr(threads, "granted_cores", lambda: 2)


def fitted(X: Any, path: str = "model.safetensors", **parameters: Any) -> VAE:
    vae = VAE(**SMALL, **parameters).fit(X)
    vae.save(path)
    return vae


def drawn(*arguments: str, model: str = "model.safetensors") -> None:
    assert sample.main([model, "--rows", "20", "--force", *arguments]) == 0


READ: dict[str, Callable[[str], pd.DataFrame]] = {
    ".csv": pd.read_csv, ".tsv": lambda path: pd.read_csv(path, sep="\t"), ".csv.gz": pd.read_csv,
    ".parquet": pd.read_parquet, ".feather": pd.read_feather,
}  # fmt: skip


@pytest.mark.parametrize("ending", READ)
def test_a_table_of_kinds_has_the_rows_and_types_of_the_estimator(ending, capsys):
    expected = fitted(KINDS).sample(20, random_state=3)
    drawn("--seed", "3", "--out", f"new{ending}")
    out, err = capsys.readouterr()
    assert out == f"model.safetensors: 20 new rows of 7 columns, seed 3 | new{ending}\n"
    assert err == "vaefast: columns that the model does not have are not written: day\n"
    found = READ[ending](f"new{ending}")
    assert [*found.columns] == [*KINDS.columns[:-1]]
    if ending in (".parquet", ".feather"):
        assert found.dtypes.drop("said").equals(KINDS.dtypes.drop(["said", "day"]))
        assert [*found["town"].cat.categories] == ["Rome", "Oslo", "Lima"]
    else:
        assert not found["gaps"].astype(str).str.contains(".", regex=False).any()
    for column in found:
        assert found[column].astype(object).tolist() == pytest.approx(expected[column].astype(object).tolist())


@pytest.mark.parametrize("likelihood", ["gaussian", "student-t"])
def test_a_table_of_numbers_is_drawn_from_its_density(likelihood):
    vae = fitted(REAL, likelihood=likelihood)
    drawn("--out", "new.csv")
    found = pd.read_csv("new.csv")
    assert [*found.columns] == [*REAL.columns]
    assert np.array_equal(found.to_numpy(), vae.sample(20, random_state=0, noise_in_x=True))
    drawn("--out", "new.parquet")
    assert pd.read_parquet("new.parquet").equals(found)


def test_counts_and_bits_are_whole_numbers():
    counts = pd.DataFrame(RNG.poisson(0.4, (ROWS, 4)), columns=list("abcd"))
    vae = fitted(counts, likelihood="negative-binomial")
    drawn("--out", "new.csv")
    assert pd.read_csv("new.csv").dtypes.eq("int64").all()
    assert np.array_equal(pd.read_csv("new.csv"), vae.sample(20, random_state=0, noise_in_x=True))
    fitted(RNG.integers(0, 2, (ROWS, 3)), "bits.safetensors")
    drawn("--out", "bits.csv", model="bits.safetensors")
    lines = Path("bits.csv").read_text().splitlines()  # without names there is no header
    assert len(lines) == 20
    assert {*"".join(lines)} == {"0", "1", ","}


def test_a_run_gives_the_spelling_of_its_file(capsys):
    table = KINDS.drop(columns="day").assign(on=np.where(KINDS["on"], "TRUE", "FALSE"))
    table.to_csv("t.csv", index=False)
    flags = ("--hidden", "4", "--latent", "2", "--epochs", "1", "--engine", "reference", "--out", "run")
    assert runs.command("--data", "t.csv", *flags)[0] == 0
    drawn("--out", "new.csv", model="run")
    expected, found = load("run").sample(20, random_state=0), pd.read_csv("new.csv")
    for column in found:
        assert found[column].astype(object).tolist() == expected[column].astype(object).tolist()
    text = Path("new.csv").read_text()
    assert text.startswith("town,said,size,small,count,gaps,on\n")
    assert '"yes, now"' in text
    again = Path("new.csv").read_bytes()
    drawn("--out", "new.csv", model="run")
    assert Path("new.csv").read_bytes() == again
    drawn("--out", "new.csv.gz", model="run")
    assert gzip.decompress(Path("new.csv.gz").read_bytes()) == again


def test_text_needs_neither_pandas_nor_pyarrow():
    fitted(KINDS)
    program = (
        "import sys\nsys.modules['pandas'] = sys.modules['pyarrow'] = None\nfrom vaefast import sample\n"
        "sys.exit(sample.main(['model.safetensors', '--rows', '5', '--out', 'new.csv']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv("new.csv")) == 5


def test_covariates_are_given_for_all_rows(capsys):
    told = pd.DataFrame({"batch": np.where(np.arange(ROWS) % 2, "one", "two"), "age": np.arange(ROWS, dtype=float)})
    vae = VAE(**SMALL).fit(REAL, covariates=told)
    vae.save("model.safetensors")
    drawn("--out", "new.csv", "--covariates", "batch=two", "age=30")
    row = pd.DataFrame({"batch": ["two"], "age": [30.0]})
    assert np.array_equal(pd.read_csv("new.csv"), vae.sample(20, random_state=0, noise_in_x=True, covariates=row))
    for flags, code, words in (
        ((), 2, "the model was told batch, age of each row: give --covariates batch=VALUE age=VALUE, too"),
        (("--covariates", "batch=two"), 2, "give --covariates age=VALUE, too"),
        (("--covariates", "batch=two", "age=old"), 2, "age is a number: give one"),
        (("--covariates", "town=Rome"), 2, "covariates has 'town=Rome', which is no NAME=VALUE of this model: its"),
        (("--covariates", "batch=three", "age=1"), 3, "'three'"),
    ):  # fmt: skip
        capsys.readouterr()
        assert sample.main(["model.safetensors", "--rows", "2", "--out", "z.csv", *flags]) == code
        message = capsys.readouterr().err
        assert (words in message, message.count("\n")) == (True, 1)


def test_what_sample_refuses(capsys):
    def refused(code: int, *arguments: str, model: str = "model.safetensors") -> str:
        capsys.readouterr()
        assert sample.main([model, *arguments]) == code
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    fitted(REAL)
    assert "the following arguments are required: --rows, --out" in refused(2)
    assert "rows is 0" in refused(2, "--rows", "0", "--out", "z.csv")
    assert "seed is -1" in refused(2, "--rows", "1", "--out", "z.csv", "--seed=-1")
    assert "is no name of a table: give one that ends in .csv, .tsv" in refused(2, "--rows", "1", "--out", "z.xlsx")
    assert "does not exist" in refused(6, "--rows", "1", "--out", "none/z.csv")
    Path("there.csv").write_text("")
    assert "there.csv exists: choose another --out, or replace it with --force" in refused(
        2, "--rows", "1", "--out", "there.csv"
    )
    assert "the model was trained without" in refused(2, "--rows", "1", "--out", "z.csv", "--covariates", "a=1")
    runs.tiny_images(Path("grey.npy"))
    assert runs.command("--data", "grey.npy", *runs.TINY, "--out", "run")[0] == 0
    assert "is a model of pictures: vaefast.load in Python samples them" in refused(
        3, "--rows", "1", "--out", "z.csv", model="run"
    )
    assert not Path("z.csv").exists()
