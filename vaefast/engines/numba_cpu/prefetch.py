"""Ask for memory before it is needed.

A step touches more than the second-level cache holds: weights, moments and transposed weights of the report's model are
6 MB, and half of the weights were last written by another core. Hardware prefetchers follow long streams, but a block of a
panel is 1 KB. So the loops that compute on one block ask for the next: the products hide the wait.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

INDEX, INT32, POINTER = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()
TO_FIRST_LEVEL, TO_SECOND_LEVEL = 3, 2
READ, WRITE = 0, 1


def _make_prefetch(access: int, level: int):
    @intrinsic
    def prefetch(typing, array, offset, count):
        signature = types.void(array, types.intp, types.intp)
        elements = 64 // (array.dtype.bitwidth // 8)  # of a cache line

        def codegen(context, builder, signature, args):
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            flags = [ir.Constant(INT32, flag) for flag in (access, level, 1)]  # the last: data, not instructions
            kind = ir.FunctionType(ir.VoidType(), [POINTER, INT32, INT32, INT32])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            with cgutils.for_range(builder, args[2]) as line:
                place = builder.add(args[1], builder.mul(line.index, ir.Constant(INDEX, elements)))
                builder.call(function, [builder.bitcast(builder.gep(data, [place]), POINTER), *flags])
            return context.get_dummy_value()

        return signature, codegen

    return prefetch


# prefetch_*(array, offset, count): `count` cache lines from array[offset]; past the end of the array is harmless.
prefetch_to_read = _make_prefetch(READ, TO_SECOND_LEVEL)
prefetch_to_write = _make_prefetch(WRITE, TO_FIRST_LEVEL)
