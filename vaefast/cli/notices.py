"""Lines that a run prints before it begins: what it will do, and which flags have no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaefast.cli.options import Options
    from vaefast.models.settings import TrainingSettings


def unused_data_dir(data: str | None, data_dir: object) -> list[str]:
    """Say that --data-dir has no effect if --data names other data than MNIST."""
    if data_dir is None or data in (None, "mnist"):
        return []
    return [f"--data-dir {data_dir} is not used: it is the folder of the MNIST files, and --data is {data}"]


def plan(data: str, rows: int, width: str, options: Options, engine: Any) -> str:
    """The first line of a run: its data, its main settings and its engine."""
    settings = options.training
    return (
        f"{data}: {rows:,} training examples of {width} | {_length(settings, options.automatic)}, learning "
        f"rate {settings.adam.learning_rate:g}, seed {settings.seed} | {team(engine)}"
    )


def _length(settings: TrainingSettings, automatic: frozenset[str]) -> str:
    """Batch size and epochs, and which of them were chosen by the number of examples."""
    batch_size = f"batch size {settings.batch_size}"
    epochs = f"{settings.epochs} epoch{'' if settings.epochs == 1 else 's'}"
    if {"batch_size", "epochs"} <= automatic:
        return f"{batch_size}, {epochs} (by the number of examples; --batch-size and --epochs change them)"
    if "batch_size" in automatic:
        batch_size += " (by the number of examples; --batch-size changes it)"
    if "epochs" in automatic:
        epochs += " (by the number of examples; --epochs changes it)"
    return f"{batch_size}, {epochs}"


def team(engine: Any) -> str:
    """The engine, its threads, and its ranks if there are several."""
    ranks, threads = getattr(engine, "ranks", 1), f"{engine.threads} thread{'s' if engine.threads > 1 else ''}"
    return f"engine {engine.name}, {threads if ranks == 1 else f'{ranks} ranks with {threads} each'}"
