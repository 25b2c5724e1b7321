"""What scaling does to densities: what to take from those of scaled images for those of the images as given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LogVolumes:
    """What to take from a log-density of an image as the networks see it, in nats, for that of the image as given.

    Parameters
    ----------
    train, test, validation
        Of these images: one number for all, or one for each, (N,), where columns are missing.
    """

    train: NDArray[np.float64] | float = 0.0
    test: NDArray[np.float64] | float = 0.0
    validation: NDArray[np.float64] | float = 0.0

    def of_training(self, order: NDArray[np.int64]) -> float:
        """Mean over training images in this order, (n,)."""
        return float(self.train[order].mean()) if isinstance(self.train, np.ndarray) else self.train

    def of_part(self, part: str) -> float:
        """Mean over the images of a part: `test` or `validation`."""
        return float(np.mean(getattr(self, part)))


NO_VOLUMES = LogVolumes()
