"""What tests of data make and ask again and again."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vaefast.data import Dataset, load
from vaefast.data.images import fingerprint
from vaefast.errors import DataError
from vaefast.models.noise import Purpose, permutation

GREY = np.arange(5 * 12, dtype=np.uint8).reshape(5, 12)
FRACTIONS = GREY / 64  # exact in float16


def refused(source: str | Path | None, *words: str, data_dir: Path | None = None) -> str:
    """The message with which `load` refuses: one line that holds all the words."""
    with pytest.raises(DataError) as caught:
        load(None if source is None else str(source), data_dir)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    for word in words:
        assert word in message
    return message


def saved(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def everything(dataset: Dataset) -> NDArray[Any]:
    """Training and test rows put back in the order of the file."""
    rows = np.concatenate([dataset.train.values, dataset.test.values])
    back = np.empty_like(rows)
    back[permutation(0, Purpose.TRAIN_TEST_SPLIT, 0, len(rows))] = rows
    return back


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def npy_bytes(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def picture(path: Path, array: Any, mode: str | None = None) -> None:
    from PIL import Image

    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)


def write(folder: Path, table: dict[str, bytes], ending: str = ".gz", dotted: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in table.items():
        spelling = name.replace("-idx", ".idx") if dotted else name
        (folder / (spelling + ending)).write_bytes(gzip.compress(content) if ending else content)
    return folder


def check_mnist(dataset: Dataset, table: dict[str, bytes]) -> None:
    train, train_labels, test, test_labels = table.values()
    assert dataset.name == "mnist"
    assert dataset.notice is None
    assert dataset.train.shape == dataset.test.shape == (3, 2)
    assert dataset.train.values.tobytes() == train[16:]
    assert dataset.test.values.tobytes() == test[16:]
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    assert dataset.train_labels.tolist() == list(train_labels[8:])
    assert dataset.test_labels.tolist() == list(test_labels[8:])
    assert dataset.sha256 == fingerprint(dataset.train, dataset.test)
