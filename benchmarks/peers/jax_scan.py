"""JAX: an epoch is one jitted `lax.scan` over the full minibatches and one jitted step for a ragged rest.

The state is donated, the data stay on the device, and the random numbers are JAX's default (Threefry, keyed by the
step), which is faster on a CPU than `rbg`. Only the order of an epoch is NumPy's: a permutation takes JAX 36 ms.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.peers import Settings
from benchmarks.peers.layers import ordered_layers

NAME = "JAX"
ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}
LEARNING_RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
EVALUATION_ROWS = 1000

Layers = list[tuple[jax.Array, jax.Array]]


class State(NamedTuple):
    """Parameters, Adam's moments and the number of steps done."""

    layers: Layers
    m: Layers
    v: Layers
    steps: jax.Array


def version() -> str:
    """The library's."""
    return jax.__version__


def softplus(a: jax.Array) -> jax.Array:
    """log(1 + exp(a)), without overflow; cheaper than `jax.nn.softplus`, which also serves infinite arguments."""
    return jnp.maximum(a, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(a)))


def negative_elbo(layers: Layers, depth: int, activation: str, x: jax.Array, noise: jax.Array) -> jax.Array:
    """-ELBO in nats, mean over the rows of x."""
    activate = ACTIVATIONS[activation]
    h = x
    for weight, bias in layers[:depth]:
        h = activate(h @ weight + bias)
    weight, bias = layers[depth]
    mean, log_std = jnp.split(h @ weight + bias, 2, axis=1)
    std = jnp.exp(log_std)
    g = mean + std * noise
    for weight, bias in layers[depth + 1 : -1]:
        g = activate(g @ weight + bias)
    weight, bias = layers[-1]
    logits = g @ weight + bias
    log_likelihood = x * logits - softplus(logits)
    kl = 0.5 * (std * std + mean * mean - 1 - 2 * log_std)
    return (kl.sum() - log_likelihood.sum()) / len(x)


def adam(state: State, gradient: Layers) -> State:
    """One step, the bias corrections folded into the step size and epsilon."""
    steps = state.steps + 1
    correction = jnp.sqrt(1 - BETA2**steps)
    rate, epsilon = LEARNING_RATE * correction / (1 - BETA1**steps), EPSILON * correction
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, state.m, gradient)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, state.v, gradient)
    layers = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + epsilon), state.layers, m, v)
    return State(layers, m, v, steps)


class Trainer:
    """See the package."""

    def __init__(self, images: np.ndarray, weights: dict[str, np.ndarray], settings: Settings) -> None:
        # XLA starts a thread for every CPU that the process may run on, when the first array is made.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings.threads])
        self.images = jax.device_put(images)
        self.activation, self.batch_size = settings.activation, settings.batch_size
        self.binarize, self.seed = settings.binarize, settings.seed
        self.latents = len(weights["mean.bias"])
        arrays, self.depth = ordered_layers(weights)
        layers = [(jnp.array(weight), jnp.array(bias)) for weight, bias in arrays]
        m, v = jax.tree.map(jnp.zeros_like, (layers, layers))
        self.state = State(layers, m, v, jnp.zeros((), jnp.int32))
        self.pixel_key, self.noise_key = jax.random.split(jax.random.key(self.seed & 0xFFFFFFFF))
        self.epochs = 0
        self.compiled: dict[tuple[int, ...], Callable[..., tuple[State, jax.Array]]] = {}
        self.evaluate_rows = jax.jit(partial(negative_elbo, depth=self.depth, activation=self.activation))

    def warm_up(self, steps: int | None = None) -> float:
        start = time.perf_counter()
        for rows in self._minibatches(steps):
            self._compile(rows)
        return time.perf_counter() - start

    def epoch(self, steps: int | None = None) -> float:
        total, seen = 0.0, 0
        for rows in self._minibatches(steps):
            self.state, loss = self._compile(rows)(self.state, self.images, rows)
            total, seen = total + float(loss), seen + rows.size
        self.epochs += 1
        return -total / seen

    def _minibatches(self, steps: int | None) -> list[np.ndarray]:
        """The full minibatches as one array (steps, rows), then the ragged rest, if any, as one of a single step."""
        order = np.random.default_rng((self.seed, self.epochs)).permutation(len(self.images)).astype(np.int32)
        full = len(order) // self.batch_size * self.batch_size
        whole = order[:full].reshape(-1, self.batch_size)[:steps]
        rest = order[full:] if steps is None or steps > len(whole) else order[:0]
        return [rows for rows in (whole, rest[None]) if rows.size]

    def _compile(self, rows: np.ndarray) -> Callable[..., tuple[State, jax.Array]]:
        """`_train` for minibatches of this shape; the state given to it is used up."""
        if rows.shape not in self.compiled:
            train = jax.jit(self._train, donate_argnums=0)
            self.compiled[rows.shape] = train.lower(self.state, self.images, rows).compile()
        return self.compiled[rows.shape]

    def _train(self, state: State, images: jax.Array, minibatches: jax.Array) -> tuple[State, jax.Array]:
        """One step for each row of `minibatches`; the sum of -ELBO over all their images."""

        def step(state: State, rows: jax.Array) -> tuple[State, jax.Array]:
            x = images[rows]
            if self.binarize == "dynamic":
                x = jax.random.bernoulli(jax.random.fold_in(self.pixel_key, state.steps), x).astype(jnp.float32)
            noise = jax.random.normal(jax.random.fold_in(self.noise_key, state.steps), (len(rows), self.latents))
            loss, gradient = jax.value_and_grad(negative_elbo)(state.layers, self.depth, self.activation, x, noise)
            return adam(state, gradient), loss

        # Two steps an iteration are 4-10 % faster than one, and as fast as four.
        state, losses = lax.scan(step, state, minibatches, unroll=2)
        return state, losses.sum() * minibatches.shape[1]

    def evaluate(self, images: np.ndarray) -> float:
        key, total = jax.random.key((self.seed ^ 1) & 0xFFFFFFFF), 0.0
        for start in range(0, len(images), EVALUATION_ROWS):
            x = jnp.array(images[start : start + EVALUATION_ROWS])
            if self.binarize == "dynamic":
                x = (x >= 0.5).astype(jnp.float32)
            noise = jax.random.normal(jax.random.fold_in(key, start), (len(x), self.latents))
            total -= len(x) * float(self.evaluate_rows(self.state.layers, x=x, noise=noise))
        return total / len(images)
