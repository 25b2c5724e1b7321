"""Matrix products of any size on register tiles, blocked for the caches.

A tile reads its right operand, `DEPTH` rows of one or two panels, once for every ten rows of the left one: 256 rows of two
panels are 32 KB and stay in the first-level cache meanwhile. Without the blocks a product over 784 rows read 100 KB from
the second level for each ten rows. Between blocks the sums rest in the output as float32, which is exact, so the blocks
change no bit.
"""

from __future__ import annotations

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


@kernel
def product(A, a, a_panel, W, w, w_panel, start, s, s_panel, C, c, c_panel, K, first, last, panels):
    """Rows first to last - 1 of C = start + A @ W, `panels` panels wide; `start` is one row. A, W and C are in panels."""
    for panel in range(0, panels, GROUP):
        width = min(GROUP, panels - panel)
        right, out = w + panel * w_panel, c + panel * c_panel
        depth = min(DEPTH, K)
        _block(
            A, a, a_panel, W, right, w_panel, start, s + panel * s_panel, 0, s_panel, C, out, c_panel, depth, first, last,
            width,
        )  # fmt: skip
        for k in range(DEPTH, K, DEPTH):
            left, depth = a + k // PANEL * a_panel, min(DEPTH, K - k)
            _block(
                A, left, a_panel, W, right + k * PANEL, w_panel, C, out, PANEL, c_panel, C, out, c_panel, depth, first, last,
                width,
            )  # fmt: skip


@kernel
def _block(A, a, a_panel, W, w, w_panel, S, s, s_row, s_panel, C, c, c_panel, K, first, last, width):
    """The same for one group of panels; row r of the sums starts from S[s + r * s_row]."""
    r = first
    if width == GROUP:
        while r + ROWS <= last:
            i = r * PANEL
            tile_wide(A, a + i, a_panel, W, w, w_panel, S, s + r * s_row, s_row, s_panel, C, c + i, c_panel, K)
            r += ROWS
        while r + SMALL_ROWS <= last:
            i = r * PANEL
            tile_wide_4(A, a + i, a_panel, W, w, w_panel, S, s + r * s_row, s_row, s_panel, C, c + i, c_panel, K)
            r += SMALL_ROWS
        while r < last:
            i = r * PANEL
            tile_wide_1(A, a + i, a_panel, W, w, w_panel, S, s + r * s_row, s_row, s_panel, C, c + i, c_panel, K)
            r += 1
    else:
        while r + ROWS <= last:
            i = r * PANEL
            tile_narrow(A, a + i, a_panel, W, w, w_panel, S, s + r * s_row, s_row, s_panel, C, c + i, c_panel, K)
            r += ROWS
        while r + SMALL_ROWS <= last:
            i = r * PANEL
            tile_narrow_4(A, a + i, a_panel, W, w, w_panel, S, s + r * s_row, s_row, s_panel, C, c + i, c_panel, K)
            r += SMALL_ROWS
        while r < last:
            i = r * PANEL
            tile_narrow_1(A, a + i, a_panel, W, w, w_panel, S, s + r * s_row, s_row, s_panel, C, c + i, c_panel, K)
            r += 1
