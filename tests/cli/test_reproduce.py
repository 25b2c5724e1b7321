"""`python -m vaefast.reproduce`: the set-up of the table, stage by stage, stopped and gone on with."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vaefast
from tests.faults import runs
from vaefast import reproduce, train
from vaefast.cli.options import checked
from vaefast.engines import threads
from vaefast.engines.contract import State
from vaefast.engines.reference import adam_step
from vaefast.evaluation import iwae_table1, measures
from vaefast.models.settings import AdamSettings
from vaefast.runs.interruption import EXIT_CODES
from vaefast.training.schedules import pace

Command = Callable[..., tuple[int, str, str]]
QUICK = ("--samples", "8", "--stage-samples", "4", "--engine", "reference")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command on tiny images with a tiny model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    monkeypatch.setattr(threads, "granted_cores", lambda: 2)
    real = iwae_table1.settings
    monkeypatch.setattr(iwae_table1, "settings", lambda *a, **k: {**real(*a, **k), "hidden": [8], "latent": 3})
    runs.tiny_images(tmp_path / "grey.npy", 60, 12)

    def call(*arguments: str) -> tuple[int, str, str]:
        handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
        out, err = io.StringIO(), io.StringIO()
        try:
            with runs.plain_figures(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = reproduce.main(["iwae-table1", *arguments])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return code, out.getvalue(), err.getvalue()

    return call


def small(command: Command, *more: str, data: str = "grey.npy", rows: str = "vae-1", stages: str = "3", out: str = "t"):
    return command("--data", data, "--rows", rows, "--stages", stages, "--out", out, *QUICK, *more)


def stages_of(row: str = "vae-1", out: str = "t") -> dict[str, dict[str, float]]:
    return json.loads((Path(out) / "results.json").read_text())["rows"][row]["stages"]


# --- The set-up


def test_the_published_values():
    assert {name: (row.objective, row.samples, row.nll) for name, row in iwae_table1.ROWS.items()} == {
        "vae-1": ("elbo", 1, 86.76), "vae-5": ("elbo", 5, 86.47), "vae-50": ("elbo", 50, 86.35),
        "iwae-5": ("iwae", 5, 85.54), "iwae-50": ("iwae", 50, 84.78),
    }  # fmt: skip


@pytest.mark.parametrize("name", iwae_table1.ROWS)
def test_how_a_row_is_trained(name):
    options = checked(iwae_table1.settings(iwae_table1.ROWS[name], "paper"))
    model, training = options.model, options.training
    assert (model.hidden, model.latent, model.activation) == ((200, 200), 50, "tanh")
    assert (training.batch_size, training.initialization, training.binarize) == (20, "data-mean", "dynamic")
    assert training.adam == AdamSettings(1e-3, 0.9, 0.999, 1e-4 / 20)
    assert (training.objective.name, training.objective.samples) == (
        iwae_table1.ROWS[name].objective,
        iwae_table1.ROWS[name].samples,
    )
    assert (training.rate_schedule.name, training.second_moments) == ("staged", 0.0)
    assert training.objective.kl == "closed"
    chosen = checked(iwae_table1.settings(iwae_table1.ROWS["vae-5"], "paper", beta1=0.95, kl="sampled")).training
    assert (chosen.adam.beta1, chosen.objective.kl) == (0.95, "sampled")


def test_the_variant_of_the_code():
    training = checked(iwae_table1.settings(iwae_table1.ROWS["vae-1"], "code")).training
    assert (training.adam.beta1, training.objective.kl, training.second_moments) == (0.99, "sampled", 1 / 400)
    rates = [pace(training, 10, 10 * epoch, 1).learning_rates[0] for epoch in (0, 1, 4, 13, 40, 121, 364, 1093)]
    assert rates == pytest.approx([1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4], rel=1e-12)


@pytest.mark.parametrize(("variant", "tolerance"), [("paper", 1e-9), ("code", 2e-4)])
def test_adam_steps_as_theirs_on_the_summed_gradient(variant, tolerance):
    """Theirs as a loop: the gradient is the sum over 20 images and epsilon is 1e-4. The code adds its epsilon before the bias
    correction, which its second moments, near 1 at first, outweigh; `table1` says by how much."""
    options = checked(iwae_table1.settings(iwae_table1.ROWS["vae-1"], variant)).training
    rng, adam = np.random.default_rng(0), options.adam
    ours = State.zeros(6, np.float64)
    ours.second_moments[...] = options.second_moments
    theirs, m, v = np.zeros(6), np.zeros(6), np.full(6, 1.0 if variant == "code" else 0.0)
    scale = 10.0 ** np.arange(-3, 3)
    for t in range(1, 201):
        mean = scale * (0.3 + rng.standard_normal(6))
        adam_step(ours, mean, adam)
        total = 20 * mean
        m, v = adam.beta1 * m + (1 - adam.beta1) * total, 0.999 * v + 0.001 * total**2
        if variant == "code":
            theirs -= 1e-3 * np.sqrt(1 - 0.999**t) / (1 - adam.beta1**t) * m / (np.sqrt(v) + 1e-4)
        else:
            theirs -= 1e-3 * m / (1 - adam.beta1**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-4)
    np.testing.assert_allclose(ours.parameters, theirs, rtol=tolerance)


# --- A run of it


def test_stage_by_stage(command):
    code, out, err = small(command)
    assert (code, err) == (0, "")
    stages = stages_of()
    assert [(entry["epochs"], entry["samples"]) for entry in stages.values()] == [(1, 4), (4, 4), (13, 8)]
    assert all(np.isfinite(entry["nll"]) and entry["nll"] == -entry["log_p"] for entry in stages.values())
    # The row is one plain run of `vaefast.train`, and its model what that command makes.
    flags = [
        "--data", "grey.npy", "--hidden", "8", "--latent", "3", "--activation", "tanh", "--init", "data-mean",
        "--epochs", "13", "--batch-size", "20", "--epsilon", "5e-6", "--learning-rate-schedule", "staged",
        "--engine", "reference",
    ]  # fmt: skip
    assert runs.command(*flags, "--out", "plain")[0] == 0
    assert Path("plain/model.safetensors").read_bytes() == Path("t/vae-1/model.safetensors").read_bytes()
    assert Path("t/nll.png").read_bytes().startswith(b"\x89PNG")
    assert "vae-1: stage 3 of 8, epoch 13: test NLL" in out
    assert "published" not in out.split("row  ")[0]  # there is nothing published about these images
    assert f"{stages['3']['nll']:.2f} +- " in out.splitlines()[-5]


def test_the_evaluation_is_that_of_the_models_stage(command):
    assert small(command, stages="2")[0] == 0
    from vaefast.data import load
    from vaefast.files import model_file

    model = measures.network(model_file.read(Path("t/vae-1/model.safetensors")), "reference", 1)
    found = measures.assess(model, load("grey.npy").test.values, 8)
    assert stages_of()["2"]["nll"] == pytest.approx(-found.log_p, rel=1e-6)
    assert stages_of()["2"]["active_units"] == found.active_units


def test_more_stages_go_on_and_nothing_is_done_twice(command):
    assert small(command, stages="2")[0] == 0
    before = stages_of()
    code, out, _ = small(command, stages="2")
    assert code == 0
    assert "stage" not in out.splitlines()[0] or out.startswith("row")
    code, out, _ = small(command, stages="3")
    assert code == 0
    assert "stage 3 of 8, to epoch 13" in out
    assert "stage 1 of 8" not in out
    assert {number: stages_of()[number] for number in ("1", "2")} == before
    assert small(command, out="at once")[0] == 0
    assert stages_of(out="at once")["3"]["nll"] == stages_of()["3"]["nll"]
    assert Path("t/vae-1/model.safetensors").read_bytes() == Path("at once/vae-1/model.safetensors").read_bytes()


@pytest.mark.parametrize("place", ["training", "evaluation"])
def test_stopped_and_gone_on_with(command, monkeypatch, place):
    calls = [0]
    real_train, real_assess = train.run, measures.assess

    def interrupted(real):
        def call(*arguments, **settings):
            calls[0] += 1
            if calls[0] == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*arguments, **settings)

        return call

    if place == "training":
        monkeypatch.setattr(train, "run", interrupted(real_train))
    else:
        monkeypatch.setattr(measures, "assess", interrupted(real_assess))
    code, _, err = small(command)
    assert code == 130
    assert err == "vaefast: stopped by SIGINT; finished work is kept: the same command continues\n"
    assert list(stages_of()) == ["1"]
    assert not Path("t/.lock").exists()
    monkeypatch.setattr(train, "run", real_train)
    monkeypatch.setattr(measures, "assess", real_assess)
    assert small(command)[0] == 0
    assert small(command, out="whole")[0] == 0
    assert [entry["nll"] for entry in stages_of().values()] == [entry["nll"] for entry in stages_of(out="whole").values()]


def test_more_samples_evaluate_the_last_stage_again(command):
    assert small(command, stages="2")[0] == 0
    code, out, err = command(
        "--data", "grey.npy", "--rows", "vae-1", "--stages", "2", "--out", "t", *QUICK[2:], "--samples", "16"
    )
    assert (code, err) == (0, "")
    assert stages_of()["2"]["samples"] == 16
    assert "nothing to do: all 4 epochs" in out


def test_a_stage_that_was_not_evaluated_stays_so_and_is_named(command):
    assert small(command, stages="2")[0] == 0
    Path("t/results.json").unlink()
    code, _, err = small(command, stages="2")
    assert code == 0
    assert err == "vaefast: vae-1 is already past stage 1, which stays unevaluated\n"
    assert list(stages_of()) == ["2"]


def test_rows_and_the_engines_that_have_them(command):
    assert small(command, rows="iwae-5,vae-5", stages="1")[0] == 0
    results = json.loads(Path("t/results.json").read_text())["rows"]
    assert list(results) == ["iwae-5", "vae-5"]
    assert results["iwae-5"]["settings"]["objective"] == "iwae"
    code, _, err = command("--data", "grey.npy", "--rows", "iwae-5", "--stages", "1", "--out", "u", "--engine", "cuda")
    assert code == 2
    assert "engine cuda lacks" in err or "cannot run here" in err


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--rows", "vae-2"), 2, "rows has 'vae-2': choose from vae-1,vae-5"),
        (("--rows", "vae-1,vae-1"), 2, "give each row once"),
        (("--rows", ","), 2, "give each row once"),
        (("--stages", "9"), 2, "stages is 9: give a whole number from 1 to 8"),
        (("--stages", "0"), 2, "stages is 0"),
        (("--samples", "0"), 2, "samples is 0"),
        (("--variant", "other"), 2, "invalid choice"),
        (("--beta1", "1"), 2, "beta1 is 1.0"),
        (("--engine", "fast"), 2, "engine is 'fast'"),
        (("--seed", "-1"), 2, "seed is -1"),
        (("--data", "nowhere.npy"), 3, "nowhere.npy"),
        (("--stagse", "2"), 2, "did you mean --stages?"),
    ],
)
def test_flags_that_are_refused(command, flags, code, words):
    result = command("--data", "grey.npy", "--rows", "vae-1", "--out", "t", *flags)
    assert result[0] == code
    assert words in result[2]
    assert result[2].count("\n") == 1
    assert not Path("t/results.json").exists()


def test_another_table_is_unknown(capfd):
    assert reproduce.main(["table-9"]) == 2
    assert "iwae-table1" in capfd.readouterr().err


def test_products_in_bfloat16(command):
    assert small(command, stages="1")[0] == 0
    code, out, err = small(command, "--precision", "bf16", stages="1", out="rounded")
    assert (code, err) == (0, "")
    assert "- products are in bf16, in training and in evaluation" in out
    plain, rounded = stages_of()["1"], stages_of(out="rounded")["1"]
    assert rounded["nll"] != plain["nll"]
    assert rounded["nll"] == pytest.approx(plain["nll"], rel=0.01)
    assert json.loads(Path("rounded/results.json").read_text())["settings"]["precision"] == "bf16"


def test_results_from_before_precisions_are_of_float32(command):
    assert small(command, stages="1")[0] == 0
    results = json.loads(Path("t/results.json").read_text())
    del results["settings"]["precision"]
    Path("t/results.json").write_text(json.dumps(results))
    assert small(command, stages="2")[0] == 0
    assert list(stages_of()) == ["1", "2"]
    code, _, err = small(command, "--precision", "bf16", stages="2")
    assert code == 4
    assert "precision was float32, is now bf16" in err


@pytest.mark.parametrize(
    "flags",
    [("--seed", "1"), ("--variant", "code"), ("--beta1", "0.95"), ("--kl", "sampled"), ("--precision", "bf16")],
)
def test_other_settings_are_another_reproduction(command, flags):
    assert small(command, stages="1")[0] == 0
    code, _, err = small(command, *flags, stages="1")
    assert code == 4
    assert err.startswith("vaefast: t holds another reproduction: ")
    assert f"is now {flags[1]}" in err


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"settings": {}, "rows": {"vae-1": {"stages": {"1": {}}}}}', "[" * 20_000]
)
def test_damaged_results_are_named(command, content):
    Path("t").mkdir()
    Path("t/results.json").write_text(content)
    code, _, err = small(command)
    assert code == 4
    assert "results.json is damaged: remove t/results.json to evaluate anew" in err


def test_one_at_a_time_in_a_folder(command):
    from vaefast.runs.folder_lock import FolderLock

    Path("t").mkdir()
    lock = FolderLock(Path("t"))
    code, _, err = small(command)
    lock.release()
    assert code == 2
    assert "t is in use by process" in err


def test_a_full_disk_is_one_line(command):
    Path("t").write_text("a file")
    code, _, err = small(command)
    assert code == 6
    assert err.count("\n") == 1


def test_help_lists_the_flags_quickly():
    environment = {**os.environ, "PYTHONPATH": str(Path(vaefast.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-m", "vaefast.reproduce", "--help"], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "--stage-samples" in result.stdout


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_it_takes_no_part_in_a_job(command, monkeypatch, rank, lines):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", rank)
    code, out, err = small(command)
    assert (code, out, err.count("\n")) == (2, "", lines)
    assert not Path("t").exists()
