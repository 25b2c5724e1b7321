"""Files that are not what they seem."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.data.making import (
    FRACTIONS,
    GREY,
    everything,
    npy_bytes,
    refused,
    saved,
    write,
)
from vaefast.data import load, reading

pytestmark = pytest.mark.filterwarnings("error")


def test_fifo_is_refused_and_not_waited_for(tmp_path: Path, table: dict[str, bytes]) -> None:
    os.mkfifo(tmp_path / "a.npy")
    refused(tmp_path / "a.npy", "FIFO")
    folder = write(tmp_path / "m", table)
    os.remove(folder / "train-images-idx3-ubyte.gz")
    os.mkfifo(folder / "train-images-idx3-ubyte.gz")
    refused("mnist", "FIFO", data_dir=folder)


def test_device_and_folder_in_the_place_of_a_file(tmp_path: Path, table: dict[str, bytes]) -> None:
    refused("/dev/zero", "a device")
    folder = write(tmp_path / "m", table)
    os.remove(folder / "train-images-idx3-ubyte.gz")
    (folder / "train-images-idx3-ubyte").mkdir()
    refused("mnist", "train-images-idx3-ubyte is a folder", data_dir=folder)


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because a test run by root is denied nothing."""

    def denied(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = saved(tmp_path / "a.npy", GREY)
    monkeypatch.setattr(reading, "open", denied, raising=False)
    refused(path, str(path), "permission denied")
    monkeypatch.setattr(os, "listdir", denied)
    refused(tmp_path, str(tmp_path), "Permission denied")


@pytest.mark.parametrize(("name", "content"), [("a.npy", b"not numpy"), ("a.xyz", b"hello"), ("empty", b"")])
def test_unknown_format(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, str(tmp_path / name), "unknown format", ".npz", "folder of pictures")


def test_content_goes_before_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(npy_bytes(GREY))
    np.testing.assert_array_equal(everything(load(str(tmp_path / "a.csv"))), GREY)


def test_message_stays_on_one_line_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines\udc80.npy"
    path.write_bytes(npy_bytes(FRACTIONS * 2))
    refused(path, "two\\nlines\\udc80.npy", "row 2, column 9")
    path.write_bytes(npy_bytes(GREY[:1]))
    refused(path, "two\\nlines\\udc80.npy")
