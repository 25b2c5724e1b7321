"""`--resume`: the result of a run that was stopped is that of one that never was, bit for bit, or it is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.faults import runs
from tests.faults.mutate import _resealed
from vaefast import engines
from vaefast.engines import threads
from vaefast.inputs import finding
from vaefast.plots import run_figures
from vaefast.runs import run_folder
from vaefast.runs.checkpoint import CheckpointFolder
from vaefast.runs.run_folder import RunFolder

REAL_MNIST = os.environ.get("VAEFAST_DATA_DIR")
EPOCHS = 3
PIECES = 6  # of an epoch: 36 training images in minibatches of 7, one a piece
MODEL = ("--hidden", "20", "9", "--latent", "3", "--batch-size", "7", "--seed", "5")

Command = Callable[..., tuple[int, str, str]]


def started(command: Command, out: str, *more: str) -> tuple[int, str, str]:
    return command("--data", "grey.npy", *MODEL, "--epochs", str(EPOCHS), "--out", out, *more)


@pytest.fixture
def whole(command: Command) -> runs.Outcome:
    assert started(command, "whole", "--threads", "2")[0] == 0
    return runs.outcome(Path("whole"))


def one_line(err: str, *words: str) -> None:
    assert err.startswith("vaefast: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err, err


# --- The same bits


@pytest.mark.parametrize("engine", ["numba", "reference"])
@pytest.mark.parametrize(
    # The first call is for the second; then one for each piece and each epoch's end.
    "pause",
    [2, 4, 1 + PIECES, 2 + PIECES, 3 + PIECES, 4 + 2 * PIECES, 3 * (PIECES + 1), 1 + 3 * (PIECES + 1)],
)
def test_a_run_that_was_stopped_ends_like_one_that_was_not(command, signal_at, pause, engine):
    assert started(command, "whole", "--engine", engine, "--threads", "2")[0] == 0
    signal_at(pause, signal.SIGTERM)
    code, _, err = started(command, "run", "--engine", engine, "--threads", "1", "--checkpoint-every", "never")
    assert code == 143
    one_line(err, "stopped by SIGTERM", "--resume run continues")
    assert not (Path("run") / "model.safetensors").exists()
    signal_at(0, signal.SIGTERM)
    code, out, err = command("--resume", "run", "--threads", "3")
    assert (code, err) == (0, "")
    images = min(36, 7 * ((pause - 1) % (PIECES + 1)))
    assert f"from checkpoint 2: {(pause - 1) // (PIECES + 1)} of 3 epochs and {images} of 36 images" in out
    runs.check_same(runs.outcome(Path("whole")), Path("run"), "resumed")


def test_a_run_that_is_stopped_again_and_again(command, signal_at, whole):
    arguments = ("--data", "grey.npy", *MODEL, "--epochs", "3", "--out", "run", "--resume", "auto")
    codes = []
    for number in range(60):
        signal_at(3, (signal.SIGINT, signal.SIGTERM)[number % 2])
        codes.append(command(*arguments, "--threads", str(1 + number % 3))[0])
        if codes[-1] == 0:
            break
    assert codes[-1] == 0
    assert codes[:2] == [130, 143]
    assert len(codes) == 11  # 21 pauses after the start, two further each time, and none left
    runs.check_same(whole, Path("run"), "resumed ten times")


def test_checkpoints_change_nothing(command, whole):
    for number, when in enumerate(("0m", "1", "2 epochs", "never")):
        assert started(command, str(number), "--checkpoint-every", when)[0] == 0
        runs.check_same(whole, Path(str(number)), when)


def test_the_last_checkpoint_holds_the_model_that_is_saved(command, whole):
    from safetensors.numpy import load

    from vaefast.models.layout import Layout
    from vaefast.models.settings import ModelSettings

    _, checkpoint, _ = CheckpointFolder(Path("whole/checkpoint")).newest()
    views = Layout(ModelSettings(30, (20, 9), 3)).views(checkpoint.state.parameters)
    for name, tensor in load(whole.model).items():
        np.testing.assert_array_equal(views[name], tensor)


def test_more_epochs_continue_a_finished_run(command, whole):
    assert command("--data", "grey.npy", *MODEL, "--epochs", "2", "--out", "run")[0] == 0
    code, out, err = command("--resume", "run", "--epochs", "3")
    assert (code, err) == (0, "")
    assert "from checkpoint 2: 2 of 3 epochs" in out
    assert "| epoch 3 in" in out
    runs.check_same(whole, Path("run"), "made longer")
    assert json.loads(Path("run/settings.json").read_text())["training"]["epochs"] == 3


def test_more_epochs_are_remembered_from_the_first_moment(command, signal_at, whole):
    assert command("--data", "grey.npy", *MODEL, "--epochs", "2", "--out", "run")[0] == 0
    signal_at(1, signal.SIGINT)
    assert command("--resume", "run", "--epochs", "3")[0] == 130
    assert not Path("run/checkpoint/checkpoint-000001.json").exists()
    signal_at(0, signal.SIGINT)
    assert command("--resume", "run")[0] == 0
    runs.check_same(whole, Path("run"), "made longer, stopped at once, and resumed")


def test_epochs_trained_after_the_checkpoint_are_trained_again(command, whole):
    """Killed after two lines of metrics that no checkpoint has seen."""
    shutil.copytree("whole", "run")
    for path in Path("run/checkpoint").glob("checkpoint-000002*"):
        path.unlink()
    Path("run/model.safetensors").unlink()
    code, out, _ = command("--resume", "run")
    assert code == 0
    assert "from checkpoint 1: 0 of 3 epochs" in out
    runs.check_same(whole, Path("run"), "from the first checkpoint")


@pytest.mark.skipif(not REAL_MNIST, reason="set VAEFAST_DATA_DIR to a folder with the MNIST files")
def test_the_reports_model_on_mnist_stopped_within_an_epoch(tmp_path, signal_at, monkeypatch):
    """At full size, where pieces are as long as the clock makes them: never twice the same."""
    monkeypatch.setattr(threads, "granted_cores", lambda: 2)
    arguments = ("--data", "mnist", "--data-dir", str(REAL_MNIST), "--epochs", "2")
    assert runs.command(*arguments, "--out", str(tmp_path / "whole"), "--threads", "1")[0] == 0
    signal_at(6, signal.SIGTERM)
    assert runs.command(*arguments, "--out", str(tmp_path / "run"), "--threads", "2")[0] == 143
    signal_at(0, signal.SIGTERM)
    _, checkpoint, _ = CheckpointFolder(tmp_path / "run" / "checkpoint").newest()
    assert 0 < checkpoint.images < 60_000
    assert runs.command("--resume", str(tmp_path / "run"), "--threads", "1")[0] == 0
    runs.check_same(runs.outcome(tmp_path / "whole"), tmp_path / "run", "resumed")


# --- After the end


def test_nothing_to_do(command, whole):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("whole/figures").iterdir()}
    code, out, err = command("--resume", "whole")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("nothing to do: all 3 epochs of whole are trained")
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path("whole/figures").iterdir()} == before
    runs.check_same(whole, Path("whole"), "nothing to do")
    assert CheckpointFolder(Path("whole/checkpoint")).numbers() == [1, 2]


@pytest.mark.parametrize("name", ["model.safetensors", "figures/elbo.png", "metrics.jsonl", "figures"])
def test_results_that_are_missing_are_written_again(command, whole, name):
    path = Path("whole") / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert command("--resume", "whole")[0] == 0
    runs.check_same(whole, Path("whole"), f"without {name}")


def test_figures_of_an_earlier_model_are_never_left_beside_a_later_one(command, monkeypatch):
    assert command("--data", "grey.npy", *MODEL, "--epochs", "2", "--out", "run")[0] == 0
    before = Path("run/model.safetensors").read_bytes()

    def draw(*arguments: object, **settings: object) -> None:
        raise ZeroDivisionError("killed here")

    monkeypatch.setattr(run_figures, "draw", draw)
    monkeypatch.setattr(runs, "plain_figures", contextlib.nullcontext)
    assert command("--resume", "run", "--epochs", "3")[0] == 1
    assert list(Path("run/figures").iterdir()) == []
    assert Path("run/model.safetensors").read_bytes() != before


SCHEDULES = {
    "steps": ("--learning-rate-steps", "1:0.5", "2:0.1"),
    "cosine": ("--final-learning-rate", "1e-4"),
    "staged": ("--learning-rate-schedule", "staged"),
}


@pytest.mark.parametrize("engine", engines.ENGINES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_with_a_schedule_that_was_stopped_ends_like_one_that_was_not(command, signal_at, name, engine):
    if (reason := engines.why_not(engine)) is not None:
        pytest.skip(reason)
    flags = ("--engine", engine, "--learning-rate", "0.01", *SCHEDULES[name])
    assert started(command, "whole", *flags, "--threads", "2")[0] == 0
    assert started(command, "constant", *flags[:4])[0] == 0
    assert Path("constant/model.safetensors").read_bytes() != Path("whole/model.safetensors").read_bytes()
    signal_at(4 + PIECES, signal.SIGTERM)
    assert started(command, "run", *flags, "--checkpoint-every", "never")[0] == 143
    signal_at(0, signal.SIGTERM)
    assert command("--resume", "run", "--threads", "3")[0] == 0
    runs.check_same(runs.outcome(Path("whole")), Path("run"), "resumed")
    assert started(command, "run", *flags, "--resume", "run")[0] == 0  # the same flags again are no other run


def test_a_cosine_cannot_be_made_longer(command):
    assert started(command, "run", "--learning-rate-schedule", "cosine")[0] == 0
    code, _, err = command("--resume", "run", "--epochs", "4")
    assert code == 4
    one_line(err, "epochs was 3, is 4")


def test_fewer_epochs_are_refused(command, whole):
    code, _, err = command("--resume", "whole", "--epochs", "2")
    assert code == 2
    one_line(err, "epochs is 2", "3 are begun")
    runs.check_same(whole, Path("whole"), "refused")


# --- Another run


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--hidden", "20", "8"), ("hidden was 20 9, is 20 8",)),
        (("--hidden",), ("hidden was 20 9, is ",)),
        (("--latent", "4"), ("latent was 3, is 4",)),
        (("--activation", "tanh"), ("activation was relu, is tanh",)),
        (("--seed", "6"), ("seed was 5, is 6",)),
        (("--batch-size", "8"), ("batch_size was 7, is 8",)),
        (("--binarize", "none"), ("binarize was dynamic, is none",)),
        (("--init", "he"), ("init was glorot, is he",)),
        (("--learning-rate", "0.01"), ("learning_rate was 0.001, is 0.01",)),
        (("--beta1", "0.8"), ("beta1 was 0.9, is 0.8",)),
        (("--learning-rate-schedule", "staged"), ("learning_rate_schedule was constant, is staged",)),
        (
            ("--learning-rate-schedule", "steps", "--learning-rate-steps", "1:0.5", "2:.1"),
            ("learning_rate_schedule was constant, is steps", "learning_rate_steps was , is 1:0.5 2:0.1"),
        ),
        (("--engine", "reference"), (f"engine was {engines.choose('auto')}, is reference",)),
        (("--data", "other.npy"), ("data was SHA-256 ",)),
        (("--data", "wider.npy"), ("data was SHA-256 ", "pixels was 30, is 31")),
        (
            ("--data", "other.npy", "--seed", "1", "--latent", "9"),
            ("seed was 5, is 1", "latent was 3, is 9", "data was SHA-256"),
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_another_run_is_refused_with_all_that_differs(command, whole, tmp_path, flags, words):
    runs.tiny_images(tmp_path / "other.npy", 41, 30)
    runs.tiny_images(tmp_path / "wider.npy", 40, 31)
    for resume in ("whole", "auto"):
        code, out, err = command("--resume", resume, "--out", "whole", *flags, "--epochs", "9")
        assert (code, out) == (4, "")
        one_line(err, "whole is another run", *words)
    runs.check_same(whole, Path("whole"), "refused")
    assert not Path("whole/.lock").exists()


def test_the_same_settings_given_again_are_no_difference(command, whole):
    assert started(command, "whole", "--resume", "whole", "--learning-rate", "1e-3", "--engine", "auto")[0] == 0


def test_other_software_is_said(command, monkeypatch, signal_at):
    signal_at(3, signal.SIGINT)
    assert started(command, "run")[0] == 130
    signal_at(0, signal.SIGINT)
    monkeypatch.setattr(run_folder, "cpu_name", lambda: "another processor")
    code, _, err = command("--resume", "run")
    assert code == 0
    one_line(err, "cpu was", "is another processor", "last bits")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("run", "settings"), {}, "lacks its settings"),
        (("run", "settings", "model", "hidden"), 3, "other types"),
        (("run", "source", "data"), 3, "other types"),
        (("run", "settings", "training", "batch_size"), "x", "batch_size is 'x'"),
        (("run", "settings", "training", "batch_size"), 9, "position is none of this run"),
        (("run", "settings", "model", "latent"), 4, "another number of parameters"),
        (("history", 0), {"epoch": 1}, "other columns"),
        (("history", 0, "train_elbo"), "x", "other columns"),
        (("position", "step"), 19, "position is none of this run"),
    ],
    ids=str,
)
def test_a_checkpoint_that_another_program_wrote_is_refused(command, signal_at, path, value, words):
    signal_at(3 + PIECES + 1, signal.SIGINT)
    assert started(command, "run")[0] == 130
    signal_at(0, signal.SIGINT)
    names = [Path(f"run/checkpoint/checkpoint-000002.{part}") for part in ("safetensors", "json")]
    content = json.loads(names[1].read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    names[1].write_text(json.dumps(content))
    Path("run/checkpoint/checkpoint-000002.manifest.json").write_bytes(_resealed(names))
    code, _, err = command("--resume", "run")
    assert code in (2, 4)
    one_line(err, words)


def test_a_run_of_an_earlier_version_goes_on(command, signal_at, whole):
    """Its checkpoint does not name the settings that came later, and was trained by their defaults."""
    signal_at(3 + PIECES + 1, signal.SIGINT)
    assert started(command, "run")[0] == 130
    signal_at(0, signal.SIGINT)
    names = [Path(f"run/checkpoint/checkpoint-000002.{part}") for part in ("safetensors", "json")]
    content = json.loads(names[1].read_text())
    for name in ("rate_schedule", "validation", "second_moments", "clip_norm"):
        del content["run"]["settings"]["training"][name]
    names[1].write_text(json.dumps(content))
    Path("run/checkpoint/checkpoint-000002.manifest.json").write_bytes(_resealed(names))
    assert command("--resume", "run")[0] == 0
    runs.check_same(whole, Path("run"), "resumed")


# --- Which run


def test_the_folder_or_its_checkpoints_may_be_named(command, whole):
    for name in ("whole", "whole/", "whole/checkpoint", str(Path("whole").absolute())):
        assert command("--resume", name)[0] == 0


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("nowhere", 4, ("nowhere does not exist", "--resume")),
        ("grey.npy", 4, ("grey.npy is no folder",)),
        (".", 4, (". holds no complete checkpoint",)),
        ("empty", 4, ("empty holds no complete checkpoint",)),
        ("begun", 4, ("begun holds a run that ended before its first checkpoint", "--resume auto --out begun")),
        ("a\0b", 2, ("null character",)),
    ],
)
def test_what_is_no_run(command, tmp_path, name, code, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun" / "checkpoint").mkdir(parents=True)
    before = {*tmp_path.rglob("*")}
    result = command("--resume", name)
    assert result[:2] == (code, "")
    assert {*tmp_path.rglob("*")} == before
    one_line(result[2], *words)


def test_out_may_be_named_only_if_it_is_the_same(command, whole):
    assert command("--resume", "whole", "--out", "./whole")[0] == 0
    code, _, err = command("--resume", "whole", "--out", "other")
    assert code == 2
    one_line(err, "--out is other", "leave out --out")
    assert not Path("other").exists()


def test_auto_starts_where_there_is_nothing(command, whole):
    arguments = ("--data", "grey.npy", *MODEL, "--epochs", "3", "--resume", "auto")
    Path("empty").mkdir()
    for out in ("new", "empty"):
        code, text, err = command(*arguments, "--out", out)
        assert (code, err) == (0, "")
        assert text.startswith(f"nothing to resume: a new run starts in {out}\n")
        runs.check_same(whole, Path(out), "auto")
        assert "nothing to do" in command(*arguments, "--out", out)[1]


def test_auto_starts_anew_after_a_death_before_the_first_checkpoint(command, whole):
    run = Path("run")
    (run / "figures").mkdir(parents=True)
    (run / "checkpoint").mkdir()
    for name in (
        ".lock",
        "settings.json",
        ".environment.json.x.part",
        "checkpoint/.x.part",
        "checkpoint/checkpoint-000001.json",
    ):
        (run / name).write_text("{")
    assert started(command, "run", "--resume", "auto")[0] == 0
    runs.check_same(whole, run, "auto")


@pytest.mark.parametrize("name", ["notes.txt", "metrics.jsonl", "figures/mine.png", "model.safetensors"])
def test_auto_takes_no_folder_of_somebody_else(command, name):
    path = Path("mine") / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    code, _, err = started(command, "mine", "--resume", "auto")
    assert code == 2
    assert "mine is not empty" in err
    assert path.read_text() == "mine"


def test_auto_without_a_folder_takes_the_newest_run(command, signal_at):
    arguments = ("--data", "grey.npy", *MODEL, "--epochs", "3")
    assert command(*arguments)[0] == 0
    signal_at(5, signal.SIGINT)
    assert command(*arguments, "--seed", "6")[0] == 130
    signal_at(0, signal.SIGINT)
    Path("runs/notes.txt").write_text("mine")
    os.utime(sorted(Path("runs").glob("*/checkpoint"))[0], (1, 1))
    code, out, _ = command("--resume", "auto")
    assert code == 0
    assert "0 of 3 epochs and 28 of 36 images" in out
    shutil.rmtree("runs")
    assert "nothing to resume" in command("--resume", "auto", *arguments)[1]


def test_auto_never_starts_anew_over_damaged_checkpoints(command, whole):
    for path in Path("whole/checkpoint").glob("*.json"):
        path.write_text("{}")
    code, _, err = started(command, "whole", "--resume", "auto")
    assert code == 4
    one_line(err, "checkpoint 2 is damaged", "checkpoint 1 is damaged", "another --out")
    assert (Path("whole") / "model.safetensors").exists()


def test_a_damaged_checkpoint_is_said_and_the_one_before_taken(command, whole):
    path = Path("whole/checkpoint/checkpoint-000002.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    code, out, err = command("--resume", "whole")
    assert code == 0
    one_line(err, "checkpoint 2 is damaged", "going back to checkpoint 1")
    assert "from checkpoint 1: 0 of 3" in out
    runs.check_same(whole, Path("whole"), "damaged")
    assert CheckpointFolder(Path("whole/checkpoint")).newest()[2] == []


def test_two_runs_in_one_folder(command, whole):
    folder = RunFolder(Path("whole"), existing=True)
    for arguments in (("--resume", "whole"), ("--resume", "auto", "--out", "whole"), ("--data", "grey.npy", "--out", "whole")):
        code, _, err = command(*arguments)
        assert code == 2
        one_line(err, f"whole is in use by process {os.getpid()}")
    folder.close()
    assert command("--resume", "whole")[0] == 0


def test_data_are_found_from_another_folder_and_in_another_place(command, signal_at, whole, monkeypatch):
    signal_at(5, signal.SIGINT)
    assert started(command, "run")[0] == 130
    signal_at(0, signal.SIGINT)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    shutil.copytree("../run", "copy")
    assert command("--resume", "../run")[0] == 0
    runs.check_same(whole, Path("../run"), "from elsewhere")
    Path("../grey.npy").rename("moved.npy")
    code, _, err = command("--resume", "copy")
    assert code == 3
    one_line(err, "grey.npy")
    assert command("--resume", "copy", "--data", "moved.npy")[0] == 0
    runs.check_same(whole, Path("copy"), "with its data moved")


def test_a_run_on_the_digits_stays_on_the_digits(command, signal_at, monkeypatch):
    """Started without a name of data, where MNIST was out of reach."""
    monkeypatch.delenv("VAEFAST_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", os.getcwd())
    signal_at(2, signal.SIGINT)
    code, _, err = command("--hidden", "5", "--latent", "2", "--epochs", "1", "--batch-size", "200", "--out", "run")
    assert code == 130
    assert "NO MNIST" in err
    signal_at(0, signal.SIGINT)
    assert command("--resume", "run")[::2] == (0, "")


# --- Signals


def test_a_signal_before_the_first_step_ends_at_once(command, monkeypatch):
    def slow(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(finding, "find", slow)
    start = time.monotonic()
    code, _, err = started(command, "run")
    assert (code, Path("run").exists()) == (143, False)
    one_line(err, "stopped by SIGTERM")
    assert time.monotonic() - start < 5


def test_a_signal_while_results_are_written_ends_at_once(command, whole, monkeypatch):
    def slow(*arguments: object, **settings: object) -> list[str]:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
        return []

    names = run_figures.names
    monkeypatch.setattr(run_figures, "names", slow)
    start = time.monotonic()
    assert started(command, "run")[0] == 130
    assert time.monotonic() - start < 5
    monkeypatch.setattr(run_figures, "names", names)
    assert command("--resume", "run")[0] == 0
    runs.check_same(whole, Path("run"), "stopped at the end")


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX signals")
def test_a_second_signal_ends_the_process_whatever_it_does(tmp_path):
    program = (
        "import os, signal, sys, time\n"
        "from vaefast import train\n"
        "from vaefast.runs.checkpointing import Keeper\n"
        "def call(keeper, position, state):\n"
        "    keeper._interruption.defer()\n"
        "    print('in', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('noted', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(30)\n"
        "Keeper.__call__ = call\n"
        "sys.exit(train.main(sys.argv[1:]))\n"
    )
    data = runs.tiny_images(tmp_path / "grey.npy")
    result = subprocess.run(
        [sys.executable, "-c", program, "--data", data, *runs.TINY, "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == -signal.SIGINT
    assert result.stdout.splitlines()[1:] == ["in", "noted"]  # after the plan of the run
