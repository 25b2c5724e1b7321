"""Register tiles against plain loops with one rounding a step: equal bit for bit, and nothing written outside."""

from fractions import Fraction

import naive
import numpy as np
import pytest

from vaefast.engines.numba_cpu import dense_weights, layers, products, tiles, vectors, weights
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.products import Panels
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.models.layout import PANEL

SENTINEL = np.float32(-77.25)
GUARD = 64  # sentinels on either side

pytestmark = pytest.mark.skipif(not UNIT.fused, reason="this CPU has no fused multiply-add to compare with")

product_wide, product_narrow_1 = products.tile_wide, products.tile_narrow_1
gradient_wide, gradient_narrow = dense_weights.gradient_wide, dense_weights.gradient_narrow
gather_wide, gather_one = layers.gather_0, layers.gather_3
scatter_wide, scatter_one = weights.scatter_0, weights.scatter_3


@kernel
def call_product_wide(A, a_panel, W, w_panel, start, s_row, s_panel, C, c, c_panel, K):
    product_wide(A, 0, a_panel, W, 0, w_panel, start, 0, s_row, s_panel, C, c, c_panel, K)


@kernel
def call_product_narrow_1(A, a_panel, W, w_panel, start, s_row, s_panel, C, c, c_panel, K):
    product_narrow_1(A, 0, a_panel, W, 0, w_panel, start, 0, s_row, s_panel, C, c, c_panel, K)


@kernel
def call_product(A, a_panel, W, w_panel, start, C, c, c_panel, K, first, last, panels):
    left, right, out = Panels(A, 0, a_panel), Panels(W, 0, w_panel), Panels(C, c, c_panel)
    products.product(left, right, Panels(start, 0, PANEL), out, K, first, last, panels)


@kernel
def call_gradient_wide(A, a, D, d_panel, G, g, g_panel, B):
    gradient_wide(A, a, D, 0, d_panel, G, g, g_panel, B)


@kernel
def call_gradient_narrow(A, a, D, d_panel, G, g, g_panel, B):
    gradient_narrow(A, a, D, 0, d_panel, G, g, g_panel, B)


@kernel
def call_gather_wide(W, w_panel, index, value, first, count, start, C, c, c_panel):
    gather_wide(W, 0, w_panel, index, value, first, count, start, 0, PANEL, C, c, c_panel)


@kernel
def call_gather_one(W, w_panel, index, value, first, count, start, C, c, c_panel):
    gather_one(W, 0, w_panel, index, value, first, count, start, 0, PANEL, C, c, c_panel)


@kernel
def call_scatter_wide(D, d_panel, index, value, first, count, base, G, g, g_panel):
    scatter_wide(D, 0, d_panel, index, value, first, count, base, G, g, g_panel)


@kernel
def call_scatter_one(D, d_panel, index, value, first, count, base, G, g, g_panel):
    scatter_one(D, 0, d_panel, index, value, first, count, base, G, g, g_panel)


@kernel
def call_transpose(W, w, T, t):
    tiles.transpose_tile(W, w, T, t)


@kernel
def call_fold(P, p, q, T, t):
    tiles.fold_tile(P, p, q, T, t)


def random(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def in_panels(matrix):
    """(rows, whole panels) -> flat, panel after panel."""
    return np.ascontiguousarray(matrix.reshape(len(matrix), matrix.shape[1] // PANEL, PANEL).swapaxes(0, 1)).reshape(-1)


def guarded(size):
    return np.full(size + 2 * GUARD, SENTINEL, np.float32)


def unguarded(flat, rows_, panels):
    """The matrix between the sentinels, which must be as they were."""
    assert np.all(flat[:GUARD] == SENTINEL)
    assert np.all(flat[-GUARD:] == SENTINEL)
    return flat[GUARD:-GUARD].reshape(panels, rows_, PANEL).swapaxes(0, 1).reshape(rows_, -1)


@pytest.mark.parametrize("K", [1, 15, 16, 17, 50])
@pytest.mark.parametrize(
    ("call", "height", "panels"),
    [(call_product_wide, products.ROWS, products.GROUP), (call_product_narrow_1, 1, 1)],
    ids=["wide", "one row"],
)
def test_product_tile(call, height, panels, K):
    A, W, start = random(height, K), random(K, panels * PANEL), random(panels * PANEL)
    padded = np.full((height, -(-K // PANEL) * PANEL), np.nan, np.float32)  # what is past K must not be read into a sum
    padded[:, :K] = A
    C = guarded(height * panels * PANEL)
    call(in_panels(padded), height * PANEL, in_panels(W), K * PANEL, start, 0, PANEL, C, GUARD, height * PANEL, K)
    assert np.array_equal(unguarded(C, height, panels), naive.product(start, A, W))
    # ... and from a start of its own for each row, as the second block of a deep product has it.
    starts = random(height, panels * PANEL)
    call(
        in_panels(padded), height * PANEL, in_panels(W), K * PANEL, in_panels(starts), PANEL, height * PANEL,
        C, GUARD, height * PANEL, K,
    )  # fmt: skip
    expected = np.concatenate([naive.product(starts[i], A[i : i + 1], W) for i in range(height)])
    assert np.array_equal(unguarded(C, height, panels), expected)


@pytest.mark.parametrize("K", [0, 3, products.DEPTH, products.DEPTH + 1, 2 * products.DEPTH + 17])
def test_a_product_in_blocks_is_the_product_bit_for_bit(K):
    height, panels = 2 * products.ROWS + 7, 2 * products.GROUP + 1
    A, W, start = random(height, K), random(K, panels * PANEL), random(panels * PANEL)
    padded = np.zeros((height, max(1, -(-K // PANEL)) * PANEL), np.float32)
    padded[:, :K] = A
    C = guarded(height * panels * PANEL)
    call_product(
        in_panels(padded), height * PANEL, in_panels(W), K * PANEL, start, C, GUARD, height * PANEL, K, 3, height, panels
    )
    matrix = unguarded(C, height, panels)
    assert np.all(matrix[:3] == SENTINEL)  # rows before the first are somebody else's
    assert np.array_equal(matrix[3:], naive.product(start, A[3:], W))


def test_the_comparison_notices_another_order_of_summation():
    A, W, start = random(2, 50), random(50, PANEL), random(PANEL)
    backwards = naive.product(start, A[:, ::-1], W[::-1])
    assert not np.array_equal(backwards, naive.product(start, A, W))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("K", [0, 1, 17, 60])
def test_the_fast_oracle_is_the_one_in_fractions(rows, K):
    A, W, start = random(rows, K), random(K, PANEL), random(PANEL)
    assert np.array_equal(naive.product(start, A, W), naive.product_in_fractions(start, A, W))
    # Factors of few bits, of which sums cancel and meet ties; then so small that float32 is subnormal; then large.
    few = [np.rint(2 * part) * np.float32(2.0) ** (np.arange(part.size).reshape(part.shape) % 13) for part in (A, W, start)]
    for power in (0, -75, 40):
        scale = np.float32(2.0) ** power
        A, W, start = few[0] * scale, few[1] * scale, few[2] * scale * scale
        assert np.array_equal(naive.product(start, A, W), naive.product_in_fractions(start, A, W))


def test_a_fused_step_of_the_oracle_rounds_once_where_rounding_twice_would_show():
    rng, count = np.random.default_rng(0), 3000
    a, b = (rng.integers(2**23, 2**24, count).astype(np.float64) for _ in range(2))
    # c as large as a * b, or so much larger that the product only breaks ties, or of the size of the subnormal numbers.
    c = rng.choice([-1, 1], count) * rng.integers(2**23, 2**24, count) * 2.0 ** rng.integers(0, 60, count)
    a[::7] = 2.0 ** rng.integers(0, 24, len(a[::7]))
    b[::7] = 2.0 ** rng.integers(0, 24, len(b[::7]))
    c[::11] = -(a * b).astype(np.float32)[::11]  # all but the rounding cancels
    twice = 0
    for unit in (2.0**-23, 2.0**-99):
        exact = [
            Fraction(x * unit) * Fraction(y) * Fraction(unit) + Fraction(z * unit**2) for x, y, z in zip(a, b, c, strict=True)
        ]
        wanted = np.array([naive.to_float32(value) for value in exact])
        assert np.array_equal(naive.fused(a * unit, b * unit, c * unit**2), wanted)
        twice += np.sum((a * unit * (b * unit) + c * unit**2).astype(np.float32) != wanted)
    assert twice > 0


@pytest.mark.parametrize("B", [1, 7, 40])
@pytest.mark.parametrize(
    ("call", "panels"), [(call_gradient_wide, products.GROUP), (call_gradient_narrow, 1)], ids=["wide", "narrow"]
)
def test_gradient_tile(call, panels, B):
    A, D = random(B, PANEL), random(B, panels * PANEL)
    first = PANEL - dense_weights.TILE_ROWS
    G = guarded(panels * dense_weights.TILE_ROWS * PANEL)
    call(in_panels(A), first, in_panels(D), B * PANEL, G, GUARD, dense_weights.TILE_ROWS * PANEL, B)
    expected = naive.product(np.zeros(panels * PANEL), A[:, first:].T, D)
    assert np.array_equal(unguarded(G, dense_weights.TILE_ROWS, panels), expected)


@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize(
    ("call", "panels"), [(call_gather_wide, layers.GATHER_0), (call_gather_one, 1)], ids=["wide", "one panel"]
)
def test_gather_tile_is_the_dense_product_bit_for_bit(call, panels, count):
    X = 30
    W, start = random(X, panels * PANEL), random(panels * PANEL)
    index = np.full(X + 3, 2**16 - 1, np.uint16)  # entries outside the range asked for would read far away
    value = np.full(X + 3, np.nan, np.float32)
    index[3 : 3 + count] = np.sort(np.random.default_rng(count).permutation(X)[:count])
    value[3 : 3 + count] = random(count) if count else []
    x = np.zeros((1, X), np.float32)
    x[0, index[3 : 3 + count]] = value[3 : 3 + count]
    C = guarded(panels * PANEL)
    call(in_panels(W), X * PANEL, index, value, 3, count, start, C, GUARD, PANEL)
    assert np.array_equal(unguarded(C, 1, panels), naive.product(start, x, W))


@pytest.mark.parametrize(
    ("call", "panels"), [(call_scatter_wide, layers.GATHER_0), (call_scatter_one, 1)], ids=["wide", "one panel"]
)
def test_scatter_tile_image_after_image_is_the_dense_gradient_bit_for_bit(call, panels):
    B, base, height = 9, 40, 8
    x, D = np.zeros((B, height), np.float32), random(B, panels * PANEL)
    flat = in_panels(D)
    G = guarded(panels * height * PANEL)
    G[GUARD:-GUARD] = 0
    for b in range(B):
        on = np.sort(np.random.default_rng(b).permutation(height)[: b % 5])
        x[b, on] = random(len(on)) if len(on) else []
        index = np.full(height + 2, 2**16 - 1, np.uint16)
        index[2 : 2 + len(on)] = base + on
        value = np.full(height + 2, np.nan, np.float32)
        value[2 : 2 + len(on)] = x[b, on]
        call(flat[b * PANEL :], B * PANEL, index, value, 2, len(on), base, G, GUARD, height * PANEL)
    expected = naive.product(np.zeros(panels * PANEL), x.T, D)
    assert np.array_equal(unguarded(G, height, panels), expected)


def test_transpose_tile():
    W, T = random(3 + PANEL * PANEL), guarded(PANEL * PANEL)
    call_transpose(W, 3, T, GUARD)
    assert np.array_equal(unguarded(T, PANEL, 1), W[3:].reshape(PANEL, PANEL).T)


def test_fold_tile():
    P, T = random(5 + 3 * PANEL * PANEL), guarded(PANEL * PANEL)
    call_fold(P, 5, 5 + 2 * PANEL * PANEL, T, GUARD)
    first, second = (P[i : i + PANEL * PANEL].reshape(PANEL, PANEL) for i in (5, 5 + 2 * PANEL * PANEL))
    assert np.array_equal(unguarded(T, PANEL, 1), (first + second).T)


def test_tiles_use_vector_registers_of_the_stated_width():
    code = vectors.VECTOR
    assert code.count == UNIT.lanes
    assert PANEL % UNIT.lanes == 0
    assert PANEL % UNIT.gradient_rows == 0
