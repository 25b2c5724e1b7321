"""Columns in blocks of one kind each, any of whose values may be missing: log-densities, slopes, means, draws, in NumPy.

The specification, in any float dtype. A number in parentheses is an equation of DERIVATION.md, section 14. Shapes: B rows, X
columns, O outputs of the decoder; x is (B, X), NaN where a value was not observed; outputs are (B, O): first one for each
column, then the scales and the degrees of freedom of columns with heavy tails. Everything is in nats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.models import likelihoods
from vaefast.models.columns import Block, Blocks
from vaefast.models.counts import dispersion, held_dispersion_gradient, log_rising, rising_slope
from vaefast.models.likelihoods import continuous_bernoulli_mean, sigmoid, x_variance
from vaefast.models.special import digamma, log_gamma

Array = NDArray[np.floating]

# Below these no scale and no degrees of freedom of a Student-t lie (Mattei & Frellsen 2019, their published code).
SMALLEST_SCALE, SMALLEST_FREEDOM = 1e-3, 3.0


def observed_zeros(x: Array, blocks: Blocks) -> Array:
    """What the encoder sees of x, (B, X): zero where nothing was observed, and of counts log(1 + x) (61)."""
    seen = np.where(np.isnan(x), 0, x)
    for block in blocks.blocks:
        if block.kind == "negative-binomial":
            seen[:, block.first : block.last] = np.log1p(seen[:, block.first : block.last])
    return seen


def missing_indicators(x: Array, blocks: Blocks) -> Array:
    """1 for each variable of a row that was not observed, (B, V)."""
    return np.isnan(x[:, [first for first, _ in blocks.variables()]]).astype(x.dtype)


class _Part(NamedTuple):
    """One block of a minibatch."""

    block: Block
    x: Array  # (B, J), zero where missing
    observed: NDArray[np.bool_]  # (B, J)
    a: Array  # (B, J)
    b: Array | None  # (B, J): of the scales
    c: Array | None  # (B, J): of the degrees of freedom


def _parts(x: Array, outputs: Array, blocks: Blocks) -> Iterator[_Part]:
    X, T = blocks.columns, blocks.heavy
    for block in blocks.blocks:
        columns, heavy = slice(block.first, block.last), block.kind == "student-t"
        here = x[:, columns]
        observed = ~np.isnan(here)
        b, c = (outputs[:, X : X + T], outputs[:, X + T :]) if heavy else (None, None)
        yield _Part(block, np.where(observed, here, 0), observed, outputs[:, columns], b, c)


def log_likelihood_terms(x: Array, outputs: Array, parameters: Mapping[str, Array], blocks: Blocks) -> Array:
    """log p(x_j | z) of each column that was observed, and 0 of the others, (B, X) (61)."""
    terms = np.empty(x.shape, outputs.dtype)
    for part in _parts(x, outputs, blocks):
        value = _log_density(part, parameters)
        terms[:, part.block.first : part.block.last] = np.where(part.observed, value, 0)
    return terms


def _log_density(part: _Part, parameters: Mapping[str, Array]) -> Array:
    x, a, kind = part.x, part.a, part.block.kind
    if kind == "gaussian":
        variance = x_variance(parameters["x_log_std"])
        return -0.5 * (np.log(2 * np.pi * variance) + (x - a) ** 2 / variance)  #                                 (18)
    if kind == "student-t":
        return _student_t(part)
    if kind == "negative-binomial":
        t = bounded_log_dispersion(parameters["x_log_dispersion"])
        theta = np.exp(t)
        factorial = log_gamma(x.astype(np.float64) + 1).astype(x.dtype)
        return x * a - (x + theta) * np.logaddexp(0, a - t) + log_rising(x, theta) - factorial  #                 (66)
    if kind == "bernoulli":
        return x * a - np.logaddexp(0, a)  #                                                                      (3)
    if kind == "continuous-bernoulli":
        u = np.abs(a)
        ratio = np.where(u == 0, 1, -np.expm1(-u) / np.where(u == 0, 1, u))
        return x * a - np.maximum(a, 0) - np.log(ratio)  #                                                        (21)
    return x * log_shares_of_groups(a, part.block.groups)  #                                                      (68)


def bounded_log_dispersion(t: Array) -> Array:
    """t, held between its bounds (47)."""
    return np.log(dispersion(t)).astype(t.dtype)


def _scale_and_freedom(part: _Part) -> tuple[Array, Array]:
    """s = softplus(b) + 0.001 and nu = softplus(c) + 3 (62)."""
    assert part.b is not None
    assert part.c is not None
    return np.logaddexp(0, part.b) + SMALLEST_SCALE, np.logaddexp(0, part.c) + SMALLEST_FREEDOM


def _student_t(part: _Part) -> Array:
    """log p of a Student-t (63)."""
    s, nu = _scale_and_freedom(part)
    half = nu.astype(np.float64) / 2
    gammas = (log_gamma(half + 0.5) - log_gamma(half)).astype(s.dtype)
    return gammas - 0.5 * np.log(np.pi * nu) - np.log(s) - (nu + 1) / 2 * np.log1p(((part.x - part.a) / s) ** 2 / nu)


def log_shares_of_groups(a: Array, groups: tuple[int, ...]) -> Array:
    """log softmax over the levels of each variable, (B, J) (67)."""
    parts, first = [], 0
    for width in groups:
        level = a[:, first : first + width]
        shifted = level - level.max(axis=1, keepdims=True)
        parts.append(shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True)))
        first += width
    return np.concatenate(parts, axis=1)


def backward(
    x: Array, outputs: Array, parameters: Mapping[str, Array], blocks: Blocks, factors: Array
) -> tuple[Array, dict[str, Array]]:
    """The gradient of the loss for the outputs, (B, O), and by name for the likelihood's own parameters.

    factors, (B, 1): what each row counts for in the loss.
    """
    d_outputs, own = np.zeros(outputs.shape, outputs.dtype), {}
    X, T = blocks.columns, blocks.heavy
    for part in _parts(x, outputs, blocks):
        counted = np.where(part.observed, factors, 0)
        d_a, d_b, d_c, d_own = _slopes(part, parameters)
        d_outputs[:, part.block.first : part.block.last] = -d_a * counted
        if d_b is not None and d_c is not None:
            d_outputs[:, X : X + T], d_outputs[:, X + T :] = -d_b * counted, -d_c * counted
        if d_own is not None:
            name = "x_log_std" if part.block.kind == "gaussian" else "x_log_dispersion"
            own[name] = -np.sum(d_own * counted, axis=0)
    if "x_log_dispersion" in own:
        own["x_log_dispersion"] = held_dispersion_gradient(own["x_log_dispersion"], parameters["x_log_dispersion"])
    return d_outputs, own


def _slopes(part: _Part, parameters: Mapping[str, Array]) -> tuple[Array, Array | None, Array | None, Array | None]:
    """Of log p of each column, (B, J): by a, b, c and the own parameter."""
    x, a, kind = part.x, part.a, part.block.kind
    if kind == "gaussian":
        variance, squared = x_variance(parameters["x_log_std"]), np.exp(2 * parameters["x_log_std"])
        share = squared / variance
        return (x - a) / variance, None, None, share * ((x - a) ** 2 / variance - 1)  #                           (19), (20)
    if kind == "student-t":
        d_a, d_b, d_c = _student_t_slopes(part)
        return d_a, d_b, d_c, None
    if kind == "negative-binomial":
        t = bounded_log_dispersion(parameters["x_log_dispersion"])
        theta = np.exp(t)
        g = x * sigmoid(t - a) - theta * sigmoid(a - t)
        return g, None, None, rising_slope(x, theta) - theta * np.logaddexp(0, a - t) - g  #                      (53), (55)
    if kind == "bernoulli":
        return x - sigmoid(a), None, None, None  #                                                                (7)
    if kind == "continuous-bernoulli":
        return x - continuous_bernoulli_mean(a), None, None, None  #                                              (25)
    return x - np.exp(log_shares_of_groups(a, part.block.groups)), None, None, None  #                            (69)


def _student_t_slopes(part: _Part) -> tuple[Array, Array, Array]:
    """The slopes of (63) by a, b and c (64), (65)."""
    assert part.b is not None
    assert part.c is not None
    s, nu = _scale_and_freedom(part)
    r = (part.x - part.a) / s
    u = r * r / nu
    share = u / (1 + u)
    half = nu.astype(np.float64) / 2
    psi = (digamma(half + 0.5) - digamma(half)).astype(s.dtype)
    d_a = (nu + 1) / (nu * s) * r / (1 + u)
    d_s = ((nu + 1) * share - 1) / s
    d_nu = 0.5 * (psi - 1 / nu - np.log1p(u) + (nu + 1) / nu * share)
    return d_a, d_s * sigmoid(part.b), d_nu * sigmoid(part.c)


def expectation(outputs: Array, blocks: Blocks) -> Array:
    """The mean of p(x | z) of each column, (B, X): of a category the probability of each level."""
    means = np.empty((len(outputs), blocks.columns), outputs.dtype)
    for block in blocks.blocks:
        a = outputs[:, block.first : block.last]
        if block.kind == "negative-binomial":
            a = np.exp(a)
        elif block.kind == "bernoulli":
            a = sigmoid(a)
        elif block.kind == "continuous-bernoulli":
            a = continuous_bernoulli_mean(a)
        elif block.kind == "categorical":
            a = np.exp(log_shares_of_groups(a, block.groups))
        means[:, block.first : block.last] = a
    return means


def draw(
    outputs: Array, parameters: Mapping[str, Array], blocks: Blocks, generator: np.random.RandomState
) -> NDArray[np.float64]:
    """One draw x from p(x | z) for each column, float64 (B, X); of a category one level is 1, the others are 0."""
    drawn = np.empty((len(outputs), blocks.columns))
    nothing = np.full(drawn.shape, np.nan, outputs.dtype)
    for part in _parts(nothing, outputs, blocks):
        a, kind = part.a.astype(np.float64), part.block.kind
        if kind == "student-t":
            s, nu = _scale_and_freedom(part)
            value: NDArray[Any] = a + s * generator.standard_t(nu.astype(np.float64))
        elif kind == "negative-binomial":
            theta = dispersion(parameters["x_log_dispersion"].astype(np.float64))
            rates = generator.gamma(np.broadcast_to(theta, a.shape), np.exp(a) / theta)
            value = generator.poisson(np.minimum(rates, LARGEST_RATE)).astype(np.float64)
        elif kind == "categorical":
            value = _drawn_levels(a, part.block.groups, generator)
        else:
            value = likelihoods.draw(kind, a, parameters.get("x_log_std"), generator)
        drawn[:, part.block.first : part.block.last] = value
    return drawn


# NumPy draws no Poisson numbers of larger rates.
LARGEST_RATE = 9e18


def _drawn_levels(a: Array, groups: tuple[int, ...], generator: np.random.RandomState) -> NDArray[np.float64]:
    """Of each variable the level whose logit plus Gumbel noise is the largest (Gumbel 1954): one draw of its softmax."""
    noisy, chosen, first = a + generator.gumbel(size=a.shape), np.zeros(a.shape), 0
    for width in groups:
        levels = noisy[:, first : first + width]
        chosen[np.arange(len(a)), first + levels.argmax(axis=1)] = 1
        first += width
    return chosen
