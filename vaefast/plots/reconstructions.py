"""Figure: images in an upper row, and their reconstructions below."""

from __future__ import annotations

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vaefast.plots.sheet import GAP, LABEL_SIZE, Sheet, checked_images, line_height, pixel_scale, style, text_width


@style()
def draw_reconstructions(
    originals: ArrayLike, probabilities: ArrayLike, image_shape: tuple[int, ...], data_name: str = ""
) -> Figure:
    """Draw images in an upper row and their reconstructions in a lower row.

    Parameters
    ----------
    originals
        The images given to the encoder, (n, X) in [0, 1], n at least 1.
    probabilities
        Activation probabilities of their reconstructions, (n, X) in [0, 1].
    image_shape, data_name
        As for `draw_prior_samples`.

    Returns
    -------
    Figure
        2 n axes: the originals, then the reconstructions.

    Raises
    ------
    ValueError
        An array has another shape or a value outside [0, 1].
    """
    upper = checked_images("originals", originals, ("n",), image_shape)  # (n, H, W)
    lower = checked_images("probabilities", probabilities, (len(upper),), image_shape)  # (n, H, W)
    count, height, width = upper.shape[:3]
    scale = pixel_scale(image_shape, count)
    panel_width, panel_height = width * scale, height * scale
    step_x, step_y = panel_width + GAP, max(panel_height, line_height(LABEL_SIZE)) + GAP
    labels = ("original", "reconstruction")
    left = max(text_width(label, LABEL_SIZE) for label in labels) + 2 * GAP
    sheet = Sheet(left + count * step_x - GAP, step_y + panel_height, "Reconstructions", data_name)
    for row, (label, images) in enumerate(zip(labels, (upper, lower), strict=True)):
        middle = row * step_y + panel_height / 2
        sheet.text(label, left - 2 * GAP, middle, horizontalalignment="right", verticalalignment="center")
        for column, image in enumerate(images):
            sheet.panel(image, left + column * step_x, row * step_y, scale, f"{label} {column}")
    return sheet.figure
