"""What register tiles are built from, as LLVM code: pointers into arrays, and the vectors of this CPU.

Each function emits its code where the builder stands. Offsets and strides count elements.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from vaefast.engines.numba_cpu.target import UNIT
from vaefast.models.layout import PANEL

FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, UNIT.lanes)
INDEX = ir.IntType(64)
INT32 = ir.IntType(32)
VECTORS = PANEL // UNIT.lanes  # of one panel


def index_of(n: int) -> ir.Constant:
    """A constant offset or stride."""
    return ir.Constant(INDEX, n)


def data_of(context, builder, signature, args, i):
    """The data pointer of array argument i."""
    return context.make_array(signature.args[i])(context, builder, args[i]).data


def pointer_of(context, builder, signature, args, i):
    """The data pointer of array argument i, moved by the offset that is argument i + 1."""
    return builder.gep(data_of(context, builder, signature, args, i), [args[i + 1]])


def in_register(builder, value):
    """A stack slot that LLVM promotes to a register."""
    slot = cgutils.alloca_once(builder, VECTOR)
    builder.store(value, slot)
    return slot


def load_vector(builder, pointer, offset):
    """The vector that starts a constant number of elements behind the pointer."""
    value = builder.load(builder.bitcast(builder.gep(pointer, [index_of(offset)]), VECTOR.as_pointer()))
    value.align = 4
    return value


def broadcast(builder, pointer, offset):
    """A vector of one element of memory."""
    return splat(builder, builder.load(builder.gep(pointer, [index_of(offset)])))


def splat(builder, scalar):
    """A vector of one number."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    lane0 = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(lane0, undefined, ir.Constant(ir.VectorType(INT32, UNIT.lanes), [0] * UNIT.lanes))


def panel_vectors(builder, row, panel_stride, panels):
    """The vectors of one row in each panel, left to right."""
    vectors = []
    for panel in range(panels):
        start = builder.gep(row, [builder.mul(panel_stride, index_of(panel))])
        vectors.extend(load_vector(builder, start, v * UNIT.lanes) for v in range(VECTORS))
    return vectors


def store_panels(builder, row, panel_stride, sums):
    """The reverse of `panel_vectors`, from slots."""
    for column, slot in enumerate(sums):
        start = builder.gep(row, [builder.mul(panel_stride, index_of(column // VECTORS))])
        target = builder.gep(start, [index_of(column % VECTORS * UNIT.lanes)])
        builder.store(builder.load(slot), builder.bitcast(target, VECTOR.as_pointer())).align = 4


def multiply_add(builder, scalar, right, sums):
    """sums[j] += scalar * right[j] for every vector, fused where the CPU can."""
    for vector, slot in zip(right, sums, strict=True):
        if UNIT.fused:
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{UNIT.lanes}f32"
            )
            builder.store(builder.call(fma, [scalar, vector, builder.load(slot)]), slot)
        else:
            builder.store(builder.fadd(builder.fmul(scalar, vector), builder.load(slot)), slot)
