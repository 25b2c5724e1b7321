"""IDX files, and folders of four of them."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.making import (
    GREY,
    everything,
    idx_bytes,
    refused,
    saved,
)
from vaefast.data import Reading, load, reading
from vaefast.data.idx import parse_idx, read_idx
from vaefast.errors import DataError

pytestmark = pytest.mark.filterwarnings("error")

# --- IDX


@pytest.mark.parametrize("packed", [False, True])
def test_idx_file(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "images"
    content = idx_bytes(GREY.reshape(5, 2, 6))
    path.write_bytes(gzip.compress(content) if packed else content)
    dataset = load(str(path))
    assert (dataset.name, dataset.train.shape) == ("images", (2, 6))
    np.testing.assert_array_equal(everything(dataset), GREY)


IDX = idx_bytes(GREY.reshape(5, 3, 4))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (IDX[:-1], "only 59 of 60"),
        (IDX[:20], "too short"),
        (gzip.compress(IDX[:-1]), "only 59 of 60"),
        (IDX + b"\0", "more than 60"),
        (gzip.compress(IDX + b"\0"), "more than 60"),
        (IDX[:10], "within its header"),
        (gzip.compress(b""), "it is empty"),
        (gzip.compress(IDX)[:-4], "cannot be read"),
        (gzip.compress(b"hello, world"), "starts with the bytes 68 65 6c 6c"),
        (b"\0\0\x0d\x03" + IDX[4:], "0x0d"),
        (idx_bytes(GREY[0]), "holds labels, where images"),
        (idx_bytes(GREY), "2 dimensions"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + bytes(60), "too short"),
        (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(60)), "too short"),
        (idx_bytes(np.zeros((5, 0, 4), np.uint8)), "is empty"),
        (idx_bytes(np.zeros((0, 3, 4), np.uint8)), "is empty"),
        (b"\0\0\x08\x03" + bytes(4) + b"\xff" * 8, "is empty"),
        (idx_bytes(np.zeros((1, 3, 4), np.uint8)), "1 image:"),
    ],
)
def test_idx_refusals(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(content)
    refused(path, str(path), word)


def test_idx_bomb_is_stopped_at_the_promised_size(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(IDX + bytes(100_000_000), 1))
    tracemalloc.start()
    refused(path, "more than 60")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_unpacking_takes_no_second_copy(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((100, 400, 500), np.uint8)), 1))
    tracemalloc.start()
    assert read_idx(path, 3).nbytes == 20_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * 20_000_000


def test_parse_idx() -> None:
    content = np.frombuffer(IDX, np.uint8)
    parsed = parse_idx(content, 3, "a")
    np.testing.assert_array_equal(parsed.reshape(5, 12), GREY)
    assert np.shares_memory(parsed, content)
    for wrong in (content[:-1], np.append(content, content[:1]), content[:9], content[:0]):
        with pytest.raises(DataError):
            parse_idx(wrong, 3, "a")


def test_array_larger_than_the_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "machine_memory", lambda: 50.0)
    path = tmp_path / "images"
    path.write_bytes(IDX)
    refused(path, "memory")
    refused(saved(tmp_path / "a.npy", GREY), "memory")


def test_read_idx_labels(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(idx_bytes(GREY[0]))
    np.testing.assert_array_equal(read_idx(tmp_path / "labels", 1), GREY[0])


# --- a folder of four IDX files


def four(folder: Path, **other: NDArray[np.uint8]) -> Path:
    """Write a set like MNIST with arrays of its own."""
    arrays = {"train_images": GREY.reshape(5, 3, 4), "train_labels": GREY[0, :5]}
    arrays |= {"t10k_images": GREY[:2].reshape(2, 3, 4), "t10k_labels": GREY[1, :2]} | other
    folder.mkdir()
    for name, array in arrays.items():
        rank = 3 if name.endswith("images") else 1
        (folder / f"{name.replace('_', '-')}-idx{rank}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return folder


def test_idx_folder_keeps_its_own_split(tmp_path: Path) -> None:
    dataset = load(str(four(tmp_path / "fashion")), how=Reading(test_fraction=0.9))
    assert (dataset.name, dataset.train.shape) == ("fashion", (3, 4))
    np.testing.assert_array_equal(dataset.train.values, GREY)
    np.testing.assert_array_equal(dataset.test.values, GREY[:2])
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    assert dataset.train_labels.tolist() == GREY[0, :5].tolist()
    assert dataset.test_labels.tolist() == GREY[1, :2].tolist()


def test_idx_folder_without_labels(tmp_path: Path) -> None:
    folder = four(tmp_path / "f")
    for name in ("train", "t10k"):
        (folder / f"{name}-labels-idx1-ubyte.gz").unlink()
    dataset = load(str(folder))
    assert dataset.train_labels is dataset.test_labels is None


def test_idx_folder_refusals(tmp_path: Path) -> None:
    refused(four(tmp_path / "a", train_labels=GREY[0, :4]), str(tmp_path / "a"), "5 images and 4 labels")
    refused(four(tmp_path / "b", t10k_labels=GREY[0, :4]), "2 images and 4 labels")
    refused(four(tmp_path / "c", t10k_images=GREY[:2].reshape(2, 4, 3)), "3 by 4 of uint8, the test images 4 by 3")
    refused(four(tmp_path / "d", t10k_images=GREY[:0].reshape(0, 3, 4), t10k_labels=GREY[0, :0]), "is empty")
    refused(four(tmp_path / "e", train_images=GREY[0, :5]), "holds labels, where images")
    folder = four(tmp_path / "g")
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    refused(folder, str(folder), "lacks t10k-images-idx3-ubyte")
