"""Charts of evaluations: arrays in, matplotlib figures out, on the pages of `figures`.

Lengths are device pixels, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import ArrayLike

from vaefast.plots.figures import (
    BELOW,
    CURVE_HEIGHT,
    CURVE_WIDTH,
    DPI,
    LABEL_SIZE,
    TAG_GAP,
    Sheet,
    label_axes,
    move_labels_in,
    nats,
    style,
    text_width,
    write_beside,
)

SQUARE = 1300
GREY = "#b0b0b0"
FEWEST_BARS = 10  # that the axis has room for, so that two are no walls
# Of up to ten classes: the qualitative palette that matplotlib takes from Tableau, its yellow-green darkened.
CLASSES = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#a0a010", "#17becf",
)  # fmt: skip
# Okabe & Ito (2008): told apart with any colour vision; markers tell them apart in print.
SERIES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#e69f00", "v"))


@dataclass(frozen=True)
class Curve:
    """One row of a table: what was measured after some epochs, the bound after every epoch, and what was published."""

    epochs: Sequence[float]
    values: Sequence[float]  # negative log-likelihood in nats
    bound_epochs: Sequence[float]
    bounds: Sequence[float]  # minus the test ELBO in nats
    published: float | None


@style()
def nll_curves(
    curves: Mapping[str, Curve], data_name: str = "", title: str = "Negative log-likelihood of test images"
) -> Figure:
    """Draw each row's negative log-likelihood over its epochs, on a logarithmic axis, towards the published value.

    Points are estimates by importance sampling, thin lines minus the test ELBO after each epoch, dashed lines what was
    published.

    Parameters
    ----------
    curves
        By the name of the row, at most five; each with at least one value.

    Raises
    ------
    ValueError
        There is nothing to draw, or more than five rows.
    """
    if not 0 < len(curves) <= len(SERIES):
        raise ValueError(f"curves: expected 1 to {len(SERIES)} rows, got {len(curves)}")
    tags = {name: f"{name}  {nats(curve.values[-1], 2)}" for name, curve in curves.items()}
    goals = {name: f"published  {nats(curve.published, 2)}" for name, curve in curves.items() if curve.published is not None}
    room = max(text_width(tag, LABEL_SIZE) for tag in (*tags.values(), *goals.values()))
    sheet = Sheet(CURVE_WIDTH + TAG_GAP + room, CURVE_HEIGHT + BELOW, title, data_name)
    axes = sheet.axes(0, 0, CURVE_WIDTH, CURVE_HEIGHT, "nll")
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


@style()
def latent_bars(kl: ArrayLike, active: ArrayLike, data_name: str = "", title: str = "KL divergence of each latent") -> Figure:
    """Draw the KL divergence of each latent as a bar, the largest first, active latents and others in two colours.

    Parameters
    ----------
    kl
        KL(q(z | x), p(z)) of each latent, mean over images, nats, (Z,).
    active
        Whether the latent varies with the image, (Z,).

    Raises
    ------
    ValueError
        The two differ in length, or a divergence is not a finite number.
    """
    values, on = np.array(kl, dtype=np.float64), np.array(active, dtype=bool)
    if values.ndim != 1 or values.size == 0 or values.shape != on.shape or not np.isfinite(values).all():
        raise ValueError(f"kl, active: expected finite numbers and flags, (Z,) each, got {values.shape} and {on.shape}")
    order = np.argsort(-values, kind="stable")
    names = {True: f"{on.sum()} active", False: f"{(~on).sum()} inactive"}
    colors = {True: SERIES[0][0], False: GREY}
    room = max(text_width(name, LABEL_SIZE) for name in names.values())
    sheet = Sheet(CURVE_WIDTH + TAG_GAP + room, CURVE_HEIGHT + BELOW, title, data_name)
    axes = sheet.axes(0, 0, CURVE_WIDTH, CURVE_HEIGHT, "latent_kl")
    axes.bar(np.arange(values.size), values[order], color=[colors[bool(flag)] for flag in on[order]], width=0.8)
    label_axes(axes, "latent (numbered from 0)", "nats per image")
    # As many numbers as there is room for.
    step = -(-values.size * 2 * text_width(str(values.size), 6.0) // CURVE_WIDTH)
    places = np.arange(0, values.size, step)
    axes.set_xticks(places, [str(order[place]) for place in places], fontsize=6.0)
    axes.set_xlim(-0.7, max(values.size, FEWEST_BARS) - 0.3)
    axes.set_ylim(0, max(values.max() * 1.06, 1e-3))
    _key(axes, [(names[flag], colors[flag]) for flag in (True, False) if flag in on])
    move_labels_in(axes)
    return sheet.figure


@style()
def latent_scatter(
    points: ArrayLike,
    labels: ArrayLike | None,
    axis_names: tuple[str, str],
    data_name: str = "",
    title: str = "Test images in latent space",
) -> Figure:
    """Draw images as points, (N, 2), coloured by their labels, (N,), where these are known and no more than ten.

    Raises
    ------
    ValueError
        A point is not finite, or there are not as many labels as points.
    """
    places = np.array(points, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 2 or len(places) == 0 or not np.isfinite(places).all():
        raise ValueError(f"points: expected finite numbers, (N, 2), got {places.shape}")
    kinds = np.zeros(len(places)) if labels is None else np.array(labels)
    if kinds.shape != (len(places),):
        raise ValueError(f"labels: expected shape ({len(places)},), got {kinds.shape}")
    classes = np.unique(kinds)
    known = labels is not None and len(classes) <= len(CLASSES)
    groups = [(str(kind), kinds == kind) for kind in classes] if known else [("", np.ones(len(places), bool))]
    room = max(text_width(name, LABEL_SIZE) for name, _ in groups)
    sheet = Sheet(SQUARE + TAG_GAP + room, SQUARE + BELOW, title, data_name)
    axes = sheet.axes(0, 0, SQUARE, SQUARE, "latents")
    size = float(np.clip(12_000 / len(places), 1.5, 12))
    for (name, chosen), color in zip(groups, CLASSES, strict=False):
        axes.scatter(places[chosen, 0], places[chosen, 1], s=size, color=color, alpha=0.7, linewidths=0, label=name)
    label_axes(axes, *axis_names)
    _key(axes, [(name, color) for (name, _), color in zip(groups, CLASSES, strict=False) if name])
    move_labels_in(axes)
    return sheet.figure


def _key(axes: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """Names in their colours, one below the other, right of the axes."""
    for number, (name, color) in enumerate(entries):
        write_beside(axes, name, (1.0, 1.0), -(number + 0.5) * 1.4 * LABEL_SIZE, color)


def _limit(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """All estimates and published values, with some room; the bounds of the first epochs may run out of the figure."""
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
    """Write each text right of the axes at the height of its value, moved apart where they would touch."""
    low, high = axes.get_ylim()
    points = 72 / DPI
    places: list[float] = []
    order = sorted(range(len(ends)), key=lambda i: ends[i][0])
    for i in order:
        wanted = (ends[i][0] - low) / (high - low) * axes.bbox.height * points
        places.append(max(wanted, places[-1] + 1.25 * LABEL_SIZE) if places else wanted)
    for place, i in zip(places, order, strict=True):
        write_beside(axes, ends[i][1], (1.0, 0.0), place, colors[i])
