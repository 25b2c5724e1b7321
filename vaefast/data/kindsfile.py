"""The columns of a text file as they are, of whatever kind: numbers, whole numbers, true and false, or text."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaefast.data.csvfaults import BEYOND, ragged, remedy_of, unit_of
from vaefast.data.csvfields import MISSING, TRUTHS, WORDS_OF_TEXT, fields_of, gaps_in_text, number_in
from vaefast.data.csvlines import Lines
from vaefast.data.csvtable import MOST_SHARED, OTHER_ENCODING, opened_lines, with_encoding
from vaefast.data.dialect import with_point
from vaefast.data.header import MOST_SHOWN, remark
from vaefast.data.indexes import are_names, is_counter, may_hold_text, without_index
from vaefast.data.labels import column_of
from vaefast.data.table import Table
from vaefast.data.told import WANTED, of_texts
from vaefast.data.wording import shown
from vaefast.errors import DataError
from vaefast.models.fields import BOOLEANS, LABELS, NUMBERS, WHOLE, Field, Fields

# Rows whose fields are held before they go to their columns.
BLOCK = 4096
# A column of numbers in which at most one value in so many is text has a slip of the pen in it, and is no column of text.
ROWS_A_SLIP = 20
# From this many different numbers with one unit on, most of them seen once or twice, they are measurements, and no categories
# such as 10 mg and 20 mg.
MANY_MEASURES = 10
# A whole number as it is written. pandas, too, takes a column of these alone for one of whole numbers.
WHOLE_NUMBER = re.compile(r"[-+]?\d{1,18}")


@dataclass(frozen=True)
class Kinds:
    """How columns of different kinds are read.

    Parameters
    ----------
    wanted
        Whether the columns are known to be of different kinds. Otherwise a file of numbers alone is read as such first.
    as_text
        Names of columns, or their numbers from 1, that are text whatever they hold.
    categories
        Those that may hold text among numbers, because a user has said that they are categories.
    """

    wanted: bool = False
    as_text: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Gaps:
    """What a field says, in lower case, where a value is missing: in columns of numbers, and in columns of text."""

    in_numbers: frozenset[str]
    in_text: frozenset[str]

    @classmethod
    def told(cls, missing: Sequence[str]) -> Gaps:
        """The usual words, and those that a user has given."""
        told = {token.lower() for token in missing}
        return cls(frozenset({*MISSING, *told}), gaps_in_text(MISSING, told))


def read_kinds(
    path: Path,
    label: str | None = None,
    known: Sequence[str] = (),
    told: Sequence[str] = (),
    missing: Sequence[str] = (),
    kinds: Kinds = Kinds(),
) -> Table:
    """All columns except the index of the rows, which is found as `read_table` finds it, with their `fields`.

    The values of a column of text are NaN, and its texts are kept.

    Parameters
    ----------
    label, known, told, missing
        As for `read_table`. Any column may miss values.

    Raises
    ------
    DataError
        As for `read_table`, but for text; or a column of numbers has some text in it, or all of its text is numbers that are
        written in a way that nobody can tell.
    """
    gaps = Gaps.told(missing)
    return with_encoding(path, lambda encoding: _read(path, label, known, told, gaps, kinds, encoding))


def _read(
    path: Path,
    label: str | None,
    known: Sequence[str],
    told: Sequence[str],
    missing: Gaps,
    kinds: Kinds,
    encoding: str | None,
) -> Table:
    origin = shown(path)
    with opened_lines(path, encoding, known) as lines:
        names, lacks_a_name = lines.header()
        told_at = [column_of(name, names, lines.width(), origin, WANTED) for name in told]
        chosen = {*told_at} | (set() if label is None else {column_of(label, names, lines.width(), origin)})
        columns, decimal, places = _columns(lines), lines.dialect.decimal, lines.places
    if not columns or not columns[0]:
        raise DataError(f"{origin} holds no rows: give one a line, with commas between its values")
    if names:
        _check_second_line(columns, missing, decimal, places.row(0), origin)
    as_text, categories = (
        {at for at in range(len(columns)) if {str(at + 1), *names[at : at + 1]} & chosen}
        for chosen in (kinds.as_text, kinds.categories)
    )
    watched = may_hold_text(names, chosen, known) | ({0} if names and is_counter(names[0]) else set())
    named_rows = bool(names) and 0 not in as_text | categories and are_names(columns[0])
    fields = [_field(names[at] if names else at, texts, missing, decimal, at in as_text) for at, texts in enumerate(columns)]
    values = np.column_stack([field.values if field.values.dtype == np.float64 else _nothing(field) for field in fields])
    texts = {at: texts for at, texts in enumerate(columns) if fields[at].family == LABELS}
    texts |= {at: [with_point(text, decimal) for text in columns[at]] for at in sorted(watched)}
    held = Fields(tuple(fields), len(values), bool(names), typed=False)
    table = (
        Table(tuple(names), values, texts, tuple(range(len(columns))), places, fields=held)
        .noted(remark(names))
        .noted(*lines.notes)
    )
    for at, field in enumerate(fields):
        if field.family == LABELS and at not in watched | as_text | categories and not (at == 0 and named_rows):
            _check_text(table, at, field, decimal, origin)
    found = [of_texts((names[at] if names else "") or given, texts.get(at, columns[at]), _cell_of(table, at), origin, at)
             for given, at in zip(told, told_at, strict=True)]  # fmt: skip
    return without_index(replace(table, told=tuple(found)), origin, lacks_a_name, chosen | ({0} & (as_text | categories)))


def _cell_of(table: Table, at: int) -> Callable[[int], str]:
    return lambda row: table.cell(row, at)


def _columns(lines: Lines) -> list[list[str]]:
    """The texts of each column, without surrounding spaces and quotes; equal ones share a string."""
    columns: list[list[str]] = []
    shared: list[dict[str, str]] = []
    for rows in _blocks(lines):
        if not columns:
            columns, shared = [[] for _ in range(lines.columns)], [{} for _ in range(lines.columns)]
        for column, known, texts in zip(columns, shared, zip(*rows, strict=True), strict=True):
            if len(known) < MOST_SHARED:
                known.update({text: text for text in texts if text not in known})
            column += [known.get(text, text) for text in texts]
    return columns


def _blocks(lines: Lines) -> Iterator[list[list[str]]]:
    rows: list[list[str]] = []
    for _ in lines:
        fields = fields_of(lines.raw, lines.dialect.separator)
        if len(fields) != lines.columns:
            raise DataError(f"{lines.origin}: {ragged(lines, len(fields))}")
        rows.append(fields)
        if len(rows) == BLOCK:
            yield rows
            rows = []
    if rows:
        yield rows


def _nothing(field: Field) -> NDArray[np.float64]:
    return np.full(len(field.values), np.nan)


def _field(name: str | int, texts: list[str], missing: Gaps, decimal: str, as_text: bool) -> Field:
    """A column as pandas would have it: whole numbers with gaps are floats."""
    distinct = {*texts}
    observed = {text for text in distinct if text.lower() not in missing.in_numbers}
    if observed and not as_text and all(text.lower() in TRUTHS for text in observed):
        values = np.array([TRUTHS.get(text.lower(), np.nan) if text in observed else np.nan for text in texts])
        return Field(name, BOOLEANS, values, "boolean" if len(observed) < len(distinct) else "bool")
    numbers = {text: _number(text, decimal) for text in observed}
    if not as_text and not any(np.isnan(number) for number in numbers.values()):
        values = np.array([numbers.get(text, np.nan) for text in texts])
        whole = len(observed) == len(distinct) and all(WHOLE_NUMBER.fullmatch(text) for text in observed)
        return Field(name, WHOLE, values, "int64") if whole else Field(name, NUMBERS, values, "float64")
    observed = {text for text in distinct if text.lower() not in missing.in_text}
    labels = np.empty(len(texts), object)
    labels[:] = [text if text in observed else None for text in texts]
    return Field(name, LABELS, labels, "object")


def _number(text: str, decimal: str) -> float:
    return number_in(text.replace(",", ".") if decimal == "," else text)


def _check_second_line(columns: list[list[str]], missing: Gaps, decimal: str, where: str, origin: str) -> None:
    """Refuse a line of words between the header and columns of numbers: the names below a title, or units.

    Raises
    ------
    DataError
        It holds a word in each column, and most of the columns hold numbers alone below it.
    """
    first = [column[0] for column in columns]
    if len(columns[0]) < 2 or any(
        text.lower() in missing.in_numbers or not np.isnan(_number(text, decimal)) for text in first
    ):
        return
    numbers = 0
    for column in columns:
        below = [_number(text, decimal) for text in {*column[1:]} if text.lower() not in missing.in_numbers]
        numbers += bool(below) and not np.isnan(below).any()
    if 2 * numbers > len(columns):
        words = shown(", ".join(first[:MOST_SHOWN])) + (", ..." if len(first) > MOST_SHOWN else "")
        raise DataError(
            f"{origin}: {where} holds words ({words}) above numbers: if it names the columns, remove what stands above it; if "
            "it gives their units, remove it"
        )


def _check_text(table: Table, at: int, field: Field, decimal: str, origin: str) -> None:
    """Refuse text that should be numbers.

    Raises
    ------
    DataError
        The column holds numbers with a few words among them, or all of its text is written as numbers are by some.
    """
    rows = [row for row in np.flatnonzero(~field.missing).tolist() if field.values[row].lower() not in WORDS_OF_TEXT]
    words = [row for row in rows if np.isnan(_number(field.values[row], decimal))]
    numbers = len(rows) - len(words)
    first, cell = field.values[words[0]], table.cell(words[0], at)
    name = table.names[at] if table.names and table.names[at] else at + 1
    as_text = f"take the column as text, --column-types {shown(name)}=categorical"
    odd = [row for row in words if remedy_of(field.values[row], decimal)]
    if len(words) - len(odd) <= len(odd) / ROWS_A_SLIP:
        first, cell = field.values[odd[0]], table.cell(odd[0], at)
        raise DataError(f"{origin}: {cell} is {shown(repr(first[:40]))}: {remedy_of(first, decimal)}, or {as_text}")
    units = {unit_of(field.values[row]) for row in words}
    distinct = len({field.values[row] for row in rows})
    if len(units) == 1 and "" not in units and distinct >= MANY_MEASURES and distinct * 3 > len(rows):
        how = "without < or >" if units == {BEYOND} else "without their unit"
        raise DataError(f"{origin}: {cell} is {shown(repr(first[:40]))}: write plain numbers, {how}, or {as_text}")
    # One word beside many different numbers says that a value is missing: `unknown`, `below limit`.
    one_word = len({field.values[row] for row in words}) == 1 and distinct > MANY_MEASURES
    if len(words) * ROWS_A_SLIP <= numbers or one_word:
        raise DataError(
            f"{origin}: {cell} is {shown(repr(first[:40]))}, which is not a number: give a number, say by --missing that it "
            f"stands for a missing value, or {as_text}"
        )


def with_fields(table: Table, path: Path, missing: Sequence[str] = ()) -> Table:
    """A table of numbers, read by `read_table`, with its `fields` where its columns have different types."""
    columns = [table.values[:, at] for at in range(len(table.at))]
    holes, gaps = [bool(np.isnan(values).any()) for values in columns], Gaps.told(missing)
    numbers = [at for at in range(len(columns)) if at not in table.texts and table.at[at] not in table.truths]
    whole = [at for at in numbers if not holes[at] and bool((columns[at] == np.rint(columns[at])).all())]
    if not whole and not table.truths and not table.texts:
        return table
    written = _written_whole(path, [table.at[at] for at in whole], table.names) if whole else set()
    fields = []
    for at, values in enumerate(columns):
        name = table.names[at] if table.names else at
        if at in table.texts:
            fields.append(_field(name, table.texts[at], gaps, ".", False))
        elif table.at[at] in table.truths:
            fields.append(Field(name, BOOLEANS, values, "boolean" if holes[at] else "bool"))
        else:
            is_whole = table.at[at] in written
            fields.append(Field(name, WHOLE if is_whole else NUMBERS, values, "int64" if is_whole else "float64"))
    return replace(table, fields=Fields(tuple(fields), len(table.values), bool(table.names), typed=False))


def _written_whole(path: Path, places: Collection[int], names: Sequence[str]) -> set[int]:
    """Which of these columns of a text file of numbers are written as whole numbers, without a decimal sign or an exponent."""

    def scan(encoding: str | None) -> set[int]:
        left = {*places}
        with opened_lines(path, encoding, names) as lines:
            lines.header()
            decimal = lines.dialect.decimal
            for _ in lines:
                raw = lines.raw
                if decimal not in raw and "e" not in raw and "E" not in raw:
                    continue
                fields = fields_of(raw, lines.dialect.separator)
                left = {at for at in left if at < len(fields) and WHOLE_NUMBER.fullmatch(fields[at])}
                if not left:
                    break
        return left

    try:
        return scan(None)
    except UnicodeDecodeError:
        return scan(OTHER_ENCODING)
