"""Anomaly detection with every default: `python -m benchmarks.odds FOLDER`, beside an isolation forest.

FOLDER holds ODDS sets (https://odds.cs.stonybrook.edu) as MATLAB files with `X` (rows by columns) and `y` (1 for an anomaly).
Each detector is fitted to all rows, without labels, and scores the same rows, as the field does on these sets. The area under
the ROC curve is the mean over the seeds. `--json FILE` keeps the
areas, `--beside FILE` prints those of an earlier run next to them.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from vaefast import VAE
from vaefast.runs.run_folder import cpu_name


def areas(X: np.ndarray, y: np.ndarray, seeds: int) -> dict[str, float]:
    """Mean area under the ROC curve of each detector, and the seconds that one fit and score of the VAE takes."""
    vae, forest, seconds = [], [], []
    for seed in range(seeds):
        start = time.perf_counter()
        scores = VAE(random_state=seed).fit(X).score_samples(X)
        seconds.append(time.perf_counter() - start)
        vae.append(roc_auc_score(y, -scores))
        forest.append(roc_auc_score(y, -IsolationForest(random_state=seed).fit(X).score_samples(X)))
    return {"vae": float(np.mean(vae)), "forest": float(np.mean(forest)), "seconds": float(np.median(seconds))}


def main() -> None:
    """Fit, score and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to keep the areas")
    parser.add_argument("--beside", type=Path, help="what --json of an earlier run kept")
    options = parser.parse_args()
    before = json.loads(options.beside.read_text()) if options.beside else {}
    found = {}
    print(f"{cpu_name()}, {options.seeds} seeds{'; the VAE of the earlier run in the last column' if before else ''}")
    print(
        f"{'':12s} {'rows':>6s} {'columns':>7s} {'VAE':>7s} {'forest':>7s} {'s':>6s}" + (f" {'before':>7s}" if before else "")
    )
    for path in sorted(options.folder.glob("*.mat")):
        content = loadmat(path)
        X, y = content["X"].astype(np.float64), content["y"].ravel()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[path.stem] = areas(X, y, options.seeds)
        print(_row(path.stem, f"{X.shape[0]:6d} {X.shape[1]:7d}", found[path.stem], before.get(path.stem)), flush=True)
    means = {key: float(np.mean([each[key] for each in found.values()])) for key in ("vae", "forest", "seconds")}
    print(_row("mean", " " * 14, means, {"vae": np.mean([before[name]["vae"] for name in found])} if before else None))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _row(name: str, size: str, found: dict[str, float], before: dict[str, float] | None) -> str:
    last = "" if before is None else f" {before['vae']:7.3f}"
    return f"{name:12s} {size} {found['vae']:7.3f} {found['forest']:7.3f} {found['seconds']:6.2f}{last}"


if __name__ == "__main__":
    main()
