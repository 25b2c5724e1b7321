"""The historical baseline: float64 NumPy under the `autograd` library, as the 2021 report trained this model."""

from __future__ import annotations

import os
import time
from importlib import metadata

import autograd.numpy as np
from autograd import value_and_grad
from autograd.misc import flatten
from numpy.random import default_rng

from benchmarks.peers import Settings
from benchmarks.peers.layers import ordered_layers

NAME = "autograd (2021 report)"
ACTIVATIONS = {"relu": lambda a: np.maximum(a, 0.0), "tanh": np.tanh}
EVALUATION_ROWS = 1000
WARM_UP_STEPS = 1


def version() -> str:
    """The library's, and that of the NumPy under it."""
    return f"{metadata.version('autograd')} on NumPy {metadata.version('numpy')}"


def negative_elbo(layers: list, depth: int, activation: str, x: np.ndarray, noise: np.ndarray) -> float:
    """-ELBO in nats, mean over the rows of x."""
    activate = ACTIVATIONS[activation]
    h = x
    for weight, bias in layers[:depth]:
        h = activate(np.dot(h, weight) + bias)
    weight, bias = layers[depth]
    heads = np.dot(h, weight) + bias
    latents = noise.shape[1]
    mean, log_std = heads[:, :latents], heads[:, latents:]
    g = mean + np.exp(log_std) * noise
    for weight, bias in layers[depth + 1 : -1]:
        g = activate(np.dot(g, weight) + bias)
    weight, bias = layers[-1]
    logits = np.dot(g, weight) + bias
    log_likelihood = np.sum(x * logits - np.logaddexp(0.0, logits), axis=1)
    kl = 0.5 * np.sum(np.exp(2 * log_std) + mean**2 - 1 - 2 * log_std, axis=1)
    return np.mean(kl - log_likelihood)


class Trainer:
    """See the package."""

    def __init__(self, images: np.ndarray, weights: dict[str, np.ndarray], settings: Settings) -> None:
        if os.environ.get("OPENBLAS_NUM_THREADS") != str(settings.threads):
            raise RuntimeError(f"NumPy is not held to {settings.threads} threads: call limit_threads before importing it")
        self.images = images.astype(np.float64)
        self.activation, self.batch_size = settings.activation, settings.batch_size
        self.binarize, self.seed = settings.binarize, settings.seed
        layers, self.depth = ordered_layers(weights)
        self.latents = len(weights["mean.bias"])
        self.parameters, self.unflatten = flatten([tuple(a.astype(np.float64) for a in layer) for layer in layers])
        self.m, self.v, self.steps = np.zeros_like(self.parameters), np.zeros_like(self.parameters), 0
        self.random = default_rng(self.seed)
        self.loss_and_gradient = value_and_grad(negative_elbo)

    def warm_up(self, steps: int | None = None) -> float:
        start = time.perf_counter()
        saved = self.parameters, self.m, self.v, self.steps, self.random.bit_generator.state
        self.epoch(WARM_UP_STEPS)
        self.parameters, self.m, self.v, self.steps, self.random.bit_generator.state = saved
        return time.perf_counter() - start

    def epoch(self, steps: int | None = None) -> float:
        order = self.random.permutation(len(self.images))
        starts = range(0, len(order), self.batch_size)[:steps]
        minibatches = [order[start : start + self.batch_size] for start in starts]
        total = sum(self._step(rows) * len(rows) for rows in minibatches)
        return -total / sum(map(len, minibatches))

    def _step(self, rows: np.ndarray) -> float:
        """One step of Adam; the loss. As `autograd.misc.optimizers.adam`, which forgets m and v when it returns."""
        x = self.images[rows]
        if self.binarize == "dynamic":
            x = (self.random.random(x.shape) < x).astype(np.float64)
        noise = self.random.standard_normal((len(rows), self.latents))
        loss, gradient = self.loss_and_gradient(self.unflatten(self.parameters), self.depth, self.activation, x, noise)
        gradient, _ = flatten(gradient)
        self.steps += 1
        self.m = 0.1 * gradient + 0.9 * self.m
        self.v = 0.001 * gradient**2 + 0.999 * self.v
        m_hat, v_hat = self.m / (1 - 0.9**self.steps), self.v / (1 - 0.999**self.steps)
        self.parameters = self.parameters - 0.001 * m_hat / (np.sqrt(v_hat) + 1e-8)
        return float(loss)

    def evaluate(self, images: np.ndarray) -> float:
        random = default_rng(self.seed ^ 1)
        layers = self.unflatten(self.parameters)
        total = 0.0
        for start in range(0, len(images), EVALUATION_ROWS):
            x = images[start : start + EVALUATION_ROWS]
            x = (x >= 0.5).astype(np.float64) if self.binarize == "dynamic" else x.astype(np.float64)
            noise = random.standard_normal((len(x), self.latents))
            total -= len(x) * negative_elbo(layers, self.depth, self.activation, x, noise)
        return float(total / len(images))
