"""Columns of labels, found by their names or chosen. They are kept for figures and never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from vaefast.data.csvfields import MISSING, gaps_in_text, number_in
from vaefast.data.table import Table
from vaefast.data.wording import shortened, shown
from vaefast.errors import DataError

# Columns that may be labels.
LABELS = ("label", "labels", "class", "classes", "target", "targets", "y")
LABEL, Y, X = "label", "y", "x"
FLAG = "--label"
MOST_CLASSES = 100


def column_of(label: str, names: Sequence[str], columns: int, origin: str, wanted: str = FLAG) -> int:
    """The column of this name, else of this number from 1 on; `wanted` says in a message for what.

    Raises
    ------
    DataError
        There is none.
    """
    if label in names:
        return list(names).index(label)
    if label.isdecimal() and 1 <= int(label) <= columns:
        return int(label) - 1
    raise _no_column(label, names, columns, origin, wanted)


def _no_column(label: str, names: Sequence[str], columns: int, origin: str, wanted: str = FLAG) -> DataError:
    near = get_close_matches(label.lower(), {name.lower(): name for name in names}, n=1)
    meant = next((f"did you mean {shown(repr(name))}? Its" for name in names if [name.lower()] == near), "its")
    held = f"{meant} columns are {shortened(shown(', '.join(names)))}" if names else f"it has {columns}"
    return DataError(f"{origin} has no column {shown(repr(label))} for {wanted}: {held}")


def choose_label(table: Table, origin: str, label: str) -> Table:
    """The table with this column as its labels. `label` is a name, or a number in the file from 1.

    Raises
    ------
    DataError
        There is no such column, it is the only one, or a label is missing.
    """
    number = int(label) - 1 if label.isdecimal() and label not in table.names else -1
    column = table.names.index(label) if label in table.names else table.at.index(number) if number in table.at else None
    if column is None:
        raise _no_column(label, table.names, len(table.at), origin)
    return _labelled(table, column, origin)


def split_labels(table: Table, origin: str) -> Table:
    """The table without its label columns. If it has no labels yet, the first of them become its labels.

    A column named `label` always holds labels. A column named `class`, `target` or `y`, in upper or lower case, singular or
    plural, does if its values are text or at most 100 different whole numbers; `y` does not beside a column `x`.

    Raises
    ------
    DataError
        A label is missing.
    """
    suspects = _suspects(table)
    for column in suspects:
        if not _looks_like_labels(table, column):
            table = table.noted(f"column {shown(table.names[column])} does not look like labels: trained on like the others")
    for place in [table.at[column] for column in suspects if _looks_like_labels(table, column)]:
        table = _labelled(table, table.at.index(place), origin)
    return table


def ask_for_labels(table: Table, origin: str, are_chosen: bool = False) -> Table:
    """The table, unless a column looks like labels that nobody has chosen. `are_chosen` says whether another is the labels.

    Raises
    ------
    DataError
        A column does.
    """
    for column in _suspects(table):
        if not _looks_like_labels(table, column):
            table = table.noted(f"column {shown(table.names[column])} does not look like labels: trained on like the others")
            continue
        name = shown(table.names[column])
        out = "take it out of the file" if are_chosen else f"give --label {name} to keep it for figures and out of training"
        raise DataError(
            f"{origin}: column {table.at[column] + 1} {name!r} looks like labels{', too' * are_chosen}: {out}, or give "
            "--all-columns to train on it"
        )
    return table


def refuse_text(table: Table, origin: str) -> None:
    """Refuse columns of text that are not labels.

    Raises
    ------
    DataError
        There is such a column. The message gives an example and its row.
    """
    for column, texts in table.texts.items():
        for row, text in enumerate(texts):
            if text.lower() not in MISSING and np.isnan(number_in(text)):
                example = f"such as {shown(repr(text[:40]))} in {table.places.row(row)}"
                label = table.names[column] if table.names and table.names[column] else table.at[column] + 1
                raise DataError(
                    f"{origin}: {table.called(column)} holds text, {example}: leave the column out, choose --likelihood "
                    f"mixed, which takes text, or, if these are labels, give --label {shown(label)}"
                )


def _suspects(table: Table) -> list[int]:
    """Columns named like labels."""
    return [i for i, name in enumerate(table.names) if name.lower() in LABELS]


def _looks_like_labels(table: Table, column: int) -> bool:
    names = [name.lower() for name in table.names]
    numbers, words = _numbers_and_words(table.texts[column])
    beside_x = names[column] == Y and X in names
    return names[column] == LABEL or bool(words) or not (beside_x or not _are_classes(numbers))


def _labelled(table: Table, column: int, origin: str) -> Table:
    """The table without this column, which becomes its labels if it has none.

    Raises
    ------
    DataError
        A label is missing.
    """
    texts = table.texts[column] if column in table.texts else [repr(float(value)) for value in table.values[:, column]]
    numbers, words = _numbers_and_words(texts)
    called, others = table.called(column), table.without([column])
    gaps = gaps_in_text() if words else MISSING
    missing = next((row for row, text in enumerate(texts) if text.lower() in gaps), None)
    if missing is not None:
        raise DataError(
            f"{origin}: {table.places.row(missing)}, {called}: a label is missing: fill it in, or leave its row out"
        )
    if not words and not _are_whole(numbers):
        return others.noted(f"{called} is not trained on, and its numbers are not class labels: figures do not show them")
    classes, labels = np.unique(texts, return_inverse=True) if words else ((), numbers)
    others = others.noted(f"{called} holds labels ({len(np.unique(labels))} different): not trained on")
    if table.labels is not None:
        return others
    return replace(others, labels=labels.astype(np.int64), classes=tuple(str(name) for name in classes))


def _are_whole(numbers: NDArray[np.float64]) -> bool:
    return bool((np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2.0**53)).all())


def _numbers_and_words(texts: Sequence[str]) -> tuple[NDArray[np.float64], list[str]]:
    """The texts as numbers (NaN if a text is not one), and the texts that are neither numbers nor missing."""
    numbers = np.array([number_in(text) for text in texts])
    words = [texts[row] for row in np.flatnonzero(np.isnan(numbers)).tolist() if texts[row].lower() not in MISSING]
    return numbers, words


def _are_classes(numbers: NDArray[np.float64]) -> bool:
    known = numbers[~np.isnan(numbers)]
    return bool((known == np.floor(known)).all()) and len(np.unique(known)) <= MOST_CLASSES
