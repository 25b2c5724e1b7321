"""`vaefast COMMAND`: which command it is, how help names it, and what a mistyped one is answered with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vaefast
from tests.faults import runs
from vaefast import __main__ as entry
from vaefast.cli import program
from vaefast.engines import compiled_copy

ROOT = Path(vaefast.__file__).parents[1]


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    """Python with these words, in the checkout."""
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", entry.COMMANDS)
@pytest.mark.parametrize("form", ["vaefast {}", "vaefast.{}"])
def test_help_names_the_command_as_it_was_typed(command, form):
    name = form.format(command)
    done = typed("-m", *name.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m {name} ")
    assert re.search(rf"\n  {command} ", typed("-m", "vaefast", "--help").stdout)


def test_from_python_a_command_is_that_of_the_console_script():
    assert program.called("train") == "vaefast train"
    assert program.called("") == "vaefast"


CHOICE = "train, evaluate, transform, impute, sample or reproduce"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), f"no command is given: choose {CHOICE}; vaefast --help describes them"),
        (("trian",), "there is no command 'trian': did you mean vaefast train?"),
        (("Evaluate", "runs/a"), "there is no command 'Evaluate': did you mean vaefast evaluate?"),
        (("fit",), "there is no command 'fit': did you mean vaefast train?"),
        (("embed",), "there is no command 'embed': did you mean vaefast transform?"),
        (("quux",), f"there is no command 'quux': choose {CHOICE}"),
        (("--data", "x.csv"), f"--data is given before a command: choose {CHOICE}, such as vaefast train --data"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_command_is_one_line_and_exit_code_2(capsys, arguments, words):
    assert entry.main([*arguments]) == 2
    assert capsys.readouterr() == ("", f"vaefast: {words}\n")


def test_the_arguments_after_the_command_are_its_own(capsys):
    assert entry.main(["train", "--hidden", "0"]) == 2
    assert capsys.readouterr().err.startswith("vaefast: hidden is 0")
    assert entry.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vaefast {vaefast.__version__}\n"


def test_help_comes_at_once():
    def seconds(*words: str) -> float:
        """Of a core: what else the machine does meanwhile is not counted."""
        before = os.times()
        typed(*words)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    rounds = [(seconds("-m", "vaefast", "--help"), seconds("-c", "pass")) for _ in range(5)]
    # 15 ms were measured; the imports of any engine, or of scikit-learn, are ten times as long.
    assert min(help_ for help_, _ in rounds) - min(start for _, start in rounds) < 0.1


def test_help_imports_no_command_and_nothing_that_takes_time():
    program = "import sys\nfrom vaefast.__main__ import main\nmain(['--help'])\nprint('HELD', *sys.modules)"
    *_, last = typed("-c", program).stdout.splitlines()
    held = {*last.split()}
    assert "vaefast.__main__" in held
    assert {"vaefast.train", "vaefast.cli.arguments", "argparse", "numpy", "numba", "sklearn", "matplotlib"} & held == set()


def make_copy(folder: Path, *, compiled: bool) -> Path:
    """The folders of a copy of vaefast as far as the search for its extension reads them."""
    engines = folder / "vaefast" / "engines" / "cython_cpu"
    engines.mkdir(parents=True)
    (folder / "vaefast" / "__init__.py").touch()
    if compiled:
        (engines / "kernels.py").touch()  # any module of this name is found
    return folder


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("there", [True, False, None])
def test_an_installed_compiled_copy_is_told_of_where_these_sources_are_not_compiled(tmp_path, monkeypatch, here, there):
    own = make_copy(tmp_path / "own", compiled=here)
    path = [str(own)] if there is None else [str(own), str(make_copy(tmp_path / "other", compiled=there))]
    monkeypatch.setattr(compiled_copy, "PACKAGE", own / "vaefast")
    monkeypatch.setattr(sys, "path", path)
    advice = compiled_copy.advice()
    assert (advice is not None) == (there is True and not here)
    if advice is not None:
        assert f"the vaefast installed in {tmp_path / 'other' / 'vaefast'} is: type vaefast instead of" in advice


GROUPS = {
    "train": ["data", "model", "training", "objective", "optimiser", "run", "engine", "help"],
    "evaluate": ["model and data", "measures and figures", "engine", "help"],
    "transform": ["model and data", "table", "engine", "help"],
    "impute": ["model and data", "result", "engine", "help"],
    "sample": ["model", "table", "engine", "help"],
    "reproduce": ["what to reproduce", "data", "training and evaluation", "engine", "help"],
}
FIRST = {
    "train": "--data",
    "evaluate": "RUN",
    "transform": "MODEL",
    "impute": "MODEL",
    "sample": "MODEL",
    "reproduce": "TABLE",
}


@pytest.mark.parametrize("command", GROUPS)
def test_help_has_groups_and_the_flag_that_everybody_needs_is_first(capsys, command):
    with pytest.raises(SystemExit) as ended:
        entry.main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: vaefast {command} ")
    assert re.findall(r"^([a-z ]+):$", text, re.MULTILINE) == GROUPS[command]
    first = re.search(r"^  (\S+)", text[text.index(f"\n{GROUPS[command][0]}:") :], re.MULTILINE)
    assert first is not None
    assert first[1] == FIRST[command]


def test_data_without_their_flag_are_told_how_to_be_given(capsys):
    assert entry.main(["train", "mine.csv"]) == 2
    assert "unrecognized arguments: mine.csv (data are given as --data mine.csv)" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["digits", "grey.npy"])
def test_a_folder_of_mnist_files_beside_other_data_is_said_to_be_unused(tmp_path, monkeypatch, capsys, data):
    monkeypatch.chdir(tmp_path)
    runs.tiny_images(tmp_path / "grey.npy", 40, 4)
    small = ("--hidden", "4", "--latent", "2", "--engine", "reference", "--epochs", "0")
    code, _, err = runs.command("--data", data, "--data-dir", "there", *small, "--out", "run")
    assert code == 0
    notice = f"vaefast: --data-dir there is not used: it is the folder of the MNIST files, and --data is {data}\n"
    assert err == notice
    assert runs.command("--data", data, *small)[2] == ""
    few = ("--limit", "2", "--samples", "2", "--no-figures", "--engine", "reference")
    assert entry.main(["evaluate", "run", "--data", data, "--data-dir", "there", *few]) == 0
    assert notice in capsys.readouterr().err
