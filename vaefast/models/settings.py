"""What a model and a training run are made of: frozen dataclasses, checked in one place, the moment they are built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from vaefast.errors import SettingsError
from vaefast.models.columns import COLUMN_KINDS, Blocks, blocks_of

ACTIVATIONS = ("relu", "tanh")
BINARIZATIONS = ("dynamic", "threshold", "none")
LIKELIHOODS = ("bernoulli", "gaussian", "continuous-bernoulli")
# What a user leaves to the data.
AUTO = "auto"
# Of whole numbers, whose rates or shares are a softmax over all columns of a row.
COUNT_LIKELIHOODS = ("negative-binomial", "poisson", "multinomial")
# Of any real numbers, which are scaled by mean and deviation.
REAL_LIKELIHOODS = ("gaussian", "student-t")
# Of tables: heavy tails in every column, and columns of several kinds.
TABLE_LIKELIHOODS = ("student-t", "mixed")
ENCODER_INPUTS = ("none", "log1p", "l2")
OBJECTIVES = ("elbo", "beta", "free-bits", "iwae", "dreg")
# Those whose samples are weighted by their importance; the others average over them.
IMPORTANCE_WEIGHTED = ("iwae", "dreg")
# With one they would be the ELBO.
IMPORTANCE_SAMPLES = 5
KL_ESTIMATORS = ("closed", "sampled")
RATE_SCHEDULES = ("constant", "steps", "cosine", "staged")
WARM_UPS = ("none", "linear", "cyclic")
# Of the factors of matrix products.
PRECISIONS = ("float32", "tf32", "bf16")
INITIALIZATIONS = ("report", "glorot", "he", "fan-in", "data-mean")

# A width past this would need an index wider than the kernels' 32-bit pixel lists; no real layer comes near it.
LARGEST_SIZE = 2**24
LARGEST_SEED = 2**64 - 1
# Samples are numbered in 16 bits of the noise's counter.
LARGEST_SAMPLES = 2**16
# What the encoder says of a posterior's log standard deviation holds between these. Above, exp(5) = 148 times as wide as the
# prior, no trained posterior lies, and a wider one drowns how odd a row is in noise of its own. Below, exp(-40), even one over
# its square is still a float32 number.
LOG_STD_BOUNDS = (-40.0, 5.0)
# The log dispersion of the negative binomial holds between these, theta from 1e-4 to 1e6. Below, all but every count is 0;
# above, a count of 100 is as likely as under a Poisson to 1 part in 100.
LOG_DISPERSION_BOUNDS = (-9.21, 13.81)
# Settings of a model that older versions did not have, as they are where nothing is said.
ADDED: dict[str, Any] = {
    "zero_inflation": False, "encoder_input": "none", "covariates": 0, "encode_covariates": False,
    "columns": (), "missing": False, "missing_indicator": False,
}  # fmt: skip
# The same of a training run.
ADDED_TO_TRAINING: dict[str, Any] = {"input_dropout": 0.0}
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
        with a learned variance a pixel, `continuous-bernoulli` for grey levels in [0, 1]; for whole counts
        `negative-binomial`, with a learned dispersion a column, `poisson`, or `multinomial`, where only the shares of a row
        count.
    zero_inflation
        Of `negative-binomial`: each count may be zero for a reason of its own, with a probability that the decoder gives.
    encoder_input
        What the encoder sees of the counts x: `none` x itself, `log1p` log(1 + x), `l2` x over its Euclidean norm.
    covariates
        Number of covariates C of each example, which the decoder sees beside the latents.
    encode_covariates
        Whether the encoder sees them, too, beside the pixels.
    columns
        Of `mixed`: the kinds of the columns in their order, which is that of `blocks.COLUMN_KINDS`, each with its number of
        columns; `categorical` once for each variable, with its number of levels.
    missing
        Whether values may be missing, NaN in x: the likelihood is that of the others.
    missing_indicator
        Whether the encoder sees which ones are missing.

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
    zero_inflation: bool = False
    encoder_input: str = "none"
    covariates: int = 0
    encode_covariates: bool = False
    columns: tuple[tuple[str, int], ...] = ()
    missing: bool = False
    missing_indicator: bool = False

    def __post_init__(self) -> None:
        _check_integer("pixels", self.pixels, 1, LARGEST_SIZE)
        _check_integer("covariates", self.covariates, 0, LARGEST_SIZE)
        if not isinstance(self.hidden, tuple):
            raise SettingsError(f"hidden is {self.hidden!r}: give a tuple of whole numbers from 1 to {LARGEST_SIZE}")
        for size in self.hidden:
            _check_integer("hidden", size, 1, LARGEST_SIZE)
        _check_integer("latent", self.latent, 1, LARGEST_SIZE)
        _check_choice("activation", self.activation, ACTIVATIONS)
        _check_choice("likelihood", self.likelihood, LIKELIHOODS + COUNT_LIKELIHOODS + TABLE_LIKELIHOODS)
        _check_choice("encoder_input", self.encoder_input, ENCODER_INPUTS)
        if self.zero_inflation and self.likelihood != "negative-binomial":
            raise SettingsError(f"likelihood {self.likelihood} has no zero inflation: choose negative-binomial")
        if self.encoder_input != "none" and not self.counts:
            raise SettingsError(
                f"encoder_input is {self.encoder_input!r}, which is for counts, and likelihood {self.likelihood} is not: "
                "choose auto"
            )
        if self.encode_covariates and not self.covariates:
            raise SettingsError("encode_covariates is true, but there are no covariates: give covariates, or leave it out")
        self._check_columns()

    def _check_columns(self) -> None:
        if self.missing and self.counts:
            raise SettingsError(
                f"values are missing, and likelihood {self.likelihood} needs every count of a row: fill them, or choose "
                "gaussian or mixed"
            )
        if self.missing_indicator and not self.missing:
            raise SettingsError("missing_indicator is true, but no value is missing: leave it out")
        if (self.likelihood == "mixed") != bool(self.columns):
            raise SettingsError(
                f"columns are {self.columns!r}, likelihood is {self.likelihood}: mixed has columns, no other has"
            )
        if not self.columns:
            return
        for kind, width in self.columns:
            _check_choice("columns", kind, COLUMN_KINDS)
            _check_integer("columns", width, 1, LARGEST_SIZE)
        places = [COLUMN_KINDS.index(kind) for kind, _ in self.columns]
        once = [place for place in places if COLUMN_KINDS[place] != "categorical"]
        if places != sorted(places) or len(once) != len(set(once)):
            raise SettingsError(f"columns are {self.columns!r}: give each kind once, in the order {', '.join(COLUMN_KINDS)}")
        if sum(width for _, width in self.columns) != self.pixels:
            raise SettingsError(f"columns are {self.columns!r}, which are not {self.pixels}")

    @property
    def in_blocks(self) -> bool:
        """Whether columns differ in kind or in how many numbers say their density, or values may be missing."""
        return self.missing or self.likelihood in TABLE_LIKELIHOODS

    @property
    def density(self) -> str | Blocks:
        """What log p(x | z) is the density of: the name of a likelihood, or blocks of columns."""
        return blocks_of(self.likelihood, self.pixels, self.columns) if self.in_blocks else self.likelihood

    @property
    def indicators(self) -> int:
        """How many columns tell the encoder what is missing."""
        return len(blocks_of(self.likelihood, self.pixels, self.columns).variables()) if self.missing_indicator else 0

    @property
    def outputs(self) -> int:
        """Numbers that the decoder gives for a row, O."""
        if self.in_blocks:
            return blocks_of(self.likelihood, self.pixels, self.columns).outputs
        return self.pixels * (2 if self.zero_inflation else 1)

    @property
    def encoder_inputs(self) -> int:
        """Columns that the encoder sees: X, those that tell what is missing, and C where it sees covariates."""
        return self.pixels + self.indicators + (self.covariates if self.encode_covariates else 0)

    @property
    def decoder_inputs(self) -> int:
        """Columns that the decoder sees: Z + C."""
        return self.latent + self.covariates

    @property
    def counts(self) -> bool:
        """Whether the likelihood is one of whole counts."""
        return self.likelihood in COUNT_LIKELIHOODS

    def as_values(self) -> dict[str, Any]:
        """The settings by name. What older versions did not have stands there only where it is not as by default, so that
        a model that needs nothing new is saved in the same bytes."""
        return _without_defaults(asdict(self), ADDED)


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
class RateSchedule:
    """How the learning rate changes over the epochs, from Adam's `learning_rate` on.

    Parameters
    ----------
    name
        `constant`; `steps`; `cosine`: falls from step to step along half a cosine, over all epochs (Loshchilov & Hutter 2017,
        without restarts); `staged`: 10^(-i/7) of it for 3^i epochs, i = 0, 1, ... (Burda et al. 2015, section 5).
    steps
        Of `steps`: pairs of an epoch and a factor. Once so many epochs are trained the rate is `factor` times the first one,
        not times the one before.
    final
        Of `cosine`: the rate that the last step comes near.

    Raises
    ------
    SettingsError
        A value is out of its range, or belongs to another schedule.
    """

    name: str = "constant"
    steps: tuple[tuple[int, float], ...] = ()
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_choice("learning_rate_schedule", self.name, RATE_SCHEDULES)
        _check_real("final_learning_rate", self.final, 0.0, 1e6)
        for epoch, factor in self.steps:
            _check_integer("epoch of learning_rate_steps", epoch, 1, LARGEST_SIZE)
            _check_real("factor of learning_rate_steps", factor, 0.0, 1e6)
        epochs = [epoch for epoch, _ in self.steps]
        if epochs != sorted({*epochs}):
            raise SettingsError(
                f"learning_rate_steps has the epochs {epochs}: give each once, in order, such as 20:0.1 30:0.01"
            )
        if self.name == "steps" and not self.steps:
            raise SettingsError(
                "learning_rate_schedule is steps, without any: give learning_rate_steps, such as 20:0.1 30:0.01"
            )
        for setting, value, owner in (
            ("learning_rate_steps", self.steps, "steps"),
            ("final_learning_rate", self.final, "cosine"),
        ):
            if value and self.name != owner:
                raise SettingsError(
                    f"{setting} is given, but schedule {self.name} has none: choose learning_rate_schedule {owner}"
                )


@dataclass(frozen=True)
class ObjectiveSettings:
    """What training maximises, of every image; DERIVATION.md, section 12.

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
class ValidationSettings:
    """What of the training set is held out, and when training stops by it.

    Parameters
    ----------
    held_out
        Below 1 a share of the training set, from 1 on a number of images; 0 is none.
    patience
        Epochs without a better validation ELBO after which training stops, and the best epoch's model is kept; 0 is never.
    min_improvement
        The smallest rise that counts, in nats.

    Raises
    ------
    SettingsError
        A value is out of its range.
    """

    held_out: float = 0.0
    patience: int = 0
    min_improvement: float = 0.0

    def __post_init__(self) -> None:
        _check_real("validation", self.held_out, 0.0, LARGEST_SIZE)
        if self.held_out >= 1 and self.held_out != int(self.held_out):
            raise SettingsError(f"validation is {self.held_out!r}: give a whole number of images, or a share below 1")
        _check_integer("patience", self.patience, 0, LARGEST_SIZE)
        _check_real("min_improvement", self.min_improvement, 0.0, 1e6)
        if self.patience and not self.held_out:
            raise SettingsError(
                f"patience is {self.patience}, and nothing is held out to stop by, which is never the test set: give "
                "validation, such as 0.1"
            )


@dataclass(frozen=True)
class TrainingSettings:
    """One training run; the defaults are those of the 2021 report.

    `binarize` says what a grey pixel becomes: `dynamic` draws it afresh each time its image is seen, on with
    probability equal to its grey level; `threshold` turns it on from one half; `none` leaves it grey. `clip_norm` is the
    largest Euclidean norm of a step's gradient, of all parameters together; a longer one is scaled to it. `precision` is
    that of the factors in matrix products: `tf32` keeps 10 bits of their mantissa, for tensor cores; `bf16` is bfloat16, for
    CPUs (DERIVATION.md, section 15). `input_dropout`, of counts, is the probability that the encoder misses an entry of a
    row in a step (DERIVATION.md, section 13).
    """

    batch_size: int = 200
    epochs: int = 30
    binarize: str = "dynamic"
    initialization: str = "glorot"  # the best of five over three seeds: docs/performance.md
    seed: int = 0
    adam: AdamSettings = field(default_factory=AdamSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    rate_schedule: RateSchedule = field(default_factory=RateSchedule)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    second_moments: float = 0.0  # Adam's, of every parameter, before the first step; 0 in the paper on Adam
    clip_norm: float | None = None
    precision: str = "float32"
    input_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_integer("batch_size", self.batch_size, 1, LARGEST_SIZE)
        _check_integer("epochs", self.epochs, 0, LARGEST_SIZE)
        _check_choice("binarize", self.binarize, BINARIZATIONS)
        _check_choice("init", self.initialization, INITIALIZATIONS)
        _check_integer("seed", self.seed, 0, LARGEST_SEED)
        _check_choice("precision", self.precision, PRECISIONS)
        if self.clip_norm is not None:
            _check_real("clip_norm", self.clip_norm, 1e-30, 1e30)
        _check_real("initial_second_moments", self.second_moments, 0.0, 1e30)
        _check_real("input_dropout", self.input_dropout, 0.0, 1.0, below=True)
        if self.rate_schedule.final > self.adam.learning_rate:
            raise SettingsError(
                f"final_learning_rate is {self.rate_schedule.final:g}, above learning_rate {self.adam.learning_rate:g}: "
                "give a rate to fall to, not a share"
            )

    def as_values(self) -> dict[str, Any]:
        """The settings by name, as `ModelSettings.as_values` gives those of a model."""
        return _without_defaults(asdict(self), ADDED_TO_TRAINING)


def restored_training(values: Mapping[str, Any]) -> TrainingSettings:
    """Training settings from what `as_values` made of them and JSON kept; what an older version did not have is as by default.

    Raises
    ------
    SettingsError, TypeError, ValueError
        They are none.
    """
    schedule = dict(values.get("rate_schedule", {}))
    schedule["steps"] = tuple((epoch, factor) for epoch, factor in schedule.get("steps", ()))
    parts = {
        "adam": AdamSettings(**values.get("adam", {})),
        "objective": ObjectiveSettings(**values.get("objective", {})),
        "rate_schedule": RateSchedule(**schedule),
        "validation": ValidationSettings(**values.get("validation", {})),
    }
    return TrainingSettings(**{**values, **parts})


def check_binarization(likelihood: str, binarize: str) -> None:
    """Refuse to draw pixels on or off for a likelihood of grey levels.

    Raises
    ------
    SettingsError
        The two do not go together.
    """
    if likelihood != "bernoulli" and binarize != "none":
        raise SettingsError(f"binarize is {binarize!r}, but likelihood {likelihood} takes grey levels: choose none")


def check_input_dropout(likelihood: str, share: float) -> None:
    """Refuse to drop entries of what are no counts.

    Raises
    ------
    SettingsError
        The two do not go together.
    """
    if share and likelihood not in COUNT_LIKELIHOODS:
        raise SettingsError(
            f"input_dropout is {share:g}, which is for counts, and likelihood {likelihood} is not: leave it out, or choose "
            "multinomial"
        )


def _without_defaults(values: dict[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in added or value != added[name]}


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
