"""The reference engine: plain NumPy in any float dtype, one operation a line. It is the specification, never optimised.

Dimensions: B minibatch, X pixels, H hidden units, Z latents. A gradient of the loss is named `d_` + the name of the
array; a number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast import noise
from vaefast.engines.contract import BoundTerms, State
from vaefast.layout import Layout
from vaefast.likelihoods import continuous_bernoulli_mean, sigmoid, x_variance
from vaefast.noise import Purpose
from vaefast.settings import AdamSettings, ModelSettings, TrainingSettings

Array = NDArray[np.floating]
Parameters = dict[str, Array]

# Images scored at a time: bounds the memory of evaluation and changes no result.
EVALUATION_ROWS = 500


def sample_diagonal_gaussian(mean: Array, log_std: Array, standard_normals: Array) -> Array:
    """A reparameterised sample z = mean + exp(log_std) * noise (2); all (B, Z).

    Source: Kingma & Welling (2014), section 2.4. The report's task 1, `sample_latent_variables_from_posterior`.
    """
    return mean + np.exp(log_std) * standard_normals


def bernoulli_log_likelihood(x: Array, logits: Array) -> Array:
    """log p(x | z) in nats of each row, (B,), from logits a (3): the sum over pixels of x * a - softplus(a).

    softplus(a) = log(1 + exp(a)) is taken without overflow; log(sigmoid(a)) never appears. x and logits are (B, X), and
    grey pixels in (0, 1) give the cross-entropy, which is no log-probability. Source: Kingma & Welling (2014), appendix C.1.
    """
    return np.sum(x * logits - np.logaddexp(0, logits), axis=-1)


def gaussian_log_likelihood(x: Array, means: Array, x_log_std: Array) -> Array:
    """log p(x | z) in nats of each row, (B,), under independent normals with a learned variance a pixel (18).

    x and means are (B, X), x_log_std (X,); the variance is 1e-4 + exp(2 x_log_std) (17). Source: Kingma & Welling (2014),
    appendix C.2, with a variance that does not depend on z.
    """
    variance = x_variance(x_log_std)
    return -0.5 * np.sum(np.log(2 * np.pi * variance) + (x - means) ** 2 / variance, axis=-1)


def continuous_bernoulli_log_likelihood(x: Array, logits: Array) -> Array:
    """log p(x | z) in nats of each row, (B,), of grey levels in [0, 1]: the sum over pixels of x * a - kappa(a) (21).

    kappa(a) = log((exp(a) - 1) / a) is taken as max(a, 0) + log((1 - exp(-|a|)) / |a|) (22): no overflow, and log(1) at 0.
    x and logits are (B, X). Source: Loaiza-Ganem & Cunningham (2019).
    """
    u = np.abs(logits)
    ratio = np.where(u == 0, 1, -np.expm1(-u) / np.where(u == 0, 1, u))
    return np.sum(x * logits - np.maximum(logits, 0) - np.log(ratio), axis=-1)


def log_likelihood(parameters: Parameters, x: Array, outputs: Array, likelihood: str) -> Array:
    """log p(x | z) in nats of each row, (B,), from the decoder's outputs, (B, X)."""
    if likelihood == "gaussian":
        return gaussian_log_likelihood(x, outputs, parameters["x_log_std"])
    if likelihood == "continuous-bernoulli":
        return continuous_bernoulli_log_likelihood(x, outputs)
    return bernoulli_log_likelihood(x, outputs)


def gaussian_kl(mean: Array, log_std: Array) -> Array:
    """KL(q(z | x), N(0, I)) in nats of each row, (B,), in closed form (4); mean and log_std are (B, Z).

    Source: Kingma & Welling (2014), appendix B.
    """
    return 0.5 * np.sum(np.exp(2 * log_std) + mean**2 - 1 - 2 * log_std, axis=-1)


def lower_bound(
    parameters: Parameters, x: Array, standard_normals: Array, activation: str = "relu", likelihood: str = "bernoulli"
) -> Array:
    """The one-sample evidence lower bound of each row in nats, (B,), eq. (1); x is (B, X), the noise (B, Z)."""
    pass_ = forward(parameters, x, standard_normals, activation)
    return log_likelihood(parameters, x, pass_.logits, likelihood) - gaussian_kl(pass_.mean, pass_.log_std)


@dataclass(frozen=True)
class ForwardPass:
    """Every array that the backward pass needs again."""

    encoder: list[Array]  # [x (B, X), h1 (B, H), h2 (B, H), ...]
    mean: Array  # (B, Z)
    log_std: Array  # (B, Z)
    z: Array  # (B, Z)
    decoder: list[Array]  # [z (B, Z), g1 (B, H), g2 (B, H), ...]
    logits: Array  # (B, X); the means of a Gaussian likelihood


def forward(parameters: Parameters, x: Array, standard_normals: Array, activation: str) -> ForwardPass:
    """Both networks and the sampling between them; x is (B, X), the noise (B, Z)."""
    encoder, mean, log_std = encode(parameters, x, activation)
    z = sample_diagonal_gaussian(mean, log_std, standard_normals)
    decoder, logits = decode(parameters, z, activation)
    return ForwardPass(encoder, mean, log_std, z, decoder, logits)


def encode(parameters: Parameters, x: Array, activation: str) -> tuple[list[Array], Array, Array]:
    """The recognition network: its hidden layers [x, h1, ...], mean and log_std, both (B, Z)."""
    layers = _hidden_layers(parameters, "encoder", x, activation)
    mean = _dense(parameters, "mean", layers[-1])
    log_std = _dense(parameters, "log_std", layers[-1])
    return layers, mean, log_std


def decode(parameters: Parameters, z: Array, activation: str) -> tuple[list[Array], Array]:
    """The generator network: its hidden layers [z, g1, ...] and the logits, or Gaussian means, (B, X)."""
    layers = _hidden_layers(parameters, "decoder", z, activation)
    return layers, _dense(parameters, "logits", layers[-1])


def backward(
    parameters: Parameters, pass_: ForwardPass, standard_normals: Array, activation: str, likelihood: str = "bernoulli"
) -> Parameters:
    """Gradients of the loss (6), the mean over the minibatch of -ELBO, for every parameter by name."""
    mean, log_std = pass_.mean, pass_.log_std
    B = len(mean)
    gradients: Parameters = {}

    d_logits = _likelihood_backward(parameters, gradients, pass_, likelihood)  # (B, X)
    # logits = g2 @ W + b                                                                                     (5)
    d_g = _dense_backward(parameters, gradients, "logits", pass_.decoder[-1], d_logits)
    d_z = _hidden_backward(parameters, gradients, "decoder", pass_.decoder, d_g, activation)  # (B, Z)

    # z = mean + exp(log_std) * noise                                                                         (2)
    # KL = 0.5 * sum(exp(2 log_std) + mean^2 - 1 - 2 log_std)                                                 (4)
    d_mean = d_z + mean / B  # (B, Z)                                                                        (11)
    d_log_std = d_z * np.exp(log_std) * standard_normals + (np.exp(2 * log_std) - 1) / B  # (B, Z)           (12)

    # mean = h2 @ W_mean + b_mean, log_std = h2 @ W_log_std + b_log_std                                       (5)
    h = pass_.encoder[-1]
    d_h = _dense_backward(parameters, gradients, "mean", h, d_mean)
    d_h = d_h + _dense_backward(parameters, gradients, "log_std", h, d_log_std)  #                           (13)
    _hidden_backward(parameters, gradients, "encoder", pass_.encoder, d_h, activation)
    return gradients


def _likelihood_backward(parameters: Parameters, gradients: Parameters, pass_: ForwardPass, likelihood: str) -> Array:
    """The gradient of the decoder's output, (B, X), and that of the Gaussian's x_log_std, (X,)."""
    x, a, B = pass_.encoder[0], pass_.logits, len(pass_.logits)
    if likelihood == "bernoulli":
        # log p(x | z) = sum(x * a - softplus(a))                                                             (3)
        return (sigmoid(a) - x) / B  #                                                                        (7)
    if likelihood == "continuous-bernoulli":
        # log p(x | z) = sum(x * a - kappa(a))                                                               (21)
        return (continuous_bernoulli_mean(a) - x) / B  #                                                     (25)
    # variance = 1e-4 + exp(2 x_log_std)                                                                     (17)
    # log p(x | z) = -0.5 * sum(log(2 pi variance) + (x - a)^2 / variance)                                   (18)
    variance, squared = x_variance(parameters["x_log_std"]), np.exp(2 * parameters["x_log_std"])
    share = squared / variance
    gradients["x_log_std"] = share * np.sum(1 - (x - a) ** 2 / variance, axis=0) / B  #                      (20)
    return (a - x) / variance / B  #                                                                         (19)


def adam_step(state: State, gradient: Array, adam: AdamSettings) -> None:
    """One step of Adam in place (14-16), as in Kingma & Ba (2015), algorithm 1, and in the report; all (P,)."""
    state.step += 1
    m, v = state.first_moments, state.second_moments
    m[...] = adam.beta1 * m + (1 - adam.beta1) * gradient
    v[...] = adam.beta2 * v + (1 - adam.beta2) * gradient**2
    m_hat = m / (1 - adam.beta1**state.step)
    v_hat = v / (1 - adam.beta2**state.step)
    state.parameters -= adam.learning_rate * m_hat / (np.sqrt(v_hat) + adam.epsilon)


def _hidden_layers(parameters: Parameters, network: str, inputs: Array, activation: str) -> list[Array]:
    layers = [inputs]
    while f"{network}.{len(layers) - 1}.weight" in parameters:
        a = _dense(parameters, f"{network}.{len(layers) - 1}", layers[-1])
        layers.append(np.maximum(a, 0) if activation == "relu" else np.tanh(a))
    return layers


def _hidden_backward(
    parameters: Parameters, gradients: Parameters, network: str, layers: list[Array], d_h: Array, activation: str
) -> Array:
    """From the gradient of the last hidden layer to that of the network's input, (B, inputs)."""
    for i in reversed(range(len(layers) - 1)):
        h = layers[i + 1]
        # h = relu(a) (9) or h = tanh(a) (10)
        d_a = d_h * (h > 0) if activation == "relu" else d_h * (1 - h**2)
        d_h = _dense_backward(parameters, gradients, f"{network}.{i}", layers[i], d_a)
    return d_h


def _dense(parameters: Parameters, name: str, inputs: Array) -> Array:
    return inputs @ parameters[f"{name}.weight"] + parameters[f"{name}.bias"]


def _dense_backward(parameters: Parameters, gradients: Parameters, name: str, inputs: Array, d_a: Array) -> Array:
    # a = inputs @ W + b                                                                                      (5)
    gradients[f"{name}.weight"] = inputs.T @ d_a  #                                                           (8)
    gradients[f"{name}.bias"] = d_a.sum(axis=0)
    return d_a @ parameters[f"{name}.weight"].T


class ReferenceEngine:
    """The contract of `vaefast.engines`, written to be read."""

    name = "reference"

    def __init__(
        self,
        model: ModelSettings,
        training: TrainingSettings,
        threads: int = 1,
        dtype: type[np.floating] = np.float32,
    ) -> None:
        self.model, self.training, self.threads = model, training, threads
        self.layout = Layout(model)
        self.dtype = np.dtype(dtype)
        self._state = State.zeros(self.layout.size, self.dtype)

    @property
    def step(self) -> int:
        return self._state.step

    def state(self) -> State:
        return self._state.copy()

    def load_state(self, state: State) -> None:
        self._state = state.astype(self.dtype)

    def place(self, values: NDArray[Any]) -> NDArray[Any]:
        return values

    def warm_up(self, placed: NDArray[Any]) -> None:
        """NumPy needs no compilation."""

    def train(self, placed: NDArray[Any], order: NDArray[np.int64]) -> BoundTerms:
        size, parameters = self.training.batch_size, self._views()
        terms = []
        for start in range(0, len(order), size):
            examples = order[start : start + size]
            seed, step = self.training.seed, self._state.step
            x = self._pixels(placed[examples], examples, Purpose.TRAINING_PIXELS, step)
            epsilon = self._normals(seed, Purpose.TRAINING_LATENTS, step, examples)
            pass_ = forward(parameters, x, epsilon, self.model.activation)
            gradients = backward(parameters, pass_, epsilon, self.model.activation, self.model.likelihood)
            terms.append(self._terms(x, pass_))
            adam_step(self._state, self.layout.flatten(gradients, self.dtype), self.training.adam)
        return BoundTerms.concatenate(terms)

    def evaluate(self, placed: NDArray[Any], examples: NDArray[np.int64] | None = None) -> BoundTerms:
        numbers, terms = np.arange(len(placed)) if examples is None else examples, []
        for start in range(0, len(placed), EVALUATION_ROWS):
            some = numbers[start : start + EVALUATION_ROWS]
            x = self._pixels(placed[start : start + EVALUATION_ROWS], some, Purpose.EVALUATION_PIXELS, 0)
            epsilon = self._normals(self.training.seed, Purpose.EVALUATION_LATENTS, 0, some)
            terms.append(self._terms(x, forward(self._views(), x, epsilon, self.model.activation)))
        return BoundTerms.concatenate(terms)

    def encode(self, x: NDArray[Any]) -> tuple[Array, Array]:
        _, mean, log_std = encode(self._views(), x.astype(self.dtype), self.model.activation)
        return mean, log_std

    def decode(self, z: NDArray[Any]) -> Array:
        return decode(self._views(), z.astype(self.dtype), self.model.activation)[1]

    def close(self) -> None:
        """Nothing is held."""

    def _views(self) -> Parameters:
        return self.layout.views(self._state.parameters)

    def _normals(self, seed: int, purpose: Purpose, step: int, examples: NDArray[np.int64]) -> Array:
        return noise.normals(seed, purpose, step, examples, self.model.latent).astype(self.dtype)

    def _pixels(self, levels: NDArray[Any], examples: NDArray[np.int64], purpose: Purpose, step: int) -> Array:
        """The minibatch as the networks see it, (B, X)."""
        if self.training.binarize == "dynamic":
            return noise.drawn_pixels(levels, self.training.seed, purpose, step, examples).astype(self.dtype)
        if self.training.binarize == "threshold":
            return (levels >= (128 if levels.dtype == np.uint8 else 0.5)).astype(self.dtype)
        return levels.astype(self.dtype) / (255 if levels.dtype == np.uint8 else 1)

    def _terms(self, x: Array, pass_: ForwardPass) -> BoundTerms:
        return BoundTerms(
            log_likelihood(self._views(), x, pass_.logits, self.model.likelihood).astype(np.float64),
            gaussian_kl(pass_.mean, pass_.log_std).astype(np.float64),
        )
