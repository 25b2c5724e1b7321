"""The embedded default: scikit-learn's 1797 real handwritten digits of 8x8 pixels."""

from __future__ import annotations

import numpy as np

from vaefast.data.images import Dataset, Images
from vaefast.data.split import split

NAME = "digits 8x8"
WHITEST = 16.0  # their grey levels are 0 to 16, so that value / 16 is exact in float32


def load_digits(test_fraction: float, notice: str | None = None) -> Dataset:
    """The digits with their labels: float32 (N, 64) in [0, 1]."""
    # Here because `import sklearn` costs a second that most runs need not pay.
    from sklearn import datasets

    values, labels = datasets.load_digits(return_X_y=True)
    images = Images((values / WHITEST).astype(np.float32), (8, 8))
    return split(NAME, images, labels.astype(np.int64), test_fraction, notice)
