"""Recognise columns that number or name the rows, and leave them out."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.csvfaults import remedy_of, unit_of
from vaefast.data.csvfields import MISSING, is_number, number_in
from vaefast.data.csvlines import disagreement
from vaefast.data.labels import LABELS
from vaefast.data.table import Table
from vaefast.data.wording import shown
from vaefast.errors import DataError

# Names of the index columns of `to_csv` in pandas and `write.csv` in R, also after a file was read and written again.
UNNAMED = re.compile(r"(unnamed: 0(\.\d+)?)?", re.IGNORECASE)
# Names of a first column that is left out if it counts the rows, or gives many rows different numbers.
COUNTERS = (
    "index", "id", "row", "rowid", "row_id", "rownames", "rownumber", "__index_level_0__", "#", "no", "no.", "nr", "nr.",
)  # fmt: skip
# Or that end so: customer_id, Passenger ID, PassengerId.
ENDS_IN_ID = re.compile(r".*([ _.-][iI][dD]|[a-z](Id|ID))")
# What a last row is called that sums up the others, in the languages of many spreadsheets.
SUMMARIES = (
    "total", "totals", "grand total", "subtotal", "sum", "mean", "average", "gesamt", "gesamtergebnis", "summe", "somme",
    "total général", "total general", "suma", "totale", "totaal",
)  # fmt: skip
# From this many rows on, different whole numbers in a column such as `id` are taken as row numbers.
MANY = 10


def is_counter(name: str) -> bool:
    """Whether a first column of this name may be one of `COUNTERS`."""
    return name.lower() in COUNTERS or ENDS_IN_ID.fullmatch(name) is not None


def unnamed(names: Sequence[str]) -> list[int]:
    """Numbers of the leading columns without a name of their own."""
    end = next((i for i, name in enumerate(names) if not UNNAMED.fullmatch(name)), len(names))
    return list(range(end))


def may_hold_text(names: Sequence[str], chosen: Collection[int], known: Sequence[str] = ()) -> set[int]:
    """Columns that are no data, whatever they hold: the unnamed ones in front, labels, and those that nobody wants.

    Parameters
    ----------
    chosen
        Columns that are chosen for something, such as labels.
    known
        Names of the columns that are wanted, if they are known; only where all are there can the others be told.
    """
    others = {i for i, name in enumerate(names) if name not in known} if known and {*known} <= {*names} else set[int]()
    named = {i for i, name in enumerate(names) if name.lower() in LABELS}
    return {*unnamed(names)} | named | others | {*chosen}


def without_index(table: Table, origin: str, lacks_a_name: bool = False, chosen: Collection[int] = ()) -> Table:
    """The table without its leading index columns, and without columns that have neither a name nor a value; with notes on
    them, and on a last row that sums up the others.

    Parameters
    ----------
    lacks_a_name
        Whether the header has one name fewer than a row has fields.
    chosen
        Columns that are chosen for something, such as labels: they are no index.

    Raises
    ------
    DataError
        A column has no name and is not an index, or there is no other column.
    """
    found = _without_nothing(_without_index(table, origin, lacks_a_name, chosen))
    if not found.at:
        raise DataError(f"{origin} has no column beside the names of its rows: give at least one column of data")
    return found.noted(_last_row(found))


def _without_index(table: Table, origin: str, lacks_a_name: bool, chosen: Collection[int]) -> Table:
    for at in unnamed(table.names):
        held = _index_held(table.texts[at])
        if not held and not lacks_a_name and all(text.lower() in MISSING for text in table.texts[at]):
            held = "nothing"
        if not held and lacks_a_name:
            raise disagreement(origin, len(table.names) - 1, len(table.names))
        if not held:
            raise DataError(
                f"{origin}: its first column has no name and is not an index of the rows, because its numbers are not whole "
                "or not all different: name it in the header to train on it, or remove it"
            )
        what = "no values" if held == "nothing" else f"the rows' {held}"
        table = table.noted(f"the first column has no name and holds {what}: left out")
    nameless = unnamed(table.names)
    if nameless:
        return replace(table.without(nameless), row_names=tuple(table.texts[nameless[0]]))
    said = "" if 0 in chosen else _numbering(table)
    if not said:
        return table
    texts = table.texts.get(0)
    return replace(table.noted(f"the first column{said}: left out").without([0]), row_names=tuple(texts or ()))


def _without_nothing(table: Table) -> Table:
    """The table without its columns that have neither a name nor a value, as spreadsheets leave them behind the others."""
    empty = [at for at, name in enumerate(table.names) if not name and _is_empty(table, at)]
    one = len(empty) == 1
    note = f"{len(empty)} column{'' if one else 's'} without a name and without values: left out" if empty else ""
    return table.without(empty).noted(note)


def _is_empty(table: Table, at: int) -> bool:
    if table.fields is not None:
        return bool(table.fields.columns[at].missing.all())
    return at not in table.texts and bool(np.isnan(table.values[:, at]).all())


def _last_row(table: Table) -> str:
    """The notice on a last row whose name, or whose first text, says that it sums up the others; empty for other tables."""
    texts = [*table.row_names[-1:], *(table.texts[at][-1] for at in sorted(table.texts) if table.texts[at])]
    said = next((text for text in texts[:1] if text.strip(" :").lower() in SUMMARIES), "")
    return f"the last row is named {shown(repr(said))}: if it sums up the others, take it out" if said else ""


def _numbering(table: Table) -> str:
    """What a first column that is an index holds, in words; empty for a column of data."""
    if not table.names:
        return " counts the rows" if _counts_on(table.values) else ""
    if 0 not in table.texts or len(table.at) < 2:
        return ""
    texts, called = table.texts[0], f", {shown(table.names[0])},"
    if not is_counter(table.names[0]):
        return f"{called} names the rows" if are_names(texts) else ""
    held = _index_held(texts)
    if _counts_rows(texts):
        return f"{called} counts the rows"
    if held == "numbers" and len(texts) >= MANY:
        return f"{called} numbers the rows"
    return f"{called} names the rows" if held == "names" and len({*texts}) == len(texts) else ""


def are_names(texts: list[str]) -> bool:
    """Whether these are words, ten or more, no two of them the same. Numbers spelt otherwise, such as 1.234,5, are none."""
    words = len(texts) >= MANY and not any(field.lower() in MISSING or is_number(field) for field in texts)
    return words and len({*texts}) == len(texts) and not _are_odd_numbers(texts)


def _are_odd_numbers(texts: list[str]) -> bool:
    """Whether these are numbers spelt otherwise, or measurements in one unit behind a space: 12A may be the name of a row."""
    units = {unit_of(field) if " " in field or not field[0].isdigit() else "" for field in texts}
    return all(remedy_of(field, ".") for field in texts) or (len(units) == 1 and units != {""})


def _counts_on(values: NDArray[Any]) -> bool:
    """Whether the first column counts ten rows or more from 0 or from 1."""
    if len(values) < MANY or values.shape[1] < 2 or values[0, 0] not in (0, 1):
        return False
    return bool(np.array_equal(values[:, 0], np.arange(len(values)) + values[0, 0]))


def _index_held(texts: list[str]) -> str:
    """`names` or `numbers`, if the values can be those of the rows; otherwise empty."""
    if not all(is_number(field) for field in texts):
        return "names" if any(field.lower() not in MISSING and not is_number(field) for field in texts) else ""
    numbers = [number_in(field) for field in texts]
    whole = all(number.is_integer() for number in numbers)
    return "numbers" if whole and len({*numbers}) == len(numbers) else ""


def _counts_rows(texts: list[str]) -> bool:
    numbers = [number_in(field) for field in texts]
    return any(numbers == [first + i for i in range(len(numbers))] for first in (0, 1)) and len(numbers) > 1
