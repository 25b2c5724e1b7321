"""Likelihoods of whole counts, in NumPy and any float dtype: log-densities, their slopes, draws. The specification.

Dimensions: B rows, X columns. A number in parentheses is an equation of DERIVATION.md, section 13. Shapes: counts x, outputs a
and, with zero inflation, zero_logits h, (B, X); size, (B, 1): what a row's rates add up to, its total count where nothing else
is said; t = x_log_dispersion, (X,). Everything is in nats.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.models.settings import LOG_DISPERSION_BOUNDS
from vaefast.models.special import digamma, log_gamma

Array = NDArray[np.floating]


class Slopes(NamedTuple):
    """Gradients of log p(x | z) of each row, (B, X) each."""

    outputs: Array
    x_log_dispersion: Array | None = None  # of each row: those of all rows add up
    zero_logits: Array | None = None


def log_shares(a: Array) -> Array:
    """log softmax(a) over the columns (45)."""
    shifted = a - a.max(axis=1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))


def dispersion(t: Array) -> Array:
    """theta = exp(t), with t held between its bounds (47)."""
    return np.exp(np.clip(t, *LOG_DISPERSION_BOUNDS))


def log_rising(x: Array, theta: Array) -> Array:
    """log of theta (theta + 1) ... (theta + x - 1) / theta^x, in the type of x (47).

    In float64 whatever the type: it is a difference of two large numbers.
    """
    x64, theta64 = x.astype(np.float64), theta.astype(np.float64)
    return (log_gamma(x64 + theta64) - log_gamma(theta64) - x64 * np.log(theta64)).astype(x.dtype)


def rising_slope(x: Array, theta: Array) -> Array:
    """theta times the sum of 1 / (theta + k) over k < x, in the type of x: theta (digamma(x + theta) - digamma(theta))."""
    x64, theta64 = x.astype(np.float64), theta.astype(np.float64)
    return (theta64 * (digamma(x64 + theta64) - digamma(theta64))).astype(x.dtype)


def _log_factorial(x: Array) -> Array:
    return log_gamma(x.astype(np.float64) + 1).astype(x.dtype)


def _softplus(a: Array) -> Array:
    return np.logaddexp(0, a)


def _sigmoid(a: Array) -> Array:
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1, e) / (1 + e)


def log_likelihood_terms(
    x: Array, size: Array, a: Array, likelihood: str, t: Array | None = None, h: Array | None = None
) -> Array:
    """log p(x_j | z) of each count, (B, X).

    The coefficient of a multinomial belongs to a row, not to a column: each count takes its share of it.
    """
    if likelihood == "negative-binomial":
        assert t is not None
        return _negative_binomial_terms(x, size, a, t, h)
    log_s = log_shares(a)
    if likelihood == "poisson":
        mu = size * np.exp(log_s)
        return _log_power(x, size, log_s) - mu - _log_factorial(x)  #                                           (50)
    total = x.sum(axis=1, keepdims=True)
    coefficient = _log_factorial(total) * x / np.where(total > 0, total, 1)
    return x * log_s + coefficient - _log_factorial(x)  #                                                       (51)


def _log_power(x: Array, size: Array, log_s: Array) -> Array:
    """x log mu = x (log size + log s); where x is 0, so is it, whatever the size."""
    return x * (np.log(np.where(size > 0, size, 1)) + log_s)


def _negative_binomial_terms(x: Array, size: Array, a: Array, t: Array, h: Array | None) -> Array:
    """log NB(x; mu, theta) (46), (48); with zero inflation (49)."""
    theta, log_s = dispersion(t), log_shares(a)
    mu = size * np.exp(log_s)
    more = np.log1p(mu / theta)
    terms = _log_power(x, size, log_s) - (x + theta) * more + log_rising(x, theta) - _log_factorial(x)
    if h is None:
        return terms
    return np.where(x > 0, terms, _softplus(terms - h) + h) - _softplus(h)


def slopes(x: Array, size: Array, a: Array, likelihood: str, t: Array | None = None, h: Array | None = None) -> Slopes:
    """The gradient of log p(x | z) of each row with respect to what it depends on."""
    s = np.exp(log_shares(a))
    if likelihood != "negative-binomial":
        return Slopes(x - s * x.sum(axis=1, keepdims=True))  #                                               (52)
    assert t is not None
    theta, mu = dispersion(t), size * s
    g = (x - mu) / (1 + mu / theta)  #                                                                       (53)
    d_t = rising_slope(x, theta) - theta * np.log1p(mu / theta) - g  #                                       (55)
    d_h = None
    if h is not None:
        u = -theta * np.log1p(mu / theta)
        w = np.where(x > 0, 1, _sigmoid(u - h))
        g, d_t = w * g, w * d_t
        d_h = np.where(x > 0, -_sigmoid(h), _sigmoid(-h) - w)  #                                             (56)
    return Slopes(g - s * g.sum(axis=1, keepdims=True), d_t, d_h)  #                                         (54)


def held_dispersion_gradient(gradient: Array, t: Array) -> Array:
    """The loss's gradient of x_log_dispersion, (X,): zero where a step would lead further out of its bounds."""
    low, high = LOG_DISPERSION_BOUNDS
    outward = ((t <= low) & (gradient > 0)) | ((t >= high) & (gradient < 0))
    return np.where(outward, 0, gradient)


def seen(x: Array, encoder_input: str) -> Array:
    """What the encoder sees of counts, (B, X)."""
    if encoder_input == "log1p":
        return np.log1p(x)
    if encoder_input == "l2":
        norm = np.sqrt(np.sum(x.astype(np.float64) ** 2, axis=1, keepdims=True)).astype(x.dtype)
        return x / np.where(norm > 0, norm, 1)
    return x


def with_dropout(seen: Array, kept: NDArray[np.bool_], share: float) -> Array:
    """What the encoder sees in a step of training with this input dropout, (B, X) (57).

    Source: Srivastava et al. (2014), section 4, scaled in training as in Liang et al. (2018).
    """
    return np.where(kept, seen / seen.dtype.type(1 - share), 0)


def mean_shares(outputs: Array, zero_inflation: bool = False) -> Array:
    """Mean counts of rows of size 1, (N, X), from what the decoder says: shares, times the probability of no other zero.

    With zero inflation the outputs are (N, 2 X), the zero_logits behind the logits.
    """
    if not zero_inflation:
        return np.exp(log_shares(outputs))
    a, h = np.split(outputs, 2, axis=1)
    return np.exp(log_shares(a)) * _sigmoid(-h)


def log_mean_shares(outputs: Array, zero_inflation: bool = False) -> Array:
    """The logarithm of `mean_shares`, (N, X), which is finite however small a share is."""
    if not zero_inflation:
        return log_shares(outputs)
    a, h = np.split(outputs, 2, axis=1)
    return log_shares(a) - _softplus(h)


def draw(
    outputs: Array,
    size: NDArray[np.int64],
    likelihood: str,
    generator: np.random.RandomState,
    t: Array | None = None,
    zero_inflation: bool = False,
) -> NDArray[np.int64]:
    """One draw x from p(x | z), int64 (N, X), for outputs as `mean_shares` takes them and rows of these sizes, (N,).

    A negative binomial is a Poisson whose rate is drawn from a gamma distribution.
    """
    a, h = np.split(outputs, 2, axis=1) if zero_inflation else (outputs, None)
    shares = np.exp(log_shares(a.astype(np.float64)))
    if likelihood == "multinomial":
        rows = [generator.multinomial(total, row / row.sum()) for total, row in zip(size, shares, strict=True)]
        return np.stack(rows).astype(np.int64)
    rates: NDArray[Any] = size[:, None] * shares
    if t is not None:
        theta = dispersion(t.astype(np.float64))
        rates = generator.gamma(np.broadcast_to(theta, rates.shape), rates / theta)
    drawn: NDArray[np.int64] = generator.poisson(rates).astype(np.int64)
    if h is not None:
        drawn[generator.random_sample(drawn.shape) < _sigmoid(h)] = 0
    return drawn
