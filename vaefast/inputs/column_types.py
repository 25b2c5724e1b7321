"""The kinds of columns that `--column-types` asks for."""

from __future__ import annotations

from collections.abc import Sequence

from vaefast.errors import SettingsError
from vaefast.models.columns import KINDS


def types_of(texts: Sequence[str]) -> dict[str, str]:
    """The kinds of columns that `--column-types NAME=KIND ...` asks for, by name.

    Raises
    ------
    SettingsError
        One is no such pair, there is no such kind, or a column is named twice.
    """
    asked: dict[str, str] = {}
    for text in texts:
        name, _, kind = text.rpartition("=")
        if not name:
            raise SettingsError(f"column_types has {text!r}: give a column and its kind, such as age=real")
        if kind not in KINDS:
            raise SettingsError(f"column_types has {kind!r} for {name!r}: choose {', '.join(KINDS)}")
        if name in asked:
            raise SettingsError(f"column_types has {name!r} twice: give it once")
        asked[name] = kind
    return asked
