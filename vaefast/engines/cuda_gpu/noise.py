"""The counter-based noise of `vaefast.noise` inside kernels: the same bits, and normals within a few ulp."""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.cuda_gpu.device import cosine_of_turn, sine_of_turn, sqrt
from vaefast.engines.cuda_gpu.target import device
from vaefast.models import noise

CELL_SHIFT, WORD = np.uint64(9), np.uint64(0xFFFFFFFF)
HALF, CELL, MINUS_TWO = np.float32(0.5), np.float32(2.0**-23), np.float32(-2)

# The definition itself, compiled: four words of a block of counters.
philox4x32 = device(noise.philox4x32)


@device
def four_words(call, block, example, step, purpose):
    """Words 4 block to 4 block + 3 of an example, uint64 below 2^32, of counters that are."""
    # Told to the compiler, which multiplies 32 bits then.
    low, high = np.uint64(call.seed[0]), np.uint64(call.seed[1])
    counters = np.uint64(block) & WORD, np.uint64(example) & WORD, np.uint64(step) & WORD, np.uint64(purpose) & WORD
    return philox4x32(counters[0], counters[1], counters[2], counters[3], low, high)


@device
def uniform(word):
    """The middle of one of 2^23 equal cells of (0, 1)."""
    return (np.float32(np.uint32(word >> CELL_SHIFT)) + HALF) * CELL


@device
def four_normals(call, index, example, step, purpose):
    """Standard normal numbers index to index + 3 of an example, index a multiple of four: two pairs of cosine and sine."""
    w0, w1, w2, w3 = four_words(call, index >> 2, example, step, purpose)
    first, turn = sqrt(MINUS_TWO * np.float32(math.log(uniform(w0)))), uniform(w1)
    second, other = sqrt(MINUS_TWO * np.float32(math.log(uniform(w2)))), uniform(w3)
    return (
        first * cosine_of_turn(turn),
        first * sine_of_turn(turn),
        second * cosine_of_turn(other),
        second * sine_of_turn(other),
    )
