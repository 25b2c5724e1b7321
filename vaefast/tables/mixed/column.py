"""One column of a table as it was in training: its kind, its levels, and where it is in the encoded table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vaefast.models.columns import KINDS
from vaefast.models.fields import Level, Name


@dataclass(frozen=True)
class Column:
    """One column of a table as it was in training.

    Parameters
    ----------
    name
        Of the column, or its place in an array.
    dtype
        The name of its type, with that of the values of a pandas category, and whether these are ordered.
    kind
        One of `kinds.KINDS`; None for a column that is left out.
    levels
        Of `binary` and `categorical` columns: their values, in the order of their codes.
    whole
        Whether its numbers are whole.
    decimals
        Of other numbers: after how many decimals they ended in training; None if some went on.
    start
        Its first column in the encoded table.
    """

    name: Name
    dtype: str
    kind: str | None
    levels: tuple[Level, ...] = ()
    whole: bool = False
    categories_dtype: str = ""
    ordered: bool = False
    start: int = 0
    decimals: int | None = None

    @property
    def width(self) -> int:
        """Columns of the encoded table that it takes."""
        return 0 if self.kind is None else len(self.levels) if self.kind == "categorical" else 1

    @property
    def place(self) -> slice:
        """Its columns in the encoded table."""
        return slice(self.start, self.start + self.width)

    def as_json(self) -> dict[str, Any]:
        """The column as JSON, without what says nothing, and without its place."""
        about: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "kind": self.kind}
        if self.levels:
            about["levels"] = [*self.levels]
        if self.categories_dtype:
            about |= {"categories_dtype": self.categories_dtype, "ordered": self.ordered}
        about |= {"whole": True} if self.whole else {}
        return about if self.decimals is None else {**about, "decimals": self.decimals}

    @classmethod
    def from_json(cls, about: Mapping[str, Any]) -> Column:
        """The inverse of `as_json`.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is not such a result.
        """
        name, kind, levels = about["name"], about["kind"], tuple(about.get("levels", ()))
        if not isinstance(name, (str, int)) or (kind is not None and kind not in KINDS):
            raise ValueError(f"column {name!r} is of kind {kind!r}")
        if not all(isinstance(level, (str, int, float)) for level in levels):
            raise ValueError(f"column {name!r} has levels that are neither text nor numbers")
        if kind in ("binary", "categorical") and len(levels) < 2:
            raise ValueError(f"column {name!r} is {kind} with {len(levels)} levels")
        return cls(
            name, str(about["dtype"]), kind, levels, bool(about.get("whole", False)),
            str(about.get("categories_dtype", "")), bool(about.get("ordered", False)),
            decimals=int(about["decimals"]) if "decimals" in about else None,
        )  # fmt: skip
