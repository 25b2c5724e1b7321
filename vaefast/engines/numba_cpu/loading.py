"""How a minibatch comes into the buffers: images by `pixels.load_images`, tables in blocks by
`table_rows.load_table`, counts by lists of their own."""

from __future__ import annotations

import math

import numpy as np
from numba.extending import overload

from vaefast.engines.images import SEEN_AS_LOGARITHMS, SEEN_OVER_THEIR_NORM, CountLists, TableRows
from vaefast.engines.numba_cpu.compiler import AS_KERNELS, kernel
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, log
from vaefast.engines.numba_cpu.noise import fill_words
from vaefast.engines.numba_cpu.pixels import AHEAD, BLOCK_SHIFT, load_images
from vaefast.engines.numba_cpu.prefetch import prefetch
from vaefast.engines.numba_cpu.table_rows import load_table
from vaefast.engines.plan import INPUTS, SPLIT
from vaefast.models.layout import PANEL


def load_rows(plan, buffers, examples, minibatch, first, last):
    """Fill rows first to last - 1 of a minibatch from its examples."""


@overload(load_rows, jit_options=AS_KERNELS)
def _choose_load(plan, buffers, examples, minibatch, first, last):
    def images(plan, buffers, examples, minibatch, first, last):
        load_images(plan, buffers, examples, minibatch, first, last)

    def counts(plan, buffers, examples, minibatch, first, last):
        rows, row = buffers.pixels, buffers.row
        for r in range(first, last):
            n = minibatch.begin + r
            example = examples.order[n]
            if r + AHEAD < last:
                _prefetch_counts(examples.images, examples.order[n + AHEAD])
            _load_counts(plan, rows, examples.images, example, r)
            if examples.dropout.below > 0:
                start = r * rows.capacity
                _drop_entries(examples, n, minibatch.step, row.pixel_words, rows.values[start : start + rows.lengths[r]])
            _append_covariates(plan, rows, examples.covariates, example, r)

    def tables(plan, buffers, examples, minibatch, first, last):
        load_table(plan, buffers, examples, minibatch, first, last)

    kind = examples.types[examples.fields.index("images")].instance_class
    return {CountLists: counts, TableRows: tables}.get(kind, images)


@kernel
def _prefetch_counts(table, example):
    """Rows are scattered over memory, as images are."""
    start, size = table.starts[example], table.starts[example + 1] - table.starts[example]
    prefetch(table.pixels, start, size // 16 + 1)
    if table.bytes.size > 0:
        prefetch(table.bytes, start, size // 64 + 1)
    elif table.shorts.size > 0:
        prefetch(table.shorts, start, size // 32 + 1)
    else:
        prefetch(table.floats, start, size // 16 + 1)


@kernel
def _load_counts(plan, counts, table, example, r):
    """Row r: the counts of an example, what the encoder sees of them, and what is known of the whole row."""
    start, stop = table.starts[example], table.starts[example + 1]
    place, length = r * counts.capacity, stop - start
    indices, values = counts.indices[place : place + length], counts.values[place : place + length]
    x = counts.counts[place : place + length]
    for i in range(length):
        indices[i] = table.pixels[start + i]
    if table.bytes.size > 0:
        for i in range(length):
            x[i] = np.float32(table.bytes[start + i])
    elif table.shorts.size > 0:
        for i in range(length):
            x[i] = np.float32(table.shorts[start + i])
    else:
        for i in range(length):
            x[i] = table.floats[start + i]
    _see(table.encoder_input, x, values)
    counts.totals[r], counts.sizes[r] = table.totals[example], table.sizes[example]
    counts.constants[r] = table.constants[example]
    counts.lengths[r] = length
    boundary, middle = plan.layers[plan.layers.shape[0] - 1, SPLIT] // plan.twins * PANEL, 0
    for column in indices:
        middle += column < boundary
    counts.middles[r] = middle


@kernel
def _append_covariates(plan, counts, covariates, example, r):
    """The covariates that the encoder sees, as the last entries of row r, in columns of their own; and where blocks end."""
    place, length = r * counts.capacity, counts.lengths[r]
    more = plan.layers[0, INPUTS] - plan.pixels
    for c in range(more):
        counts.indices[place + length + c] = plan.pixels + c
        counts.values[place + length + c] = covariates[example * plan.covariates + c]
    counts.seen[r] = length + more
    _end_blocks(counts.indices[place : place + length + more], counts.ends[r])


@kernel
def _see(encoder_input, x, values):
    """What the encoder sees of the counts of a row, both (entries,): log(1 + x), x over the row's norm, or x."""
    factor = ONE
    if encoder_input == SEEN_OVER_THEIR_NORM:
        squares = 0.0
        for i in range(x.size):
            squares += np.float64(x[i]) * np.float64(x[i])
        factor = np.float32(1.0 / math.sqrt(squares)) if squares > 0.0 else ONE
    if encoder_input == SEEN_AS_LOGARITHMS:
        for i in range(x.size):
            values[i] = log(ONE + x[i])
    else:
        for i in range(x.size):
            values[i] = x[i] * factor


@kernel
def _drop_entries(examples, n, step, words, values):
    """What example n is seen as in a step of training, (entries,): some entries as zero, the others larger (57)."""
    dropout, randomness = examples.dropout, examples.randomness
    fill_words(randomness.seed, randomness.pixels, step, examples.keys[n], values.size, words)
    for i in range(values.size):
        values[i] = values[i] * dropout.scale if words[i] >= dropout.below else ZERO


@kernel
def _end_blocks(indices, ends):
    """How many entries of a row lie in each block of columns and those before it."""
    for block in range(ends.size):
        ends[block] = 0
    for i in range(indices.size):
        ends[np.int64(indices[i]) >> BLOCK_SHIFT] = i + 1
    for block in range(1, ends.size):
        ends[block] = max(ends[block], ends[block - 1])
