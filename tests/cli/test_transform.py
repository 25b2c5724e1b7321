"""`python -m vaefast.transform`: the numbers are those of `vaefast.load`, in the file's order, whatever kind the file is."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.faults import runs
from vaefast import VAE, engines, estimator, impute, load, transform
from vaefast.engines import threads
from vaefast.errors import EngineUnavailable
from vaefast.files import atomic
from vaefast.runs.interruption import EXIT_CODES

Command = Callable[..., tuple[int, str, str]]
MODEL = ("--hidden", "12", "--latent", "2", "--batch-size", "7", "--seed", "5", "--engine", "reference")
RNG = np.random.default_rng(0)
# Real numbers of very different sizes.
TABLE = RNG.standard_normal((40, 5)) * [1, 10, 100, 0.1, 1] + [0, 5, -300, 0, 1]
NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with 80 grey images of 30 pixels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    monkeypatch.setattr(threads, "granted_cores", lambda: 2)
    runs.tiny_images(tmp_path / "grey.npy", 80, 30)
    return tmp_path


@pytest.fixture
def run(place: Path) -> Path:
    """A finished run on them."""
    assert runs.command("--data", "grey.npy", *MODEL, "--epochs", "2", "--out", "run")[0] == 0
    return Path("run")


@pytest.fixture
def table(place: Path) -> VAE:
    """A model of real numbers that knows the names of its columns, in table.safetensors."""
    vae = VAE(2, hidden_layer_sizes=(8,), epochs=2, engine="reference", random_state=0)
    vae.fit(pd.DataFrame(TABLE, columns=NAMES)).save("table.safetensors")
    return load("table.safetensors")


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = transform.main([*arguments])
        return code, *capfd.readouterr()

    return call


def refused(command: Command, code: int, arguments: tuple[str, ...], *words: str) -> None:
    """One line of these words, and nothing is written."""
    before = {*Path.cwd().rglob("*")}
    ended, out, err = command(*arguments)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert "internal error" not in err
    for word in words:
        assert word in err
    assert {*Path.cwd().rglob("*")} == before


def written_table(name: str) -> pd.DataFrame:
    names = Path(name).read_text().splitlines()[0].split(",")
    return pd.DataFrame(np.loadtxt(name, delimiter=",", skiprows=1, ndmin=2), columns=names)


def latents(name: str) -> np.ndarray:
    frame = written_table(name)
    return frame[[column for column in frame if column.startswith("latent_")]].to_numpy().astype(np.float32)


# --- Models of images


def test_a_run_by_the_rows_of_a_file_in_its_order(command, run):
    code, out, err = command("run", "--data", "grey.npy", "--out", "z.csv")
    assert (code, err) == (0, "")
    assert out == "grey.npy: 80 rows | 2 latent, elbo | z.csv\n"
    values, vae = np.load("grey.npy"), load("run")
    frame = written_table("z.csv")
    assert [*frame] == ["latent_0", "latent_1", "elbo"]
    assert latents("z.csv").tobytes() == vae.transform(values).tobytes()
    np.testing.assert_allclose(frame["elbo"], vae.score_samples(values), rtol=1e-6)
    # The same file from the model alone.
    shutil.copy("run/model.safetensors", "mine.safetensors")
    assert command("mine.safetensors", "--data", "grey.npy", "--out", "again.csv")[0] == 0
    assert Path("again.csv").read_bytes() == Path("z.csv").read_bytes()


@pytest.mark.parametrize("engine", ["cython", "numba", "reference"])
def test_every_engine_says_what_the_estimator_says_with_it(command, run, engine):
    try:
        engines.choose(engine)
    except EngineUnavailable as error:
        pytest.skip(str(error))
    arguments = ("--engine", engine, "--threads", "2", "--std", "--samples", "30")
    code, _, err = command("run", "--data", "grey.npy", "--out", "z.npz", *arguments)
    assert code == 0, err
    vae, values = load("run"), np.load("grey.npy")
    vae._network.engine_name = engine
    written = np.load("z.npz")
    assert {*written} == {"latent", "std", "elbo", "log_p"}
    mean, std = vae.posterior(values)
    assert written["latent"].tobytes() == mean.tobytes()
    assert written["std"].tobytes() == std.tobytes()
    np.testing.assert_allclose(written["elbo"], vae.score_samples(values), rtol=1e-6)
    np.testing.assert_allclose(written["log_p"], vae.log_likelihood(values, 30), rtol=1e-6)
    assert (written["log_p"].mean(), written["elbo"].dtype) > (written["elbo"].mean(), np.float32)


def test_npy_and_csv_hold_the_same_columns(command, run, monkeypatch):
    monkeypatch.setattr(transform, "BLOCK", 7)
    for name in ("z.csv", "z.npy", "plain"):
        assert command("run", "--data", "grey.npy", "--out", name, "--std", "--samples", "5", "--limit", "20")[0] == 0
    written = np.load("z.npy")
    assert (written.shape, written.dtype) == ((20, 6), np.float64)
    np.testing.assert_array_equal(np.loadtxt("z.csv", delimiter=",", skiprows=1), written)
    assert Path("plain").read_bytes() == Path("z.csv").read_bytes()
    assert Path("z.csv").read_text().startswith("latent_0,latent_1,std_0,std_1,elbo,log_p\n")
    vae, values = load("run"), np.load("grey.npy")[:20]
    np.testing.assert_array_equal(written[:, :2].astype(np.float32), vae.transform(values))
    np.testing.assert_allclose(written[:, 4], vae.score_samples(values), rtol=1e-6)
    np.testing.assert_allclose(written[:, 5], vae.log_likelihood(values, 5), rtol=1e-6)


def test_every_kind_of_file_keeps_its_order(command, run):
    values = np.load("grey.npy")
    frame = pd.DataFrame(values).assign(label=np.arange(80) % 3)
    frame.to_csv("mine.csv")
    Path("mine.csv.gz").write_bytes(gzip.compress(frame.to_csv().encode()))
    np.savez("one.npz", values)
    np.savez("own.npz", x_train=values[:50], x_test=values[50:])
    whole = load("run").transform(values)
    for name, notice in (
        ("mine.csv", "column 32 'label' holds labels"),
        ("mine.csv.gz", "column 32 'label' holds labels"),
        ("one.npz", ""),
        ("own.npz", "own.npz: it has a test set: the training rows come first, then the test rows"),
    ):
        code, _, err = command("run", "--data", name, "--out", "z.csv", "--force")
        assert code == 0
        assert notice in err
        assert bool(err) == bool(notice)
        assert latents("z.csv").tobytes() == whole.tobytes()
    np.save("one.npy", values[3:4])
    assert command("run", "--data", "one.npy", "--out", "one.csv")[0] == 0
    assert latents("one.csv").tobytes() == whole[3:4].tobytes()


# --- Models of tables


def test_a_table_of_real_numbers(command, table):
    np.save("x.npy", TABLE)
    np.savez("x.npz", TABLE)
    pd.DataFrame(TABLE, columns=NAMES).to_csv("x.csv")
    pd.DataFrame(TABLE).to_csv("counted.csv", index=False)
    np.savetxt("bare.csv", TABLE, "%.17g", ",")
    np.save("single.npy", TABLE.astype(np.float32))
    for name in ("x.npy", "x.npz", "x.csv", "counted.csv", "bare.csv", "single.npy"):
        assert command("table.safetensors", "--data", name, "--out", "z.csv", "--samples", "4", "--force")[0] == 0
        values = pd.DataFrame(np.load(name) if name == "single.npy" else TABLE, columns=NAMES)
        assert latents("z.csv").tobytes() == table.transform(values).tobytes()
        written = written_table("z.csv")
        np.testing.assert_allclose(written["elbo"], table.score_samples(values), rtol=1e-6)
        np.testing.assert_allclose(written["log_p"], table.log_likelihood(values, 4), rtol=1e-6)


def test_columns_are_found_by_their_names(command, table):
    frame = pd.DataFrame(TABLE, columns=NAMES)
    mixed = frame[["c", "a", "e", "b", "d"]].assign(kind="text", y=1)
    mixed.to_csv("x.csv", index=False)
    code, _, err = command("table.safetensors", "--data", "x.csv", "--out", "z.csv")
    assert code == 0
    assert err.endswith("x.csv: columns that the model does not know take no part: kind, y\n")
    assert latents("z.csv").tobytes() == table.transform(frame).tobytes()
    frame.rename(columns={"d": "D"}).to_csv("x.csv", index=False)
    words = "lacks the column 'd', which the model was trained on"
    refused(command, 3, ("table.safetensors", "--data", "x.csv", "--out", "y.csv"), words)


def test_a_value_that_does_not_fit_is_named_by_its_place_in_the_file(command):
    frame = pd.DataFrame(np.round(np.random.default_rng(0).random((20, 3))), columns=["a", "b", "c"])
    vae = VAE(2, likelihood="bernoulli", hidden_layer_sizes=(8,), epochs=1, engine="reference", random_state=0)
    vae.fit(frame).save("bits.safetensors")
    frame.loc[7, "b"] = 5.0
    frame.to_csv("x.csv", index=False)
    words = "line 9, column 2 'b' is 5.0, but likelihood bernoulli takes"
    refused(command, 3, ("bits.safetensors", "--data", "x.csv", "--out", "z.csv"), words)


def test_a_model_without_names_leaves_out_labels(command):
    VAE(2, hidden_layer_sizes=(8,), epochs=1, engine="reference", random_state=0).fit(TABLE).save("bare.safetensors")
    frame = pd.DataFrame(TABLE, columns=NAMES)
    frame.assign(target=np.arange(40) % 2).to_csv("x.csv")
    code, _, err = command("bare.safetensors", "--data", "x.csv", "--out", "z.csv")
    assert code == 0
    assert "column 7 'target' holds labels (2 different)" in err
    assert latents("z.csv").tobytes() == load("bare.safetensors").transform(TABLE).tobytes()
    frame.rename(columns={"e": "y"}).round().to_csv("x.csv", index=False)
    assert command("bare.safetensors", "--data", "x.csv", "--out", "z.csv", "--force")[0] == 0
    assert latents("z.csv").tobytes() == load("bare.safetensors").transform(TABLE.round()).tobytes()


@pytest.mark.filterwarnings("ignore:posterior collapse")
@pytest.mark.filterwarnings("ignore:X holds fractions")
def test_an_estimator_of_grey_levels(command):
    values = np.load("grey.npy")
    names = [f"pixel{i}" for i in range(30)]
    vae = VAE(2, scaling="grey", hidden_layer_sizes=(8,), epochs=1, engine="reference", random_state=0)
    vae.fit(pd.DataFrame(values, columns=names)).save("grey.safetensors")
    pd.DataFrame(values, columns=names)[names[::-1]].to_csv("x.csv", index=False)
    assert command("grey.safetensors", "--data", "x.csv", "--out", "z.csv")[0] == 0
    expected = load("grey.safetensors").transform(pd.DataFrame(values, columns=names))
    assert latents("z.csv").tobytes() == expected.tobytes()


def test_numbers_that_do_not_fit(command, table):
    wrong = TABLE.copy()
    wrong[3, 1] = np.inf
    np.save("x.npy", wrong)
    words = "row 3, column 1 (both counted from 0) is inf: give finite numbers"
    refused(command, 3, ("table.safetensors", "--data", "x.npy", "--out", "z.csv"), "x.npy", words)
    np.save("x.npy", np.array([["text"]]))
    refused(command, 3, ("table.safetensors", "--data", "x.npy", "--out", "z.csv"), "values of type <U4")
    np.save("x.npy", TABLE[:, 0])
    refused(command, 3, ("table.safetensors", "--data", "x.npy", "--out", "z.csv"), "give rows of numbers, (N, columns)")
    np.savez("x.npz", TABLE, TABLE)
    refused(command, 3, ("table.safetensors", "--data", "x.npz", "--out", "z.csv"), "holds 2 arrays")
    np.save("x.npy", TABLE[:, :4])
    refused(command, 3, ("table.safetensors", "--data", "x.npy", "--out", "z.csv"), "has 4 columns, but the model has 5")


def test_scores_that_are_no_finite_numbers_are_said(command, table):
    wrong = TABLE.copy()
    wrong[2] = 1e300
    np.save("x.npy", wrong)
    code, _, err = command("table.safetensors", "--data", "x.npy", "--out", "z.csv")
    assert code == 0
    assert "rows with a score that is not finite: 1;" in err
    assert np.isfinite(written_table("z.csv")["elbo"]).sum() == 39


# --- What is refused


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--samples", "0"), 2, "samples is 0"),
        (("--limit", "0"), 2, "limit is 0"),
        (("--engine", "fast"), 2, "engine is 'fast'"),
        (("--threads", "0"), 2, "threads is '0'"),
        (("--n-samples", "3"), 2, "did you mean --samples?"),
        (("--overwrite",), 2, "did you mean --force?"),
        (("--out", "z.parquet"), 2, "--out z.parquet ends in .parquet: give a name that ends in .csv, .npy, .npz"),
        (("--out", "a\0.csv"), 2, "null character"),
        (("--out", "deep/z.csv"), 6, "the folder deep of --out deep/z.csv does not exist: make it"),
        (("--out", "run"), 6, "run is a folder: give --out the name of a file"),
        (("--out", "grey.npy", "--force"), 2, "grey.npy is a file that this command reads"),
        (("--out", "there.csv"), 2, "there.csv exists: choose another --out, or replace it with --force"),
        (("--data", "nowhere.csv"), 3, "nowhere.csv"),
        (("--data", "wide.npy"), 3, "wide.npy has 31 columns, but the model has 30: give other --data"),
    ],
)
def test_flags_and_files_that_are_refused(command, run, flags, code, words):
    runs.tiny_images(Path("wide.npy"), 5, 31)
    Path("there.csv").write_text("mine")
    refused(command, code, ("run", "--data", "grey.npy", "--out", "z.csv", *flags), words)
    assert Path("there.csv").read_text() == "mine"


def test_what_must_be_given_and_models_that_are_none(command, run):
    refused(command, 2, ("run",), "required: --data, --out; ")
    refused(command, 2, ("run", "--input", "grey.npy"), "required: --data, --out (did you mean --data?)")
    refused(command, 2, ("-run",), "required: MODEL, --data, --out (a path that begins with a dash is given as ./-run)")
    refused(command, 3, ("nowhere", "--data", "grey.npy", "--out", "z.csv"), "cannot read nowhere")
    Path("run/model.safetensors").write_bytes(b"damaged")
    refused(command, 3, ("run", "--data", "grey.npy", "--out", "z.csv"), "no model file of vaefast")
    Path("run/model.safetensors").unlink()
    refused(command, 3, ("run", "--data", "grey.npy", "--out", "z.csv"), "finish it with vaefast train --resume run")


def test_a_file_is_replaced_whole_or_not_at_all(command, run, monkeypatch):
    Path("z.csv").write_text("mine")
    with monkeypatch.context() as patch:

        def full(file: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(atomic.disk, "fsync", full)
        refused(command, 6, ("run", "--data", "grey.npy", "--out", "z.csv", "--force"), "cannot write z.csv", "free space")
    assert Path("z.csv").read_text() == "mine"
    assert command("run", "--data", "grey.npy", "--out", "z.csv", "--force")[0] == 0
    assert len(latents("z.csv")) == 80


def test_a_signal_leaves_nothing_half_written(command, run, monkeypatch):
    import signal

    def interrupted(vae: VAE, X: np.ndarray, **about: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
    monkeypatch.setattr(estimator.VAE, "score_samples", interrupted)
    try:
        refused(command, 130, ("run", "--data", "grey.npy", "--out", "z.csv"), "stopped by SIGINT")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


# --- Names that come twice


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("kind", ["csv", "h5ad"])
def test_of_two_columns_with_one_name_each_is_read_in_its_turn(command, kind):
    counts = RNG.poisson(1.0, (60, 4)) * (RNG.random((60, 4)) < 0.6)
    if kind == "csv":
        # pandas would write `a.1`.
        Path("twice.csv").write_text("a,b,a,c\n" + "".join(",".join(map(str, row)) + "\n" for row in counts.tolist()))
        name = "twice.csv"
    else:
        anndata = pytest.importorskip("anndata")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = anndata.AnnData(counts.astype(float), var=pd.DataFrame(index=["a", "b", "a", "c"]))
            held.write_h5ad("twice.h5ad")
        name = "twice.h5ad"
    flags = ("--likelihood", "negative-binomial", "--test-fraction", "0", "--latent", "2", "--hidden", "8", "--epochs", "2")
    assert runs.command("--data", name, *flags, "--out", "twice")[0] == 0
    code, _, err = command("twice", "--data", name, "--out", "z.csv")
    assert code == 0, err
    assert latents("z.csv").tobytes() == load("twice").transform(counts).tobytes()
    Path("once.csv").write_text("c,a,b\n" + "".join(f"{c},{a},{b}\n" for a, b, _, c in counts.tolist()))
    refused(command, 3, ("twice", "--data", "once.csv", "--out", "y.csv"), "lacks the second column 'a'")


def test_labels_of_a_file_without_a_header_are_left_out_as_in_training(command):
    rows = [",".join(f"{value:.3f}" for value in row) for row in TABLE]
    Path("told.csv").write_text("\n".join(f"{row},{'ab'[i % 2]}" for i, row in enumerate(rows)))
    Path("bare.csv").write_text("\n".join(rows))
    assert runs.command("--data", "told.csv", "--label", "6", *MODEL, "--epochs", "1", "--out", "run")[0] == 0
    shutil.copy("run/model.safetensors", "alone.safetensors")
    found = []
    for model, data in (("run", "told.csv"), ("run", "bare.csv"), ("alone.safetensors", "told.csv")):
        assert command(model, "--data", data, "--out", "z.csv", "--force")[0] == 0
        found.append(latents("z.csv").tobytes())
    assert len({*found}) == 1


@pytest.mark.filterwarnings("ignore:posterior collapse")
@pytest.mark.parametrize("flags", [(), ("--column-types", "2010=count")], ids=["numbers", "of different kinds"])
def test_a_line_of_the_models_columns_is_a_header_whatever_stands_below(command, flags):
    years = ["1990", "2000", "2010", "2020"]
    frame = pd.DataFrame(RNG.integers(0, 3000, (40, 4)), columns=years)
    frame.to_csv("years.csv", index=False)
    assert runs.command("--data", "years.csv", *flags, *MODEL, "--epochs", "1", "--out", "run")[0] == 0
    # Later in each column, so that the first line alone may as well be a row of years.
    Path("one.csv").write_text("2000,1990,2020,2010\n1985,1995,2005,2015\n")
    frame = pd.DataFrame([[1995, 1985, 2015, 2005]], columns=years)
    code, out, err = command("run", "--data", "one.csv", "--out", "z.csv")
    assert (code, err) == (0, "")
    assert out.startswith("one.csv: 1 rows")
    assert latents("z.csv").tobytes() == load("run").transform(frame).tobytes()
    Path("gap.csv").write_text("1990,2000,2010,2020\n1985,,2005,2015\n")
    assert impute.main(["run", "--data", "gap.csv", "--out", "filled.csv"]) == 0
    (first, row) = Path("filled.csv").read_text().splitlines()
    assert first == "1990,2000,2010,2020"
    assert row.split(",")[::2] == ["1985", "2005"]
    filled = np.asarray(load("run").impute(pd.DataFrame([[1985, np.nan, 2005, 2015]], columns=years)), float)
    assert float(row.split(",")[1]) == pytest.approx(filled[0, 1], abs=1)


def test_a_row_that_holds_the_numbers_by_which_columns_are_named_is_no_header(command):
    names = ["1", "2", "3", "4", "5"]
    model = VAE(2, likelihood="gaussian", hidden_layer_sizes=(8,), epochs=1, engine="reference", random_state=0)
    ranks = np.argsort(RNG.random((40, 5)), axis=1) + 1
    model.fit(pd.DataFrame(ranks, columns=names)).save("ranks.safetensors")
    ranks[0] = [3, 1, 2, 5, 4]
    Path("ranks.csv").write_text("\n".join(",".join(map(str, row)) for row in ranks.tolist()))
    code, out, _ = command("ranks.safetensors", "--data", "ranks.csv", "--out", "z.csv")
    assert (code, out.split(" |")[0]) == (0, "ranks.csv: 40 rows")
    assert latents("z.csv").tobytes() == model.transform(pd.DataFrame(ranks, columns=names)).tobytes()


def test_a_link_leads_to_the_file_that_is_replaced_and_a_pipe_is_none(command, run):
    Path("folder").mkdir()
    Path("folder/old.csv").write_text("old")
    Path("z.csv").symlink_to("folder/old.csv")
    assert command("run", "--data", "grey.npy", "--out", "z.csv", "--force")[0] == 0
    assert Path("z.csv").is_symlink()
    assert Path("folder/old.csv").read_text().startswith("latent_0,")
    os.mkfifo("pipe.csv")
    refused(command, 6, ("run", "--data", "grey.npy", "--out", "pipe.csv", "--force"), "pipe.csv is a pipe or a device")
