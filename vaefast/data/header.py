"""Whether the first line of a text table names its columns."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence

from vaefast.data.csvfields import MISSING, TRUTHS, counts, is_number, number_in
from vaefast.data.labels import LABELS
from vaefast.data.wording import shown

# A first line of numbers alone can be a header only from this many columns on: 0 and 1 alone may well be a row of data.
FEWEST_COUNTED = 3
# Fewer numbers in equal steps, or fewer that only rise, may be a row of data as well.
FEWEST_STEPS, FEWEST_RISING = 3, 6
FEWEST_STEPS_ALONE = 5
# How far steps may differ from each other: wavelengths are often written with two or three decimals.
STEP_TOLERANCE = 0.02
# The share of other lines from which on the first is one of them.
NEARLY_ALL = 0.9
# Dates and times of day are no names: 2020-01-31, 31.1.2020, 1/31/20, 10:30.
TIME = re.compile(r"\d{1,4}[-./:]\d{1,2}([-./: T]|$)")
# Fields of a line that a notice shows.
MOST_SHOWN = 4


def is_header(first: list[str], others: list[list[str]], is_quoted: bool = False) -> bool:
    """Whether the first line names the columns.

    It does where none of its fields is a number, and at least one is a name. With numbers, no two fields and no other
    line alike, it does in these cases:

    - It is quoted, and the numbers of the next line are not (`is_quoted`), as R writes it.
    - It has one field fewer than the others, which begin with words: the names of the rows lack a name.
    - Its numbers are rising or falling years (`Country Name,Country Code,1990,2000`), and those of the other lines are not.
    - Its numbers only count columns, from 0 or from 1, and stand beside names (`label,0,1,2`; two numbers at least) or behind
      the empty name of an index column (`,0,1`).
    - All its fields count, over `FEWEST_COUNTED` columns or more. It does not if the second line continues the count, as in a
      table of running numbers.
    - A name in front, and a name over a column of numbers (`user,10,25`).
    - An empty field in front, over running numbers (`,205,101` over 0, 1, 2).
    - Its numbers rise or fall in equal steps (`sample,400,402.5,405`): three or more beside names or behind an empty field,
      else five or more. Those of the other lines do not.
    - Its numbers rise or fall, those of the other lines do not, and one of these holds: an empty field in front stands over a
      full column (`,10,25`), a name is one of labels (`class,100,200`), or six numbers or more stand beside names.

    Parameters
    ----------
    first
        Fields of the first line.
    others
        Fields of the lines that follow, as far as they are known.
    is_quoted
        Whether all fields of the first line are quoted, and numbers of the next line are not.
    """
    places = [at for at, field in enumerate(first) if is_number(field)]
    numbers = [first[at] for at in places]
    names = [at for at, field in enumerate(first) if _is_name(field)]
    if not numbers:
        return bool(names)
    if not others:
        return counts(numbers) and (len(numbers) > 1 if names else not first[0])
    if len({*first}) < len(first) or first in others:
        return False
    if is_quoted:
        return True
    if counts(numbers) and _counts_columns(first, numbers, names, others[0]):
        return True
    if len(names) + len(numbers) + (not first[0]) < len(first):
        return False
    if names[:1] == [0] and any(_are_numbers(others, at) for at in names):
        return True
    if len(numbers) < 2:
        return False
    shift = int(all(len(line) == len(first) + 1 and _is_name(line[0]) for line in others))
    held = _below(others, places, shift)
    if rise(numbers[::-1]):  # wavenumbers, and the newest year first
        numbers, held = numbers[::-1], [line[::-1] for line in held]
    is_named = bool(names) or not first[0]
    if are_years(numbers) and len(numbers) >= (2 if is_named else FEWEST_COUNTED):
        return not _nearly_all(_are_of_our_time, held)
    if not first[0] and counts([line[0] for line in others]):
        return True
    if not rise(numbers):
        return False
    if len(numbers) >= (FEWEST_STEPS if is_named else FEWEST_STEPS_ALONE) and in_steps(numbers):
        return not _nearly_all(in_steps, held)
    is_long = is_named and len(numbers) >= FEWEST_RISING
    has_labels = any(first[at].lower() in LABELS for at in names)
    likely = bool(shift) or is_long or has_labels or _is_over_a_column(first, others)
    return likely and not _nearly_all(rise, held)


def _counts_columns(first: list[str], numbers: list[str], names: list[int], second: list[str]) -> bool:
    """Whether numbers that count are those of columns."""
    if names:
        return len(numbers) > 1
    if not first[0]:
        return len(numbers) == len(first) - 1
    goes_on = [str(int(number) + len(numbers)) for number in numbers]
    return FEWEST_COUNTED <= len(numbers) == len(first) == len(second) and second != goes_on


def _is_over_a_column(first: list[str], others: list[list[str]]) -> bool:
    """Whether an empty field in front stands over words or over numbers, all of them there, no two alike."""
    below = [line[0] for line in others if line and line[0].lower() not in MISSING]
    are_alike = all(map(is_number, below)) or not any(map(is_number, below))
    return not first[0] and len(below) == len({*below}) == len(others) and are_alike


def _are_numbers(lines: list[list[str]], at: int) -> bool:
    """Whether all fields of a column are numbers or missing, and one is a number at least."""
    below = [line[at] for line in lines if at < len(line) and line[at].lower() not in MISSING]
    return bool(below) and all(map(is_number, below))


def _below(others: list[list[str]], places: list[int], shift: int = 0) -> list[list[str]]:
    """The fields of other lines at these places."""
    return [[line[at + shift] for at in places if at + shift < len(line)] for line in others]


def _is_name(field: str) -> bool:
    return field.lower() not in (*MISSING, *TRUTHS) and not is_number(field) and not TIME.match(field)


def _nearly_all(judge: Callable[[list[str]], bool], rows: list[list[str]]) -> bool:
    """Whether nine in ten of these rows are so. Of random pairs of numbers, half rise."""
    return sum(map(judge, rows)) >= NEARLY_ALL * len(rows)


def rise(numbers: Sequence[str]) -> bool:
    """Whether these are two finite numbers or more, each larger than the one before."""
    values = [number_in(number) for number in numbers]
    return len(values) > 1 and all(map(math.isfinite, values)) and all(a < b for a, b in itertools.pairwise(values))


def in_steps(numbers: Sequence[str]) -> bool:
    """Whether these rise in equal steps."""
    if not rise(numbers):
        return False
    values = [number_in(number) for number in numbers]
    steps = [after - before for before, after in itertools.pairwise(values)]
    return max(steps) - min(steps) <= STEP_TOLERANCE * max(steps)


def remark(names: list[str]) -> str:
    """The notice on a header that holds numbers; empty for others, and for years or numbers of columns beside names."""
    if counted(names):
        return counted(names)
    numbers = [*filter(is_number, names)]
    if not numbers or _are_of_our_time(numbers) or counts(numbers):
        return ""
    return f"the first line holds numbers, from {numbers[0]} to {numbers[-1]}, and names the columns: taken as a header"


def doubt(first: list[str], others: list[list[str]]) -> str:
    """The notice on a first line that is taken as a row and may be a header; empty for other lines."""
    places = [at for at, field in enumerate(first) if is_number(field)]
    numbers = [first[at] for at in places]
    if not numbers or len({*first}) < len(first) or any(line[:1] == first[:1] for line in others):
        return ""
    if len(numbers) == len(first):
        if not are_years(numbers) or _nearly_all(_are_of_our_time, _below(others, places)):
            return ""
    elif (first[0] and not _is_name(first[0])) or _nearly_all(rise, _below(others, places)):
        return ""
    line = shown(", ".join(first[:MOST_SHOWN])) + (", ..." if len(first) > MOST_SHOWN else "")
    return f"the first line ({line}) is taken as a row: if it names the columns, begin each of its numbers with a letter"


def counted(names: list[str]) -> str:
    """The notice on a header that only counts the columns; empty for other headers."""
    names = names if not names or names[0] else names[1:]
    return f"the first line counts the columns {names[0]} to {names[-1]}: taken as a header" if counts(names) else ""


def are_running(names: Sequence[str]) -> bool:
    """Whether names are numbers that count or are few, in any order, so that a row of data may hold the same."""
    if not all(name.isdecimal() for name in names):
        return False
    return len(names) < FEWEST_COUNTED or counts([*sorted(names, key=int)])


def are_years(numbers: list[str]) -> bool:
    """Whether these are two years or more of our time, each later than the one before."""
    return rise(numbers) and _are_of_our_time(numbers)


def _are_of_our_time(numbers: Sequence[str]) -> bool:
    """Whether these are years, in any order."""
    return bool(numbers) and all(len(year) == 4 and year.isdigit() and 1800 <= int(year) < 2200 for year in numbers)
