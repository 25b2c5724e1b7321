"""Cleaning images when no clean image was ever seen: a VAE learns the digits and the noise, from noisy digits alone.

    python examples/denoising.py [figure.png]

The Gaussian likelihood has a variance for each pixel, so the model itself decides what is picture and what is noise. PCA is
given the number of components that is best for it, which in life nobody would know. About 5 seconds on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from vaefast import VAE

FIGURE = Path(__file__).parent.parent / "docs" / "images" / "example_denoising.png"
NOISE = 0.3
SHOWN = 10


def main(path: Path = FIGURE) -> dict[str, float]:
    """Draw the figure and return the root mean square error of each way of cleaning, in units of white."""
    clean = load_digits().data / 16
    noisy = clean + np.random.default_rng(0).normal(0, NOISE, clean.shape)
    vae = VAE(8, likelihood="gaussian", scaling=None, epochs=150, random_state=0).fit(noisy)
    projections = [pca.inverse_transform(pca.fit_transform(noisy)) for pca in map(PCA, range(1, 33))]
    best = min(projections, key=lambda x: np.square(x - clean).mean())
    rows = {"clean": clean, "noisy": noisy, "PCA, at its best": best, "VAE": vae.reconstruct(noisy)}
    errors = {name: float(np.sqrt(np.square(x - clean).mean())) for name, x in rows.items() if name != "clean"}
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for line, (name, x) in zip(figure.subplots(len(rows), SHOWN), rows.items(), strict=True):
        for axes, image in zip(line, x, strict=False):
            axes.imshow(image.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        label = name if name == "clean" else f"{name}\n{errors[name]:.3f}"
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    figure.suptitle("Digits, noisy digits, and cleaned ones with their root mean square errors", fontsize=10)
    figure.savefig(path, dpi=120)
    print(", ".join(f"{name}: {error:.3f}" for name, error in errors.items()))
    return errors


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
