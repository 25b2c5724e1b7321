"""Which digit does not belong? A VAE learns nine of the ten digits and scores the tenth, beside an isolation forest.

    python examples/anomalies.py [figure.png]

Each digit in turn is the anomaly: both detectors are trained on 70 % of the other nine, without labels, and rank what is
left together with the digit that they have never seen. 0.5 is chance, 1 perfect. About 20 seconds on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from vaefast import VAE

FIGURE = Path(__file__).parent.parent / "docs" / "images" / "example_anomalies.png"


def normality(train: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the test rows by two detectors, higher for rows more like the training rows."""
    # A density of real numbers: all features have one unit, so none is scaled.
    vae = VAE(8, likelihood="gaussian", scaling=None, epochs=60, random_state=0).fit(train)
    forest = IsolationForest(random_state=0).fit(train)
    return {"VAE": vae.log_likelihood(test, n_samples=50), "IsolationForest": forest.score_samples(test)}


def main(path: Path = FIGURE) -> dict[str, list[float]]:
    """Draw the figure and return the area under the ROC curve of each detector, a value for each digit left out."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    areas: dict[str, list[float]] = {"VAE": [], "IsolationForest": []}
    for digit in range(10):
        train, rest = train_test_split(X[y != digit], test_size=0.3, random_state=0)
        strange = X[y == digit]
        labels = np.repeat([0, 1], [len(rest), len(strange)])
        for name, scores in normality(train, np.concatenate([rest, strange])).items():
            areas[name].append(float(roc_auc_score(labels, -scores)))
        print(f"digit {digit}: " + ", ".join(f"{name} {values[-1]:.3f}" for name, values in areas.items()))
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for shift, (name, values) in zip((-0.2, 0.2), areas.items(), strict=True):
        axes.bar(np.arange(10) + shift, values, 0.38, label=f"{name}, mean {np.mean(values):.3f}")
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="digit never seen in training", xticks=range(10))
    axes.set(ylabel="ROC-AUC", ylim=(0, 1.25), yticks=np.linspace(0, 1, 5))
    axes.legend(loc="upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)
    return areas


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
