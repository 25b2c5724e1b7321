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
from vaefast.data import load

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
