"""MNIST: where it is looked for, and what is done with damaged files (the real one only where VAEFAST_DATA_DIR names it)."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.making import (
    check_mnist,
    flipped,
    refused,
    write,
)
from vaefast.data import load, mnist

pytestmark = pytest.mark.filterwarnings("error")

# Read when the module is imported, before the fixture `isolated` hides it from the code under test.
REAL_MNIST = os.environ.get("VAEFAST_DATA_DIR")
needs_mnist = pytest.mark.skipif(not REAL_MNIST, reason="set VAEFAST_DATA_DIR to a folder with the MNIST files")


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist_from_data_dir(tmp_path: Path, table: dict[str, bytes], ending: str, dotted: bool) -> None:
    folder = write(tmp_path / "m", table, ending, dotted)
    for name in ("mnist", None):
        check_mnist(load(name, folder), table)


def test_mnist_search_order(tmp_path: Path, isolated: Path, table: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    write(isolated, table)
    check_mnist(load(None), table)  # the cache, although offline
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    monkeypatch.setenv("VAEFAST_DATA_DIR", str(lacking))
    refused(None, str(lacking))  # the environment goes before the cache
    check_mnist(load(None, write(tmp_path / "m", table)), table)  # the argument before the environment
    monkeypatch.setenv("VAEFAST_DATA_DIR", "")
    check_mnist(load(None), table)  # empty is not set


def test_mnist_folder_in_the_home_folder(tmp_path: Path, table: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "m", table)
    check_mnist(load("mnist", Path("~/m")), table)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored
    write(tmp_path / ".cache" / "vaefast" / "mnist", table)
    check_mnist(load("mnist"), table)


@pytest.mark.parametrize("name", [None, "mnist"])
def test_named_folder_without_the_files_never_falls_back(
    tmp_path: Path, table: dict[str, bytes], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(name, str(tmp_path / "nowhere"), "does not exist", "--data-dir", data_dir=tmp_path / "nowhere")
    a_file = tmp_path / "file"
    a_file.touch()
    refused(name, "is not a folder", data_dir=a_file)
    folder = write(tmp_path / "m", table)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    message = refused(name, "lacks t10k-labels-idx1-ubyte", str(folder), data_dir=folder)
    assert "train-images" not in message
    monkeypatch.setenv("VAEFAST_DATA_DIR", str(folder))
    refused(name, "lacks t10k-labels-idx1-ubyte")


def test_mnist_out_of_reach(isolated: Path) -> None:
    message = refused("mnist", str(isolated), "VAEFAST_OFFLINE", "VAEFAST_DATA_DIR", "--data-dir")
    for file in mnist.FILES:
        assert file.name in message
    dataset = load(None)
    assert dataset.name == "digits 8x8"
    assert dataset.notice is not None
    assert "\n" not in dataset.notice
    for word in ("MNIST", "VAEFAST_DATA_DIR", "--data-dir", str(isolated), *(file.name for file in mnist.FILES)):
        assert word in dataset.notice


def test_mnist_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does for a user without one
    assert mnist.cache_folder() is None
    refused("mnist", "no home folder")
    assert load(None).name == "digits 8x8"


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda content: gzip.compress(flipped(content)), "SHA-256"),
        (lambda content: gzip.compress(content + b"\0"), "more than"),
        (lambda content: gzip.compress(content[:-1]), "instead of"),
        (lambda content: gzip.compress(content)[:-9], "cannot be read"),
        (lambda content: flipped(gzip.compress(content)), "cannot be read"),
        (lambda content: b"\x1f\x8bxxx", "cannot be read"),
        (lambda content: b"", "instead of"),
        (lambda content: b"<html>", "instead of"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_damaged_mnist_never_falls_back(
    tmp_path: Path,
    isolated: Path,
    table: dict[str, bytes],
    damage: Callable[[bytes], bytes],
    word: str,
    cached: bool,
) -> None:
    folder = write(isolated if cached else tmp_path / "m", table)
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(table["t10k-images-idx3-ubyte"]))
    for name in (None, "mnist"):
        refused(name, str(path), word, data_dir=None if cached else folder)


def test_gzip_bomb_in_the_place_of_mnist_is_not_unpacked(tmp_path: Path, table: dict[str, bytes]) -> None:
    folder = write(tmp_path / "m", table)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(100_000_000), 1))
    tracemalloc.start()
    refused("mnist", "more than", data_dir=folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@needs_mnist
def test_real_mnist() -> None:
    assert REAL_MNIST is not None
    tracemalloc.start()
    dataset = load("mnist", Path(REAL_MNIST))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * (60_000 + 10_000) * 784
    assert dataset.train.values.shape == (60_000, 784)
    assert dataset.test.values.shape == (10_000, 784)
    assert dataset.train.values.dtype == np.uint8
    assert dataset.train.shape == (28, 28)
    assert np.count_nonzero(dataset.train.values.any(axis=0)) == 784 - 67
    assert np.count_nonzero(dataset.train.values) / 47_040_000 == pytest.approx(0.191, abs=0.0005)
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    assert dataset.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(dataset.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@needs_mnist
def test_real_mnist_as_a_folder_of_the_users() -> None:
    """The unverified path reads the same as the verified one."""
    assert REAL_MNIST is not None
    assert load(REAL_MNIST).sha256 == load("mnist", Path(REAL_MNIST)).sha256
