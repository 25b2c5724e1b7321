"""How the cells of a column of a text file are spelt, so that others can be written like them."""

from __future__ import annotations

from typing import Any

from vaefast.data.csvfields import MISSING, QUOTE, TRUTHS

# Cells after which the spelling of a column is known.
ENOUGH = 20


class Spelling:
    """The spelling of one column: whether its text is quoted, and how it says true and false."""

    def __init__(self) -> None:
        self._cells = 0
        self._quoted = False
        self._truths: dict[bool, str] = {}

    @property
    def is_known(self) -> bool:
        """Whether enough cells were seen."""
        return self._cells >= ENOUGH and len(self._truths) in (0, 2)

    def see(self, cell: str) -> None:
        """Learn from a cell as it stands in the file, without the spaces around it."""
        text = cell.strip(QUOTE)
        if text.lower() in MISSING:
            return
        self._cells += 1
        self._quoted = self._quoted or cell.startswith(QUOTE)
        if text.lower() in TRUTHS:
            self._truths[bool(TRUTHS[text.lower()])] = text

    def written(self, value: Any, separator: str | None, decimal: str) -> str:
        """A value as a cell: numbers with this decimal sign, all else in the spelling of the column, quoted where need be."""
        if isinstance(value, bool):
            return self._truth(value)
        if isinstance(value, (int, float)):
            return repr(value).replace(".", decimal)
        text = str(value)
        breaks = QUOTE in text or (separator or " ") in text or "\n" in text or text != text.strip()
        return QUOTE + text.replace(QUOTE, 2 * QUOTE) + QUOTE if self._quoted or breaks else text

    def _truth(self, value: bool) -> str:
        if value in self._truths:
            return self._truths[value]
        other = self._truths.get(not value, "True")
        text = str(value)
        return text.upper() if other.isupper() else text.lower() if other.islower() else text
