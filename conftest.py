"""How many processes share the tests, and names of tests that they agree on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for the whole suite, whose tests mostly wait or have one thread; none for a part of it.

    Tests that are named, and benchmarks, have the machine to themselves and start at once.
    """
    named = [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]
    chosen = config.option.markexpr or config.option.keyword
    return 2 if named == [config.rootpath / "tests"] and not chosen else 0


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes by their number: what gzip packs holds the time, and all processes must give a test one name."""
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) else None
