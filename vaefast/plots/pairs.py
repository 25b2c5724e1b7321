"""Figure: the first columns of a table in pairs, the data on the left and samples from the prior on the right.

Key: n rows of data, m samples, k columns. Lengths are device pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vaefast.plots.scales import NAME_SIZE, Levels, Scale, mark, scale_of
from vaefast.plots.sheet import LABEL_SIZE, QUIET, SERIES, Array, Sheet, line_height, style, text_width

MOST_COLUMNS = 4
SIDE, STEP, BESIDE, BELOW, BETWEEN = 210, 232, 130, 96, 90
BINS = 24
POINTS = 2000
# In a column of few values, such as counts, points are moved by up to this share of the axis, so that all are visible.
JITTER, FEW_VALUES = 0.018, 12


@style()
def draw_pairs(
    data: ArrayLike,
    samples: ArrayLike,
    names: Sequence[str],
    data_name: str = "",
    columns: int | None = None,
    samples_are: str = "samples from the prior",
    levels: Sequence[Sequence[str]] = (),
) -> Figure:
    """Draw histograms of columns and scatter plots of pairs of them, on the same axes for the data and for samples.

    Parameters
    ----------
    data, samples
        (n, k) and (m, k) finite numbers, k at most 4, in the unit of the data; NaN in `data` is a missing value, and a pair
        with one is not drawn.
    names
        Names of the k columns.
    data_name
        Name of the data, for the heading.
    columns
        Number of columns of the table, for the heading.
    samples_are
        A name for the samples.
    levels
        For each column the names of its levels, whose codes from 0 are its values; empty for one of numbers. None without it.

    Returns
    -------
    Figure
        k (k + 1) axes: for each half those on and below the diagonal.

    Raises
    ------
    ValueError
        The arrays do not fit each other, or a value is not finite.
    """
    x, y = np.asarray(data, np.float64), np.asarray(samples, np.float64)
    k = len(names)
    if not 1 <= k <= MOST_COLUMNS or x.ndim != 2 or y.ndim != 2 or not x.size or not y.size or {x.shape[1], y.shape[1]} != {k}:
        raise ValueError(f"data, samples: expected (n, k) and (m, k), k from 1 to 4, got {x.shape}, {y.shape} and {k} names")
    if np.isinf(x).any() or not np.isfinite(y).all():
        raise ValueError("data, samples: expected finite numbers")
    title = "Columns and pairs of them"
    if columns is not None and columns > k:
        title += f": the first {k} of {columns:,} columns"
    texts = f"{len(x):,} rows of the data", f"{len(y):,} {samples_are}"
    half = BESIDE + max(k * STEP, *(text_width(text, LABEL_SIZE) for text in texts))
    heading = line_height(LABEL_SIZE) + 20
    sheet = Sheet(2 * half + BETWEEN, heading + k * STEP + BELOW, title, data_name)
    known = [x[~np.isnan(x[:, column]), column] for column in range(k)]
    scales: list[Scale | Levels] = [
        Levels(tuple(levels[column])) if levels and levels[column] else scale_of(values if values.size else y[:, column])
        for column, values in enumerate(known)
    ]
    for which, (values, text) in enumerate(zip((x, y), texts, strict=True)):
        left, (color, _) = which * (half + BETWEEN), SERIES[which]
        sheet.text(text, left + BESIDE, heading - 22, color=color)
        _draw_half(sheet, left + BESIDE, heading, values, scales, names, color)
    return sheet.figure


def _draw_half(
    sheet: Sheet, left: int, top: int, values: Array, scales: Sequence[Scale | Levels], names: Sequence[str], color: str
) -> None:
    k = len(names)
    chosen = values if len(values) <= POINTS else values[np.linspace(0, len(values) - 1, POINTS).astype(int)]
    places = [_apart(scale.place(chosen[:, column]), column) for column, scale in enumerate(scales)]
    size = float(np.clip(1200 / len(chosen), 0.7, 6))
    for row in range(k):
        for column in range(row + 1):
            axes = sheet.axes(left + column * STEP, top + row * STEP, SIDE, SIDE, f"{row} {column}")
            if row == column:
                own = values[~np.isnan(values[:, row]), row]
                scale = scales[row]
                bins = len(scale.names) if isinstance(scale, Levels) else BINS
                axes.hist(np.clip(scale.place(own), -1, 2), bins=bins, range=(0, 1), color=color, alpha=0.75)
            else:
                axes.scatter(places[column], places[row], s=size, color=color, alpha=0.6, linewidths=0)
                axes.set_ylim(0, 1)
            mark(axes, "x", scales[column], names[column] if row == k - 1 else "", SIDE)
            if row < k - 1:
                axes.tick_params(axis="x", labelbottom=False)
                axes.set_xlabel("")
            if row == column:
                axes.set_yticks([])
            elif column == 0:
                mark(axes, "y", scales[row], names[row], SIDE)
            else:
                axes.set_yticks(scales[row].place(scales[row].ticks()[0]), [])
                axes.tick_params(axis="y", length=2)
    if k > 1:
        return
    sheet.text("rows", left - 12, top + SIDE / 2, fontsize=NAME_SIZE, color=QUIET, rotation=90, va="center", ha="right")


def _apart(places: Array, column: int) -> Array:
    """Places of points, moved a little if they have few values, in the same way each time."""
    if len(np.unique(places[~np.isnan(places)])) > FEW_VALUES:
        return places
    return places + np.random.default_rng(column).uniform(-JITTER, JITTER, len(places))
