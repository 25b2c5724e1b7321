"""The vector unit of this CPU, and the register tiles that suit it.

A tile of R rows and P panels keeps R * P * (PANEL / LANES) vectors in registers while it walks along the inner
dimension. An FMA unit takes two a cycle with a latency of four, so at least eight accumulators hide the latency; each
step also loads P * (PANEL / LANES) vectors of the right operand and R scalars of the left one, so a squarer tile loads
less. The sizes below leave room for both in the register file.
"""

from __future__ import annotations

from dataclasses import dataclass

from numba.core.registry import cpu_target


@dataclass(frozen=True)
class VectorUnit:
    """One instruction set and the tile shapes that suit it."""

    name: str
    lanes: int  # float32 elements of one register
    fused: bool  # has a fused multiply-add
    product_rows: int  # rows of activations in a product tile
    product_panels: int  # panels of weights in a product or weight-gradient tile
    gradient_rows: int  # rows of a weight matrix in a weight-gradient tile; divides PANEL
    gathers: tuple[int, int, int, int]  # panels of the first layer that one pass over a list of pixels sums: ends in 1


# 32 registers: 10 x 2 accumulators + 2 right vectors + 1 broadcast; gradients 8 x 2. Twelve rows would fit as well, but ten
# divide minibatches of 20, 100, 200 and 1000 and layers of 50, 200 and 1000 without a rest. Half of 200 units are 7 panels.
AVX512 = VectorUnit("AVX-512", 16, True, product_rows=10, product_panels=2, gradient_rows=8, gathers=(7, 4, 2, 1))
# 16 registers: 6 x 2 accumulators + 2 right vectors + 1 broadcast; gradients 4 x 2.
AVX2 = VectorUnit("AVX2", 8, True, product_rows=6, product_panels=1, gradient_rows=4, gathers=(6, 4, 2, 1))
# 32 registers of 4 lanes: 6 x 4 accumulators + 4 right vectors + 1 broadcast.
NEON = VectorUnit("NEON", 4, True, product_rows=6, product_panels=1, gradient_rows=4, gathers=(6, 4, 2, 1))
# 16 registers and no fused multiply-add.
SSE = VectorUnit("SSE", 4, False, product_rows=3, product_panels=1, gradient_rows=2, gathers=(3, 3, 2, 1))


def vector_unit() -> VectorUnit:
    """What Numba compiles for on this machine; `NUMBA_CPU_FEATURES` is respected."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    enabled = set(features.split(","))
    if {"+avx512f", "+avx512vl"} <= enabled:
        return AVX512
    if {"+avx2", "+fma"} <= enabled:
        return AVX2
    if triple.startswith(("aarch64", "arm64")):
        return NEON
    return SSE


def multiplies_pairs() -> bool:
    """Whether it has AVX512-BF16, which adds the products of pairs of bfloat16 to float32."""
    features = set(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
    return vector_unit() == AVX512 and "+avx512bf16" in features


UNIT = vector_unit()
BF16_PAIRS = multiplies_pairs()
