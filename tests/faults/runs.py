"""A short run to be hurt, and what must come out of it whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults import Failed
from vaefast import train
from vaefast.files import atomic
from vaefast.plots import run_figures
from vaefast.runs.interruption import EXIT_CODES

# Of a line of metrics: what a clock says differs from run to run.
TIMES = ("seconds", "evaluation_seconds", "images_per_second")
TINY = (
    "--engine", "reference", "--hidden", "6", "--latent", "2", "--batch-size", "7", "--epochs", "3", "--threads", "1",
    "--validation", "6", "--patience", "2",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What two runs of the same settings must have in common, bit for bit."""

    model: bytes
    metrics: list[dict[str, Any]]
    figures: dict[str, bytes]


def outcome(folder: Path) -> Outcome:
    """What a finished run left behind."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    figures = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    return Outcome((folder / "model.safetensors").read_bytes(), metrics, figures)


def check_same(expected: Outcome, folder: Path, case: str) -> None:
    """Refuse a finished run that differs in anything from the unbroken one.

    Raises
    ------
    Failed
        It does.
    """
    got = outcome(folder)
    for part in ("model", "metrics", "figures"):
        if getattr(got, part) != getattr(expected, part):
            raise Failed(f"{case}: {part} differ from those of the unbroken run")
    left = [path.name for path in folder.rglob(f".*{atomic.TEMPORARY}")]
    if left:
        raise Failed(f"{case}: temporary files are left: {', '.join(left)}")


def tiny_images(path: Path, count: int = 40, pixels: int = 9) -> str:
    """Grey images in a `.npy` file: its name as a flag takes it."""
    np.save(path, np.random.default_rng(0).random((count, pixels), np.float32))
    return str(path)


def command(*arguments: str) -> tuple[int, str, str]:
    """`python -m vaefast.train` in this process: exit code, stdout, stderr. Figures are drawn as a few bytes each."""
    handlers = {number: signal.getsignal(number) for number in EXIT_CODES}
    out, err = io.StringIO(), io.StringIO()
    try:
        with plain_figures(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = train.main([*arguments])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def plain_figures() -> Iterator[None]:
    """Figures without matplotlib, which takes a second: the same files, written by the same function."""

    def draw(engine: Any, data: Any, metrics: Any, *, folder: Path, **settings: Any) -> None:
        for name in run_figures.names(data, metrics):
            atomic.write_bytes(folder / name, name.encode() * 1000)  # larger than anything else of a tiny run

    drawn, run_figures.draw = run_figures.draw, draw
    try:
        yield
    finally:
        run_figures.draw = drawn


def process(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, in `folder`."""
    root = str(Path(train.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, "text": True}
    return subprocess.Popen([sys.executable, "-m", "vaefast.train", *arguments], cwd=folder, **(settings | options))
