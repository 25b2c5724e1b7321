"""The command line of `vaefast train`, checked. Flags override a TOML file, which overrides the defaults."""

from __future__ import annotations

import argparse
import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vaefast.cli.arguments import build_parser
from vaefast.cli.parser import ABSENT, Parser, meant
from vaefast.errors import SettingsError
from vaefast.models.defaults import (
    usual_binarization,
    usual_encoder_input,
    usual_epsilon,
    usual_input_dropout,
    usual_learning_rate,
    usual_length,
    usual_samples,
)
from vaefast.models.setting_names import ADAM, MODEL, OBJECTIVE, SCHEDULE, TRAINING, VALIDATION
from vaefast.models.settings import (
    AUTO,
    OBJECTIVES,
    AdamSettings,
    ModelSettings,
    ObjectiveSettings,
    RateSchedule,
    TrainingSettings,
    ValidationSettings,
    check_binarization,
    check_input_dropout,
)
from vaefast.runs.checkpoint_policy import Schedule

# Settings that depend on the data if they are not given, or given as `auto`.
AUTOMATIC = ("batch_size", "epochs", "learning_rate", "epsilon", "input_dropout")
# Bytes of a configuration file: far more than any needs, and still quick to read.
LARGEST_CONFIG = 1 << 20


@dataclass(frozen=True)
class Options:
    """All that flags and the configuration file decide."""

    model: ModelSettings
    training: TrainingSettings
    data: str | None
    data_dir: Path | None
    engine: str
    threads: int | None
    out: Path | None
    debug: bool
    resume: str | None
    schedule: Schedule
    given: Mapping[str, Any]  # by the user, this time
    start_from: Path | None = None
    tensorboard: bool = False
    distributed: str = "auto"
    deterministic_reduction: bool = False
    automatic: frozenset[str] = frozenset()  # of AUTOMATIC those that the data decide
    likelihood: str = AUTO  # as it was asked for; that of `model` is the one that the data decide
    zero_inflation: bool = False  # as it was asked for, as is the next
    encoder_input: str = AUTO
    has_binarize: bool = False  # whether it is given
    scaling: str = AUTO
    test_fraction: float | None = None
    label: str | None = None
    layer: str | None = None
    covariates: tuple[str, ...] = ()
    size_factors: str | None = None
    all_columns: bool = False
    color: bool = False
    missing: tuple[str, ...] = ()
    column_types: tuple[str, ...] = ()


def parse(arguments: list[str]) -> Options:
    """Parse the flags. They override the configuration file, which overrides the defaults.

    Raises
    ------
    SettingsError
        A flag, a key or a value is not usable.
    """
    parser = build_parser()
    given = vars(parser.parse_args(arguments))
    config = _read_config(given.pop("config"), parser) if "config" in given else {}
    values = {flag: value for flag, value in {**config, **given}.items() if flag not in AUTOMATIC or value != AUTO}
    if "learning_rate_steps" in values:
        values["learning_rate_steps"] = [_rate_step(text) for text in values["learning_rate_steps"]]
    if "resume" not in values:
        _refuse_idle(values)
    return checked(values)


def _refuse_idle(values: Mapping[str, Any]) -> None:
    """Refuse a setting of something that is not asked for.

    Raises
    ------
    SettingsError
        There is one.
    """
    for name, needs, remedy, needed, more in (
        ("warm_up_epochs", "kl_warm_up", "--kl-warm-up linear", "objective", "--objective beta "),
        ("min_improvement", "patience", "--patience 10", "validation", "--validation 0.1 "),
    ):
        # One that is switched off by name, as in a file of settings, is meant to be.
        if name in values and needs not in values:
            remedy = (more if needed not in values else "") + remedy
            raise SettingsError(f"{name} is {values[name]}, which counts with {needs} only: add {remedy}, or leave it out")


def checked(given: Mapping[str, Any]) -> Options:
    """Settings from values by the names of their flags.

    Raises
    ------
    SettingsError
        A value is out of its range.
    """
    values = dict(given)
    model, adam = _taken(values, MODEL), _taken(values, ADAM)
    automatic = frozenset(name for name in AUTOMATIC if name not in given)
    objective, schedule = _objective(values), _rate_schedule(values)
    validation, training = ValidationSettings(**_taken(values, VALIDATION)), _taken(values, TRAINING)
    if "hidden" in model:
        model["hidden"] = tuple(model["hidden"])
    # Until the data say how many columns these become, each is one.
    covariates = _texts("covariates", values.get("covariates", []), "names of columns, or their numbers,")
    model["covariates"] = len(covariates)
    model["missing"] = model.get("missing_indicator", False)
    has_binarize, likelihood = "binarize" in training, model.pop("likelihood", AUTO)
    zero_inflation, encoder_input = model.pop("zero_inflation", False), model.pop("encoder_input", AUTO)
    if likelihood != AUTO:
        if likelihood != "mixed":  # which has columns, and they come with the data
            model["likelihood"] = likelihood
        training.setdefault("binarize", usual_binarization(likelihood))
        check_binarization(likelihood, training["binarize"])
        check_input_dropout(likelihood, training.get("input_dropout", 0.0))
    return Options(
        ModelSettings(**model),
        TrainingSettings(
            adam=AdamSettings(**adam), objective=objective, rate_schedule=schedule, validation=validation, **training
        ),
        data=_expanded(values.get("data")),
        data_dir=_path(values.get("data_dir")),
        engine=values.get("engine", "auto"),
        threads=values.get("threads"),
        out=_path(values.get("out")),
        debug=values.get("debug", False),
        resume=None if _path(values.get("resume")) is None else values["resume"],
        schedule=Schedule(values.get("checkpoint_every", "auto")),
        given=given,
        start_from=_path(values.get("start_from")),
        tensorboard=values.get("tensorboard", False),
        distributed=values.get("distributed", "auto"),
        deterministic_reduction=values.get("deterministic_reduction", False),
        automatic=automatic,
        likelihood=likelihood,
        zero_inflation=zero_inflation,
        encoder_input=encoder_input,
        has_binarize=has_binarize,
        scaling=values.get("scaling", AUTO),
        test_fraction=values.get("test_fraction"),
        label=values.get("label"),
        layer=values.get("layer"),
        covariates=covariates,
        size_factors=values.get("size_factors"),
        all_columns=values.get("all_columns", False),
        color=values.get("color", False),
        missing=tuple(map(str.strip, _texts("missing", values.get("missing", []), "what a cell says, such as NA"))),
        column_types=_texts("column_types", values.get("column_types", []), "a column and its kind, such as age=real,"),
    )


def suited(
    options: Options,
    rows: int,
    columns: int,
    likelihood: str,
    covariates: int,
    missing: bool = False,
    kinds: tuple[tuple[str, int], ...] = (),
) -> Options:
    """The options, completed for so many training rows of so many columns under this likelihood where they are not given.

    Parameters
    ----------
    covariates
        Columns of covariates that the networks see.
    missing
        Whether values are missing in training.
    kinds
        Of `mixed`: the kinds of the columns, as `ModelSettings.columns` has them.

    Raises
    ------
    SettingsError
        A given setting does not go with the likelihood.
    """
    binarize = options.training.binarize if options.has_binarize else usual_binarization(likelihood)
    check_binarization(likelihood, binarize)
    check_input_dropout(likelihood, options.training.input_dropout)
    training, length = replace(options.training, binarize=binarize), usual_length(rows, binarize)
    seen = usual_encoder_input(likelihood) if options.encoder_input == AUTO else options.encoder_input
    if "batch_size" in options.automatic:
        training = replace(training, batch_size=length.batch_size)
    if "epochs" in options.automatic:
        training = replace(training, epochs=length.epochs)
    if "input_dropout" in options.automatic:
        training = replace(training, input_dropout=usual_input_dropout(likelihood, columns))
    if "learning_rate" in options.automatic:
        training = replace(training, adam=replace(training.adam, learning_rate=usual_learning_rate(columns)))
    if "epsilon" in options.automatic:
        training = replace(training, adam=replace(training.adam, epsilon=usual_epsilon(likelihood, seen)))
    zeros = options.zero_inflation
    model = replace(
        options.model, pixels=columns, likelihood=likelihood, zero_inflation=zeros, encoder_input=seen, covariates=covariates,
        missing=missing or options.model.missing, columns=kinds,
    )  # fmt: skip
    return replace(options, model=model, training=training)


def _texts(flag: str, given: list[object], what: str) -> tuple[str, ...]:
    """The values of a flag that takes several, such as names of columns.

    Raises
    ------
    SettingsError
        One is no text, as in a TOML file.
    """
    wrong = next((value for value in given if not isinstance(value, str)), None)
    if wrong is not None:
        raise SettingsError(f"{flag} has {wrong!r}: give {what} as text in quotes")
    return tuple(str(value) for value in given)


def _taken(values: dict[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """Take some settings out of the values, which have the names of flags, and give them their own names."""
    return {settings[flag]: values.pop(flag) for flag in [*values] if flag in settings}


def _objective(values: dict[str, Any]) -> ObjectiveSettings:
    """Take the objective out of the values. The number of samples, if not given, depends on the objective."""
    given = _taken(values, OBJECTIVE)
    given.setdefault("samples", usual_samples(given.get("name", OBJECTIVES[0])))
    return ObjectiveSettings(**given)


def _rate_schedule(values: dict[str, Any]) -> RateSchedule:
    """Take the schedule out of the values. A setting that belongs to one schedule alone chooses it."""
    given = _taken(values, SCHEDULE)
    if "steps" in given:
        given["steps"] = tuple((epoch, factor) for epoch, factor in given["steps"])
    if given.get("steps"):
        given.setdefault("name", "steps")
    if given.get("final"):
        given.setdefault("name", "cosine")
    return RateSchedule(**given)


def _rate_step(text: object) -> list[int | float]:
    """`20:0.1` as [20, 0.1].

    Raises
    ------
    SettingsError
        The text is not such a pair.
    """
    epoch, _, factor = text.partition(":") if isinstance(text, str) else ("", "", "")
    try:
        return [int(epoch), float(factor)]
    except ValueError as error:
        raise SettingsError(f"learning_rate_steps has {text!r}: give an epoch and a factor, such as 20:0.1") from error


def _read_config(name: str, parser: Parser) -> dict[str, Any]:
    """Read the keys of a TOML file, spelt with hyphens or underscores, and check them like flags."""
    try:
        content = tomllib.loads(_config_text(name))
    except OSError as error:
        raise SettingsError(f"cannot read {name}: {error.strerror}; give --config an existing TOML file") from error
    except SettingsError:
        raise
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors, too
        raise SettingsError(f"{name} is not TOML: {' '.join(str(error).split())[:160]}") from error
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "version", "config")}
    values: dict[str, Any] = {}
    for key, value in content.items():
        dest = key.replace("-", "_")
        if dest not in actions:
            near = meant(dest, [name.replace("_", "-") for name in actions]).split(" ")[0].replace("-", "_")
            hint = f"did you mean {near}?" if near else ABSENT.get(key.replace("_", "-")) or f"keys are {', '.join(actions)}"
            raise SettingsError(f"{name} has the unknown key {key!r}; {hint}")
        if dest in values:
            raise SettingsError(f"{name} has {key!r} twice, with a hyphen and with an underscore: keep one")
        values[dest] = _config_value(name, key, value, actions[dest])
    return values


def _config_text(name: str) -> str:
    status = os.stat(name)
    # Checked before opening: opening a FIFO waits for its writer, and opening a device may act on it.
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise SettingsError(f"cannot read {name}: it is not a file; give --config an existing TOML file")
    if status.st_size > LARGEST_CONFIG:
        raise SettingsError(f"cannot read {name}: it has more than {LARGEST_CONFIG} bytes; give --config a TOML file")
    return Path(name).read_text(encoding="utf-8-sig")  # editors of Windows begin a file with a mark


def _config_value(name: str, key: str, value: Any, action: argparse.Action) -> Any:
    if isinstance(value, dict) or (isinstance(value, list) and action.nargs != "*"):
        raise SettingsError(f"{name}: {key} is {json.dumps(value, default=str)}: give one value")
    if action.nargs == "*" and not isinstance(value, list):
        value = [value]
    if action.nargs == 0 and not isinstance(value, bool):
        raise SettingsError(f"{name}: {key} is {value!r}: give true or false")
    if action.dest == "checkpoint_every" and type(value) is int:
        value = str(value)
    if action.type is not None and isinstance(value, str) and (action.dest not in AUTOMATIC or value != AUTO):
        raise SettingsError(f"{name}: {key} is {value!r}: give a number, without quotes")
    if action.type is float and value != AUTO:
        value = _number(name, key, value)
    if action.choices is not None and value not in action.choices:
        raise SettingsError(f"{name}: {key} is {value!r}: choose {', '.join(map(str, action.choices))}")
    wants_text = action.type is None and action.nargs not in (0, "*")
    if wants_text and not isinstance(value, str):
        raise SettingsError(f"{name}: {key} is {value!r}: give it as text in quotes")
    return value


def _number(name: str, key: str, value: Any) -> float:
    """A number of a TOML file, in which one without a point is a whole one, as a flag would give it.

    Raises
    ------
    SettingsError
        It is none, or none that float64 holds.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        return float(value)
    except (TypeError, OverflowError) as error:
        raise SettingsError(f"{name}: {key} is {str(value)[:40]}: give a number") from error


def _expanded(text: str | None) -> str | None:
    """Expand `~` to the home folder. A shell does so only in some places, and TOML nowhere."""
    return None if text is None else os.path.expanduser(text)


def _path(text: str | None) -> Path | None:
    expanded = _expanded(text)
    if expanded is not None and "\0" in expanded:
        raise SettingsError(f"{expanded!r} holds a null character: give the path of a folder")
    return None if expanded is None else Path(expanded)
