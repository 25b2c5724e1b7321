"""What a model and a training run are made of: frozen dataclasses, checked in one place, the moment they are built."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vaefast.errors import SettingsError

ACTIVATIONS = ("relu", "tanh")
BINARIZATIONS = ("dynamic", "threshold", "none")
LIKELIHOODS = ("bernoulli", "gaussian", "continuous-bernoulli")
OBJECTIVES = ("elbo", "beta", "free-bits", "iwae", "dreg")
# Those whose samples are weighted by their importance; the others average over them.
IMPORTANCE_WEIGHTED = ("iwae", "dreg")
KL_ESTIMATORS = ("closed", "sampled")
WARM_UPS = ("none", "linear", "cyclic")
PRECISIONS = ("float32", "tf32")
INITIALIZATIONS = ("report", "glorot", "he", "fan-in", "data-mean")

# A width past this would need an index wider than the kernels' 32-bit pixel lists; no real layer comes near it.
LARGEST_SIZE = 2**24
LARGEST_SEED = 2**64 - 1
# Samples are numbered in 16 bits of the noise's counter.
LARGEST_SAMPLES = 2**16
# The learned variance of the Gaussian likelihood stays above this one, (0.01)^2: a pixel that never changes would else have a
# density, and with it a bound, that grows without end.
SMALLEST_VARIANCE = 1e-4


@dataclass(frozen=True)
class ModelSettings:
    """The two networks. The generator network mirrors the recognition network's hidden layers.

    Parameters
    ----------
    pixels
        Number of inputs X of one example.
    hidden
        Sizes of the recognition network's hidden layers, input side first; may be empty.
    latent
        Number of Gaussian latents Z.
    activation
        `relu` or `tanh`, after every hidden layer.
    likelihood
        p(x | z): `bernoulli` for pixels that are 0 or 1 (grey ones give a cross-entropy), `gaussian` for any real numbers,
        with a learned variance a pixel, or `continuous-bernoulli` for grey levels in [0, 1].

    Raises
    ------
    SettingsError
        A size or a name is out of its range.
    """

    pixels: int = 784
    hidden: tuple[int, ...] = (200, 200)
    latent: int = 50
    activation: str = "relu"
    likelihood: str = "bernoulli"

    def __post_init__(self) -> None:
        _check_integer("pixels", self.pixels, 1, LARGEST_SIZE)
        if not isinstance(self.hidden, tuple):
            raise SettingsError(f"hidden is {self.hidden!r}: give a tuple of whole numbers from 1 to {LARGEST_SIZE}")
        for size in self.hidden:
            _check_integer("hidden", size, 1, LARGEST_SIZE)
        _check_integer("latent", self.latent, 1, LARGEST_SIZE)
        _check_choice("activation", self.activation, ACTIVATIONS)
        _check_choice("likelihood", self.likelihood, LIKELIHOODS)


@dataclass(frozen=True)
class AdamSettings:
    """Step size and decay rates of Adam (Kingma & Ba 2015, algorithm 1)."""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        _check_real("learning_rate", self.learning_rate, 0.0, 1e6)
        _check_real("beta1", self.beta1, 0.0, 1.0, below=True)
        _check_real("beta2", self.beta2, 0.0, 1.0, below=True)
        # In float32 sqrt(v) underflows to 0 for gradients under 1e-21, and 0 / (0 + epsilon) must stay finite.
        _check_real("epsilon", self.epsilon, 1e-30, 1e6)


@dataclass(frozen=True)
class ObjectiveSettings:
    """What training maximises, of every image; DERIVATION.md, section 8.

    Parameters
    ----------
    name
        `elbo`; `beta`: the KL divergence times `beta` (Higgins et al. 2017), with warm-up; `free-bits`: each latent's KL
        divergence, averaged over the minibatch, counts for at least `free_nats` (Kingma et al. 2016); `iwae`: the
        importance-weighted bound of `samples` samples (Burda et al. 2015); `dreg`: the same bound with the doubly
        reparameterised gradient of the encoder (Tucker et al. 2018).
    samples
        Samples k of the latents an image and step; one pass of the encoder serves them all.
    kl
        For `elbo`: the KL divergence in closed form, or `sampled` with the latents themselves, as a difference of
        log-densities; then one sample is the same as `iwae` with one.
    beta
        Of `beta`: the factor of the KL divergence, after the warm-up.
    warm_up, warm_up_epochs
        Of `beta`: `linear` raises the factor from 0 over so many epochs; `cyclic` begins anew after each so many, and raises
        it in the first half of them (Fu et al. 2019).
    free_nats
        Of `free-bits`: nats a latent.

    Raises
    ------
    SettingsError
        A value is out of its range, or belongs to another objective.
    """

    name: str = "elbo"
    samples: int = 1
    kl: str = "closed"
    beta: float = 1.0
    warm_up: str = "none"
    warm_up_epochs: int = 10
    free_nats: float = 0.0

    def __post_init__(self) -> None:
        _check_choice("objective", self.name, OBJECTIVES)
        _check_integer("samples", self.samples, 1, LARGEST_SAMPLES)
        _check_choice("kl", self.kl, KL_ESTIMATORS)
        _check_real("beta", self.beta, 0.0, 1e6)
        _check_choice("warm_up", self.warm_up, WARM_UPS)
        _check_integer("warm_up_epochs", self.warm_up_epochs, 1, LARGEST_SIZE)
        _check_real("free_nats", self.free_nats, 0.0, 1e6)
        for setting, owner in (("kl", "elbo"), ("beta", "beta"), ("warm_up", "beta"), ("free_nats", "free-bits")):
            default = type(self).__dataclass_fields__[setting].default
            if self.name != owner and getattr(self, setting) != default:
                raise SettingsError(
                    f"{setting} is {getattr(self, setting)!r}, but objective {self.name} has none: leave it "
                    f"out, or choose objective {owner}"
                )

    @property
    def importance_weighted(self) -> bool:
        return self.name in IMPORTANCE_WEIGHTED


@dataclass(frozen=True)
class TrainingSettings:
    """One training run; the defaults are those of the 2021 report.

    `binarize` says what a grey pixel becomes: `dynamic` draws it afresh each time its image is seen, on with
    probability equal to its grey level; `threshold` turns it on from one half; `none` leaves it grey. `precision` is that
    of the factors in matrix products: `tf32` keeps 10 bits of their mantissa, for tensor cores; everything else is float32.
    """

    batch_size: int = 200
    epochs: int = 30
    binarize: str = "dynamic"
    initialization: str = "glorot"  # the best of five over three seeds: README.md, python -m benchmarks.initializations
    seed: int = 0
    adam: AdamSettings = field(default_factory=AdamSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    precision: str = "float32"

    def __post_init__(self) -> None:
        _check_integer("batch_size", self.batch_size, 1, LARGEST_SIZE)
        _check_integer("epochs", self.epochs, 0, LARGEST_SIZE)
        _check_choice("binarize", self.binarize, BINARIZATIONS)
        _check_choice("init", self.initialization, INITIALIZATIONS)
        _check_integer("seed", self.seed, 0, LARGEST_SEED)
        _check_choice("precision", self.precision, PRECISIONS)


def check_binarization(likelihood: str, binarize: str) -> None:
    """Refuse to draw pixels on or off for a likelihood of grey levels.

    Raises
    ------
    SettingsError
        The two do not go together.
    """
    if likelihood != "bernoulli" and binarize != "none":
        raise SettingsError(f"binarize is {binarize!r}, but likelihood {likelihood} is takes grey levels: choose none")


def _check_integer(name: str, value: object, smallest: int, largest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
        raise SettingsError(f"{name} is {value!r}: give a whole number from {smallest} to {largest}")


def _check_real(name: str, value: object, smallest: float, largest: float, below: bool = False) -> None:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    # Comparisons with NaN are false.
    if not (smallest <= number < largest if below else smallest <= number <= largest):
        bound = f"below {largest:g}" if below else f"to {largest:g}"
        raise SettingsError(f"{name} is {value!r}: give a number from {smallest:g} {bound}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}: choose {', '.join(choices[:-1])} or {choices[-1]}")
