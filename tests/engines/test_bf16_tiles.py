"""Tiles of bfloat16 against plain loops with one rounding a step: equal bit for bit, and nothing written outside."""

import naive
import numpy as np
import pytest

from vaefast.engines.numba_cpu import bf16_products, bf16_rounding, bf16_tiles, products, weights
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.products import Panels
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.models.layout import PANEL

GUARD = 64  # float32 or pairs of bfloat16 on either side
SENTINEL = np.float32(-77.25)

pytestmark = pytest.mark.skipif(not UNIT.fused, reason="this CPU has no fused multiply-add to compare with")

product_wide, product_narrow_1 = bf16_products.tile_wide, bf16_products.tile_narrow_1
gradient_wide = bf16_tiles.make_gradient_tile(UNIT.gradient_rows, products.GROUP)
gradient_narrow = bf16_tiles.make_gradient_tile(UNIT.gradient_rows, 1)
update_wide = bf16_tiles.make_update_tile(UNIT.gradient_rows, products.GROUP)


@kernel
def call_product_wide(A, a_panel, W, w_panel, start, C, c, c_panel, K):
    product_wide(A, 0, a_panel, W, 0, w_panel, start, 0, 0, PANEL, C, c, c_panel, K)


@kernel
def call_product_narrow_1(A, a_panel, W, w_panel, start, C, c, c_panel, K):
    product_narrow_1(A, 0, a_panel, W, 0, w_panel, start, 0, 0, PANEL, C, c, c_panel, K)


@kernel
def call_product(A, a_panel, W, w_panel, start, C, c, c_panel, K, first, last, panels):
    left, right, out = Panels(A, 0, a_panel), Panels(W, 0, w_panel), Panels(C, c, c_panel)
    bf16_products.product(left, right, Panels(start, 0, PANEL), out, K, first, last, panels)
    bf16_products.add_product(left, right, out, K, first, last, panels)


@kernel
def call_gradient_wide(A, a, D, d_panel, G, g, g_panel, B):
    gradient_wide(A, a, D, 0, d_panel, G, g, g_panel, B)


@kernel
def call_gradient_narrow(A, a, D, d_panel, G, g, g_panel, B):
    gradient_narrow(A, a, D, 0, d_panel, G, g, g_panel, B)


@kernel
def call_update_wide(A, a, D, d_panel, weights_, w, w_panel, plain, paired, r_panel, adam, B):
    update_wide(A, a, D, 0, d_panel, weights_, w, w_panel, plain, paired, r_panel, adam, B)


@kernel
def call_round(source, s, rows, out, plain, paired):
    bf16_rounding.round_both(source, s, rows, out, plain, paired)


@kernel
def call_round_plain(source, s, rows, out, plain):
    bf16_rounding.round_plain(source, s, rows, out, plain, -1)


@kernel
def call_turn(source, s, rows, out, paired, T, t, whole):
    if whole:
        bf16_rounding.turn_whole(source, s, rows, out, paired, T, t)
    else:
        bf16_rounding.turn_some(source, s, rows, out, paired, T, t)


def random(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def bits(matrix):
    """bfloat16 as uint16, by integers: to nearest, ties to even."""
    words = np.ascontiguousarray(matrix, np.float32).view(np.uint32)
    nearest = (words.astype(np.uint64) + 0x7FFF + ((words >> 16) & 1)) >> 16
    return np.where(np.isnan(matrix), words >> 16 | 0x40, nearest).astype(np.uint16)


def value(halves):
    """float32 of bfloat16."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


def even(count):
    return count + count % 2


def plain(matrix):
    """(rows, whole panels) of float32 -> float32 memory of bfloat16, panel after panel, rows made even by a row of zeros."""
    rows, columns = matrix.shape
    out = np.zeros((columns // PANEL, even(rows), PANEL), np.uint16)
    out[:, :rows] = bits(matrix).reshape(rows, columns // PANEL, PANEL).swapaxes(0, 1)
    return out.reshape(-1).view(np.float32)


def paired(matrix):
    """The same with the elements of rows 2 p and 2 p + 1 taking turns."""
    rows, columns = matrix.shape
    panels = plain(matrix).view(np.uint16).reshape(columns // PANEL, even(rows) // 2, 2, PANEL)
    return np.ascontiguousarray(panels.swapaxes(2, 3)).reshape(-1).view(np.float32)


def in_panels(matrix):
    return np.ascontiguousarray(matrix.reshape(len(matrix), -1, PANEL).swapaxes(0, 1)).reshape(-1)


def guarded(size):
    return np.full(size + 2 * GUARD, SENTINEL, np.float32)


def unguarded(flat):
    """What lies between the sentinels, which must be as they were."""
    assert np.all(flat[:GUARD] == SENTINEL)
    assert np.all(flat[-GUARD:] == SENTINEL)
    return flat[GUARD:-GUARD]


def matrix_of(flat, rows):
    return unguarded(flat).reshape(-1, rows, PANEL).swapaxes(0, 1).reshape(rows, -1)


def product(start, A, W):
    """The oracle: of each pair of the inner index the second one first, an odd last one with zero."""
    K = A.shape[1]
    left, right = np.zeros((len(A), even(K)), np.float32), np.zeros((even(K), W.shape[1]), np.float32)
    left[:, :K], right[:K] = value(bits(A)), value(bits(W))
    order = np.arange(even(K)) ^ 1
    return naive.product(start, left[:, order], right[order])


def left_operand(A):
    """A plain, with columns past its own that are finite, as the last panel of a workspace has them."""
    wide = np.full((len(A), -(-A.shape[1] // PANEL) * PANEL), 3, np.float32)
    wide[:, : A.shape[1]] = A
    return plain(wide)


@pytest.mark.parametrize("K", [1, 2, 15, 16, 17, 50])
@pytest.mark.parametrize(
    ("call", "height", "panels"),
    [(call_product_wide, products.ROWS, products.GROUP), (call_product_narrow_1, 1, 1)],
    ids=["wide", "one row"],
)
def test_product_tile(call, height, panels, K):
    A, W, start = random(height, K), random(K, panels * PANEL), random(panels * PANEL)
    C = guarded(height * panels * PANEL)
    w_panel = even(K) * PANEL
    call(left_operand(A), even(height) * PANEL, paired(W), w_panel, start, C, GUARD, height * PANEL, K)
    assert np.array_equal(matrix_of(C, height), product(start, A, W))


@pytest.mark.parametrize("K", [0, 3, products.DEPTH, products.DEPTH + 1, 2 * products.DEPTH + 17])
def test_a_product_in_blocks_is_the_product_bit_for_bit(K):
    height, panels = 2 * products.ROWS + 7, 2 * products.GROUP + 1
    A, W, start = random(height, K), random(K, panels * PANEL), random(panels * PANEL)
    C = guarded(height * panels * PANEL)
    left = left_operand(A) if K else np.zeros(1, np.float32)
    strides = even(height) * PANEL, even(K) * PANEL
    call_product(left, strides[0], paired(W), strides[1], start, C, GUARD, height * PANEL, K, 3, height, panels)
    matrix = matrix_of(C, height)
    assert np.all(matrix[:3] == SENTINEL)  # rows before the first are somebody else's
    once = product(start, A[3:], W)
    assert np.array_equal(matrix[3:], np.concatenate([product(row, A[i : i + 1], W) for i, row in enumerate(once, 3)]))


def test_the_comparison_notices_the_other_order_within_a_pair():
    A, W, start = random(4, 50), random(50, PANEL), random(PANEL)
    in_turn = naive.product(start, value(bits(A)), value(bits(W)))
    assert not np.array_equal(in_turn, product(start, A, W))


@pytest.mark.parametrize("B", [1, 2, 7, 40])
@pytest.mark.parametrize(
    ("call", "panels"), [(call_gradient_wide, products.GROUP), (call_gradient_narrow, 1)], ids=["wide", "narrow"]
)
def test_gradient_tile(call, panels, B):
    rows = UNIT.gradient_rows
    A, D = random(B, PANEL), random(B, panels * PANEL)
    first = PANEL - rows
    G = guarded(panels * rows * PANEL)
    call(paired(A), 2 * first, paired(D), even(B) * PANEL, G, GUARD, rows * PANEL, B)
    assert np.array_equal(matrix_of(G, rows), product(np.zeros(panels * PANEL), A[:, first:].T, D))


def test_update_tile_is_the_gradient_tile_and_adam_and_rounds_the_new_weights():
    B, rows, panels = 9, UNIT.gradient_rows, products.GROUP
    A, D = random(B, PANEL), random(B, panels * PANEL)
    first, size = PANEL - rows, panels * rows * PANEL
    parameters, (m, v) = guarded(2 * size), (guarded(size) for _ in range(2))
    before = random(rows, panels * PANEL), random(rows, panels * PANEL) / 9, random(rows, panels * PANEL) ** 2
    for flat, matrix in zip((parameters, m, v), before, strict=True):
        flat[GUARD : GUARD + size] = in_panels(matrix)
    adam = weights.AdamStep(*(np.float32(s) for s in (0.9, 0.999, 0.1, 0.001, 1e-8, 0.004, 7.5)))
    place = 2 * (GUARD + size)
    held = weights.Weights(parameters, m, v)
    call_update_wide(
        paired(A), 2 * first, paired(D), even(B) * PANEL, held, GUARD, rows * PANEL, place, place + size, rows * PANEL, adam, B
    )
    g = product(np.zeros(panels * PANEL), A[:, first:].T, D).astype(np.float64)
    m64, v64 = 0.9 * before[1] + 0.1 * g, 0.999 * before[2] + 0.001 * g**2
    wanted = before[0] - 0.004 * m64 / (np.sqrt(v64 * 7.5) + 1e-8)
    new, copies = np.split(unguarded(parameters), 2)
    found = new.reshape(panels, rows, PANEL).swapaxes(0, 1).reshape(rows, -1)
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert np.allclose(matrix_of(m, rows), m64, rtol=1e-5, atol=1e-6)
    assert np.allclose(matrix_of(v, rows), v64, rtol=1e-5, atol=1e-6)
    assert copies.tobytes() == plain(found).tobytes() + paired(found).tobytes()


SPECIAL = np.array([0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1.00390625, 1.01171875, 1.0039063, -1.0117186], np.float32)


@pytest.mark.parametrize("rows", [1, 2, 5, 16])
def test_rows_are_rounded_to_both_layouts_or_to_the_plain_one(rows):
    matrix = random(rows, PANEL)
    matrix[0, : SPECIAL.size] = SPECIAL
    size = even(rows) * PANEL // 2
    out = guarded(size)
    call_round_plain(np.append(SENTINEL, matrix), 1, rows, out, 2 * GUARD)
    assert unguarded(out).tobytes() == plain(matrix).tobytes()
    out = guarded(2 * size)
    call_round(np.append(SENTINEL, matrix), 1, rows, out, 2 * GUARD, 2 * (GUARD + size))
    assert unguarded(out).tobytes() == plain(matrix).tobytes() + paired(matrix).tobytes()


@pytest.mark.parametrize("rows", [1, 6, 15, 16])
def test_rows_of_a_gradient_are_rounded_and_transposed(rows):
    block = np.full((PANEL, PANEL), np.nan, np.float32)
    block[:rows] = random(rows, PANEL)
    out, turned = guarded(even(rows) * PANEL // 2), guarded(PANEL * PANEL // 2)
    source = np.append(SENTINEL, block if rows == PANEL else block[:rows])
    call_turn(source, 1, rows, out, 2 * GUARD, turned, 2 * GUARD, rows == PANEL)
    assert unguarded(out).tobytes() == paired(block[:rows]).tobytes()
    block[rows:] = 0
    assert unguarded(turned).tobytes() == paired(block.T).tobytes()


def test_every_tie_and_every_number_beside_one_is_rounded_as_by_integers():
    upper = np.arange(2**16, dtype=np.uint32)[:, None] << np.uint32(16)
    below = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    numbers = (upper | below).reshape(-1).view(np.float32)
    # What is below the normal numbers counts as zero in products, and may be rounded or not.
    numbers = numbers[(np.abs(numbers) >= np.finfo(np.float32).tiny) | np.isnan(numbers)]
    numbers = numbers[: numbers.size // (2 * PANEL) * 2 * PANEL]
    out = np.zeros(numbers.size // 2, np.float32)
    call_round_plain(numbers, 0, numbers.size // PANEL, out, 0)
    assert np.array_equal(out.view(np.uint16), bits(numbers))
