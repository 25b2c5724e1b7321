"""The same functions as in `memory_gpu.py` and `arithmetic_gpu.py` for Numba's simulator, which knows no intrinsics."""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from vaefast.engines.cuda_gpu.fragments import left_place, result_column, result_row, right_place
from vaefast.engines.cuda_gpu.target import device


@device
def read(array, index, further=0):
    """Element index + further."""
    return array[index + further]


@device
def store(array, index, value, further=0):
    """To element index + further."""
    array[index + further] = value


@device
def entry(array, index, further=0):
    """Element index + further of integers."""
    return int(array[index + further])


@device
def short(number):
    """The same number."""
    return number


@device
def shl(number, shift):
    """number << shift."""
    return number << shift


@device
def shr(number, shift):
    """number >> shift."""
    return number >> shift


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


read4, write, write4 = load4, store, store4
