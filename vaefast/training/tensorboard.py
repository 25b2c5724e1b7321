"""TensorBoard event files of a run, written by tensorboardX, which needs no TensorFlow."""

from __future__ import annotations

import os
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
    folder : str or Path
        Where the event file goes. It is made if need be.

    Raises
    ------
    SettingsError
        tensorboardX is not installed.
    OutputError
        The folder cannot be made or written to.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        event_writer()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {error.strerror or error}; choose another folder") from error
        self._writer: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # A clone, as scikit-learn makes of an estimator for each fold, writes a file of its own into the same folder.
        return {"folder": self.folder, "_writer": None}

    def __call__(self, vae: object, metrics: Mapping[str, float]) -> None:
        self.write(metrics)

    def write(self, metrics: Mapping[str, float]) -> None:
        """Write one epoch. `train_elbo` becomes the scalar `elbo/train`, and so on, so that related curves share a chart.

        Parameters
        ----------
        metrics : mapping of str to float
            The metrics of an epoch, with the keys of `VAE.history_`.
        """
        if self._writer is None:
            # A name of its own even for runs that start in the same second; written epoch by epoch, not when a queue is full.
            suffix = f".{os.getpid()}.{len(list(self.folder.iterdir()))}"
            self._writer = event_writer()(str(self.folder), max_queue=1, filename_suffix=suffix)
        epoch = int(metrics["epoch"])
        for key, value in metrics.items():
            part, _, quantity = key.partition("_")
            if key not in ("epoch", "step"):
                name = f"{quantity}/{part}" if part in ("train", "test", "validation") else f"speed/{key}"
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
