"""Checkpoints on disk: what is written comes back bit for bit, and nothing else is believed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from tests.faults.mutate import _resealed
from vaefast.engines.contract import BoundTerms, State
from vaefast.errors import CheckpointError, OutputError
from vaefast.runs.checkpoint import Checkpoint, CheckpointFolder, Damaged

SIZE = 1000
LINE = {"epoch": 1, "train_elbo": -0.1 - 0.2, "seconds": 1e-300}


def checkpoint(step: int = 7, images: int = 5, dtype: Any = np.float32) -> Checkpoint:
    rng = np.random.default_rng(step)
    vectors = [rng.standard_normal(SIZE).astype(dtype) for _ in range(3)]
    # Values that a text would lose: a denormal, a negative zero, the largest and the smallest.
    vectors[0][:4] = 1e-42, -0.0, np.finfo(dtype).max, np.finfo(dtype).tiny
    terms = BoundTerms.of_elbo(rng.standard_normal(images), rng.standard_normal(images))
    return Checkpoint(State(*vectors, step), 2, images, 0.1 + 0.2, terms, [LINE], {"settings": {"a": [1, 2.5, "ä"]}})


def same(first: Checkpoint, second: Checkpoint) -> bool:
    """Whether two checkpoints agree in every bit."""
    arrays = [[c.state.parameters, c.state.first_moments, c.state.second_moments, *c.terms] for c in (first, second)]
    plain = [(c.state.step, c.epoch, c.images, c.seconds, list(c.history), c.run) for c in (first, second)]
    return plain[0] == plain[1] and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(*arrays, strict=True)
    )


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "checkpoint")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("images", [0, 5])
def test_a_checkpoint_comes_back_bit_for_bit(folder, dtype, images):
    written = checkpoint(images=images, dtype=dtype)
    assert folder.write(written) == 1
    number, read, damages = CheckpointFolder(folder.path).newest()
    assert (number, damages) == (1, [])
    assert same(written, read)
    assert not same(written, replace(written, seconds=0.3))
    assert not same(written, checkpoint(step=8, images=images, dtype=dtype))


def test_it_is_safetensors_and_json_and_a_manifest(folder):
    folder.write(checkpoint())
    names = {path.name for path in folder.path.iterdir()}
    assert names == {f"checkpoint-000001.{part}" for part in ("safetensors", "json", "manifest.json")}
    tensors = load((folder.path / "checkpoint-000001.safetensors").read_bytes())
    assert set(tensors) == {"parameters", "first_moments", "second_moments", "log_likelihood", "kl", "objective"}
    content = json.loads((folder.path / "checkpoint-000001.json").read_text())
    assert content["position"] == {"step": 7, "epoch": 2, "images": 5, "seconds": 0.1 + 0.2}
    assert content["history"] == [LINE]


def test_the_last_two_are_kept(folder):
    for step in range(1, 6):
        folder.write(checkpoint(step))
    assert folder.numbers() == [4, 5]
    assert len(list(folder.path.iterdir())) == 6
    assert [folder.read(number).state.step for number in (4, 5)] == [4, 5]


def test_files_of_others_in_the_folder_stay(folder):
    folder.path.mkdir()
    for name in ("notes.txt", "checkpoint-best.json", "checkpoint-000001.json.bak"):
        (folder.path / name).write_text("mine")
    for step in range(1, 4):
        folder.write(checkpoint(step))
    assert {path.name for path in folder.path.iterdir()} >= {"notes.txt", "checkpoint-best.json", "checkpoint-000001.json.bak"}


def test_what_a_killed_process_left_is_swept_up_and_never_read(folder):
    folder.write(checkpoint(1))
    (folder.path / ".checkpoint-000002.json.abc.part").write_text("{")
    shutil.copy(folder.path / "checkpoint-000001.safetensors", folder.path / "checkpoint-000002.safetensors")
    assert CheckpointFolder(folder.path).newest()[0] == 1
    assert folder.write(checkpoint(2)) == 2
    assert len(list(folder.path.iterdir())) == 6


def test_a_damaged_one_gives_way_to_the_one_before_and_is_removed_after_the_next(folder):
    folder.write(checkpoint(1))
    folder.write(checkpoint(2))
    (folder.path / "checkpoint-000002.json").write_bytes(b"{}")
    again = CheckpointFolder(folder.path)
    number, read, damages = again.newest()
    assert (number, read.state.step) == (1, 1)
    assert len(damages) == 1
    assert damages[0].startswith("checkpoint 2 is damaged (checkpoint-000002.json holds 2 bytes instead of ")
    assert again.numbers() == [1, 2]
    assert again.write(checkpoint(3)) == 3
    assert again.numbers() == [1, 3]


def test_no_checkpoint_at_all_and_none_that_verifies(folder):
    with pytest.raises(CheckpointError, match="no checkpoint was completed") as caught:
        folder.newest()
    assert caught.value.exit_code == 4
    folder.write(checkpoint(1))
    folder.write(checkpoint(2))
    for number in (1, 2):
        os.truncate(folder.path / f"checkpoint-{number:06d}.safetensors", 100)
    with pytest.raises(CheckpointError, match=r"checkpoint 2 is damaged .*; checkpoint 1 is damaged"):
        folder.newest()


@pytest.mark.parametrize("part", ["safetensors", "json", "manifest.json"])
@pytest.mark.parametrize("how", ["missing", "empty", "longer", "folder", "FIFO", "huge"])
def test_files_that_are_not_what_was_written(folder, part, how):
    folder.write(checkpoint())
    path = folder.path / f"checkpoint-000001.{part}"
    if how == "empty":
        path.write_bytes(b"")
    elif how == "longer":
        path.write_bytes(path.read_bytes() + b"\n")
    elif how == "huge":
        os.truncate(path, 2**40)  # sparse: reading it whole would end the tests
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "FIFO":
            os.mkfifo(path)
    with pytest.raises(Damaged):
        folder.read(1)


def test_every_bit_of_a_manifest_counts(folder):
    folder.write(checkpoint())
    path = folder.path / "checkpoint-000001.manifest.json"
    content = path.read_bytes()
    assert folder.read(1)
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            with pytest.raises(Damaged):
                folder.read(1)


def rewritten(folder: CheckpointFolder, part: str, content: bytes) -> None:
    """Another file in place of one of the two, with a manifest that vouches for it."""
    (folder.path / f"checkpoint-000001.{part}").write_bytes(content)
    paths = [folder.path / f"checkpoint-000001.{name}" for name in ("safetensors", "json")]
    (folder.path / "checkpoint-000001.manifest.json").write_bytes(_resealed(paths))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parameters": np.zeros(SIZE - 1, np.float32)}, "differ in length"),
        ({"first_moments": np.zeros(SIZE, np.float64)}, "differ in length or type"),
        ({"parameters": np.full(SIZE, np.nan, np.float32)}, "not finite"),
        ({"second_moments": np.full(SIZE, np.inf, np.float32)}, "not finite"),
        ({"kl": np.zeros(5, np.float32)}, "lacks a vector"),
        ({"kl": np.zeros((5, 1))}, "lacks a vector"),
        ({"kl": np.zeros(6), "log_likelihood": np.zeros(6), "objective": np.zeros(6)}, "position does not fit"),
        ({"parameters": None}, "lacks a vector"),
    ],
    ids=str,
)
def test_tensors_that_another_program_wrote(folder, change, words):
    folder.write(checkpoint())
    tensors = load((folder.path / "checkpoint-000001.safetensors").read_bytes()) | change
    rewritten(folder, "safetensors", save({name: array for name, array in tensors.items() if array is not None}))
    with pytest.raises(Damaged, match=words):
        folder.read(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "another"}, "another format"),
        ({"format_version": 3}, "version 3, this vaefast reads version 2"),
        ({"position": None}, "lacks position"),
        ({"position": {"step": 1.5, "epoch": 2, "images": 5, "seconds": 0}}, "step is no whole number"),
        ({"position": {"step": 7, "epoch": 9, "images": 5, "seconds": 0}}, "position does not fit"),
        ({"position": {"step": 7, "epoch": 2, "images": 5, "seconds": "x"}}, "seconds are no number"),
        ({"history": [1]}, "no list of lines"),
        ({"run": []}, "lacks position, run"),
    ],
    ids=str,
)
def test_descriptions_that_another_program_wrote(folder, change, words):
    folder.write(checkpoint())
    content = json.loads((folder.path / "checkpoint-000001.json").read_text()) | change
    rewritten(folder, "json", json.dumps(content).encode())
    with pytest.raises(Damaged, match=words):
        folder.read(1)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "checkpoint").write_text("mine")
    with pytest.raises(OutputError, match="cannot make the folder"):
        CheckpointFolder(tmp_path / "checkpoint").write(checkpoint())


def test_no_more_is_asked_of_the_disk_than_is_needed(folder, monkeypatch):
    """Three files of four calls each, and the folder's name once."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: calls.append(file))
    folder.write(checkpoint())
    folder.write(checkpoint())
    assert len(calls) == 1 + 2 * 3 * 2
