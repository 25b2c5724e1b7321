"""Figure: the evidence lower bound over the epochs of training."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vaefast.plots.sheet import (
    DPI,
    LABEL_SIZE,
    QUIET,
    Array,
    curve_sheet,
    label_axes,
    move_labels_in,
    nats,
    style,
    write_beside,
)

# Blue and vermilion of Okabe & Ito (2008): any colour vision can tell them apart; in print their markers do.
# A bound past float64 is its largest negative number; no range of an axis can be computed with such.
LOWEST = -1e30
COLORS = {"train": "#0072b2", "test": "#d55e00"}
MARKERS = {"train": "o", "test": "s"}


@style()
def draw_elbo_curve(
    epochs: ArrayLike, train_elbo: ArrayLike, test_elbo: ArrayLike, data_name: str = "", unit: str = "image"
) -> Figure:
    """Draw the evidence lower bound on training and test images over the epochs.

    The axis shows the epochs that matter. If the first epochs are far below the rest, they are outside the figure, which says
    how many they are and how low.

    Parameters
    ----------
    epochs
        Distinct whole numbers in any order, (E,), E at least 1.
    train_elbo
        Mean ELBO of a training image, nats, (E,).
    test_elbo
        Mean ELBO of a test image, nats, (E,), with NaN for epochs without one; or empty.
    data_name
        As for `draw_prior_samples`.
    unit
        The word for an example.

    Returns
    -------
    Figure
        One axes with the line `train` and, if there are values, the line `test`.

    Raises
    ------
    ValueError
        An array has another length, an epoch is repeated or not a whole number, or an ELBO is infinite.
    """
    curves = _curves(epochs, train_elbo, test_elbo)
    shown_epochs = curves["train"][0]
    tags = {name: _final_tag(name, x, y, shown_epochs[-1]) for name, (x, y) in curves.items()}
    sheet, axes = curve_sheet(tags.values(), "Evidence lower bound", data_name, "elbo")
    for name, (x, y) in curves.items():
        # With more than 60 epochs markers would touch each other. A single point needs one to be visible.
        marker = MARKERS[name] if len(shown_epochs) <= 60 or len(x) == 1 else ""
        size = 2.6 if len(x) > 1 else 4.5
        axes.plot(x, np.maximum(y, LOWEST), color=COLORS[name], marker=marker, markersize=size, linewidth=1.1, label=name)
    label_axes(axes, "epoch", f"ELBO (nats per {unit})")
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    _limit_epochs(axes, shown_epochs)
    _limit_elbo(axes, curves)
    _tag_lines(axes, curves, tags)
    move_labels_in(axes)
    return sheet.figure


def _curves(epochs: ArrayLike, train: ArrayLike, test: ArrayLike) -> dict[str, tuple[Array, Array]]:
    """Check the arrays of `draw_elbo_curve`; return each line's measured epochs, in order, and their values."""
    x = np.array(epochs, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"epochs: expected shape (E,), E at least 1, got {x.shape}")
    if not np.all(np.isfinite(x) & (x == np.round(x))) or np.unique(x).size < x.size:
        raise ValueError("epochs: expected distinct whole numbers")
    curves = {}
    order = np.argsort(x)
    for name, values in (("train", train), ("test", test)):
        y = np.array(values, dtype=np.float64)
        if name == "test" and y.size == 0:
            continue
        if y.shape != x.shape:
            raise ValueError(f"{name}_elbo: expected shape {x.shape}, one value per epoch, got {y.shape}")
        if np.isinf(y).any() or (name == "train" and np.isnan(y).any()):
            raise ValueError(f"{name}_elbo: expected finite values in nats")
        measured = order[~np.isnan(y[order])]
        if measured.size:
            curves[name] = (x[measured], y[measured])
    return curves


def _final_tag(name: str, x: Array, y: Array, last_epoch: float) -> str:
    tag = f"{name}  {nats(y[-1], 2)}"
    return tag if x[-1] == last_epoch else f"{tag} (epoch {x[-1]:.0f})"


def _limit_epochs(axes: Axes, x: Array) -> None:
    first, last = x[0], x[-1]
    pad = max(0.02 * (last - first), 0.4)
    axes.set_xlim(first - pad, last + pad)
    ticks = MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True).tick_values(first, last)
    axes.set_xticks([tick for tick in ticks if first <= tick <= last] if first < last else [first])


def _limit_elbo(axes: Axes, curves: dict[str, tuple[Array, Array]]) -> None:
    """Set the y range, and say what lies below it."""
    every = np.concatenate([y for _, y in curves.values()])
    values = every[every > LOWEST] if (every > LOWEST).any() else np.maximum(every, LOWEST)
    top, lowest = values.max(), values.min()
    # Most of a run climbs slowly: four fifths of all values are within `body` of the best. If the others are so far
    # below that the rest would become a flat line, the range is three times `body` instead, or more if a line ends
    # lower.
    body = top - np.quantile(values, 0.2)
    bottom = lowest
    if body > 0 and top - lowest > 4.5 * body:
        bottom = min(top - 3.0 * body, *(y[-1] for _, y in curves.values() if y[-1] > LOWEST), top)
    span = top - bottom if top > bottom else max(1.0, 0.02 * abs(top))
    lowest = every.min()
    cut = lowest < bottom
    axes.set_ylim(bottom - (0.0 if cut else 0.05 * span), top + 0.06 * span)
    if cut:
        hidden = np.unique(np.concatenate([x[y < bottom] for x, y in curves.values()]))
        which = f"epoch {hidden[0]:.0f}" if hidden.size == 1 else f"{hidden.size} epochs"
        note = f"{which} below this range, down to {nats(lowest, 1)}"
        axes.annotate(note, (0.985, 0.03), xycoords="axes fraction", horizontalalignment="right", color=QUIET)


def _tag_lines(axes: Axes, curves: dict[str, tuple[Array, Array]], tags: dict[str, str]) -> None:
    """Write name and final value of each line right of its end, in its colour, moved apart where they would touch."""
    low, high = axes.get_ylim()
    points = 72 / DPI
    ends = {name: max(0.0, (y[-1] - low) / (high - low)) * axes.bbox.height * points for name, (_, y) in curves.items()}
    names = sorted(ends, key=ends.__getitem__)
    overlap = max(0.0, 1.25 * LABEL_SIZE - (ends[names[-1]] - ends[names[0]]))
    for name, shift in zip(names, (-overlap / 2, overlap / 2) if len(names) == 2 else (0.0,), strict=True):
        write_beside(axes, tags[name], (1.0, 0.0), ends[name] + shift, COLORS[name])
