"""log p(x | z) of each row and its gradient, half of the pixels at a time; and the gradient of the Gaussian's x_log_std.

B minibatch, X pixels, padded to panels; r counts rows. A number in parentheses is an equation of DERIVATION.md. Loops run
over all rows of a panel of 16 columns, which lie together, and have no branch and no call, so that LLVM vectorises them.

A likelihood is a *type*, and Numba compiles the entry points for the one that is asked for: with a number to branch on, every
run would compile all of them, which added 2.7 s to a cold start of 17.2 s.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload

from vaefast.engines.numba_cpu.barrier import meet
from vaefast.engines.numba_cpu.blocks import InBlocks, block_rows, blocks_phase, own_gradient
from vaefast.engines.numba_cpu.compiler import AS_KERNELS, kernel
from vaefast.engines.numba_cpu.count_dispersions import dispersion_gradient
from vaefast.engines.numba_cpu.counts import (
    GRADIENT,
    STAGES,
    NegativeBinomial,
    Shares,
    ZeroInflated,
    counts_pass,
    dispersion_offset,
    tabulate_share,
)
from vaefast.engines.numba_cpu.densities import kappa_and_mean, variance
from vaefast.engines.numba_cpu.elementwise import HALF, ONE, TWO, ZERO, copy, exp, exp_of_negative, fill, fma, log
from vaefast.engines.numba_cpu.layers import half_begin, half_end
from vaefast.engines.numba_cpu.objectives import add_squares, square_count
from vaefast.engines.numba_cpu.pixels import place_pixels
from vaefast.engines.numba_cpu.tiles import adam_tile
from vaefast.engines.plan import CHUNK_ROWS, D_OUTPUT, FIRST_PANEL, HALVES, OUTPUT, OWN, PANELS, ROWS
from vaefast.models.layout import PANEL, Layout

# 1 + exp(-|a|) is at most 2, so a float32 holds the product of this many panels' factors: 2^64 < 3.4e38.
FACTORS = 64
# ... and a float64 that of half the lanes' products: (2^64)^8 = 2^512 < 1.8e308.
LANES_A_LOGARITHM = 8
TWO_PI = np.float32(2 * math.pi)


# Likelihoods of counts, and of these the ones that learn a dispersion.
COUNTS = (Shares, NegativeBinomial, ZeroInflated)
DISPERSED = (NegativeBinomial, ZeroInflated)


class Bernoulli(NamedTuple):
    """Pixels that are 0 or 1."""

    pixels: int


class Gaussian(NamedTuple):
    """Real numbers with a learned variance each."""

    x_log_std: int  # offset in the parameters


class ContinuousBernoulli(NamedTuple):
    """Grey levels in [0, 1]."""

    pixels: int


def likelihood_of(layout: Layout) -> Any:
    """The type that stands for a model's likelihood."""
    model = layout.model
    if model.in_blocks:
        return InBlocks(model.pixels)
    if model.likelihood == "negative-binomial":
        kind = ZeroInflated if model.zero_inflation else NegativeBinomial
        return kind(layout.tensors["x_log_dispersion"].panel_offset)
    if model.counts:
        return Shares(model.pixels)
    if model.likelihood == "gaussian":
        return Gaussian(layout.tensors["x_log_std"].panel_offset)
    return (Bernoulli if layout.model.likelihood == "bernoulli" else ContinuousBernoulli)(layout.model.pixels)


def prepare_likelihood(likelihood, plan, parameters, buffers, worker, workers):
    """What every row needs of the likelihood's parameters, this worker's share of it; whether there is any."""


@overload(prepare_likelihood, jit_options=AS_KERNELS)
def _choose_prepare(likelihood, plan, parameters, buffers, worker, workers):
    def dispersed(likelihood, plan, parameters, buffers, worker, workers):
        tabulate_share(likelihood.x_log_dispersion, plan, parameters, buffers.pixels, worker, workers)
        return True

    def nothing(likelihood, plan, parameters, buffers, worker, workers):
        return False

    return dispersed if _kind(likelihood) in DISPERSED else nothing


def likelihood_phase(network, worker, share, parameters, buffers, sparse, scale, log_likelihood, begin, end):
    """log p(x | z) in nats of a worker's share, float64 to log_likelihood[:, begin:end]; outputs become their gradients."""


@overload(likelihood_phase, jit_options=AS_KERNELS)
def _choose_phase(network, worker, share, parameters, buffers, sparse, scale, log_likelihood, begin, end):
    def images(network, worker, share, parameters, buffers, sparse, scale, log_likelihood, begin, end):
        plan, k = network.plan, network.plan.samples
        first, last = share.first * k, share.last * k
        for half in range(share.half_first, share.half_last):
            place_pixels(plan, buffers, sparse, share.first, share.last, half)
            out = log_likelihood[half, begin:end]
            likelihood_rows(network.likelihood, plan, parameters, buffers.workspace, scale, out, first, last, half)

    def counts(network, worker, share, parameters, buffers, sparse, scale, log_likelihood, begin, end):
        plan, k, offset = network.plan, network.plan.samples, dispersion_offset(network.likelihood)
        first, last = share.first * k, share.last * k
        for start in range(first, last, CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, last)
            for stage in range(STAGES):
                if stage > 0:
                    meet(worker.counters, share.meeting, share.partners)
                for half in range(share.half_first, share.half_last):
                    out = log_likelihood[half, begin:end]
                    counts_pass(stage, offset, plan, parameters, buffers, scale, out, start, stop, half)

    def blocks(network, worker, share, parameters, buffers, sparse, scale, log_likelihood, begin, end):
        blocks_phase(network.plan, worker, share, parameters, buffers, scale, log_likelihood, begin, end)

    kind = _kind(network.types[network.fields.index("likelihood")])
    return blocks if kind is InBlocks else counts if kind in COUNTS else images


def place_targets(likelihood, plan, buffers, sparse, rows):
    """x of the first images of the workspace where a forward pass compares the outputs with it."""


@overload(place_targets, jit_options=AS_KERNELS)
def _choose_place(likelihood, plan, buffers, sparse, rows):
    def images(likelihood, plan, buffers, sparse, rows):
        for half in range(HALVES):
            place_pixels(plan, buffers, sparse, 0, rows, half)

    def others(likelihood, plan, buffers, sparse, rows):
        pass  # counts are placed by each pass over the density, tables by `load_table`

    return others if _kind(likelihood) in (*COUNTS, InBlocks) else images


def forward_likelihood(likelihood, plan, parameters, buffers, log_likelihood, begin, rows):
    """log p(x | z) in nats of the first rows of the decoder, float64 to log_likelihood[:, begin : begin + rows].

    What becomes of the outputs is not said.
    """


@overload(forward_likelihood, jit_options=AS_KERNELS)
def _choose_forward(likelihood, plan, parameters, buffers, log_likelihood, begin, rows):
    def images(likelihood, plan, parameters, buffers, log_likelihood, begin, rows):
        for half in range(HALVES):
            out = log_likelihood[half, begin : begin + rows]
            log_likelihood_rows(likelihood, plan, parameters, buffers.workspace, out, 0, rows, half)

    def counts(likelihood, plan, parameters, buffers, log_likelihood, begin, rows):
        offset = dispersion_offset(likelihood)
        for start in range(0, rows, CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, rows)
            for stage in range(GRADIENT):
                for half in range(HALVES):
                    out = log_likelihood[half, begin : begin + rows]
                    counts_pass(stage, offset, plan, parameters, buffers, ONE, out, start, stop, half)

    def blocks(likelihood, plan, parameters, buffers, log_likelihood, begin, rows):
        block_rows(plan, parameters, buffers, ONE, log_likelihood[0, begin : begin + rows], 0, rows, False)
        for q in range(begin, begin + rows):
            log_likelihood[1, q] = 0.0

    kind = _kind(likelihood)
    return blocks if kind is InBlocks else counts if kind in COUNTS else images


def likelihood_rows(likelihood, plan, parameters, workspace, scale, log_likelihood, first, last, half):
    """log p(x | z) of half of the pixels in nats, float64; the decoder's outputs become their gradients; scale is 1 / B."""


@overload(likelihood_rows, jit_options=AS_KERNELS)
def _choose_rows(likelihood, plan, parameters, workspace, scale, log_likelihood, first, last, half):
    def gaussian(likelihood, plan, parameters, workspace, scale, log_likelihood, first, last, half):
        _gaussian_rows(likelihood.x_log_std, plan, parameters, workspace, scale, log_likelihood, first, last, half)

    def continuous_bernoulli(likelihood, plan, parameters, workspace, scale, log_likelihood, first, last, half):
        _continuous_bernoulli_rows(plan, workspace, scale, log_likelihood, first, last, half)

    def bernoulli(likelihood, plan, parameters, workspace, scale, log_likelihood, first, last, half):
        bernoulli_rows(plan, workspace, scale, log_likelihood, first, last, half, True)

    return {Gaussian: gaussian, ContinuousBernoulli: continuous_bernoulli}.get(_kind(likelihood), bernoulli)


def log_likelihood_rows(likelihood, plan, parameters, workspace, log_likelihood, first, last, half):
    """The same log p(x | z) where nobody needs the gradient; what becomes of the outputs is not said."""


@overload(log_likelihood_rows, jit_options=AS_KERNELS)
def _choose_values(likelihood, plan, parameters, workspace, log_likelihood, first, last, half):
    def bernoulli(likelihood, plan, parameters, workspace, log_likelihood, first, last, half):
        bernoulli_rows(plan, workspace, ONE, log_likelihood, first, last, half, False)

    def others(likelihood, plan, parameters, workspace, log_likelihood, first, last, half):
        likelihood_rows(likelihood, plan, parameters, workspace, ONE, log_likelihood, first, last, half)

    return bernoulli if _kind(likelihood) is Bernoulli else others


def update_likelihood(network, weights, workspace, gradient, adam, B, first, last):
    """Adam on the likelihood's own parameters of pixel panels first to last - 1, by the task that has their logits."""


@overload(update_likelihood, jit_options=AS_KERNELS)
def _choose_update(network, weights, workspace, gradient, adam, B, first, last):
    def gaussian(network, weights, workspace, gradient, adam, B, first, last):
        objective, plan, offset = network.objective, network.plan, network.likelihood.x_log_std
        for panel in range(first, last):
            x_log_std_gradient(offset, objective, plan, weights.parameters, workspace, B, panel, gradient)
            adam_tile(gradient, 0, weights, offset + panel * PANEL, 1, adam)

    def dispersed(network, weights, workspace, gradient, adam, B, first, last):
        objective, plan, offset = network.objective, network.plan, network.likelihood.x_log_dispersion
        # Of two outputs a column the first comes first: the panel of a column is updated with that of its rates.
        for output in range(first, last):
            if output % plan.twins == 0:
                panel = output // plan.twins
                dispersion_gradient(offset, objective, plan, weights.parameters, workspace, B, panel, gradient)
                adam_tile(gradient, 0, weights, offset + panel * PANEL, 1, adam)

    def blocks(network, weights, workspace, gradient, adam, B, first, last):
        objective, plan = network.objective, network.plan
        for panel in range(first, last):
            for b in range(plan.blocks.shape[0]):
                own, at = plan.blocks[b, OWN], panel - plan.blocks[b, FIRST_PANEL]
                if own >= 0 and 0 <= at < plan.blocks[b, PANELS]:
                    own_gradient(objective, plan, weights.parameters, workspace, B, b, panel, gradient)
                    adam_tile(gradient, 0, weights, own + at * PANEL, 1, adam)

    def without(network, weights, workspace, gradient, adam, B, first, last):
        pass

    kind = _kind(network.types[network.fields.index("likelihood")])
    if kind is InBlocks:
        return blocks
    return gaussian if kind is Gaussian else dispersed if kind in DISPERSED else without


def _kind(likelihood: Any) -> Any:
    """The named tuple behind a type of Numba's."""
    return likelihood.instance_class


@kernel
def bernoulli_rows(plan, workspace, scale, log_likelihood, first, last, half, gradient):
    """log p(x | z) of half of the pixels (3), nats, float64; with a `gradient` the logits become d_logits (7); scale is 1 / B.

    softplus(a) = max(a, 0) + log(1 + exp(-|a|)). The factors 1 + exp(-|a|) are multiplied over up to 64 panels, then over
    eight lanes in float64, so that one logarithm serves hundreds of pixels.
    """
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride = layer[ROWS] * PANEL
    begin, end, shift = half_begin(layer, half), half_end(layer, half), half * stride
    linear = workspace[plan.linear + shift + first * PANEL : plan.linear + shift + last * PANEL]
    product = workspace[plan.product + shift + first * PANEL : plan.product + shift + last * PANEL]
    fill(linear, ZERO)
    fill(product, ONE)
    for r in range(first, last):
        log_likelihood[r] = 0.0
    for panel in range(begin, end):
        start, stop = panel * stride + first * PANEL, panel * stride + last * PANEL
        a, x = workspace[layer[OUTPUT] + start : layer[OUTPUT] + stop], workspace[plan.target + start : plan.target + stop]
        real = min(PANEL, plan.pixels - panel * PANEL)
        if real == PANEL:
            _bernoulli_panel(a, x, linear, product, scale, gradient)
        else:
            for r in range(last - first):
                row, stop_row = r * PANEL, r * PANEL + real
                _bernoulli_panel(
                    a[row:stop_row], x[row:stop_row], linear[row:stop_row], product[row:stop_row], scale, gradient
                )
        if (panel - begin + 1) % FACTORS == 0:
            _subtract_logarithms(product, log_likelihood[first:last])
            fill(product, ONE)
    _subtract_logarithms(product, log_likelihood[first:last])
    _add_lanes(linear, log_likelihood[first:last])


@kernel
def _bernoulli_panel(a, x, linear, product, scale, gradient):
    if not gradient:
        for j in range(a.size):
            logit = a[j]
            positive = ZERO if logit < ZERO else logit
            linear[j] += fma(x[j], logit, -positive)
            product[j] *= ONE + exp_of_negative(-abs(logit))
        return
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
def _add_lanes(linear, log_likelihood):
    for r in range(log_likelihood.size):
        total = 0.0
        for j in range(PANEL):
            total += np.float64(linear[r * PANEL + j])
        log_likelihood[r] += total


@kernel
def _gaussian_rows(offset, plan, parameters, workspace, scale, log_likelihood, first, last, half):
    """log p(x | z) = -0.5 * sum(log(2 pi v) + (x - a)^2 / v) (18) with v = 1e-4 + exp(2 x_log_std) (17); the means a become
    d_a (19). Padded columns hold a = x = 0 and add nothing but a logarithm, which is left out. offset is that of x_log_std.

    One over the variance is written out for every row, so that the loop over rows and lanes is a plain one.
    """
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride = layer[ROWS] * PANEL
    shift, rows = half * stride, last - first
    linear = workspace[plan.linear + shift + first * PANEL : plan.linear + shift + last * PANEL]
    precision = workspace[plan.product + shift + first * PANEL : plan.product + shift + last * PANEL]
    fill(linear, ZERO)
    logarithms = 0.0
    for panel in range(half_begin(layer, half), half_end(layer, half)):
        x_log_std = parameters[offset + panel * PANEL : offset + (panel + 1) * PANEL]
        real = min(PANEL, plan.pixels - panel * PANEL)
        logarithms += _precisions(x_log_std, real, rows, precision)
        start, stop = panel * stride + first * PANEL, panel * stride + last * PANEL
        a, x = workspace[layer[OUTPUT] + start : layer[OUTPUT] + stop], workspace[plan.target + start : plan.target + stop]
        for j in range(a.size):
            error = a[j] - x[j]
            weighted = error * precision[j]
            linear[j] = fma(error * -HALF, weighted, linear[j])
            # log p(x | z) = -0.5 * sum(log(2 pi v) + (x - a)^2 / v) (18)
            a[j] = weighted * scale  # d_a (19), in place
    for r in range(first, last):
        log_likelihood[r] = -0.5 * logarithms
    _add_lanes(linear, log_likelihood[first:last])


@kernel
def _precisions(x_log_std, real, rows, precision):
    """precision, (rows, 16) = 1 / v of a panel in each row; returns the sum of log(2 pi v) over its real pixels, float64."""
    if rows == 0:
        return 0.0
    head, logarithms = precision[:PANEL], 0.0
    for j in range(PANEL):
        head[j] = TWO_PI * variance(x_log_std[j])
    for j in range(PANEL):
        logarithm = np.float64(log(head[j]))
        logarithms += logarithm if j < real else 0.0
    for j in range(PANEL):
        head[j] = ONE / variance(x_log_std[j])
    for r in range(1, rows):
        copy(head, precision[r * PANEL : (r + 1) * PANEL])
    return logarithms


@kernel
def x_log_std_gradient(offset, objective, plan, parameters, workspace, B, panel, gradient):
    """d_x_log_std of one panel of pixels (20), zero in the padding, from d_a = w (a - x) / v as the rows phase left it
    (19), in which w is what a sample counts for: the sum of w (x - a)^2 / v is v times that of d_a^2 / w, in ascending order.
    """
    layer = plan.layers[plan.layers.shape[0] - 1]
    start, rows = layer[D_OUTPUT] + panel * layer[ROWS] * PANEL, B * plan.samples
    squares, x_log_std = gradient[:PANEL], parameters[offset + panel * PANEL : offset + (panel + 1) * PANEL]
    fill(squares, ZERO)
    for r in range(rows):
        d_a = workspace[start + r * PANEL : start + (r + 1) * PANEL]
        add_squares(objective, d_a, squares, r)
    real, count = min(PANEL, plan.pixels - panel * PANEL), square_count(objective, B)
    for j in range(PANEL):
        v = variance(x_log_std[j])
        slope = exp(TWO * x_log_std[j]) / v
        value = slope * fma(-squares[j] * v, count, ONE)
        squares[j] = value if j < real else ZERO


@kernel
def _continuous_bernoulli_rows(plan, workspace, scale, log_likelihood, first, last, half):
    """log p(x | z) = sum(x * a - kappa(a)) (21); logits become d_logits (25)."""
    layer = plan.layers[plan.layers.shape[0] - 1]
    stride = layer[ROWS] * PANEL
    shift = half * stride
    linear = workspace[plan.linear + shift + first * PANEL : plan.linear + shift + last * PANEL]
    fill(linear, ZERO)
    for panel in range(half_begin(layer, half), half_end(layer, half)):
        start, stop = panel * stride + first * PANEL, panel * stride + last * PANEL
        a, x = workspace[layer[OUTPUT] + start : layer[OUTPUT] + stop], workspace[plan.target + start : plan.target + stop]
        real = min(PANEL, plan.pixels - panel * PANEL)
        if real == PANEL:
            _continuous_bernoulli_panel(a, x, linear, scale)
        else:
            for r in range(last - first):
                row = r * PANEL
                _continuous_bernoulli_panel(a[row : row + real], x[row : row + real], linear[row : row + real], scale)
    for r in range(first, last):
        log_likelihood[r] = 0.0
    _add_lanes(linear, log_likelihood[first:last])


@kernel
def _continuous_bernoulli_panel(a, x, linear, scale):
    for j in range(a.size):
        logit = a[j]
        kappa, mean = kappa_and_mean(logit)
        linear[j] += fma(x[j], logit, -kappa)
        # log p(x | z) = sum(x * a - kappa(a)) (21)
        a[j] = (mean - x[j]) * scale  # d_logits (25), in place
