"""Anomaly detection with every default: `python -m benchmarks.odds FOLDER [--pyod PYTHON]`.

FOLDER holds ODDS sets (https://odds.cs.stonybrook.edu) as MATLAB files with `X` (rows by columns) and `y` (1 for an
anomaly). Each detector is fitted to all rows, without labels, and scores the same rows, as the field does on these sets.
Beside `vaefast.VAEDetector` stand the ELBO of the same model and an isolation forest. With the interpreter of an environment
that has PyOD and PyTorch, PyOD's VAE is there twice: as shipped, and with a capacity so large that its KL divergence counts.
Areas under the ROC curve and average precisions are means over the seeds, seconds are medians of one fit and score. `--json
FILE` keeps all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from vaefast import VAEDetector
from vaefast.engines.threads import granted_cores
from vaefast.runs.run_folder import cpu_name

PEER = Path(__file__).parent / "peers" / "pyod_vae.py"
# PyOD's VAE by its parameters beside the defaults.
PYOD = {"pyod": {}, "pyod, kl": {"capacity": 1e9}}


def ours(X: NDArray[np.float64], seed: int) -> dict[str, tuple[NDArray[np.float64], float]]:
    """Scores and seconds of the detectors of this process."""
    start = time.perf_counter()
    detector = VAEDetector(random_state=seed).fit(X)
    seconds = time.perf_counter() - start
    elbo = -detector.vae_.score_samples(X)
    start = time.perf_counter()
    forest = -IsolationForest(random_state=seed).fit(X).score_samples(X)
    return {
        "log p": (detector.decision_scores_, seconds),
        "elbo": (elbo, float("nan")),
        "forest": (forest, time.perf_counter() - start),
    }


class Pyod:
    """PyOD in a process of its own, which has PyTorch imported and warm before anything is timed."""

    def __init__(self, python: str, folder: Path) -> None:
        self._folder = folder
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([python, str(PEER), str(granted_cores())], text=True, **pipes)  # type: ignore[call-overload]
        self.version = self._answer()["version"]

    def scores(self, X: NDArray[np.float64], seed: int) -> dict[str, tuple[NDArray[np.float64], float]]:
        """Scores and seconds by the names of `PYOD`."""
        np.save(self._folder / "X.npy", X)
        found = {}
        for name, changes in PYOD.items():
            question = {"data": str(self._folder / "X.npy"), "seed": seed, "changes": changes}
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            answer = self._answer()
            found[name] = (np.array(answer["scores"]), float(answer["seconds"]))
        return found

    def _answer(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit("PyOD ended without an answer: try its interpreter by hand")


def measured(X: NDArray[np.float64], y: NDArray[Any], seeds: int, pyod: Pyod | None) -> dict[str, dict[str, float]]:
    """By detector the area under the ROC curve, the average precision, and the seconds."""
    rounds = [{**ours(X, seed), **(pyod.scores(X, seed) if pyod else {})} for seed in range(seeds)]
    return {
        name: {
            "roc": float(np.mean([roc_auc_score(y, each[name][0]) for each in rounds])),
            "precision": float(np.mean([average_precision_score(y, each[name][0]) for each in rounds])),
            "seconds": float(np.median([each[name][1] for each in rounds])),
        }
        for name in rounds[0]
    }


def main() -> None:
    """Fit, score and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pyod", metavar="PYTHON", help="an interpreter with pyod and torch")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to keep all that was measured")
    options = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pyod = Pyod(options.pyod, Path(folder)) if options.pyod else None
        print(f"{cpu_name()}, {granted_cores()} threads, {options.seeds} seeds{f', PyOD {pyod.version}' if pyod else ''}")
        for number, path in enumerate(sorted(options.folder.glob("*.mat"))):
            content = loadmat(path)
            X, y = content["X"].astype(np.float64), content["y"].ravel()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if number == 0:
                    ours(X[:50], 0)  # the first fit imports, and compiles where no extension is built
                found[path.stem] = measured(X, y, options.seeds, pyod)
            if number == 0:
                _head(list(found[path.stem]))
            print(_row(path.stem, f"{X.shape[0]:6d} {X.shape[1]:7d}", found[path.stem]), flush=True)
    names = list(next(iter(found.values())))
    keys = ("roc", "precision", "seconds")
    means = {name: {key: float(np.mean([each[name][key] for each in found.values()])) for key in keys} for name in names}
    print(_row("mean", " " * 14, means))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def _head(names: list[str]) -> None:
    print(f"{'':12s} {'':14s} " + " ".join(f"{name:>17s}" for name in names))
    print(f"{'':12s} {'rows':>6s} {'columns':>7s} " + " ".join(f"{'ROC':>5s} {'prec.':>5s} {'s':>5s}" for _ in names))


def _row(name: str, size: str, found: dict[str, dict[str, float]]) -> str:
    cells = (f"{of['roc']:5.3f} {of['precision']:5.3f} {of['seconds']:5.2f}" for of in found.values())
    return f"{name:12s} {size} " + " ".join(cells)


if __name__ == "__main__":
    main()
