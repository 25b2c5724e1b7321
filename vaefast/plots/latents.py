"""Figures of the latents: their KL divergences, images as points in latent space, and the plane of two latents.

Lengths are device pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vaefast.data.wording import shown as printable
from vaefast.plots.scales import fitting
from vaefast.plots.sheet import (
    BELOW,
    CURVE_WIDTH,
    GAP,
    LABEL_SIZE,
    QUIET,
    SERIES,
    TAG_GAP,
    WIDEST_SHEET,
    Sheet,
    checked_images,
    curve_sheet,
    label_axes,
    line_height,
    move_labels_in,
    style,
    text_width,
    write_beside,
)

SQUARE = 1300
GREY = "#b0b0b0"
SEAM, SEAM_LEVEL = 3, 0.35  # gap between the images of a plane, and its brightness
FEWEST_BARS = 10  # bars for which the axis has room, so that two bars are not too wide
# Of up to ten classes: the qualitative palette that matplotlib takes from Tableau, its yellow-green darkened.
CLASSES = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#a0a010", "#17becf",
)  # fmt: skip


# Markers as letters, beside the names of classes, and the width that these names may have.
GLYPHS = {"o": "\N{BLACK CIRCLE}", "s": "\N{BLACK SQUARE}", "^": "\N{BLACK UP-POINTING TRIANGLE}", "D": "\N{BLACK DIAMOND}",
          "v": "\N{BLACK DOWN-POINTING TRIANGLE}"}  # fmt: skip
LONGEST_NAME = 500


@style()
def draw_latent_bars(kl: ArrayLike, active: ArrayLike, data_name: str = "", unit: str = "image") -> Figure:
    """Draw the KL divergence of each latent as a bar, largest first, with one colour for active latents and one for others.

    Parameters
    ----------
    kl
        KL(q(z | x), p(z)) of each latent, mean over images, nats, (Z,).
    active
        Whether the latent varies with the image, (Z,).
    data_name
        Name of the data, for the heading.
    unit
        The word for an example.

    Raises
    ------
    ValueError
        The arrays differ in length, or a divergence is not finite.
    """
    values, on = np.array(kl, dtype=np.float64), np.array(active, dtype=bool)
    if values.ndim != 1 or values.size == 0 or values.shape != on.shape or not np.isfinite(values).all():
        raise ValueError(f"kl, active: expected finite numbers and flags, (Z,) each, got {values.shape} and {on.shape}")
    order = np.argsort(-values, kind="stable")
    names = {True: f"{on.sum()} active", False: f"{(~on).sum()} inactive"}
    colors = {True: SERIES[0][0], False: GREY}
    sheet, axes = curve_sheet(names.values(), "KL divergence of each latent", data_name, "latent_kl")
    axes.bar(np.arange(values.size), values[order], color=[colors[bool(flag)] for flag in on[order]], width=0.8)
    label_axes(axes, "latent (numbered from 0)", f"nats per {unit}")
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
def draw_latent_scatter(
    points: ArrayLike,
    labels: ArrayLike | None,
    axis_names: tuple[str, str],
    data_name: str = "",
    title: str = "Test images in latent space",
) -> Figure:
    """Draw examples as points, (N, 2), with a colour for each label, (N,), if labels are known and there are at most ten.

    Up to five classes have colours that any colour vision can tell apart, and markers that differ.

    Raises
    ------
    ValueError
        A point is not finite, or the numbers of points and labels differ.
    """
    places = np.array(points, dtype=np.float64)
    if places.ndim != 2 or places.shape[1] != 2 or len(places) == 0 or not np.isfinite(places).all():
        raise ValueError(f"points: expected finite numbers, (N, 2), got {places.shape}")
    kinds = np.zeros(len(places)) if labels is None else np.array(labels)
    if kinds.shape != (len(places),):
        raise ValueError(f"labels: expected shape ({len(places)},), got {kinds.shape}")
    classes = np.unique(kinds)
    known = labels is not None and len(classes) <= len(CLASSES)
    groups = [(printable(kind), kinds == kind) for kind in classes] if known else [("", np.ones(len(places), bool))]
    styles = SERIES if len(groups) <= len(SERIES) else [(color, SERIES[i % 5][1]) for i, color in enumerate(CLASSES)]
    names = [
        fitting(f"{GLYPHS[marker]} {name}", LONGEST_NAME, LABEL_SIZE)
        for (name, _), (_, marker) in zip(groups, styles, strict=False)
    ]
    names = names if known else [""]
    room = max(text_width(name, LABEL_SIZE, math=False) for name in names)
    sheet = Sheet(SQUARE + TAG_GAP + room, SQUARE + BELOW, title, data_name)
    axes = sheet.axes(0, 0, SQUARE, SQUARE, "latents")
    size = float(np.clip(12_000 / len(places), 1.5, 12))
    for (name, chosen), (color, marker) in zip(groups, styles, strict=False):
        points_at = places[chosen, 0], places[chosen, 1]
        axes.scatter(*points_at, s=size, color=color, marker=marker, alpha=0.7, linewidths=0, label=name)
    label_axes(axes, *axis_names)
    _key(axes, [(name, color) for name, (color, _) in zip(names, styles, strict=False) if name])
    move_labels_in(axes)
    return sheet.figure


@style()
def draw_manifold(probabilities: ArrayLike, image_shape: tuple[int, ...], data_name: str = "") -> Figure:
    """Draw the decoder's images for a square grid of points of the latent plane, side by side.

    Parameters
    ----------
    probabilities
        Activation probabilities, (n, n, X) in [0, 1]: the first index runs down, the second to the right.
    image_shape, data_name
        As for `draw_prior_samples`.

    Returns
    -------
    Figure
        One axes with all images.

    Raises
    ------
    ValueError
        An array has another shape or a value outside [0, 1].
    """
    images = checked_images("probabilities", probabilities, ("n", "n"), image_shape)  # (n, n, H, W)
    rows, columns, height, width = images.shape[:4]
    scale = max(1, (WIDEST_SHEET // max(rows, columns) - SEAM) // max(height, width))
    step_y, step_x = height * scale + SEAM, width * scale + SEAM
    # All images in one axes: hundreds of axes would take seconds to draw.
    mosaic = np.full((rows * step_y - SEAM, columns * step_x - SEAM, *images.shape[4:]), SEAM_LEVEL)
    for row, column in np.ndindex(rows, columns):
        y, x = row * step_y, column * step_x
        mosaic[y : y + height * scale, x : x + width * scale] = images[row, column].repeat(scale, 0).repeat(scale, 1)
    caption = r"latent 0 to the right, latent 1 upwards, at equal steps of probability under $\mathcal{N}(0, 1)$"
    page = mosaic.shape[0] + GAP + line_height(LABEL_SIZE)
    sheet = Sheet(mosaic.shape[1], page, "The plane of the two latents", data_name, text_width(caption, LABEL_SIZE))
    sheet.panel(mosaic, 0, 0, 1, "manifold")
    place = mosaic.shape[1] / 2, mosaic.shape[0] + GAP
    sheet.text(caption, *place, horizontalalignment="center", verticalalignment="top", color=QUIET)
    return sheet.figure


def _key(axes: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """Write names in their colours, one below the other, right of the axes."""
    for number, (name, color) in enumerate(entries):
        write_beside(axes, name, (1.0, 1.0), -(number + 0.5) * 1.4 * LABEL_SIZE, color)
