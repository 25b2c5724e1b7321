"""Columns of `obs` in `.h5ad` files of anndata: what is known of each row."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.h5sparse import text
from vaefast.data.images import Labels
from vaefast.data.told import WANTED, ToldColumn, of_categories, of_numbers
from vaefast.data.wording import shortened, shown
from vaefast.errors import DataError


def read_labels(file: Any, label: str, path: Path) -> tuple[Labels | None, tuple[str, ...]]:
    """A column that holds categories, texts or whole numbers, as labels and the names of 0, 1, ...

    Raises
    ------
    DataError
        There is no such column, it holds other numbers, or a label is missing.
    """
    column = _column(file, label, path)
    if _is_category(column):
        codes, categories = _categories(file["obs"], column)
        if codes.min(initial=0) < 0:
            raise _missing_label(int(np.argmin(codes)), label, path)
        return codes, tuple(text(value) for value in categories)
    if not hasattr(column, "dtype") and np.any(column["mask"]):  # nullable numbers of pandas
        raise _missing_label(int(np.argmax(column["mask"])), label, path)
    values = _raw(column)
    if values.dtype.kind in "buif" and np.array_equal(values, np.floor(values)):
        return values.astype(np.int64), ()
    if values.dtype.kind == "f":
        raise DataError(f"{shown(path)}: column {shown(repr(label))} of obs holds real numbers, not labels: choose another")
    classes, labels = np.unique([text(value) for value in values], return_inverse=True)
    return labels.astype(np.int64), tuple(str(name) for name in classes)


def read_told(file: Any, name: str, path: Path) -> ToldColumn:
    """A column that says something of each row: numbers, or categories, texts or truth values.

    Raises
    ------
    DataError
        There is no such column, or a value is missing or infinite.
    """
    column, cell, origin = _column(file, name, path, f" for {WANTED}"), _cell(name), shown(path)
    if _is_category(column):
        codes, categories = _categories(file["obs"], column)
        named = [_plain(value) for value in categories]
        return of_categories(name, [None if code < 0 else named[code] for code in codes.tolist()], cell, origin)
    values = _raw(column)
    masked = np.zeros(len(values), bool) if hasattr(column, "dtype") or "mask" not in column else column["mask"][()]
    if values.dtype.kind in "iuf":
        return of_numbers(name, np.where(masked, np.nan, values.astype(np.float64)), cell, origin)
    held = [None if gap else _plain(value) for value, gap in zip(values, masked.tolist(), strict=True)]
    return of_categories(name, held, cell, origin)


def _column(file: Any, name: str, path: Path, wanted: str = "") -> Any:
    """A column as h5py has it: a data set, or a group of several."""
    obs = file.get("obs", {})
    # A record array is what anndata wrote before 0.7.
    names = [held for held in (obs.dtype.names if hasattr(obs, "dtype") else obs) if not held.startswith("__")]
    if name not in names:
        names = [held for held in names if held != obs.attrs.get("_index")]
        near = get_close_matches(name, names, n=1)
        meant = f"did you mean {shown(repr(near[0]))}? It" if near else "it"
        raise DataError(
            f"{shown(path)} has no column {shown(repr(name))} in obs{wanted}: {meant} has "
            f"{shortened(shown(', '.join(names))) if names else 'none'}"
        )
    return obs[name]


def _is_category(column: Any) -> bool:
    """Whether this is a group of codes and categories, or codes with a reference to them (anndata before 0.7)."""
    return "categories" in getattr(column, "attrs", ()) if hasattr(column, "dtype") else "codes" in column


def _categories(obs: Any, column: Any) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The code of each row, below 0 where the value is missing, and the categories that 0, 1, ... stand for."""
    if not hasattr(column, "dtype"):
        return column["codes"][()].astype(np.int64), _raw(column["categories"])
    return column[()].astype(np.int64), _raw(obs[column.attrs["categories"]])


def _raw(held: Any) -> NDArray[Any]:
    """The values of a data set, or of the group in which pandas' own types are kept."""
    values: NDArray[Any] = (held if hasattr(held, "dtype") else held["values"])[()]
    return values


def _plain(value: Any) -> object:
    """A value as a text, a truth value or a number of Python."""
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.bytes_) else text(value)


def _cell(name: str) -> Callable[[int], str]:
    return lambda row: f"row {row} (counted from 0), column {shown(repr(name))} of obs"


def _missing_label(row: int, label: str, path: Path) -> DataError:
    return DataError(f"{shown(path)}: {_cell(label)(row)}: a label is missing: fill it in, or leave its row out")
