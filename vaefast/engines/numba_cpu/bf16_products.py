"""Products of matrices of bfloat16, A plain and W paired, of any size: those of products.py on the tiles of bf16_tiles.py.

`Panels` of A and W count elements of bfloat16, those of the start and of C float32. A pair of rows of a paired matrix stands
where two rows of a plain one would, so that both are cut alike.
"""

from __future__ import annotations

from vaefast.engines.numba_cpu.bf16_tiles import make_product_tile
from vaefast.engines.numba_cpu.products import GROUP, ROWS, SMALL_ROWS, make_block, make_products

tile_wide = make_product_tile(ROWS, GROUP)
tile_narrow_1 = make_product_tile(1, 1)
block_wide = make_block(tile_wide, make_product_tile(SMALL_ROWS, GROUP), make_product_tile(1, GROUP))
block_narrow = make_block(make_product_tile(ROWS, 1), make_product_tile(SMALL_ROWS, 1), tile_narrow_1)
product, add_product = make_products(block_wide, block_narrow)
