"""The reference engine: plain NumPy in any float dtype, one operation a line. It is the specification, never optimised.

Dimensions: B minibatch, X pixels, H hidden units, Z latents, C covariates. A gradient of the loss is named `d_` + the name of
the array; a number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, ImportanceTerms, ImputationTerms, Pace, State
from vaefast.engines.objectives import (
    Credit,
    bounded,
    latent_kl,
    log_mean_exp,
    log_weights,
    normalised_weights,
    value_and_credit,
)
from vaefast.models import bfloat16, blocks, counts, noise
from vaefast.models.columns import Blocks, blocks_of
from vaefast.models.conditions import Conditioned, beside, parted
from vaefast.models.count_rows import CountRows
from vaefast.models.layout import Layout
from vaefast.models.likelihoods import continuous_bernoulli_mean, sigmoid, x_variance
from vaefast.models.noise import Purpose
from vaefast.models.settings import COUNT_LIKELIHOODS, AdamSettings, ModelSettings, TrainingSettings

Array = NDArray[np.floating]
Parameters = dict[str, Array]
# What the factors of a product become before it.
Rounding = Callable[[Array], Array]

# Images scored at a time: bounds the memory of evaluation and changes no result.
EVALUATION_ROWS = 500


def unrounded(values: Array) -> Array:
    """The values as they are."""
    return values


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
    return np.sum(bernoulli_terms(x, logits), axis=-1)


def gaussian_log_likelihood(x: Array, means: Array, x_log_std: Array) -> Array:
    """log p(x | z) in nats of each row, (B,), under independent normals with a learned variance a pixel (18).

    x and means are (B, X), x_log_std (X,); the variance is 1e-4 + exp(2 x_log_std) (17). Source: Kingma & Welling (2014),
    appendix C.2, with a variance that does not depend on z.
    """
    return np.sum(gaussian_terms(x, means, x_log_std), axis=-1)


def continuous_bernoulli_log_likelihood(x: Array, logits: Array) -> Array:
    """log p(x | z) in nats of each row, (B,), of grey levels in [0, 1]: the sum over pixels of x * a - kappa(a) (21).

    kappa(a) = log((exp(a) - 1) / a) is taken as max(a, 0) + log((1 - exp(-|a|)) / |a|) (22): no overflow, and log(1) at 0.
    x and logits are (B, X). Source: Loaiza-Ganem & Cunningham (2019).
    """
    return np.sum(continuous_bernoulli_terms(x, logits), axis=-1)


def bernoulli_terms(x: Array, logits: Array) -> Array:
    """The summands of `bernoulli_log_likelihood`, (B, X)."""
    return x * logits - np.logaddexp(0, logits)


def gaussian_terms(x: Array, means: Array, x_log_std: Array) -> Array:
    """The summands of `gaussian_log_likelihood`, (B, X)."""
    variance = x_variance(x_log_std)
    return -0.5 * (np.log(2 * np.pi * variance) + (x - means) ** 2 / variance)


def continuous_bernoulli_terms(x: Array, logits: Array) -> Array:
    """The summands of `continuous_bernoulli_log_likelihood`, (B, X)."""
    u = np.abs(logits)
    ratio = np.where(u == 0, 1, -np.expm1(-u) / np.where(u == 0, 1, u))
    return x * logits - np.maximum(logits, 0) - np.log(ratio)


def log_likelihood_terms(
    parameters: Parameters,
    x: Array,
    outputs: Array,
    likelihood: str | Blocks,
    zero_logits: Array | None = None,
    size: Array | None = None,
) -> Array:
    """log p(x_j | z) in nats of each pixel, (B, X), from the decoder's outputs, (B, X), or (B, O) of blocks of columns.

    `size`, (B, 1), is what the rates of a row of counts add up to, its total where nothing else is said. In blocks
    a value that is missing, NaN, has 0.
    """
    if isinstance(likelihood, Blocks):
        return blocks.log_likelihood_terms(x, outputs, parameters, likelihood)
    if likelihood in COUNT_LIKELIHOODS:
        size = x.sum(axis=1, keepdims=True) if size is None else size
        return counts.log_likelihood_terms(x, size, outputs, likelihood, parameters.get("x_log_dispersion"), zero_logits)
    if likelihood == "gaussian":
        return gaussian_terms(x, outputs, parameters["x_log_std"])
    if likelihood == "continuous-bernoulli":
        return continuous_bernoulli_terms(x, outputs)
    return bernoulli_terms(x, outputs)


def log_likelihood(parameters: Parameters, x: Array, outputs: Array, likelihood: str | Blocks, *about: Array | None) -> Array:
    """log p(x | z) in nats of each row, (B,), or of what was observed of it: the sum of `log_likelihood_terms`."""
    return np.sum(log_likelihood_terms(parameters, x, outputs, likelihood, *about), axis=-1)


def gaussian_kl(mean: Array, log_std: Array) -> Array:
    """KL(q(z | x), N(0, I)) in nats of each row, (B,), in closed form (4); mean and log_std are (B, Z).

    Beyond the bounds of log_std it is the tangent there (44). Source: Kingma & Welling (2014), appendix B.
    """
    return np.sum(latent_kl(mean, log_std), axis=-1)


def lower_bound(
    parameters: Parameters,
    x: Array,
    standard_normals: Array,
    activation: str = "relu",
    likelihood: str | Blocks = "bernoulli",
    seen: Array | None = None,
    covariates: Array | None = None,
    size: Array | None = None,
) -> Array:
    """The one-sample evidence lower bound of each row in nats, (B,), eq. (1); x is (B, X), the noise (B, Z).

    `seen` is what the encoder sees, (B, X) or (B, X + C), where that is not x; `covariates`, (B, C), what the decoder sees
    beside z; `size` is as for `log_likelihood_terms`.
    """
    pass_ = forward(parameters, x if seen is None else seen, standard_normals, activation, covariates)
    log_p = log_likelihood(parameters, x, pass_.logits, likelihood, pass_.zero_logits, size)
    return log_p - gaussian_kl(pass_.mean, pass_.log_std)


@dataclass(frozen=True)
class ForwardPass:
    """Every array that the backward pass needs again."""

    encoder: list[Array]  # [x (B, X) or what the encoder sees of it, with covariates (B, X + C); h1 (B, H), h2 (B, H), ...]
    mean: Array  # (B, Z)
    log_std: Array  # (B, Z), as the encoder says it, without bounds
    z: Array  # (B k, Z), the k samples of an image together
    decoder: list[Array]  # [z (B k, Z), with covariates (B k, Z + C); g1 (B k, H), g2 (B k, H), ...]
    logits: Array  # (B k, X); the means of a Gaussian likelihood
    zero_logits: Array | None = None  # (B k, X), with zero inflation
    rounded: Rounding = unrounded  # the factors of its products, and so of those of the backward pass


def forward(
    parameters: Parameters,
    x: Array,
    standard_normals: Array,
    activation: str,
    covariates: Array | None = None,
    rounded: Rounding = unrounded,
) -> ForwardPass:
    """Both networks and the sampling between them; x is (B, X), the noise (B k, Z) for k samples an image.

    The decoder sees `covariates`, (B, C), beside z. `rounded` is what the factors of products become, but for those of the
    first layer, which are data.
    """
    encoder, mean, log_std = encode(parameters, x, activation, rounded)
    samples = len(standard_normals) // len(x)
    c = bounded(log_std)  #                                                                                  (43)
    z = sample_diagonal_gaussian(np.repeat(mean, samples, axis=0), np.repeat(c, samples, axis=0), standard_normals)
    decoder, logits = decode(parameters, beside(z, covariates), activation, rounded)
    zero_logits = decode_zeros(parameters, decoder[-1], rounded)
    return ForwardPass(encoder, mean, log_std, z, decoder, logits, zero_logits, rounded)


def encode(
    parameters: Parameters, x: Array, activation: str, rounded: Rounding = unrounded
) -> tuple[list[Array], Array, Array]:
    """The recognition network: its hidden layers [x, h1, ...], mean and log_std without its bounds, both (B, Z)."""
    layers = _hidden_layers(parameters, "encoder", x, activation, rounded)
    of_heads = unrounded if len(layers) == 1 else rounded  # without hidden layers they are the first layer
    mean = _dense(parameters, "mean", layers[-1], of_heads)
    log_std = _dense(parameters, "log_std", layers[-1], of_heads)
    return layers, mean, log_std


def decode(parameters: Parameters, z: Array, activation: str, rounded: Rounding = unrounded) -> tuple[list[Array], Array]:
    """The generator network: its hidden layers [z, g1, ...] and the logits, or Gaussian means, (B, X); of blocks (B, O).

    z is (B, Z), or (B, Z + C) with covariates.
    """
    layers = _hidden_layers(parameters, "decoder", z, activation, rounded)
    return layers, np.concatenate([_dense(parameters, name, layers[-1], rounded) for name in _outputs(parameters)], axis=1)


def _outputs(parameters: Parameters) -> list[str]:
    """The layers whose outputs stand side by side, in order."""
    names = [name.removesuffix(".weight") for name in parameters if name.endswith(".weight")]
    return [name for name in names if name.startswith("logits") or name in ("scales", "freedoms")]


def decode_zeros(parameters: Parameters, g: Array, rounded: Rounding = unrounded) -> Array | None:
    """The second output of a zero-inflated likelihood, (B, X), from the decoder's last hidden layer; None without one."""
    return _dense(parameters, "zero_logits", g, rounded) if "zero_logits.weight" in parameters else None


def backward(
    parameters: Parameters,
    pass_: ForwardPass,
    standard_normals: Array,
    activation: str,
    likelihood: str | Blocks = "bernoulli",
    credit: Credit | None = None,
    x: Array | None = None,
    size: Array | None = None,
) -> Parameters:
    """Gradients of the loss (6), the mean over the minibatch of minus the objective, for every parameter by name.

    Without a `credit` the objective is the one-sample ELBO. `x`, (B, X), is needed where the encoder sees something else;
    `size` is as for `log_likelihood_terms`.
    """
    B, Z = pass_.mean.shape
    if credit is None:
        credit = Credit(np.ones((B, 1), pass_.mean.dtype), np.ones(Z, pass_.mean.dtype), False)
    gradients: Parameters = {}
    rounded = pass_.rounded

    x = pass_.encoder[0] if x is None else x
    d_logits, d_zero_logits = _likelihood_backward(
        parameters, gradients, pass_, x, credit.samples.reshape(-1, 1) / B, likelihood, size
    )
    # logits = g2 @ W + b                                                                                     (5)
    d_g, first = np.zeros_like(pass_.decoder[-1]), 0
    for name in _outputs(parameters):
        last = first + parameters[f"{name}.bias"].size
        d_g = d_g + _dense_backward(parameters, gradients, name, pass_.decoder[-1], d_logits[:, first:last], rounded)
        first = last
    if d_zero_logits is not None:
        d_g = d_g + _dense_backward(parameters, gradients, "zero_logits", pass_.decoder[-1], d_zero_logits, rounded)
    # Nothing comes before the covariates, which are the columns from Z on.                                  (59)
    d_z = _hidden_backward(parameters, gradients, "decoder", pass_.decoder, d_g, activation, rounded)[:, :Z]  # (B k, Z)
    d_mean, d_log_std = _sampling_backward(pass_, d_z, standard_normals, credit)

    # mean = h2 @ W_mean + b_mean, log_std = h2 @ W_log_std + b_log_std                                       (5)
    h, of_heads = pass_.encoder[-1], unrounded if len(pass_.encoder) == 1 else rounded
    d_h = _dense_backward(parameters, gradients, "mean", h, d_mean, of_heads)
    d_h = d_h + _dense_backward(parameters, gradients, "log_std", h, d_log_std, of_heads)  #                 (13)
    _hidden_backward(parameters, gradients, "encoder", pass_.encoder, d_h, activation, rounded)
    return gradients


def _sampling_backward(pass_: ForwardPass, d_z: Array, standard_normals: Array, credit: Credit) -> tuple[Array, Array]:
    """d_mean and d_log_std, (B, Z) each, from the gradient that the decoder gives each sample, (B k, Z)."""
    mean, log_std = pass_.mean, pass_.log_std
    B, samples = credit.samples.shape
    c = bounded(log_std)  #                                                                                  (43)
    inside = c == log_std  # where c moves with log_std
    std = np.repeat(np.exp(c), samples, axis=0)  # (B k, Z)
    w = credit.samples.reshape(-1, 1)  # (B k, 1)

    # z = mean + exp(log_std) * noise                                                                         (2)
    # KL = 0.5 * sum(exp(2 log_std) + mean^2 - 1 - 2 log_std)                                                 (4)
    if credit.kl_weights is not None:
        d_mean = _over_samples(d_z, B) + credit.kl_weights * mean / B  # (B, Z)                              (11)
        d_log_std = inside * _over_samples(d_z * std * standard_normals, B)
        return d_mean, d_log_std + credit.kl_weights * (np.exp(2 * c) - 1) / B  #                            (12), (44)

    # log w = log p(x | z) + log p(z) - log q(z | x) = ... + 0.5 * sum(noise^2 - z^2) + sum(c)               (30)
    if credit.doubly:
        d_z = w * (d_z + w * (pass_.z - standard_normals / std) / B)  # (B k, Z)                             (36)
        return _over_samples(d_z, B), inside * _over_samples(d_z * std * standard_normals, B)
    d_z = d_z + w * pass_.z / B  # (B k, Z)                                                                  (34)
    return _over_samples(d_z, B), inside * (_over_samples(d_z * std * standard_normals, B) - 1 / B)  #       (35)


def _over_samples(d: Array, B: int) -> Array:
    """The sum over the k samples of each image: (B k, Z) to (B, Z)."""
    return d.reshape(B, -1, d.shape[1]).sum(axis=1)


def _likelihood_backward(
    parameters: Parameters,
    gradients: Parameters,
    pass_: ForwardPass,
    x: Array,
    factors: Array,
    likelihood: str | Blocks,
    size: Array | None,
) -> tuple[Array, Array | None]:
    """The gradient of the decoder's outputs, (B k, X) each, or (B k, O), and in `gradients` that of the own parameters, (X,).

    factors, (B k, 1): what each sample counts for in the loss, 1 / B for one sample an image (33).
    """
    a = pass_.logits
    samples = len(a) // len(pass_.mean)
    x = np.repeat(x, samples, axis=0)
    if isinstance(likelihood, Blocks):
        d_outputs, own = blocks.backward(x, a, parameters, likelihood, factors)
        gradients.update(own)
        return d_outputs, None
    if likelihood == "bernoulli":
        # log p(x | z) = sum(x * a - softplus(a))                                                             (3)
        return (sigmoid(a) - x) * factors, None  #                                                                  (7)
    if likelihood == "continuous-bernoulli":
        # log p(x | z) = sum(x * a - kappa(a))                                                               (21)
        return (continuous_bernoulli_mean(a) - x) * factors, None  #                                               (25)
    if likelihood in COUNT_LIKELIHOODS:
        size = x.sum(axis=1, keepdims=True) if size is None else np.repeat(size, samples, axis=0)
        return _counts_backward(parameters, gradients, pass_, x, factors, likelihood, size)
    # variance = 1e-4 + exp(2 x_log_std)                                                                     (17)
    # log p(x | z) = -0.5 * sum(log(2 pi variance) + (x - a)^2 / variance)                                   (18)
    variance, squared = x_variance(parameters["x_log_std"]), np.exp(2 * parameters["x_log_std"])
    share = squared / variance
    gradients["x_log_std"] = share * np.sum((1 - (x - a) ** 2 / variance) * factors, axis=0)  #                      (20)
    return (a - x) / variance * factors, None  #                                                                   (19)


def _counts_backward(
    parameters: Parameters,
    gradients: Parameters,
    pass_: ForwardPass,
    x: Array,
    factors: Array,
    likelihood: str,
    size: Array,
) -> tuple[Array, Array | None]:
    """The same of counts, (B k, X): minus the slopes of log p(x | z), times what each sample counts for."""
    t = parameters.get("x_log_dispersion")
    slopes = counts.slopes(x, size, pass_.logits, likelihood, t, pass_.zero_logits)
    if slopes.x_log_dispersion is not None and t is not None:
        total = -np.sum(slopes.x_log_dispersion * factors, axis=0)
        gradients["x_log_dispersion"] = counts.held_dispersion_gradient(total, t)
    d_zero_logits = None if slopes.zero_logits is None else -slopes.zero_logits * factors
    return -slopes.outputs * factors, d_zero_logits


def clipped(gradient: Array, clip_norm: float | None) -> Array:
    """The gradient, (P,), scaled to this Euclidean norm where it is longer (41); what is not a number stays so.

    Source: Pascanu, Mikolov & Bengio (2013), algorithm 1.
    """
    if clip_norm is None:
        return gradient
    norm = np.sqrt(np.sum(gradient.astype(np.float64) ** 2))
    return gradient if norm <= clip_norm else gradient * gradient.dtype.type(clip_norm / norm)


def adam_step(state: State, gradient: Array, adam: AdamSettings, learning_rate: float | None = None) -> None:
    """One step of Adam in place (14-16), as in Kingma & Ba (2015), algorithm 1, and in the report; all (P,)."""
    state.step += 1
    m, v = state.first_moments, state.second_moments
    m[...] = adam.beta1 * m + (1 - adam.beta1) * gradient
    v[...] = adam.beta2 * v + (1 - adam.beta2) * gradient**2
    m_hat = m / (1 - adam.beta1**state.step)
    v_hat = v / (1 - adam.beta2**state.step)
    rate = adam.learning_rate if learning_rate is None else learning_rate
    state.parameters -= rate * m_hat / (np.sqrt(v_hat) + adam.epsilon)


def _hidden_layers(parameters: Parameters, network: str, inputs: Array, activation: str, rounded: Rounding) -> list[Array]:
    layers = [inputs]
    while (name := f"{network}.{len(layers) - 1}") + ".weight" in parameters:
        a = _dense(parameters, name, layers[-1], _rounding(name, rounded))
        layers.append(np.maximum(a, 0) if activation == "relu" else np.tanh(a))
    return layers


def _hidden_backward(
    parameters: Parameters,
    gradients: Parameters,
    network: str,
    layers: list[Array],
    d_h: Array,
    activation: str,
    rounded: Rounding,
) -> Array:
    """From the gradient of the last hidden layer to that of the network's input, (B, inputs)."""
    for i in reversed(range(len(layers) - 1)):
        h, name = layers[i + 1], f"{network}.{i}"
        # h = relu(a) (9) or h = tanh(a) (10)
        d_a = d_h * (h > 0) if activation == "relu" else d_h * (1 - h**2)
        d_h = _dense_backward(parameters, gradients, name, layers[i], d_a, _rounding(name, rounded))
    return d_h


def _rounding(layer: str, rounded: Rounding) -> Rounding:
    """The factors of a hidden layer's products: those of the first one are not rounded."""
    return unrounded if layer == "encoder.0" else rounded


def _dense(parameters: Parameters, name: str, inputs: Array, rounded: Rounding) -> Array:
    # a = inputs @ W + b (5), of rounded factors (74)
    return rounded(inputs) @ rounded(parameters[f"{name}.weight"]) + parameters[f"{name}.bias"]


def _dense_backward(
    parameters: Parameters, gradients: Parameters, name: str, inputs: Array, d_a: Array, rounded: Rounding
) -> Array:
    # a = inputs @ W + b                                                                                      (5)
    gradients[f"{name}.weight"] = rounded(inputs).T @ rounded(d_a)  #                                         (8), (75)
    gradients[f"{name}.bias"] = d_a.sum(axis=0)
    return rounded(d_a) @ rounded(parameters[f"{name}.weight"]).T


class Batch(NamedTuple):
    """Examples as the networks and the likelihood see them."""

    x: Array  # (B, X): what the likelihood explains
    seen: Array  # (B, X) or (B, X + C): what the encoder sees
    covariates: Array | None  # (B, C): what the decoder sees beside z
    size: Array | None  # (B, 1): what the rates of counts add up to, where it is not the total


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
        self._rounded = bfloat16.rounded if training.precision == "bf16" else unrounded
        self._state = State.zeros(self.layout.size, self.dtype)

    @property
    def step(self) -> int:
        return self._state.step

    def state(self, out: State | None = None) -> State:
        return self._state.copy(out)

    def is_finite(self) -> bool:
        return self._state.is_finite()

    def load_state(self, state: State) -> None:
        self._state = state.astype(self.dtype)

    def place(self, values: Any) -> Any:
        rows, covariates = parted(values)
        placed = CountRows.of(rows) if self.model.counts else rows
        return placed if covariates is None else Conditioned(placed, covariates)

    def warm_up(self, placed: NDArray[Any]) -> None:
        """NumPy needs no compilation."""

    def train(self, placed: NDArray[Any], order: NDArray[np.int64], pace: Pace | None = None) -> BoundTerms:
        size, objective, adam = self.training.batch_size, self.training.objective, self.training.adam
        starts = range(0, len(order), size)
        pace = pace or Pace.constant(adam.learning_rate, objective.beta, len(starts))
        terms = []
        for start, learning_rate, kl_weight in zip(starts, *pace, strict=True):
            gradients, term = self._gradients(placed, order[start : start + size], float(kl_weight))
            gradient = clipped(self.layout.flatten(gradients, self.dtype), self.training.clip_norm)
            adam_step(self._state, gradient, adam, float(learning_rate))
            terms.append(term)
        return BoundTerms.concatenate(terms)

    def _gradients(self, placed: NDArray[Any], examples: NDArray[np.int64], kl_weight: float) -> tuple[Parameters, BoundTerms]:
        """Of one minibatch in the next step: the gradient of the loss, and the terms of each image."""
        objective, parameters, step = self.training.objective, self._views(), self._state.step
        activation, likelihood = self.model.activation, self.model.density
        x, seen, covariates, size = self._batch(placed[examples], examples, Purpose.TRAINING_PIXELS, step)
        epsilon = self._normals(Purpose.TRAINING_LATENTS, step, examples, objective.samples)
        pass_ = forward(parameters, seen, epsilon, activation, covariates, self._rounded)
        k = objective.samples
        sizes = None if size is None else np.repeat(size, k, axis=0)
        log_p = log_likelihood(parameters, np.repeat(x, k, axis=0), pass_.logits, likelihood, pass_.zero_logits, sizes)
        log_p = log_p.reshape(len(examples), k)
        heads = pass_.mean, pass_.log_std
        value, credit = value_and_credit(objective, kl_weight, log_p, *heads, pass_.z, epsilon)
        terms = (log_p.mean(axis=1), gaussian_kl(*heads), value)
        gradients = backward(parameters, pass_, epsilon, activation, likelihood, credit, x, size)
        return gradients, BoundTerms(*(term.astype(np.float64) for term in terms))

    def evaluate(self, placed: NDArray[Any], examples: NDArray[np.int64] | None = None) -> BoundTerms:
        numbers, terms = np.arange(len(placed)) if examples is None else examples, []
        for start in range(0, len(placed), EVALUATION_ROWS):
            some = numbers[start : start + EVALUATION_ROWS]
            batch = self._batch(placed[start : start + EVALUATION_ROWS], some, Purpose.EVALUATION_PIXELS, 0)
            terms.append(self._terms(batch, self._evaluated(batch, some)))
        return BoundTerms.concatenate(terms)

    def column_log_likelihoods(self, values: NDArray[Any], examples: NDArray[np.int64]) -> Array:
        """log p(x_j | z) in nats of each pixel, (N, X), for the z of `evaluate`: the summands of its log-likelihood."""
        batch = self._batch(values, examples, Purpose.EVALUATION_PIXELS, 0)
        pass_ = self._evaluated(batch, examples)
        about = self.model.density, pass_.zero_logits, batch.size
        return log_likelihood_terms(self._views(), batch.x, pass_.logits, *about)

    def importance_sample(
        self, placed: NDArray[Any], samples: int, examples: NDArray[np.int64] | None = None
    ) -> ImportanceTerms:
        numbers, estimates = np.arange(len(placed)) if examples is None else examples, []
        for start in range(0, len(placed), EVALUATION_ROWS):
            some = numbers[start : start + EVALUATION_ROWS]
            batch = self._batch(placed[start : start + EVALUATION_ROWS], some, Purpose.EVALUATION_PIXELS, 0)
            estimates.append(self._importance(batch, some, samples))
        return ImportanceTerms(*(np.concatenate(values) for values in zip(*estimates, strict=True)))

    def _importance(self, batch: Batch, numbers: NDArray[np.int64], samples: int) -> ImportanceTerms:
        """All samples of some images, one after the other."""
        heads, log_w = self._posterior(batch), np.empty((len(batch.x), samples), np.float64)
        for sample in range(samples):
            log_w[:, sample], _ = self._sample(batch, heads, numbers, sample)
        w = normalised_weights(log_w)
        return ImportanceTerms(log_mean_exp(log_w).astype(np.float64), 1 / np.sum(w**2, axis=1))  #           (26)

    def _posterior(self, batch: Batch) -> tuple[Array, Array]:
        """Mean and log_std of q(z | x), (B, Z) each."""
        _, mean, log_std = encode(self._views(), batch.seen, self.model.activation, self._rounded)
        return mean, bounded(log_std)

    def _sample(
        self, batch: Batch, heads: tuple[Array, Array], numbers: NDArray[np.int64], sample: int
    ) -> tuple[Array, Array]:
        """One sample of some images: log w, (B,) (30), and the decoder's outputs, (B, O)."""
        parameters, (mean, log_std) = self._views(), heads
        epsilon = self._normals(Purpose.IMPORTANCE_SAMPLES, sample, numbers)
        z = sample_diagonal_gaussian(mean, log_std, epsilon)
        layers, outputs = decode(parameters, beside(z, batch.covariates), self.model.activation, self._rounded)
        about = self.model.density, decode_zeros(parameters, layers[-1], self._rounded), batch.size
        log_p = log_likelihood(parameters, batch.x, outputs, *about)
        return log_weights(log_p[:, None], z, log_std, epsilon)[:, 0], outputs

    def impute(self, placed: Any, samples: int, examples: NDArray[np.int64] | None = None) -> ImputationTerms:
        numbers, found = np.arange(len(placed)) if examples is None else examples, []
        for start in range(0, len(placed), EVALUATION_ROWS):
            some = numbers[start : start + EVALUATION_ROWS]
            batch = self._batch(placed[start : start + EVALUATION_ROWS], some, Purpose.EVALUATION_PIXELS, 0)
            heads, log_w = self._posterior(batch), np.empty((len(some), samples))
            for sample in range(samples):
                log_w[:, sample], _ = self._sample(batch, heads, some, sample)
            w, means = normalised_weights(log_w), np.zeros(batch.x.shape)
            table = blocks_of(self.model.likelihood, self.model.pixels, self.model.columns)
            for sample in range(samples):
                _, outputs = self._sample(batch, heads, some, sample)
                means += w[:, sample : sample + 1] * blocks.expectation(outputs, table)  #                        (71)
            found.append(ImputationTerms(log_w, means))
        return ImputationTerms(*(np.concatenate(values) for values in zip(*found, strict=True)))

    def encode(self, x: Any) -> tuple[Array, Array]:
        x, covariates = parted(x)
        x = CountRows.of(x).dense(self.dtype) if self.model.counts else x.astype(self.dtype)
        _, mean, log_std = encode(self._views(), self._seen(x, covariates), self.model.activation, self._rounded)
        return mean, bounded(log_std)

    def decode(self, z: NDArray[Any]) -> Array:  # z (N, Z), or (N, Z + C) with covariates
        layers, outputs = decode(self._views(), z.astype(self.dtype), self.model.activation, self._rounded)
        zero_logits = decode_zeros(self._views(), layers[-1], self._rounded)
        return outputs if zero_logits is None else np.concatenate([outputs, zero_logits], axis=1)

    def close(self) -> None:
        """Nothing is held."""

    def _views(self) -> Parameters:
        return self.layout.views(self._state.parameters)

    def _normals(self, purpose: Purpose, step: int, examples: NDArray[np.int64], samples: int = 1) -> Array:
        """(B k, Z), the k samples of an image together."""
        seed, latent = self.training.seed, self.model.latent
        each = [noise.normals(seed, purpose, step, examples, latent, sample) for sample in range(samples)]
        return np.stack(each, axis=1).reshape(-1, latent).astype(self.dtype)

    def _batch(self, levels: Any, examples: NDArray[np.int64], purpose: Purpose, step: int) -> Batch:
        """Examples of a set that was placed, under these numbers, (B,)."""
        values, covariates = parted(levels)
        x = self._pixels(values, examples, purpose, step)
        sizes = CountRows.of(values).sizes if self.model.counts else None
        size = None if sizes is None else sizes[:, None].astype(self.dtype)
        told = None if covariates is None else covariates.astype(self.dtype)
        share, kept = self.training.input_dropout, None
        if share > 0 and purpose is Purpose.TRAINING_PIXELS:
            kept = noise.kept_entries(x, share, self.training.seed, step, examples)
        return Batch(x, self._seen(x, told, kept), told, size)

    def _seen(self, x: Array, covariates: Array | None = None, kept: NDArray[np.bool_] | None = None) -> Array:
        """The minibatch as the encoder sees it, (B, X), or (B, X + V + C): with what is missing, and covariates; of x what is
        kept."""
        density = self.model.density
        if isinstance(density, Blocks):
            seen = blocks.observed_zeros(x, density)
            seen = beside(seen, blocks.missing_indicators(x, density) if self.model.missing_indicator else None)
            return beside(seen, covariates if self.model.encode_covariates else None)
        seen = counts.seen(x, self.model.encoder_input)
        if kept is not None:
            seen = counts.with_dropout(seen, kept, self.training.input_dropout)
        return beside(seen, covariates if self.model.encode_covariates else None)

    def _evaluated(self, batch: Batch, examples: NDArray[np.int64]) -> ForwardPass:
        """A forward pass with the noise of evaluation."""
        epsilon = self._normals(Purpose.EVALUATION_LATENTS, 0, examples)
        return forward(self._views(), batch.seen, epsilon, self.model.activation, batch.covariates, self._rounded)

    def _pixels(self, levels: Any, examples: NDArray[np.int64], purpose: Purpose, step: int) -> Array:
        """The minibatch as the likelihood sees it, (B, X)."""
        if self.model.counts:
            return CountRows.of(levels).dense(self.dtype)
        if self.training.binarize == "dynamic":
            drawn = noise.drawn_pixels(levels, self.training.seed, purpose, step, examples).astype(self.dtype)
            return self._with_holes(drawn, levels)
        if self.training.binarize == "threshold":
            return self._with_holes((levels >= (128 if levels.dtype == np.uint8 else 0.5)).astype(self.dtype), levels)
        return levels.astype(self.dtype) / (255 if levels.dtype == np.uint8 else 1)

    def _with_holes(self, x: Array, levels: NDArray[Any]) -> Array:
        """x, (B, X), with NaN where the levels that it was drawn from are missing."""
        if self.model.missing and levels.dtype != np.uint8:
            x[np.isnan(levels)] = np.nan
        return x

    def _terms(self, batch: Batch, pass_: ForwardPass) -> BoundTerms:
        about = self.model.density, pass_.zero_logits, batch.size
        return BoundTerms.of_elbo(
            log_likelihood(self._views(), batch.x, pass_.logits, *about).astype(np.float64),
            gaussian_kl(pass_.mean, pass_.log_std).astype(np.float64),
        )
