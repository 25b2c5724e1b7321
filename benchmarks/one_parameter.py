"""log p(x) of held-out rows in nats with all defaults but one parameter: the table by which a default for counts was chosen.

`benchmarks/dropout.py` and `benchmarks/epsilon.py` print it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vaefast import VAE
from vaefast.engines.threads import granted_cores
from vaefast.runs.run_folder import cpu_name


def parser_for(description: str | None) -> argparse.ArgumentParser:
    """The flags that both commands have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=100, help="of log p(x) of a held-out row")
    parser.add_argument("--threads", type=int, default=granted_cores())
    return parser


def print_table(
    parameter: str,
    values: Sequence[float],
    usual: Callable[[int], float],
    sets: Iterable[tuple[str, Any, Any]],
    likelihood: str,
    options: argparse.Namespace,
) -> None:
    """Train on each set with each value of a parameter of `VAE`, and print a line a set.

    A star marks the value that `usual` gives for the number of columns. Each set has a name, rows to train on, and others.
    """
    print(f"{cpu_name()}; {likelihood}, {options.seeds} seeds")
    print(f"{'':8s} {'rows':>7s} {'columns':>7s} " + " ".join(f"{value:10g}" for value in values))
    for name, train, rest in sets:
        print(f"{name:8s} {train.shape[0]:7,} {train.shape[1]:7,}", end="", flush=True)
        for value in values:
            found = []
            for seed in range(options.seeds):
                about = {parameter: value, "likelihood": likelihood, "n_jobs": options.threads, "random_state": seed}
                found.append(VAE(10, **about).fit(train).log_likelihood(rest, options.samples).mean())
            star = "*" if usual(train.shape[1]) == value else " "
            print(f" {np.mean(found):9.1f}{star}", end="", flush=True)
        print()
