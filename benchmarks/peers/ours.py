"""vaefast's Numba engine behind the same interface, so that it is driven and timed like its peers."""

from __future__ import annotations

import time

import numpy as np

import vaefast
from benchmarks.peers import Settings
from vaefast.engines.contract import State
from vaefast.engines.numba_cpu import NumbaEngine
from vaefast.models import noise
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

NAME = "vaefast"


def version() -> str:
    """The project's."""
    return vaefast.__version__


class Trainer:
    """See `benchmarks.peers`."""

    precision = "float32"

    def __init__(self, images: np.ndarray, weights: dict[str, np.ndarray], settings: Settings) -> None:
        hidden = tuple(w.shape[1] for name, w in weights.items() if name.startswith("encoder.") and w.ndim == 2)
        model = ModelSettings(images.shape[1], hidden, len(weights["mean.bias"]), settings.activation)
        training = TrainingSettings(
            batch_size=settings.batch_size, binarize=settings.binarize, seed=settings.seed, precision=self.precision
        )
        layout = Layout(model)
        self._engine = NumbaEngine(model, training, settings.threads)
        self._engine.load_state(State.initial(layout.flatten(weights, np.float32)))
        self._images = self._engine.place(_as_bytes(images))
        self._size, self._batch_size, self._seed, self._epoch = len(images), settings.batch_size, settings.seed, 0

    def warm_up(self, steps: int | None = None) -> float:
        """Compile, or load what an earlier run compiled; no step is taken."""
        start = time.perf_counter()
        self._engine.warm_up(self._images)
        return time.perf_counter() - start

    def epoch(self, steps: int | None = None) -> float:
        """Train an epoch, or its first minibatches; mean ELBO in nats."""
        self._epoch += 1
        order = noise.permutation(self._seed, noise.Purpose.EXAMPLE_ORDER, self._epoch, self._size)
        order = order if steps is None else order[: steps * self._batch_size]
        return float(self._engine.train(self._images, order).elbo.mean())

    def evaluate(self, images: np.ndarray) -> float:
        """Mean ELBO in nats of images binarised at one half; an image of zeros and ones is binarised as it is."""
        x = images if self._engine.training.binarize == "none" else (images >= 0.5).astype(np.float32)
        return float(self._engine.evaluate(self._engine.place(_as_bytes(x))).elbo.mean())


def _as_bytes(images: np.ndarray) -> np.ndarray:
    """Grey levels as bytes, where that loses nothing: a quarter of the memory. A block at a time, to need no copy."""
    levels = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 1000):
        block = slice(start, start + 1000)
        np.rint(images[block] * np.float32(255), out=levels[block], casting="unsafe")
        if not np.array_equal(levels[block] / np.float32(255), images[block]):
            return images
    return levels
