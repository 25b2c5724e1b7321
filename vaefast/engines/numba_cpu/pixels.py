"""A minibatch as the networks see it: binarised or grey, in panels, and as a list of non-zero pixels per image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import HALF, ONE, ZERO
from vaefast.engines.numba_cpu.noise import fill_words
from vaefast.layout import PANEL

DYNAMIC, THRESHOLD, NONE = 0, 1, 2
BINARIZATION_CODES = {"dynamic": DYNAMIC, "threshold": THRESHOLD, "none": NONE}

WHITE = np.uint64(255)
WORD_BITS = np.uint64(32)
WORDS = 2.0**32
BYTE_SCALE = np.float32(255)
BYTE_HALF = np.uint8(128)


class Images(NamedTuple):
    """A set of images, held once: as grey-level bytes or as floats in [0, 1]; the other array has no rows."""

    bytes: NDArray[np.uint8]  # (N, X)
    floats: NDArray[np.float32]  # (N, X)


class Pixels(NamedTuple):
    """The non-zero pixels of each row of the minibatch, in ascending order."""

    indices: NDArray[np.int32]  # (rows * X,): row r from r * X
    values: NDArray[np.float32]  # (rows * X,)
    lengths: NDArray[np.int64]  # (rows,); 0 on the dense path


@kernel
def load_rows(images, binarize, seed, purpose, step, examples, plan, workspace, pixels, sparse, words, row, first, last):
    """Fill rows first to last - 1 with examples[first:last]: x in the workspace and, if `sparse`, the lists.

    words (uint32) and row (float32) are one padded image each, for this worker alone.
    """
    for r in range(first, last):
        example = examples[r]
        if binarize == DYNAMIC:
            fill_words(seed, purpose, step, example, words)
        if images.bytes.shape[0] > 0:
            _levels_of_bytes(images.bytes[example], binarize, words, row)
        else:
            _levels_of_floats(images.floats[example], binarize, words, row)
        for panel in range(row.size // PANEL):
            offset = plan.x + (panel * plan.rows + r) * PANEL
            workspace[offset : offset + PANEL] = row[panel * PANEL : (panel + 1) * PANEL]
        pixels.lengths[r] = _list_nonzero(row, plan.pixels, pixels, r * plan.pixels) if sparse else 0


@kernel
def _levels_of_bytes(levels, binarize, words, row):
    if binarize == DYNAMIC:
        for p in range(levels.size):
            # word < floor(level * 2^32 / 255), without the division
            on = (np.uint64(words[p]) + np.uint64(1)) * WHITE <= np.uint64(levels[p]) << WORD_BITS
            row[p] = ONE if on else ZERO
    elif binarize == THRESHOLD:
        for p in range(levels.size):
            row[p] = ONE if levels[p] >= BYTE_HALF else ZERO
    else:
        for p in range(levels.size):
            row[p] = np.float32(levels[p]) / BYTE_SCALE


@kernel
def _levels_of_floats(levels, binarize, words, row):
    if binarize == DYNAMIC:
        for p in range(levels.size):
            # word < floor(level * 2^32), exact in float64
            row[p] = ONE if np.float64(words[p]) + 1.0 <= np.float64(levels[p]) * WORDS else ZERO
    elif binarize == THRESHOLD:
        for p in range(levels.size):
            row[p] = ONE if levels[p] >= HALF else ZERO
    else:
        for p in range(levels.size):
            row[p] = levels[p]


@kernel
def _list_nonzero(row, size, pixels, start):
    """Append without a branch: each pixel is written, and the next one overwrites it unless it counts."""
    index, value = pixels.indices[start : start + size], pixels.values[start : start + size]
    count = 0
    for p in range(size):
        index[count] = p
        value[count] = row[p]
        count += 1 if row[p] != ZERO else 0
    return count
