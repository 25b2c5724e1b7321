"""Arithmetic on a GPU that Numba lacks, or offers only in a form that costs registers."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.cuda import libdevice
from numba.cuda.extending import intrinsic

from vaefast.engines.cuda_gpu.fragments import left_depth, left_row, right_depth
from vaefast.engines.cuda_gpu.memory_gpu import read
from vaefast.engines.cuda_gpu.target import device

FLOAT32, INT32 = ir.FloatType(), ir.IntType(32)

# Numbers that 32 bits hold, told to the compiler, which has 64 of each and two registers for them otherwise.


@intrinsic
def short(typing, number):
    """The same number; its upper half, which repeats the sign, need not be computed."""
    signature = types.int64(types.int64)

    def codegen(context, builder, signature, args):
        return builder.sext(builder.trunc(args[0], INT32), ir.IntType(64))

    return signature, codegen


def _narrow(operation):
    """An intrinsic of two numbers that is computed in 32 bits, sign and all."""

    def typed(typing, a, b):
        signature = types.int64(types.int64, types.int64)

        def codegen(context, builder, signature, args):
            a, b = (builder.trunc(value, INT32) for value in args)
            return builder.sext(getattr(builder, operation)(a, b), ir.IntType(64))

        return signature, codegen

    return intrinsic(typed)


shl, shr = _narrow("shl"), _narrow("ashr")


@intrinsic
def less(typing, a, b):
    """Whether a < b, of numbers that 32 bits hold."""
    signature = types.boolean(types.int64, types.int64)

    def codegen(context, builder, signature, args):
        a, b = (builder.trunc(value, INT32) for value in args)
        return builder.icmp_signed("<", a, b)

    return signature, codegen


@intrinsic
def divided(typing, a, b):
    """a // b, of numbers from 0 that 32 bits hold."""
    signature = types.int64(types.int64, types.int64)

    def codegen(context, builder, signature, args):
        a, b = (builder.trunc(value, INT32) for value in args)
        return builder.zext(builder.udiv(a, b), ir.IntType(64))

    return signature, codegen


def _to_tf32(builder, value):
    assembly = ir.InlineAsm(ir.FunctionType(INT32, [FLOAT32]), "cvt.rna.tf32.f32 $0, $1;", "=r,f", False)
    return builder.call(assembly, [value])


@intrinsic
def mma(typing, c0, c1, c2, c3, a0, a1, a2, a3, b0, b1):
    """C + A B on tensor cores for a warp: A (16, 8), B (8, 8), C (16, 8), each lane holding the parts it is given.

    Source: PTX ISA, "Matrix fragments for mma.m16n8k8", .tf32. Needs sm_80.
    """
    signature = types.UniTuple(types.float32, 4)(*[types.float32] * 10)

    def codegen(context, builder, signature, args):
        operands = [_to_tf32(builder, value) for value in args[4:]]
        four = ir.LiteralStructType([FLOAT32] * 4)
        function = ir.FunctionType(four, [INT32] * 6 + [FLOAT32] * 4)
        text = (
            "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
            "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
        )
        assembly = ir.InlineAsm(function, text, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", True)
        result = builder.call(assembly, [*operands, *args[:4]], attrs=("convergent",))
        parts = [builder.extract_value(result, i) for i in range(4)]
        return context.make_tuple(builder, signature.return_type, parts)

    return signature, codegen


# What is rounded as IEEE 754 asks takes a function call wherever it is used, and what the call saves costs more registers.


@intrinsic
def quotient(typing, a, b):
    """a / b, float32, within 2 ulp."""
    signature = types.float32(types.float32, types.float32)

    def codegen(context, builder, signature, args):
        function = ir.FunctionType(FLOAT32, [FLOAT32, FLOAT32])
        return builder.call(ir.InlineAsm(function, "div.full.f32 $0, $1, $2;", "=f,f,f", False), args)

    return signature, codegen


@intrinsic
def sqrt(typing, value):
    """float32, within 1 ulp."""
    signature = types.float32(types.float32)

    def codegen(context, builder, signature, args):
        function = ir.FunctionType(FLOAT32, [FLOAT32])
        return builder.call(ir.InlineAsm(function, "sqrt.approx.f32 $0, $1;", "=f,f", False), args)

    return signature, codegen


# math.sin of an angle would bring the reduction of large ones, in float64 and local memory.
@device
def sine_of_turn(turn):
    """sin(2 pi turn), float32."""
    return libdevice.sinpif(turn + turn)


@device
def cosine_of_turn(turn):
    """cos(2 pi turn), float32."""
    return libdevice.cospif(turn + turn)


@device
def multiply_tf32(memory, first, second, line, lane, acc):
    """Add eight lines' products to the warp's 16 x 32 results on tensor cores: four times 16 x 8."""
    # What depends on the lane is the same for all parts and in first and second already; the rest the compiler knows.
    a0 = read(memory, first)
    a1 = read(memory, first, left_depth(0, 1) * line + left_row(0, 1))
    a2 = read(memory, first, left_depth(0, 2) * line + left_row(0, 2))
    a3 = read(memory, first, left_depth(0, 3) * line + left_row(0, 3))
    for n in range(4):
        b0 = read(memory, second, n * 8)
        b1 = read(memory, second, n * 8 + right_depth(0, 1) * line)
        c = mma(acc[4 * n], acc[4 * n + 1], acc[4 * n + 2], acc[4 * n + 3], a0, a1, a2, a3, b0, b1)
        acc[4 * n] = c[0]
        acc[4 * n + 1] = c[1]
        acc[4 * n + 2] = c[2]
        acc[4 * n + 3] = c[3]
