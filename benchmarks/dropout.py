"""What share of the counts of a row the encoder should miss in training: `python -m benchmarks.dropout [FOLDER]`.

`usual_input_dropout` in `vaefast/models/defaults.py` was chosen by these numbers: log p(x) of a held-out row in nats, by
importance sampling, for models with all defaults but this one. The cells are those of `benchmarks/counts.py`, drawn from a
model, in several widths; and with the FOLDER of `benchmarks/cells.py` those of the mouse bladder, which are real. A star marks
what `usual_input_dropout` gives.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import bladder
from benchmarks.counts import cells
from vaefast import VAE
from vaefast.engines.threads import granted_cores
from vaefast.models.defaults import usual_input_dropout
from vaefast.runs.run_folder import cpu_name

LIKELIHOOD = "negative-binomial"
SHARES = (0.0, 0.1, 0.3, 0.5)
# Cells and genes of each set, of which the last are held out.
SIZES = ((2_000, 200), (2_000, 400), (2_000, 800), (9_000, 2_000))
HELD_OUT = 1_000


def sets(folder: Path | None) -> Iterator[tuple[str, Any, Any]]:
    """The name of each set, its rows to train on, and held-out ones."""
    for rows, genes in SIZES:
        counts = cells(rows + HELD_OUT, genes, seed=1)
        yield "drawn", counts[:rows], counts[rows:]
    if folder is not None:
        yield "bladder", *bladder(folder).parts()


def main() -> None:
    """Train with each share, and print a line a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="as for benchmarks.cells")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=100, help="of log p(x) of a held-out row")
    parser.add_argument("--threads", type=int, default=granted_cores())
    options = parser.parse_args()
    print(f"{cpu_name()}; {options.seeds} seeds")
    print(f"{'':8s} {'rows':>7s} {'columns':>7s} " + " ".join(f"{share:10g}" for share in SHARES))
    for name, train, rest in sets(options.folder):
        print(f"{name:8s} {train.shape[0]:7,} {train.shape[1]:7,}", end="", flush=True)
        for share in SHARES:
            found = []
            for seed in range(options.seeds):
                vae = VAE(10, likelihood=LIKELIHOOD, input_dropout=share, n_jobs=options.threads, random_state=seed).fit(train)
                found.append(float(vae.log_likelihood(rest, options.samples).mean()))
            star = "*" if usual_input_dropout(LIKELIHOOD, train.shape[1]) == share else " "
            print(f" {np.mean(found):9.1f}{star}", end="", flush=True)
        print()


if __name__ == "__main__":
    main()
