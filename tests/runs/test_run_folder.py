"""What a run leaves on disk: files that appear whole or not at all, and a model file without surprises."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load

from vaefast import __version__
from vaefast.errors import OutputError, SettingsError
from vaefast.files import atomic
from vaefast.files.model_file import serialize
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings
from vaefast.runs import run_folder
from vaefast.runs.run_folder import RunFolder, claim_default
from vaefast.training.trainer import EpochMetrics

NOW = datetime(2021, 5, 4, 3, 2, 1)
METRICS = EpochMetrics(1, 300, -110.0, -110.5, -95.25, 15.25, -109.0, -94.0, 15.0, 0.75, 0.125, 80_000.0)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


def failing(error: BaseException):
    def fail(*arguments: object) -> None:
        raise error

    return fail


@pytest.fixture
def files_no_longer_than() -> Callable[[int], AbstractContextManager[None]]:
    """Writes past a size fail, as they do on a full disk."""
    return pytest.importorskip("tests.faults.full", exc_type=ImportError).files_no_longer_than


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- Atomic writes


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "file"
    for content in (b"first and long", b"", bytes(range(256)) * 1000):
        atomic.write_bytes(path, content)
        assert path.read_bytes() == content
        assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, function, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    monkeypatch.setattr(os, function, failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)) as caught:
        atomic.write_bytes(path, b"new")
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 6
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path, files_no_longer_than):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with files_no_longer_than(10_000), pytest.raises(OutputError):
        atomic.write_bytes(path, b"new" * 10_000)
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_an_interruption_passes_through_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        atomic.write_bytes(tmp_path / "file", b"new")
    assert names(tmp_path) == []


def test_a_missing_folder_is_one_clear_error(tmp_path):
    with pytest.raises(OutputError, match=r"cannot write .*file: "):
        atomic.write_bytes(tmp_path / "nowhere" / "file", b"new")


@posix_only
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o000])
def test_modes_follow_the_umask_which_stays_as_it_was(tmp_path, mask):
    path = tmp_path / "file"
    before = os.umask(mask)
    try:
        atomic.write_bytes(path, b"content")
        after = os.umask(mask)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    assert after == mask


# --- The run folder


def test_a_new_folder_and_an_empty_one_will_do(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "not" / "yet"):
        folder = RunFolder(path)
        assert names(path) == [".lock", "figures"]
        folder.write_json("settings.json", {"a": [1, 2.5, "ä"]})
        assert json.loads((path / "settings.json").read_text(encoding="utf-8")) == {"a": [1, 2.5, "ä"]}
        folder.write("model.safetensors", b"\0\1")
        assert (path / "model.safetensors").read_bytes() == b"\0\1"
        folder.close()
        assert names(path) == ["figures", "model.safetensors", "settings.json"]


def test_a_folder_that_holds_anything_is_left_alone(tmp_path):
    (tmp_path / ".hidden").write_text("mine")
    with pytest.raises(SettingsError, match="is not empty: choose another --out"):
        RunFolder(tmp_path)
    assert names(tmp_path) == [".hidden"]


@pytest.mark.parametrize("below", ["", "run", "deep/run"])
def test_a_file_in_the_way(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot make the folder .*; choose another --out"):
        RunFolder(tmp_path / "file" / below)
    assert (tmp_path / "file").read_text() == "mine"


def test_metrics_are_a_line_an_epoch(tmp_path):
    folder = RunFolder(tmp_path / "run")
    epochs = [replace(METRICS, epoch=epoch) for epoch in (1, 2, 3)]
    for count, epoch in enumerate(epochs, start=1):
        folder.append_metrics(epoch)
        lines = (tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines(keepends=True)  # readable at once
        assert [json.loads(line) for line in lines] == [epoch.as_dict() for epoch in epochs[:count]]
        assert all(line.endswith(b"}\n") for line in lines)


def test_a_disk_that_fills_up_leaves_whole_lines_of_metrics(tmp_path, files_no_longer_than):
    folder = RunFolder(tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    folder.append_metrics(METRICS)
    line = path.read_bytes()
    with files_no_longer_than(len(line) * 5 // 2):
        folder.append_metrics(METRICS)
        with pytest.raises(OutputError, match=r"cannot write .*metrics\.jsonl: "):
            folder.append_metrics(METRICS)
    assert path.read_bytes() == line * 2
    folder.append_metrics(METRICS)
    assert path.read_bytes() == line * 3


def test_a_default_folder_is_named_after_data_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert claim_default("digits 8x8", NOW) == Path("runs/digits-8x8-20210504-030201")
    assert claim_default("digits 8x8", NOW) == Path("runs/digits-8x8-20210504-030201-2")
    assert claim_default("digits 8x8", NOW) == Path("runs/digits-8x8-20210504-030201-3")
    assert claim_default("../My Data.npy", NOW).parent == Path("runs")
    assert len(os.fsencode(claim_default("字" * 200, NOW).name)) < 255
    assert all(path.is_dir() and not any(path.iterdir()) for path in Path("runs").iterdir())
    assert len(names(Path("runs"))) == 5


def test_a_default_folder_that_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot make the folder .*; choose an --out"):
        claim_default("mnist", NOW)


def test_the_environment_says_where_and_with_what(monkeypatch):
    environment = json.loads(json.dumps(run_folder.environment("numba", 3, "abc")))
    assert (environment["engine"], environment["threads"], environment["data_sha256"]) == ("numba", 3, "abc")
    assert environment["vaefast"] == __version__
    assert environment["packages"]["numpy"] == np.__version__
    assert environment["cpu"]
    monkeypatch.setattr(run_folder, "PACKAGES", ("no-such-package",))
    assert run_folder.environment("numba", 3, "abc")["packages"] == {"no-such-package": None}


@pytest.mark.parametrize("content", [None, "processor : 0\n"])
def test_a_processor_without_a_name_is_no_error(monkeypatch, content):
    def read_text(path: Path, encoding: str) -> str:
        if content is None:
            raise FileNotFoundError(path)
        return content

    monkeypatch.setattr(Path, "read_text", read_text)
    assert isinstance(run_folder.cpu_name(), str)


# --- The model file


@pytest.fixture
def layout() -> Layout:
    return Layout(ModelSettings(9, (5, 4), 2))


def test_a_model_file_gives_back_the_layouts_views(layout, tmp_path):
    vector = np.random.default_rng(0).normal(size=layout.size).astype(np.float32)
    content = serialize(layout, vector, {"binarize": "dynamic", "note": 'ä "quoted"\n'})
    tensors = load(content)
    assert set(tensors) == set(layout.tensors)
    for name, view in layout.views(vector).items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_array_equal(tensors[name], view)
    (tmp_path / "model.safetensors").write_bytes(content)
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        metadata = file.metadata()
    assert json.loads(metadata["model"]) == {
        "pixels": 9, "hidden": [5, 4], "latent": 2, "activation": "relu", "likelihood": "bernoulli",
    }  # fmt: skip
    assert json.loads(metadata["training"]) == {"binarize": "dynamic", "note": 'ä "quoted"\n'}


def test_a_model_file_is_a_header_of_json_and_the_bare_numbers(layout):
    vector = np.random.default_rng(0).normal(size=layout.size).astype(np.float32)
    content = serialize(layout, vector, {"binarize": "dynamic"})
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    assert start % 8 == 0
    assert set(header.pop("__metadata__")) == {"format", "format_version", "model", "training"}
    covered = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        assert begin == covered  # nothing between the tensors, such as a pickle
        assert content[start + begin : start + end] == layout.views(vector)[name].tobytes()
        covered = end
    assert start + covered == len(content)
    assert covered == 4 * layout.size


def test_a_vector_with_strides_is_saved_as_it_reads(layout):
    wide = np.arange(2 * layout.size, dtype=np.float32)
    tensors = load(serialize(layout, wide[::2], {}))
    for name, view in layout.views(wide[::2].copy()).items():
        np.testing.assert_array_equal(tensors[name], view)


def test_the_same_model_gives_the_same_bytes_and_another_gives_others(layout):
    vector = np.zeros(layout.size, np.float32)
    contents = {serialize(layout, vector, {"b": 1, "a": 2}) for _ in range(20)}
    contents.add(serialize(layout, vector, {"a": 2, "b": 1}))
    assert len(contents) == 1
    vector[-1] = 1
    assert serialize(layout, vector, {"b": 1, "a": 2}) not in contents
    assert serialize(layout, np.zeros_like(vector), {"b": 2, "a": 2}) not in contents
