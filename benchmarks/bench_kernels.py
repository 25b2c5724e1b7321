"""The kernels by themselves: each product tile family at the report's sizes, the loss, Adam and the noise."""

import naive
import numpy as np
import pytest

from benchmarks.measure import sgemm_rate, step_flop
from vaefast.engines.numba_cpu import noise as jitted
from vaefast.engines.numba_cpu import products, weights
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.products import Panels
from vaefast.models import noise
from vaefast.models.layout import PANEL, padded
from vaefast.models.settings import ModelSettings

B = 200


def in_panels(matrix):
    wide = np.zeros((len(matrix), padded(matrix.shape[1])), np.float32)
    wide[:, : matrix.shape[1]] = matrix
    return np.ascontiguousarray(wide.reshape(len(matrix), -1, PANEL).swapaxes(0, 1)).reshape(-1)


def from_panels(flat, height):
    return flat.reshape(-1, height, PANEL).swapaxes(0, 1).reshape(height, -1)


@kernel
def product(A, W, start, C, K, panels):
    left, right, out = Panels(A, 0, B * PANEL), Panels(W, 0, K * PANEL), Panels(C, 0, B * PANEL)
    products.product(left, right, Panels(start, 0, PANEL), out, K, 0, B, panels)


@kernel
def weight_gradient(A, D, G, K, panels):
    for panel in range(0, panels - products.GROUP + 1, products.GROUP):
        for k in range(0, K - weights.ROWS + 1, weights.ROWS):
            a, g = (k // PANEL) * B * PANEL + k % PANEL, (panel * K + k) * PANEL
            weights.gradient_wide(A, a, D, panel * B * PANEL, B * PANEL, G, g, K * PANEL, B)


def record(benchmark, flop):
    rate = sgemm_rate(1)
    speed = flop / benchmark.stats.stats.median
    benchmark.extra_info |= {
        "GFLOP/s": round(speed / 1e9, 1), "share of the sgemm rate": round(speed / rate, 3),
    }  # fmt: skip


@pytest.mark.parametrize(("K", "N"), [(784, 200), (200, 200), (200, 784)])
def test_product(benchmark, K, N):
    rng = np.random.default_rng(0)
    A, W, start = (rng.standard_normal(shape, dtype=np.float32) for shape in ((B, K), (K, N), (padded(N),)))
    start[N:] = 0
    C = np.zeros(B * padded(N), np.float32)
    arguments = in_panels(A), in_panels(W), start, C, K, padded(N) // PANEL
    product(*arguments)
    assert np.allclose(from_panels(C, B)[:, :N], A @ W + start[:N], rtol=1e-4, atol=1e-3)
    benchmark(product, *arguments)
    record(benchmark, 2 * B * K * N)


@pytest.mark.parametrize(("K", "N"), [(200, 192), (200, 768)])
def test_weight_gradient(benchmark, K, N):
    rng = np.random.default_rng(0)
    A, D = (rng.standard_normal(shape, dtype=np.float32) for shape in ((B, K), (B, N)))
    G = np.zeros(K * N, np.float32)
    arguments = in_panels(A), in_panels(D), G, K, N // PANEL
    weight_gradient(*arguments)
    assert np.allclose(from_panels(G, K), A.T @ D, rtol=1e-4, atol=1e-3)
    benchmark(weight_gradient, *arguments)
    record(benchmark, 2 * B * K * N)


@kernel
def fill(words, normals):
    for example in range(B):
        jitted.fill_words(np.uint64(0), 3, 0, example, words.size, words)
        jitted.fill_normals(words, normals)


def test_normals(benchmark):
    words, normals = np.zeros(64, np.uint32), np.zeros(64, np.float32)
    fill(words, normals)
    exact = noise.normals(0, noise.Purpose.TRAINING_LATENTS, 0, [B - 1], 64)[0]
    assert words.tolist() == naive.words(0, 3, 0, B - 1, 64)
    assert np.allclose(normals, exact, atol=1e-6)
    benchmark(fill, words, normals)
    benchmark.extra_info["ns a normal"] = round(1e9 * benchmark.stats.stats.median / (64 * B), 2)


def test_the_flop_count_is_that_of_the_reports_model():
    assert step_flop(ModelSettings(), 1) == 2_228_000
