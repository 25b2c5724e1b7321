"""Matrix products of any size on register tiles, blocked for the caches.

A tile reads its right operand, `DEPTH` rows of one or two panels, once for every ten rows of the left one: 256 rows of two
panels are 32 KB and stay in the first-level cache meanwhile. Without the blocks a product over 784 rows read 100 KB from
the second level for each ten rows. Between blocks the sums are stored in the output as float32, which is exact, so the blocks
change no bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.tiles import make_product_tile
from vaefast.models.layout import PANEL

ROWS, GROUP = UNIT.product_rows, UNIT.product_panels
SMALL_ROWS = 4
DEPTH = 256
tile_wide = make_product_tile(ROWS, GROUP)
tile_wide_4 = make_product_tile(SMALL_ROWS, GROUP)
tile_wide_1 = make_product_tile(1, GROUP)
tile_narrow = make_product_tile(ROWS, 1)
tile_narrow_4 = make_product_tile(SMALL_ROWS, 1)
tile_narrow_1 = make_product_tile(1, 1)


class Panels(NamedTuple):
    """A matrix in panels of 16 columns, or some of them."""

    array: NDArray[np.float32]
    begin: int  # its first element
    stride: int  # elements from one panel to the next


@kernel
def _from(matrix, shift):
    return Panels(matrix.array, matrix.begin + shift, matrix.stride)


def make_block(tile, tile_4, tile_1):
    """The kernel that covers all rows with these tiles, of `ROWS`, of `SMALL_ROWS` and of one row."""

    @kernel
    def block(A, W, S, s_row, C, K, first, last):
        a, w, s, c, r = A.stride, W.stride, S.stride, C.stride, first
        while r + ROWS <= last:
            i, j = r * PANEL, S.begin + r * s_row
            tile(A.array, A.begin + i, a, W.array, W.begin, w, S.array, j, s_row, s, C.array, C.begin + i, c, K)
            r += ROWS
        while r + SMALL_ROWS <= last:
            i, j = r * PANEL, S.begin + r * s_row
            tile_4(A.array, A.begin + i, a, W.array, W.begin, w, S.array, j, s_row, s, C.array, C.begin + i, c, K)
            r += SMALL_ROWS
        while r < last:
            i, j = r * PANEL, S.begin + r * s_row
            tile_1(A.array, A.begin + i, a, W.array, W.begin, w, S.array, j, s_row, s, C.array, C.begin + i, c, K)
            r += 1

    return block


def make_products(block_wide, block_narrow):
    """`product` and `add_product` by these kernels for a group of panels and for one panel.

    product(A, W, start, C, K, first, last, panels): rows first to last - 1 of C = start + A @ W, `panels` panels wide; `start`
    is one row, and all four are `Panels`. add_product(A, W, C, K, first, last, panels): the same with C += A @ W.
    """

    @kernel
    def block(A, W, S, s_row, C, K, first, last, width):
        """One group of panels; row r of the sums starts from row r of S, whose rows are s_row elements apart."""
        if width == GROUP:
            block_wide(A, W, S, s_row, C, K, first, last)
        else:
            block_narrow(A, W, S, s_row, C, K, first, last)

    @kernel
    def product(A, W, start, C, K, first, last, panels):
        for panel in range(0, panels, GROUP):
            width = min(GROUP, panels - panel)
            right, out = _from(W, panel * W.stride), _from(C, panel * C.stride)
            block(A, right, _from(start, panel * start.stride), 0, out, min(DEPTH, K), first, last, width)
            for k in range(DEPTH, K, DEPTH):
                left, further = _from(A, k // PANEL * A.stride), _from(right, k * PANEL)
                block(left, further, out, PANEL, out, min(DEPTH, K - k), first, last, width)

    @kernel
    def add_product(A, W, C, K, first, last, panels):
        for panel in range(0, panels, GROUP):
            width = min(GROUP, panels - panel)
            right, out = _from(W, panel * W.stride), _from(C, panel * C.stride)
            for k in range(0, K, DEPTH):
                left, further = _from(A, k // PANEL * A.stride), _from(right, k * PANEL)
                block(left, further, out, PANEL, out, min(DEPTH, K - k), first, last, width)

    return product, add_product


block_wide = make_block(tile_wide, tile_wide_4, tile_wide_1)
block_narrow = make_block(tile_narrow, tile_narrow_4, tile_narrow_1)
product, add_product = make_products(block_wide, block_narrow)
