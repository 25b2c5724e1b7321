"""Which kind a column of a table is, by its type and its values.

The thresholds were measured on 1,670 columns of numbers of published tables (benchmarks/column_kinds.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The largest count that the engines take.
LARGEST_COUNT = 2**24
# Whole numbers are counts if their standard deviation is more than this share of their mean: a normal distribution would have
# one row in 20 below zero. A negative binomial then fits held-out rows better than a normal in 85 % of the columns measured,
# and in 26 % of those with a smaller share.
SPREAD_OF_COUNTS = 0.6
# Positive numbers are taken as their logarithm if a log-normal distribution gains so many nats a value over a normal one. It
# was better on held-out rows in each of the 163 columns with such a gain.
GAIN_OF_LOGARITHM = 0.1
# Geary's ratio, of the mean distance from the median to the standard deviation, is 0.798 for a normal distribution. Where it
# is smaller than this, a Laplace distribution fits as well as a normal one; a Student-t was better on held-out rows in 96 % of
# those columns, by 0.07 nats a value in the median.
GEARY = 0.76
# So few rows say little of tails.
ROWS_OF_TAILS = 50
# Dates as ISO 8601, spreadsheets and people write them, times of a day, and both.
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[ap]m)?(z|[+-]\d{2}:?\d{2})?"
DATE = re.compile(
    rf"(\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}([-/.])\d{{1,2}}\2(\d{{4}}|\d{{2}}))([ t]{_CLOCK})?|{_CLOCK}", re.I
)
# Text is an identifier if it has more than this many values, and more than one for each two rows.
FEW_LEVELS = 20


def of_numbers(values: Array, whole: bool) -> str:
    """The kind of a column of numbers.

    Parameters
    ----------
    values
        Those that were observed, (n,), at least one.
    whole
        Whether they are whole numbers by their type, so that two values are a choice and not a measurement.
    """
    # Sorted, so that sums do not depend on the order of the rows.
    values = np.sort(values)
    low, high = values[0], values[-1]
    if low in (0, 1) and high in (0, 1) and low < high and np.isin(values, (0, 1)).all():
        return "binary"
    if whole and low < high and np.isin(values, (low, high)).all():
        return "binary"
    if whole:
        return "count" if is_count(values) else "real"
    if gain_of_logarithm(values) > GAIN_OF_LOGARITHM:
        return "positive"
    return "heavy-tailed" if len(values) >= ROWS_OF_TAILS and geary(values) < GEARY else "real"


def is_count(values: Array) -> bool:
    """Whether whole numbers, sorted, are spread like counts (`SPREAD_OF_COUNTS`)."""
    if values[0] < 0 or values[-1] > LARGEST_COUNT or values[0] == values[-1]:
        return False
    return bool(values.std() > SPREAD_OF_COUNTS * values.mean())


def gain_of_logarithm(values: Array) -> float:
    """By how many nats a value a log-normal distribution fits better than a normal one; 0 where some value is not positive.

    Both have the mean and the standard deviation that fit best: log sd(x) - log sd(log x) - mean(log x).
    """
    if values[0] <= 0 or values[0] == values[-1]:
        return 0.0
    # In units of the largest, so that no square overflows.
    given, values = values, values / values[-1]
    # A number of 1e-320 beside one of 2 is none in that unit.
    logarithms = np.log(values) if values[0] > 0 else np.log(given) - np.log(given[-1])
    if values.std() == 0 or logarithms.std() == 0:
        return 0.0
    return float(np.log(values.std()) - np.log(logarithms.std()) - logarithms.mean())


def geary(values: Array) -> float:
    """Geary's ratio of sorted values: the mean distance from the median over the standard deviation; 1 for a constant."""
    unit = max(abs(values[0]), abs(values[-1]))
    if unit == 0 or values[0] == values[-1]:
        return 1.0
    values = values / unit
    spread = values.std()
    return float(np.abs(values - np.median(values)).mean() / spread) if spread > 0 else 1.0


def is_identifier(levels: int, rows: int) -> bool:
    """Whether text with so many values in so many rows names rows instead of saying something of them."""
    return levels > FEW_LEVELS and 2 * levels > rows


def are_dates(levels: Iterable[object]) -> bool:
    """Whether all of these are text, and dates or times."""
    return all(isinstance(level, str) and DATE.fullmatch(level.strip()) for level in levels)
