"""The language of the kernels: what `numba.cuda` says in one way on a GPU and in another on its simulator.

The simulator (`NUMBA_ENABLE_CUDASIM=1`) runs each GPU thread as a Python thread. It knows neither intrinsics nor alignment, so
the few functions that need them come in two forms here, and nothing else in this package asks where it runs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import config, cuda, types

# What numba-cuda has and Numba itself has not.
jit: Any = cuda.jit
settings: Any = config

SIMULATED = bool(settings.ENABLE_CUDASIM)
FLOAT = types.float32 if not SIMULATED else np.float32
INT = types.int32 if not SIMULATED else np.int32
# Of shared memory, for accesses of 16 bytes.
ALIGNMENT = None if SIMULATED else 16
THREADS = 256
# Two such blocks on each multiprocessor leave 128 of its 65,536 registers to a thread.
LAUNCH_BOUNDS = (THREADS, 2)


def _has_tensor_cores() -> bool:
    """Whether what kernels are compiled for has the TF32 form of `mma`."""
    if SIMULATED:
        return True
    forced = settings.FORCE_CUDA_CC
    return tuple(forced[:2] if forced else cuda.get_current_device().compute_capability) >= (8, 0)


TENSOR_CORES = _has_tensor_cores()

if SIMULATED:
    device = jit(device=True)
    entry_point = jit

    @device
    def load(array, index, further=0):
        """Element index + further; what is further is best a constant, which an access takes without an addition."""
        return array[index + further]

    @device
    def store(array, index, value):
        """One element."""
        array[index] = value

    @device
    def less(a, b):
        """Whether a < b."""
        return a < b

    @device
    def divided(a, b):
        """a // b."""
        return a // b

    @device
    def load4(array, index, further=0):
        """Four neighbours from element index + further on, a multiple of four."""
        first = index + further
        return array[first], array[first + 1], array[first + 2], array[first + 3]

    @device
    def store4(array, index, a, b, c, d):
        """The same way back."""
        array[index], array[index + 1], array[index + 2], array[index + 3] = a, b, c, d

    @device
    def multiply_tf32(memory, first, second, line, lane, acc):
        """What the tensor core leaves in this lane's accumulators, from the whole operands."""
        first -= left_place(lane, line)
        second -= right_place(lane, line)
        for i in range(16):
            total = acc[i]
            row, column = result_row(lane, i % 4), (i // 4) * 8 + result_column(lane, i % 4)
            for k in range(8):
                total += rounded_tf32(memory[first + k * line + row]) * rounded_tf32(memory[second + k * line + column])
            acc[i] = total

    @device
    def announce(meetings):
        """Count this block, once all that it wrote can be seen."""
        cuda.atomic.add(meetings, 0, 1)

    @device
    def complete(meetings, expected):
        """Whether so many have been counted; what these wrote can be seen then."""
        return meetings[0] >= expected

    @device
    def quotient(a, b):
        """a / b, float32."""
        return a / b

    @device
    def sqrt(value):
        """float32."""
        return np.float32(math.sqrt(value))

    @device
    def sine_of_turn(turn):
        """sin(2 pi turn), float32."""
        return np.float32(math.sin(2 * math.pi * float(turn)))

    @device
    def cosine_of_turn(turn):
        """cos(2 pi turn), float32."""
        return np.float32(math.cos(2 * math.pi * float(turn)))

    def rounded_tf32(value):
        """To 10 bits of mantissa, ties away from zero, as `cvt.rna.tf32.f32` does."""
        bits = np.float32(value).view(np.uint32)
        return np.uint32((int(bits) + 0x1000) & 0xFFFFE000).view(np.float32)

else:
    from llvmlite import ir
    from numba.cuda import libdevice
    from numba.cuda.extending import intrinsic

    from vaefast.engines.cuda_gpu.kept import Kept

    device = jit(device=True, forceinline=True)

    def entry_point(function):
        """A kernel, and its machine code kept on disk."""
        kernel = jit(launch_bounds=LAUNCH_BOUNDS)(function)
        kernel._cache = Kept(function.__name__)
        return kernel

    FLOAT32, INT32 = ir.FloatType(), ir.IntType(32)
    FOUR = ir.VectorType(FLOAT32, 4)

    def _place(context, builder, signature, args, further=None):
        """A pointer to element args[1] of array args[0], or to one further on.

        Numba reckons with 64 bits; where only 32 of the result are used the compiler drops the other halves on the way, and
        with them a register each. No index is counted from the end of an array.
        """
        array = context.make_array(signature.args[0])(context, builder, args[0])
        index = builder.zext(builder.trunc(args[1], INT32), ir.IntType(64))
        place = builder.gep(array.data, [index], inbounds=True)
        return place if further is None else builder.gep(place, [further], inbounds=True)

    @intrinsic
    def _load(typing, array, index, further):
        signature = types.float32(array, types.int64, types.int64)

        def codegen(context, builder, signature, args):
            return builder.load(_place(context, builder, signature, args, args[2]), align=4)

        return signature, codegen

    @device
    def load(array, index, further=0):
        """Element index + further; what is further is best a constant, which an access takes without an addition."""
        return _load(array, index, further)

    @intrinsic
    def store(typing, array, index, value):
        """One element."""
        signature = types.void(array, types.int64, types.float32)

        def codegen(context, builder, signature, args):
            builder.store(args[2], _place(context, builder, signature, args), align=4)
            return context.get_dummy_value()

        return signature, codegen

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

    @intrinsic
    def _load4(typing, array, index, further):
        signature = types.UniTuple(types.float32, 4)(array, types.int64, types.int64)

        def codegen(context, builder, signature, args):
            place = builder.bitcast(_place(context, builder, signature, args, args[2]), FOUR.as_pointer())
            four = builder.load(place, align=16)
            parts = [builder.extract_element(four, ir.Constant(INT32, i)) for i in range(4)]
            return context.make_tuple(builder, signature.return_type, parts)

        return signature, codegen

    @device
    def load4(array, index, further=0):
        """Four neighbours from element index + further on, a multiple of four."""
        return _load4(array, index, further)

    @intrinsic
    def store4(typing, array, index, a, b, c, d):
        """The same way back."""
        signature = types.void(array, types.int64, *[types.float32] * 4)

        def codegen(context, builder, signature, args):
            four = ir.Constant(FOUR, ir.Undefined)
            for i in range(4):
                four = builder.insert_element(four, args[2 + i], ir.Constant(INT32, i))
            builder.store(four, builder.bitcast(_place(context, builder, signature, args), FOUR.as_pointer()), align=16)
            return context.get_dummy_value()

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
            result = builder.call(assembly, [*operands, *args[:4]])
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
        a0 = load(memory, first)
        a1 = load(memory, first, left_depth(0, 1) * line + left_row(0, 1))
        a2 = load(memory, first, left_depth(0, 2) * line + left_row(0, 2))
        a3 = load(memory, first, left_depth(0, 3) * line + left_row(0, 3))
        for n in range(4):
            b0 = load(memory, second, n * 8)
            b1 = load(memory, second, n * 8 + right_depth(0, 1) * line)
            c = mma(acc[4 * n], acc[4 * n + 1], acc[4 * n + 2], acc[4 * n + 3], a0, a1, a2, a3, b0, b1)
            acc[4 * n] = c[0]
            acc[4 * n + 1] = c[1]
            acc[4 * n + 2] = c[2]
            acc[4 * n + 3] = c[3]

    @intrinsic
    def announce(typing, meetings):
        """Count this block, once all that it wrote can be seen.

        A release on the whole device, and with the barrier before it of all threads of the block. Source: PTX ISA, "Memory
        Consistency Model". That it needs every block on the device at once is told to the launch.
        """
        signature = types.void(meetings)

        def codegen(context, builder, signature, args):
            context.active_code_library.use_cooperative = True
            array = context.make_array(signature.args[0])(context, builder, args[0])
            function = ir.FunctionType(ir.VoidType(), [array.data.type])
            builder.call(ir.InlineAsm(function, "red.release.gpu.add.u32 [$0], 1;", "l,~{memory}", True), [array.data])
            return context.get_dummy_value()

        return signature, codegen

    @intrinsic
    def complete(typing, meetings, expected):
        """Whether so many have been counted, modulo 2^32; what these wrote can be seen then."""
        signature = types.boolean(meetings, types.int64)

        def codegen(context, builder, signature, args):
            array = context.make_array(signature.args[0])(context, builder, args[0])
            function = ir.FunctionType(INT32, [array.data.type])
            counted = builder.call(
                ir.InlineAsm(function, "ld.acquire.gpu.u32 $0, [$1];", "=r,l,~{memory}", True), [array.data]
            )
            return builder.icmp_signed(">=", builder.sub(counted, builder.trunc(args[1], INT32)), ir.Constant(INT32, 0))

        return signature, codegen


# Where the parts of a lane stand in the matrices of `mma`; shifts and masks of the lane's number.


@device
def left_row(lane, part):
    """Row in A of parts 0 to 3."""
    return (lane >> 2) + (part & 1) * 8


@device
def left_depth(lane, part):
    """Column in A of parts 0 to 3."""
    return (lane & 3) + (part >> 1) * 4


@device
def right_depth(lane, part):
    """Row in B of parts 0 and 1."""
    return (lane & 3) + part * 4


@device
def right_column(lane):
    """Column in B of both parts."""
    return lane >> 2


@device
def left_place(lane, line):
    """Where a lane's part 0 of A is staged."""
    return left_depth(lane, 0) * line + left_row(lane, 0)


@device
def right_place(lane, line):
    """Where a lane's part 0 of B is staged."""
    return right_depth(lane, 0) * line + right_column(lane)


@device
def result_row(lane, part):
    """Row in C of parts 0 to 3."""
    return (lane >> 2) + (part >> 1) * 8


@device
def result_column(lane, part):
    """Column in C of parts 0 to 3."""
    return (lane & 3) * 2 + (part & 1)


@device
def exp(value):
    """float32; infinity where it overflows."""
    return np.float32(math.exp(value))
