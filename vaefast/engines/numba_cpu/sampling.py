"""The reparameterised sample and its gradient.

B minibatch, Z latents, padded to panels; r counts rows. A number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ONE, TWO, ZERO, exp, fill, fma
from vaefast.engines.numba_cpu.layers import fold_panel
from vaefast.engines.numba_cpu.noise import fill_normals, fill_words
from vaefast.engines.plan import OUTPUT
from vaefast.layout import PANEL


@kernel
def sample_rows(plan, workspace, seed, purpose, step, examples, row, kl, first, last):
    """z = mean + exp(log_std) * noise (2), and the KL of each row in nats, float64 (4)."""
    stride = plan.rows * PANEL
    heads = plan.layers[plan.heads, OUTPUT]
    noise, divergence = row.noise, row.divergence
    for r in range(first, last):
        fill_words(seed, purpose, step, examples[r], noise.size, row.latent_words)
        fill_normals(row.latent_words, noise)
        fill(divergence, ZERO)
        for panel in range(plan.latent_panels):
            place = panel * stride + r * PANEL
            mean = workspace[heads + place : heads + place + PANEL]
            shift = heads + plan.latent_panels * stride + place
            log_std = workspace[shift : shift + PANEL]
            z, std = workspace[plan.z + place : plan.z + place + PANEL], workspace[plan.std + place : plan.std + place + PANEL]
            spread = workspace[plan.spread + place : plan.spread + place + PANEL]
            epsilon = noise[panel * PANEL : (panel + 1) * PANEL]
            for j in range(PANEL):
                std[j] = exp(log_std[j])
                spread[j] = std[j] * epsilon[j]
                z[j] = mean[j] + spread[j]
                divergence[j] += fma(std[j], std[j], mean[j] * mean[j]) - ONE - TWO * log_std[j]
        total = 0.0
        for j in range(PANEL):
            total += np.float64(divergence[j])
        kl[r] = 0.5 * total


@kernel
def sampling_backward(plan, workspace, backward, turn, scale, first, last, half):
    """d_mean (half 0) or d_log_std (half 1) from both parts of d_z; scale is 1 / B."""
    stride, size = plan.rows * PANEL, (last - first) * PANEL
    heads = plan.layers[plan.heads, OUTPUT] + half * plan.latent_panels * stride
    for panel in range(plan.latent_panels):
        shift = panel * stride + first * PANEL
        own = plan.d_z + half * plan.latent_panels * stride + shift
        fold_panel(backward, turn, panel, plan.latent_panels, workspace, own, last - first)
        d_z = workspace[own : own + size]
        # z = mean + exp(log_std) * noise (2); KL = 0.5 * sum(exp(2 log_std) + mean^2 - 1 - 2 log_std) (4)
        if half == 0:
            mean = workspace[heads + shift : heads + shift + size]
            for j in range(size):
                mean[j] = fma(mean[j], scale, d_z[j])  # d_mean (11), in place
        else:
            log_std = workspace[heads + shift : heads + shift + size]
            spread = workspace[plan.spread + shift : plan.spread + shift + size]
            std = workspace[plan.std + shift : plan.std + shift + size]
            for j in range(size):
                log_std[j] = fma(d_z[j], spread[j], fma(std[j], std[j], -ONE) * scale)  # d_log_std (12), in place
