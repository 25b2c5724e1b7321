"""What checkpoints and the guard cost in an epoch of MNIST: `python -m benchmarks.survival`.

Seconds spent in them are counted where they are spent, which no other program's noise can hide, and set against those of
the whole run, evaluation included; a run without either is timed, too, as a check.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaefast import data, engines
from vaefast.engines.contract import State
from vaefast.engines.threads import thread_count
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings
from vaefast.runs.checkpoint import CheckpointFolder
from vaefast.runs.checkpoint_policy import Schedule
from vaefast.runs.checkpointing import Keeper
from vaefast.runs.interruption import Interruption
from vaefast.training import trainer
from vaefast.training.divergence import Guard

KINDS = {
    "none": "no guard, no checkpoints",
    "auto": "guard, --checkpoint-every auto",
    "1": "guard, --checkpoint-every 1",
}


class Clock:
    """Seconds spent inside the functions that it was wrapped around, those within each other counted once."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0
        self._inside = False

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def call(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return function(*arguments, **options)
            self._inside, start = True, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - start
                self._inside = False
                self.calls += 1

        return call


class NoGuard:
    """Looks at nothing."""

    def __init__(self, *arguments: Any) -> None:
        self.verified = self.trained = self.evaluated = lambda *arguments: None


@contextmanager
def guarded_by(guard: Any) -> Iterator[None]:
    """The trainer with another guard."""
    real, trainer.Guard = trainer.Guard, guard
    try:
        yield
    finally:
        trainer.Guard = real


def main() -> None:
    """Train with each schedule of checkpoints and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60, help="of each kind (default: 60)")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    images = data.load("mnist")
    model, training = ModelSettings(), TrainingSettings()
    threads = thread_count(options.threads)
    print(f"MNIST, {options.epochs} epochs of each kind, batch 200, {threads} threads")
    for text, words in KINDS.items():
        engine = engines.create("auto", model, training, threads)
        engine.load_state(State.initial(initial_parameters(Layout(model), "glorot", 0)))
        with tempfile.TemporaryDirectory() as folder:
            print(f"{words:32s} {_measured(text, Path(folder), engine, images, options.epochs)}", flush=True)
        engine.close()


def _measured(text: str, folder: Path, engine: Any, images: data.Dataset, epochs: int) -> str:
    """One run with this schedule of checkpoints, or with neither guard nor checkpoints: what it took, in words."""
    clock, writes = Clock(), Clock()
    guard: Any = NoGuard
    pause: Any = lambda position, state: True  # noqa: E731
    if text != "none":
        guard = type("TimedGuard", (Guard,), {})
        for name in ("__init__", "trained", "evaluated", "verified"):
            setattr(guard, name, clock.timed(getattr(Guard, name)))
        # The last epoch is none for it: to write at the end of a run costs it nothing that could be trained meanwhile.
        keeper = Keeper(CheckpointFolder(folder / "checkpoint"), {}, 2**40, Schedule(text), Interruption())
        keeper.write = writes.timed(keeper.write)  # type: ignore[method-assign]
        pause = clock.timed(keeper)
    engine.warm_up(engine.place(images.train.values))
    start = time.perf_counter()
    with guarded_by(guard):
        values = images.train.values, images.test.values
        lines = list(trainer.train(engine, *values, TrainingSettings(epochs=epochs), on_pause=pause))
    seconds = time.perf_counter() - start
    result = f"median epoch {statistics.median(line.seconds for line in lines):.3f} s"
    if text != "none":
        result += f"   guard and checkpoints {100 * clock.seconds / seconds:.2f} % of the time"
        result += f"   {writes.calls} checkpoints of {1000 * writes.seconds / writes.calls:.1f} ms"
    return result


if __name__ == "__main__":
    main()
