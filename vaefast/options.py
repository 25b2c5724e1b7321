"""The command line of `python -m vaefast.train`: flags over a TOML file over the defaults, checked."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from vaefast.errors import SettingsError
from vaefast.schedule import Schedule
from vaefast.settings import (
    ACTIVATIONS,
    BINARIZATIONS,
    IMPORTANCE_SAMPLES,
    INITIALIZATIONS,
    KL_ESTIMATORS,
    LIKELIHOODS,
    OBJECTIVES,
    PRECISIONS,
    RATE_SCHEDULES,
    WARM_UPS,
    AdamSettings,
    ModelSettings,
    ObjectiveSettings,
    RateSchedule,
    TrainingSettings,
    ValidationSettings,
    check_binarization,
    usual_samples,
)
from vaefast.version import __version__

# Of a configuration file: far above any, and soon read.
LARGEST_CONFIG = 1 << 20


@dataclass(frozen=True)
class Options:
    """Everything that flags and the configuration file decide."""

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


class Parser(argparse.ArgumentParser):
    """One line for a wrong flag, with the nearest right one."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}{self._nearest(message)}; {self.prog} --help lists the flags")

    def _nearest(self, message: str) -> str:
        flags = [flag for action in self._actions for flag in action.option_strings]
        for word in message.split():
            near = difflib.get_close_matches(word.split("=")[0], flags, 1)
            if word.startswith("--") and word not in flags and near:
                return f" (did you mean {near[0]}?)"
        return ""


def parse(arguments: list[str]) -> Options:
    """Flags over the configuration file over the defaults.

    Raises
    ------
    SettingsError
        A flag, a key or a value is not usable.
    """
    parser = _build_parser()
    given = vars(parser.parse_args(arguments))
    config = _read_config(given.pop("config"), parser) if "config" in given else {}
    values = {**config, **given}
    if "learning_rate_steps" in values:
        values["learning_rate_steps"] = [_rate_step(text) for text in values["learning_rate_steps"]]
    return checked(values)


def checked(given: Mapping[str, Any]) -> Options:
    """Settings from values by the names of their flags.

    Raises
    ------
    SettingsError
        A value is out of its range.
    """
    values = dict(given)
    model = {name: values.pop(name) for name in ("hidden", "latent", "activation", "likelihood") if name in values}
    adam = {name: values.pop(name) for name in ("learning_rate", "beta1", "beta2", "epsilon") if name in values}
    objective, schedule = _objective(values), _rate_schedule(values)
    named = {"validation": "held_out", "patience": "patience", "min_improvement": "min_improvement"}
    validation = ValidationSettings(**{named[flag]: values.pop(flag) for flag in [*values] if flag in named})
    training: dict[str, Any] = {
        name: values.pop(name)
        for name in ("batch_size", "epochs", "binarize", "seed", "clip_norm", "precision")
        if name in values
    }
    if "initial_second_moments" in values:
        training["second_moments"] = values.pop("initial_second_moments")
    if "init" in values:
        training["initialization"] = values.pop("init")
    if "hidden" in model:
        model["hidden"] = tuple(model["hidden"])
    if model.get("likelihood", "bernoulli") in LIKELIHOODS[1:]:
        training.setdefault("binarize", "none")
        check_binarization(model["likelihood"], training["binarize"])
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
    )


def _objective(values: dict[str, Any]) -> ObjectiveSettings:
    """Taken out of the values by the names of their flags."""
    names = {"objective": "name", "kl_warm_up": "warm_up"} | {
        name: name for name in ("samples", "kl", "beta", "warm_up_epochs", "free_nats")
    }
    given = {names[flag]: values.pop(flag) for flag in [*values] if flag in names}
    given.setdefault("samples", usual_samples(given.get("name", OBJECTIVES[0])))
    return ObjectiveSettings(**given)


def _rate_schedule(values: dict[str, Any]) -> RateSchedule:
    """Taken out of the values by the names of their flags; what belongs to one schedule alone chooses it."""
    names = {"learning_rate_schedule": "name", "learning_rate_steps": "steps", "final_learning_rate": "final"}
    given = {names[flag]: values.pop(flag) for flag in [*values] if flag in names}
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
        It is no such pair.
    """
    epoch, _, factor = text.partition(":") if isinstance(text, str) else ("", "", "")
    try:
        return [int(epoch), float(factor)]
    except ValueError as error:
        raise SettingsError(f"learning_rate_steps has {text!r}: give an epoch and a factor, such as 20:0.1") from error


def _build_parser() -> Parser:
    parser = Parser(
        prog="python -m vaefast.train",
        description="Train a variational auto-encoder. Defaults are those of the 2021 report on MNIST.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    model, training = ModelSettings(), TrainingSettings()
    adam, objective = training.adam, training.objective
    add = parser.add_argument
    add("--config", metavar="FILE", help="settings as TOML: the same names as the flags; flags win")
    add("--data", metavar="WHAT", help="mnist, digits (8x8, always at hand), or a file or folder of images of your own; "
        "default: mnist, or digits where MNIST is out of reach")  # fmt: skip
    add("--data-dir", metavar="FOLDER", help="where the MNIST files lie (default: $VAEFAST_DATA_DIR, then the cache)")
    add("--engine", metavar="NAME", help="auto, cython, numba, cuda (one GPU) or reference (default: auto, the fastest "
        "for the CPU that works here)")  # fmt: skip
    add("--hidden", metavar="H", type=int, nargs="*", help="sizes of the encoder's hidden layers, mirrored by the decoder "
        f"(default: {' '.join(map(str, model.hidden))})")  # fmt: skip
    add("--latent", metavar="Z", type=int, help=f"number of latents (default: {model.latent})")
    add("--activation", choices=ACTIVATIONS, help=f"after every hidden layer (default: {model.activation})")
    add("--likelihood", choices=LIKELIHOODS, help="p(x | z): of pixels that are 0 or 1, of any grey levels with a learned "
        f"variance a pixel, or of grey levels in [0, 1] (default: {model.likelihood})")  # fmt: skip
    add("--objective", choices=OBJECTIVES, help="what is maximised: the evidence lower bound; the same with a weight on the "
        "KL divergence (beta) or a floor under it (free-bits); the importance-weighted bound (iwae), or that with the doubly "
        f"reparameterised gradient (dreg) (default: {objective.name})")  # fmt: skip
    add("--samples", metavar="K", type=int, help="samples of the latents an image and step "
        f"(default: {objective.samples}; {IMPORTANCE_SAMPLES} for iwae and dreg)")  # fmt: skip
    add("--kl", choices=KL_ESTIMATORS, help="for elbo: the KL divergence in closed form or from the samples "
        f"(default: {objective.kl})")  # fmt: skip
    add("--beta", metavar="B", type=float, help=f"for beta: weight of the KL divergence (default: {objective.beta:g})")
    add("--kl-warm-up", choices=WARM_UPS, help="for beta: raise the weight from 0, once or again and again "
        f"(default: {objective.warm_up})")  # fmt: skip
    add("--warm-up-epochs", metavar="N", type=int, help="epochs of the linear warm-up, or of one cycle "
        f"(default: {objective.warm_up_epochs})")  # fmt: skip
    add("--free-nats", metavar="N", type=float, help="for free-bits: nats a latent that cost nothing "
        f"(default: {objective.free_nats:g})")  # fmt: skip
    add("--init", choices=INITIALIZATIONS, help=f"initial weights (default: {training.initialization})")
    add("--binarize", choices=BINARIZATIONS, help="what grey pixels become: drawn afresh each time an image is seen, on from "
        f"one half, or left grey (default: {training.binarize}; none where the likelihood is of grey levels)")  # fmt: skip
    add("--batch-size", metavar="B", type=int, help=f"images a minibatch (default: {training.batch_size})")
    add("--epochs", metavar="N", type=int, help=f"passes over the training set (default: {training.epochs})")
    add("--learning-rate", metavar="R", type=float, help=f"Adam's step size (default: {adam.learning_rate})")
    add("--learning-rate-schedule", choices=RATE_SCHEDULES, help="how it changes over the epochs: not; at some of them; along "
        "half a cosine over all of them; or in the stages of Burda et al., 10^(-i/7) of it for 3^i epochs, i = 0, 1, ... "
        f"(default: {training.rate_schedule.name})")  # fmt: skip
    add("--learning-rate-steps", metavar="EPOCH:FACTOR", nargs="*", help="for steps: 20:0.1 30:0.01 is 0.1 times the first "
        "rate after 20 epochs and 0.01 times it after 30")  # fmt: skip
    add("--final-learning-rate", metavar="R", type=float, help="for cosine: the rate at the end "
        f"(default: {training.rate_schedule.final:g})")  # fmt: skip
    add("--beta1", metavar="B1", type=float, help=f"decay of Adam's first moments (default: {adam.beta1})")
    add("--beta2", metavar="B2", type=float, help=f"decay of Adam's second moments (default: {adam.beta2})")
    add(
        "--epsilon",
        metavar="E",
        type=float,
        help=f"added to the root of Adam's second moments (default: {adam.epsilon})",
    )
    add("--initial-second-moments", metavar="V", type=float, help="Adam's second moments before the first step; above 0 the "
        f"first steps are small (default: {training.second_moments:g})")  # fmt: skip
    add("--validation", metavar="N", type=float, help="hold out so many training images, or this share of them, and report "
        f"their ELBO (default: {training.validation.held_out:g})")  # fmt: skip
    add("--patience", metavar="P", type=int, help="stop once the validation ELBO has not risen for so many epochs, and keep "
        "the best epoch's model (default: never)")  # fmt: skip
    add("--min-improvement", metavar="D", type=float, help="nats that count as a rise "
        f"(default: {training.validation.min_improvement:g})")  # fmt: skip
    add("--clip-norm", metavar="C", type=float, help="scale gradients longer than this to it, all parameters together "
        "(default: never)")  # fmt: skip
    add("--seed", metavar="S", type=int, help=f"decides every random number (default: {training.seed})")
    add("--precision", choices=PRECISIONS, help="of the factors in matrix products; tf32 is for engine cuda on tensor cores "
        f"(default: {training.precision})")  # fmt: skip
    add("--threads", metavar="T", type=int, help="default: $VAEFAST_NUM_THREADS, else the cores this process may use; "
        "changes no result")  # fmt: skip
    add("--out", metavar="FOLDER", help="the run's folder, new or empty (default: runs/<data>-<date>-<time>)")
    add("--checkpoint-every", metavar="WHEN", help="so many epochs, such as 5, or minutes, such as 10m; auto: twice a minute, "
        "but never for more than 1/200 of the time; never: only before the first step, at the end, and on SIGINT or SIGTERM "
        "(default: auto)")  # fmt: skip
    add("--resume", metavar="PATH", help="continue the run in this folder from its newest checkpoint that verifies, to "
        "the same result as if it had never stopped; auto: the run in --out, the newest in runs/, or a new one")  # fmt: skip
    add("--start-from", metavar="FILE", help="train on from this model.safetensors, or run folder, of the same settings; Adam "
        "starts anew")  # fmt: skip
    add("--tensorboard", action="store_true", help="event files in the run's folder too (needs the extra tensorboard)")
    add("--distributed", choices=("auto", "mpi"), help="train over the ranks of an MPI job: auto, where mpiexec has started "
        "several (default: auto; needs the extra mpi)")  # fmt: skip
    add("--deterministic-reduction", action="store_true", help="add the ranks' gradients in rank order, whatever the MPI "
        "library: the same number of ranks gives the same bits")  # fmt: skip
    add("--debug", action="store_true", help="show the traceback of an error")
    add("--version", action="version", version=f"vaefast {__version__}")
    return parser


def _read_config(name: str, parser: Parser) -> dict[str, Any]:
    """The keys of a TOML file, spelt with hyphens or underscores, checked like flags."""
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
            near = difflib.get_close_matches(dest, actions, 1)
            hint = f"did you mean {near[0]}?" if near else f"keys are {', '.join(actions)}"
            raise SettingsError(f"{name} has the unknown key {key!r}; {hint}")
        if dest in values:
            raise SettingsError(f"{name} has {key!r} twice, with a hyphen and with an underscore: keep one")
        values[dest] = _config_value(name, key, value, actions[dest])
    return values


def _config_text(name: str) -> str:
    status = os.stat(name)
    # Asked before opening: to open a FIFO waits for its writer, and to open a device may act on it.
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise SettingsError(f"cannot read {name}: it is no file; give --config an existing TOML file")
    if status.st_size > LARGEST_CONFIG:
        raise SettingsError(f"cannot read {name}: it has more than {LARGEST_CONFIG} bytes; give --config a TOML file")
    return Path(name).read_text(encoding="utf-8")


def _config_value(name: str, key: str, value: Any, action: argparse.Action) -> Any:
    if isinstance(value, dict) or (isinstance(value, list) and action.nargs != "*"):
        raise SettingsError(f"{name}: {key} is {json.dumps(value, default=str)}: give one value")
    if action.nargs == "*" and not isinstance(value, list):
        value = [value]
    if action.nargs == 0 and not isinstance(value, bool):
        raise SettingsError(f"{name}: {key} is {value!r}: give true or false")
    if action.dest == "checkpoint_every" and type(value) is int:
        value = str(value)
    if action.type is not None and isinstance(value, str):
        raise SettingsError(f"{name}: {key} is {value!r}: give a number, without quotes")
    wants_text = action.type is None and action.nargs not in (0, "*")
    if wants_text and not isinstance(value, str):
        raise SettingsError(f"{name}: {key} is {value!r}: give it as text in quotes")
    return value


def _expanded(text: str | None) -> str | None:
    """The text with `~` for a home folder, which a shell replaces in few places and TOML nowhere."""
    return None if text is None else os.path.expanduser(text)


def _path(text: str | None) -> Path | None:
    expanded = _expanded(text)
    if expanded is not None and "\0" in expanded:
        raise SettingsError(f"{expanded!r} holds a null character: give the path of a folder")
    return None if expanded is None else Path(expanded)
