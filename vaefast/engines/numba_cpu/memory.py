"""The arrays that the workers of the Numba engine read and write, sized for a plan."""

from __future__ import annotations

import numpy as np

from vaefast.engines.numba_cpu.call import Buffers, Row
from vaefast.engines.numba_cpu.layers import Backward
from vaefast.engines.numba_cpu.noise import whole_vectors
from vaefast.engines.numba_cpu.pixels import Pixels
from vaefast.engines.numba_cpu.products import GROUP
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.weights import Scratch
from vaefast.engines.plan import BLOCK_PIXELS, Plan, aligned, half_widths, pixel_blocks, shared_parts
from vaefast.models.layout import PANEL, padded


def pixels_of(plan: Plan) -> Pixels:
    """The lists of all rows."""
    entries = plan.rows * plan.pixels
    return Pixels(
        indices=np.empty(entries, np.uint16),
        values=np.empty(entries, np.float32),
        lengths=np.zeros(plan.rows, np.int64),
        middles=np.zeros(plan.rows, np.int64),
        ends=np.zeros((plan.rows, pixel_blocks(plan.pixels)), np.int32),
    )


def buffers_of(plan: Plan, size: int) -> Buffers:
    """Those of a worker that shares none, with a workspace of so many elements."""
    return Buffers(aligned(size), pixels_of(plan), row_of(plan))


def row_of(plan: Plan) -> Row:
    """Buffers of one row, of one worker."""
    width, latent = padded(plan.pixels), padded(plan.latent)
    return Row(
        pixel_words=np.zeros(whole_vectors(width), np.uint32),
        pixels=aligned(width),
        latent_words=np.zeros(whole_vectors(latent), np.uint32),
        noise=aligned(latent),
        lanes=aligned(PANEL),
        kl_scales=aligned(latent),
    )


def backward_of(plan: Plan, threads: int) -> list[Backward]:
    """Each worker's buffers; the two of a group share the parts that they add."""
    rows, size, parts = shared_parts(plan, threads)
    zeros = aligned(PANEL)
    transposed = half_widths(plan) * PANEL * rows
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
