"""The counter-based noise of `vaefast.noise` inside kernels: the same bits, and normals within a few ulp.

Philox works on vectors of counters, a 64-bit lane each. Its four output words stand in four *planes* of one flat array,
word w of block i (word 4 i + w of the example) at planes[w * stride + i]: storing them in order would cost as much as
computing them, and no reader needs the order.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vaefast import noise
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import HALF, cosine_of_turn, log, sine_of_turn
from vaefast.engines.numba_cpu.target import UNIT

LOW_WORD, WORD_BITS = noise.LOW_WORD, noise.WORD_BITS
CELL_SHIFT = np.uint32(9)
CELL = np.float32(2.0**-23)
MINUS_TWO = np.float32(-2)

WORDS = 4  # of one block
BLOCKS = UNIT.lanes // 2  # counters of one vector
INT64 = ir.IntType(64)
COUNTERS = ir.VectorType(INT64, BLOCKS)
HALVES = ir.VectorType(ir.IntType(32), BLOCKS)


def _splat(builder, scalar):
    undefined = ir.Constant(COUNTERS, ir.Undefined)
    lane0 = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(lane0, undefined, ir.Constant(ir.VectorType(ir.IntType(32), BLOCKS), [0] * BLOCKS))


def _constant(value):
    return ir.Constant(COUNTERS, [int(value)] * BLOCKS)


@intrinsic
def philox_vector(typing, block, example, step, purpose, key_0, key_1, planes, place, stride):
    """Blocks `block` to `block + BLOCKS - 1` of an example to planes[place], planes[place + stride], ...; scalars are uint64
    below 2^32."""
    word, index = types.uint64, types.intp
    signature = types.void(word, word, word, word, word, word, planes, index, index)

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
        data = context.make_array(signature.args[6])(context, builder, args[6]).data
        first = builder.gep(data, [args[7]])
        for w in range(WORDS):
            target = builder.gep(first, [builder.mul(args[8], ir.Constant(INT64, w))])
            words = builder.trunc(c[w], HALVES)
            builder.store(words, builder.bitcast(target, HALVES.as_pointer())).align = 4
        return context.get_dummy_value()

    return signature, codegen


@kernel
def fill_planes(seed, purpose, step, example, blocks, planes):
    """So many blocks of an example, rounded up to whole vectors; planes is uint32, a multiple of 4 vectors long."""
    stride = planes.size // WORDS
    for block in range(0, blocks, BLOCKS):
        philox_vector(
            np.uint64(block), np.uint64(example), np.uint64(step), np.uint64(purpose), seed & LOW_WORD, seed >> WORD_BITS,
            planes, block, stride,
        )  # fmt: skip


@kernel
def fill_normals(planes, normals):
    """Standard normals by Box & Muller's transform of words 0 and 1, and 2 and 3, of each block; in planes, as the words."""
    stride = planes.size // WORDS
    for pair in range(0, WORDS, 2):
        first, second = planes[pair * stride : (pair + 1) * stride], planes[(pair + 1) * stride : (pair + 2) * stride]
        cosines, sines = normals[pair * stride : (pair + 1) * stride], normals[(pair + 1) * stride : (pair + 2) * stride]
        for i in range(stride):
            radius = np.sqrt(MINUS_TWO * log(_uniform(first[i])))
            turn = _uniform(second[i])
            cosines[i] = radius * cosine_of_turn(turn)
            sines[i] = radius * sine_of_turn(turn)


@kernel
def _uniform(word):
    return (np.float32(np.int32(word >> CELL_SHIFT)) + HALF) * CELL


def plane_words(count: int) -> int:
    """The length of planes that hold so many words of an example."""
    blocks = -(-count // WORDS)
    return WORDS * (-(-blocks // BLOCKS) * BLOCKS)
