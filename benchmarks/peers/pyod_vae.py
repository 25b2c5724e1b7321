"""PyOD's VAE, a fit for each line of standard input; run by the interpreter of an environment that has pyod and torch.

    PYTHON benchmarks/peers/pyod_vae.py THREADS

A line is JSON with `data` (a `.npy` of rows), `seed`, and `changes`, parameters beside the defaults. The answer holds the
scores of the rows and the seconds that fit and scores took, without imports.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import pyod  # noqa: E402
import torch  # noqa: E402
from pyod.models.vae import VAE  # noqa: E402


def fit(X: np.ndarray, seed: int, **changes: object) -> tuple[np.ndarray, float]:
    """Scores of the rows, and seconds."""
    start = time.perf_counter()
    detector = VAE(random_state=seed, verbose=0, **changes).fit(X)
    return detector.decision_scores_, time.perf_counter() - start


def main() -> None:
    """Answer until standard input ends."""
    torch.set_num_threads(int(sys.argv[1]))
    fit(np.random.default_rng(0).normal(size=(200, 5)), 0, epoch_num=2)
    print(json.dumps({"version": pyod.__version__}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        scores, seconds = fit(np.load(asked["data"]), asked["seed"], **asked["changes"])
        if not np.isfinite(scores).all():
            scores = np.nan_to_num(scores, nan=np.inf)
        print(json.dumps({"scores": np.clip(scores, -1e300, 1e300).tolist(), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
