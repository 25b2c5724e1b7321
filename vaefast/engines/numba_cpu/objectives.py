"""The differences between objectives in a step: the weight of a sample, and how the KL divergence enters the gradient.

B minibatch, k samples of the latents an image, Z latents, padded to panels; r counts images, q = k r + s samples. A number in
parentheses is an equation of DERIVATION.md. An objective is a *type* of `engines/credit.py`, as a likelihood is one of
`likelihoods.py`: a run compiles the one that it has.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.extending import overload

from vaefast.engines.credit import SAMPLED, SMALLEST_WEIGHT, FreeBits, Weighted
from vaefast.engines.numba_cpu.barrier import meet, meet_all
from vaefast.engines.numba_cpu.compiler import AS_KERNELS, kernel
from vaefast.engines.numba_cpu.elementwise import HALF, ONE, ZERO, fill, fma
from vaefast.engines.numba_cpu.layers import half_begin, half_end
from vaefast.engines.numba_cpu.posterior import bounded, twice_divergence
from vaefast.engines.plan import D_OUTPUT, OUTPUT, ROWS
from vaefast.models.layout import PANEL


def kind_of(objective: Any) -> Any:
    """The named tuple behind a type of Numba's."""
    return objective.instance_class


# --- Forward: what an objective keeps of the samples


def keep_kl(objective, plan, workspace, r):
    """After the heads of image r: keep the terms of its KL divergence."""


@overload(keep_kl, jit_options=AS_KERNELS)
def _choose_keep_kl(objective, plan, workspace, r):
    def free_bits(objective, plan, workspace, r):
        _keep_latent_kl(objective.kl, plan, workspace, r)

    def others(objective, plan, workspace, r):
        pass

    return free_bits if kind_of(objective) is FreeBits else others


@kernel
def _keep_latent_kl(kl, plan, workspace, r):
    """KL of each latent, the summands of (4)."""
    stride, heads, width = plan.rows * PANEL, plan.layers[plan.heads, OUTPUT], plan.latent_panels * PANEL
    for panel in range(plan.latent_panels):
        place = panel * stride + r * PANEL
        shift = heads + plan.latent_panels * stride + place
        mean, log_std = workspace[heads + place : heads + place + PANEL], workspace[shift : shift + PANEL]
        std = workspace[plan.std + place : plan.std + place + PANEL]
        out = kl[r * width + panel * PANEL : r * width + (panel + 1) * PANEL]
        for j in range(PANEL):
            out[j] = HALF * twice_divergence(mean[j], log_std[j], std[j])


def keep_sample(objective, plan, workspace, noise, lanes, ratio, r, s, place):
    """After sample s of image r: what is needed of log p(z) - log q(z | x), to ratio[place]."""


@overload(keep_sample, jit_options=AS_KERNELS)
def _choose_keep_sample(objective, plan, workspace, noise, lanes, ratio, r, s, place):
    def weighted(objective, plan, workspace, noise, lanes, ratio, r, s, place):
        ratio[place] = log_ratio(plan, workspace, noise, lanes, r, s)

    def others(objective, plan, workspace, noise, lanes, ratio, r, s, place):
        pass

    return weighted if kind_of(objective) is Weighted else others


@kernel
def log_ratio(plan, workspace, noise, lanes, r, s):
    """log p(z) - log q(z | x) = sum(0.5 * (noise^2 - z^2) + c) (30), nats; padded latents have z = noise and add 0."""
    stride = plan.rows * PANEL
    heads = plan.layers[plan.heads, OUTPUT] + plan.latent_panels * stride
    fill(lanes, ZERO)
    for panel in range(plan.latent_panels):
        place = panel * plan.samples * stride + (r * plan.samples + s) * PANEL
        shift = heads + panel * stride + r * PANEL
        z, log_std = workspace[plan.z + place : plan.z + place + PANEL], workspace[shift : shift + PANEL]
        epsilon = noise[panel * PANEL : (panel + 1) * PANEL]
        for j in range(PANEL):
            lanes[j] += fma(HALF, fma(epsilon[j], epsilon[j], -(z[j] * z[j])), bounded(log_std[j]))
    total = 0.0
    for j in range(PANEL):
        total += np.float64(lanes[j])
    return total


# --- Between the two networks' passes: what each sample and each latent counts for


def is_weighted(objective):
    """Whether samples are weighted by their importance."""


@overload(is_weighted, jit_options=AS_KERNELS)
def _choose_is_weighted(objective):
    def weighted(objective):
        return objective.weighting != SAMPLED

    def others(objective):
        return False

    return weighted if kind_of(objective) is Weighted else others


@kernel
def output_scale(objective, B):
    """What the gradient of log p(x | z) is multiplied by where it is made: 1 / (B k), or 1 / B before weights come to it."""
    return np.float32(1.0 / B if is_weighted(objective) else 1.0 / (B * objective.samples))


def settle(objective, plan, worker, share, buffers, minibatch, terms):
    """After the likelihood and before the backward pass: the weights of the samples, or the factors of each latent's KL."""


@overload(settle, jit_options=AS_KERNELS)
def _choose_settle(objective, plan, worker, share, buffers, minibatch, terms):
    def averaged(objective, plan, worker, share, buffers, minibatch, terms):
        fill(buffers.row.kl_scales, np.float32(1.0 / minibatch.size) * minibatch.kl_weight)

    def free_bits(objective, plan, worker, share, buffers, minibatch, terms):
        meet_all(worker)
        floor = _pay_latents(objective, plan, buffers.row.kl_scales, minibatch.size)
        terms.floor[minibatch.number] = floor

    def weighted(objective, plan, worker, share, buffers, minibatch, terms):
        if objective.weighting != SAMPLED:
            meet(worker.counters, share.meeting, share.partners)
            _weigh_samples(objective, terms, minibatch.begin, share.own_first, share.own_last)
            meet(worker.counters, share.meeting, share.partners)
            for half in range(share.half_first, share.half_last):
                _weigh_outputs(objective, plan, buffers.workspace, share.first, share.last, half)

    return {FreeBits: free_bits, Weighted: weighted}.get(kind_of(objective), averaged)


@kernel
def _pay_latents(objective, plan, kl_scales, B):
    """kl_scales, (padded Z,): 1 / B for a latent whose mean KL is above its free nats, else 0 (29); returns the sum of what
    they count for. Every worker adds all B rows in the same order."""
    width, fraction = plan.latent_panels * PANEL, np.float32(1.0 / B)
    total = 0.0
    fill(kl_scales, ZERO)
    for r in range(B):
        kl = objective.kl[r * width : (r + 1) * width]
        for j in range(width):
            kl_scales[j] += kl[j]
    for j in range(plan.latent):
        mean = np.float64(kl_scales[j]) / B
        # NaN is not at most the free nats, and goes on into the gradient.
        total += objective.free_nats if mean <= objective.free_nats else mean
        kl_scales[j] = ZERO if mean <= objective.free_nats else fraction
    return total


@kernel
def _weigh_samples(objective, terms, begin, first, last):
    """Each weight w over the sum of its image's k (32), relative to the largest: nothing overflows."""
    k = objective.samples
    for r in range(first, last):
        place, largest = (begin + r) * k, -math.inf
        for q in range(place, place + k):
            largest = max(largest, _log_weight(terms, q))
        total = 0.0
        for q in range(place, place + k):
            total += math.exp(_log_weight(terms, q) - largest)
        for s in range(k):
            weight = math.exp(_log_weight(terms, place + s) - largest) / total
            objective.weights[r * k + s] = weight
            objective.inverses[r * k + s] = 1.0 / weight if weight > SMALLEST_WEIGHT else 0.0


@kernel
def _log_weight(terms, q):
    """log w = log p(x | z) + log p(z) - log q(z | x) (30)."""
    return terms.log_likelihood[0, q] + terms.log_likelihood[1, q] + terms.ratio[q]


@kernel
def _weigh_outputs(objective, plan, workspace, first, last, half):
    """d_logits of each sample times its weight (33), in place."""
    layer = plan.layers[plan.layers.shape[0] - 1]
    begin, end = first * objective.samples, last * objective.samples
    for panel in range(half_begin(layer, half), half_end(layer, half)):
        start = layer[D_OUTPUT] + panel * layer[ROWS] * PANEL
        for q in range(begin, end):
            d_logits, weight = workspace[start + q * PANEL : start + (q + 1) * PANEL], objective.weights[q]
            for j in range(PANEL):
                d_logits[j] *= weight


# --- The weights phase: what a Gaussian likelihood's x_log_std needs of the gradients of its means


def add_squares(objective, d_a, squares, q):
    """squares += d_a^2 over what sample q counts for, relative to the others; both one panel."""


@overload(add_squares, jit_options=AS_KERNELS)
def _choose_add_squares(objective, d_a, squares, q):
    def weighted(objective, d_a, squares, q):
        inverse = objective.inverses[q]
        for j in range(PANEL):
            squares[j] = fma(d_a[j] * inverse, d_a[j], squares[j])

    def alike(objective, d_a, squares, q):
        for j in range(PANEL):
            squares[j] = fma(d_a[j], d_a[j], squares[j])

    return weighted if kind_of(objective) is Weighted else alike


def sample_weight(objective, q):
    """What sample q counts for beside what its gradient was scaled with."""


@overload(sample_weight, jit_options=AS_KERNELS)
def _choose_sample_weight(objective, q):
    def weighted(objective, q):
        return objective.weights[q] if objective.weighting != SAMPLED else ONE

    def alike(objective, q):
        return ONE

    return weighted if kind_of(objective) is Weighted else alike


@kernel
def square_count(objective, B):
    """One over what a sample of weight 1 counts for in the loss."""
    return np.float32(B if is_weighted(objective) else B * objective.samples)


@kernel
def add_weighted_rows(objective, workspace, start, rows, total):
    """total, (16,), becomes the sum of the rows of 16 from start on in ascending order, each times its sample's weight."""
    fill(total, ZERO)
    for q in range(rows):
        row, weight = workspace[start + q * PANEL : start + (q + 1) * PANEL], sample_weight(objective, q)
        for j in range(PANEL):
            total[j] = fma(row[j], weight, total[j])
