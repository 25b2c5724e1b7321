"""Engines that cannot run here say why, and `auto` takes another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vaefast
from vaefast import engines
from vaefast.errors import EngineUnavailable

TRAIN = ("--data", "digits", "--epochs", "0", "--hidden", "4", "--out", "run", "--engine")


@pytest.mark.parametrize("value", ["1", " 2 "])
def test_numba_that_may_not_compile_is_no_engine(monkeypatch, value):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", value)
    with pytest.raises(EngineUnavailable, match=r"engine numba cannot run here: NUMBA_DISABLE_JIT is \d, .*; unset it"):
        engines.choose("numba")
    assert engines.choose("auto") != "numba"
    monkeypatch.setattr(engines, "_extension_fault", lambda: "its extension was not built")
    assert engines.choose("auto", ["objective iwae"]) == "reference"


@pytest.mark.parametrize("value", ["0", "", "no"])
def test_what_numba_reads_as_no_wish_is_none(monkeypatch, value):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", value)
    assert engines.choose("numba") == "numba"


def test_the_command_ends_with_one_line(tmp_path):
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(vaefast.__file__).parents[1])}
    command = [sys.executable, "-m", "vaefast", "train", *TRAIN, "numba"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "vaefast: engine numba cannot run here: NUMBA_DISABLE_JIT is 1, so Numba compiles nothing; unset it\n"
    )
