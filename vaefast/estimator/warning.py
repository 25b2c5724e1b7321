"""Lines that should not be overlooked, as warnings of Python."""

from __future__ import annotations

import sys
import warnings

from vaefast.errors import DataWarning


def warn(text: str | None) -> None:
    """A `DataWarning` at the line of whoever called this package; nothing without a text."""
    if text is None:
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("vaefast."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, DataWarning, stacklevel=level - 1)
