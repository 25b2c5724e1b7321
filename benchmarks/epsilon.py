"""What Adam's epsilon should be for counts: `python -m benchmarks.epsilon [FOLDER] [--movielens FILE]`.

`usual_epsilon` in `vaefast/models/defaults.py` was chosen by these numbers: log p(x) of a held-out row in nats, by importance
sampling, for models with all defaults but this one. The sets are those of `benchmarks/dropout.py`, with the FOLDER of
`benchmarks/cells.py` also worm neurons, which are real and very sparse, and with the FILE of `benchmarks/movielens.py` also
users by items. A star marks what `usual_epsilon` gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import dropout, movielens
from benchmarks.cells import worm
from benchmarks.one_parameter import parser_for, print_table
from vaefast.models.defaults import usual_encoder_input, usual_epsilon
from vaefast.models.settings import COUNT_LIKELIHOODS

EPSILONS = (1e-8, 1e-4, 1e-3, 1e-2, 1e-1)
HELD_OUT_USERS = 150


def sets(folder: Path | None, clicks: Path | None) -> Iterator[tuple[str, Any, Any]]:
    """The name of each set, its rows to train on, and held-out ones."""
    yield from dropout.sets(folder)
    if folder is not None:
        yield "worm", *worm(folder).parts()
    if clicks is not None:
        users = movielens.clicks(movielens.read(clicks))
        order = np.random.default_rng(0).permutation(users.shape[0])
        yield "users", users[order[HELD_OUT_USERS:]], users[order[:HELD_OUT_USERS]]


def main() -> None:
    """Train with each epsilon, and print a line a set."""
    parser = parser_for(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="as for benchmarks.cells")
    parser.add_argument("--movielens", type=Path, metavar="FILE", help="as for benchmarks.clicks")
    parser.add_argument("--likelihood", choices=COUNT_LIKELIHOODS, default="negative-binomial")
    parser.add_argument("--only", choices=("drawn", "bladder", "worm", "users"), help="one kind of set alone")
    options = parser.parse_args()
    chosen = (each for each in sets(options.folder, options.movielens) if options.only in (None, each[0]))
    usual = usual_epsilon(options.likelihood, usual_encoder_input(options.likelihood))
    print_table("epsilon", EPSILONS, lambda columns: usual, chosen, options.likelihood, options)


if __name__ == "__main__":
    main()
