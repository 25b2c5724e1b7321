"""Which likelihood `auto` takes, and whether it should: `python -m benchmarks.likelihood_rule`.

On tables that scikit-learn ships or makes, every likelihood is fitted to two thirds of the rows, and scores the others beside
as many rows that do not belong: the same ones with each column in an order of its own, so that only the relations between
columns can tell, and rows that are uniform between each column's ends. The area under the ROC curve says how well they are
told apart, the mean over the seeds. `auto` should be near the best of each table.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from sklearn import datasets
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import MinMaxScaler

from vaefast import VAE
from vaefast.runs.run_folder import cpu_name

CANDIDATES = {
    "gaussian": {"likelihood": "gaussian"},
    "continuous-bernoulli": {"likelihood": "continuous-bernoulli", "scaling": "minmax"},
    "bernoulli": {"likelihood": "bernoulli", "scaling": "minmax"},
}


def tables() -> dict[str, np.ndarray]:
    """The tables by name."""
    generator = np.random.default_rng(0)
    digits = datasets.load_digits().data
    return {
        "iris": datasets.load_iris().data,
        "wine": datasets.load_wine().data,
        "breast cancer": datasets.load_breast_cancer().data,
        "diabetes": datasets.load_diabetes().data,
        "breast cancer, to [0, 1]": MinMaxScaler().fit_transform(datasets.load_breast_cancer().data),
        "digits, 0 to 16": digits,
        "digits / 16": digits / 16,
        "digits, 0 or 1": (digits > 7).astype(float),
        "beta(50, 50)": generator.beta(50, 50, (1000, 8)),
        "Swiss roll": datasets.make_swiss_roll(1000, noise=0.1, random_state=0)[0],
        "blobs": datasets.make_blobs(1000, 6, centers=4, random_state=0)[0],
        "words, 0 or 1": datasets.make_multilabel_classification(1000, 20, random_state=0)[0].clip(0, 1),
    }


def area(X: np.ndarray, seed: int, parameters: dict[str, str]) -> tuple[float, float, VAE]:
    """Areas under the ROC curve against shuffled and against uniform rows, and the model."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(X))
    train, test = X[order[: 2 * len(X) // 3]], X[order[2 * len(X) // 3 :]]
    shuffled = np.column_stack([generator.permutation(column) for column in test.T])
    low, high = X.min(axis=0), X.max(axis=0)
    whole = np.isin(X, (0, 1)).all()
    uniform = generator.random(test.shape) * (high - low) + low
    uniform = (uniform > 0.5).astype(float) if whole else uniform
    vae = VAE(random_state=seed, **parameters).fit(train)
    labels = np.repeat([0, 1], len(test))
    both = (roc_auc_score(labels, -vae.score_samples(np.vstack([test, odd]))) for odd in (shuffled, uniform))
    return (*both, vae)


def main() -> None:
    """Fit, score and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(f"{cpu_name()}, {options.seeds} seeds; against shuffled / uniform rows")
    print(f"{'':26s}" + "".join(f"{name:>22s}" for name in CANDIDATES) + "   auto takes")
    for name, X in tables().items():
        cells = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for parameters in CANDIDATES.values():
                found = [area(X, seed, parameters)[:2] for seed in range(options.seeds)]
                cells.append("{:.3f} / {:.3f}".format(*np.mean(found, axis=0)))
            chosen = VAE(epochs=0, random_state=0).fit(X).likelihood_
        print(f"{name:26s}" + "".join(f"{cell:>22s}" for cell in cells) + f"   {chosen}", flush=True)


if __name__ == "__main__":
    main()
