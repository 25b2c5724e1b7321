"""Figure: observed against reconstructed values of each column of a table.

Key: n rows, X columns. Lengths are device pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vaefast.plots.scales import NAME_SIZE, TICK_SIZE, fitting, mark, scale_of
from vaefast.plots.sheet import LABEL_SIZE, QUIET, SERIES, Array, Sheet, line_height, style, text_width

MOST_COLUMNS, ACROSS = 16, 4
SIDE, BESIDE, BELOW, ABOVE = 320, 140, 92, 46
BINS = 20
# Points in one panel. More would only cover each other.
POINTS = 2000
LINE_COLOR = "#8c8c8c"


@style()
def draw_column_reconstructions(
    observed: ArrayLike,
    reconstructed: ArrayLike,
    names: Sequence[str],
    data_name: str = "",
    rows_are: str = "test rows",
    counts: bool = False,
) -> Figure:
    """Draw a panel for each column: its values in some rows, and their reconstructions from the posterior mean.

    If a column holds only 0 and 1, the panel shows the distribution of the reconstructed probabilities of rows with a 0 and of
    rows with a 1. Of more than 16 columns the 16 that are reconstructed worst are drawn.

    Parameters
    ----------
    observed, reconstructed
        (n, X) finite numbers each, n at least 1, in the unit of the data; NaN in `observed` is a missing value, which is not
        drawn.
    names
        Names of the X columns.
    data_name
        Name of the data.
    rows_are
        A name for the rows, for the heading.
    counts
        Whether 0 and 1 are counts like any others, whose means are no probabilities.

    Returns
    -------
    Figure
        An axes for each drawn column.

    Raises
    ------
    ValueError
        The arrays differ in shape, a value is not finite, or the number of names is not that of columns.
    """
    x, y = _checked(observed, reconstructed, names)
    shares = explained(x, y)
    chosen = worst(shares)
    title = f"Columns of {len(x):,} {rows_are}, observed and reconstructed"
    if len(chosen) < x.shape[1]:
        title += f": the {len(chosen)} of {x.shape[1]:,} columns reconstructed worst"
    across = min(ACROSS, len(chosen))
    step_x, step_y = BESIDE + SIDE, ABOVE + SIDE + BELOW
    height = -(-len(chosen) // across) * step_y + line_height(LABEL_SIZE)
    caption = "$R^2$: share of a column's variance that the reconstruction explains; axes hold 99 % of the rows"
    sheet = Sheet(across * step_x, height, title, data_name, text_width(caption, LABEL_SIZE))
    for number, column in enumerate(chosen):
        left, top = number % across * step_x + BESIDE, number // across * step_y + ABOVE
        axes = sheet.axes(left, top, SIDE, SIDE, f"column {column}")
        _draw(axes, x[:, column], y[:, column], counts)
        constant = "constant" if (~np.isnan(x[:, column])).any() else "no values"
        share = constant if np.isnan(shares[column]) else rf"$R^2$ = {shares[column]:.2f}".replace("-", "\N{MINUS SIGN}")
        sheet.text(share, left + SIDE, top - 10, horizontalalignment="right", fontsize=NAME_SIZE, color=QUIET)
        name = fitting(names[column], SIDE - text_width(share, NAME_SIZE) - 20, NAME_SIZE)
        sheet.text(name, left, top - 10, fontsize=NAME_SIZE, parse_math=False)
    middle = across * step_x / 2
    sheet.text(caption, middle, height - 20, horizontalalignment="center", color=QUIET)
    return sheet.figure


def explained(observed: Array, reconstructed: Array) -> Array:
    """The coefficient of determination of each column, (X,): at most 1, and NaN where the column is constant. Of what is
    missing in `observed` it knows nothing."""
    if np.isnan(observed).any():
        columns = zip(observed.T, reconstructed.T, strict=True)
        known = [(x[~np.isnan(x)], y[~np.isnan(x)]) for x, y in columns]
        return np.array([explained(x[:, None], y[:, None])[0] if x.size else np.nan for x, y in known])
    with np.errstate(all="ignore"):
        unit = np.abs(observed / 2 - observed.mean(axis=0, keepdims=True) / 2).max(axis=0)
        # The mean of a constant column may differ from its value in the last bit.
        unit = np.where((unit > 0) & (observed != observed[:1]).any(axis=0), unit, np.nan)
        centred = (observed / 2 - (observed / 2).mean(axis=0)) / unit
        wrong = (observed / 2 - reconstructed / 2) / unit
        return 1 - np.square(wrong).sum(axis=0) / np.square(centred).sum(axis=0)


def worst(shares: Array) -> list[int]:
    """The columns to draw, in their order: all, or those with the smallest R^2. Constant columns come last."""
    if len(shares) <= MOST_COLUMNS:
        return [*range(len(shares))]
    order = np.argsort(np.where(np.isnan(shares), np.inf, shares), kind="stable")
    return sorted(int(column) for column in order[:MOST_COLUMNS])


def _checked(observed: ArrayLike, reconstructed: ArrayLike, names: Sequence[str]) -> tuple[Array, Array]:
    x, y = np.asarray(observed, np.float64), np.asarray(reconstructed, np.float64)
    if x.ndim != 2 or x.size == 0 or x.shape != y.shape or len(names) != x.shape[1]:
        raise ValueError(
            f"observed, reconstructed, names: expected (n, X) twice and X, got {x.shape}, {y.shape}, {len(names)}"
        )
    if np.isinf(x).any() or not np.isfinite(y).all():
        raise ValueError("observed, reconstructed: expected finite numbers")
    return x, y


def _draw(axes: Axes, x: Array, y: Array, counts: bool) -> None:
    known = ~np.isnan(x)
    if not known.any():
        axes.set_xticks([])
        axes.set_yticks([])
        return
    x, y = x[known], y[known]
    if not counts and ((x == 0) | (x == 1)).all():
        draw_probabilities(axes, x, y)
        return
    draw_numbers(axes, x, y)


def draw_numbers(axes: Axes, x: Array, y: Array) -> None:
    """Points: observed numbers, (n,), across, and reconstructed ones up."""
    chosen = np.arange(len(x)) if len(x) <= POINTS else np.linspace(0, len(x) - 1, POINTS).astype(int)
    scale = scale_of(x, y)
    axes.plot([0, 1], [0, 1], color=LINE_COLOR, linewidth=0.6)
    size = float(np.clip(1500 / len(chosen), 0.8, 8))
    axes.scatter(scale.place(x[chosen]), scale.place(y[chosen]), s=size, color=SERIES[0][0], alpha=0.6, linewidths=0)
    mark(axes, "x", scale, "observed", SIDE)
    mark(axes, "y", scale, "reconstructed", SIDE)


def draw_probabilities(axes: Axes, x: Array, y: Array, levels: Sequence[str] = ("0", "1")) -> None:
    """Histograms of the reconstructed probabilities, (n,), of rows with a 0 and of rows with a 1, which `levels` name."""
    edges, top = np.linspace(0, 1, BINS + 1), 0.0
    for value, (color, _), dashes in ((0, SERIES[0], "-"), (1, SERIES[1], (0, (3, 1)))):
        rows = y[x == value]
        if rows.size:
            shares = np.histogram(np.clip(rows, 0, 1), edges)[0] / rows.size
            top = max(top, float(shares.max()))
            axes.stairs(shares, edges, color=color, linewidth=1.0, linestyle=dashes)
            place = (0.04, 0.93) if value == 0 else (0.96, 0.93)
            side = "left" if value == 0 else "right"
            text, room = f"{levels[value]}: {rows.size:,} rows", SIDE // 2 - 24
            if text_width(text, TICK_SIZE, math=False) > room:
                count = f": {rows.size:,}"
                text = fitting(levels[value], room - text_width(count, TICK_SIZE), TICK_SIZE) + count
            about: dict[str, Any] = {"color": color, "fontsize": TICK_SIZE, "ha": side, "va": "center", "parse_math": False}
            axes.text(*place, text, transform=axes.transAxes, **about)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.25 * top)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([])
    axes.tick_params(labelsize=TICK_SIZE, length=2, pad=1.5)
    axes.set_xlabel(fitting(f"probability of {levels[1]}", SIDE, NAME_SIZE), fontsize=NAME_SIZE, labelpad=2, parse_math=False)
    axes.set_ylabel("share of rows", fontsize=NAME_SIZE, labelpad=2)
    axes.spines[["top", "right"]].set_visible(False)
