"""Figure: the negative log-likelihood of the rows of a published table over their epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from vaefast.plots.sheet import DPI, LABEL_SIZE, SERIES, curve_sheet, label_axes, move_labels_in, nats, style, write_beside


@dataclass(frozen=True)
class Curve:
    """One row of a table: estimates after some epochs, the bound after every epoch, and the published value."""

    epochs: Sequence[float]
    values: Sequence[float]  # negative log-likelihood in nats
    bound_epochs: Sequence[float]
    bounds: Sequence[float]  # minus the test ELBO in nats
    published: float | None


@style()
def draw_nll_curves(curves: Mapping[str, Curve], data_name: str = "") -> Figure:
    """Draw the negative log-likelihood of each row over its epochs, on a logarithmic axis, with the published value.

    Points are estimates by importance sampling. Thin lines are minus the test ELBO after each epoch. Dashed lines are
    published values.

    Parameters
    ----------
    curves
        Curves by the name of the row, at most five, each with at least one value.

    Raises
    ------
    ValueError
        There is nothing to draw, or more than five rows.
    """
    if not 0 < len(curves) <= len(SERIES):
        raise ValueError(f"curves: expected 1 to {len(SERIES)} rows, got {len(curves)}")
    tags = {name: f"{name}  {nats(curve.values[-1], 2)}" for name, curve in curves.items()}
    goals = {name: f"published  {nats(curve.published, 2)}" for name, curve in curves.items() if curve.published is not None}
    title = "Negative log-likelihood of test images"
    sheet, axes = curve_sheet((*tags.values(), *goals.values()), title, data_name, "nll")
    for (name, curve), (color, marker) in zip(curves.items(), SERIES, strict=False):
        axes.plot(curve.bound_epochs, curve.bounds, color=color, linewidth=0.6, alpha=0.5)
        axes.plot(curve.epochs, curve.values, color=color, marker=marker, markersize=3.5, linewidth=1.1, label=name)
        if curve.published is not None:
            axes.axhline(curve.published, color=color, linewidth=0.8, linestyle=(0, (4, 2)))
    label_axes(axes, "epoch (logarithmic)     points: importance sampling     thin: minus the test ELBO", "nats per image")
    _limit(axes, curves)
    ends = [(curve.values[-1], tags[name]) for name, curve in curves.items()]
    ends += [(curve.published, goals[name]) for name, curve in curves.items() if curve.published is not None]
    colors = [color for color, _ in SERIES[: len(curves)]]
    colors += [color for curve, color in zip(curves.values(), colors, strict=True) if curve.published is not None]
    _tag(axes, ends, colors)
    move_labels_in(axes)
    return sheet.figure


def _limit(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Limits that show all estimates and published values. The bounds of the first epochs may be outside."""
    axes.set_xscale("log")
    last = max(max((*curve.epochs, *curve.bound_epochs)) for curve in curves.values())
    ends = sorted({epoch for curve in curves.values() for epoch in curve.epochs})
    axes.set_xlim(0.93, max(last, 2) * 1.08)
    axes.xaxis.set_major_locator(FixedLocator(ends))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{epoch:g}" for epoch in ends])
    values = [value for curve in curves.values() for value in (*curve.values, curve.published) if value is not None]
    span = max(max(values) - min(values), 1.0)
    axes.set_ylim(min(values) - 0.06 * span, max(values) + 0.06 * span)


def _tag(axes: Axes, ends: Sequence[tuple[float, str]], colors: Sequence[str]) -> None:
    """Write each text right of the axes at the height of its value, moved apart if texts would touch."""
    low, high = axes.get_ylim()
    points = 72 / DPI
    places: list[float] = []
    order = sorted(range(len(ends)), key=lambda i: ends[i][0])
    for i in order:
        wanted = (ends[i][0] - low) / (high - low) * axes.bbox.height * points
        places.append(max(wanted, places[-1] + 1.25 * LABEL_SIZE) if places else wanted)
    for place, i in zip(places, order, strict=True):
        write_beside(axes, ends[i][1], (1.0, 0.0), place, colors[i])
