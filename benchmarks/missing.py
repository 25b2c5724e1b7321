"""Imputation of values that are missing at random: `python -m benchmarks.missing [--torch PYTHON]`.

Of scikit-learn's breast cancer and wine, standardised, one half of the values is hidden, another half for each seed. Every
method learns from what is left and fills in the rest. The score is the root mean square error of what it fills in, in standard
deviations of the column, and its mean over the seeds; seconds are medians of training and of filling in.

`vaefast` is `VAE.impute` in the set-up of Mattei and Frellsen (2019): a Student-t likelihood, 10 latents, hidden layers of
128, the importance-weighted bound of 20 samples, Adam with 0.001, minibatches of 64, and 10,000 samples to fill in from. Their
encoder has three hidden layers and their decoder two; ours mirrors the encoder, so both have three here, in PyTorch alike.
With the interpreter of an environment that has PyTorch, MIWAE of the same set-up is there, too. `vaefast, defaults` leaves all
to `VAE` but the seed. Beside them stand `IterativeImputer`, `KNNImputer` and the mean of the column. `--json FILE` keeps all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from vaefast import VAE
from vaefast.engines.threads import granted_cores
from vaefast.runs.run_folder import cpu_name

PEER = Path(__file__).parent / "peers" / "torch_miwae.py"
SETS = {"breast cancer": load_breast_cancer, "wine": load_wine}
HIDDEN_SHARE = 0.5
# Of the set-up that is compared.
SAMPLES, IMPUTATIONS = 20, 10_000
SETUP: dict[str, Any] = {
    "n_components": 10, "hidden_layer_sizes": (128, 128, 128), "likelihood": "student-t", "scaling": None, "objective": "iwae",
    "samples": SAMPLES, "batch_size": 64, "learning_rate": 1e-3,
}  # fmt: skip

Array = NDArray[np.float64]
# A table with gaps and a seed, to the filled table, and the seconds of training and of filling in.
Method = Callable[[Array, int], tuple[Array, float, float]]


def table(name: str, seed: int) -> tuple[Array, Array]:
    """A standardised table, (N, X), and the same with gaps."""
    X = SETS[name]().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return X, np.where(np.random.default_rng(seed).random(X.shape) < HIDDEN_SHARE, np.nan, X)


def vae(settings: dict[str, Any], imputations: int) -> Method:
    """`VAE.impute` with these parameters."""

    def fill(X: Array, seed: int) -> tuple[Array, float, float]:
        start = time.perf_counter()
        model = VAE(random_state=seed, **settings).fit(X)
        middle = time.perf_counter()
        filled = model.impute(X, imputations)
        return filled, middle - start, time.perf_counter() - middle

    return fill


def imputer(make: Callable[[int], Any]) -> Method:
    """An imputer of scikit-learn."""

    def fill(X: Array, seed: int) -> tuple[Array, float, float]:
        start = time.perf_counter()
        model = make(seed).fit(X)
        middle = time.perf_counter()
        filled = model.transform(X)
        return filled, middle - start, time.perf_counter() - middle

    return fill


class Miwae:
    """MIWAE in a process of its own, which has PyTorch imported and warm before anything is timed."""

    def __init__(self, python: str, folder: Path, epochs: int) -> None:
        self._folder, self._epochs = folder, epochs
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen([python, str(PEER), str(granted_cores())], text=True, **pipes)
        self.version = self._answer()["version"]

    def __call__(self, X: Array, seed: int) -> tuple[Array, float, float]:
        """Fill in one table."""
        data, filled = self._folder / "X.npy", self._folder / "filled.npy"
        np.save(data, X)
        asked = {
            "data": str(data), "filled": str(filled), "seed": seed, "epochs": self._epochs, "samples": SAMPLES,
            "imputations": IMPUTATIONS,
        }  # fmt: skip
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return np.load(filled).astype(np.float64), float(answer["train"]), float(answer["impute"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise SystemExit("MIWAE ended without an answer: try its interpreter by hand")


def measured(name: str, method: Method, seeds: int) -> dict[str, Any]:
    """The error of each seed, and the median seconds of training and of filling in."""
    rounds = []
    for seed in range(seeds):
        X, gaps = table(name, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            filled, train, impute = method(gaps, seed)
        missing = np.isnan(gaps)
        assert np.allclose(filled[~missing], X[~missing], atol=1e-5)  # what is there stays
        rounds.append((float(np.sqrt(np.mean((filled - X)[missing] ** 2))), train, impute))
    errors, train_seconds, impute_seconds = (list(column) for column in zip(*rounds, strict=True))
    return {"errors": errors, "train": float(np.median(train_seconds)), "impute": float(np.median(impute_seconds))}


def main() -> None:
    """Hide, fill in and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter with torch, for MIWAE")
    parser.add_argument("--epochs", type=int, default=2000, help="of vaefast and of MIWAE (default: %(default)s)")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--init", default="glorot", help="initial weights of vaefast in the set-up (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", choices=[*SETS], default=[*SETS])
    parser.add_argument("--json", type=Path, help="where to keep all that was measured")
    options = parser.parse_args()
    setup = {**SETUP, "epochs": options.epochs, "engine": options.engine, "init": options.init}
    methods: dict[str, Method] = {
        "mean": imputer(lambda seed: SimpleImputer()),
        "KNNImputer": imputer(lambda seed: KNNImputer()),
        "IterativeImputer": imputer(lambda seed: IterativeImputer(random_state=seed, max_iter=30)),
        "vaefast, defaults": vae({"engine": options.engine}, 1000),
        "vaefast": vae(setup, IMPUTATIONS),
    }
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        peer = Miwae(options.torch, Path(folder), options.epochs) if options.torch else None
        methods |= {"MIWAE, PyTorch": peer} if peer else {}
        vae({**setup, "epochs": 1}, 10)(table("wine", 0)[1], 0)  # the first fit imports, and compiles
        print(
            f"{cpu_name()}, {granted_cores()} threads, {options.seeds} seeds, {options.epochs} epochs"
            f"{f', PyTorch {peer.version}' if peer else ''}"
        )
        print(f"{'':15s} {'':18s} {'RMSE':>6s} {'+-':>6s} {'MSE':>6s} {'train s':>8s} {'impute s':>8s}")
        for name in options.sets:
            found[name] = {}
            for method, fill in methods.items():
                result = found[name][method] = measured(name, fill, options.seeds)
                errors = np.array(result["errors"])
                print(
                    f"{name:15s} {method:18s} {errors.mean():6.3f} {errors.std():6.3f} {np.mean(errors**2):6.3f} "
                    f"{result['train']:8.2f} {result['impute']:8.2f}",
                    flush=True,
                )
                if options.json:
                    options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
