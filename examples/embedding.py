"""Two latents of a digit: a VAE's embedding beside PCA's, and how well a classifier does on either.

    python examples/embedding.py [figure.png]

Labels take no part in either embedding. Accuracy is that of five nearest neighbours, by cross-validation: embedding and
classifier see the same training folds. About 20 seconds on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from vaefast import VAE

FIGURE = Path(__file__).parent.parent / "docs" / "images" / "example_embedding.png"
COMPONENTS = (2, 4)


def embedding(kind: str, components: int) -> PCA | VAE:
    """An unfitted transformer of 64 grey levels to so many numbers."""
    if kind == "PCA":
        return PCA(components, random_state=0)
    # Grey levels lie in [0, 1], so the likelihood is Bernoulli; "none" feeds them to it as they are.
    return VAE(components, likelihood="bernoulli", binarize="none", epochs=150, random_state=0)


def main(path: Path = FIGURE) -> dict[str, dict[int, float]]:
    """Draw the figure and return the accuracy of each embedding by its number of components."""
    X, y = load_digits(return_X_y=True)
    X = X / 16  # to [0, 1]
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    accuracy: dict[str, dict[int, float]] = {"PCA": {}, "VAE": {}}
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, kind in zip(figure.subplots(1, 2), accuracy, strict=True):
        for components in COMPONENTS:
            classifier = make_pipeline(embedding(kind, components), KNeighborsClassifier(5))
            accuracy[kind][components] = float(cross_val_score(classifier, X, y, cv=folds).mean())
            print(f"{kind} with {components} components: accuracy {accuracy[kind][components]:.3f}")
        z = embedding(kind, 2).fit_transform(X)
        points = axes.scatter(*z.T, c=y, s=5, cmap="tab10", vmin=-0.5, vmax=9.5)
        two, four = (accuracy[kind][components] for components in COMPONENTS)
        axes.set_title(f"{kind}\naccuracy {two:.2f} with these 2 components, {four:.2f} with 4", fontsize=10)
        axes.set(xticks=[], yticks=[])
    figure.colorbar(points, ax=figure.axes, ticks=range(10), label="digit")
    figure.savefig(path, dpi=100)
    return accuracy


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
