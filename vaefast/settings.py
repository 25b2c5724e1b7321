"""What a model and a training run are made of: frozen dataclasses, checked in one place, the moment they are built."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from vaefast.errors import SettingsError

ACTIVATIONS = ("relu", "tanh")
BINARIZATIONS = ("dynamic", "threshold", "none")
LIKELIHOODS = ("bernoulli", "gaussian", "continuous-bernoulli")
INITIALIZATIONS = ("report", "glorot", "he", "fan-in", "data-mean")

# A width past this would need an index wider than the kernels' 32-bit pixel lists; no real layer comes near it.
LARGEST_SIZE = 2**24
LARGEST_SEED = 2**64 - 1
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
class TrainingSettings:
    """One training run; the defaults are those of the 2021 report.

    `binarize` says what a grey pixel becomes: `dynamic` draws it afresh each time its image is seen, on with
    probability equal to its grey level; `threshold` turns it on from one half; `none` leaves it grey.
    """

    batch_size: int = 200
    epochs: int = 30
    binarize: str = "dynamic"
    initialization: str = "glorot"  # the best of five over three seeds: README.md, python -m benchmarks.initializations
    seed: int = 0
    adam: AdamSettings = field(default_factory=AdamSettings)

    def __post_init__(self) -> None:
        _check_integer("batch_size", self.batch_size, 1, LARGEST_SIZE)
        _check_integer("epochs", self.epochs, 0, LARGEST_SIZE)
        _check_choice("binarize", self.binarize, BINARIZATIONS)
        _check_choice("init", self.initialization, INITIALIZATIONS)
        _check_integer("seed", self.seed, 0, LARGEST_SEED)


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
