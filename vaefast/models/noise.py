"""Counter-based random numbers: every number is a pure function of (seed, purpose, step, example, index).

Philox4x32-10 (Salmon, Moraes, Dror & Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC'11) maps a 128-bit counter
and a 64-bit key to four 32-bit words. Nothing is drawn from a stream. So no number depends on the thread that asks for it,
on the split of a minibatch, or on an interruption of the run:

    key     = (low half of seed, high half of seed)
    counter = (index // 4, example, step, purpose + 2^16 sample)          word = output[index % 4]

Several samples of the latents of one example in one step are numbered. Everything else is sample 0.

This file is the definition, in NumPy. The compiled engines have their own versions, and tests check that the bits agree.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Multipliers and Weyl increments of Philox4x32 (table 2 of the paper and its reference code).
MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
WEYL_0 = np.uint64(0x9E3779B9)
WEYL_1 = np.uint64(0xBB67AE85)
LOW_WORD = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)
# The bits of the NaN that stands for all of them in float32.
NAN_BITS = np.uint32(0x7FC00000)
# Values whose keys are computed at once, so that the temporaries stay in a cache.
KEYED_VALUES = 1 << 17


class Purpose(IntEnum):
    """The purpose of a random number: the last word of the counter, so that no two uses share bits."""

    INITIAL_PARAMETERS = 0
    EXAMPLE_ORDER = 1
    TRAINING_PIXELS = 2
    TRAINING_LATENTS = 3
    EVALUATION_PIXELS = 4
    EVALUATION_LATENTS = 5
    PRIOR_SAMPLES = 6
    TRAIN_TEST_SPLIT = 7
    IMPORTANCE_SAMPLES = 8
    ROW_KEYS = 9
    INPUT_DROPOUT = 10


def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> tuple[Any, Any, Any, Any]:
    """Ten rounds of Philox4x32 on uint64 scalars or arrays that hold 32-bit words; returns four such words."""
    for _ in range(10):
        product_0 = MULTIPLIER_0 * c0
        product_1 = MULTIPLIER_1 * c2
        c0 = (product_1 >> WORD_BITS) ^ c1 ^ k0
        c1 = product_1 & LOW_WORD
        c2 = (product_0 >> WORD_BITS) ^ c3 ^ k1
        c3 = product_0 & LOW_WORD
        k0 = (k0 + WEYL_0) & LOW_WORD
        k1 = (k1 + WEYL_1) & LOW_WORD
    return c0, c1, c2, c3


def words(
    seed: int, purpose: Purpose, step: ArrayLike, examples: ArrayLike, count: int, sample: int = 0
) -> NDArray[np.uint32]:
    """Words 0 to count - 1 of each example: uint32, (len(examples), count); of one step, or of a step for each example."""
    blocks = np.arange(-(-count // 4), dtype=np.uint64)[None, :]
    rows = np.asarray(examples, dtype=np.uint64)[:, None]
    low, high = np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)
    four = philox4x32(blocks, rows, np.asarray(step, np.uint64)[..., None], np.uint64(purpose + (sample << 16)), low, high)
    return np.stack(four, axis=-1).reshape(rows.shape[0], -1)[:, :count].astype(np.uint32)


def uniforms(random_words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The middle of one of 2^23 equal cells of (0, 1): never 0 or 1, and exact in float32 too."""
    cells = (random_words >> np.uint32(9)).astype(np.float64)
    return (cells + 0.5) * 2.0**-23


def normals(
    seed: int, purpose: Purpose, step: ArrayLike, examples: ArrayLike, count: int, sample: int = 0
) -> NDArray[np.float64]:
    """Standard normals 0 to count - 1 of each example: float64, (len(examples), count); steps are those of `words`.

    Box & Muller's transform of words 2i and 2i + 1 gives normals 2i (cosine) and 2i + 1 (sine); the largest possible
    magnitude is sqrt(2 * 24 * ln 2) = 5.77.
    """
    u = uniforms(words(seed, purpose, step, examples, count + count % 2, sample))
    radius = np.sqrt(-2.0 * np.log(u[:, 0::2]))
    angle = 2.0 * np.pi * u[:, 1::2]
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)
    return pairs.reshape(u.shape)[:, :count]


def permutation(seed: int, purpose: Purpose, step: int, n: int) -> NDArray[np.int64]:
    """A random order of 0 to n - 1, int64 (n,): the ranks of n random 64-bit keys."""
    pair = words(seed, purpose, step, np.arange(n), 2).astype(np.uint64)
    return np.argsort(pair[:, 0] << WORD_BITS | pair[:, 1], kind="stable")


def row_keys(values: NDArray[Any]) -> NDArray[np.int64]:
    """A number in [0, 2^32) for each row of values, (N, X) uint8 or float32, that depends on nothing but the row: int64 (N,).

    Evaluation draws the noise of an image under this number, so that its bound depends neither on its place in a set nor on
    the images beside it. Bytes count as the float32 level / 255, and every NaN, a value that is missing, as the same one.
    Source: the multilinear hash of Carter & Wegman (1979): the top half of the sum of 32-bit words times random 64-bit
    multipliers, modulo 2^64.
    """
    pair = words(0, Purpose.ROW_KEYS, 0, np.arange(values.shape[1]), 2).astype(np.uint64)
    multipliers = pair[:, 0] << WORD_BITS | pair[:, 1]
    keys = np.empty(len(values), np.int64)
    step = max(1, KEYED_VALUES // values.shape[1])
    for start in range(0, len(values), step):
        block = values[start : start + step]
        levels = block / np.float32(255) if block.dtype == np.uint8 else block + np.float32(0)  # -0 becomes 0
        patterns = np.ascontiguousarray(levels, np.float32).view(np.uint32)
        if block.dtype != np.uint8 and (gaps := np.isnan(block)).any():
            patterns = np.where(gaps, NAN_BITS, patterns)
        bits = patterns.astype(np.uint64)
        keys[start : start + step] = (bits @ multipliers) >> WORD_BITS
    return keys


def binarization_threshold(level: NDArray[np.generic]) -> NDArray[np.uint64]:
    """The integer t such that `word < t` turns a pixel of this grey level on with probability level (uint8: level / 255).

    Exact at both ends: a black pixel is never on and a white one always. Deciding in integers keeps the images the same
    bit for bit in every engine.
    """
    if level.dtype == np.uint8:
        return (level.astype(np.uint64) << WORD_BITS) // np.uint64(255)
    return np.floor(level.astype(np.float64) * 2.0**32).astype(np.uint64)


def drawn_pixels(levels: NDArray[Any], seed: int, purpose: Purpose, step: int, examples: ArrayLike) -> NDArray[np.bool_]:
    """Which pixels of grey levels, (N, X) uint8 or float32, are on in this draw, (N, X).

    The n-th non-zero pixel takes word n of its example. A black one is never on, whatever its word. One that is missing, NaN,
    takes a word like a white one.
    """
    if levels.dtype != np.uint8:
        levels = np.where(np.isnan(levels), levels.dtype.type(1), levels)
    index = np.maximum(np.cumsum(levels != 0, axis=1) - 1, 0)
    drawn = np.take_along_axis(words(seed, purpose, step, examples, levels.shape[1]), index, axis=1)
    return drawn < binarization_threshold(levels)


def dropout_threshold(share: float) -> int:
    """The integer t such that `word < t` has this probability, which is below 1."""
    return int(share * 2.0**32)


def kept_entries(values: NDArray[Any], share: float, seed: int, step: int, examples: ArrayLike) -> NDArray[np.bool_]:
    """Which elements of values, (N, X), a step of training with this input dropout leaves, (N, X).

    The n-th element of a row that is not zero takes word n of its example.
    """
    index = np.maximum(np.cumsum(values != 0, axis=1) - 1, 0)
    drawn = np.take_along_axis(words(seed, Purpose.INPUT_DROPOUT, step, examples, values.shape[1]), index, axis=1)
    return drawn >= dropout_threshold(share)
