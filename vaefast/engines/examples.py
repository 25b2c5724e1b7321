"""The examples of a call on an engine for the CPU: which images, in which order, and where their noise comes from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.images import (
    BINARIZATION_CODES,
    NONE,
    CountLists,
    Images,
    TableRows,
    first_layer_is_sparse,
    held_table,
    held_whole,
)
from vaefast.models.conditions import parted
from vaefast.models.noise import Purpose, dropout_threshold
from vaefast.models.settings import ModelSettings, TrainingSettings


class Randomness(NamedTuple):
    """Where the random numbers of a call come from (models/noise.py)."""

    seed: np.uint64
    step: np.int64
    pixels: np.int64  # purpose; in training on counts that of the input dropout
    latents: np.int64  # purpose


class Dropout(NamedTuple):
    """Which entries of a row of counts the encoder misses."""

    below: np.uint32  # those whose word is smaller; 0 for none
    scale: np.float32  # of the others


NO_DROPOUT = Dropout(np.uint32(0), np.float32(1))


class Examples(NamedTuple):
    """The n images that a call takes, and how it sees them."""

    images: Images | CountLists | TableRows
    order: NDArray[np.int64]  # (n,): which of the images each example is
    keys: NDArray[np.int64]  # (n,): the number under which it draws its noise
    binarize: int  # one of BINARIZATION_CODES
    sparse: bool  # whether the first layer takes lists of pixels
    randomness: Randomness
    dropout: Dropout
    covariates: NDArray[np.float32]  # (N * C,): those of image i from i * C on


def in_training(
    images: Images | CountLists | TableRows,
    sparse: bool,
    training: TrainingSettings,
    step: int,
    order: NDArray[Any],
    keys: NDArray[Any],
    covariates: NDArray[np.float32] | None = None,
) -> Examples:
    """Images in this order, (n,), under these keys, (n,), in the steps from `step` on; covariates as in `Examples`."""
    inputs = Purpose.INPUT_DROPOUT if isinstance(images, CountLists) else Purpose.TRAINING_PIXELS
    randomness, share = _randomness(training, step, inputs, Purpose.TRAINING_LATENTS), training.input_dropout
    dropout = Dropout(np.uint32(dropout_threshold(share)), np.float32(1 / (1 - share)))
    code, told = BINARIZATION_CODES[training.binarize], read_only_covariates(covariates)
    return Examples(images, _numbers(order), _numbers(keys), code, sparse, randomness, dropout, told)


def in_evaluation(
    images: Images | CountLists | TableRows,
    sparse: bool,
    training: TrainingSettings,
    size: int,
    keys: NDArray[Any] | None = None,
    latents: Purpose = Purpose.EVALUATION_LATENTS,
    covariates: NDArray[np.float32] | None = None,
) -> Examples:
    """All `size` images in turn, under these keys, (size,), or their own numbers; `latents` is the purpose of their noise."""
    order = _numbers(np.arange(size))
    randomness = _randomness(training, 0, Purpose.EVALUATION_PIXELS, latents)
    code = BINARIZATION_CODES[training.binarize]
    keys, told = order if keys is None else _numbers(keys), read_only_covariates(covariates)
    return Examples(images, order, keys, code, sparse, randomness, NO_DROPOUT, told)


def of_a_set(
    placed: Any,
    training: TrainingSettings,
    keys: NDArray[Any] | None = None,
    latents: Purpose = Purpose.EVALUATION_LATENTS,
) -> Examples:
    """The same of a set as an engine placed it."""
    return in_evaluation(placed.images, placed.sparse, training, placed.size, keys, latents, placed.covariates)


def as_they_are(x: Any, model: ModelSettings, training: TrainingSettings) -> Examples:
    """Images (N, X) with their grey levels, for an engine that reads them once: they are not worth a list."""
    values, covariates = parted(x)
    if model.in_blocks:
        table = read_only_table(held_table(values))
        return in_evaluation(table, False, training, len(values), covariates=covariates)._replace(binarize=NONE)
    images = read_only_images(held_whole(np.asarray(values, np.float32)))
    examples = in_evaluation(images, first_layer_is_sparse(values, model), training, len(values), covariates=covariates)
    return examples._replace(binarize=NONE)


def read_only_covariates(covariates: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Covariates, (N, C), one row after the other, for kernels that do not write them; an empty array for none."""
    return _read_only(np.empty(0, np.float32) if covariates is None else covariates.astype(np.float32, copy=False).reshape(-1))


def read_only_images(images: Images) -> Images:
    """The same images for kernels that are compiled for arrays which cannot be written."""
    return Images(*(_read_only(array) for array in images))


def read_only_table(rows: TableRows) -> TableRows:
    """The same for tables in blocks."""
    return TableRows(_read_only(rows.floats))


def read_only_lists(lists: CountLists) -> CountLists:
    """The same for counts."""
    return CountLists._make([*(_read_only(array) for array in lists[:-1]), lists.encoder_input])


def _randomness(training: TrainingSettings, step: int, pixels: Purpose, latents: Purpose) -> Randomness:
    return Randomness(np.uint64(training.seed), np.int64(step), np.int64(pixels), np.int64(latents))


def _numbers(numbers: NDArray[Any]) -> NDArray[np.int64]:
    return _read_only(numbers.astype(np.int64, copy=False))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A contiguous view that cannot be written: one array type, so one compilation, whatever the caller's array was."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
