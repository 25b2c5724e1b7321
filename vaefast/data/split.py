"""Split one set of images into a training and a test set, in the same way every time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaefast.data.images import Dataset, Rows, assemble
from vaefast.data.wording import shown
from vaefast.errors import DataError, SettingsError
from vaefast.models.noise import Purpose, permutation


def split(rows: Rows, test_fraction: float) -> Dataset:
    """Shuffle the images in a fixed order, the same on every machine, and make the last part the test set.

    Parameters
    ----------
    rows
        N images and, if known, N labels.
    test_fraction
        Share of the test set; it has at least one image, and so has the training set.

    Raises
    ------
    DataError
        There are fewer than two images, or the numbers of images and labels differ.
    """
    source, images, labels = rows.source, rows.images, rows.labels
    count = len(images)
    if count < 2:
        images_held = f"{count} image{'s' * (count != 1)}"
        raise DataError(f"{shown(source)} holds {images_held}: give at least 2, one to train on and one to test on")
    if labels is not None and len(labels) != count:
        raise DataError(f"{shown(source)} has {count} images and {len(labels)} labels: give one label an image")
    order = permutation(0, Purpose.TRAIN_TEST_SPLIT, 0, count)
    train_count = count_for_training(count, test_fraction)
    # Both sets are views of one gathered copy, so there is never a third copy of the pixels.
    values = np.take(images.values, order, axis=0)
    shuffled = None if labels is None else labels[order]
    return assemble(
        source,
        images.of(values[:train_count]),
        images.of(values[train_count:]),
        None if shuffled is None else shuffled[:train_count],
        None if shuffled is None else shuffled[train_count:],
        rows.notice,
        rows.classes,
    )


def split_rows(count: int, test_fraction: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the training rows and of the test rows that `split` makes of at least two rows."""
    order, first = permutation(0, Purpose.TRAIN_TEST_SPLIT, 0, count), count_for_training(count, test_fraction)
    return order[:first], order[first:]


def unsplit(rows: Rows) -> Dataset:
    """All images, in their order, as the test set, and also as the training set."""
    return assemble(rows.source, rows.images, rows.images, rows.labels, rows.labels, rows.notice, rows.classes)


def joined(dataset: Dataset) -> Rows:
    """The training images, followed by the test images."""
    values = np.concatenate([dataset.train.values, dataset.test.values])
    order = "it has a test set: the training rows come first, then the test rows"
    notice = f"{dataset.notice}; {order}" if dataset.notice else f"{shown(dataset.name)}: {order}"
    return Rows(dataset.name, dataset.train.of(values), notice=notice)


def count_for_training(count: int, test_fraction: float) -> int:
    """How many of at least two images are for training. Each set gets at least one."""
    return count - min(max(1, round(test_fraction * count)), count - 1)


def check_test_fraction(test_fraction: float) -> None:
    """Refuse a share outside (0, 1).

    Raises
    ------
    SettingsError
        It is 0 or less, 1 or more, or NaN.
    """
    if not 0.0 < test_fraction < 1.0:
        raise SettingsError(f"test_fraction is {test_fraction!r}: give a number between 0 and 1, such as 0.1")
