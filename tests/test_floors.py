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

# What each module may import of vaefast, wherever in its text: a folder's line holds for all its modules that have none of
# their own, and naming a folder allows all of it. "" is the package itself: the public names, imported when asked for.
FLOORS: dict[str, set[str]] = {
    "": {"errors", "estimator", "metrics", "training.tensorboard", "version"},
    "version": set(),
    "errors": set(),
    "models": {"errors", "models"},
    "files": {"errors", "files", "models"},
    "data": {"data", "errors", "models.count_rows", "models.fields", "models.noise"},
    "tables": {
        "errors", "models.columns", "models.conditions", "models.count_rows", "models.fields", "models.gaps", "models.noise",
        "models.settings", "tables",
    },
    "engines": {"engines", "errors", "models", "version"},
    # Numba and Cython share no kernel; the specification shares nothing with what it judges.
    "engines.contract": {"models.layout"},
    "engines.in_panels": {"engines.contract", "models.layout"},
    "engines.objectives": {"models.settings"},
    "engines.reference": {"engines.contract", "engines.objectives", "models"},
    "engines.partly_observed": {"engines", "models"},
    "engines.images": {"models.count_rows", "models.grey_levels", "models.settings"},
    "engines.examples": {"engines.images", "models"},
    "engines.compiled_copy": set(),
    "engines.plan": {"models.columns", "models.layout"},
    "engines.credit": {"engines.contract", "engines.objectives", "engines.plan", "models.layout", "models.settings"},
    "engines.workers": {"errors"},
    "engines.cython_cpu": {
        "engines.contract", "engines.credit", "engines.cython_cpu", "engines.examples", "engines.images", "engines.in_panels",
        "engines.objectives", "engines.plan", "engines.workers", "errors", "models",
    },
    "engines.numba_cpu": {
        "engines.contract", "engines.credit", "engines.examples", "engines.images", "engines.in_panels",
        "engines.kept_kernels", "engines.numba_cpu", "engines.objectives", "engines.plan", "engines.workers", "errors",
        "models",
    },
    "engines.cuda_driver": set(),
    "engines.cuda_gpu": {
        "engines.contract", "engines.cuda_gpu", "engines.kept_kernels", "engines.objectives", "errors", "models",
    },
    "inputs": {
        "data", "engines.in_float64", "errors", "inputs", "models", "tables", "training.early_stopping",
        "training.log_volumes",
    },
    "inference": {"engines", "errors", "files", "inference", "models", "tables"},
    "training": {"engines.contract", "engines.in_float64", "errors", "models", "tables.row_weights", "training"},
    "runs": {"engines.contract", "errors", "files", "inputs.source", "models", "runs", "training", "version"},
    "evaluation": {"engines", "errors", "evaluation", "files", "inference", "models", "training.schedules"},
    "plots": {"data", "engines.contract", "files.atomic", "inputs", "models", "plots", "training.trainer"},
    "cli": {"cli", "engines", "errors", "models", "runs", "training", "version"},
    "estimator": {"engines", "errors", "estimator", "files", "inference", "metrics", "models", "tables", "training"},
    "metrics": {"errors", "inference.ranking"},
    "anndata": {"errors", "estimator", "models.count_rows", "models.settings", "version"},
    "__main__": {"cli", "errors", "evaluate", "impute", "reproduce", "sample", "train", "transform", "version"},
    "train": {
        "cli", "data", "engines", "errors", "files", "inference", "inputs", "plots", "runs", "tables", "training",
    },
    "evaluate": {
        "cli", "data", "engines", "errors", "evaluation", "files", "inference", "inputs", "models", "plots", "runs", "tables",
        "training", "version",
    },
    "transform": {
        "cli", "data", "engines", "errors", "estimator", "evaluate", "files", "inference", "inputs", "runs", "version",
    },
    "impute": {
        "cli", "data", "engines", "errors", "estimator", "evaluate", "files", "inputs", "runs", "transform",
    },
    "sample": {
        "cli", "data", "engines", "errors", "estimator", "evaluate", "files", "runs", "transform",
    },
    "reproduce": {
        "cli", "data", "engines", "errors", "evaluation", "files", "models.settings", "plots", "runs", "train",
        "training", "version",
    },
}  # fmt: skip

# Which modules may import a package, wherever in their text. The standard library is free but for pickle.
PACKAGES: dict[str, set[str]] = {
    # Not what starts before the data are known, so that --help and mistakes are answered at once.
    "numpy": {
        "anndata",
        "data",
        "engines",
        "estimator",
        "evaluation.measures",
        "files.model_file",
        "impute",
        "inference",
        "inputs",
        "metrics",
        "models",
        "plots",
        "runs.checkpoint",
        "runs.checkpointing",
        "sample",
        "tables",
        "train",
        "training",
        "transform",
    },
    "numba": {"engines.cuda_gpu", "engines.numba_cpu"},
    "llvmlite": {"engines.cuda_gpu", "engines.numba_cpu"},
    "cuda": {"engines.cuda_gpu.launching"},
    "pickle": {"engines.kept_kernels"},
    "matplotlib": {
        "plots.elbo_curve",
        "plots.interpolations",
        "plots.kind_columns",
        "plots.latents",
        "plots.nll_curves",
        "plots.pairs",
        "plots.prior_samples",
        "plots.reconstructions",
        "plots.scales",
        "plots.sheet",
        "plots.table_columns",
    },
    "sklearn": {"data.digits", "estimator", "metrics", "tables.checking"},
    "PIL": {"data.pictures"},
    "scipy": {"data.h5sparse", "data.matrixmarket", "data.sparse", "estimator.validation", "metrics", "models.special"},
    "pandas": {"tables.mixed.frames"},
    "pyarrow": {"data.arrow", "data.arrowkinds"},
    "h5py": {"data.h5sparse"},
    "pooch": {"data.download"},
    "safetensors": {"files.model_file", "runs.checkpoint"},
    "joblib": {"engines.threads"},
    "threadpoolctl": {"engines.in_float64", "inference.network", "train"},
    "tqdm": {"cli.training_report", "evaluate", "training.progress_bar"},
    "onnx": {"inference.onnx_export"},
    "tensorboardX": {"training.tensorboard"},
    "mpi4py": {"engines.distributed.ranks"},
}

# Each costs between a tenth of a second and two.
HEAVY = {"numba", "llvmlite", "matplotlib", "sklearn", "scipy", "pandas", "PIL", "pyarrow", "h5py"}


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
            if not any(within(target, allowed) for allowed in FLOORS[floor]):
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
    folders: dict[str, set[str]] = {}
    for name, below in FLOORS.items():
        folders.setdefault(name.split(".")[0], set()).update(allowed.split(".")[0] for allowed in below)
    list(graphlib.TopologicalSorter({name: below - {name} for name, below in folders.items()}).static_order())
    allowed = {module for modules in PACKAGES.values() for module in modules}
    assert ({*FLOORS} | set().union(*FLOORS.values()) | allowed) - {*MODULES} == set()


def test_the_table_says_what_the_design_says():
    forbidden = {"data", "runs", "plots", "cli", "training", "tables"}
    for name, below in FLOORS.items():
        if name.split(".")[0] == "engines":
            assert {allowed.split(".")[0] for allowed in below} & forbidden == set()
    # Only a command may drive another one.
    assert {name for name, below in FLOORS.items() if "train" in below} == {"__main__", "reproduce"}
    assert {module.split(".")[0] for module in PACKAGES["matplotlib"]} == {"plots"}


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("engines.reference", "import numba", "engines.reference imports numba"),
        ("engines.reference", "def f():\n    from numba import njit", "engines.reference imports numba"),
        ("engines.reference", "from vaefast.engines import numba_cpu", "engines.reference imports engines.numba_cpu"),
        ("engines.numba_cpu.layers", "from vaefast import data", "engines.numba_cpu.layers imports data"),
        ("engines.numba_cpu.layers", "from vaefast.data.idx import read_idx", "engines.numba_cpu.layers imports data.idx"),
        ("engines.contract", "import vaefast.training.trainer as loop", "engines.contract imports training.trainer"),
        ("models.layout", "from vaefast.engines.contract import State", "models.layout imports engines.contract"),
        ("files.atomic", "from vaefast.runs.checkpoint import Checkpoint", "files.atomic imports runs.checkpoint"),
        ("data.idx", "from vaefast.models import settings", "data.idx imports models.settings"),
        ("cli.options", "import numpy", "cli.options imports numpy"),
        ("training.trainer", "from vaefast.engines import create", "training.trainer imports engines"),
        ("runs.run_folder", "from vaefast.train import main", "runs.run_folder imports train"),
        ("plots.run_figures", "import matplotlib.figure", "plots.run_figures imports matplotlib"),
        ("data.digits", "import sympy", "data.digits imports sympy, which has no line in PACKAGES"),
        ("files.model_file", "import pickle", "files.model_file imports pickle"),
        ("models.layout", "from vaefast import __version__", "models.layout imports vaefast"),
        ("training.trainer", "from vaefast import VAE", "training.trainer imports vaefast"),
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
        ("train", "from vaefast import engines\nfrom vaefast.cli import options"),
        ("models.settings", "x = 'import numba'  # import numba"),
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


HELP = (
    "import contextlib\nfrom vaefast import __main__\nwith contextlib.suppress(SystemExit):\n    __main__.main([{}'--help'])"
)


@pytest.mark.parametrize(
    "program", ["import vaefast", HELP.format(""), HELP.format("'train', ")], ids=["import", "help", "help of train"]
)
def test_start_up_imports_nothing_heavy(program):
    assert heavy_after(program) == set()


def test_the_reference_runs_without_numba():
    assert heavy_after("import vaefast.training.trainer, vaefast.data, vaefast.engines.reference") == set()


def test_heavy_imports_would_be_seen():
    assert heavy_after("import vaefast.plots.sheet") >= {"matplotlib"}


def test_a_run_of_pictures_or_tables_does_not_wait_for_scikit_learn():
    """It takes 0.7 s to import, which every `vaefast train` would wait."""
    program = "import sys, vaefast.train, vaefast.inputs, vaefast.tables.preparing; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
