"""log p(x | z) of each row and its gradient, half of the pixels at a time.

B minibatch, X pixels, padded to panels; r counts rows. A number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.elementwise import ONE, ZERO, exp_of_negative, fill, fma
from vaefast.engines.numba_cpu.layers import half_begin, half_end
from vaefast.engines.plan import OUTPUT
from vaefast.layout import PANEL

# 1 + exp(-|a|) is at most 2, so a float32 holds the product of this many panels' factors: 2^64 < 3.4e38.
FACTORS = 64
# ... and a float64 that of half the lanes' products: (2^64)^8 = 2^512 < 1.8e308.
LANES_A_LOGARITHM = 8


@kernel
def bernoulli_rows(plan, workspace, scale, log_likelihood, first, last, half):
    """log p(x | z) of half of the pixels (3), nats, float64; logits become d_logits (7); scale is 1 / B.

    softplus(a) = max(a, 0) + log(1 + exp(-|a|)). The factors 1 + exp(-|a|) are multiplied over up to 64 panels, then over
    eight lanes in float64, so that one logarithm serves hundreds of pixels.
    """
    layer, stride = plan.layers[plan.layers.shape[0] - 1], plan.rows * PANEL
    begin, end, shift = half_begin(layer, half), half_end(layer, half), half * stride
    linear = workspace[plan.linear + shift + first * PANEL : plan.linear + shift + last * PANEL]
    product = workspace[plan.product + shift + first * PANEL : plan.product + shift + last * PANEL]
    fill(linear, ZERO)
    fill(product, ONE)
    for r in range(first, last):
        log_likelihood[r] = 0.0
    for panel in range(begin, end):
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
        if (panel - begin + 1) % FACTORS == 0:
            _subtract_logarithms(product, log_likelihood[first:last])
            fill(product, ONE)
    _subtract_logarithms(product, log_likelihood[first:last])
    for r in range(first, last):
        total = 0.0
        for j in range(PANEL):
            total += np.float64(linear[(r - first) * PANEL + j])
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
