"""TensorBoard event files of a run, written by tensorboardX, which needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaefast.errors import OutputError, SettingsError

REMEDY = 'pip install "vaefast[tensorboard]"'


def event_writer() -> Any:
    """The class of tensorboardX that writes event files.

    Raises
    ------
    SettingsError
        tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise SettingsError(f"tensorboardX is not installed, which writes TensorBoard's files: {REMEDY}") from error
    return SummaryWriter


class TensorBoard:
    """Writes the metrics of each epoch into a folder that `tensorboard --logdir` shows.

    A callback for `vaefast.VAE(callbacks=[TensorBoard("logs/first")])`, and what `--tensorboard` of the command line uses.

    Parameters
    ----------
    folder
        Where the event file goes; made if need be.

    Raises
    ------
    SettingsError
        tensorboardX is not installed.
    OutputError
        The folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        writer = event_writer()
        try:
            # Written epoch by epoch, not when a queue of ten is full.
            self._writer: Any = writer(str(self.folder), max_queue=1)
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {error.strerror or error}; choose another folder") from error

    def __call__(self, vae: object, metrics: Mapping[str, float]) -> None:
        self.write(metrics)

    def write(self, metrics: Mapping[str, float]) -> None:
        """One epoch: `train_elbo` becomes the scalar `elbo/train`, and so on, so that curves to compare share a chart."""
        epoch = int(metrics["epoch"])
        for key, value in metrics.items():
            part, _, quantity = key.partition("_")
            if key not in ("epoch", "step"):
                name = f"{quantity}/{part}" if part in ("train", "test", "validation") else f"speed/{key}"
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()
