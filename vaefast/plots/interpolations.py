"""Figure: interpolations between the posterior means of pairs of images."""

from __future__ import annotations

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vaefast.plots.sheet import GAP, LABEL_SIZE, QUIET, Sheet, checked_images, line_height, pixel_scale, style, text_width

END_GAP = 44  # device pixels between a path and the test image at its end


@style()
def draw_interpolations(
    path_probabilities: ArrayLike, left: ArrayLike, right: ArrayLike, image_shape: tuple[int, ...], data_name: str = ""
) -> Figure:
    """Draw the decoder's images for points on the line between the posterior means of two images a and b.

    Each row is a pair of images: on the left the image a, in the middle the path from the reconstruction of a (mixing
    weight 0) to that of b (mixing weight 1), on the right the image b. The weights are below the columns.

    Parameters
    ----------
    path_probabilities
        Activation probabilities along the paths at evenly spaced weights, (rows, steps, X) in [0, 1], steps at least 2.
    left, right
        The images a and b, each (rows, X) in [0, 1].
    image_shape, data_name
        As for `draw_prior_samples`.

    Returns
    -------
    Figure
        steps + 2 axes for each row: a, the path from left to right, b.

    Raises
    ------
    ValueError
        An array has another shape or a value outside [0, 1].
    """
    paths = checked_images("path_probabilities", path_probabilities, ("rows", "steps"), image_shape)  # (rows, steps, H, W)
    if paths.shape[1] < 2:
        raise ValueError(f"path_probabilities: expected at least 2 steps, from weight 0 to weight 1, got {paths.shape[1]}")
    rows, steps, height, width = paths.shape[:4]
    ends_a = checked_images("left", left, (rows,), image_shape)  # (rows, H, W)
    ends_b = checked_images("right", right, (rows,), image_shape)  # (rows, H, W)
    scale = pixel_scale(image_shape, steps + 2)
    panel_width, step_y = width * scale, height * scale + GAP
    step_x = max(panel_width, text_width("0", LABEL_SIZE) + GAP) + GAP

    label_width = text_width("image a", LABEL_SIZE)
    gap = END_GAP + max(0, label_width - panel_width) // 2
    first = panel_width + gap
    last = first + (steps - 1) * step_x
    columns = [0, *range(first, last + 1, step_x), last + panel_width + gap]  # left edges of a, the path, b
    caption = r"mixing weight $w$ of $z = (1 - w)\,\mu(a) + w\,\mu(b)$"
    least = max(text_width(caption, LABEL_SIZE), columns[-1] + label_width)
    page = columns[-1] + panel_width, rows * step_y + 2 * line_height(LABEL_SIZE) - GAP
    sheet = Sheet(*page, "Interpolations between posterior means", data_name, least)
    for row in range(rows):
        for column, image in enumerate((ends_a[row], *paths[row], ends_b[row])):
            sheet.panel(image, columns[column], row * step_y, scale, f"row {row} column {column}")

    names = {0: "image a", steps + 1: "image b"} | {step + 1: label for step, label in _weight_labels(steps, step_x)}
    middles = [column + panel_width / 2 for column in columns]
    _write_below(sheet, rows * step_y + GAP // 2, [(middles[column], name) for column, name in names.items()], caption)
    return sheet.figure


def _write_below(sheet: Sheet, top: int, names: list[tuple[float, str]], caption: str) -> None:
    """Write names under the middles of their columns, outermost columns first, and a caption below all."""
    centred = {"horizontalalignment": "center", "verticalalignment": "top"}
    for middle, name in names:
        sheet.text(name, middle, top, **centred)
    sheet.text(caption, (names[0][0] + names[1][0]) / 2, top + line_height(LABEL_SIZE), **centred, color=QUIET)


def _weight_labels(steps: int, step_x: int) -> list[tuple[int, str]]:
    """Step and text of the mixing weights to mark: evenly spaced, as many as fit, including 0 and 1."""
    intervals = steps - 1
    labels = [f"{step / intervals:.2f}".rstrip("0").rstrip(".") for step in range(steps)]
    room = max(text_width(label, LABEL_SIZE) for label in labels) + 2 * GAP
    fitting = (n for n in range(1, intervals) if intervals % n == 0 and n * step_x >= room)
    return [(step, labels[step]) for step in range(0, steps, next(fitting, intervals))]
