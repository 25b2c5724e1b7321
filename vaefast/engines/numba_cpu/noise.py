"""The counter-based noise of `vaefast.noise` inside kernels: the same bits, and normals within a few ulp.

Philox works on vectors of counters, a 64-bit lane each. Its output words 0 and 1 of each block are packed into one lane, 2 and
3 into another, and the lanes interleaved: four operations and two shuffles for the words in order.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import HALF, cosine_of_turn, log, sine_of_turn
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.models import noise

LOW_WORD, WORD_BITS = noise.LOW_WORD, noise.WORD_BITS
CELL_SHIFT = np.uint32(9)
CELL = np.float32(2.0**-23)
MINUS_TWO = np.float32(-2)

WORDS = 4  # of one block
BLOCKS = UNIT.lanes // 2  # counters of one vector
INT32, INT64 = ir.IntType(32), ir.IntType(64)
COUNTERS = ir.VectorType(INT64, BLOCKS)


def _splat(builder, scalar):
    undefined = ir.Constant(COUNTERS, ir.Undefined)
    lane0 = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(lane0, undefined, ir.Constant(ir.VectorType(ir.IntType(32), BLOCKS), [0] * BLOCKS))


def _constant(value):
    return ir.Constant(COUNTERS, [int(value)] * BLOCKS)


@intrinsic
def philox_vector(typing, block, example, step, purpose, key_0, key_1, words, place):
    """The words of blocks `block` to `block + BLOCKS - 1` of an example from words[place]; scalars are uint64 below 2^32."""
    word = types.uint64
    signature = types.void(word, word, word, word, word, word, words, types.intp)

    def codegen(context, builder, signature, args):
        lanes = ir.Constant(COUNTERS, list(range(BLOCKS)))
        c = [builder.add(_splat(builder, args[0]), lanes), *(_splat(builder, args[i]) for i in (1, 2, 3))]
        key = [_splat(builder, args[4]), _splat(builder, args[5])]
        low, half = _constant(noise.LOW_WORD), _constant(32)
        for _ in range(10):
            product_0 = builder.mul(_constant(noise.MULTIPLIER_0), c[0])
            product_1 = builder.mul(_constant(noise.MULTIPLIER_1), c[2])
            c = [
                builder.xor(builder.xor(builder.lshr(product_1, half), c[1]), key[0]),
                builder.and_(product_1, low),
                builder.xor(builder.xor(builder.lshr(product_0, half), c[3]), key[1]),
                builder.and_(product_0, low),
            ]
            key = [
                builder.and_(builder.add(key[0], _constant(noise.WEYL_0)), low),
                builder.and_(builder.add(key[1], _constant(noise.WEYL_1)), low),
            ]
        pairs = [builder.or_(c[w], builder.shl(c[w + 1], half)) for w in (0, 2)]
        data = context.make_array(signature.args[6])(context, builder, args[6]).data
        first = builder.gep(data, [args[7]])
        for part in range(2):
            order = [part * BLOCKS // 2 + i // 2 + i % 2 * BLOCKS for i in range(BLOCKS)]
            mask = ir.Constant(ir.VectorType(INT32, BLOCKS), order)
            target = builder.gep(first, [ir.Constant(INT64, part * 2 * BLOCKS)])
            stored = builder.shuffle_vector(*pairs, mask)
            builder.store(stored, builder.bitcast(target, COUNTERS.as_pointer())).align = 4
        return context.get_dummy_value()

    return signature, codegen


@kernel
def fill_words(seed, purpose, step, example, count, words):
    """Words 0 to count - 1 of an example, rounded up to whole vectors, for which words, uint32, must have room."""
    for place in range(0, count, WORDS * BLOCKS):
        philox_vector(
            np.uint64(place // WORDS), np.uint64(example), np.uint64(step), np.uint64(purpose),
            seed & LOW_WORD, seed >> WORD_BITS, words, place,
        )  # fmt: skip


@kernel
def fill_normals(words, normals):
    """Standard normals by Box & Muller's transform of words 2 i and 2 i + 1; normals is float32, of even length."""
    for i in range(normals.size // 2):
        radius = np.sqrt(MINUS_TWO * log(_uniform(words[2 * i])))
        turn = _uniform(words[2 * i + 1])
        normals[2 * i] = radius * cosine_of_turn(turn)
        normals[2 * i + 1] = radius * sine_of_turn(turn)


@kernel
def _uniform(word):
    return (np.float32(np.int32(word >> CELL_SHIFT)) + HALF) * CELL


def whole_vectors(count: int) -> int:
    """So many words, rounded up to whole vectors."""
    size = WORDS * BLOCKS
    return -(-count // size) * size
