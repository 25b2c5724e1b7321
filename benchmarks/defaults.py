"""What batch size and how many epochs suit a data set: `python -m benchmarks.defaults`.

`usual_length` in `vaefast/models/defaults.py` was chosen by these curves: the ELBO of held-out rows in nats after so many
epochs, as a mean over the seeds, for the batch size that it gives and for two others. A star marks what it gives. That should
be near the best of each data set, and rather too few epochs than too many where more of them overfit.

`redrawn` data are grey pictures, whose pixels are drawn as 0 or 1 afresh each time; the rows of the others never change.
MNIST is left out where it is out of reach. `--largest` leaves out data sets of more rows.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import datasets

from vaefast import VAE
from vaefast.data import load
from vaefast.errors import DataError
from vaefast.models.defaults import usual_length
from vaefast.runs.run_folder import cpu_name

# Epochs after which the held-out ELBO is shown.
SHOWN = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 250, 300, 400)
# Rows that a run may see at the most: a longer one would tell no more about the choice.
MOST_ROWS_SEEN = 20_000_000
HELD_OUT = 0.2


@dataclass(frozen=True)
class Case:
    """A data set, how the estimator reads it, and how many epochs are looked at."""

    name: str
    train: np.ndarray  # (N, X)
    held_out: np.ndarray
    parameters: dict[str, Any]
    epochs: int

    @property
    def binarize(self) -> str:
        return "dynamic" if self.parameters.get("likelihood") == "bernoulli" else "none"


def table(name: str, X: np.ndarray, epochs: int = 400, **parameters: Any) -> Case:
    """A case of rows that are divided by chance."""
    order = np.random.default_rng(0).permutation(len(X))
    out = round(HELD_OUT * len(X)) if len(X) < 10_000 else 2000
    return Case(name, X[order[out:]], X[order[:out]], parameters, epochs)


def million_rows() -> np.ndarray:
    """Ten columns that are smooth functions of three hidden ones, with noise."""
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(1_002_000, 3)).astype(np.float32)
    mixed = np.tanh(hidden @ generator.normal(size=(3, 20)).astype(np.float32)) @ generator.normal(size=(20, 10))
    return (mixed + 0.3 * generator.normal(size=(len(hidden), 10))).astype(np.float32)


def cases(largest: int) -> Iterator[Case]:
    """The data sets, fewest rows first."""
    grey = {"likelihood": "bernoulli", "n_components": 50}
    digits = load("digits")
    yield table("wine", datasets.load_wine().data)
    yield table("diabetes", datasets.load_diabetes().data)
    yield table("breast cancer", datasets.load_breast_cancer().data)
    yield table("Swiss roll", datasets.make_swiss_roll(1500, noise=0.1, random_state=0)[0])
    yield table("digits as numbers", datasets.load_digits().data)
    yield Case("500 digits, redrawn", digits.train.values[:500], digits.test.values, grey, 400)
    yield Case("digits, redrawn", digits.train.values, digits.test.values, grey, 400)
    try:
        mnist = load("mnist")
    except DataError:
        mnist = None
    for rows, epochs in ((5000, 200), (20_000, 75), (60_000, 50)):
        if mnist is not None and rows <= largest:
            values = mnist.train.values[:rows]
            yield Case(f"{rows:,} of MNIST, redrawn", values, mnist.test.values[:2000], {**grey, "scaling": "grey"}, epochs)
    if largest >= 1_000_000:
        yield table("a million rows", million_rows(), 20)


def curve(case: Case, batch_size: int, seed: int) -> tuple[np.ndarray, float]:
    """The held-out ELBO after each epoch, (E,) nats, and the seconds of an epoch without its evaluation."""
    epochs = max(1, min(case.epochs, MOST_ROWS_SEEN // len(case.train)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vae = VAE(batch_size=batch_size, epochs=epochs, random_state=seed, **case.parameters)
        vae.fit(case.train, validation_data=case.held_out)
    return np.array(vae.history_["validation_elbo"]), float(np.median(vae.history_["seconds"]))


def line(case: Case, batch_size: int, seeds: int) -> str:
    """One row of the table of a case."""
    curves = [curve(case, batch_size, seed) for seed in range(seeds)]
    mean = np.mean([found for found, _ in curves], axis=0)
    usual = usual_length(len(case.train), case.binarize)
    cells = []
    for epoch in sorted({*SHOWN, usual.epochs}):
        if epoch <= len(mean):
            star = "*" if (batch_size, epoch) == usual else ""
            cells.append(f"{epoch}: {mean[epoch - 1]:.2f}{star}")
    seconds = np.median([seconds for _, seconds in curves])
    best = f"best {mean.max():.2f} after {mean.argmax() + 1}"
    return f"  batch {batch_size:4d}  {'  '.join(cells)}  | {best} | {1000 * seconds:.0f} ms an epoch"


def main() -> None:
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--largest", type=int, default=2_000_000, help="rows of the largest data set (default: all)")
    parser.add_argument("--only", default="", help="data sets with this text in their name")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{cpu_name()}, {options.seeds} seeds; held-out ELBO in nats after so many epochs")
    for case in cases(options.largest):
        if options.only not in case.name:
            continue
        usual = usual_length(len(case.train), case.binarize)
        print(f"{case.name}: {case.train.shape[0]:,} rows of {case.train.shape[1]}, by default batch {usual.batch_size} and "
              f"{usual.epochs} epochs")  # fmt: skip
        for batch_size in sorted({max(10, usual.batch_size // 2), usual.batch_size, usual.batch_size * 5 // 2}):
            print(line(case, batch_size, options.seeds), flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
