"""The quick tests: every folder of the package is among what they try, and no two test files have one name."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

import vaefast
from tests import conftest

TESTS = Path(conftest.__file__).parent
PACKAGE = Path(vaefast.__file__).parent


def folders() -> list[str]:
    return sorted({path.parent.name for path in PACKAGE.glob("*/*.py")})


def imports(text: str) -> set[str]:
    """The dotted names that a text imports, with all that they are within."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.rsplit(".", drop)[0] for name in names for drop in range(name.count(".") + 1)}


def test_every_folder_is_tried_quickly():
    assert set(folders()) - set(conftest.QUICK) == set()


@pytest.mark.parametrize(
    ("folder", "entry"), [(folder, entry) for folder in conftest.QUICK for entry in conftest.QUICK[folder]]
)
def test_what_is_quick_is_there_and_imports_what_it_tries(folder, entry):
    file, _, test = entry.partition("::")
    text = (TESTS / file).read_text(encoding="utf-8")
    defined = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert test in defined or not test
    found = imports(text)
    public = folder == "estimator" and "vaefast.VAE" in found
    assert folder == "" or f"vaefast.{folder}" in found or public


@pytest.mark.parametrize(
    ("node", "quick"),
    [
        ("data/test_csv.py::test_anything[1]", True),
        ("data/test_csv.py.old::test_anything", False),
        ("test_estimator.py::test_shapes_and_types", True),
        ("test_estimator.py::test_shapes_and_types_not", False),
        ("test_estimator.py::test_another", False),
    ],
)
def test_a_quick_test_is_one_of_the_list(node, quick):
    assert conftest.is_quick(node) == quick


def test_quick_tests_are_marked(request):
    assert request.node.get_closest_marker("quick")


@pytest.mark.parametrize(
    ("arguments", "chosen", "workers"),
    [
        (["tests"], {}, 2),
        ([str(TESTS)], {}, 2),
        (["tests"], {"markexpr": "quick"}, 0),
        (["tests"], {"keyword": "cython"}, 0),
        (["tests/models"], {}, 0),
        (["tests", "benchmarks"], {}, 0),
        (["tests/test_quick.py::test_every_folder_is_tried_quickly"], {}, 0),
    ],
)
def test_the_whole_suite_alone_is_shared_by_two_processes(pytestconfig, arguments, chosen, workers):
    root = TESTS.parent
    conftest_of_all = pytestconfig.pluginmanager.get_plugin(str(root / "conftest.py"))
    option = SimpleNamespace(**{"markexpr": "", "keyword": "", **chosen})
    config = SimpleNamespace(args=arguments, invocation_params=SimpleNamespace(dir=root), rootpath=root, option=option)
    assert conftest_of_all.pytest_xdist_auto_num_workers(config) == workers


def test_no_two_test_files_have_one_name():
    count = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, times in count.items() if times > 1] == []
