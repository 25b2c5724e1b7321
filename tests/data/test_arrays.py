"""`.npy` and `.npz` files of pictures."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.data.making import (
    FRACTIONS,
    GREY,
    everything,
    flipped,
    npy_bytes,
    refused,
    saved,
)
from vaefast.data import Images, Reading, load, values
from vaefast.data.images import assemble
from vaefast.errors import DataError
from vaefast.models.noise import Purpose, permutation

pytestmark = pytest.mark.filterwarnings("error")

# --- .npy


def test_npy_is_split_by_the_keyed_permutation(tmp_path: Path) -> None:
    path = saved(tmp_path / "faces.npy", GREY)
    dataset = load(str(path), how=Reading(test_fraction=0.4))
    order = permutation(0, Purpose.TRAIN_TEST_SPLIT, 0, 5)
    np.testing.assert_array_equal(dataset.train.values, GREY[order[:3]])
    np.testing.assert_array_equal(dataset.test.values, GREY[order[3:]])
    assert (dataset.name, dataset.train.shape, dataset.notice) == ("faces.npy", (3, 4), None)
    assert dataset.train_labels is dataset.test_labels is None
    for images in (dataset.train, dataset.test):
        assert images.values.flags.c_contiguous
        assert not images.values.flags.writeable


def test_npy_of_pictures_keeps_their_shape(tmp_path: Path) -> None:
    dataset = load(str(saved(tmp_path / "a.npy", GREY.reshape(5, 2, 6))))
    assert dataset.train.shape == (2, 6)
    np.testing.assert_array_equal(everything(dataset), GREY)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (GREY, GREY),
        (np.asfortranarray(GREY), GREY),
        (GREY.astype(">i2"), GREY),
        (GREY.astype(np.int64), GREY),
        (GREY.astype(np.uint64), GREY),
        (GREY > 30, np.where(GREY > 30, 255, 0).astype(np.uint8)),
        (FRACTIONS.astype(np.float16), FRACTIONS.astype(np.float32)),
        (FRACTIONS.astype(np.float32), FRACTIONS.astype(np.float32)),
        (FRACTIONS.astype(">f4"), FRACTIONS.astype(np.float32)),
        (FRACTIONS.astype(np.float64), FRACTIONS.astype(np.float32)),
        (np.asfortranarray(FRACTIONS), FRACTIONS.astype(np.float32)),
        (np.asfortranarray(FRACTIONS.astype(np.float32)), FRACTIONS.astype(np.float32)),
        (FRACTIONS.astype(np.longdouble), FRACTIONS.astype(np.float32)),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0, 1], [1, 0]], np.float32)),
    ],
)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_types_of_values(tmp_path: Path, array: Any, expected: NDArray[Any], ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    if ending == "npy":
        np.save(path, array)
    else:
        np.savez_compressed(path, array)
    rows = everything(load(str(path)))
    assert rows.dtype == expected.dtype
    np.testing.assert_array_equal(rows, expected)


# Rows beyond the first block of the check, too; the second value, further on, must not be the one reported.
@pytest.mark.parametrize("row", [0, 3, values.BLOCK // 50 + 10])
@pytest.mark.parametrize(
    ("dtype", "value", "shown"),
    [
        (np.float64, float("nan"), "nan"),
        (np.float32, float("inf"), "inf"),
        (np.float16, float("-inf"), "-inf"),
        (np.float64, -1e-300, "-1e-300"),
        (np.float32, 1.5, "1.5"),
        (np.float64, 1 + 2**-52, "1.0000000000000002"),
        (np.int16, -1, "-1"),
        (np.uint16, 256, "256"),
        (np.int64, 2**40, "1099511627776"),
    ],
)
def test_value_out_of_range_is_located(tmp_path: Path, dtype: Any, value: float, shown: str, row: int) -> None:
    array = np.zeros((values.BLOCK // 50 + 20, 50), dtype)
    array[row, 7] = value
    array[row, 9] = value
    array[row + 1, 2] = value
    wanted = "[0, 1]" if array.dtype.kind == "f" else "0 to 255"
    for order in "CF":
        path = saved(tmp_path / "a.npy", np.asarray(array, order=order))  # type: ignore[call-overload]
        refused(path, str(path), f"row {row}, column 7 (both counted from 0) is {shown}:", wanted)


def test_empty_array_of_huge_rows_is_refused_at_once(tmp_path: Path) -> None:
    header = npy_bytes(GREY)[:-60].replace(b"(5, 12), }" + b" " * 20, b"(0, 9999999999999999999), }   ")
    (tmp_path / "a.npy").write_bytes(header)
    refused(tmp_path / "a.npy", "no pixels")


def test_npy_in_fortran_order_keeps_pictures_upright(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", np.asfortranarray(FRACTIONS.reshape(5, 3, 4)))
    assert b"'fortran_order': True" in path.read_bytes()
    np.testing.assert_array_equal(everything(load(str(path))), FRACTIONS.astype(np.float32))


def test_two_sets_are_joined_only_if_both_hold_images() -> None:
    with pytest.raises(DataError, match="test set is empty"):
        assemble("a", Images(GREY, (3, 4)), Images(GREY[:0], (3, 4)))


def test_float64_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((4000, 784))
    path = saved(tmp_path / "a.npy", array)
    kept = array.nbytes // 2
    del array
    tracemalloc.start()
    load(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.4 * kept  # float32, and its shuffled copy; float64 and float32 alone would be 3


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((5, 2), complex), "complex"),
        (np.array([["a", "b"]] * 3), "<U1"),
        (np.array([[b"a"]] * 3), "|S1"),
        (np.zeros((3, 2), "M8[s]"), "datetime"),
        (np.zeros(3, [("a", "u1")]), "uint8"),
        (np.array([[None, 1], [2, 3]], dtype=object), "object"),
        (np.zeros(4, np.uint8), "shape (4,)"),
        (np.uint8(3), "shape ()"),
        (np.zeros((4, 2, 2, 2), np.uint8), "(N, height, width, channels)"),
        (np.zeros((4, 2, 2, 1, 1), np.uint8), "(N, height, width)"),
        (np.zeros((4, 0), np.uint8), "no pixels"),
        (np.zeros((4, 0, 3), np.float64), "no pixels"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((0, 4), np.float64), "no pixels"),
        (np.zeros((1, 4), np.uint8), "1 image:"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: Any, word: str) -> None:
    path = saved(tmp_path / "a.npy", array)
    refused(path, str(path), word)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (npy_bytes(GREY)[:-1], "59 bytes where its header promises 60"),
        (npy_bytes(GREY) + b"\0", "61 bytes where its header promises 60"),
        (npy_bytes(GREY)[:50], "not a readable NumPy array"),
        (npy_bytes(GREY)[:6], "not a readable NumPy array"),
        (npy_bytes(GREY).replace(b"(5, 12)", b"(5,-12)"), "promises"),
        (npy_bytes(GREY).replace(b"(5, 12), }" + b" " * 20, b"(99999999999999, 9999999), }  "), "promises 99999"),
        (npy_bytes(GREY).replace(b"'shape'", b"'shapf'"), "not a readable NumPy array"),
    ],
)
def test_damaged_npy(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    refused(path, str(path), word)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    trap = np.array([[Trap()]], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x_train=trap, x_test=trap)
    np.savez(tmp_path / "b.npz", x_train=GREY, x_test=GREY, y_train=trap)
    for name in ("a.npy", "a.npz", "b.npz"):
        refused(tmp_path / name, "object")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_images_that_are_all_black_are_noticed(tmp_path: Path, dtype: Any) -> None:
    array = np.tile([0, 1], (3, 2)).astype(dtype)
    notice = load(str(saved(tmp_path / "a.npy", array))).notice
    assert notice is not None
    assert "bool" in notice
    assert load(str(saved(tmp_path / "a.npy", array.astype(bool)))).notice is None


# --- .npz


@pytest.mark.parametrize(("train", "test"), [("x_train", "x_test"), ("train", "test")])
def test_npz_with_its_own_split(tmp_path: Path, train: str, test: str) -> None:
    path = tmp_path / "a.npz"
    arrays: dict[str, Any] = {train: GREY[:3], test: GREY[3:], "y_train": [[3], [1], [2]], "y_test": [4.0, 5.0]}
    np.savez(path, **arrays)
    dataset = load(str(path), how=Reading(test_fraction=0.9))
    np.testing.assert_array_equal(dataset.train.values, GREY[:3])
    np.testing.assert_array_equal(dataset.test.values, GREY[3:])
    assert dataset.name == "a.npz"
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    assert dataset.train_labels.tolist() == [3, 1, 2]
    assert dataset.test_labels.tolist() == [4, 5]
    assert dataset.test_labels.dtype.kind == "i"


def test_npz_labels_follow_their_images_through_the_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=GREY, y_train=GREY[:, 0])
    dataset = load(str(tmp_path / "a.npz"), how=Reading(test_fraction=0.4))
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    np.testing.assert_array_equal(dataset.train_labels, dataset.train.values[:, 0])
    np.testing.assert_array_equal(dataset.test_labels, dataset.test.values[:, 0])


@pytest.mark.parametrize("name", ["arr_0", "train", "test", "faces"])
def test_npz_of_one_array(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "a.npz", **{name: GREY})  # type: ignore[arg-type]
    np.testing.assert_array_equal(everything(load(str(tmp_path / "a.npz"))), GREY)


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"a": GREY, "b": GREY}, "arrays a, b"),
        ({"x_test": GREY, "y_test": GREY[:, 0]}, "x_train and x_test"),
        ({}, "(none)"),
        ({"x_train": GREY, "x_test": GREY[:, :6]}, "3 by 4 of uint8, the test images 2 by 3 of uint8"),
        ({"x_train": GREY, "x_test": GREY.reshape(5, 4, 3)}, "3 by 4 of uint8, the test images 4 by 3"),
        ({"x_train": GREY, "x_test": FRACTIONS}, "float32"),
        ({"x_train": GREY, "x_test": GREY[:0]}, "array x_test has shape (0, 12)"),
        ({"x_train": GREY, "x_test": FRACTIONS * 2}, "array x_test: row 2, column 9"),
        ({"x_train": GREY, "x_test": GREY, "y_train": [1, 2]}, "5 images and 2 labels"),
        ({"x_train": GREY, "x_test": GREY, "y_test": [1, 2]}, "5 images and 2 labels"),
        ({"x_train": GREY, "y_train": [1, 2]}, "5 images and 2 labels"),
        ({"x_train": GREY, "y_train": np.eye(5)}, "shape (5, 5)"),
        ({"x_train": GREY, "y_train": list("abcde")}, "<U1"),
        ({"x_train": GREY, "y_train": [0.0, 1.0, 2.0, 0.5, float("nan")]}, "label 3 (counted from 0) is 0.5"),
        ({"x_train": GREY, "y_train": [0.0, float("nan"), 2.0, 0.5, 0.0]}, "label 1 (counted from 0) is nan"),
    ],
)
def test_npz_refusals(tmp_path: Path, arrays: dict[str, Any], word: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", str(tmp_path / "a.npz"), word)


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=GREY)
    good = path.read_bytes()
    at = good.index(GREY.tobytes())
    path.write_bytes(good[:at] + flipped(good[at : at + 1]) + good[at + 1 :])
    refused(path, "CRC")
    path.write_bytes(good[:-30])
    refused(path, "damaged .npz")
    path.write_bytes(b"PK")
    refused(path, "damaged .npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(path, "not a readable NumPy array")


def test_npz_header_that_promises_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = npy_bytes(GREY).replace(b"(5, 12), }" + b" " * 20, b"(99999999999999, 9999999), }  ")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header)
    refused(path, "60 bytes where its header promises 99999")


# --- Channels


COLOURS = np.random.default_rng(2).integers(0, 256, (5, 6, 8, 3)).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_channels_become_grey_or_are_kept(tmp_path: Path, dtype: Any) -> None:
    from PIL import Image

    array = COLOURS if dtype == np.uint8 else COLOURS / 255
    path = saved(tmp_path / "a.npy", array)
    grey = np.stack([np.array(Image.fromarray(picture).convert("L")).reshape(-1) for picture in COLOURS])
    dataset = load(str(path))
    assert (dataset.train.shape, dataset.train.channels) == ((6, 8), 1)
    assert dataset.notice == f"{path}: pictures in colour are taken as grey (--color keeps the channels)"
    rows = everything(dataset)
    np.testing.assert_allclose(rows, grey if dtype == np.uint8 else grey / 255, atol=0 if dtype == np.uint8 else 0.5 / 255)
    kept = load(str(path), how=Reading(color=True))
    assert (kept.train.shape, kept.train.channels, kept.notice) == ((6, 8), 3, None)
    np.testing.assert_array_equal(everything(kept), array.reshape(5, -1).astype(kept.train.values.dtype))


def test_channels_first_and_single_channels(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", np.moveaxis(COLOURS, 3, 1))
    kept = load(str(path), how=Reading(color=True))
    np.testing.assert_array_equal(everything(kept), COLOURS.reshape(5, -1))
    assert kept.notice == f"{path}: shape (N, 3, 6, 8) is read as (N, channels, height, width)"
    single = load(str(saved(tmp_path / "b.npy", COLOURS[..., :1])))
    np.testing.assert_array_equal(everything(single), COLOURS[..., 0].reshape(5, -1))
    assert single.notice is None


def test_npz_of_medmnist(tmp_path: Path) -> None:
    arrays = {"train_images": COLOURS[:3, ..., 0], "val_images": COLOURS[:1, ..., 0], "test_images": COLOURS[3:, ..., 0],
              "train_labels": [[3], [1], [2]], "val_labels": [[1]], "test_labels": [[4], [5]]}  # fmt: skip
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    dataset = load(str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(dataset.train.values, COLOURS[:3, ..., 0].reshape(3, -1))
    assert dataset.test_labels is not None
    assert dataset.test_labels.tolist() == [4, 5]
    assert dataset.notice == f"{tmp_path / 'a.npz'}: arrays that are not read: val_images, val_labels"
