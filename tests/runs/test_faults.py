"""Short forms of `python -m tests.faults`, and proof that its checks can fail."""

from __future__ import annotations

import os
import random
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.faults import Failed, disks, flips, full, kill, mutate, runs
from vaefast.errors import CheckpointError
from vaefast.files import atomic
from vaefast.runs import checkpoint

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[disks.Unbroken, Path]:
    folder = tmp_path_factory.mktemp("disks")
    return disks.unbroken(folder), folder


# --- Kills


def test_killed_runs_are_resumed_to_the_same_bits(tmp_path):
    whole = kill.unbroken(tmp_path)
    for number in range(2):
        kill.kill(0, number, tmp_path, whole)


# --- Failing disks


@linux_only
@pytest.mark.parametrize("mode", disks.MODES)
def test_every_failing_call_leaves_a_checkpoint_and_the_same_result(unbroken, mode):
    run, folder = unbroken
    assert len(run.calls) > 60
    for number in range(1 + disks.MODES.index(mode), len(run.calls) + 1, 3):
        disks.fail_at(number, mode, run, folder)


@linux_only
def test_the_run_writes_everything_through_the_disk_that_can_fail(unbroken):
    run, folder = unbroken
    named = {call.removeprefix("rename ") for call in run.calls if call.startswith("rename ")}
    written = {path.name for path in (folder / "unbroken").rglob("*") if path.is_file()}
    assert written - named == {"metrics.jsonl"}
    assert "write metrics.jsonl" in run.calls


def cut_everywhere(folder: Path) -> None:
    run = disks.unbroken(folder)
    for number in range(1, len(run.calls) + 1):
        disks.fail_at(number, disks.POWER_CUT, run, folder)


@linux_only
def test_the_loss_of_files_that_are_not_flushed_would_be_seen(tmp_path, monkeypatch):
    real = disks.FailingDisk.fsync

    def lazy(disk: disks.FailingDisk, file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            real(disk, file)
        else:
            disk.calls.append("fsync that does nothing")

    monkeypatch.setattr(disks.FailingDisk, "fsync", lazy)
    with pytest.raises(Failed, match=disks.POWER_CUT):
        cut_everywhere(tmp_path)


@linux_only
def test_the_loss_of_names_that_are_not_flushed_would_be_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "sync_folder", lambda folder: None)
    with pytest.raises((Failed, CheckpointError)):
        cut_everywhere(tmp_path)


# --- Full disks


def test_a_full_disk_ends_a_run_with_6_whatever_file_does_not_fit(tmp_path):
    cases = full.cases(tmp_path)
    stopped = {full.fill(*case, tmp_path) for case in {*cases[:: len(cases) // 40], *cases[-3:]}}
    assert {"metrics.jsonl", "prior_samples.png", "nothing"} <= stopped
    assert any(name.startswith("checkpoint-") for name in stopped)


# --- Damaged checkpoints


def test_flipped_bits_and_cut_files_are_noticed_and_said(tmp_path):
    _, expected = flips.finished(tmp_path)
    for number in range(40):
        flips.damage(1, number, tmp_path, expected)


def test_a_flip_that_nobody_notices_would_be_seen(tmp_path, monkeypatch):
    _, expected = flips.finished(tmp_path)
    monkeypatch.setattr(checkpoint, "hashlib", _NoHash)
    with pytest.raises(Failed):
        all(flips.damage(1, number, tmp_path, expected) for number in range(40))


class _NoHash:
    """A digest that is the same for everything."""

    @staticmethod
    def sha256(content: bytes) -> _NoHash:
        return _NoHash()

    def hexdigest(self) -> str:
        return "0" * 64


# --- Mutated inputs


def test_mutated_inputs_raise_our_own_errors_soon(tmp_path):
    kinds = mutate.targets(tmp_path)
    for number in range(2400):
        mutate.mutate(2, number, kinds)


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), RecursionError("x"), MemoryError("x"), UserWarning("x")])
def test_foreign_errors_of_a_reader_are_seen(error):
    def read(content: bytes) -> None:
        raise error

    with pytest.raises(Failed, match=type(error).__name__):
        mutate.mutate(0, 0, {"broken": mutate.Target([b"abc"], read)})


def test_slow_readers_are_seen(monkeypatch):
    monkeypatch.setattr(mutate, "SLOWEST", -1.0)
    with pytest.raises(Failed, match="takes more than"):
        mutate.mutate(0, 0, {"slow": mutate.Target([b"abc"], len)})


def test_a_result_that_differs_is_seen(tmp_path):
    data = runs.tiny_images(tmp_path / "grey.npy")
    for seed in ("0", "1"):
        assert runs.command("--data", data, *runs.TINY, "--seed", seed, "--out", str(tmp_path / seed))[0] == 0
    expected = runs.outcome(tmp_path / "0")
    runs.check_same(expected, tmp_path / "0", "the same")
    with pytest.raises(Failed, match="model differ"):
        runs.check_same(expected, tmp_path / "1", "another seed")
    (tmp_path / "0" / f".x{atomic.TEMPORARY}").write_bytes(b"")
    with pytest.raises(Failed, match="temporary files"):
        runs.check_same(expected, tmp_path / "0", "left over")


def test_mutations_change_their_input_and_are_the_same_each_time():
    content = np.random.default_rng(0).bytes(100)
    made = [mutate.mutated(random.Random(number), content) for number in range(200)]
    assert made == [mutate.mutated(random.Random(number), content) for number in range(200)]
    assert len({*made} - {content}) > 150
