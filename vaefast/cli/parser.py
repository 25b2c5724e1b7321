"""The parser that all commands share. A wrong flag gets one line, with the flag that was probably meant."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from vaefast.cli.program import called
from vaefast.errors import SettingsError
from vaefast.version import __version__

# What other tools call these flags. In a key of two words the second word is the value that is meant.
SYNONYMS = {
    "data": "dataset, input, inputs, data-file, data-path, file, images, train-data, x",
    "data-dir": "data-root, data-folder, root, mnist, mnist-dir",
    "config": "cfg, conf, config-file, settings",
    "engine": "device, backend, accelerator",
    "engine cuda": "gpu, gpus, cuda, use-cuda, use-gpu",
    "engine auto": "cpu, no-cuda, no-gpu",
    "hidden": "hidden-sizes, hidden-size, hidden-layer-sizes, hidden-layers, hidden-dim, hidden-dims, layers, units",
    "latent": "n-components, latent-dim, latent-dims, latent-size, latents, n-latent, n-latents, num-latents, z-dim, zdim, z, "
    "nz, embedding-dim, bottleneck, code-size",
    "activation": "act, nonlinearity",
    "scaling": "normalize, normalise, normalization, standardize, standardise, scale, scaler, preprocess",
    "covariates": "covariate, condition, conditions, batch-key, batch-keys, categorical-covariate-keys",
    "column-types": "kinds, kind, dtypes, types, column-kinds, schema, categorical, cat-columns, categorical-columns",
    "missing": "na-values, na, missing-values, missing-value, null-values, nan, fill-value",
    "missing-indicator": "indicator, add-indicator, mask, missing-mask",
    "size-factors": "size-factor, size-factor-key, library-size, library-sizes, exposure",
    "test-fraction": "test-size, test-split, test-share, holdout, hold-out",
    "likelihood": "output-distribution, decoder-distribution, recon-loss",
    "objective": "loss, bound",
    "samples": "n-samples, num-samples, k, mc-samples, iw-samples, importance-samples",
    "beta": "kl-weight, kld-weight, kl-coef",
    "kl-warm-up": "kl-annealing, warmup, kl-warmup, annealing",
    "warm-up-epochs": "warmup-epochs, n-epochs-kl-warmup",
    "init": "initialization, initializer, weight-init",
    "binarize": "binarise, binary, binarization",
    "batch-size": "batch, bs, batchsize, minibatch, mini-batch-size, train-batch-size",
    "epochs": "n-epochs, num-epochs, max-epochs, nepochs, max-iter, n-iter, iterations",
    "learning-rate": "lr, eta, alpha, step-size, rate, base-lr, learning-rate-init",
    "learning-rate-schedule": "lr-schedule, lr-scheduler, scheduler, schedule",
    "learning-rate-steps": "lr-steps, milestones",
    "final-learning-rate": "min-lr, final-lr, eta-min",
    "beta1": "beta-1, b1, adam-beta1",
    "beta2": "beta-2, b2, adam-beta2",
    "epsilon": "eps, adam-eps, adam-epsilon",
    "validation": "val-split, validation-split, validation-fraction, val-fraction, val-size, val, valid",
    "patience": "early-stopping, early-stop, n-iter-no-change, early-stopping-patience",
    "min-improvement": "tol, min-delta",
    "clip-norm": "clip, grad-clip, clip-grad, gradient-clip-val, max-grad-norm, clip-grad-norm",
    "seed": "random-state, random-seed, rng-seed, manual-seed",
    "precision": "dtype, amp, fp16, bfloat16",
    "threads": "workers, num-workers, n-workers, n-jobs, jobs, num-threads, n-threads, nthreads, nproc, cores",
    "out": "output, outdir, out-dir, output-dir, output-file, save-dir, save-path, save, log-dir, logdir, results, run-dir, o",
    "checkpoint-every": "save-every, save-freq, save-interval, checkpoint-interval",
    "resume": "continue, restart, resume-from, checkpoint, ckpt, from-checkpoint",
    "start-from": "pretrained, init-from, weights, load, warm-start, finetune",
    "tensorboard": "tb",
    "limit": "max-images, max-samples, n-images, num-images",
    "force": "overwrite",
    "debug": "verbose, traceback",
}  # fmt: skip
# What other tools have and vaefast does not.
ABSENT = {
    "dropout": "there is no dropout: --validation with --patience stops before the model overfits",
    "weight-decay": "there is no weight decay: --validation with --patience stops before the model overfits",
    "optimizer": "there is no other optimiser than Adam",
    "momentum": "there is no other optimiser than Adam, whose momentum is --beta1",
    "batch-norm": "there is no batch normalisation",
    "conv": "there are no convolutions, only fully connected layers",
    "log-interval": "there is no such interval: each epoch gives a line",
}
ABSENT |= {"l2": ABSENT["weight-decay"], "wd": ABSENT["weight-decay"], "optim": ABSENT["optimizer"]}
ABSENT |= {"batchnorm": ABSENT["batch-norm"], "drop": ABSENT["dropout"], "solver": ABSENT["optimizer"]}
# Settings of a flag that takes several values, and may come several times: the values add up.
SEVERAL: dict[str, Any] = {"nargs": "*", "action": "extend"}
# Of `difflib`: a letter lost, added or exchanged in a word of five, but not `lr` for `kl`.
NEAR = 0.75


def meant(name: str, names: Collection[str]) -> str:
    """The one of these names that was probably meant; empty if none was. No name has its dashes in front. A word that stands
    for a flag and its value gives both, such as `engine cuda`."""
    name = name.strip("-").replace("_", "-").lower()
    if name in names:
        return name
    for flag, others in SYNONYMS.items():
        if name in others.split(", ") and flag.split()[0] in names:
            return flag
    near = difflib.get_close_matches(name, names, 1, NEAR)
    return near[0] if near else ""


class Parser(argparse.ArgumentParser):
    """Answers a wrong flag in one line, with the flag that was probably meant."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as the base class does, and keep the arguments for error messages."""
        self._given = [*args] if args is not None else sys.argv[1:]
        # Of a value of two dashes argparse makes none before Python 3.13; the space around a value counts for nothing.
        kept = ["--missing= --" if word == "--missing=--" else word for word in self._given]
        return super().parse_known_args(kept, namespace)

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"invalid (int|float) value: (.*)", _no_number, message)
        known = {flag for action in self._actions for flag in action.option_strings}
        strange = [word for word in self._given if word.startswith("-") and word.split("=")[0] not in known]
        hint = self._dashed(message, strange)
        if not hint and message.startswith(("unrecognized arguments", "the following arguments are required")):
            hint = next(filter(None, (_hint(word.split("=")[0], known) for word in strange)), "")
            hint = hint or self._flagless(known)
        raise SettingsError(f"{message}{hint and f' ({hint})'}; {self.prog} --help lists the flags")

    def _flagless(self, known: Collection[str]) -> str:
        """How to give the data, if the first word, which has no flag, may name them."""
        first = self._given[0] if self._given else "-"
        takes_words = any(not action.option_strings for action in self._actions)
        return "" if first.startswith("-") or takes_words or "--data" not in known else f"data are given as --data {first}"

    def _dashed(self, message: str, strange: list[str]) -> str:
        """How to give a value that begins with a dash, if one stands where a value is missing."""
        several = {flag for action in self._actions if action.nargs == "*" for flag in action.option_strings}
        last = ""
        for word in self._given if message.startswith("unrecognized arguments") else ():
            if word in strange and last in several and not word.startswith("--"):
                return f"a value that begins with a dash is given as {last}={word}"
            last = word.split("=")[0] if word.startswith("-") else last
        for flag, value in pairwise(["", *self._given]):
            if value in strange and message.startswith(f"argument {flag}: expected"):
                return f"a value that begins with a dash is given as {flag}={value}"
            if value in strange and not value.startswith("--") and message.startswith("the following arguments are required"):
                return f"a path that begins with a dash is given as ./{value}"
        return ""


def command_parser(command: str, usage: str, description: str, **settings: Any) -> Parser:
    """A parser for one command, without any flag yet, whose help names the command as it was called.

    Parameters
    ----------
    command
        Its name, such as `train`.
    usage
        What follows the name in the usage line: the most used flags.
    settings
        More settings of `ArgumentParser`.
    """
    name = called(command)
    return Parser(
        prog=name,
        usage=f"{name} {usage} [more flags]",
        description=description,
        allow_abbrev=False,
        add_help=False,
        **settings,
    )


def values(
    parser: Parser, arguments: list[str], *, paths: Collection[str] = (), largest: Mapping[str, int | None] | None = None
) -> dict[str, Any]:
    """The values of the flags by name, checked.

    Parameters
    ----------
    paths
        Flags that name a file or a folder. Their values become a `Path`, with `~` as the home folder.
    largest
        Flags that are whole numbers from 1, and the largest number allowed; None is no limit.

    Raises
    ------
    SettingsError
        A flag is unknown, a number is out of its range, or a path is not valid.
    """
    given = vars(parser.parse_args(arguments))
    for name, most in (largest or {}).items():
        number = given[name]
        if number is not None and not 1 <= number <= (number if most is None else most):
            bound = "" if most is None else f" to {most}"
            raise SettingsError(f"{name} is {number}: give a whole number from 1{bound}")
    for name in paths:
        if given[name] is not None and "\0" in given[name]:
            raise SettingsError(f"{given[name]!r} holds a null character: give the path of a file or a folder")
        given[name] = None if given[name] is None else Path(os.path.expanduser(given[name]))
    return given


def add_threads(add: Callable[..., Any]) -> None:
    """The flag for the number of threads, which every command has."""
    add("--threads", metavar="T", type=int, help="number of threads, which changes no result (default: $VAEFAST_NUM_THREADS, "
        "else $OMP_NUM_THREADS, else $NUMBA_NUM_THREADS, else the cores that this process may use)")  # fmt: skip


def with_last_groups(parser: Parser, **settings: Any) -> Parser:
    """The parser with the groups that end its help: on what computes, `settings` being those of `--engine`, and on itself."""
    add = parser.add_argument_group("engine").add_argument
    add("--engine", metavar="NAME", **settings)
    add_threads(add)
    add_help(parser)
    return parser


def add_missing(add: Callable[..., Any]) -> None:
    """The flag of what stands for a missing value, in commands that read rows for a trained model."""
    add("--missing", metavar="TOKEN", **SEVERAL, help="what a cell of a table says where its value is missing, beside an "
        "empty cell, NA, NaN, null and others of their kind (default: as vaefast train was told)")  # fmt: skip


def add_help(parser: argparse.ArgumentParser) -> None:
    """The flags of every command that are about the command itself, as the last group of its help."""
    add = parser.add_argument_group("help").add_argument
    add("-h", "--help", action="help", help="show this help")
    add("--version", action="version", version=f"vaefast {__version__}", help="show the version")
    add("--debug", action="store_true", help="show the traceback of an error")


def _no_number(found: re.Match[str]) -> str:
    """What argparse calls an invalid value, in plain words."""
    what = "number" if found[1] == "float" else "whole number"
    return f"{found[2]} is no {what}" + (": leave the comma out, and put a space between numbers" if "," in found[2] else "")


def _hint(flag: str, known: Collection[str]) -> str:
    """The flag that was probably meant by an unknown one, or the line that says what vaefast does not have."""
    near = meant(flag, [name.strip("-") for name in known])
    if near:
        return f"did you mean --{near}?"
    return ABSENT.get(flag.strip("-").replace("_", "-").lower(), "") if "--epochs" in known else ""
