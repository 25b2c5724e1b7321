"""`python -m vaefast.evaluate`: what it reports of a run, what it draws, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.faults import runs
from vaefast import VAE, evaluate, load
from vaefast.data import load as load_data
from vaefast.engines import threads
from vaefast.evaluation.measures import Assessment
from vaefast.files import model_file
from vaefast.runs.checkpoint import CheckpointFolder

Command = Callable[..., tuple[int, str, str]]
MODEL = ("--hidden", "12", "--latent", "2", "--batch-size", "7", "--seed", "5", "--engine", "reference")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run on tiny images, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    monkeypatch.setattr(threads, "granted_cores", lambda: 2)
    runs.tiny_images(tmp_path / "grey.npy", 80, 30)
    assert runs.command("--data", "grey.npy", *MODEL, "--epochs", "3", "--out", "run")[0] == 0
    return Path("run")


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = evaluate.main([*arguments])
        return code, *capfd.readouterr()

    return call


QUICK = ("--samples", "20", "--engine", "reference")


def test_a_run_is_evaluated_and_drawn(command, run):
    code, out, err = command("run", *QUICK)
    assert code == 0, err
    folder = Path("run/evaluation")
    report = json.loads((folder / "evaluation.json").read_text())
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert report["elbo"] == pytest.approx(last["test_elbo"], abs=1e-4)
    assert (report["images"], report["samples"], report["engine"], len(report["latent_kl"])) == (8, 20, "reference", 2)
    assert f"ELBO              {report['elbo']:.2f} nats" in out
    assert f"log p(x)          {report['log_p']:.2f} nats by 20 samples" in out
    assert f"active units      {report['active_units']} of 2 latents" in out
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "evaluation.json", "prior_samples.png", "reconstructions.png", "interpolations.png", "latent_kl.png", "latents.png",
        "manifold.png",
    }  # fmt: skip
    for name in names - {"evaluation.json"}:
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    # The run itself goes on as if nothing had happened.
    assert "nothing to do" in runs.command("--resume", "run")[1]


def test_it_says_what_the_estimator_says(command, run):
    assert command("run", *QUICK, "--no-figures")[0] == 0
    report = json.loads(Path("run/evaluation/evaluation.json").read_text())
    vae = load("run").set_params(engine="reference")
    values = np.load("grey.npy")
    test = load_data("grey.npy").test.values
    assert len(values) == 80
    assert report["elbo"] == pytest.approx(vae.score_samples(test, n_samples=1).mean(), abs=1e-4)
    assert report["log_p"] == pytest.approx(vae.log_likelihood(test, n_samples=20).mean(), abs=1e-4)
    assert not list(Path("run/evaluation").glob("*.png"))


def test_json_is_all_that_is_printed(command, run):
    code, out, _ = command("run", *QUICK, "--json", "--no-figures", "--out", "elsewhere")
    assert code == 0
    assert json.loads(out) == json.loads(Path("elsewhere/evaluation.json").read_text())
    assert not Path("run/evaluation").exists()


def test_only_some_images(command, run):
    code, out, _ = command("run", *QUICK, "--json", "--limit", "3")
    assert (code, json.loads(out)["images"]) == (0, 3)


def test_other_data(command, run, tmp_path):
    runs.tiny_images(tmp_path / "other.npy", 50, 30)
    code, out, _ = command("run", *QUICK, "--json", "--no-figures", "--data", "other.npy")
    assert (code, json.loads(out)["images"]) == (0, 50)
    runs.tiny_images(tmp_path / "wide.npy", 50, 31)
    code, _, err = command("run", *QUICK, "--data", "wide.npy")
    assert code == 3
    assert err == "vaefast: wide.npy has 31 pixels an image, but the model has 30: give other --data\n"


def test_all_rows_of_other_data_and_the_test_set_of_the_runs_own(command, run, tmp_path):
    runs.tiny_images(tmp_path / "other.npy", 50, 30)
    other, vae = np.load("other.npy"), load("run").set_params(engine="reference")
    np.save("one.npy", other[:1])
    np.savez("own.npz", x_train=other[:40], x_test=other[40:])
    for name, limit, values, words in (
        ("other.npy", (), other, "other.npy: all 50 rows | run"),
        ("other.npy", ("--limit", "7"), other[:7], "other.npy: the first 7 of 50 rows | run"),
        ("other.npy", ("--limit", "50"), other, "other.npy: all 50 rows | run"),
        ("one.npy", (), other[:1], "one.npy: all 1 rows | run"),
        ("own.npz", (), other[40:], "own.npz: 10 test images | run"),
        ("grey.npy", (), load_data("grey.npy").test.values, "grey.npy: 8 test images | run"),
        ("grey.npy", ("--limit", "3"), load_data("grey.npy").test.values[:3], "grey.npy: the first 3 of 8 test images | run"),
    ):
        code, out, err = command("run", *QUICK, "--no-figures", "--data", name, *limit)
        assert code == 0, err
        assert out.startswith(words)
        report = json.loads(Path("run/evaluation/evaluation.json").read_text())
        assert (report["images"], report["evaluated"]) == (len(values), words.split(": ")[1].split(" |")[0])
        assert report["elbo"] == pytest.approx(vae.score_samples(values, n_samples=1).mean(), abs=1e-4)


def test_what_was_left_out_of_a_file_is_said(command, run):
    pd.DataFrame(np.load("grey.npy")).to_csv("grey.csv")
    code, out, err = command("run", *QUICK, "--no-figures", "--data", "grey.csv")
    assert code == 0
    assert "the first line counts the columns 0 to 29: taken as a header; the first column has no name" in err
    # The same images in another file are the run's own.
    assert out.startswith("grey.csv: 8 test images")


def test_a_model_file_alone(command, run):
    shutil.copy("run/model.safetensors", "mine.safetensors")
    code, _, err = command("mine.safetensors", *QUICK)
    assert code == 2
    assert "no checkpoint that records its data: give --data" in err
    code, out, _ = command("mine.safetensors", *QUICK, "--json", "--data", "grey.npy", "--no-figures")
    assert code == 0
    assert Path("mine-evaluation/evaluation.json").exists()
    # Which images are its test set it cannot know.
    assert json.loads(out)["evaluated"] == "all 80 rows"
    shutil.copytree("run/checkpoint", "checkpoint")
    code, out, _ = command("mine.safetensors", *QUICK, "--json", "--data", "grey.npy", "--no-figures")
    assert json.loads(out)["evaluated"] == "8 test images"
    # In its run's folder it knows its data.
    assert command("run/model.safetensors", *QUICK, "--no-figures")[0] == 0
    again = json.loads(Path("run/model-evaluation/evaluation.json").read_text())
    assert again["log_p"] == json.loads(out)["log_p"]


def test_data_that_changed_are_refused(command, run, tmp_path):
    values = np.load("grey.npy")
    np.save("grey.npy", values[::-1])
    code, _, err = command("run", *QUICK)
    assert code == 3
    assert "grey.npy is not what run was trained on (SHA-256 " in err
    assert command("run", *QUICK, "--data", "grey.npy", "--no-figures")[0] == 0
    Path("grey.npy").unlink()
    code, _, err = command("run", *QUICK)
    assert code == 3
    assert "grey.npy" in err


def test_a_run_without_a_model(command, run):
    Path("run/model.safetensors").unlink()
    code, _, err = command("run", *QUICK)
    assert code == 3
    assert err == "vaefast: run holds no model.safetensors: finish it with vaefast train --resume run\n"
    Path("empty").mkdir()
    code, _, err = command("empty", *QUICK)
    assert code == 3
    assert "give a run folder or a model file" in err
    code, _, err = command("nowhere", *QUICK)
    assert code == 3
    assert err.count("\n") == 1


def test_a_damaged_model(command, run):
    path = Path("run/model.safetensors")
    content = path.read_bytes()
    for damaged in (content[:100], b"", content[:-10], b"\xff" * 200):
        path.write_bytes(damaged)
        code, _, err = command("run", *QUICK)
        assert code == 3
        assert err.count("\n") == 1
        assert "internal error" not in err


def test_checkpoints_that_are_gone(command, run):
    shutil.rmtree("run/checkpoint")
    code, _, err = command("run", *QUICK)
    assert code == 2
    assert "give --data" in err
    assert command("run", *QUICK, "--data", "grey.npy", "--no-figures")[0] == 0


def test_a_model_that_the_estimator_saved(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(5.0, 3.0, (40, 6))
    vae = VAE(2, hidden_layer_sizes=(8,), epochs=1, engine="reference", random_state=0).fit(X)
    vae.save("scaled.safetensors")
    np.save("x.npy", X)
    code, out, _ = command("scaled.safetensors", *QUICK, "--data", "x.npy", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["evaluated"] == "all 40 rows"
    samples = int(QUICK[QUICK.index("--samples") + 1])
    assert found["log_p"] == pytest.approx(vae.log_likelihood(X, samples).mean(), abs=1e-9)
    assert found["elbo"] == pytest.approx(vae.score_samples(X, n_samples=1).mean(), abs=1e-9)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--samples", "0"), "samples is 0"),
        (("--samples", "many"), "'many' is no whole number"),
        (("--limit", "0"), "limit is 0"),
        (("--engine", "fast"), "engine is 'fast'"),
        (("--threads", "0"), "threads is '0'"),
        (("--out", "a\0b"), "null character"),
        (("--smaples", "3"), "did you mean --samples?"),
    ],
)
def test_flags_that_are_refused(command, run, flags, words):
    code, _, err = command("run", *flags)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert not Path("run/evaluation").exists()


def test_results_that_cannot_be_written(command, run):
    Path("file").write_text("")
    code, _, err = command("run", *QUICK, "--out", "file/below")
    assert code == 6
    assert err.count("\n") == 1


# --- Warnings


def found(**changes: object) -> Assessment:
    numbers: dict[str, object] = dict.fromkeys(Assessment.__dataclass_fields__, 1.0)
    numbers |= {"images": 10, "samples": 50, "latent_kl": [1.0] * 10, "mean_variances": [1.0] * 10, "collapsed": 0.0}
    return Assessment(**{**numbers, **changes})  # type: ignore[arg-type]


def warned(activation: str = "relu", **changes: object) -> str:
    from types import SimpleNamespace

    return "\n".join(evaluate._warnings(found(**changes), SimpleNamespace(model=SimpleNamespace(activation=activation))))


def test_posterior_collapse_is_said_with_what_helps():
    assert warned() == ""
    assert warned(mean_variances=[1.0] + [0.0] * 9) == ""
    collapsed = warned(mean_variances=[0.009] * 10)
    for words in ("posterior collapse: 0 of 10", "--kl-warm-up linear", "--objective free-bits", "--init data-mean"):
        assert words in collapsed
    assert "--init" not in warned("tanh", mean_variances=[0.0] * 10)


def test_collapsed_weights_are_said():
    assert warned(collapsed=0.001) == ""
    assert "log p(x) is too low for 20.0 % of the images, where fewer than 2 of 50 samples decide it" in warned(collapsed=0.2)


def test_a_collapsed_run_is_warned_of(command, run):
    """data-mean with relu, trained on the ELBO: known to end so."""
    assert runs.command("--data", "grey.npy", *MODEL, "--init", "data-mean", "--epochs", "3", "--out", "flat")[0] == 0
    saved = model_file.read(Path("flat/model.safetensors"))
    from vaefast.models.layout import Layout

    for name, view in Layout(saved.model).views(saved.parameters).items():
        if name.startswith("mean"):
            view[...] = 0
    content = model_file.serialize(Layout(saved.model), saved.parameters, saved.training)
    Path("flat/model.safetensors").write_bytes(content)
    code, _, err = command("flat", *QUICK, "--no-figures")
    assert code == 0
    assert "posterior collapse: 0 of 2 latents" in err


def test_the_checkpoint_is_only_read(command, run):
    before = CheckpointFolder(Path("run/checkpoint")).numbers()
    assert command("run", *QUICK, "--no-figures")[0] == 0
    assert CheckpointFolder(Path("run/checkpoint")).numbers() == before


def test_it_takes_no_part_in_a_job(command, run, monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    code, out, err = command("run", *QUICK)
    assert (code, out) == (2, "")
    assert err == "vaefast: this command runs as one process, but 2 were started: start it without mpiexec\n"
    assert not Path("run/evaluation").exists()
