"""The embedded data set: the 1797 handwritten digits of 8x8 pixels in scikit-learn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.images import Images, Rows

NAME = "digits 8x8"
WHITEST = 16.0  # grey levels are 0 to 16, so value / 16 is exact in float32


def read_digits(notice: str | None = None) -> Rows:
    """The digits with their labels: float32 (N, 64) in [0, 1]."""
    values, labels = _read()
    images = Images((values / WHITEST).astype(np.float32), (8, 8))
    return Rows(NAME, images, labels.astype(np.int64), notice=notice)


def _read() -> tuple[NDArray[Any], NDArray[Any]]:
    """Grey levels (N, 64) and labels (N,): from scikit-learn's own file where it stands, because `import sklearn` takes a
    second, else by its function."""
    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz" if package and package.origin else None
    if file is not None and file.is_file():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1]
    from sklearn import datasets

    values, labels = datasets.load_digits(return_X_y=True)
    return values, labels
