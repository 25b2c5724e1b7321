"""What share of the counts of a row the encoder should miss in training: `python -m benchmarks.dropout [FOLDER]`.

`usual_input_dropout` in `vaefast/models/defaults.py` was chosen by these numbers: log p(x) of a held-out row in nats, by
importance sampling, for models with all defaults but this one. The cells are those of `benchmarks/counts.py`, drawn from a
model, in several widths; and with the FOLDER of `benchmarks/cells.py` those of the mouse bladder, which are real. A star marks
what `usual_input_dropout` gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cells import bladder
from benchmarks.counts import cells
from benchmarks.one_parameter import parser_for, print_table
from vaefast.models.defaults import usual_input_dropout

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
    parser = parser_for(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="as for benchmarks.cells")
    options = parser.parse_args()
    print_table("input_dropout", SHARES, partial(usual_input_dropout, LIKELIHOOD), sets(options.folder), LIKELIHOOD, options)


if __name__ == "__main__":
    main()
