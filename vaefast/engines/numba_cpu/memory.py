"""The arrays that the workers of the Numba engine read and write, sized for a plan."""

from __future__ import annotations

import numpy as np

from vaefast.engines.numba_cpu.call import Buffers, Row
from vaefast.engines.numba_cpu.count_dispersions import CHUNK_ELEMENTS, LARGE_ELEMENTS, PLACES
from vaefast.engines.numba_cpu.count_shares import WRITTEN_OUT
from vaefast.engines.numba_cpu.counts import Counts
from vaefast.engines.numba_cpu.layers import Backward
from vaefast.engines.numba_cpu.noise import whole_vectors
from vaefast.engines.numba_cpu.pixels import Pixels
from vaefast.engines.numba_cpu.products import GROUP
from vaefast.engines.numba_cpu.rising import PANEL_OF_TABLE
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.weights import Scratch
from vaefast.engines.plan import (
    BLOCK_PIXELS,
    CHUNK_ROWS,
    HALVES,
    Plan,
    aligned,
    half_widths,
    pixel_blocks,
    shared_parts,
    transposed_panels,
)
from vaefast.models.count_rows import NARROW
from vaefast.models.layout import PANEL, padded
from vaefast.models.settings import ModelSettings


def pixels_of(plan: Plan) -> Pixels:
    """The lists of all rows."""
    entries, lengths = plan.rows * plan.pixels, np.zeros(plan.rows, np.int64)
    return Pixels(
        capacity=plan.pixels,
        indices=np.empty(entries, np.uint16),
        values=np.empty(entries, np.float32),
        lengths=lengths,
        seen=lengths,
        middles=np.zeros(plan.rows, np.int64),
        ends=np.zeros((plan.rows, pixel_blocks(plan.pixels)), np.int32),
    )


def lists_of(plan: Plan, model: ModelSettings, longest: int) -> Pixels | Counts:
    """The lists of all rows: of an image as long as it has pixels, of a row of counts with so many entries at most, and with
    the covariates that the encoder sees."""
    if not model.counts:
        return pixels_of(plan)
    rows, index = plan.rows, np.uint16 if model.encoder_inputs <= NARROW else np.uint32
    capacity, lengths = longest + model.encoder_inputs - model.pixels, np.zeros(rows, np.int64)
    decoded, panels = rows * plan.samples, padded(plan.pixels) // PANEL
    return Counts(
        capacity=capacity,
        indices=np.empty(rows * capacity, index),
        values=np.empty(rows * capacity, np.float32),
        lengths=lengths,
        seen=lengths if capacity == longest else np.zeros(rows, np.int64),
        middles=np.zeros(rows, np.int64),
        ends=np.zeros((rows, pixel_blocks(model.encoder_inputs)), np.int32),
        counts=np.empty(rows * capacity, np.float32),
        totals=np.zeros(rows, np.float32),
        sizes=np.zeros(rows, np.float32),
        constants=np.zeros(rows),
        maxima=np.zeros((HALVES, decoded), np.float32),
        sums=np.zeros((HALVES, decoded)),
        slopes=np.zeros((HALVES, decoded)),
        table=aligned(panels * PANEL_OF_TABLE if model.likelihood == "negative-binomial" else 0),
        lanes=np.zeros((HALVES, decoded * WRITTEN_OUT * PANEL), np.float32),
    )


def buffers_of(plan: Plan, size: int, model: ModelSettings, longest: int) -> Buffers:
    """Those of a worker that shares none, with a workspace of so many elements, for rows of so many entries."""
    return Buffers(aligned(size), lists_of(plan, model, longest), row_of(plan, model))


def row_of(plan: Plan, model: ModelSettings) -> Row:
    """Buffers of one row, or of a few, of one worker."""
    width, latent = padded(plan.pixels), padded(plan.latent)
    dispersed = model.counts and model.likelihood == "negative-binomial"
    return Row(
        pixel_words=np.zeros(whole_vectors(width), np.uint32),
        pixels=aligned(width),
        latent_words=np.zeros(whole_vectors(latent), np.uint32),
        noise=aligned(latent),
        lanes=aligned(PANEL),
        columns=aligned(9 * PANEL),
        kl_scales=aligned(latent),
        rates=aligned(CHUNK_ROWS * width if model.counts else 0),
        chunk=aligned(CHUNK_ELEMENTS if dispersed else 0),
        large=np.zeros(LARGE_ELEMENTS if dispersed else 0),
        places=np.zeros(PLACES if dispersed else 0, np.int64),
    )


def backward_of(plan: Plan, threads: int) -> list[Backward]:
    """Each worker's buffers; the two of a group share the parts that they add."""
    rows, size, parts = shared_parts(plan, threads)
    zeros = aligned(PANEL)
    transposed = transposed_panels(plan) * PANEL * rows
    return [Backward(aligned(transposed), part, size, zeros) for part in parts]


def scratch_of(plan: Plan) -> Scratch:
    """What one worker needs in the weights phase."""
    ones = aligned(padded(plan.rows * plan.samples))
    ones[:] = 1
    return Scratch(
        gradient=aligned(max(half_widths(plan) * BLOCK_PIXELS, GROUP * UNIT.gradient_rows) * PANEL),
        zeros=aligned(PANEL),
        ones=ones,
    )
