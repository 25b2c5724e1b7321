"""Accesses to memory on a GPU: `load` and `store` the device's, `read` and `write` a block's shared memory; and meetings.

Numba computes indices with 64 bits, checks them against zero, and leaves to the compiler in which memory an array lies. Here
an index has 32 bits and is not counted from the end. An address takes one instruction: a multiplication and an addition, of
which only the base has 64 bits, or none in shared memory. `further` is best a constant, because an access takes it without an
addition.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

from vaefast.engines.cuda_gpu.target import device

FLOAT32, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
FOUR = ir.VectorType(FLOAT32, 4)
GLOBAL, SHARED = 1, 3  # address spaces
SHIFT = 2  # log2 of the bytes of an element


def _place(context, builder, signature, args, space, further):
    """A pointer to element args[1] of array args[0], or to so many further on."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    element = array.data.type.pointee
    base = builder.ptrtoint(builder.addrspacecast(array.data, element.as_pointer(space)), INT64)
    index = builder.trunc(args[1], INT32)
    if space == GLOBAL:
        function = ir.FunctionType(INT64, [INT32, INT64])
        address = builder.call(ir.InlineAsm(function, "mad.wide.u32 $0, $1, 4, $2;", "=l,r,l", False), [index, base])
    else:
        bytes_ = builder.shl(index, ir.Constant(INT32, SHIFT))
        address = builder.zext(builder.add(builder.trunc(base, INT32), bytes_), INT64)
    place = builder.inttoptr(address, element.as_pointer(space))
    return builder.gep(place, [further], inbounds=True)


def _one(space):
    """An intrinsic that loads one element."""

    def typed(typing, array, index, further):
        signature = types.float32(array, types.int64, types.int64)

        def codegen(context, builder, signature, args):
            return builder.load(_place(context, builder, signature, args, space, args[2]), align=4)

        return signature, codegen

    return intrinsic(typed)


def _four(space):
    """An intrinsic that loads four neighbours, the first at a multiple of four."""

    def typed(typing, array, index, further):
        signature = types.UniTuple(types.float32, 4)(array, types.int64, types.int64)

        def codegen(context, builder, signature, args):
            place = _place(context, builder, signature, args, space, args[2])
            four = builder.load(builder.bitcast(place, FOUR.as_pointer(space)), align=16)
            parts = [builder.extract_element(four, ir.Constant(INT32, i)) for i in range(4)]
            return context.make_tuple(builder, signature.return_type, parts)

        return signature, codegen

    return intrinsic(typed)


def _put_one(space):
    """An intrinsic that stores one element."""

    def typed(typing, array, index, further, value):
        signature = types.void(array, types.int64, types.int64, types.float32)

        def codegen(context, builder, signature, args):
            builder.store(args[3], _place(context, builder, signature, args, space, args[2]), align=4)
            return context.get_dummy_value()

        return signature, codegen

    return intrinsic(typed)


def _put_four(space):
    """An intrinsic that stores four neighbours, the first at a multiple of four."""

    def typed(typing, array, index, a, b, c, d):
        signature = types.void(array, types.int64, *[types.float32] * 4)

        def codegen(context, builder, signature, args):
            four = ir.Constant(FOUR, ir.Undefined)
            for i in range(4):
                four = builder.insert_element(four, args[2 + i], ir.Constant(INT32, i))
            place = _place(context, builder, signature, args, space, ir.Constant(INT64, 0))
            builder.store(four, builder.bitcast(place, FOUR.as_pointer(space)), align=16)
            return context.get_dummy_value()

        return signature, codegen

    return intrinsic(typed)


def _loading(intrinsic):
    """A function of the device for an intrinsic that loads; `further` may be left out."""

    @device
    def load(array, index, further=0):
        return intrinsic(array, index, further)

    return load


def _storing(intrinsic):
    """The same for one that stores one element."""

    @device
    def store(array, index, value, further=0):
        intrinsic(array, index, further, value)

    return store


load4, store, store4 = _loading(_four(GLOBAL)), _storing(_put_one(GLOBAL)), _put_four(GLOBAL)
read, read4, write, write4 = _loading(_one(SHARED)), _loading(_four(SHARED)), _storing(_put_one(SHARED)), _put_four(SHARED)


@intrinsic
def _entry(typing, array, index, further):
    signature = types.int64(array, types.int64, types.int64)

    def codegen(context, builder, signature, args):
        number = builder.load(_place(context, builder, signature, args, SHARED, args[2]), align=4)
        return builder.sext(number, INT64)

    return signature, codegen


@device
def entry(array, index, further=0):
    """Element index + further of integers in shared memory."""
    return _entry(array, index, further)


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
        counted = builder.call(ir.InlineAsm(function, "ld.acquire.gpu.u32 $0, [$1];", "=r,l,~{memory}", True), [array.data])
        return builder.icmp_signed(">=", builder.sub(counted, builder.trunc(args[1], INT32)), ir.Constant(INT32, 0))

    return signature, codegen
