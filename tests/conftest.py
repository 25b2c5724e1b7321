"""Fixtures of the tests that stop a run and go on with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import runs
from vaefast.engines import threads
from vaefast.runs.checkpointing import Keeper
from vaefast.training import trainer

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in a folder with 40 grey images, with three cores and a piece for each minibatch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    monkeypatch.setattr(threads, "granted_cores", lambda: 3)
    monkeypatch.setattr(trainer, "_next_piece", lambda piece, elapsed: 1)
    runs.tiny_images(tmp_path / "grey.npy", 40, 30)
    return runs.command


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Send this process a signal, SIGTERM unless it is another, when the trainer pauses for the nth time."""
    real = Keeper.__call__

    def arrange(pause: int, number: int = signal.SIGTERM) -> None:
        left = [pause]

        def call(keeper: Keeper, *arguments: object) -> bool:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), number)
            return real(keeper, *arguments)

        monkeypatch.setattr(Keeper, "__call__", call)

    yield arrange
    monkeypatch.setattr(Keeper, "__call__", real)
