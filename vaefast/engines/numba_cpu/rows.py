"""The rows phase: each worker takes its rows of the minibatch forward to the loss and back to the first layer.

B minibatch, X pixels, H hidden, Z latent, padded to panels; r counts rows. Everything a row needs stays in the cache of
one core. A number in parentheses is an equation of DERIVATION.md. Sums run in one fixed order for each row, so a row's
result depends neither on the rows beside it nor on the number of workers.
"""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ONE, TWO, ZERO, exp, exp_of_negative, fill, fma, tanh
from vaefast.engines.numba_cpu.noise import WORDS, fill_normals, fill_planes
from vaefast.engines.numba_cpu.plan import (
    ACTIVATION,
    BIAS,
    D_OUTPUT,
    D_SOURCE,
    INPUTS,
    OUTPUT,
    OUTPUT_PANELS,
    OUTPUTS,
    RELU,
    SOURCE,
    SOURCE_ACTIVATION,
    TANH,
    TRANSPOSED,
    WEIGHT,
)
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.tiles import make_gather_tile, make_product_tile
from vaefast.layout import PANEL

ROWS, GROUP, GATHER = UNIT.product_rows, UNIT.product_panels, UNIT.gather_panels
SMALL_GATHER = 4
tile_wide = make_product_tile(ROWS, GROUP)
tile_wide_4 = make_product_tile(4, GROUP)
tile_wide_1 = make_product_tile(1, GROUP)
tile_narrow = make_product_tile(ROWS, 1)
tile_narrow_4 = make_product_tile(4, 1)
tile_narrow_1 = make_product_tile(1, 1)
gather_wide = make_gather_tile(GATHER)
gather_small = make_gather_tile(SMALL_GATHER)
gather_one = make_gather_tile(1)

# 1 + exp(-|a|) is at most 2, so a float32 holds the product of this many panels' factors: 2^64 < 3.4e38.
FACTORS = 64
# ... and a float64 that of half the lanes' products: (2^64)^8 = 2^512 < 1.8e308.
LANES_A_LOGARITHM = 8


@kernel
def encode_rows(plan, parameters, workspace, pixels, sparse, first, last):
    """x (B, X) -> h1, h2, ... (B, H) -> heads: mean and log_std (B, Z)."""
    for i in range(plan.heads + 1):
        if i == 0 and sparse:
            _sparse_layer(plan, parameters, workspace, pixels, first, last)
        else:
            _dense_layer(plan, i, parameters, workspace, first, last)


@kernel
def decode_rows(plan, parameters, workspace, first, last):
    """z (B, Z) -> g1, g2, ... (B, H) -> logits (B, X)."""
    for i in range(plan.heads + 1, plan.layers.shape[0]):
        _dense_layer(plan, i, parameters, workspace, first, last)


@kernel
def backward_rows(plan, transposed, zeros, workspace, scale, first, last):
    """d_logits (B, X) -> d_g, d_z -> d_mean, d_log_std -> d_h down to the first layer's output; scale is 1 / B."""
    for i in range(plan.layers.shape[0] - 1, plan.heads, -1):
        _dense_layer_backward(plan, i, transposed, zeros, workspace, first, last)
    _sampling_backward(plan, workspace, scale, first, last)
    for i in range(plan.heads, 0, -1):
        _dense_layer_backward(plan, i, transposed, zeros, workspace, first, last)


@kernel
def sample_rows(plan, workspace, seed, purpose, step, examples, planes, normals, noise, first, last):
    """z = mean + exp(log_std) * noise (2), and the terms of the KL (4) lane by lane.

    planes (uint32), normals and noise (float32) hold one padded row of noise, for this worker alone.
    """
    stride = plan.rows * PANEL
    heads = plan.layers[plan.heads, OUTPUT]
    for r in range(first, last):
        fill_planes(seed, purpose, step, examples[r], 0, noise.size // WORDS, planes)
        fill_normals(planes, normals)
        plane = normals.size // WORDS
        for j in range(noise.size):
            noise[j] = normals[(j % WORDS) * plane + j // WORDS]
        divergence = workspace[plan.divergence + r * PANEL : plan.divergence + (r + 1) * PANEL]
        fill(divergence, ZERO)
        for panel in range(plan.latent_panels):
            place = panel * stride + r * PANEL
            mean = _panel(workspace, heads + place)
            log_std = _panel(workspace, heads + plan.latent_panels * stride + place)
            z, std, spread = (
                _panel(workspace, plan.z + place),
                _panel(workspace, plan.std + place),
                _panel(workspace, plan.spread + place),
            )
            epsilon = noise[panel * PANEL : (panel + 1) * PANEL]
            for j in range(PANEL):
                std[j] = exp(log_std[j])
                spread[j] = std[j] * epsilon[j]
                z[j] = mean[j] + spread[j]
                divergence[j] += fma(std[j], std[j], mean[j] * mean[j]) - ONE - TWO * log_std[j]


@kernel
def _sampling_backward(plan, workspace, scale, first, last):
    stride = plan.rows * PANEL
    heads = plan.layers[plan.heads, OUTPUT]
    for panel in range(plan.latent_panels):
        start, stop = panel * stride + first * PANEL, panel * stride + last * PANEL
        d_z = workspace[plan.d_z + start : plan.d_z + stop]
        spread = workspace[plan.spread + start : plan.spread + stop]
        std = workspace[plan.std + start : plan.std + stop]
        mean = workspace[heads + start : heads + stop]
        shift = heads + plan.latent_panels * stride
        log_std = workspace[shift + start : shift + stop]
        for j in range(d_z.size):
            # z = mean + exp(log_std) * noise (2); KL = 0.5 * sum(exp(2 log_std) + mean^2 - 1 - 2 log_std) (4)
            mean[j] = fma(mean[j], scale, d_z[j])  # d_mean (11), in place
            log_std[j] = fma(d_z[j], spread[j], fma(std[j], std[j], -ONE) * scale)  # d_log_std (12), in place


@kernel
def bernoulli_rows(plan, workspace, scale, log_likelihood, kl, first, last):
    """log p(x | z) (3) and KL (4) of each row in nats, float64; logits become d_logits (7); scale is 1 / B.

    softplus(a) = max(a, 0) + log(1 + exp(-|a|)). The factors 1 + exp(-|a|) are multiplied over up to 64 panels, then over
    eight lanes in float64, so that one logarithm serves hundreds of pixels.
    """
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride = plan.rows * PANEL
    linear = workspace[plan.linear + first * PANEL : plan.linear + last * PANEL]
    product = workspace[plan.product + first * PANEL : plan.product + last * PANEL]
    fill(linear, ZERO)
    fill(product, ONE)
    for r in range(first, last):
        divergence = _panel(workspace, plan.divergence + r * PANEL)
        total = 0.0
        for j in range(PANEL):
            total += np.float64(divergence[j])
        kl[r] = 0.5 * total
        log_likelihood[r] = 0.0
    for panel in range(layer[OUTPUT_PANELS]):
        start, stop = panel * stride + first * PANEL, panel * stride + last * PANEL
        a, x = workspace[layer[OUTPUT] + start : layer[OUTPUT] + stop], workspace[plan.x + start : plan.x + stop]
        real = min(PANEL, plan.pixels - panel * PANEL)
        if real == PANEL:
            _bernoulli_panel(a, x, linear, product, scale)
        else:
            for r in range(last - first):
                row = r * PANEL
                _bernoulli_panel(
                    a[row : row + real], x[row : row + real], linear[row : row + real], product[row : row + real], scale
                )
        if (panel + 1) % FACTORS == 0:
            _subtract_logarithms(product, log_likelihood[first:last])
            fill(product, ONE)
    _subtract_logarithms(product, log_likelihood[first:last])
    for r in range(first, last):
        row = linear[(r - first) * PANEL : (r - first + 1) * PANEL]
        total = 0.0
        for j in range(PANEL):
            total += np.float64(row[j])
        log_likelihood[r] += total


@kernel
def _bernoulli_panel(a, x, linear, product, scale):
    for j in range(a.size):
        logit = a[j]
        e = exp_of_negative(-abs(logit))
        factor = ONE + e
        positive = ZERO if logit < ZERO else logit
        linear[j] += fma(x[j], logit, -positive)
        product[j] *= factor
        sigmoid = (e if logit < ZERO else ONE) / factor
        # log p(x | z) = sum(x * a - softplus(a)) (3)
        a[j] = (sigmoid - x[j]) * scale  # d_logits (7), in place


@kernel
def _subtract_logarithms(product, log_likelihood):
    for r in range(log_likelihood.size):
        row = product[r * PANEL : (r + 1) * PANEL]
        for lane in range(0, PANEL, LANES_A_LOGARITHM):
            factor = 1.0
            for j in range(LANES_A_LOGARITHM):
                factor *= np.float64(row[lane + j])
            log_likelihood[r] -= math.log(factor)


@kernel
def _panel(workspace, offset):
    return workspace[offset : offset + PANEL]


@kernel
def _dense_layer(plan, i, parameters, workspace, first, last):
    """output = activation(source @ W + b) (5), a group of column panels at a time, so that W's panels stay in L1."""
    layer = plan.layers[i]
    stride = plan.rows * PANEL
    for panel in range(0, layer[OUTPUT_PANELS], GROUP):
        width = min(GROUP, layer[OUTPUT_PANELS] - panel)
        output = layer[OUTPUT] + panel * stride
        _product(
            workspace, layer[SOURCE], stride,
            parameters, layer[WEIGHT] + panel * layer[INPUTS] * PANEL, layer[INPUTS] * PANEL,
            parameters, layer[BIAS] + panel * PANEL,
            workspace, output, layer[INPUTS], first, last, width,
        )  # fmt: skip
        for q in range(width):
            start = output + q * stride
            _activate(workspace[start + first * PANEL : start + last * PANEL], layer[ACTIVATION])


@kernel
def _dense_layer_backward(plan, i, transposed, zeros, workspace, first, last):
    """d_source = d_output @ W^T (8), times the slope of the activation that made the source (9, 10)."""
    layer = plan.layers[i]
    stride = plan.rows * PANEL
    rows = layer[OUTPUT_PANELS] * PANEL
    panels = (layer[INPUTS] + PANEL - 1) // PANEL
    for panel in range(0, panels, GROUP):
        width = min(GROUP, panels - panel)
        output = layer[D_SOURCE] + panel * stride
        _product(
            workspace, layer[D_OUTPUT], stride,
            transposed, layer[TRANSPOSED] + panel * rows * PANEL, rows * PANEL,
            zeros, 0,
            workspace, output, layer[OUTPUTS], first, last, width,
        )  # fmt: skip
        for q in range(width):
            start, shift = output + q * stride, (panel + q) * stride + layer[SOURCE]
            _multiply_by_slope(
                workspace[start + first * PANEL : start + last * PANEL],
                workspace[shift + first * PANEL : shift + last * PANEL],
                layer[SOURCE_ACTIVATION],
            )


@kernel
def _product(A, a, stride, W, w, w_panel, start, s, C, c, K, first, last, width):
    """Rows first to last - 1 of C = start + A @ W, `width` panels of 16 columns; A and C have the same panel stride."""
    r = first
    if width == GROUP:
        while r + ROWS <= last:
            tile_wide(A, a + r * PANEL, stride, W, w, w_panel, start, s, C, c + r * PANEL, stride, K)
            r += ROWS
        while r + 4 <= last:
            tile_wide_4(A, a + r * PANEL, stride, W, w, w_panel, start, s, C, c + r * PANEL, stride, K)
            r += 4
        while r < last:
            tile_wide_1(A, a + r * PANEL, stride, W, w, w_panel, start, s, C, c + r * PANEL, stride, K)
            r += 1
    else:
        while r + ROWS <= last:
            tile_narrow(A, a + r * PANEL, stride, W, w, w_panel, start, s, C, c + r * PANEL, stride, K)
            r += ROWS
        while r + 4 <= last:
            tile_narrow_4(A, a + r * PANEL, stride, W, w, w_panel, start, s, C, c + r * PANEL, stride, K)
            r += 4
        while r < last:
            tile_narrow_1(A, a + r * PANEL, stride, W, w, w_panel, start, s, C, c + r * PANEL, stride, K)
            r += 1


@kernel
def _sparse_layer(plan, parameters, workspace, pixels, first, last):
    """The first layer as sums of the rows of W that belong to non-zero pixels: the same bits as the dense product."""
    layer = plan.layers[0]
    stride, w_panel = plan.rows * PANEL, layer[INPUTS] * PANEL
    for r in range(first, last):
        panel, entry = 0, r * plan.pixels
        while panel < layer[OUTPUT_PANELS]:
            left = layer[OUTPUT_PANELS] - panel
            w, s = layer[WEIGHT] + panel * w_panel, layer[BIAS] + panel * PANEL
            c = layer[OUTPUT] + panel * stride + r * PANEL
            index, value, count = pixels.indices, pixels.values, pixels.lengths[r]
            if left >= GATHER:
                gather_wide(parameters, w, w_panel, index, value, entry, count, parameters, s, workspace, c, stride)
                panel += GATHER
            elif left >= SMALL_GATHER:
                gather_small(parameters, w, w_panel, index, value, entry, count, parameters, s, workspace, c, stride)
                panel += SMALL_GATHER
            else:
                gather_one(parameters, w, w_panel, index, value, entry, count, parameters, s, workspace, c, stride)
                panel += 1
    for panel in range(layer[OUTPUT_PANELS]):
        start = layer[OUTPUT] + panel * stride
        _activate(workspace[start + first * PANEL : start + last * PANEL], layer[ACTIVATION])


@kernel
def _activate(h, activation):
    if activation == RELU:
        for j in range(h.size):
            # NaN is neither below nor above zero and goes through, for the guard to see.
            h[j] = ZERO if h[j] < ZERO else h[j]
    elif activation == TANH:
        for j in range(h.size):
            h[j] = tanh(h[j])


@kernel
def _multiply_by_slope(d_h, h, activation):
    if activation == RELU:
        # h = relu(a) (9)
        for j in range(d_h.size):
            d_h[j] = d_h[j] if h[j] > ZERO else ZERO
    elif activation == TANH:
        # h = tanh(a) (10)
        for j in range(d_h.size):
            d_h[j] = d_h[j] * fma(-h[j], h[j], ONE)
