"""What the decoder's output means under each likelihood, in NumPy: the mean of p(x | z), and draws from it.

A number in parentheses is an equation of DERIVATION.md. Shapes: outputs a (..., X), x_log_std (X,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaefast.models.counts import mean_shares
from vaefast.models.settings import COUNT_LIKELIHOODS, SMALLEST_VARIANCE

Array = NDArray[np.floating]

# Below this magnitude of the logit the mean of a continuous Bernoulli comes from its series (24), whose first term left out
# is under 2e-15 there; above it the closed form loses three bits at most.
SERIES_BELOW = 0.5
SERIES = (1 / 12, -1 / 720, 1 / 30_240, -1 / 1_209_600, 1 / 47_900_160, -691 / 1_307_674_368_000)


def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)) without overflow."""
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1, e) / (1 + e)


def continuous_bernoulli_mean(a: Array) -> Array:
    """The mean of a continuous Bernoulli with logit a, 1 / (1 - exp(-a)) - 1 / a (23), by its series (24) near zero."""
    u = np.abs(a)
    large = np.where(u < SERIES_BELOW, 1, u)
    # The mean at -a is one minus that at a, so that no exponential overflows.
    above = 1 / -np.expm1(-large) - 1 / large
    mean = np.where(a < 0, 1 - above, above)
    small = np.where(u < SERIES_BELOW, a, 0)
    square, series = small * small, 0 * small
    for coefficient in reversed(SERIES):
        series = series * square + coefficient
    return np.where(u < SERIES_BELOW, 0.5 + small * series, mean)


def expectation(likelihood: str, outputs: Array, zero_inflation: bool = False) -> Array:
    """The mean of p(x | z) of each pixel: a probability, a mean, a mean grey level; of counts that of a row of size 1.

    In the shape of the outputs, but (N, X) where they are more: with zero inflation (N, 2 X), the zero_logits behind the
    logits, and of a Student-t (N, 3 X).
    """
    if likelihood in COUNT_LIKELIHOODS:
        return mean_shares(outputs, zero_inflation)
    if likelihood == "bernoulli":
        return sigmoid(outputs)
    if likelihood == "student-t":
        return outputs[:, : outputs.shape[1] // 3]  # behind the locations come scales and degrees of freedom
    return outputs if likelihood == "gaussian" else continuous_bernoulli_mean(outputs)


def x_variance(x_log_std: Array) -> Array:
    """The variance of each pixel under a Gaussian likelihood, (X,), eq. (17)."""
    return SMALLEST_VARIANCE + np.exp(2 * x_log_std)


def draw(likelihood: str, outputs: Array, x_log_std: Array | None, generator: np.random.RandomState) -> Array:
    """One draw x from p(x | z) for each pixel, float64, in the shape of the outputs."""
    if likelihood == "gaussian":
        assert x_log_std is not None
        return outputs + np.sqrt(x_variance(x_log_std)) * generator.standard_normal(outputs.shape)
    uniforms = generator.random_sample(outputs.shape)
    if likelihood == "bernoulli":
        return (uniforms < sigmoid(outputs)).astype(np.float64)
    return _continuous_bernoulli_quantile(outputs.astype(np.float64), uniforms)


def _continuous_bernoulli_quantile(a: Array, uniforms: Array) -> Array:
    """The x below which the share `uniforms` of a continuous Bernoulli lies, log(1 + u (exp(a) - 1)) / a."""
    # x at (-a, 1 - u) is one minus that at (a, u), so that the exponential stays below one.
    share, exponent = np.where(a > 0, 1 - uniforms, uniforms), -np.abs(a)
    safe = np.where(exponent == 0, -1, exponent)
    x = np.where(exponent == 0, share, np.log1p(share * np.expm1(safe)) / safe)
    return np.clip(np.where(a > 0, 1 - x, x), 0, 1)
