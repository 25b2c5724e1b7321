"""What a column is, learned from its values in training: its kind, its levels, or why it cannot be used."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError
from vaefast.models.fields import BOOLEANS, LABELS, NUMBERS, UNUSABLE, WHOLE, Field, Level, Name
from vaefast.tables.mixed import kinds
from vaefast.tables.mixed.column import Column

# Numbers that were written down have few decimals, and those that were computed more.
MOST_DECIMALS = 6
# Past it float64 has no digits left for so many decimals.
LARGEST_WITH_DECIMALS = 2.0**53 / 10.0**MOST_DECIMALS


def learned(field: Field, asked: str | None) -> tuple[Column, str]:
    """A column, and why it is left out; empty if it is not."""
    about = Column(field.name, field.dtype, None, categories_dtype=field.categories_dtype, ordered=field.ordered)
    observed = field.values[~field.missing]
    if field.family == UNUSABLE:
        if asked is not None:
            raise DataError(f"column {field.name!r} holds {field.trouble}, and cannot be {asked}")
        return about, field.trouble
    if not len(observed):
        return about, "nothing but missing values"
    if field.family == LABELS:
        return _learned_labels(about, field, observed, asked)
    whole = field.family == WHOLE or (field.family == NUMBERS and _whole_with_holes(field.values, observed))
    if field.family == BOOLEANS:
        kind = asked or "binary"
        return replace(about, kind=kind, levels=(False, True) if kind in ("binary", "categorical") else (), whole=True), ""
    # An infinite value is refused when the table is encoded, with its place.
    finite = observed[np.isfinite(observed)]
    kind = asked or (kinds.of_numbers(finite, whole) if len(finite) else "real")
    levels = _levels_of_numbers(field.name, observed, whole, kind) if kind in ("binary", "categorical") else ()
    decimals = None if whole or levels else _decimals(finite)
    return replace(about, kind=kind, levels=levels, whole=whole, decimals=decimals), ""


def _decimals(values: NDArray[np.float64]) -> int | None:
    """After how many decimals all values end; None if some go on after `MOST_DECIMALS`, or are too large to have any."""
    if not len(values) or np.abs(values).max() >= LARGEST_WITH_DECIMALS:
        return None
    return next((d for d in range(MOST_DECIMALS + 1) if np.array_equal(np.round(values, d), values)), None)


def _whole_with_holes(values: NDArray[np.float64], observed: NDArray[np.float64]) -> bool:
    """Whether floats are whole numbers that became floats because some are missing."""
    return len(observed) < len(values) and bool((np.isfinite(observed) & (observed == np.rint(observed))).all())


def _levels_of_numbers(name: Name, observed: NDArray[np.float64], whole: bool, kind: str) -> tuple[Level, ...]:
    values = np.unique(observed).tolist()
    levels: tuple[Level, ...] = tuple(int(value) if whole and math.isfinite(value) else value for value in values)
    if kind == "binary" and set(levels) <= {0, 1}:
        return (0, 1) if whole else (0.0, 1.0)
    _check_levels(name, len(levels), kind)
    return levels


def _check_levels(name: Name, count: int, kind: str) -> None:
    if kind == "binary" and count != 2:
        raise DataError(f"column {name!r} has {count} different values, and cannot be binary: choose categorical")
    if count < 2:
        raise DataError(f"column {name!r} has one value only, and cannot be categorical: leave it out")


def _learned_labels(about: Column, field: Field, observed: NDArray[Any], asked: str | None) -> tuple[Column, str]:
    if asked not in (None, "binary", "categorical"):
        return _numeric_labels(about, field, observed, str(asked)), ""
    seen = set(observed)
    levels = tuple(sorted(seen, key=lambda level: (isinstance(level, str), level)))
    if field.categories is not None:
        levels = field.categories
    if asked is None and field.categories is None and kinds.are_dates(seen):
        return about, "dates or times"
    if asked is None and len(seen) == 1:
        return about, "one value in every row"
    if asked is None and field.categories is None and kinds.is_identifier(len(seen), len(observed)):
        return about, "text that is different in most rows"
    kind = asked or ("binary" if len(levels) == 2 else "categorical")
    _check_levels(about.name, len(levels), kind)
    return replace(about, kind=kind, levels=levels), ""


def _numeric_labels(about: Column, field: Field, observed: NDArray[Any], asked: str) -> Column:
    """A category of numbers that is to be taken as numbers; its type becomes that of the numbers."""
    if not all(isinstance(value, (int, float)) for value in observed):
        text = next(value for value in observed if not isinstance(value, (int, float)))
        cure = "turn it into numbers (pandas.to_numeric), or " if all(map(_is_numeric, observed)) else ""
        raise DataError(f"column {field.name!r} holds the text {text!r}, and cannot be {asked}: {cure}choose categorical")
    dtype = field.categories_dtype or "float64"
    return replace(
        about, kind=asked, dtype=dtype, categories_dtype="", ordered=False, whole=dtype.lower().startswith(("int", "uint"))
    )


def _is_numeric(value: Any) -> bool:
    """Whether a level is a number, or text that float() reads."""
    try:
        float(value)
    except ValueError:
        return False
    return True
