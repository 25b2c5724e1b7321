"""A minibatch as the networks see it: binarised or grey, in panels, and as a list of non-zero pixels per image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.compiler import entry_point, kernel
from vaefast.engines.numba_cpu.elementwise import HALF, ONE, ZERO
from vaefast.engines.numba_cpu.noise import WORDS, fill_planes
from vaefast.engines.numba_cpu.plan import BLOCK_PIXELS
from vaefast.layout import PANEL

DYNAMIC, THRESHOLD, NONE = 0, 1, 2
BINARIZATION_CODES = {"dynamic": DYNAMIC, "threshold": THRESHOLD, "none": NONE}

# Shifts, because a signed division by a power of two takes five instructions.
WORD_MASK, WORD_SHIFT = WORDS - 1, WORDS.bit_length() - 1
PANEL_MASK, PANEL_SHIFT = PANEL - 1, PANEL.bit_length() - 1
BLOCK_SHIFT = BLOCK_PIXELS.bit_length() - 1
WHITE = np.uint64(255)
ONE_WORD = np.uint64(1)
WORD_BITS = np.uint64(32)
WORD_RANGE = 2.0**32
BYTE_SCALE = np.float32(255)
BYTE_HALF = np.uint8(128)


class Images(NamedTuple):
    """A set of N images in one of two forms, of bytes or of floats; the arrays of the other forms are empty.

    Sparse images are lists: the non-zero pixels of image n, ascending, are entries starts[n] to starts[n + 1] - 1.
    """

    bytes: NDArray[np.uint8]  # (N, X) grey levels, or (entries, 1) of the lists
    floats: NDArray[np.float32]  # (N, X) or (entries, 1)
    starts: NDArray[np.int64]  # (N + 1,), or (0,) where images are not lists
    pixels: NDArray[np.int32]  # (entries,)


class Pixels(NamedTuple):
    """The non-zero pixels of each row of the minibatch, in ascending order."""

    indices: NDArray[np.int32]  # (rows * X,): row r from r * X
    values: NDArray[np.float32]  # (rows * X,)
    lengths: NDArray[np.int64]  # (rows,); 0 on the dense path
    ends: NDArray[np.int32]  # (rows, blocks): how many entries lie in a row's blocks of BLOCK_PIXELS up to this one


@entry_point
def count_nonzero(images, starts):
    """starts[n + 1] - starts[n] = the non-zero pixels of image n; (N + 1,)."""
    starts[0] = 0
    for n in range(starts.size - 1):
        count = 0
        if images.bytes.shape[0] > 0:
            for level in images.bytes[n]:
                count += level != 0
        else:
            for level in images.floats[n]:
                count += level != ZERO
        starts[n + 1] = starts[n] + count


@entry_point
def list_nonzero(images, sparse):
    """Fill `sparse`, whose starts are known, with the non-zero pixels of `images`."""
    for n in range(sparse.starts.size - 1):
        entry = sparse.starts[n]
        if images.bytes.shape[0] > 0:
            row = images.bytes[n]
            for p in range(row.size):
                if row[p] != 0:
                    sparse.pixels[entry] = p
                    sparse.bytes[entry, 0] = row[p]
                    entry += 1
        else:
            shades = images.floats[n]
            for p in range(shades.size):
                if shades[p] != ZERO:
                    sparse.pixels[entry] = p
                    sparse.floats[entry, 0] = shades[p]
                    entry += 1


@kernel
def load_rows(images, binarize, seed, purpose, step, examples, plan, workspace, pixels, sparse, planes, row, first, last):
    """Fill rows first to last - 1 with examples[first:last]: x in the workspace and, if `sparse`, the lists.

    planes (uint32) and row (float32) hold the words and the pixels of one image, for this worker alone.
    """
    if images.starts.size > 0:
        for panel in range((plan.pixels + PANEL - 1) // PANEL):
            offset = plan.x + panel * plan.rows * PANEL
            workspace[offset + first * PANEL : offset + last * PANEL] = ZERO
    for r in range(first, last):
        if images.starts.size > 0:
            _load_list(images, binarize, seed, purpose, step, examples[r], plan, workspace, pixels, planes, r)
        else:
            _load_image(images, binarize, seed, purpose, step, examples[r], plan, workspace, planes, row, r)
            pixels.lengths[r] = _list_row(row, plan.pixels, pixels, r) if sparse else 0


@kernel
def _load_list(images, binarize, seed, purpose, step, example, plan, workspace, pixels, planes, r):
    """An image that is held as its non-zero pixels: only those can be on, and the others of x are zero already."""
    start, stop = images.starts[example], images.starts[example + 1]
    pixel = images.pixels[start:stop]
    indices, values = pixels.indices[r * plan.pixels :], pixels.values[r * plan.pixels :]
    if binarize == DYNAMIC and stop > start:
        fill_planes(seed, purpose, step, example, pixel[0] // WORDS, pixel[pixel.size - 1] // WORDS + 1, planes)
    stride, count, ends = planes.size // WORDS, 0, pixels.ends[r]
    ends[:] = 0
    for entry in range(pixel.size):
        p = pixel[entry]
        word = planes[(p & WORD_MASK) * stride + (p >> WORD_SHIFT)]
        if images.bytes.shape[0] > 0:
            value = _level_of_byte(images.bytes[start + entry, 0], binarize, word)
        else:
            value = _level_of_float(images.floats[start + entry, 0], binarize, word)
        # Written without a branch, and overwritten by the next pixel unless this one is on.
        indices[count] = p
        values[count] = value
        count += 1 if value != ZERO else 0
        ends[p >> BLOCK_SHIFT] = count
        workspace[plan.x + ((p >> PANEL_SHIFT) * plan.rows + r) * PANEL + (p & PANEL_MASK)] = value
    pixels.lengths[r] = count
    _fill_empty_blocks(ends)


@kernel
def _fill_empty_blocks(ends):
    for block in range(1, ends.size):
        ends[block] = max(ends[block], ends[block - 1])


@kernel
def _load_image(images, binarize, seed, purpose, step, example, plan, workspace, planes, row, r):
    """An image that is held whole."""
    stride = planes.size // WORDS
    if binarize == DYNAMIC:
        fill_planes(seed, purpose, step, example, 0, (plan.pixels + WORDS - 1) // WORDS, planes)
    if images.bytes.shape[0] > 0:
        levels = images.bytes[example]
        for p in range(levels.size):
            row[p] = _level_of_byte(levels[p], binarize, planes[(p & WORD_MASK) * stride + (p >> WORD_SHIFT)])
    else:
        shades = images.floats[example]
        for p in range(shades.size):
            row[p] = _level_of_float(shades[p], binarize, planes[(p & WORD_MASK) * stride + (p >> WORD_SHIFT)])
    for panel in range(row.size // PANEL):
        offset = plan.x + (panel * plan.rows + r) * PANEL
        workspace[offset : offset + PANEL] = row[panel * PANEL : (panel + 1) * PANEL]


@kernel
def _level_of_byte(level, binarize, word):
    if binarize == DYNAMIC:
        # word < floor(level * 2^32 / 255), without the division
        return ONE if (np.uint64(word) + ONE_WORD) * WHITE <= np.uint64(level) << WORD_BITS else ZERO
    if binarize == THRESHOLD:
        return ONE if level >= BYTE_HALF else ZERO
    return np.float32(level) / BYTE_SCALE


@kernel
def _level_of_float(level, binarize, word):
    if binarize == DYNAMIC:
        # word < floor(level * 2^32), exact in float64
        return ONE if np.float64(word) + 1.0 <= np.float64(level) * WORD_RANGE else ZERO
    if binarize == THRESHOLD:
        return ONE if level >= HALF else ZERO
    return level


@kernel
def _list_row(row, size, pixels, r):
    """The non-zero pixels of a whole image, appended without a branch."""
    indices, values = pixels.indices[r * size : (r + 1) * size], pixels.values[r * size : (r + 1) * size]
    count, ends = 0, pixels.ends[r]
    for p in range(size):
        indices[count] = p
        values[count] = row[p]
        count += 1 if row[p] != ZERO else 0
        ends[p >> BLOCK_SHIFT] = count
    return count
