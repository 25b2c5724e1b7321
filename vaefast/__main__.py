"""`vaefast COMMAND` and `python -m vaefast COMMAND`: find the command and pass it the other arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable

from vaefast.cli import console
from vaefast.cli.program import called
from vaefast.errors import SettingsError
from vaefast.version import __version__

# In the order in which people need them.
COMMANDS = {
    "train": "train a model on a data set, and draw its figures",
    "evaluate": "measure a trained model on test data: ELBO, log p(x), active units",
    "transform": "write the latents and the scores of every row of a file",
    "impute": "write a table again with its missing values filled in",
    "sample": "write a new table, whose rows are drawn from a model",
    "reproduce": "train and evaluate the rows of a published table",
}
# What other programs call them.
SYNONYMS = {
    "train": ("fit", "run", "learn"),
    "evaluate": ("eval", "test", "score", "validate"),
    "transform": ("encode", "embed", "predict", "apply"),
    "impute": ("fill", "fillna", "complete", "imputation"),
    "sample": ("generate", "synthesize", "synthesise", "draw", "samples"),
}
CHOICE = ", ".join([*COMMANDS][:-1]) + f" or {[*COMMANDS][-1]}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name, by default those of this process, and return its exit code."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("--help", "-h"):
        console.say(_help())
        return 0
    if name == "--version":
        console.say(f"vaefast {__version__}")
        return 0
    if name in COMMANDS:
        return _main_of(name)(rest)
    return console.refuse(SettingsError(_complaint(name)))


def script() -> None:
    """The console script `vaefast`."""
    console.exit_with(main)


def _main_of(name: str) -> Callable[[list[str]], int]:
    """The command's own `main`. Only this command is imported."""
    if name == "train":
        from vaefast import train

        return train.main
    if name == "evaluate":
        from vaefast import evaluate

        return evaluate.main
    if name == "transform":
        from vaefast import transform

        return transform.main
    if name == "impute":
        from vaefast import impute

        return impute.main
    if name == "sample":
        from vaefast import sample

        return sample.main
    from vaefast import reproduce

    return reproduce.main


def _help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join([
        f"usage: {called('COMMAND')} [flags]",
        "",
        "Train variational auto-encoders and use them.",
        "",
        "commands:",
        *(f"  {name:{width}}  {text}" for name, text in COMMANDS.items()),
        "",
        f"{called('train')} --help lists the flags of a command; {called('--version')} prints the version.",
    ])  # fmt: skip


def _complaint(name: str) -> str:
    """Why this is not a command, and which one was probably meant."""
    if not name:
        return f"no command is given: choose {CHOICE}; {called('--help')} describes them"
    if name.startswith("-"):
        return f"{name} is given before a command: choose {CHOICE}, such as {called('train')} {name}"
    meant = _meant(name.lower())
    hint = f"did you mean {called(meant)}?" if meant else f"choose {CHOICE}"
    return f"there is no command {name!r}: {hint}"


def _meant(name: str) -> str:
    """The command with the most similar name; empty if none is similar."""
    import difflib

    words = {word: command for command, others in SYNONYMS.items() for word in others} | {name: name for name in COMMANDS}
    near = difflib.get_close_matches(name, words, 1)
    return words[near[0]] if near else ""


if __name__ == "__main__":
    script()
