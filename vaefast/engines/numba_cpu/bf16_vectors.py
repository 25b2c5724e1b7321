"""Vectors of bfloat16 as LLVM code: rounding two rows to pairs, and the product of pairs, on any CPU.

A *word* is 32 bits, two bfloat16: the one of lower index in its lower half. A vector here is always 16 words or 16 float32;
LLVM cuts it into what the CPU has. A CPU with AVX512-BF16 rounds and multiplies in one instruction each. On others the same is
done step by step in float32, with the same bits. bfloat16 denormals count as zero: with `flush_denormals` both ways do so.
Offsets count bfloat16 elements.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from vaefast.engines.numba_cpu.target import BF16_PAIRS, UNIT
from vaefast.engines.numba_cpu.vectors import FLOAT, INT32, index_of
from vaefast.models.layout import PANEL

FLOATS = ir.VectorType(FLOAT, PANEL)
WORDS = ir.VectorType(INT32, PANEL)
INT16 = ir.IntType(16)
PAIRS = ir.VectorType(INT16, 2 * PANEL)


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, for which llvmlite has no type."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


BFLOATS = ir.VectorType(_BFloat(), 2 * PANEL)


def elements_of(context, builder, signature, args, i):
    """A pointer to bfloat16 elements: array argument i, of float32 or of words, moved by the elements of argument i + 1."""
    data = context.make_array(signature.args[i])(context, builder, args[i]).data
    return builder.gep(builder.bitcast(data, INT16.as_pointer()), [args[i + 1]])


def load_words(builder, pointer, offset=0):
    """16 words from a constant number of elements behind the pointer."""
    value = builder.load(builder.bitcast(builder.gep(pointer, [index_of(offset)]), WORDS.as_pointer()))
    value.align = 4
    return value


def store_words(builder, words, pointer, offset=0):
    """The reverse of `load_words`."""
    target = builder.bitcast(builder.gep(pointer, [index_of(offset)]), WORDS.as_pointer())
    builder.store(words, target).align = 4


def load_floats(builder, pointer, offset=0):
    """16 float32 from a constant number of float32 behind the pointer."""
    value = builder.load(builder.bitcast(builder.gep(pointer, [index_of(offset)]), FLOATS.as_pointer()))
    value.align = 4
    return value


def store_floats(builder, floats, pointer, offset=0):
    """The reverse of `load_floats`."""
    target = builder.bitcast(builder.gep(pointer, [index_of(offset)]), FLOATS.as_pointer())
    builder.store(floats, target).align = 4


def broadcast_word(builder, pointer, offset):
    """16 times the word that begins a constant, even number of elements behind the pointer."""
    place = builder.bitcast(builder.gep(pointer, [index_of(offset)]), INT32.as_pointer())
    word = builder.load(place)
    word.align = 4
    undefined = ir.Constant(WORDS, ir.Undefined)
    first = builder.insert_element(undefined, word, index_of(0))
    return builder.shuffle_vector(first, undefined, constant([0] * PANEL))


def constant(numbers):
    """A vector of these int32."""
    return ir.Constant(ir.VectorType(INT32, len(numbers)), list(numbers))


def round_rows(builder, first, second):
    """Two rows of 16 float32 to bfloat16, one behind the other: words (first 0, first 1), ..., (second 14, second 15).

    To nearest, ties to even; NaN stays NaN.
    """
    if BF16_PAIRS:
        kind = ir.FunctionType(BFLOATS, [FLOATS, FLOATS])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.cvtne2ps2bf16.512")
        return builder.bitcast(builder.call(function, [second, first]), WORDS)
    both = [_rounded_bits(builder, row) for row in (first, second)]
    even, odd = (builder.shuffle_vector(*both, constant(range(start, 2 * PANEL, 2))) for start in (0, 1))
    return builder.or_(builder.lshr(even, constant([16] * PANEL)), odd)


def _rounded_bits(builder, row):
    """The bits of 16 float32, rounded to those of bfloat16 in their upper halves; the lower ones are zero."""
    bits = builder.bitcast(row, WORDS)
    odd = builder.and_(builder.lshr(bits, constant([16] * PANEL)), constant([1] * PANEL))
    nearest = builder.add(builder.add(bits, constant([0x7FFF] * PANEL)), odd)
    quiet = builder.or_(bits, constant([0x00400000] * PANEL))
    result = builder.select(builder.fcmp_unordered("uno", row, row), quiet, nearest)
    return builder.and_(result, constant([0xFFFF0000] * PANEL))


def pair_rows(builder, rounded):
    """Of `round_rows` word j = (first j, second j)."""
    order = [i // 2 + i % 2 * PANEL for i in range(2 * PANEL)]
    elements = builder.bitcast(rounded, PAIRS)
    return builder.bitcast(builder.shuffle_vector(elements, ir.Constant(PAIRS, ir.Undefined), constant(order)), WORDS)


def add_pairs(builder, left, right, slot):
    """slot += the products of both bfloat16 of each word, float32: first those of the upper halves, then of the lower ones.

    Each is a fused multiply-add, as vdpbf16ps does it.
    """
    total = builder.load(slot)
    if BF16_PAIRS:
        kind = ir.FunctionType(FLOATS, [FLOATS, BFLOATS, BFLOATS])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
        total = builder.call(function, [total, builder.bitcast(left, BFLOATS), builder.bitcast(right, BFLOATS)])
    else:
        for part in (_upper, _lower):
            total = _multiply_add(builder, part(builder, left), part(builder, right), total)
    builder.store(total, slot)


def _upper(builder, words):
    return builder.bitcast(builder.and_(words, constant([0xFFFF0000] * PANEL)), FLOATS)


def _lower(builder, words):
    return builder.bitcast(builder.shl(words, constant([16] * PANEL)), FLOATS)


def _multiply_add(builder, a, b, c):
    if UNIT.fused:
        kind = ir.FunctionType(FLOATS, [FLOATS] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{PANEL}f32")
        return builder.call(function, [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def sums_in_registers(builder, rows, panels):
    """rows x panels slots of 16 zeros, which LLVM promotes to registers."""
    zero, sums = ir.Constant(FLOATS, [0.0] * PANEL), []
    for _ in range(rows):
        row = [cgutils.alloca_once(builder, FLOATS) for _ in range(panels)]
        for slot in row:
            builder.store(zero, slot)
        sums.append(row)
    return sums
