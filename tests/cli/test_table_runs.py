"""`vaefast train` on tables: the model of `vaefast.VAE` bit for bit, and all that may be done with such a run after."""

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
from vaefast import VAE, engines, evaluate, load, transform
from vaefast.data.split import split_rows
from vaefast.engines import threads
from vaefast.files import model_file
from vaefast.plots import run_figures
from vaefast.runs.interruption import EXIT_CODES

Command = Callable[..., tuple[int, str, str]]

RNG = np.random.default_rng(0)
LATENT = RNG.normal(size=(120, 2))
NAMES = ["height", "always 7", "income", "ratio", "count"]
REAL = pd.DataFrame(LATENT @ RNG.normal(size=(2, 5)) + 0.3 * RNG.normal(size=(120, 5)), columns=NAMES)
REAL = REAL * [10.0, 0.0, 1e6, 1e-3, 1.0] + [170.0, 7.0, 3e6, 1.0, 0.0]
BITS = pd.DataFrame((LATENT @ RNG.normal(size=(2, 6)) > 0).astype(int), columns=[f"answer {i}" for i in range(6)])
SETTINGS = ("--hidden", "12", "--latent", "2", "--batch-size", "25", "--seed", "5", "--epochs", "3", "--threads", "2")
SAME = {"n_components": 2, "hidden_layer_sizes": (12,), "batch_size": 25, "random_state": 5, "epochs": 3, "n_jobs": 1}
CPU = [name for name in ("cython", "numba") if engines.why_not(name) is None]

pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse", "ignore:X. row")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with `real.csv` and `bits.csv`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    monkeypatch.setattr(threads, "granted_cores", lambda: 2)
    REAL.to_csv("real.csv", index=False)
    BITS.to_csv("bits.csv", index=False)


def train(*flags: str, engine: str = "reference") -> tuple[int, str, str]:
    return runs.command(*SETTINGS, "--engine", engine, "--out", "run", *flags)


def metrics(folder: str = "run") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def trained_on(name: str, fraction: float = 0.1) -> pd.DataFrame:
    """The rows of a file that a run trains on, in the file's order."""
    table = pd.read_csv(name)
    return table.iloc[np.sort(split_rows(len(table), fraction)[0])] if fraction else table


def same_model(vae: VAE) -> None:
    """The run's file holds the model of the estimator, and what is loaded from it says the same, to the last bit."""
    vae.save("estimator.safetensors")
    run, saved = (model_file.read(Path(name)) for name in ("run/model.safetensors", "estimator.safetensors"))
    assert run.model == saved.model
    assert np.array_equal(run.parameters, saved.parameters)
    assert {*run.scaling} == {*saved.scaling}
    for name in run.scaling:
        assert np.array_equal(run.scaling[name], saved.scaling[name]), name
    assert run.estimator["feature_names_in"] == saved.estimator["feature_names_in"]


# --- Both doors


CASES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "real numbers": ("real.csv", (), {}),
    "zeros and ones": ("bits.csv", (), {}),
    "minmax": ("real.csv", ("--scaling", "minmax"), {"scaling": "minmax"}),
    "continuous Bernoulli": (
        "real.csv", ("--scaling", "minmax", "--likelihood", "continuous-bernoulli"),
        {"scaling": "minmax", "likelihood": "continuous-bernoulli"},
    ),
    "threshold": (
        "real.csv", ("--scaling", "minmax", "--binarize", "threshold"), {"scaling": "minmax", "binarize": "threshold"}
    ),
    "standard": ("real.csv", ("--scaling", "standard"), {"scaling": "standard"}),
    "a share held out": (
        "real.csv", ("--validation", "0.2", "--patience", "1"),
        {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 1, "tol": 0.0},
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", CPU)
@pytest.mark.parametrize("case", CASES)
def test_the_model_is_that_of_the_estimator(case, engine):
    name, flags, parameters = CASES[case]
    assert train("--data", name, *flags, engine=engine)[0] == 0
    rows = trained_on(name)
    vae = VAE(**SAME, **parameters, engine=engine).fit(rows)
    same_model(vae)
    loaded = load("run")
    assert loaded.likelihood_ == vae.likelihood_
    assert loaded.scaling_ == vae.scaling_
    assert loaded.n_iter_ == vae.n_iter_
    assert [*loaded.feature_names_in_] == [*rows.columns]
    assert np.array_equal(loaded.transform(rows), vae.transform(rows))
    assert np.array_equal(loaded.score_samples(rows), vae.score_samples(rows))
    lines = metrics()
    for key in ("train_objective", "train_elbo", "train_log_likelihood", "train_kl", "validation_elbo"):
        assert [line[key] for line in lines if key in line] == vae.history_.get(key, [])


def test_bounds_are_of_the_numbers_as_given():
    assert train("--data", "real.csv", "--scaling", "standard")[0] == 0
    table = pd.read_csv("real.csv")
    test = table.iloc[split_rows(len(table), 0.1)[1]]
    assert metrics()[-1]["test_elbo"] == pytest.approx(load("run").score_samples(test, n_samples=1).mean(), abs=1e-6)


@pytest.mark.parametrize("fraction", [0.0, 0.4])
def test_the_share_of_the_test_set_is_a_flag(fraction):
    code, out, _ = train("--data", "real.csv", "--test-fraction", str(fraction))
    assert code == 0
    same_model(VAE(**SAME, engine="reference").fit(trained_on("real.csv", fraction)))
    assert all(("test_elbo" in line) is (fraction > 0) for line in metrics())
    assert ("test ELBO" in out) is (fraction > 0)
    assert ("none of its rows is held out" in out) is (fraction == 0)


def test_arrays_and_pictures_may_be_scaled_like_tables():
    np.save("x.npy", REAL.to_numpy())
    assert train("--data", "x.npy")[0] == 0
    rows = REAL.to_numpy()[split_rows(len(REAL), 0.1)[0]]
    same_model(VAE(**SAME, engine="reference").fit(rows))
    levels = RNG.integers(0, 256, (40, 9)).astype(np.uint8)
    np.save("levels.npy", levels)
    assert train("--data", "levels.npy", "--scaling", "minmax", "--out", "scaled")[0] == 0
    run = model_file.read(Path("scaled/model.safetensors"))
    vae = VAE(**SAME, engine="reference", scaling="minmax").fit(levels[split_rows(40, 0.1)[0]])
    assert np.array_equal(run.parameters, vae._network.state.parameters)


def test_a_line_says_what_was_chosen_and_settings_keep_it():
    code, out, _ = train("--data", "real.csv")
    assert code == 0
    first, plan, *epochs, last = out.splitlines()
    assert "108 training examples of 5 values" in plan
    assert first == (
        "real.csv: a table; 12 of its 120 rows are held out as the test set; likelihood gaussian (not every value is 0 or "
        "1), scaling standard"
    )
    assert [line.split()[0] for line in epochs] == ["epoch"] * 3
    assert "rows/s" in last
    settings = json.loads(Path("run/settings.json").read_text())
    assert settings["inputs"]["feature_names_in"] == NAMES
    assert settings["inputs"]["scaling"] == "standard"
    assert np.array_equal(settings["inputs"]["scale"], load("run")._inputs.scale)


def test_stray_values_and_collapse_are_lines():
    table = REAL.copy()
    table.loc[11, "income"] = 1e15
    table.to_csv("stray.csv", index=False)
    code, _, err = train("--data", "stray.csv", "--test-fraction", "0", "--epochs", "1")
    assert code == 0
    assert "stray.csv: line 13, column 3 'income' is 1e+15" in err
    noise = pd.DataFrame(RNG.normal(size=(200, 3)), columns=list("abc"))
    noise.to_csv("noise.csv", index=False)
    code, _, err = train("--data", "noise.csv", "--objective", "beta", "--beta", "100", "--epochs", "40", "--out", "flat")
    assert code == 0
    assert err.startswith("vaefast: posterior collapse: the KL divergence is ")
    assert err.count("\n") == 1


# --- Runs that go on


@pytest.mark.parametrize("pause", [2, 4, 7, 9])
@pytest.mark.parametrize("flags", [("--data", "real.csv", "--validation", "0.2", "--patience", "3"), ("--data", "bits.csv")])
def test_a_run_that_was_stopped_ends_with_the_same_bits(signal_at, pause, flags, monkeypatch):
    monkeypatch.setattr("vaefast.training.trainer._next_piece", lambda piece, elapsed: 1)
    assert train(*flags, "--out", "whole")[0] == 0
    whole = runs.outcome(Path("whole"))
    signal_at(pause)
    assert train(*flags)[0] == 128 + signal.SIGTERM
    code, _, err = runs.command("--resume", "run")
    assert (code, err) == (0, "")
    runs.check_same(whole, Path("run"), "stopped")
    assert Path("run/settings.json").read_bytes() == Path("whole/settings.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--scaling", "minmax"), "scaling was auto, is minmax"),
        (("--test-fraction", "0.2"), "test_fraction was 0.1, is 0.2"),
        (("--likelihood", "bernoulli"), "likelihood was gaussian, is bernoulli"),
    ],
)
def test_a_run_goes_on_as_it_was_started_or_not_at_all(change, words):
    assert train("--data", "real.csv")[0] == 0
    code, _, err = runs.command("--resume", "run", "--epochs", "4", *change)
    assert code in (2, 3, 4)
    assert err.count("\n") == 1
    assert words in err or "likelihood bernoulli takes" in err
    assert runs.command("--resume", "run", "--epochs", "4", "--likelihood", "auto")[0] == 0


def test_data_that_changed_are_another_run():
    assert train("--data", "real.csv")[0] == 0
    (REAL * 1.5).to_csv("real.csv", index=False)
    code, _, err = runs.command("--resume", "run", "--epochs", "4")
    assert (code, err.count("\n")) == (4, 1)
    assert "data was SHA-256" in err


def test_a_run_starts_from_another_with_its_scaling():
    assert train("--data", "real.csv", "--out", "first")[0] == 0
    later = REAL * 1.1
    later.to_csv("later.csv", index=False)
    assert train("--data", "later.csv", "--start-from", "first", "--epochs", "0")[0] == 0
    first, run = (model_file.read(Path(name) / "model.safetensors") for name in ("first", "run"))
    assert np.array_equal(first.parameters, run.parameters)
    assert all(np.array_equal(first.scaling[name], run.scaling[name]) for name in first.scaling)
    assert runs.command("--resume", "run", "--epochs", "2")[0] == 0
    longer = model_file.read(Path("run/model.safetensors"))
    assert all(np.array_equal(first.scaling[name], longer.scaling[name]) for name in first.scaling)
    assert not np.array_equal(first.parameters, longer.parameters)


@pytest.mark.parametrize(
    ("data", "flags", "words"),
    [
        ("bits.csv", (), "has 5 columns, but bits.csv has 6"),
        ("real.csv", ("--scaling", "minmax"), "has scaling standard, but this run minmax"),
        ("real.csv", ("--likelihood", "bernoulli"), "has likelihood gaussian, but this run bernoulli"),
        ("grey.npy", (), "was trained on a table, but grey.npy holds pictures"),
        ("real.csv", ("--latent", "3"), "has latent 2, but this run 3"),
    ],
)
def test_a_start_that_does_not_fit(data, flags, words):
    runs.tiny_images(Path("grey.npy"))
    assert train("--data", "real.csv", "--out", "first")[0] == 0
    code, _, err = train("--data", data, "--start-from", "first", *flags)
    assert (code, err.count("\n")) == (2, 1)
    assert words in err
    assert not Path("run").exists()


# --- What is made of a run


def called(main: Callable[[list[str]], int], capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    return main([*arguments]), *capfd.readouterr()


def test_a_run_is_evaluated_on_its_test_rows(capfd):
    assert train("--data", "real.csv")[0] == 0
    capfd.readouterr()
    with runs.plain_figures():
        code, out, _ = called(evaluate.main, capfd, "run", "--samples", "40", "--engine", "reference", "--json")
    assert code == 0
    report, table = json.loads(out), pd.read_csv("real.csv")
    test = table.iloc[split_rows(len(table), 0.1)[1]]
    assert report["evaluated"] == "12 test rows"
    assert report["elbo"] == pytest.approx(metrics()[-1]["test_elbo"], abs=1e-9)
    assert report["log_p"] == pytest.approx(load("run").log_likelihood(test, 40).mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("data", "part"), [("real.csv", "12 test rows"), ("other.csv", "all 30 rows"), ("turned.csv", "all 120 rows")]
)
def test_a_run_is_evaluated_on_other_data(capfd, data, part):
    REAL.iloc[:30].to_csv("other.csv", index=False)
    REAL[NAMES[::-1]].to_csv("turned.csv", index=False)
    assert train("--data", "real.csv")[0] == 0
    with runs.plain_figures():
        code, out, _ = called(evaluate.main, capfd, "run", "--samples", "9", "--engine", "reference", "--json", "--data", data)
    assert code == 0
    report = json.loads(out)
    if data == "turned.csv":  # its columns are found by their names, and then it is the run's own data
        part = "12 test rows"
    assert report["evaluated"] == part
    if data == "other.csv":
        assert report["elbo"] == pytest.approx(load("run").score_samples(REAL.iloc[:30], n_samples=1).mean(), abs=1e-6)


def test_a_run_without_a_test_set_is_evaluated_on_data_that_are_named(capfd):
    assert train("--data", "real.csv", "--test-fraction", "0")[0] == 0
    code, _, err = called(evaluate.main, capfd, "run", "--samples", "9", "--engine", "reference")
    assert (code, err.count("\n")) == (3, 1)
    assert "was trained on all rows of" in err
    assert "give --data" in err


def test_far_rows_are_scored_and_drawn(capfd):
    table = REAL.copy()
    table.loc[3, "height"] = 1e25
    table.to_csv("far.csv", index=False)
    assert train("--data", "real.csv")[0] == 0
    code, out, _ = called(
        evaluate.main, capfd, "run", "--samples", "9", "--engine", "reference", "--json", "--data", "far.csv"
    )
    assert code == 0
    assert json.loads(out)["elbo"] < -1e40
    assert {path.name for path in Path("run/evaluation").iterdir()} == {
        "evaluation.json", "columns.png", "pairs.png", "latents.png", "latent_kl.png",
    }  # fmt: skip


def test_a_run_transforms_rows_and_is_exported(capfd):
    assert train("--data", "real.csv")[0] == 0
    code, _, err = called(transform.main, capfd, "run", "--data", "real.csv", "--out", "z.npy")
    assert (code, err) == (0, "")
    written, vae = np.load("z.npy"), load("run")
    assert np.array_equal(written[:, :2].astype(np.float32), vae.transform(pd.read_csv("real.csv")))
    session = pytest.importorskip("onnxruntime").InferenceSession(str(vae.to_onnx("graphs")[0]))
    (mean,) = session.run(["mean"], {"x": REAL.to_numpy(np.float32)})
    assert np.allclose(mean, vae.transform(REAL.astype(np.float32)), atol=1e-4)


@pytest.mark.parametrize("name", ["real.csv", "bits.csv"])
def test_figures_are_those_of_a_table(name):
    handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
    from vaefast import train as command

    try:
        assert command.main(["--data", name, *SETTINGS, "--engine", "reference", "--out", "run"]) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert {path.name for path in Path("run/figures").iterdir()} == {"columns.png", "pairs.png", "latents.png", "elbo.png"}
    assert run_figures.TABLE_FIGURES == ("columns", "pairs", "latents")


def test_colour_is_kept_where_it_is_asked_for(capfd):
    pictures = RNG.integers(0, 256, (30, 4, 5, 3)).astype(np.uint8)
    np.save("rgb.npy", pictures)
    handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
    from vaefast import train as command

    try:
        assert command.main(["--data", "rgb.npy", "--color", *SETTINGS, "--engine", "reference", "--out", "run"]) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert model_file.read(Path("run/model.safetensors")).model.pixels == 60
    assert "prior_samples.png" in {path.name for path in Path("run/figures").iterdir()}
    code, out, _ = called(evaluate.main, capfd, "run", "--samples", "3", "--engine", "reference", "--json")
    assert (code, json.loads(out)["evaluated"]) == (0, "3 test images")
    assert called(transform.main, capfd, "run", "--data", "rgb.npy", "--out", "z.npy")[0] == 0
    assert np.array_equal(np.load("z.npy")[:, :2].astype(np.float32), load("run").transform(pictures.reshape(30, -1)))


def test_labels_are_kept_for_figures_and_never_trained_on():
    table = REAL.assign(target=np.where(LATENT[:, 0] > 0, "yes", "no"))
    table.to_csv("labelled.csv", index=False)
    code, _, err = train("--data", "labelled.csv")
    assert (code, err.count("\n")) == (3, 1)
    assert "--label target" in err
    assert not Path("run").exists()
    assert train("--data", "labelled.csv", "--label", "target")[0] == 0
    assert json.loads(Path("run/settings.json").read_text())["inputs"]["feature_names_in"] == NAMES
    same_model(VAE(**SAME, engine="reference").fit(trained_on("real.csv")))
    assert runs.command("--resume", "run", "--epochs", "4")[0] == 0


@mpi.with_mpi
def test_two_ranks_train_on_a_table():
    code, _, err = mpi.train(
        2, "--data", "real.csv", *SETTINGS[:-2], "--threads", "1", "--engine", "numba", "--out", "together"
    )
    assert (code, err.replace("vaefast: compiling the CPU kernels, some seconds, and kept for the next run\n", "")) == (0, "")
    assert train("--data", "real.csv", engine="numba")[0] == 0
    alone, together = (model_file.read(Path(name) / "model.safetensors") for name in ("run", "together"))
    assert np.array_equal(alone.scaling["scaling.scale"], together.scaling["scaling.scale"])
    assert np.allclose(alone.parameters, together.parameters, atol=1e-4)


# --- Data that are wrong


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        ("a,b\n1,2\n3,\n", ("--likelihood", "poisson"), "line 3, column 2 'b' is missing"),
        ("a,b\n1,2\n3,inf\n", (), "line 3, column 2 'b' is inf"),
        ("a,b\n1.5,2\n", (), "holds 1 row: give at least 2"),
        ("a,b\n1.5,2\n0,1\n3,4\n", ("--likelihood", "bernoulli"), "takes numbers in [0, 1]"),
        ("a,b\n1.5,2\n0,1\n3,4\n", ("--scaling", "standard", "--likelihood", "bernoulli"), "scaling is 'standard', but"),
        ("a,b\n1.5,2\n0,1\n3,4\n", ("--scaling", "grey"), "is 1.5"),
        ("a,b\n1.5,2.5\n0,1\n3,4\n", ("--binarize", "threshold"), "binarize is 'threshold', but likelihood gaussian"),
        ("a,b\n1.5,2\n0,1\n3,4\n", ("--test-fraction", "1"), "test_fraction is 1.0"),
        ("a,b\n1.5,1e300\n0,1\n3,4\n", ("--scaling", "none"), "which is too large: scale the column"),
    ],
)
def test_nothing_is_written_before_the_data_are_known_to_be_good(text, flags, words):
    Path("wrong.csv").write_text(text)
    code, out, err = train("--data", "wrong.csv", *flags)
    assert code in (2, 3)
    assert (out, err.count("\n")) == ("", 1), err
    assert words in err
    assert "internal error" not in err
    assert not Path("run").exists()


def test_the_locations_of_a_student_t_on_pictures_are_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ("--data", "digits", "--likelihood", "student-t", "--epochs", "1", "--hidden", "8", "--latent", "2")
    code, _, err = runs.command(*flags, "--engine", "cython", "--out", "run")
    assert code == 0, err
    assert Path("run/figures/reconstructions.png").is_file()


def test_a_run_is_not_resumed_on_a_file_of_other_columns():
    assert train("--data", "real.csv")[0] == 0
    REAL.drop(columns="ratio").to_csv("real.csv", index=False)
    code, _, err = runs.command("--resume", "run", "--epochs", "5")
    assert (code, err.count("\n")) == (4, 1)
    assert "run is another run: pixels was 5, is 4; data was SHA-256" in err


@pytest.mark.parametrize(
    ("changed", "words"), [("fewer", "has 5 columns, but real.csv has 4"), ("named", "has the column 'ratio'")]
)
def test_what_a_run_starts_from_has_the_same_columns(changed, words):
    assert train("--data", "real.csv")[0] == 0
    other = REAL.drop(columns="count") if changed == "fewer" else REAL.rename(columns={"ratio": "share"})
    other.to_csv("real.csv", index=False)
    code, _, err = runs.command(
        *SETTINGS, "--engine", "reference", "--data", "real.csv", "--start-from", "run", "--out", "other"
    )
    assert code == 2
    assert words in err


def test_one_row_says_nothing_of_collapse(capfd):
    assert train("--data", "real.csv", "--epochs", "30")[0] == 0
    capfd.readouterr()
    assert evaluate.main(["run", "--limit", "1", "--samples", "10", "--no-figures"]) == 0
    assert "posterior collapse" not in capfd.readouterr().err
