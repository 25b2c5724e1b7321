"""Scalar float32 functions, free of branches and calls, so that LLVM turns the loops around them into vector code.

The polynomials are minimax fits made for this file (Lawson's algorithm in float64, then rounded); the largest errors
stated here are tested over the full range in tests/engines/test_elementwise.py.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.target import UNIT

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
QUARTER = np.float32(0.25)
LOG2_E = np.float32(1.4426950408889634)
# ln 2 in two parts: the first has 12 trailing zero bits, so n * LN2_HIGH is exact for |n| < 2^12.
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.1219444005469057e-4)
# Adding 1.5 * 2^23 rounds a float32 of magnitude under 2^22 to an integer, held in the low bits of the sum.
ROUNDER = np.float32(12582912.0)
ROUNDER_BITS = np.int32(0x4B400000)
EXPONENT_BIAS = np.int32(127)
MANTISSA_BITS = np.int32(23)
MANTISSA_MASK = np.int32(0x007FFFFF)
# exp(r) = 1 + r + r^2 * q(r) on |r| <= ln(2) / 2.
E0, E1, E2, E3, E4 = (
    np.float32(c)
    for c in (0.4999999403953552, 0.1666651964187622, 0.04166839271783829, 0.008368780836462975, 0.0013814467238262296)
)
# exp(-87.3) is the smallest normal float32.
EXP_LOWEST = np.float32(-87.33654)
EXP_HIGHEST = np.float32(200.0)
# log(m) = 2 s + s^3 * q(s^2), s = (m - 1) / (m + 1), m in [sqrt(1/2), sqrt(2)].
L0, L1, L2, L3 = (np.float32(c) for c in (0.6666666269302368, 0.4000033736228943, 0.2853720784187317, 0.23584306240081787))
SQRT_HALF_BITS = np.int32(0x3F3504F3)
# log(1 + f) = f + f^2 * q(f) on sqrt(1/2) <= 1 + f <= sqrt(2).
P0, P1, P2, P3, P4, P5, P6, P7 = (
    np.float32(c)
    for c in (
        -0.49999991059303284, 0.33333951234817505, -0.25001755356788635, 0.19962053000926971, -0.1657046526670456,
        0.14918147027492523, -0.14307935535907745, 0.08734838664531708,
    )
)  # fmt: skip
ONE_BITS = np.int32(0x3F800000)
# sin(2 pi t) = 2 pi t + t^3 * P(t^2) and cos(2 pi t) = 1 + t^2 * Q(t^2) on |t| <= 1/8.
TWO_PI = np.float32(6.283185307179586)
FOUR = np.float32(4)
S0, S1, S2 = (np.float32(c) for c in (-41.341670989990234, 81.5937271118164, -75.44358825683594))
C0, C1, C2, C3 = (np.float32(c) for c in (-19.739208221435547, 64.93932342529297, -85.44319152832031, 59.22760009765625))
# tanh(x) = x + x^3 * P(x^2) on |x| <= 0.625.
TANH_SMALL = np.float32(0.625)
T0, T1, T2, T3, T4 = (
    np.float32(c)
    for c in (-0.3333328068256378, 0.13331420719623566, -0.05373779684305191, 0.0206325463950634, -0.005697384011000395)
)


@intrinsic
def fma(typing, a, b, c):
    """a * b + c, rounded once where the CPU can; float32."""
    signature = types.float32(types.float32, types.float32, types.float32)

    def codegen(context, builder, signature, args):
        if not UNIT.fused:
            return builder.fadd(builder.fmul(args[0], args[1]), args[2])
        single = ir.FloatType()
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(single, [single] * 3), "llvm.fma.f32")
        return builder.call(function, args)

    return signature, codegen


@intrinsic
def bits_of(typing, x):
    """The bits of a float32 as an int32."""
    signature = types.int32(types.float32)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return signature, codegen


@intrinsic
def float_of(typing, bits):
    """The float32 with these 32 bits."""
    signature = types.float32(types.int32)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return signature, codegen


@intrinsic
def bits_of_double(typing, x):
    """The bits of a float64 as an int64."""
    signature = types.int64(types.float64)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return signature, codegen


@intrinsic
def double_of(typing, bits):
    """The float64 with these 64 bits."""
    signature = types.float64(types.int64)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return signature, codegen


@kernel
def copy(source, target):
    """target = source. Numba compiles the assignment of a slice with its error message, which takes a second and a half."""
    for i in range(source.size):
        target[i] = source[i]


@kernel
def fill(target, value):
    """Every element of target = value."""
    for i in range(target.size):
        target[i] = value


@kernel
def exp_of_negative(x):
    """exp(x) for x <= 0, relative error under 1.2e-7; below -87.3 it stays at 1.2e-38. NaN stays NaN."""
    x = EXP_LOWEST if x < EXP_LOWEST else x
    shifted = fma(x, LOG2_E, ROUNDER)
    n = shifted - ROUNDER
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    return _exp_reduced(r) * _power_of_two(bits_of(shifted) - ROUNDER_BITS)


@kernel
def exp(x):
    """exp(x), relative error under 1.2e-7 where the result is a normal float32; overflows to infinity. NaN stays NaN."""
    x = -EXP_HIGHEST if x < -EXP_HIGHEST else x
    x = EXP_HIGHEST if x > EXP_HIGHEST else x
    shifted = fma(x, LOG2_E, ROUNDER)
    n = shifted - ROUNDER
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    # |n| goes past the exponent range of one float32, so 2^n is applied in four factors.
    whole = bits_of(shifted) - ROUNDER_BITS
    fourth = whole >> np.int32(2)
    scale = _power_of_two(fourth)
    rest = _power_of_two(whole - fourth - fourth - fourth)
    return _exp_reduced(r) * scale * scale * scale * rest


@kernel
def _exp_reduced(r):
    q = fma(fma(fma(fma(E4, r, E3), r, E2), r, E1), r, E0)
    return fma(r * r, q, r) + ONE


@kernel
def _power_of_two(n):
    """2^n for a normal result, by its exponent bits."""
    return float_of((n + EXPONENT_BIAS) << MANTISSA_BITS)


@kernel
def log(x):
    """log(x) for a positive normal x, relative error under 2e-7."""
    bits = bits_of(x)
    exponent = (bits - SQRT_HALF_BITS) >> MANTISSA_BITS
    m = float_of(bits - (exponent << MANTISSA_BITS))
    s = (m - ONE) / (m + ONE)
    square = s * s
    q = fma(fma(fma(L3, square, L2), square, L1), square, L0)
    mantissa = fma(s * square, q, TWO * s)
    n = np.float32(exponent)
    return fma(n, LN2_HIGH, fma(n, LN2_LOW, mantissa))


@kernel
def log_of_one_and(r):
    """log(1 + r) for 0 <= r < 2^126, relative error under 3e-7, without a division. NaN stays NaN.

    With 2^n near 1 + r it is n log(2) + log(1 + f), where f = (1 + r) / 2^n - 1 is rounded once.
    """
    n = (bits_of(ONE + r) - SQRT_HALF_BITS) >> MANTISSA_BITS
    scale = float_of(ONE_BITS - (n << MANTISSA_BITS))
    f = fma(r, scale, scale - ONE)
    q = fma(fma(fma(fma(fma(fma(fma(P7, f, P6), f, P5), f, P4), f, P3), f, P2), f, P1), f, P0)
    mantissa = fma(f * f, q, f)
    whole = np.float32(n)
    return fma(whole, LN2_HIGH, fma(whole, LN2_LOW, mantissa))


@kernel
def cosine_of_turn(u):
    """cos(2 pi u) for u in [0, 1], absolute error under 1.2e-7."""
    return _sine_of_turns(u, np.int32(1))


@kernel
def sine_of_turn(u):
    """sin(2 pi u) for u in [0, 1], absolute error under 1.2e-7."""
    return _sine_of_turns(u, np.int32(0))


@kernel
def _sine_of_turns(u, quarter):
    """sin(2 pi (u + quarter / 4)): the nearest quarter turn picks sine or cosine of the rest, and the sign."""
    shifted = fma(u, FOUR, ROUNDER)
    quadrant = bits_of(shifted) - ROUNDER_BITS + quarter
    t = fma(shifted - ROUNDER, -QUARTER, u)
    square = t * t
    sine = fma(t * square, fma(fma(S2, square, S1), square, S0), TWO_PI * t)
    cosine = fma(square, fma(fma(fma(C3, square, C2), square, C1), square, C0), ONE)
    value = cosine if quadrant & np.int32(1) else sine
    return -value if quadrant & np.int32(2) else value


@kernel
def tanh(x):
    """tanh(x), relative error under 3e-7. NaN stays NaN."""
    magnitude = abs(x)
    square = x * x
    small = fma(x * square, fma(fma(fma(fma(T4, square, T3), square, T2), square, T1), square, T0), x)
    # tanh(|x|) = (1 - e) / (1 + e) with e = exp(-2 |x|)
    e = exp_of_negative(-TWO * magnitude)
    large = (ONE - e) / (ONE + e)
    large = -large if x < ZERO else large
    return small if magnitude < TANH_SMALL else large
