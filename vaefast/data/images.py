"""`Images`, and a `Dataset` of training and test images: the form in which the rest of vaefast sees pictures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaefast.data.wording import shown
from vaefast.errors import DataError

# Pixels of either kind: uint8 grey levels 0 to 255, or float32 in [0, 1].
Pixels: TypeAlias = NDArray[np.uint8 | np.float32]
Labels: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Images:
    """A set of images, one flattened image a row.

    Parameters
    ----------
    values
        (N, X) uint8 grey levels 0 to 255, or float32 in [0, 1]; kept as a C-contiguous, read-only view. The reader of
        a file checks the range of the values; it is not checked again here.
    shape
        Height and width of one image; height * width * channels == X.
    channels
        Values of one pixel, stored side by side: 1 for grey levels, 3 for red, green and blue.

    Raises
    ------
    DataError
        The array has another type, or its columns do not fit `shape`.
    """

    values: Pixels
    shape: tuple[int, int]
    channels: int = 1

    def __post_init__(self) -> None:
        """Check the values and make them read-only."""
        if self.values.ndim != 2 or self.values.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"images of shape {self.values.shape} and type {self.values.dtype}: give (N, X) of uint8 or float32"
            )
        height, width = self.shape
        if height * width * self.channels != self.values.shape[1]:
            by = f"{height} by {width}" + f" by {self.channels}" * (self.channels > 1)
            raise DataError(f"images of {self.values.shape[1]} pixels are not {by}")
        object.__setattr__(self, "values", frozen(np.ascontiguousarray(self.values)))

    def of(self, values: Pixels) -> Images:
        """Other images of the same shape."""
        return Images(values, self.shape, self.channels)

    def __len__(self) -> int:
        """Count the images: N."""
        return int(self.values.shape[0])


@dataclass(frozen=True, eq=False)
class Rows:
    """All images of a source without a test set, in their order.

    Parameters
    ----------
    source
        As for `assemble`.
    images
        N of them, at least one.
    labels
        (N,) integers, if known.
    names
        Names of the columns, if the source has them.
    notice
        As in `Dataset`.
    classes
        Names of the labels 0, 1, ... where the source has labels in words.
    """

    source: str | Path
    images: Images
    labels: Labels | None = None
    names: tuple[str, ...] = ()
    notice: str | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images of one kind. `assemble` builds it and checks that they belong together.

    Parameters
    ----------
    name
        `mnist`, `digits 8x8`, or the name of the file or folder that was read.
    train, test
        Images of one shape and type.
    train_labels, test_labels
        (N,) integers where they are known.
    sha256
        `fingerprint(train, test)`, to recognise the same data again.
    notice
        One line that a user must see, for example that other data replace those that were wanted.
    classes
        Names of the labels 0, 1, ... where the source has labels in words.
    """

    name: str
    train: Images
    test: Images
    train_labels: Labels | None
    test_labels: Labels | None
    sha256: str
    notice: str | None
    classes: tuple[str, ...] = ()


def assemble(
    source: str | Path,
    train: Images,
    test: Images,
    train_labels: Labels | None = None,
    test_labels: Labels | None = None,
    notice: str | None = None,
    classes: tuple[str, ...] = (),
) -> Dataset:
    """Join a training and a test set into a `Dataset`.

    Parameters
    ----------
    source
        Name or path of the data. Messages give all of it; the name of the dataset is its last part.
    train, test, train_labels, test_labels, notice, classes
        See `Dataset`.

    Raises
    ------
    DataError
        The sets differ in shape or type, one of them is empty, or the numbers of images and labels differ.
    """
    origin = shown(source)
    if (train.shape, train.channels) != (test.shape, test.channels) or train.values.dtype != test.values.dtype:
        raise DataError(
            f"{origin}: the training images are {described(train)}, the test images {described(test)}: "
            "save both in one size and type"
        )
    for part, images, labels in (("training", train, train_labels), ("test", test, test_labels)):
        if len(images) == 0:
            raise DataError(f"{origin}: the {part} set is empty: give it at least one image")
        if labels is not None and len(labels) != len(images):
            raise DataError(
                f"{origin}: the {part} set has {len(images)} images and {len(labels)} labels: give one label an image"
            )
    return Dataset(
        name=source.name if isinstance(source, Path) else source,
        train=train,
        test=test,
        train_labels=None if train_labels is None else frozen(train_labels),
        test_labels=None if test_labels is None else frozen(test_labels),
        sha256=fingerprint(train, test),
        notice=notice,
        classes=classes,
    )


def fingerprint(train: Images, test: Images) -> str:
    """SHA-256, in hexadecimal, over the shapes, types and bytes of both sets' values."""
    digest = hashlib.sha256()
    for images in (train, test):
        channels = f" {images.channels}" * (images.channels > 1)
        digest.update(f"{images.values.shape} {images.shape}{channels} {images.values.dtype.name};".encode())
        digest.update(images.values.data)
    return digest.hexdigest()


def guessed_shape(pixels: int) -> tuple[int, int]:
    """Height and width for rows of X pixels without a given shape: the most nearly square, never higher than wide."""
    height = next(side for side in range(isqrt(pixels), 0, -1) if pixels % side == 0)
    return height, pixels // height


def described(images: Images) -> str:
    """Size and type in words, such as `28 by 28 of uint8`."""
    channels = f" by {images.channels}" * (images.channels > 1)
    return f"{images.shape[0]} by {images.shape[1]}{channels} of {images.values.dtype}"


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view. The array of the caller stays writeable."""
    view = array.view()
    view.flags.writeable = False
    return view
