"""Axes for any numbers: large, tiny or nearly equal. Values are scaled to [0, 1], and ticks give the original ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from vaefast.plots.sheet import INK, QUIET, Array, text_width

# The share of the values that an axis shows. A few distant values would otherwise crowd the others.
SHOWN = (0.005, 0.995)
TICK_SIZE, NAME_SIZE = 5.5, 6.5
# A tick with more digits is given as a difference from the first one.
MOST_DIGITS = 5
# Levels that are named on an axis, and the device pixels that all names together, and one alone, have.
MOST_NAMED, ROOM_OF_NAMES, LONGEST_NAME = 4, 210, 76


@dataclass(frozen=True)
class Scale:
    """Start and end of an axis, in the unit of the values."""

    low: float
    high: float

    def place(self, values: ArrayLike) -> Array:
        """Values as places on the axis. Those on the axis are in [0, 1]."""
        array = np.asarray(values, np.float64)
        # Halved, so that no difference of two large numbers overflows.
        with np.errstate(over="ignore", invalid="ignore"):
            return (array / 2 - self.low / 2) / (self.high / 2 - self.low / 2)

    def ticks(self) -> tuple[list[float], list[str], str]:
        """Two to six values to mark, their texts, and the number to add to each text (may be empty)."""
        step = _step(self.high / 2 - self.low / 2)
        values = [float(number * step) for number in np.arange(np.ceil(self.low / step), np.floor(self.high / step) + 1)]
        largest = max(abs(value) for value in values)
        if largest >= step * 10**MOST_DIGITS:
            base = values[0]
            return values, [_text(value - base, step) for value in values], f"{base:.12g}"
        return values, [_text(value, step) for value in values], ""


@dataclass(frozen=True)
class Levels:
    """An axis of levels, whose codes count from 0: each has the same room on it."""

    names: tuple[str, ...]

    def place(self, values: ArrayLike) -> Array:
        """Codes as places on the axis."""
        return (np.asarray(values, np.float64) + 0.5) / len(self.names)

    def ticks(self) -> tuple[list[float], list[str], str]:
        """As for `Scale`: the names of at most `MOST_NAMED` levels, shortened to their room."""
        step = -(-len(self.names) // MOST_NAMED)
        codes = [*range(0, len(self.names), step)]
        room = min(LONGEST_NAME, ROOM_OF_NAMES // len(codes))
        return [float(code) for code in codes], [fitting(self.names[code], room, TICK_SIZE) for code in codes], ""


def scale_of(*parts: ArrayLike) -> Scale:
    """An axis for nearly all of these finite values."""
    values = np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in parts])
    low, high = (float(end) for end in np.quantile(values, SHOWN, method="nearest"))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    smallest = max(abs(low), abs(high)) * 1e-12
    if not high / 2 - low / 2 > smallest / 2:
        room = max(abs(low) * 0.5, 0.5) if low else 0.5
        return Scale(low - room, high + room)
    room = 0.06 * (high / 2 - low / 2) * 2
    with np.errstate(over="ignore"):
        return Scale(*(float(np.nan_to_num(end)) for end in (low - room, high + room)))


def mark(axes: Axes, which: Literal["x", "y"], scale: Scale | Levels, name: str, room: int) -> None:
    """Limits, ticks and name of the axis of a panel in which values stand at their places; the name takes `room`."""
    values, texts, base = scale.ticks()
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}lim")(0, 1)
    axis.set_ticks(scale.place(values), texts, parse_math=False)
    axes.tick_params(axis=which, labelsize=TICK_SIZE, length=2, pad=1.5)
    added = f" \N{MINUS SIGN} {base}" if base else ""
    label = fitting(name, room - text_width(added, NAME_SIZE), NAME_SIZE) + added
    axis.set_label_text(label, fontsize=NAME_SIZE, parse_math=False, color=INK)
    axis.labelpad = 2
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)


def fitting(text: str, room: int, size: float) -> str:
    """The text, shortened to so many device pixels by an ellipsis in its middle."""
    if text_width(text, size, math=False) <= room:
        return text
    # First cut by the width of a narrow letter, because measuring takes long.
    kept = min(len(text) - 1, max(2, 2 * room // text_width("n", size)))
    while kept > 2:
        shortened = f"{text[: kept - kept // 3]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - kept // 3 :]}"
        if text_width(shortened, size, math=False) <= room:
            return shortened
        kept -= 1
    return f"{text[:1]}\N{HORIZONTAL ELLIPSIS}"


def _step(half: float) -> float:
    """The largest step of 1, 2 or 5 times a power of ten that is not larger than half of an axis."""
    power = 10.0 ** np.floor(np.log10(half))
    return float(max(factor * power for factor in (0.5, 1.0, 2.0, 5.0) if factor * power <= half))


def _text(value: float, step: float) -> str:
    """A multiple of a step, with as many digits as that has."""
    if value == 0:
        return "0"
    if step >= 1e-4 and abs(value) < 1e5:
        text = f"{value:.{max(0, -int(np.floor(np.log10(step) + 1e-9)))}f}"
    else:
        digits = max(0, round(np.floor(np.log10(abs(value))) - np.floor(np.log10(step))))
        text = f"{value:.{digits}e}"
    return text.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-").replace("-", "\N{MINUS SIGN}")
