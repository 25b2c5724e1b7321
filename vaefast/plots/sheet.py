"""What all figures share: the sheet in device pixels, its style, panels of images, axes, text, and saving.

Key: X pixels of an image, H x W its shape. A pixel is a probability in [0, 1], drawn in grey: 0 is black, 1 is white.
With channels, H x W x C, a pixel is three of them: red, green and blue.

The image figures are laid out in device pixels. Every panel starts on a whole device pixel and every image pixel is a
square of a whole number of them, so a saved PNG shows the image itself: nothing is resampled, no edge is smeared.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
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
from numpy.typing import ArrayLike, NDArray

from vaefast.files import atomic

DPI = 256  # a power of two: pixels -> inches -> pixels is exact in floating point

# All lengths below are device pixels.
CURVE_WIDTH, CURVE_HEIGHT, BELOW = 1300, 680, 110  # of axes with curves, and of their labels below
MARGIN = 40
GAP = 14  # between neighbouring panels
FRAME = 2  # around a panel, so that a bright pixel at its edge does not run into the page
TAG_GAP = 20  # between the axes and the names of the lines
WIDEST_SHEET = 1900  # of panels, gaps apart: 7.4 inches, so that a figure fits a text block at close to its own size
LARGEST_PANEL = 256

# Sizes of text, in points.
TITLE_SIZE = 9.0
LABEL_SIZE = 8.0

INK = "#1a1a1a"
QUIET = "#6b6b6b"
FRAME_COLOR = "#8c8c8c"
GRID_COLOR = "#e4e4e4"
# Okabe & Ito (2008): any colour vision can tell them apart; in print their markers do.
SERIES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#e69f00", "v"))

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
    """The style in which every figure is drawn and saved."""
    with matplotlib.style.context(["default", _STYLE]):
        yield


@contextmanager
def missing_letters() -> Iterator[None]:
    """Suppress warnings of letters that the font lacks. They are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure on a `Sheet` as a PNG file, whole or not at all.

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
    """A white page with a heading. Below it, places are in device pixels from the upper left corner."""

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
        """Place an image, (H, W[, C]), as squares of scale x scale device pixels, in a thin frame drawn outside them."""
        height, width = image.shape[0] * scale, image.shape[1] * scale
        x, y, across, up = self._box(left - FRAME, top - FRAME, width + 2 * FRAME, height + 2 * FRAME)
        frame = Rectangle((x, y), across, up, facecolor=FRAME_COLOR, antialiased=False, zorder=-1)
        frame.set_transform(self.figure.transFigure)
        self.figure.add_artist(frame)
        # Smaller by a millionth of a pixel: matplotlib 3.9 rounds an image's width up, and an error in its last bit
        # must not add a device pixel.
        inset = 1e-6
        axes = self.axes(left + inset, top + inset, width - 2 * inset, height - 2 * inset, label)
        axes.set_axis_off()
        axes.imshow(image, cmap=GREYS, vmin=0.0, vmax=1.0, interpolation="nearest", aspect="auto")

    def _box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Left, bottom, width and height in fractions of the page, as matplotlib needs them."""
        x, y = self._left + left, self._height - self._top - top - height
        return x / self._width, y / self._height, width / self._width, height / self._height


def curve_sheet(names: Iterable[str], title: str, data_name: str, label: str) -> tuple[Sheet, Axes]:
    """A sheet with one axes, and room for names on the right."""
    room = max(text_width(name, LABEL_SIZE) for name in names)
    sheet = Sheet(CURVE_WIDTH + TAG_GAP + room, CURVE_HEIGHT + BELOW, title, data_name)
    return sheet, sheet.axes(0, 0, CURVE_WIDTH, CURVE_HEIGHT, label)


def text_width(text: str, size: float, math: bool = True) -> int:
    """Width of a line of text in device pixels, rounded up."""
    if not text.strip():  # matplotlib knows no extent of spaces
        return len(text) * text_width("n", size) if text else 0
    points = TextPath((0, 0), text if math else text.replace("$", r"\$"), size=size).get_extents().width
    return int(np.ceil(points * DPI / 72))


def line_height(size: float) -> int:
    """Distance between lines of text in device pixels."""
    return int(np.ceil(1.4 * size * DPI / 72))


def pixel_scale(image_shape: tuple[int, ...], columns: int) -> int:
    """Device pixels per image pixel, as many as fit the sheet. At least one, even if the sheet then grows."""
    height, width = image_shape[:2]
    available = WIDEST_SHEET - (columns - 1) * GAP
    return max(1, min(available // (columns * width), LARGEST_PANEL // max(height, width)))


def checked_images(name: str, values: ArrayLike, leading: tuple[int | str, ...], image_shape: tuple[int, ...]) -> Array:
    """Check `values`, (*leading, X), a word standing for any length but 0; return a copy, (*leading, H, W[, C])."""
    if len(image_shape) not in (2, 3) or min(image_shape) < 1 or image_shape[2:] not in ((), (3,), (4,)):
        raise ValueError(f"image_shape: expected (height, width), both at least 1, got {tuple(image_shape)}")
    array = np.array(values, dtype=np.float64)
    expected = (*leading, prod(image_shape))
    fits = array.ndim == len(expected) and all(
        size > 0 if isinstance(wanted, str) else size == wanted for size, wanted in zip(array.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, expected))
        raise ValueError(
            f"{name}: expected shape ({wanted}) for images of {' x '.join(map(str, image_shape))}, got {array.shape}"
        )
    outside = ~((array >= 0.0) & (array <= 1.0))  # true of NaN, too
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(f"{name}: expected values in [0, 1], got {array[where]:g} at {where}")
    return array.reshape(*array.shape[:-1], *image_shape)


def nats(value: float, decimals: int) -> str:
    """A number with a true minus sign."""
    text = f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Label the axes, and draw no frame, only horizontal lines behind everything."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(axis="y", color=GRID_COLOR, linewidth=0.6)
    axes.set_axisbelow(True)


def write_beside(axes: Axes, text: str, corner: tuple[float, float], up: float, color: str) -> None:
    """Write right of the axes, so many points above a place given in fractions of the axes."""
    axes.annotate(
        text,
        xy=corner,
        xycoords="axes fraction",
        xytext=(TAG_GAP * 72 / DPI, up),
        textcoords="offset points",
        color=color,
        verticalalignment="center",
        parse_math=False,
    )


def move_labels_in(axes: Axes) -> None:
    """Narrow the axes on the left by the width of its y labels."""
    labels = axes.yaxis.get_tightbbox()
    assert labels is not None  # the axis has a label
    box = axes.get_position()
    box.x0 += (axes.bbox.x0 - labels.x0) / axes.bbox.width * box.width
    axes.set_position(box)
