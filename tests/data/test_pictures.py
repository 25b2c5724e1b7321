"""Folders of pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.data.making import (
    GREY,
    everything,
    picture,
    refused,
)
from vaefast.data import Reading, Rows, load, read

pytestmark = pytest.mark.filterwarnings("error")


def test_folder_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    squares = GREY.reshape(5, 3, 4)
    for index, name in enumerate(("e.png", "b.PNG", "d.bmp", "a.tif", "c.gif")):
        picture(folder / name, squares[index])
    (folder / "README.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture")
    dataset = load(str(folder))
    assert dataset.notice == f"{folder}: 1 file that is no picture is left out: README.txt"
    assert (dataset.name, dataset.train.shape) == ("faces", (3, 4))
    assert dataset.train.values.dtype == np.uint8
    np.testing.assert_array_equal(everything(dataset), GREY[[3, 1, 4, 2, 0]])


def test_folder_is_named_even_if_it_is_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png", np.full((2, 2), 9, np.uint8))
    picture(tmp_path / "b.png", np.full((2, 2), 9, np.uint8))
    monkeypatch.chdir(tmp_path)
    assert load(".").name == tmp_path.name


@pytest.mark.parametrize(("mode", "expected"), [("RGB", 77), ("RGBA", 77), ("1", 255), ("P", 77), ("LA", 77)])
def test_pictures_become_grey(tmp_path: Path, mode: str, expected: int) -> None:
    level = np.full((2, 3), 255 if mode == "1" else 77, np.uint8)
    for name in "ab":
        picture(tmp_path / f"{name}.png", level, mode)
    assert np.unique(everything(load(str(tmp_path)))).tolist() == [expected]


def test_picture_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path, str(tmp_path), ".png", "IDX")
    picture(tmp_path / "a.png", np.zeros((3, 4), np.uint8))
    refused(tmp_path, "1 image:")
    picture(tmp_path / "b.png", np.zeros((4, 3), np.uint8))
    refused(tmp_path, "b.png", "4 pixels high and 3 wide", "3 and 4")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:45])  # within the pixels
    refused(tmp_path, "b.png", "not a readable picture")
    (tmp_path / "b.png").write_text("no picture")
    refused(tmp_path, "b.png", "not a picture that Pillow can read")
    picture(tmp_path / "b.png", np.zeros((3, 4), np.uint16))
    refused(tmp_path, "b.png", "8 bits")
    os.remove(tmp_path / "b.png")
    os.mkfifo(tmp_path / "b.png")
    refused(tmp_path, "b.png", "FIFO")
    os.remove(tmp_path / "b.png")
    monkeypatch.setattr("vaefast.data.pictures.MOST_PIXELS", 11)
    refused(tmp_path, "a.png", "more than 11 pixels")


# --- Classes, depth and colour


RED_AND_BLUE = np.zeros((3, 4, 3), np.uint8)
RED_AND_BLUE[:, :2, 0] = 200
RED_AND_BLUE[:, 2:, 2] = 100


def classes(folder: Path, *, shift: int = 0) -> Path:
    for at, name in enumerate(("cat", "dog", "eel")):
        (folder / name).mkdir(parents=True)
        for i in range(2):
            picture(folder / name / f"{i}.png", np.full((3, 4), 10 * at + i + shift, np.uint8))
    (folder / "empty").mkdir()
    (folder / ".cache").mkdir()
    return folder


def test_a_folder_a_class(tmp_path: Path) -> None:
    rows = read(str(classes(tmp_path / "zoo")))
    assert isinstance(rows, Rows)
    assert rows.images.values[:, 0].tolist() == [0, 1, 10, 11, 20, 21]
    assert rows.labels is not None
    assert rows.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert rows.classes == ("cat", "dog", "eel")
    assert rows.notice == f"{tmp_path / 'zoo'}: each folder is a class: cat, dog, eel"
    dataset = load(str(tmp_path / "zoo"))
    assert dataset.classes == rows.classes
    assert dataset.train_labels is not None
    assert [level // 10 for level in dataset.train.values[:, 0]] == dataset.train_labels.tolist()


def test_folders_to_train_and_to_test_on(tmp_path: Path) -> None:
    classes(tmp_path / "zoo" / "train")
    classes(tmp_path / "zoo" / "test", shift=100)
    dataset = load(str(tmp_path / "zoo"))
    assert dataset.train.values[:, 0].tolist() == [0, 1, 10, 11, 20, 21]
    assert dataset.test.values[:, 0].tolist() == [100, 101, 110, 111, 120, 121]
    assert dataset.test_labels is not None
    assert dataset.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.classes == ("cat", "dog", "eel")
    (tmp_path / "zoo" / "test" / "eel").rename(tmp_path / "zoo" / "test" / "elk")
    refused(tmp_path / "zoo", "hold other classes")


def test_sixteen_bits(tmp_path: Path) -> None:
    levels = np.array([[0, 1, 65535], [256, 32768, 300]], np.uint16)
    for name in "ab":
        picture(tmp_path / f"{name}.png", levels)
    rows = read(str(tmp_path))
    assert isinstance(rows, Rows)
    assert rows.images.values.dtype == np.float32
    np.testing.assert_array_equal(rows.images.values[0], (levels.reshape(-1) / np.float32(65535)).astype(np.float32))
    assert rows.notice == f"{tmp_path}: grey levels of 16 bits are scaled to [0, 1] by 1 / 65535"
    assert rows.images.values.max() == 1.0
    picture(tmp_path / "c.png", levels.astype(np.uint8))
    refused(tmp_path, "c.png has 8 bits, the first picture 16 bits a pixel")


def test_fractions_and_other_deep_levels(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.tif", np.array([[0, 0.25], [0.5, 1]], np.float32))
    rows = read(str(tmp_path))
    assert isinstance(rows, Rows)
    assert rows.images.values[0].tolist() == [0, 0.25, 0.5, 1]
    picture(tmp_path / "c.tif", np.array([[0, 1], [2, 1e6]], np.float32))
    refused(tmp_path, "c.tif has levels from 0.0 to 1000000.0")


def test_colour_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    from PIL import Image

    for name in "ab":
        picture(tmp_path / f"{name}.png", RED_AND_BLUE)
    rows = read(str(tmp_path))
    assert isinstance(rows, Rows)
    np.testing.assert_array_equal(rows.images.values[0], np.array(Image.fromarray(RED_AND_BLUE).convert("L")).reshape(-1))
    assert rows.notice == f"{tmp_path}: pictures in colour are taken as grey (--color keeps the channels)"
    kept = read(str(tmp_path), how=Reading(color=True))
    assert isinstance(kept, Rows)
    np.testing.assert_array_equal(kept.images.values[0], RED_AND_BLUE.reshape(-1))
    assert (kept.images.shape, kept.images.channels, kept.notice) == ((3, 4), 3, None)
    dataset = load(str(tmp_path), how=Reading(color=True))
    assert dataset.train.channels == dataset.test.channels == 3
    assert dataset.sha256 != load(str(tmp_path)).sha256


def test_pictures_beside_folders_of_pictures_are_refused(tmp_path: Path) -> None:
    picture(classes(tmp_path / "zoo") / "cover.png", np.zeros((2, 3), np.uint8))
    refused(tmp_path / "zoo", "holds pictures, such as cover.png, and folders of pictures, such as cat: move one of the two")
    for part in ("train", "test"):
        classes(tmp_path / "park" / part)
    picture(tmp_path / "park" / "cover.png", np.zeros((2, 3), np.uint8))
    refused(tmp_path / "park", "cover.png, and folders of pictures, such as train")


def test_what_is_left_out_of_a_folder_is_told(tmp_path: Path) -> None:
    from PIL import Image

    folder = classes(tmp_path / "zoo")
    pages = [Image.fromarray(np.full((3, 4), level, np.uint8)) for level in (7, 200)]
    pages[0].save(folder / "cat" / "0.tif", save_all=True, append_images=pages[1:])
    (folder / "cat" / "scan.heic").write_bytes(b"")
    (folder / "dog" / "notes.txt").write_text("")
    (folder / "dog" / "Thumbs.db").write_text("")
    rows = read(str(folder))
    assert isinstance(rows, Rows)
    assert rows.images.values[1, 0] == 7
    assert rows.notice is not None
    assert "of 1 picture with several pages the first is taken" in rows.notice
    assert "2 files that are no pictures are left out: cat/scan.heic and others" in rows.notice


def test_levels_of_fractions_are_judged_by_the_first_picture(tmp_path: Path) -> None:
    dark, bright = np.array([[0, 1], [0.5, 0.25]], np.float32), np.array([[0, 300], [200, 7]], np.float32)
    picture(tmp_path / "a.tif", bright)
    picture(tmp_path / "b.tif", dark)
    rows = read(str(tmp_path))
    assert isinstance(rows, Rows)
    np.testing.assert_array_equal(rows.images.values, (np.stack([bright, dark]).reshape(2, 4) / np.float32(65535)))
    (tmp_path / "a.tif").rename(tmp_path / "c.tif")
    refused(tmp_path, "c.tif has levels from 0.0 to 300.0, and those of the first picture lie in [0, 1]")
