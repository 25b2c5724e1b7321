"""How many processes share the tests, which are left to a command of their own, and names that all agree on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for the whole suite, each of them for one core; none for a part of it.

    Tests that are named, and benchmarks, have the machine to themselves and start at once.
    """
    if not _is_whole_suite(config):
        return 0
    # A test that does not say how many threads it wants has one, in the programs that it starts, too: the threads of two
    # processes on two cores would mostly wait for each other. NumPy's own threads never meet in a test.
    for name in ("VAEFAST_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    return 2


def pytest_configure(config: pytest.Config) -> None:
    """Leave the long tests out of the whole suite, in each of its processes: all are given the same arguments."""
    if _is_whole_suite(config):
        config.option.markexpr = "not long"


def _is_whole_suite(config: pytest.Config) -> bool:
    """Whether no test, mark or keyword is named."""
    named = [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]
    return named == [config.rootpath / "tests"] and not config.option.markexpr and not config.option.keyword


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes by their number: what gzip packs holds the time, and all processes must give a test one name."""
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) else None
