"""The reparameterised samples and the KL divergence in closed form.

Z latents, padded to panels; r counts images, s the k samples of each. A number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ZERO, fill
from vaefast.engines.numba_cpu.noise import fill_normals, fill_words
from vaefast.engines.numba_cpu.objectives import keep_kl, keep_sample
from vaefast.engines.numba_cpu.pixels import place_covariates
from vaefast.engines.numba_cpu.posterior import deviation, twice_divergence
from vaefast.engines.plan import OUTPUT
from vaefast.models.layout import PANEL

# Where the number of a sample stands beside the purpose in the noise's counter.
SAMPLE_SHIFT = 16


@kernel
def sample_rows(network, buffers, examples, minibatch, terms, first, last):
    """For images first to last - 1 of a minibatch: std, the KL in nats, float64 (4), and z of each sample (2).

    The samples of an image draw their noise under its example's key; `terms` takes what the objective keeps of them.
    """
    plan, objective, workspace, row = network.plan, network.objective, buffers.workspace, buffers.row
    seed, purpose = examples.randomness.seed, examples.randomness.latents
    k = plan.samples
    for r in range(first, last):
        example = minibatch.begin + r
        key = examples.keys[example]
        terms.kl[example] = spread_out(plan, workspace, row.lanes, r)
        keep_kl(objective, plan, workspace, r)
        for s in range(k):
            fill_words(seed, purpose + (s << SAMPLE_SHIFT), minibatch.step, key, row.noise.size, row.latent_words)
            fill_normals(row.latent_words, row.noise)
            draw_sample(plan, workspace, row.noise, r, s)
            keep_sample(objective, plan, workspace, row.noise, row.lanes, terms.ratio, r, s, example * k + s)
            tell_decoder(plan, examples, examples.order[example], workspace, r * k + s)


@kernel
def tell_decoder(plan, examples, example, workspace, q):
    """The covariates of an example behind z in row q, after the last draw of z, which fills whole panels."""
    place_covariates(plan, examples.covariates, example, workspace, plan.z, plan.samples * plan.rows, q, plan.latent)


@kernel
def spread_out(plan, workspace, lanes, r):
    """std = exp(c) of image r (43), and its KL in nats, float64 (4)."""
    stride, heads = plan.rows * PANEL, plan.layers[plan.heads, OUTPUT]
    fill(lanes, ZERO)
    for panel in range(plan.latent_panels):
        place = panel * stride + r * PANEL
        shift = heads + plan.latent_panels * stride + place
        mean, log_std = workspace[heads + place : heads + place + PANEL], workspace[shift : shift + PANEL]
        std = workspace[plan.std + place : plan.std + place + PANEL]
        for j in range(PANEL):
            std[j] = deviation(log_std[j])
            lanes[j] += twice_divergence(mean[j], log_std[j], std[j])
    total = 0.0
    for j in range(PANEL):
        total += np.float64(lanes[j])
    return 0.5 * total


@kernel
def draw_sample(plan, workspace, noise, r, s):
    """z = mean + std * noise (2) of sample s of image r."""
    k, stride, heads = plan.samples, plan.rows * PANEL, plan.layers[plan.heads, OUTPUT]
    for panel in range(plan.latent_panels):
        place, q = panel * stride + r * PANEL, panel * k * stride + (r * k + s) * PANEL
        mean = workspace[heads + place : heads + place + PANEL]
        std = workspace[plan.std + place : plan.std + place + PANEL]
        z, spread = workspace[plan.z + q : plan.z + q + PANEL], workspace[plan.spread + q : plan.spread + q + PANEL]
        epsilon = noise[panel * PANEL : (panel + 1) * PANEL]
        for j in range(PANEL):
            spread[j] = std[j] * epsilon[j]
            z[j] = mean[j] + spread[j]
