"""A minibatch as the networks see it: binarised or grey, in panels, and as a list of non-zero pixels per image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.images import DYNAMIC, THRESHOLD
from vaefast.engines.numba_cpu.compiler import entry_point, kernel
from vaefast.engines.numba_cpu.elementwise import HALF, ONE, ZERO, copy, fill
from vaefast.engines.numba_cpu.layers import half_begin, half_end
from vaefast.engines.numba_cpu.noise import fill_words
from vaefast.engines.numba_cpu.prefetch import prefetch
from vaefast.engines.plan import BLOCK_PIXELS, ROWS, SPLIT
from vaefast.models.layout import PANEL

# Shifts, because a signed division by a power of two takes five instructions.
PANEL_MASK, PANEL_SHIFT = PANEL - 1, PANEL.bit_length() - 1
BLOCK_SHIFT = BLOCK_PIXELS.bit_length() - 1
# Images are scattered over memory: the one so many rows ahead is asked for while this one is worked on.
AHEAD = 2
WHITE, BYTE_CELL = np.uint8(255), np.uint32(16843009)
BIT_OFF, BIT_ON = np.uint32(0), np.uint32(1)
WORD_RANGE = 2.0**32
BYTE_SCALE = np.float32(255)
BYTE_HALF = np.uint8(128)


class Pixels(NamedTuple):
    """The non-zero pixels of each row of the minibatch, in ascending order."""

    capacity: int  # of a row
    indices: NDArray[np.uint16]  # (rows * capacity,): row r from r * capacity
    values: NDArray[np.float32]  # (rows * capacity,)
    lengths: NDArray[np.int64]  # (rows,)
    seen: NDArray[np.int64]  # (rows,): the same with the covariates that the encoder sees; here the same array
    middles: NDArray[np.int64]  # (rows,): how many entries belong to half 0 of the logits
    ends: NDArray[np.int32]  # (rows, blocks): how many entries lie in a row's blocks of BLOCK_PIXELS up to this one


@entry_point
def count_nonzero(images, starts):
    """starts[n + 1] - starts[n] = the non-zero pixels of whole image n; starts is (N + 1,)."""
    size = images.pixels.size
    starts[0] = 0
    for n in range(starts.size - 1):
        count = 0
        if images.bytes.size > 0:
            for level in images.bytes[n * size : (n + 1) * size]:
                count += level != 0
        else:
            for shade in images.floats[n * size : (n + 1) * size]:
                count += shade != ZERO
        starts[n + 1] = starts[n] + count


@entry_point
def list_nonzero(images, lists):
    """Fill `lists`, whose starts are known, from whole images."""
    size = images.pixels.size
    for n in range(lists.starts.size - 1):
        entry = lists.starts[n]
        for p in range(size):
            if images.bytes.size > 0:
                level = images.bytes[n * size + p]
                if level != 0:
                    lists.pixels[entry] = p
                    lists.bytes[entry] = level
                    entry += 1
            else:
                shade = images.floats[n * size + p]
                if shade != ZERO:
                    lists.pixels[entry] = p
                    lists.floats[entry] = shade
                    entry += 1


@kernel
def load_images(plan, buffers, examples, minibatch, first, last):
    """Fill rows first to last - 1 of a minibatch: the lists of their pixels if `sparse`, else x in the workspace.

    The n-th non-zero pixel of a row takes word n of its example's key; a black pixel, which is never on, takes none.
    """
    images, binarize, begin, row = examples.images, examples.binarize, minibatch.begin, buffers.row
    lists = images.starts.size > 0
    for r in range(first, last):
        example = examples.order[begin + r]
        if lists:
            if r + AHEAD < last:
                _prefetch_image(images, examples.order[begin + r + AHEAD])
            start, stop = images.starts[example], images.starts[example + 1]
            pixel = images.pixels[start:stop]
        else:
            start, stop = example * plan.pixels, (example + 1) * plan.pixels
            pixel = images.pixels
        if binarize == DYNAMIC:
            seed, purpose = examples.randomness.seed, examples.randomness.pixels
            fill_words(seed, purpose, minibatch.step, examples.keys[begin + r], stop - start, row.pixel_words)
        if images.bytes.size > 0:
            _levels_of_bytes(images.bytes[start:stop], lists, binarize, row.pixel_words, row.pixels)
        else:
            levels_of_floats(images.floats[start:stop], lists, binarize, row.pixel_words, row.pixels)
        if examples.sparse:
            _list(row.pixels, pixel, plan, buffers.pixels, r)
        else:
            _place_row(row.pixels, buffers.workspace, plan.x, plan.rows, r)
            if plan.seen != plan.x:
                _place_row(row.pixels, buffers.workspace, plan.seen, plan.rows, r)
                place_covariates(plan, examples.covariates, example, buffers.workspace, plan.seen, plan.rows, r, plan.pixels)


@kernel
def _place_row(pixels, workspace, start, rows, r):
    """Row r of a matrix (rows, X) in panels."""
    for panel in range(pixels.size // PANEL):
        offset = start + (panel * rows + r) * PANEL
        copy(pixels[panel * PANEL : (panel + 1) * PANEL], workspace[offset : offset + PANEL])


@kernel
def place_covariates(plan, covariates, example, workspace, start, rows, r, column):
    """The covariates of an example, (C,), to row r of a matrix (rows, ...) in panels, from this column on."""
    for c in range(plan.covariates):
        panel, lane = (column + c) >> PANEL_SHIFT, (column + c) & PANEL_MASK
        workspace[start + (panel * rows + r) * PANEL + lane] = covariates[example * plan.covariates + c]


@kernel
def place_pixels(plan, buffers, sparse, first, last, half):
    """x of images first to last - 1, half of its columns, for each of their samples: what the likelihood compares the outputs
    with."""
    layer, k = plan.layers[plan.layers.shape[0] - 1], plan.samples
    begin, end, stride = half_begin(layer, half), half_end(layer, half), layer[ROWS] * PANEL
    workspace = buffers.workspace
    if sparse:
        for panel in range(begin, end):
            offset = plan.target + panel * stride
            fill(workspace[offset + first * k * PANEL : offset + last * k * PANEL], ZERO)
        for q in range(first * k, last * k):
            _place_list(plan, workspace, buffers.pixels, stride, q // k, q, half)
    elif k > 1:
        for panel in range(begin, end):
            for q in range(first * k, last * k):
                source, target = plan.x + (panel * plan.rows + q // k) * PANEL, plan.target + panel * stride + q * PANEL
                copy(workspace[source : source + PANEL], workspace[target : target + PANEL])


@kernel
def _place_list(plan, workspace, pixels, stride, r, q, half):
    """The list of image r to row q."""
    base, entry = plan.target + q * PANEL, r * pixels.capacity
    begin, end = (pixels.middles[r], pixels.lengths[r]) if half == 1 else (0, pixels.middles[r])
    for i in range(entry + begin, entry + end):
        p = np.int64(pixels.indices[i])
        workspace[base + (p >> PANEL_SHIFT) * stride + (p & PANEL_MASK)] = pixels.values[i]


@kernel
def _prefetch_image(images, example):
    start, stop = images.starts[example], images.starts[example + 1]
    prefetch(images.pixels, start, (stop - start) // 32 + 1)
    prefetch(images.bytes, start, (stop - start) // 64 + 1)


@kernel
def _levels_of_bytes(levels, lists, binarize, words, row):
    """row[i] = what level i becomes; where `lists`, no level is zero."""
    if binarize == DYNAMIC and lists:
        for i in range(levels.size):
            row[i] = ONE if words[i] <= _last_on(levels[i]) else ZERO
    elif binarize == DYNAMIC:
        n = 0
        for i in range(levels.size):
            row[i] = ONE if levels[i] != 0 and words[n] <= _last_on(levels[i]) else ZERO
            n += levels[i] != 0
    elif binarize == THRESHOLD:
        for i in range(levels.size):
            row[i] = ONE if levels[i] >= BYTE_HALF else ZERO
    else:
        for i in range(levels.size):
            row[i] = np.float32(levels[i]) / BYTE_SCALE


@kernel
def _last_on(level):
    """The last word that turns a level from 1 to 255 on: floor(level * 2^32 / 255) - 1, and 2^32 = 255 * 16843009 + 1."""
    return np.uint32(level) * BYTE_CELL - (BIT_OFF if level == WHITE else BIT_ON)


@kernel
def levels_of_floats(levels, lists, binarize, words, row):
    """The same."""
    if binarize == DYNAMIC:
        n = 0
        for i in range(levels.size):
            # word < floor(level * 2^32), exact in float64
            row[i] = ONE if np.float64(words[n]) + 1.0 <= np.float64(levels[i]) * WORD_RANGE else ZERO
            n += lists or levels[i] != ZERO
    elif binarize == THRESHOLD:
        for i in range(levels.size):
            row[i] = ONE if levels[i] >= HALF else ZERO
    else:
        for i in range(levels.size):
            row[i] = levels[i]


@kernel
def _list(row, pixel, plan, pixels, r):
    """The pixels of row r that are not zero. No branch: each is written, and overwritten by the next unless it counts."""
    start, stop = r * pixels.capacity, (r + 1) * pixels.capacity
    indices, values, ends = pixels.indices[start:stop], pixels.values[start:stop], pixels.ends[r]
    count = 0
    for i in range(pixel.size):
        value = row[i]
        indices[count] = pixel[i]
        values[count] = value
        count += value != ZERO
    pixels.lengths[r] = count
    boundary = plan.layers[plan.layers.shape[0] - 1, SPLIT] * PANEL
    middle = 0
    for p in indices[:count]:
        middle += p < boundary
    pixels.middles[r] = middle
    for block in range(ends.size):
        ends[block] = 0
    for i in range(count):
        ends[indices[i] >> BLOCK_SHIFT] = i + 1
    for block in range(1, ends.size):
        ends[block] = max(ends[block], ends[block - 1])
