"""Check the parameters of `VAE`, turn them into settings of the engines, and word errors by these parameters."""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight

from vaefast.engines.threads import granted_cores, thread_count
from vaefast.errors import DataError, SettingsError, VaefastError
from vaefast.models.defaults import (
    usual_encoder_input,
    usual_epsilon,
    usual_input_dropout,
    usual_learning_rate,
    usual_samples,
)
from vaefast.models.settings import (
    AdamSettings,
    ModelSettings,
    ObjectiveSettings,
    RateSchedule,
    TrainingSettings,
    check_input_dropout,
)
from vaefast.tables.checking import numbers_in
from vaefast.tables.frames import as_pandas

Callback: TypeAlias = Callable[[Any, Mapping[str, float]], "bool | None"]

# Flags and settings of the command line that messages name, and the parameters of `VAE` that do the same.
PARAMETERS = {
    "--learning-rate": "learning_rate", "--init": "init", "--threads": "n_jobs", "--out": "path", "latent": "n_components",
    "hidden": "hidden_layer_sizes", "threads is": "n_jobs is", "seed is": "random_state is", "warm_up": "kl_warm_up",
    "initial_second_moments": "second_moments",
}  # fmt: skip

# Parameters that are true or false.
FLAGS = ("early_stopping", "encode_covariates", "missing_indicator", "zero_inflation")


def settings_of(vae: Any, columns: int, missing: bool) -> tuple[ModelSettings, TrainingSettings]:
    """Settings of a model of so many columns and of its training, from the current parameters.

    `missing` says whether values are missing in training.
    """
    for name in FLAGS:
        check_flag(name, getattr(vae, name))
    sizes = vae.hidden_layer_sizes
    hidden = tuple(whole(size) for size in (sizes if isinstance(sizes, Iterable) else (sizes,)))
    seen = usual_encoder_input(vae.likelihood_) if vae.encoder_input == "auto" else vae.encoder_input
    about = vae.activation, vae.likelihood_, vae.zero_inflation, seen
    model = ModelSettings(
        columns, hidden, whole(vae.n_components), *about, vae._told.width, bool(vae.encode_covariates),
        columns=() if vae._inputs.schema is None else vae._inputs.schema.blocks,
        missing=missing or bool(vae.missing_indicator), missing_indicator=bool(vae.missing_indicator),
    )  # fmt: skip
    rate = usual_learning_rate(columns) if vae.learning_rate == "auto" else vae.learning_rate
    epsilon = usual_epsilon(vae.likelihood_, seen) if vae.epsilon == "auto" else vae.epsilon
    adam = AdamSettings(*map(real, (rate, vae.beta1, vae.beta2, epsilon)))
    dropped = usual_input_dropout(vae.likelihood_, columns) if vae.input_dropout == "auto" else real(vae.input_dropout)
    steps = _rate_steps(vae)
    schedule = RateSchedule(vae.learning_rate_schedule, steps, real(vae.final_learning_rate))
    training = TrainingSettings(
        vae.batch_size_, vae.epochs_, vae.binarize_, vae.init, vae.seed_, adam, _objective(vae), rate_schedule=schedule,
        clip_norm=None if vae.clip_norm is None else real(vae.clip_norm), input_dropout=dropped,
        precision=vae.precision,
    )  # fmt: skip
    check_input_dropout(model.likelihood, training.input_dropout)
    return model, training


def _rate_steps(vae: Any) -> tuple[tuple[Any, Any], ...]:
    given = vae.learning_rate_steps
    try:
        return tuple((whole(epoch), real(factor)) for epoch, factor in ([] if given is None else given))
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"learning_rate_steps is {given!r}: give pairs of an epoch and a factor, such as [(20, 0.1), (30, 0.01)]"
        ) from error


def _objective(vae: Any) -> ObjectiveSettings:
    samples = usual_samples(vae.objective) if vae.samples is None else whole(vae.samples)
    return ObjectiveSettings(
        vae.objective, samples, beta=real(vae.beta), warm_up=vae.kl_warm_up,
        warm_up_epochs=whole(vae.warm_up_epochs), free_nats=real(vae.free_nats),
    )  # fmt: skip


def seed_of(vae: Any) -> int:
    """The seed of an estimator: `seed_from` of its `random_state`."""
    return seed_from(vae.random_state)


def seed_from(random_state: Any) -> int:
    """The seed that a `random_state` stands for: an int itself, otherwise a number drawn from it."""
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        return int(random_state)
    return int(generator(random_state).randint(2**31))


def threads_of(vae: Any) -> int:
    """Number of threads. -1 is all available cores, -2 all but one, as in joblib; None depends on the environment."""
    jobs = None if vae.n_jobs is None else whole(vae.n_jobs)
    if jobs is not None and (not isinstance(jobs, int) or isinstance(jobs, bool)):
        raise SettingsError(f"n_jobs is {vae.n_jobs!r}: give a whole number of threads, -1 for all cores, or None")
    return thread_count(jobs if jobs is None or jobs >= 0 else max(1, granted_cores() + 1 + jobs))


@contextlib.contextmanager
def in_parameters() -> Iterator[None]:
    """Replace flags and settings of the command line in errors by the parameters of `VAE` that do the same."""
    try:
        yield
    except VaefastError as error:
        words = str(error)
        for flag, parameter in PARAMETERS.items():
            words = re.sub(rf"(?<![\w-]){flag}(?![\w-])", parameter, words)
        error.args = (words,)
        raise


def generator(random_state: Any) -> np.random.RandomState:
    """The random number generator that scikit-learn makes of this parameter.

    Raises
    ------
    SettingsError
        The parameter is not valid.
    """
    try:
        return check_random_state(random_state)
    except ValueError as error:
        raise SettingsError(f"random_state is {random_state!r}: give a whole number from 0 to {2**32 - 1}, or None") from error


def callbacks(callbacks: Any) -> list[Callback]:
    """The callbacks, checked.

    Raises
    ------
    SettingsError
        They are not a list of functions.
    """
    given = list(callbacks) if isinstance(callbacks, Iterable) else [] if callbacks is None else [callbacks]
    if not isinstance(callbacks, (Iterable, type(None))) or not all(callable(each) for each in given):
        raise SettingsError(f"callbacks is {callbacks!r}: give a list of functions, such as [callback]")
    return given


def weights(sample_weight: ArrayLike, X: NDArray[Any]) -> NDArray[np.float64]:
    """Weights of the rows of X, (N,) float64, checked to be neither negative nor all zero."""
    weights = _check_sample_weight(weight_values(sample_weight), X, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise DataError("sample_weight is zero for every row: give at least one row a weight above zero")
    return weights


def weight_values(sample_weight: Any) -> Any:
    """Weights of rows as an array of numbers, whatever column they came as; None and one number for all stay as they are.

    Raises
    ------
    DataError
        A weight is no number.
    """
    if sample_weight is None or isinstance(sample_weight, (int, float, np.number)):
        return sample_weight
    return numbers_in(as_pandas(sample_weight, "sample_weight"), "sample_weight")


def whole(value: Any) -> Any:
    """A whole number of NumPy as an int. Anything else stays as it is, for the settings to check."""
    if isinstance(value, (bool, np.bool_)):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return value


def count(name: str, value: Any, smallest: int) -> int:
    """A whole number from `smallest` on.

    Raises
    ------
    SettingsError
        The value is not such a number.
    """
    number = whole(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < smallest:
        raise SettingsError(f"{name} is {value!r}: give a whole number from {smallest}")
    return number


def check_flag(name: str, value: Any) -> None:
    """Check that this is a truth value, which 0 and 1 are as well.

    Raises
    ------
    SettingsError
        The value is another, such as the text "no", which Python takes for true.
    """
    if not (isinstance(value, (bool, np.bool_)) or whole(value) in (0, 1)):
        raise SettingsError(f"{name} is {value!r}: give True or False")


def real(value: Any) -> Any:
    """A number of NumPy as a number of Python."""
    return value.item() if isinstance(value, np.generic) else value
