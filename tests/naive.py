"""Oracles in plain Python loops. This file imports nothing of vaefast, so that what they agree on is not shared code."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def philox4x32(counter, key):
    """Philox4x32-10 on Python integers, from the paper's description: (4 words, 2 words) -> 4 words."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high_0, low_0 = divmod(0xD2511F53 * c[0], 2**32)
        high_1, low_1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high_1 ^ c[1] ^ k[0], low_1, high_0 ^ c[3] ^ k[1], low_0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def words(seed, purpose, step, example, count):
    out = []
    for block in range((count + 3) // 4):
        out += philox4x32([block, example, step, purpose], [seed % 2**32, seed // 2**32])
    return out[:count]


def normals(seed, purpose, step, example, count):
    out = []
    w = words(seed, purpose, step, example, count + count % 2)
    for i in range(0, len(w), 2):
        u, t = ((w[i] >> 9) + 0.5) / 2**23, ((w[i + 1] >> 9) + 0.5) / 2**23
        radius = math.sqrt(-2 * math.log(u))
        out += [radius * math.cos(2 * math.pi * t), radius * math.sin(2 * math.pi * t)]
    return out[:count]


def rounded(value, bits=8):
    """To so many significant bits, of two nearest numbers the even one, by the rounding of Python's integers."""
    if math.isnan(value) or math.isinf(value):
        return value
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2**bits), exponent - bits)


def softplus(a):
    return a + math.log1p(math.exp(-a)) if a > 0 else math.log1p(math.exp(a))


def bernoulli_log_likelihood(x, logits):
    return sum(xi * a - softplus(a) for xi, a in zip(x, logits, strict=True))


def gaussian_log_likelihood(x, means, x_log_std):
    total = 0.0
    for xi, m, s in zip(x, means, x_log_std, strict=True):
        variance = 0.0001 + math.exp(2 * s)
        total -= 0.5 * math.log(2 * math.pi * variance) + (xi - m) ** 2 / (2 * variance)
    return total


def continuous_bernoulli_log_likelihood(x, logits):
    """With lambda = sigmoid(a): log of lambda^x (1 - lambda)^(1 - x) C(lambda), as its authors define it."""
    total = 0.0
    for xi, a in zip(x, logits, strict=True):
        p = 1 / (1 + math.exp(-a))
        constant = 2.0 if a == 0 else 2 * math.atanh(1 - 2 * p) / (1 - 2 * p)
        total += xi * math.log(p) + (1 - xi) * math.log(1 - p) + math.log(constant)
    return total


def shares(a):
    largest = max(a)
    e = [math.exp(b - largest) for b in a]
    return [b / sum(e) for b in e]


def negative_binomial_log_likelihood(x, a, t, h=None, size=None):
    """As the textbooks have it, with mean mu and variance mu + mu^2 / theta; h is the logit of a zero of another cause."""
    total = 0.0
    for xi, s, ti, hi in zip(x, shares(a), t, h or [None] * len(x), strict=True):
        mu, theta = (sum(x) if size is None else size) * s, math.exp(ti)
        log_p = math.lgamma(xi + theta) - math.lgamma(theta) - math.lgamma(xi + 1) - theta * math.log1p(mu / theta)
        if xi > 0:
            log_p += xi * math.log(mu / (theta + mu))
        if hi is not None:
            other = 1 / (1 + math.exp(-hi))
            log_p = math.log((other if xi == 0 else 0) + (1 - other) * math.exp(log_p))
        total += log_p
    return total


def poisson_log_likelihood(x, a, size=None):
    total = 0.0
    for xi, s in zip(x, shares(a), strict=True):
        mu = (sum(x) if size is None else size) * s
        total += (xi * math.log(mu) if xi > 0 else 0) - mu - math.lgamma(xi + 1)
    return total


def multinomial_log_likelihood(x, a):
    total = math.lgamma(sum(x) + 1)
    for xi, s in zip(x, shares(a), strict=True):
        total += xi * math.log(s) - math.lgamma(xi + 1)
    return total


def seen(x, encoder_input):
    if encoder_input == "log1p":
        return [math.log1p(xi) for xi in x]
    norm = math.sqrt(sum(xi * xi for xi in x)) if encoder_input == "l2" else 1
    return [xi / norm if norm else 0.0 for xi in x]


def dropped(h, share, seed, step, example):
    """What the encoder sees in a step of training: the n-th entry that is not zero goes if word n says so."""
    out, n, w = [], 0, words(seed, 10, step, example, len(h))
    for hi in h:
        out.append(0.0 if hi == 0 or Fraction(w[n], 2**32) < Fraction(share) else hi / (1 - share))
        n += hi != 0
    return out


def bounded(s):
    return min(max(s, -40.0), 5.0)


def gaussian_kl(mean, log_std):
    """Of the normals with the bounded deviations, and what the tangent at a bound adds beyond it."""
    total = 0.0
    for m, s in zip(mean, log_std, strict=True):
        c = bounded(s)
        total += 0.5 * (math.exp(2 * c) + m * m - 1 - 2 * c) + (math.exp(2 * c) - 1) * (s - c)
    return total


def dense(inputs, weight, bias, activation=None):
    """One row through a dense layer."""
    out = []
    for j in range(len(bias)):
        a = bias[j] + sum(inputs[i] * weight[i][j] for i in range(len(inputs)))
        out.append(max(a, 0.0) if activation == "relu" else math.tanh(a) if activation == "tanh" else a)
    return out


def elbo_terms(
    parameters, hidden_layers, activation, x, noise, likelihood="bernoulli", encoder_input="none", encoder_sees=(),
    decoder_sees=(), size=None, entered=None, kinds=None,
):  # fmt: skip
    """(log-likelihood, KL) of one row x with one row of noise; parameters by name, as nested lists or arrays. Each network
    may see some covariates of the row; the rates of counts add up to `size`. `entered` is what the encoder sees of x, where
    that is something else than `seen`. A table has `kinds` (`table_log_likelihood`)."""
    h = [*(seen(list(x), encoder_input) if entered is None else entered), *encoder_sees]
    for i in range(hidden_layers):
        h = dense(h, parameters[f"encoder.{i}.weight"], parameters[f"encoder.{i}.bias"], activation)
    mean = dense(h, parameters["mean.weight"], parameters["mean.bias"])
    log_std = dense(h, parameters["log_std.weight"], parameters["log_std.bias"])
    g = [m + math.exp(bounded(s)) * e for m, s, e in zip(mean, log_std, noise, strict=True)] + list(decoder_sees)
    for i in range(hidden_layers):
        g = dense(g, parameters[f"decoder.{i}.weight"], parameters[f"decoder.{i}.bias"], activation)
    if kinds is not None:
        layers = [name[:-7] for name in parameters if name.endswith(".weight")]
        layers = [name for name in layers if name.startswith("logits") or name in ("scales", "freedoms")]
        outputs = [a for name in layers for a in dense(g, parameters[f"{name}.weight"], parameters[f"{name}.bias"])]
        return table_log_likelihood(x, outputs, kinds, parameters), gaussian_kl(mean, log_std)
    logits = dense(g, parameters["logits.weight"], parameters["logits.bias"])
    if likelihood == "negative-binomial":
        zero_logits = None
        if "zero_logits.weight" in parameters:
            zero_logits = dense(g, parameters["zero_logits.weight"], parameters["zero_logits.bias"])
        log_likelihood = negative_binomial_log_likelihood(x, logits, parameters["x_log_dispersion"], zero_logits, size)
    elif likelihood == "poisson":
        log_likelihood = poisson_log_likelihood(x, logits, size)
    elif likelihood == "multinomial":
        log_likelihood = multinomial_log_likelihood(x, logits)
    elif likelihood == "gaussian":
        log_likelihood = gaussian_log_likelihood(x, logits, parameters["x_log_std"])
    elif likelihood == "continuous-bernoulli":
        log_likelihood = continuous_bernoulli_log_likelihood(x, logits)
    else:
        log_likelihood = bernoulli_log_likelihood(x, logits)
    return log_likelihood, gaussian_kl(mean, log_std)


def table_log_likelihood(x, outputs, kinds, own):
    """log p of what is known of a row x, None where a value is not; `kinds` are pairs of a kind and how many columns it has.

    outputs: one number for each column, then the scales and the degrees of freedom of columns with heavy tails; own: the
    learned numbers of Gaussian columns and of counts.
    """
    total, column, heavy = 0.0, 0, 0
    tails = sum(width for kind, width in kinds if kind == "student-t")
    for kind, width in kinds:
        if kind == "categorical":
            if x[column] is not None:
                total += sum(
                    xi * math.log(s)
                    for xi, s in zip(x[column : column + width], shares(outputs[column : column + width]), strict=True)
                )
            column += width
            continue
        for j in range(width):
            value, a = x[column + j], outputs[column + j]
            if kind == "student-t":
                b, c = outputs[len(x) + heavy], outputs[len(x) + tails + heavy]
                heavy += 1
            if value is None:
                continue
            if kind == "student-t":
                scale, freedom = softplus(b) + 0.001, softplus(c) + 3
                r = (value - a) / scale
                total += math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
                total -= math.log(scale) + (freedom + 1) / 2 * math.log(1 + r * r / freedom)
            elif kind == "gaussian":
                total += gaussian_log_likelihood([value], [a], [own["x_log_std"][j]])
            elif kind == "negative-binomial":
                theta, mu = math.exp(own["x_log_dispersion"][j]), math.exp(a)
                total += math.lgamma(value + theta) - math.lgamma(theta) - math.lgamma(value + 1)
                total += theta * math.log(theta / (theta + mu)) + value * math.log(mu / (theta + mu))
            elif kind == "bernoulli":
                total += bernoulli_log_likelihood([value], [a])
            else:
                total += continuous_bernoulli_log_likelihood([value], [a])
        column += width
    return total


def seen_of_table(x, kinds, indicators):
    """What the encoder sees of such a row: 0 for what is not known, log(1 + x) of a count; then what is missing."""
    seen, missing, column = [], [], 0
    for kind, width in kinds:
        here = x[column : column + width]
        seen += [0.0 if value is None else math.log1p(value) if kind == "negative-binomial" else value for value in here]
        missing += [float(here[0] is None)] if kind == "categorical" else [float(value is None) for value in here]
        column += width
    return seen + (missing if indicators else [])


def adam(parameter, gradients, learning_rate, beta1, beta2, epsilon):
    """One scalar parameter through a list of gradients."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        parameter -= learning_rate * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + epsilon)
    return parameter


def to_float32(exact):
    """The float32 nearest to a Fraction, ties to even: rounding through float64 first would round twice."""
    near = np.float32(float(exact))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return float(min(around, key=lambda f: (abs(Fraction(float(f)) - exact), int(f.view(np.uint32)) % 2)))


def product_in_fractions(start, A, W):
    """start + A @ W in float32 with fused multiply-adds, the inner index ascending: each step exact, then rounded once."""
    C = np.empty((A.shape[0], W.shape[1]), np.float32)
    for i in range(A.shape[0]):
        for j in range(W.shape[1]):
            total = Fraction(float(start[j]))
            for k in range(A.shape[1]):
                total = Fraction(to_float32(Fraction(float(A[i, k])) * Fraction(float(W[k, j])) + total))
            C[i, j] = float(total)
    return C


def fused(a, b, c):
    """a * b + c of float32 numbers held in float64 arrays, rounded once to float32.

    The product of two numbers of 24 bits is a float64. Knuth's sum of two float64 numbers leaves its error, exactly. Where
    there is one, the sum is moved to the odd one of the two float64 numbers around the exact value: no tie then hides what
    lies beyond, and rounding 53 bits to 24 is rounding the exact value (Boldo and Melquiond, 2008).
    """
    ab = a * b
    total = ab + c
    part = total - ab
    error = (ab - (total - part)) + (c - part)
    even = total.view(np.int64) % 2 == 0
    odd = np.where((error != 0) & even, np.nextafter(total, np.copysign(np.inf, error)), total)
    return odd.astype(np.float32).astype(np.float64)


def product(start, A, W):
    """`product_in_fractions`, bit for bit, in float64: a step of the inner index for all elements at once."""
    total = np.tile(np.asarray(start, np.float64), (A.shape[0], 1))
    for k in range(A.shape[1]):
        total = fused(A[:, k, None].astype(np.float64), W[k].astype(np.float64), total)
    return total.astype(np.float32)


def log_density_ratio(mean, log_std, noise):
    """log p(z) - log q(z | x) of z = mean + exp(log_std) * noise, from the two normal densities."""
    total = 0.0
    for m, s, e in zip(mean, log_std, noise, strict=True):
        std = math.exp(bounded(s))
        z = m + std * e
        log_p = -0.5 * math.log(2 * math.pi) - 0.5 * z * z
        log_q = -0.5 * math.log(2 * math.pi) - math.log(std) - 0.5 * ((z - m) / std) ** 2
        total += log_p - log_q
    return total
