"""Figure: observed against reconstructed values of each column of a table whose columns are of different kinds.

Key: n rows, L levels of a column. Lengths are device pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaefast.plots.scales import NAME_SIZE, TICK_SIZE, fitting
from vaefast.plots.sheet import LABEL_SIZE, QUIET, Array, Sheet, line_height, style, text_width
from vaefast.plots.table_columns import ABOVE, ACROSS, BELOW, BESIDE, SIDE, draw_numbers, draw_probabilities, explained, worst

# Levels of a category that have a row and a column of their own; the others share one.
MOST_LEVELS = 8
OTHERS = "others"


@dataclass(frozen=True, eq=False)
class Panel:
    """One column of a table in some rows, and what the decoder makes of the posterior's means.

    Parameters
    ----------
    name
        Of the column.
    observed
        (n,): numbers in the unit of the data, or codes of levels from 0; NaN where nothing was observed.
    reconstructed
        (n,) numbers; of a column with levels (n, L), the probability of each.
    levels
        Names of the L levels; empty for a column of numbers.
    """

    name: str
    observed: Array
    reconstructed: Array
    levels: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of the variance that is explained; of levels that of the indicators of all levels together."""
        known = ~np.isnan(self.observed)
        if not known.any():
            return float("nan")
        x, y = self.observed[known], self.reconstructed[known]
        if not self.levels:
            return float(explained(x[:, None], y[:, None])[0])
        indicators = np.eye(len(self.levels))[x.astype(int)]
        total = np.square(indicators - indicators.mean(axis=0)).sum()
        return float(1 - np.square(indicators - y).sum() / total) if total > 0 else float("nan")


@style()
def draw_kind_columns(panels: Sequence[Panel], data_name: str = "", rows_are: str = "test rows") -> Figure:
    """Draw a panel for each column: its values in some rows, and their reconstructions from the posterior mean.

    Numbers are points. Of two levels it shows the distribution of the reconstructed probability in rows with either. Of more
    levels it shows the mean probability of each level in the rows with each. Of more than 16 columns the 16 that are
    reconstructed worst are drawn.

    Parameters
    ----------
    panels
        One for each column, at least one.
    data_name, rows_are
        As for `draw_column_reconstructions`.

    Returns
    -------
    Figure
        An axes for each drawn column.

    Raises
    ------
    ValueError
        There is no panel.
    """
    if not panels:
        raise ValueError("panels: expected at least one")
    shares = np.array([panel.share for panel in panels])
    chosen = worst(shares)
    title = f"Columns of {len(panels[0].observed):,} {rows_are}, observed and reconstructed"
    if len(chosen) < len(panels):
        title += f": the {len(chosen)} of {len(panels):,} columns reconstructed worst"
    across = min(ACROSS, len(chosen))
    step_x, step_y = BESIDE + SIDE, ABOVE + SIDE + BELOW
    height = -(-len(chosen) // across) * step_y + line_height(LABEL_SIZE)
    caption = "$R^2$: share of a column's variance that the reconstruction explains, of all its levels together"
    sheet = Sheet(across * step_x, height, title, data_name, text_width(caption, LABEL_SIZE))
    for number, at in enumerate(chosen):
        left, top = number % across * step_x + BESIDE, number // across * step_y + ABOVE
        axes = sheet.axes(left, top, SIDE, SIDE, f"column {at}")
        _draw(axes, panels[at])
        constant = "constant" if (~np.isnan(panels[at].observed)).any() else "no values"
        share = constant if np.isnan(shares[at]) else rf"$R^2$ = {shares[at]:.2f}".replace("-", "\N{MINUS SIGN}")
        sheet.text(share, left + SIDE, top - 10, horizontalalignment="right", fontsize=NAME_SIZE, color=QUIET)
        name = fitting(panels[at].name, SIDE - text_width(share, NAME_SIZE) - 20, NAME_SIZE)
        sheet.text(name, left, top - 10, fontsize=NAME_SIZE, parse_math=False)
    sheet.text(caption, across * step_x / 2, height - 20, horizontalalignment="center", color=QUIET)
    return sheet.figure


def _draw(axes: Axes, panel: Panel) -> None:
    known = ~np.isnan(panel.observed)
    if not known.any():
        axes.set_xticks([])
        axes.set_yticks([])
        return
    x, y = panel.observed[known], panel.reconstructed[known]
    if not panel.levels:
        draw_numbers(axes, x, y)
    elif len(panel.levels) == 2:
        draw_probabilities(axes, x, y[:, 1], panel.levels)
    else:
        _draw_levels(axes, x.astype(int), y, panel.levels)


def _draw_levels(axes: Axes, x: Array, y: Array, levels: Sequence[str]) -> None:
    """The mean probability of each level, across, in the rows with each level, down: 1 is black."""
    order = np.argsort(-np.bincount(x, minlength=len(levels)), kind="stable")
    own = sorted(order[: MOST_LEVELS - 1].tolist()) if len(levels) > MOST_LEVELS else [*range(len(levels))]
    places = np.full(len(levels), len(own))
    places[own] = np.arange(len(own))
    names = [levels[at] for at in own] + ([OTHERS] if len(own) < len(levels) else [])
    shares, count = np.zeros((len(names), len(names))), np.zeros(len(names))
    np.add.at(count, places[x], 1)
    for level in range(len(levels)):
        np.add.at(shares, (places[x], places[level]), y[:, level])
    shares = np.divide(shares, count[:, None], out=np.full_like(shares, np.nan), where=count[:, None] > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    room = SIDE // len(names) - 6
    axes.set_xticks(range(len(names)), [fitting(name, max(room, 12), TICK_SIZE) for name in names], parse_math=False)
    axes.set_yticks(range(len(names)), [fitting(name, BESIDE - 72, TICK_SIZE) for name in names], parse_math=False)
    if len(names) <= MOST_LEVELS:
        for (row, column), share in np.ndenumerate(shares):
            if np.isfinite(share):
                color = "white" if share > 0.6 else "black"
                text = f"{share:.2f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=TICK_SIZE - 0.5, color=color)
    axes.tick_params(labelsize=TICK_SIZE, length=0, pad=1.5)
    axes.set_xlabel("reconstructed probability", fontsize=NAME_SIZE, labelpad=2)
    axes.set_ylabel("observed", fontsize=NAME_SIZE, labelpad=2)
