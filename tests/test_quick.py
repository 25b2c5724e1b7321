"""Which tests are quick, long, first or shared by processes, and that no two test files have one name."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
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
def test_the_whole_suite_alone_is_shared_by_two_processes_of_one_thread(pytestconfig, monkeypatch, arguments, chosen, workers):
    for name in ("VAEFAST_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)
    root = TESTS.parent
    conftest_of_all = pytestconfig.pluginmanager.get_plugin(str(root / "conftest.py"))
    option = SimpleNamespace(**{"markexpr": "", "keyword": "", **chosen})
    config = SimpleNamespace(args=arguments, invocation_params=SimpleNamespace(dir=root), rootpath=root, option=option)
    assert conftest_of_all.pytest_xdist_auto_num_workers(config) == workers
    assert os.environ.get("VAEFAST_NUM_THREADS") == ("1" if workers else None)
    monkeypatch.setenv("VAEFAST_NUM_THREADS", "2")
    assert conftest_of_all.pytest_xdist_auto_num_workers(config) == workers
    assert os.environ["VAEFAST_NUM_THREADS"] == "2"
    conftest_of_all.pytest_configure(config)
    assert option.markexpr == ("not long" if workers else chosen.get("markexpr", ""))


def test_every_long_test_is_there():
    files = sorted({str(TESTS / name.partition("::")[0]) for name in (*conftest.LONG, "engines/test_bf16_engines.py")})
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-m", "long", *files],
        cwd=TESTS.parent, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    collected = {line for line in found.stdout.splitlines() if "::" in line}
    marked = {line for line in collected if line.startswith("tests/engines/test_bf16_engines.py::")}
    assert collected - marked == {f"tests/{name}" for name in conftest.LONG}
    assert marked
    assert all(line.endswith("-numba]") and "[bf16 report-" not in line for line in marked)


def test_the_longest_files_come_first_and_the_others_stay_in_their_order():
    for name in conftest.LONGEST:
        assert (TESTS / name).exists(), name
    names = ("models/test_noise.py", conftest.LONGEST[1], "data/test_csv.py", conftest.LONGEST[0], conftest.LONGEST[1])
    items = [SimpleNamespace(path=TESTS / name, name=f"test_{i}") for i, name in enumerate(names)]
    items.append(SimpleNamespace(path=TESTS.parent / "benchmarks" / "bench_step.py", name="test_5"))
    for item in items:
        item.add_marker = lambda marker: None
    conftest.pytest_collection_modifyitems(items)
    assert [item.name for item in items] == ["test_3", "test_1", "test_4", "test_0", "test_2", "test_5"]


def test_no_two_test_files_have_one_name():
    count = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, times in count.items() if times > 1] == []
