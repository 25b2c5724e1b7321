"""Floors: each module imports only what stands below it, and start-up imports little.

The table is the rule: a new module gets its line here, and with it a place in the house.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import naive
import pytest

import vaefast

ROOT = Path(vaefast.__file__).parent

# What each module may import of vaefast, wherever in its text; a package's line holds for all its modules that have
# none of their own. "" is the package itself: the public names, imported when they are asked for.
FLOORS: dict[str, set[str]] = {
    "": {"errors", "estimator", "tensorboard", "version"},
    "version": set(),
    "errors": set(),
    "noise": set(),
    "settings": {"errors"},
    "layout": {"settings"},
    "levels": set(),
    "likelihoods": {"settings"},
    "initialization": {"layout", "likelihoods", "noise"},
    "start": {"engines.contract", "initialization", "layout", "settings"},
    "threads": {"errors"},
    "atomic": {"errors"},
    "lock": {"errors"},
    "interruption": set(),
    "schedule": {"errors"},
    "launcher": set(),
    "job": {
        "engines", "engines.contract", "engines.distributed", "interruption", "launcher", "options", "settings", "threads",
    },
    "console": {"errors", "interruption", "job", "launcher"},
    "data": {"data", "errors", "noise"},
    "engines.contract": {"layout"},
    "engines.objectives": {"settings"},
    "engines.reference": {"engines.contract", "engines.objectives", "layout", "likelihoods", "noise", "settings"},
    "engines.in_float64": {"engines.contract", "engines.reference", "settings"},
    "engines.importance": {"engines.contract", "engines.reference", "levels", "noise", "settings"},
    "engines.images": set(),
    "engines.plan": {"layout"},
    "engines.workers": {"errors"},
    "engines.cython_cpu": {
        "engines.contract", "engines.cython_cpu", "engines.images", "engines.importance", "engines.objectives",
        "engines.plan", "engines.workers", "errors", "layout", "noise", "settings",
    },
    "engines.kept_kernels": {"version"},
    "engines.numba_cpu": {
        "engines.contract", "engines.images", "engines.importance", "engines.kept_kernels", "engines.numba_cpu",
        "engines.objectives", "engines.plan", "engines.workers", "errors", "layout", "noise", "settings",
    },
    "engines.cuda_driver": set(),
    "engines.cuda_gpu": {
        "engines.contract", "engines.cuda_gpu", "engines.kept_kernels", "engines.objectives", "errors", "layout", "levels",
        "noise", "settings",
    },
    "engines.distributed": {
        "engines.contract", "engines.distributed", "engines.images", "engines.numba_cpu", "engines.plan", "engines.workers",
        "errors", "layout", "settings", "threads",
    },
    "engines": {
        "engines.contract", "engines.cuda_driver", "engines.cuda_gpu", "engines.cython_cpu", "engines.numba_cpu",
        "engines.reference", "errors", "settings",
    },
    "checkpoint": {"atomic", "engines.contract", "errors"},
    "divergence": {"engines.contract", "errors"},
    "pace": {"engines.contract", "settings"},
    "trainer": {
        "divergence", "engines.contract", "engines.in_float64", "noise", "pace", "settings", "validation",
        "weights",
    },
    "validation": {"engines.contract", "errors", "noise"},
    "keeper": {"checkpoint", "engines.contract", "errors", "interruption", "schedule", "trainer"},
    "model_file": {"errors", "layout", "settings"},
    "run_folder": {"atomic", "checkpoint", "errors", "lock", "trainer", "version"},
    "resume": {"checkpoint", "errors", "flags", "run_folder", "settings"},
    "flags": {"errors", "settings", "version"},
    "options": {"errors", "flags", "schedule", "settings"},
    "figures": {"atomic"},
    "charts": {"figures"},
    "assessment": {
        "engines", "engines.contract", "engines.importance", "engines.objectives", "errors", "model_file", "network", "noise",
        "settings",
    },
    "table1": {"pace"},
    "gallery": {"data", "engines.contract", "figures", "levels", "likelihoods", "noise", "settings", "trainer"},
    "network": {"engines", "engines.contract", "engines.in_float64", "layout", "levels", "noise", "settings"},
    "columns": set(),
    "tables": {"columns", "errors"},
    "row_order": {"noise"},
    "weights": {"noise"},
    "scaling": {"columns", "errors", "tables"},
    "progress": {"trainer"},
    "tensorboard": {"errors"},
    "onnx_export": {"atomic", "errors", "layout", "likelihoods", "network", "scaling", "settings"},
    "estimator": {
        "atomic", "columns", "engines", "errors", "likelihoods", "model_file", "network", "noise", "onnx_export", "progress",
        "row_order", "scaling", "settings", "start", "tables", "threads", "trainer", "validation", "weights",
    },
    "train": {
        "console", "data", "engines", "engines.contract", "errors", "gallery", "interruption", "job", "keeper",
        "model_file", "options", "resume", "run_folder", "settings", "start", "tensorboard", "threads", "trainer",
        "validation",
    },
    "evaluate": {
        "assessment", "atomic", "charts", "checkpoint", "console", "data", "errors", "figures", "flags", "gallery",
        "interruption", "model_file", "network", "threads", "version",
    },
    "transform": {
        "atomic", "console", "data", "errors", "estimator", "evaluate", "flags", "interruption", "network", "threads",
        "version",
    },
    "reproduce": {
        "assessment", "atomic", "charts", "checkpoint", "console", "data", "errors", "figures", "flags", "interruption",
        "lock", "model_file", "options", "pace", "run_folder", "table1", "threads", "train", "version",
    },
}  # fmt: skip

# Which modules may import a package, wherever in their text. The standard library is free but for pickle.
PACKAGES: dict[str, set[str]] = {
    "numpy": {*FLOORS}
    - {
        "",
        "version",
        "errors",
        "settings",
        "threads",
        "atomic",
        "lock",
        "console",
        "job",
        "launcher",
        "table1",
        "evaluate",
        "reproduce",
        "interruption",
        "schedule",
        "engines.cuda_driver",
        "keeper",
        "run_folder",
        "resume",
    },
    "numba": {"engines.cuda_gpu", "engines.numba_cpu"},
    "llvmlite": {"engines.cuda_gpu", "engines.numba_cpu"},
    "cuda": {"engines.cuda_gpu.launching"},
    "pickle": {"engines.kept_kernels"},
    "matplotlib": {"charts", "figures"},
    "sklearn": {"data.digits", "estimator", "tables"},
    "PIL": {"data.pictures"},
    "pooch": {"data.download"},
    "safetensors": {"checkpoint", "model_file"},
    "joblib": {"threads"},
    "threadpoolctl": {"engines.in_float64", "network", "train"},
    "tqdm": {"evaluate", "progress", "train"},
    "onnx": {"onnx_export"},
    "tensorboardX": {"tensorboard"},
    "mpi4py": {"engines.distributed.ranks"},
}

# Each costs between a tenth of a second and two.
HEAVY = {"numba", "llvmlite", "matplotlib", "sklearn", "scipy", "PIL"}


def modules() -> dict[str, Path]:
    """Each module's dotted name below vaefast, "" being vaefast itself, and its file."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def floor_of(module: str) -> str | None:
    """The line of the table that holds for a module: its own, else that of the nearest package around it."""
    while module and module not in FLOORS:
        module = module.rpartition(".")[0]
        if not module:
            return None
    return module


def imported(tree: ast.AST) -> Iterator[str]:
    """Every name that a text imports, at its top or in a function: relative as it is, `*` where it is computed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from (f"{start}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("__import__", "import_module"):
            yield "*"


def module_in(name: str) -> str:
    """The module of vaefast that an imported name is, or is in."""
    module = name.removeprefix("vaefast").removeprefix(".")
    while module and module not in MODULES:
        module = module.rpartition(".")[0]
    return module


def complaints(module: str, text: str) -> list[str]:
    """What a module with this text imports against the tables."""
    floor = floor_of(module)
    if floor is None:
        return [f"{module} has no line in FLOORS"]
    found = []
    for name in imported(ast.parse(text)):
        package = name.split(".")[0]
        if name.startswith(".") or name.endswith("*"):
            found.append(f"{module}: {name} is relative, a wildcard or computed")
        elif package == "vaefast":
            target = module_in(name)
            if target not in FLOORS[floor] and floor_of(target) not in FLOORS[floor]:
                found.append(f"{module} imports {target or 'vaefast'}")
        elif package in PACKAGES:
            if not any(within(module, allowed) for allowed in PACKAGES[package]):
                found.append(f"{module} imports {package}")
        elif package not in sys.stdlib_module_names:
            found.append(f"{module} imports {package}, which has no line in PACKAGES")
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_stands_below_it(module):
    assert complaints(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_the_table_has_no_circle_and_no_line_for_what_is_gone():
    list(graphlib.TopologicalSorter({name: below - {name} for name, below in FLOORS.items()}).static_order())
    allowed = {module for modules in PACKAGES.values() for module in modules}
    assert ({*FLOORS} | set().union(*FLOORS.values()) | allowed) - {*MODULES} == set()


def test_the_table_says_what_the_design_says():
    forbidden = {"data", "train", "trainer", "figures", "gallery", "run_folder"}
    for engine in ("engines", "engines.contract", "engines.cython_cpu", "engines.reference", "engines.numba_cpu"):
        assert FLOORS[engine] & forbidden == set()
    # Only a command may drive another one.
    assert {name for name, below in FLOORS.items() if "train" in below} == {"reproduce"}
    assert PACKAGES["matplotlib"] == {"charts", "figures"}


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("engines.reference", "import numba", "engines.reference imports numba"),
        ("engines.reference", "def f():\n    from numba import njit", "engines.reference imports numba"),
        ("engines.reference", "from vaefast.engines import numba_cpu", "engines.reference imports engines.numba_cpu"),
        ("engines.numba_cpu.layers", "from vaefast import data", "engines.numba_cpu.layers imports data"),
        ("engines.numba_cpu.layers", "from vaefast.data.idx import read_idx", "engines.numba_cpu.layers imports data.idx"),
        ("engines.contract", "import vaefast.trainer as loop", "engines.contract imports trainer"),
        ("layout", "from vaefast.engines.contract import State", "layout imports engines.contract"),
        ("checkpoint", "from vaefast.trainer import Position", "checkpoint imports trainer"),
        ("noise", "from vaefast import settings", "noise imports settings"),
        ("settings", "import numpy", "settings imports numpy"),
        ("trainer", "from vaefast.engines import create", "trainer imports engines"),
        ("run_folder", "from vaefast.train import main", "run_folder imports train"),
        ("gallery", "import matplotlib.figure", "gallery imports matplotlib"),
        ("data.digits", "import scipy", "data.digits imports scipy, which has no line in PACKAGES"),
        ("model_file", "import pickle", "model_file imports pickle"),
        ("layout", "from vaefast import __version__", "layout imports vaefast"),
        ("trainer", "from vaefast import VAE", "trainer imports vaefast"),
        ("data.idx", "from . import mnist", "data.idx: ..mnist is relative, a wildcard or computed"),
        ("data.idx", "from numpy import *", "data.idx: numpy.* is relative, a wildcard or computed"),
        ("data.idx", "import importlib\nimportlib.import_module(x)", "data.idx: * is relative, a wildcard or computed"),
        ("utils", "", "utils has no line in FLOORS"),
    ],
)
def test_the_checker_catches(module, text, complaint):
    assert complaints(module, text) == [complaint]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("engines.numba_cpu.layers", "from numba import njit\nfrom vaefast.engines.plan import Plan"),
        ("data.digits", "import os.path\nfrom vaefast.data import images\nfrom sklearn import datasets"),
        ("train", "from vaefast import engines, options\nfrom vaefast.engines import ENGINES"),
        ("settings", "x = 'import numba'  # import numba"),
    ],
)
def test_the_checker_lets_pass(module, text):
    assert complaints(module, text) == []


def test_the_oracle_of_the_tests_shares_nothing_with_what_it_judges():
    names = list(imported(ast.parse(Path(naive.__file__).read_text(encoding="utf-8"))))
    assert names
    assert [name for name in names if name.split(".")[0] == "vaefast"] == []


def heavy_after(program: str) -> set[str]:
    """Which heavy packages a fresh interpreter holds after running this program."""
    program += f"\nimport sys\nprint('HEAVY', *sorted({HEAVY} & {{*sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    first, *found = result.stdout.splitlines()[-1].split()
    assert first == "HEAVY"
    return set(found)


HELP = "import contextlib\nfrom vaefast import train\nwith contextlib.suppress(SystemExit):\n    train.main(['--help'])"


@pytest.mark.parametrize("program", ["import vaefast", HELP], ids=["import", "help"])
def test_start_up_imports_nothing_heavy(program):
    assert heavy_after(program) == set()


def test_the_reference_runs_without_numba():
    assert heavy_after("import vaefast.trainer, vaefast.data, vaefast.engines.reference") == set()


def test_heavy_imports_would_be_seen():
    assert heavy_after("import vaefast.figures") >= {"matplotlib"}
