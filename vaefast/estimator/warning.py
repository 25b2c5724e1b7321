"""Warnings about data and models, as Python warnings."""

from __future__ import annotations

import sys
import warnings

from vaefast.errors import DataWarning


def warn(text: str | None) -> None:
    """Issue a `DataWarning` at the line that called this package, if there is a text."""
    if text is None:
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("vaefast."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, DataWarning, stacklevel=level)
