"""What `vaefast train` prints about training: a progress bar or one line per epoch, and one line at the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaefast.cli.console import say
from vaefast.cli.notices import team

if TYPE_CHECKING:
    from vaefast.engines.contract import Engine
    from vaefast.training.early_stopping import Stopping
    from vaefast.training.trainer import EpochMetrics, Position, Progress


class Display:
    """A progress bar on a terminal; elsewhere one plain line per epoch.

    Parameters
    ----------
    epochs
        Number of epochs.
    unit
        What an example is called.
    """

    def __init__(self, epochs: int, unit: str) -> None:
        from tqdm import tqdm

        self._epochs, self._unit = epochs, unit
        live = sys.stderr is not None and sys.stderr.isatty()
        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
        self._bar = tqdm(total=1.0, disable=not live, bar_format=form, leave=False, dynamic_ncols=True)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def progress(self, progress: Progress) -> None:
        """Move the bar. This is called several times a second."""
        if not self._bar.disable:
            done = (progress.epoch - 1 + progress.images / progress.size) / progress.epochs
            self._bar.set_description_str(f"epoch {progress.epoch}/{progress.epochs}  ELBO {progress.elbo:8.2f}", False)
            self._bar.update(done - self._bar.n)

    def epoch(self, line: EpochMetrics) -> None:
        """Print the line of an epoch that has ended."""
        text = f"epoch {line.epoch:{len(str(self._epochs))}d}/{self._epochs}  train ELBO {line.train_elbo:8.2f}  "
        if is_tested(line):
            text += (
                f"test ELBO {line.test_elbo:8.2f}  (log-likelihood {line.test_log_likelihood:8.2f}, KL {line.test_kl:5.2f})  "
            )
        else:
            text += f"(log-likelihood {line.train_log_likelihood:8.2f}, KL {line.train_kl:5.2f})  "
        text += f"{line.seconds:.2f} s  {line.images_per_second:,.0f} {self._unit}s/s"
        if line.validation_elbo is not None:
            text += f"  validation ELBO {line.validation_elbo:8.2f}"
        if self._bar.disable:
            say(text)


def is_tested(line: EpochMetrics) -> bool:
    """Whether there was a test set."""
    return not math.isnan(line.test_elbo)


def nothing_to_do(path: Path, position: Position, epochs: int) -> str:
    """Why nothing was trained: the run is complete."""
    if position.is_over:
        return f"nothing to do: {path} has stopped early, after epoch {position.epoch - 1}"
    done = f"the epoch of {path} is" if epochs == 1 else f"all {epochs} epochs of {path} are"
    return f"nothing to do: {done} trained; --epochs makes the run longer"


def stopped(stopping: Stopping, position: Position) -> str:
    """Why training ended and which model is kept."""
    rise = f" by {stopping.tolerance:g} nats" if stopping.tolerance else ""
    waited = (
        f"stopped after epoch {position.epoch - 1}: the validation ELBO has not risen{rise} for {stopping.patience} epochs"
    )
    why = waited if stopping.is_over else f"all {position.epoch - 1} epochs are trained"
    if not stopping.best_epoch:
        return why
    kept = position.history[stopping.best_epoch - 1]
    bounds = f"validation ELBO {stopping.best_bound:.2f}" + (f", test ELBO {kept.test_elbo:.2f}" if is_tested(kept) else "")
    return f"{why}; the model is that of epoch {stopping.best_epoch}, {bounds}"


def summary(
    metrics: Sequence[EpochMetrics],
    name: str,
    unit: str,
    size: int,
    engine: Engine,
    wall: float,
    path: Path,
    resumed_at: int | None = None,
) -> str:
    """The last line: what was trained in this call, on `size` examples of the named data, and the run folder `path`."""
    computing = team(engine)
    if not metrics:
        text = "nothing trained (0 epochs)" if resumed_at is None else "no epoch was left to train; the results are written"
        return f"{name}: {text} | {computing} | {path}"
    last, seconds = metrics[-1], sum(line.seconds for line in metrics)
    part = "test" if is_tested(last) else "train"
    elbo, log_likelihood, kl = (getattr(last, f"{part}_{term}") for term in ("elbo", "log_likelihood", "kl"))
    rate = size * len(metrics) / seconds
    epochs = f"{len(metrics)} epoch{'' if len(metrics) == 1 else 's'}"
    if resumed_at is not None:
        first = resumed_at + 1
        epochs = f"epoch {first}" if first == last.epoch else f"epochs {first} to {last.epoch}"
    return (
        f"{name}: {part} ELBO {elbo:.2f} nats (log-likelihood {log_likelihood:.2f}, KL {kl:.2f}) | {epochs} in {wall:.1f} s, "
        f"{seconds:.1f} s of it training, {rate:,.0f} {unit}s/s | {computing} | {path}"
    )
