"""Images, Dataset, and what has a name: the embedded digits."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.data.making import (
    GREY,
    everything,
    refused,
)
from vaefast.data import Images, Reading, load
from vaefast.data.images import fingerprint, guessed_shape
from vaefast.errors import DataError, SettingsError
from vaefast.models.noise import Purpose, permutation

pytestmark = pytest.mark.filterwarnings("error")

# --- Images and Dataset


def test_images_are_read_only_and_leave_the_callers_array_writeable() -> None:
    mine = GREY.copy()
    images = Images(mine, (3, 4))
    assert len(images) == 5
    with pytest.raises(ValueError, match="read-only"):
        images.values[0, 0] = 1
    mine[0, 0] = 7
    assert images.values[0, 0] == 7  # a view, not a copy


def test_images_are_made_contiguous() -> None:
    images = Images(np.asfortranarray(GREY), (3, 4))
    assert images.values.flags.c_contiguous
    np.testing.assert_array_equal(images.values, GREY)


@pytest.mark.parametrize(
    ("array", "shape"),
    [(GREY, (3, 5)), (GREY.astype(np.float64), (3, 4)), (GREY.astype(np.int32), (3, 4)), (GREY[0], (3, 4))],
)
def test_images_refuse_other_types_and_shapes(array: Any, shape: tuple[int, int]) -> None:
    with pytest.raises(DataError):
        Images(array, shape)


def test_fingerprint_tells_values_types_shapes_and_split_apart() -> None:
    a, b = Images(GREY[:3], (3, 4)), Images(GREY[3:], (3, 4))
    zeros = np.zeros((2, 4), np.float32)
    prints = {
        fingerprint(a, b),
        fingerprint(b, a),
        fingerprint(Images(GREY[:2], (3, 4)), Images(GREY[2:], (3, 4))),
        fingerprint(Images(GREY[:3], (4, 3)), Images(GREY[3:], (4, 3))),
        fingerprint(Images(zeros, (2, 2)), Images(zeros, (2, 2))),
        fingerprint(Images(zeros.view(np.uint8), (4, 4)), Images(zeros.view(np.uint8), (4, 4))),
    }
    assert len(prints) == 6
    assert fingerprint(a, b) == fingerprint(Images(GREY[:3].copy(), (3, 4)), b)


@pytest.mark.parametrize(
    ("pixels", "shape"), [(784, (28, 28)), (64, (8, 8)), (6, (2, 3)), (12, (3, 4)), (13, (1, 13)), (1, (1, 1))]
)
def test_guessed_shape(pixels: int, shape: tuple[int, int]) -> None:
    assert guessed_shape(pixels) == shape


def test_importing_the_package_is_light() -> None:
    heavy = ("numba", "matplotlib", "sklearn", "pooch", "PIL", "requests", "scipy")
    code = f"import sys, vaefast.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the embedded digits


def test_digits() -> None:
    dataset = load("digits")
    assert (dataset.name, dataset.notice) == ("digits 8x8", None)
    assert dataset.train.values.dtype == np.float32
    assert dataset.train.values.shape == (1617, 64)
    assert dataset.test.values.shape == (180, 64)
    assert dataset.train.shape == dataset.test.shape == (8, 8)
    whole = everything(dataset)
    assert whole.min() == 0.0
    assert whole.max() == 1.0
    np.testing.assert_array_equal(whole[0, :8], np.array([0, 0, 5, 13, 9, 1, 0, 0]) / 16)
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    order = permutation(0, Purpose.TRAIN_TEST_SPLIT, 0, 1797)
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    assert labels[np.argsort(order)][:10].tolist() == list(range(10))
    assert load("digits").sha256 == dataset.sha256 == fingerprint(dataset.train, dataset.test)


def test_test_fraction_sets_the_size_of_the_test_set() -> None:
    assert len(load("digits", how=Reading(test_fraction=0.5)).test) == 898
    assert len(load("digits", how=Reading(test_fraction=1e-9)).test) == 1
    assert len(load("digits", how=Reading(test_fraction=1 - 1e-9)).train) == 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_test_fraction_is_checked(fraction: float) -> None:
    with pytest.raises(SettingsError):
        load("digits", how=Reading(test_fraction=fraction))


def test_the_digits_file_holds_what_the_function_of_scikit_learn_returns(monkeypatch):
    import importlib.util

    from vaefast.data import digits

    quick = digits._read()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for got, expected in zip(quick, digits._read(), strict=True):
        assert np.array_equal(got, expected)


# --- names


@pytest.mark.parametrize(("name", "meant"), [("minst", "mnist"), ("MNIST", "mnist"), ("digit", "digits")])
def test_near_miss_of_a_name(name: str, meant: str) -> None:
    assert f"did you mean '{meant}'" in refused(name, name)


@pytest.mark.parametrize("name", ["", "no/such/file.npy", "nul\0byte", "line\nbreak", "\udc80"])
def test_unknown_name_says_what_there_is(name: str) -> None:
    assert "did you mean" not in refused(name, "mnist", "digits", "path")
