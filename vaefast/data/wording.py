"""Text of others in our one-line messages: paths, and messages of other libraries."""

from __future__ import annotations

import os

LONGEST = 160


def shown(text: object) -> str:
    r"""The text on one line. What cannot be printed (a newline, a stray byte) appears as `\n`, `\udc80`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def reason(error: BaseException) -> str:
    """The message of an exception, on one line and without its path, which the caller names."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return shortened(shown(" ".join(str(error).split()))) or type(error).__name__


def shortened(text: str) -> str:
    """At most `LONGEST` characters of a text. zipfile, for example, quotes a whole damaged file."""
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def noticed(source: object, *notes: str) -> str | None:
    """Notes on a source as one line; None if all are empty."""
    held = [note for note in notes if note]
    return f"{shown(source)}: {'; '.join(held)}" if held else None
