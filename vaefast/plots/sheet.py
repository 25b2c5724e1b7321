"""Arrays in, matplotlib figures out: the four figures of a report on a variational auto-encoder.

Key: X pixels of an image, H x W its shape. A pixel is a probability in [0, 1], drawn in grey: 0 is black, 1 white.

The image figures are laid out in device pixels. Every panel starts on a whole device pixel and every image pixel is a
square of a whole number of them, so a saved PNG shows the image itself: nothing is resampled, no edge is smeared.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from vaefast.files import atomic

DPI = 256  # a power of two: pixels -> inches -> pixels is exact in floating point

# All lengths below are device pixels.
CURVE_WIDTH, CURVE_HEIGHT, BELOW = 1300, 680, 110  # of axes with curves, and of what their labels take under them
MARGIN = 40
GAP = 14  # between neighbouring panels
END_GAP = 44  # between a path of interpolations and the test image at its end
FRAME = 2  # around a panel, so that a bright pixel at its edge does not run into the page
TAG_GAP = 20  # between the axes and the names of the lines
WIDEST_SHEET = 1900  # of panels, gaps apart: 7.4 inches, so that a figure fits a text block at close to its own size
LARGEST_PANEL = 256
SEAM, SEAM_LEVEL = 3, 0.35  # between the images of a plane, and how bright

# Sizes of text, in points.
TITLE_SIZE = 9.0
LABEL_SIZE = 8.0

INK = "#1a1a1a"
QUIET = "#6b6b6b"
FRAME_COLOR = "#8c8c8c"
GRID_COLOR = "#e4e4e4"
# Blue and vermilion of Okabe & Ito (2008): told apart with any colour vision, and by their markers in print.
COLORS = {"train": "#0072b2", "test": "#d55e00"}
MARKERS = {"train": "o", "test": "s"}

# Level i of 256 is exactly byte i of the file: matplotlib truncates a colour to its byte, and with its own "gray" about
# one level in eight ends up one too dark.
GREYS = ListedColormap(np.minimum(np.arange(256) + 0.01, 255)[:, None].repeat(3, axis=1) / 255, name="greys")

# On top of matplotlib's own defaults, so that no matplotlibrc changes a figure. The font is the one matplotlib ships.
_STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": LABEL_SIZE,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}

Array = NDArray[np.float64]


@contextmanager
def style() -> Iterator[None]:
    """What every figure is drawn and saved under."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


@style()
def prior_samples(
    probabilities: ArrayLike,
    image_shape: tuple[int, int],
    title: str = r"Samples from the prior: $p(x\,|\,z)$, $z \sim \mathcal{N}(0, I)$",
    data_name: str = "",
) -> Figure:
    """Draw a near-square grid of what the decoder makes of draws from the prior, not binarised.

    Parameters
    ----------
    probabilities
        Activation probabilities p(x | z) of the pixels, (n, X) in [0, 1], n at least 1; they fill the grid row by row.
    image_shape
        Height and width of an image, H * W = X.
    title
        Heading, which may hold matplotlib mathtext; empty for none.
    data_name
        What the images are, such as "digits 8x8", set beside the heading.

    Returns
    -------
    Figure
        One axes per sample, in the order of `probabilities`.

    Raises
    ------
    ValueError
        An array has another shape or a value outside [0, 1].
    """
    images = checked_images("probabilities", probabilities, ("n",), image_shape)  # (n, H, W)
    count, height, width = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    scale = pixel_scale(image_shape, columns)
    step_x, step_y = width * scale + GAP, height * scale + GAP
    sheet = Sheet(columns * step_x - GAP, rows * step_y - GAP, title, data_name)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.panel(image, column * step_x, row * step_y, scale, f"sample {index}")
    return sheet.figure


@style()
def reconstructions(
    originals: ArrayLike,
    probabilities: ArrayLike,
    image_shape: tuple[int, int],
    title: str = "Reconstructions",
    data_name: str = "",
) -> Figure:
    """Draw images in an upper row and what the auto-encoder makes of each in a lower row.

    Parameters
    ----------
    originals
        The images given to the encoder, (n, X) in [0, 1], n at least 1.
    probabilities
        Activation probabilities of their reconstructions, (n, X) in [0, 1].
    image_shape
        Height and width of an image, H * W = X.
    title, data_name
        Heading and name of the images, as for `prior_samples`.

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
    count, height, width = upper.shape
    lower = checked_images("probabilities", probabilities, (count,), image_shape)  # (n, H, W)
    scale = pixel_scale(image_shape, count)
    panel_width, panel_height = width * scale, height * scale
    step_x, step_y = panel_width + GAP, max(panel_height, line_height(LABEL_SIZE)) + GAP
    labels = ("original", "reconstruction")
    left = max(text_width(label, LABEL_SIZE) for label in labels) + 2 * GAP
    sheet = Sheet(left + count * step_x - GAP, step_y + panel_height, title, data_name)
    for row, (label, images) in enumerate(zip(labels, (upper, lower), strict=True)):
        middle = row * step_y + panel_height / 2
        sheet.text(label, left - 2 * GAP, middle, horizontalalignment="right", verticalalignment="center")
        for column, image in enumerate(images):
            sheet.panel(image, left + column * step_x, row * step_y, scale, f"{label} {column}")
    return sheet.figure


@style()
def interpolations(
    path_probabilities: ArrayLike,
    left: ArrayLike,
    right: ArrayLike,
    image_shape: tuple[int, int],
    title: str = "Interpolations between posterior means",
    data_name: str = "",
) -> Figure:
    """Draw what the decoder makes of points on the line between the posterior means of two images a and b.

    Each row is a pair of images: the image a itself, apart from the rest; the path from the reconstruction of a, at
    mixing weight 0, to that of b, at mixing weight 1; the image b itself. The weights stand under the columns.

    Parameters
    ----------
    path_probabilities
        Activation probabilities along the paths at evenly spaced weights, (rows, steps, X) in [0, 1], steps at least 2.
    left, right
        The images a and b, each (rows, X) in [0, 1].
    image_shape
        Height and width of an image, H * W = X.
    title, data_name
        Heading and name of the images, as for `prior_samples`.

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
    rows, steps, height, width = paths.shape
    if steps < 2:
        raise ValueError(f"path_probabilities: expected at least 2 steps, from weight 0 to weight 1, got {steps}")
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
    line = line_height(LABEL_SIZE)
    caption = r"mixing weight $w$ of $z = (1 - w)\,\mu(a) + w\,\mu(b)$"
    least = max(text_width(caption, LABEL_SIZE), columns[-1] + label_width)
    sheet = Sheet(columns[-1] + panel_width, rows * step_y + 2 * line - GAP, title, data_name, least)
    for row in range(rows):
        for column, image in enumerate((ends_a[row], *paths[row], ends_b[row])):
            sheet.panel(image, columns[column], row * step_y, scale, f"row {row} column {column}")

    below, half = rows * step_y + GAP // 2, panel_width / 2
    names = [(0, "image a"), (steps + 1, "image b")]
    for column, label in names + [(step + 1, label) for step, label in _weight_labels(steps, step_x)]:
        sheet.text(label, columns[column] + half, below, horizontalalignment="center", verticalalignment="top")
    middle = columns[-1] / 2 + half
    sheet.text(caption, middle, below + line, horizontalalignment="center", verticalalignment="top", color=QUIET)
    return sheet.figure


@style()
def elbo_curve(
    epochs: ArrayLike,
    train_elbo: ArrayLike,
    test_elbo: ArrayLike,
    data_name: str = "",
    title: str = "Evidence lower bound",
) -> Figure:
    """Draw the evidence lower bound on training and test images over the epochs.

    The axis is made for the epochs that matter: where the first ones lie far below the rest they run out of the figure,
    which then says how many do and how low.

    Parameters
    ----------
    epochs
        Distinct whole numbers in any order, (E,), E at least 1.
    train_elbo
        Mean ELBO of a training image, nats, (E,).
    test_elbo
        Mean ELBO of a test image, nats, (E,) with NaN where it was not measured; or empty.
    data_name, title
        Name of the images and heading, as for `prior_samples`.

    Returns
    -------
    Figure
        One axes with the line `train` and, where there is anything to draw, the line `test`.

    Raises
    ------
    ValueError
        An array has another length, an epoch is repeated or no whole number, or an ELBO is infinite.
    """
    curves = _curves(epochs, train_elbo, test_elbo)
    shown_epochs = curves["train"][0]
    tags = {name: _final_tag(name, x, y, shown_epochs[-1]) for name, (x, y) in curves.items()}
    tag_width = max(text_width(tag, LABEL_SIZE) for tag in tags.values())
    sheet = Sheet(CURVE_WIDTH + TAG_GAP + tag_width, CURVE_HEIGHT + BELOW, title, data_name)
    axes = sheet.axes(0, 0, CURVE_WIDTH, CURVE_HEIGHT, "elbo")
    for name, (x, y) in curves.items():
        # Beyond 60 epochs markers would touch each other; a single point needs one to be seen.
        marker = MARKERS[name] if len(shown_epochs) <= 60 or len(x) == 1 else ""
        size = 2.6 if len(x) > 1 else 4.5
        axes.plot(x, y, color=COLORS[name], marker=marker, markersize=size, linewidth=1.1, label=name)
    label_axes(axes, "epoch", "ELBO (nats per image)")
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    _limit_epochs(axes, shown_epochs)
    _limit_elbo(axes, curves)
    _tag_lines(axes, curves, tags)
    move_labels_in(axes)
    return sheet.figure


@style()
def manifold(
    probabilities: ArrayLike,
    image_shape: tuple[int, int],
    title: str = "The plane of the two latents",
    data_name: str = "",
) -> Figure:
    """Draw what the decoder makes of a square grid of points of a plane, the images side by side.

    Parameters
    ----------
    probabilities
        Activation probabilities, (n, n, X) in [0, 1]: the first index runs down, the second to the right.
    image_shape
        Height and width of an image, H * W = X.
    title, data_name
        Heading and name of the images, as for `prior_samples`.

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
    rows, columns, height, width = images.shape
    scale = max(1, (WIDEST_SHEET // max(rows, columns) - SEAM) // max(height, width))
    step_y, step_x = height * scale + SEAM, width * scale + SEAM
    # One picture of all: hundreds of axes would take seconds to draw.
    mosaic = np.full((rows * step_y - SEAM, columns * step_x - SEAM), SEAM_LEVEL)
    for row, column in np.ndindex(rows, columns):
        y, x = row * step_y, column * step_x
        mosaic[y : y + height * scale, x : x + width * scale] = images[row, column].repeat(scale, 0).repeat(scale, 1)
    caption = r"latent 0 to the right, latent 1 upwards, at even steps of their probability under $\mathcal{N}(0, 1)$"
    page = mosaic.shape[0] + GAP + line_height(LABEL_SIZE)
    sheet = Sheet(mosaic.shape[1], page, title, data_name, text_width(caption, LABEL_SIZE))
    sheet.panel(mosaic, 0, 0, 1, "manifold")
    place = mosaic.shape[1] / 2, mosaic.shape[0] + GAP
    sheet.text(caption, *place, horizontalalignment="center", verticalalignment="top", color=QUIET)
    return sheet.figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure of this module as a PNG file, whole or not at all.

    The same figure gives the same bytes with the same versions of matplotlib and its font renderer: the file holds no
    date and no program name.

    Parameters
    ----------
    figure
        The figure; its resolution is kept, because its panels lie on whole device pixels.
    path
        Where to write it, ending in `.png`, in a folder that exists; a file of that name is replaced.

    Raises
    ------
    ValueError
        `path` does not end in `.png`.
    OutputError
        The file cannot be written; whatever was at `path` is still there.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ValueError(f"{target}: expected a file name ending in .png")
    rendered = io.BytesIO()
    with style():
        figure.savefig(rendered, format="png", dpi="figure", metadata={"Software": None})
    atomic.write_bytes(target, rendered.getvalue())


class Sheet:
    """A white page with a heading; what is below it is placed in device pixels from its upper left corner."""

    def __init__(self, width: int, height: int, title: str, data_name: str, least_width: int = 0) -> None:
        title_width, name_width = text_width(title, TITLE_SIZE), text_width(data_name, LABEL_SIZE, math=False)
        heading = title_width + name_width + (4 * GAP if title and data_name else 0)
        page_width = max(width, heading, least_width) + 2 * MARGIN
        self._top = MARGIN + (line_height(TITLE_SIZE) + GAP if heading else 0)
        self._left = (page_width - width) // 2
        self._width, self._height = page_width, self._top + height + MARGIN
        self.figure = Figure((self._width / DPI, self._height / DPI), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)
        baseline = MARGIN + line_height(TITLE_SIZE) - 2 * GAP - self._top
        start = min(0, (width - heading) // 2)
        self.text(title, start, baseline, fontsize=TITLE_SIZE)
        end = max(width, start + heading)
        self.text(data_name, end, baseline, horizontalalignment="right", color=QUIET, parse_math=False)

    def text(self, content: str, x: float, y: float, **properties: Any) -> None:
        if content:
            self.figure.text((self._left + x) / self._width, 1 - (self._top + y) / self._height, content, **properties)

    def axes(self, left: float, top: float, width: float, height: float, label: str) -> Axes:
        return self.figure.add_axes(self._box(left, top, width, height), label=label)

    def panel(self, image: Array, left: int, top: int, scale: int, label: str) -> None:
        """Place an image, (H, W), as squares of scale x scale device pixels, in a thin frame drawn outside them."""
        height, width = image.shape[0] * scale, image.shape[1] * scale
        x, y, across, up = self._box(left - FRAME, top - FRAME, width + 2 * FRAME, height + 2 * FRAME)
        frame = Rectangle((x, y), across, up, facecolor=FRAME_COLOR, antialiased=False, zorder=-1)
        frame.set_transform(self.figure.transFigure)
        self.figure.add_artist(frame)
        # Drawn in by a millionth of a pixel: matplotlib 3.9 rounds an image's width up, and an error in its last bit
        # must not add a device pixel.
        inset = 1e-6
        axes = self.axes(left + inset, top + inset, width - 2 * inset, height - 2 * inset, label)
        axes.set_axis_off()
        axes.imshow(image, cmap=GREYS, vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto")

    def _box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Left, bottom, width and height in fractions of the page, which is how matplotlib places things."""
        x, y = self._left + left, self._height - self._top - top - height
        return x / self._width, y / self._height, width / self._width, height / self._height


def text_width(text: str, size: float, math: bool = True) -> int:
    """Width of a line of text in device pixels, rounded up."""
    if not text:
        return 0
    points = TextPath((0, 0), text if math else text.replace("$", r"\$"), size=size).get_extents().width
    return int(np.ceil(points * DPI / 72))


def line_height(size: float) -> int:
    """From one line of text to the next in device pixels."""
    return int(np.ceil(1.4 * size * DPI / 72))


def pixel_scale(image_shape: tuple[int, int], columns: int) -> int:
    """Device pixels to an image pixel, as many as fit the sheet; at least one, even where the sheet then grows."""
    height, width = image_shape
    available = WIDEST_SHEET - (columns - 1) * GAP
    return max(1, min(available // (columns * width), LARGEST_PANEL // max(height, width)))


def _weight_labels(steps: int, step_x: int) -> list[tuple[int, str]]:
    """Step and text of the mixing weights to mark: evenly spaced, as many as there is room for, 0 and 1 among them."""
    intervals = steps - 1
    labels = [f"{step / intervals:.2f}".rstrip("0").rstrip(".") for step in range(steps)]
    room = max(text_width(label, LABEL_SIZE) for label in labels) + 2 * GAP
    fitting = (n for n in range(1, intervals) if intervals % n == 0 and n * step_x >= room)
    return [(step, labels[step]) for step in range(0, steps, next(fitting, intervals))]


def checked_images(name: str, values: ArrayLike, leading: tuple[int | str, ...], image_shape: tuple[int, int]) -> Array:
    """Check `values`, (*leading, X), a word standing for any length but 0; return a copy, (*leading, H, W)."""
    if len(image_shape) != 2 or min(image_shape) < 1:
        raise ValueError(f"image_shape: expected (height, width), both at least 1, got {tuple(image_shape)}")
    height, width = image_shape
    array = np.array(values, dtype=np.float64)
    expected = (*leading, height * width)
    fits = array.ndim == len(expected) and all(
        size > 0 if isinstance(wanted, str) else size == wanted for size, wanted in zip(array.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, expected))
        raise ValueError(f"{name}: expected shape ({wanted}) for images of {height} x {width}, got {array.shape}")
    outside = ~((array >= 0.0) & (array <= 1.0))  # true of NaN, too
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(f"{name}: expected values in [0, 1], got {array[where]:g} at {where}")
    return array.reshape(*array.shape[:-1], height, width)


def _curves(epochs: ArrayLike, train: ArrayLike, test: ArrayLike) -> dict[str, tuple[Array, Array]]:
    """Check the arrays of `elbo_curve`; return each line's measured epochs, in order, and their values."""
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


def nats(value: float, decimals: int) -> str:
    """A number with a true minus sign."""
    text = f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


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
    values = np.concatenate([y for _, y in curves.values()])
    top, lowest = values.max(), values.min()
    # Most of a run climbs slowly: four fifths of all values lie within `body` of the best. Where a few others lie so
    # far below that they would press the rest into a thin line, the range is three times `body` instead, and more
    # where a line ends lower.
    body = top - np.quantile(values, 0.2)
    bottom = lowest
    if body > 0 and top - lowest > 4.5 * body:
        bottom = min(top - 3.0 * body, *(y[-1] for _, y in curves.values()))
    span = top - bottom if top > bottom else max(1.0, 0.02 * abs(top))
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


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """What the axes are, with no more around them than lines across, behind everything."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color=GRID_COLOR, linewidth=0.6)
    axes.set_axisbelow(True)


def write_beside(axes: Axes, text: str, corner: tuple[float, float], up: float, color: str) -> None:
    """Write right of the axes, so many points up from one of their right corners, in fractions of the axes."""
    axes.annotate(
        text,
        xy=corner,
        xycoords="axes fraction",
        xytext=(TAG_GAP * 72 / DPI, up),
        textcoords="offset points",
        color=color,
        verticalalignment="center",
    )


def move_labels_in(axes: Axes) -> None:
    """Narrow the axes from the left by what its y labels take, however wide the numbers are."""
    labels = axes.yaxis.get_tightbbox()
    assert labels is not None  # the axis has a label
    box = axes.get_position()
    box.x0 += (axes.bbox.x0 - labels.x0) / axes.bbox.width * box.width
    axes.set_position(box)
