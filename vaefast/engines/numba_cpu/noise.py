"""The counter-based noise of `vaefast.noise` inside kernels: the same bits, and normals within a few ulp."""

from __future__ import annotations

import numpy as np

from vaefast import noise
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import HALF, cosine_of_turn, log, sine_of_turn

philox4x32 = kernel(noise.philox4x32)

LOW_WORD, WORD_BITS = noise.LOW_WORD, noise.WORD_BITS
CELL_SHIFT = np.uint64(9)
CELL = np.float32(2.0**-23)
MINUS_TWO = np.float32(-2)


@kernel
def fill_words(seed, purpose, step, example, out):
    """Words 0 to out.size - 1 of an example; out is uint32 and a multiple of 4 long."""
    key_0, key_1 = seed & LOW_WORD, seed >> WORD_BITS
    for block in range(out.size // 4):
        w0, w1, w2, w3 = philox4x32(np.uint64(block), np.uint64(example), np.uint64(step), np.uint64(purpose), key_0, key_1)
        four = out[4 * block : 4 * block + 4]
        four[0] = w0
        four[1] = w1
        four[2] = w2
        four[3] = w3


@kernel
def fill_normals(words, out):
    """Standard normals from uint32 words by Box & Muller's transform; both a multiple of 2 long."""
    for i in range(out.size // 2):
        pair, normals = words[2 * i : 2 * i + 2], out[2 * i : 2 * i + 2]
        radius = np.sqrt(MINUS_TWO * log(_uniform(pair[0])))
        turn = _uniform(pair[1])
        normals[0] = radius * cosine_of_turn(turn)
        normals[1] = radius * sine_of_turn(turn)


@kernel
def _uniform(word):
    return (np.float32(np.int32(np.uint64(word) >> CELL_SHIFT)) + HALF) * CELL
