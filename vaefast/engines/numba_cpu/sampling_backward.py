"""Backward through the sampling of the latents, from the gradients of the samples to those of the heads.

B minibatch, k samples of the latents an image, Z latents, padded to panels; r counts images, q = k r + s samples. A number in
parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

import numpy as np
from numba.extending import overload

from vaefast.engines.credit import DREG, Weighted
from vaefast.engines.numba_cpu.compiler import AS_KERNELS, kernel
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, fma
from vaefast.engines.numba_cpu.layers import fold_panel
from vaefast.engines.numba_cpu.objectives import kind_of
from vaefast.engines.numba_cpu.posterior import moving
from vaefast.engines.plan import OUTPUT
from vaefast.models.layout import PANEL


def sampling_backward(objective, plan, workspace, backward, turn, row, first, last, half, B):
    """d_mean (half 0) or d_log_std (half 1) of images first to last - 1 from both parts of d_z of their samples."""


@overload(sampling_backward, jit_options=AS_KERNELS)
def _choose_sampling_backward(objective, plan, workspace, backward, turn, row, first, last, half, B):
    def weighted(objective, plan, workspace, backward, turn, row, first, last, half, B):
        _weighted_backward(objective, plan, workspace, backward, turn, first, last, half, np.float32(1.0 / B))

    def closed(objective, plan, workspace, backward, turn, row, first, last, half, B):
        _closed_backward(plan, workspace, backward, turn, row.kl_scales, first, last, half)

    return weighted if kind_of(objective) is Weighted else closed


@kernel
def _folded_d_z(plan, workspace, backward, turn, panel, first, last, half):
    """Where a panel of d_z of the samples of these images now lies, (rows k, 16): this half's own copy."""
    k, stride = plan.samples, plan.samples * plan.rows * PANEL
    own = plan.d_z + (half * plan.latent_panels + panel) * stride + first * k * PANEL
    rows = (last - first) * k
    fold_panel(backward, turn, panel, plan.z_panels, workspace, own, rows)
    if plan.covariates > 0 and panel == plan.latent_panels - 1:
        # What follows the last latent is the gradient of covariates, which nothing comes before.
        for q in range(rows):
            for j in range(plan.latent - panel * PANEL, PANEL):
                workspace[own + q * PANEL + j] = ZERO
    return own


@kernel
def _closed_backward(plan, workspace, backward, turn, kl_scales, first, last, half):
    """kl_scales: what each latent's KL divergence counts for, 1 / B for the ELBO."""
    k, stride = plan.samples, plan.rows * PANEL
    heads = plan.layers[plan.heads, OUTPUT] + half * plan.latent_panels * stride
    for panel in range(plan.latent_panels):
        own = _folded_d_z(plan, workspace, backward, turn, panel, first, last, half)
        spreads = plan.spread + panel * k * stride + first * k * PANEL
        scale = kl_scales[panel * PANEL : (panel + 1) * PANEL]
        for r in range(first, last):
            place, q = panel * stride + r * PANEL, (r - first) * k * PANEL
            head, std = (
                workspace[heads + place : heads + place + PANEL],
                workspace[plan.std + place : plan.std + place + PANEL],
            )
            # z = mean + exp(c) * noise (2); KL = 0.5 * sum(exp(2 c) + mean^2 - 1 - 2 c), with its tangents beyond (44)
            if half == 1:
                for j in range(PANEL):
                    head[j] = fma(std[j], std[j], -ONE) * scale[j]
            for s in range(k):
                sample = q + s * PANEL
                d_z = workspace[own + sample : own + sample + PANEL]
                spread = workspace[spreads + sample : spreads + sample + PANEL]
                if half == 1:
                    for j in range(PANEL):
                        head[j] = fma(d_z[j], moving(std[j], spread[j]), head[j])  # d_log_std (12), in place
                elif s == 0:
                    for j in range(PANEL):
                        head[j] = fma(head[j], scale[j], d_z[j])  # d_mean (11), in place
                else:
                    for j in range(PANEL):
                        head[j] += d_z[j]


@kernel
def _weighted_backward(objective, plan, workspace, backward, turn, first, last, half, scale):
    """scale is 1 / B."""
    k, stride = plan.samples, plan.rows * PANEL
    heads = plan.layers[plan.heads, OUTPUT] + half * plan.latent_panels * stride
    doubly = objective.weighting == DREG
    for panel in range(plan.latent_panels):
        own = _folded_d_z(plan, workspace, backward, turn, panel, first, last, half)
        samples = panel * k * stride + first * k * PANEL
        for r in range(first, last):
            place, q = panel * stride + r * PANEL, (r - first) * k * PANEL
            head, std = (
                workspace[heads + place : heads + place + PANEL],
                workspace[plan.std + place : plan.std + place + PANEL],
            )
            # log w = log p(x | z) + 0.5 * sum(noise^2 - z^2) + sum(c) (30)
            for j in range(PANEL):
                head[j] = moving(std[j], -scale) if half == 1 and not doubly else ZERO
            for s in range(k):
                sample, weight = q + s * PANEL, objective.weights[r * k + s]
                d_z = workspace[own + sample : own + sample + PANEL]
                shift = samples + sample
                z = workspace[plan.z + shift : plan.z + shift + PANEL]
                spread = workspace[plan.spread + shift : plan.spread + shift + PANEL]
                share = weight * scale
                if doubly:
                    for j in range(PANEL):
                        # noise / std = spread / std^2; d_z (36)
                        d_z[j] = weight * fma(share, z[j] - spread[j] / std[j] / std[j], d_z[j])
                else:
                    for j in range(PANEL):
                        d_z[j] = fma(share, z[j], d_z[j])  # d_z (34)
                if half == 0:
                    for j in range(PANEL):
                        head[j] += d_z[j]  # d_mean (35), in place
                else:
                    for j in range(PANEL):
                        head[j] = fma(d_z[j], moving(std[j], spread[j]), head[j])  # d_log_std (35), in place
            # Padded latents have z = noise, and would learn.
            for j in range(plan.latent - panel * PANEL, PANEL):
                head[j] = ZERO
