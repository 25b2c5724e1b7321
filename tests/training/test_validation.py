"""A part of the training set held out: never the test set, the best model kept, to the same bits through every stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.faults import runs
from vaefast import engines
from vaefast.cli.options import parse
from vaefast.engines.contract import State
from vaefast.errors import SettingsError
from vaefast.models.settings import ValidationSettings
from vaefast.runs.checkpoint import CheckpointFolder, Damaged
from vaefast.training.early_stopping import Stopping, held_out
from vaefast.training.trainer import EpochMetrics

# Steep enough to overfit 27 images within some epochs.
FLAGS = ("--data", "grey.npy", "--hidden", "20", "--latent", "3", "--batch-size", "7", "--seed", "5", "--binarize", "none",
         "--learning-rate", "0.02", "--validation", "9", "--patience", "3", "--epochs", "60")  # fmt: skip


def bounds(folder: str) -> list[float]:
    lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["validation_elbo"] for line in lines]


# --- What is held out, and when to stop


@pytest.mark.parametrize(("count", "amount", "expected"), [(100, 7.0, 7), (100, 0.25, 25), (10, 0.01, 1), (2, 1.0, 1)])
def test_the_parts_are_random_disjoint_and_whole(count, amount, expected):
    kept, out = held_out(count, amount, 3)
    assert len(out) == expected
    assert sorted([*kept, *out]) == list(range(count))
    np.testing.assert_array_equal(out, held_out(count, amount, 3)[1])
    if count == 100:
        assert set(out) != set(held_out(count, amount, 4)[1])


@pytest.mark.parametrize(("count", "amount"), [(10, 10.0), (10, 11.0), (10, 0.97), (1, 0.5)])
def test_something_is_left_to_train_on(count, amount):
    with pytest.raises(SettingsError, match="leave some to train on"):
        held_out(count, amount, 0)


def line(epoch: int, bound: float) -> EpochMetrics:
    return EpochMetrics(epoch, *[0.0] * 11, validation_elbo=bound)


@pytest.mark.parametrize(
    ("values", "patience", "tolerance", "best", "end"),
    [
        ([1, 2, 3, 2, 2, 9], 2, 0.0, 3, 5),
        ([1, 2, 3, 4], 2, 0.0, 4, None),
        ([1, 1, 1], 2, 0.0, 1, 3),
        # Small rises are kept, but do not count as improvements.
        ([1, 1.1, 1.2, 1.3], 3, 0.5, 4, 4),
        ([1, 1.1, 2, 1.3], 2, 0.5, 3, None),
    ],
)
def test_when_to_stop_and_what_is_kept(values, patience, tolerance, best, end):
    stopping, ended = Stopping(patience, tolerance), None
    history = [line(epoch, value) for epoch, value in enumerate(values, 1)]
    taken_back = []

    def keep(old: State | None) -> State:
        taken_back.append(old)
        return State(np.full(1, metrics.epoch), np.zeros(1), np.zeros(1), metrics.epoch)

    for metrics in history:
        before = stopping.best
        stopping.after(metrics, keep)
        assert (taken_back and taken_back[-1] is before) or stopping.best is before
        if stopping.is_over:
            ended = metrics.epoch
            break
    assert (stopping.best_epoch, stopping.best.step, *stopping.best.parameters, ended) == (best, best, best, end)
    again = Stopping(patience, tolerance)
    again.replay(history[:ended], stopping.best)
    assert again.best is stopping.best
    assert (again.best_epoch, again.best_bound, again.is_over) == (best, stopping.best_bound, stopping.is_over)


# --- On the command line


@pytest.mark.parametrize("engine", engines.ENGINES)
def test_the_model_kept_is_that_of_the_best_epoch(command, engine):
    if (reason := engines.why_not(engine)) is not None:
        pytest.skip(reason)
    code, out, err = command(*FLAGS, "--engine", engine, "--out", "run")
    assert code == 0, err
    found = bounds("run")
    best = int(np.argmax(found)) + 1
    assert len(found) == best + 3 < 60
    last = out.splitlines()[-1]
    assert last.startswith(
        f"stopped after epoch {best + 3}: the validation ELBO has not risen for 3 epochs; the model is that"
    )
    assert f"of epoch {best}, validation ELBO {found[best - 1]:.2f}" in last
    kept = json.loads(Path("run/settings.json").read_text())["kept"]
    assert kept == {"epoch": best, "validation_elbo": found[best - 1]}
    # A run that ends with this epoch has this model.
    flags = [*FLAGS[:-4], "--epochs", str(best)]
    assert command(*flags, "--engine", engine, "--out", "short")[0] == 0
    parameters = [_tensors(name) for name in ("run", "short")]
    assert parameters[0] == parameters[1]


def _tensors(folder: str) -> dict[str, bytes]:
    from safetensors.numpy import load

    content = (Path(folder) / "model.safetensors").read_bytes()
    return {name: tensor.tobytes() for name, tensor in load(content).items()}


def test_stopped_and_resumed_it_ends_the_same(command, signal_at):
    signal_at(0)
    assert command(*FLAGS, "--out", "whole")[0] == 0
    whole = runs.outcome(Path("whole"))
    epochs = len(bounds("whole"))
    best = int(np.argmax(bounds("whole"))) + 1
    pieces = 5  # an epoch: 4 of up to 7 of the 27 images, and its end
    # Within the first epoch, at the end of the best one, between it and the end, and just before the end.
    for pause in (2, 1 + pieces * best, 3 + pieces * best, pieces * epochs):
        signal_at(pause)
        assert command(*FLAGS, "--out", f"run{pause}", "--checkpoint-every", "never", "--threads", "2")[0] == 143
        signal_at(0)
        code, _, err = command("--resume", f"run{pause}", "--threads", "1")
        assert code == 0
        assert [line for line in err.splitlines() if "posterior collapse" not in line] == []
        runs.check_same(whole, Path(f"run{pause}"), f"stopped at pause {pause}")
    code, out, _ = command("--resume", "whole")
    assert code == 0
    assert f"nothing to do: whole has stopped early, after epoch {epochs}" in out
    runs.check_same(whole, Path("whole"), "nothing to do")
    assert command("--resume", "whole", "--epochs", "90")[0] == 0
    assert len(bounds("whole")) == epochs  # more epochs do not start it again


def test_without_patience_the_last_model_stays(command):
    flags = [*FLAGS[:-4], "--epochs", "5"]
    assert command(*flags, "--out", "run")[0] == 0
    assert len(bounds("run")) == 5
    assert "kept" not in json.loads(Path("run/settings.json").read_text())
    _, checkpoint, _ = CheckpointFolder(Path("run/checkpoint")).newest()
    assert checkpoint.best is None


def test_the_test_set_takes_no_part(command, tmp_path):
    """Another test set changes its own bounds, and neither the model nor when training stops."""
    values = np.random.default_rng(0).random((60, 30), np.float32)
    results = []
    for number, test in enumerate((values[40:50], values[50:60])):
        np.savez(tmp_path / f"{number}.npz", x_train=values[:40], x_test=test)
        assert command("--data", f"{number}.npz", *FLAGS[2:], "--out", f"run{number}")[0] == 0
        results.append((bounds(f"run{number}"), _tensors(f"run{number}")))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--patience", "3"), "never the test set: give validation"),
        (("--validation", "-1"), "validation is -1"),
        (("--validation", "nan"), "validation is nan"),
        (("--validation", "1.5"), "a whole number of images, or a share below 1"),
        (("--validation", "0.1", "--patience", "-1"), "patience is -1"),
        (("--validation", "0.1", "--min-improvement", "-1"), "min_improvement is -1"),
    ],
)
def test_flags_that_are_refused(flags, words):
    with pytest.raises(SettingsError, match=words):
        parse([*flags])


def test_too_much_for_the_data(command):
    code, _, err = command("--data", "grey.npy", "--validation", "36", "--out", "run")
    assert code == 2
    assert err == "vaefast: validation takes 36 of 36 training images: leave some to train on\n"
    assert not Path("run").exists()


def test_another_patience_is_another_run(command, signal_at):
    signal_at(3)
    assert command(*FLAGS, "--out", "run")[0] == 143
    signal_at(0)
    for flag, value in (("--patience", "4"), ("--validation", "8"), ("--min-improvement", "0.5")):
        code, _, err = command("--resume", "run", "--validation", "9", flag, value)
        assert code == 4
        assert f"is {value}" in err


def test_a_checkpoint_without_its_best_model_is_refused(command, signal_at):
    signal_at(8)
    assert command(*FLAGS, "--out", "run", "--checkpoint-every", "1")[0] == 143
    signal_at(0)
    folder = CheckpointFolder(Path("run/checkpoint"))
    _, checkpoint, _ = folder.newest()
    assert checkpoint.best is not None
    folder.write(replace(checkpoint, best=checkpoint.best[1:]))
    with pytest.raises(Damaged, match="best parameters differ"):
        folder.read(folder.numbers()[-1])
    folder.write(replace(checkpoint, best=None))
    code, _, err = command("--resume", "run")
    assert code == 4
    assert "lacks the best epoch's model" in err


def test_settings_are_numbers_of_their_kind():
    assert ValidationSettings(0.1, 2, 0.5) == ValidationSettings(held_out=0.1, patience=2, min_improvement=0.5)
    for wrong in (True, "0.1", None):
        with pytest.raises(SettingsError, match="validation is"):
            ValidationSettings(held_out=wrong)
