"""Whether the first line of a text table names its columns."""

from __future__ import annotations

import itertools

from vaefast.data.csvfields import MISSING, is_number

# A first line of numbers alone can be a header only from this many columns on: 0 and 1 alone may well be a row of data.
FEWEST_COUNTED = 3


def is_header(first: list[str], second: list[str]) -> bool:
    """Whether the first line names the columns, seeing the line that follows (no fields if there is none).

    It does in four cases:

    - None of its fields is a number, and at least one is a name.
    - Its numbers are rising years beside one name or none, and those of the second line are not (`Country,1990,2000`).
    - Its numbers only count columns, from 0 or from 1, and stand beside names (`label,0,1,2`; two numbers at least) or behind
      the empty name of an index column (`,0,1`).
    - All its fields count, over `FEWEST_COUNTED` columns or more. It does not if the second line is equal to it or continues
      the count, as in a table of running numbers.
    """
    numbers = [field for field in first if is_number(field)]
    is_named = any(field.lower() not in MISSING and not is_number(field) for field in first)
    if not numbers:
        return is_named
    if are_years(numbers) and len(numbers) == len(first) - 1 and not are_years([*filter(is_number, second)]):
        return True
    if not _counts(numbers):
        return False
    if is_named:
        return len(numbers) > 1
    if not first[0]:
        return len(numbers) == len(first) - 1
    goes_on = [str(int(number) + len(numbers)) for number in numbers]
    return FEWEST_COUNTED <= len(numbers) == len(first) == len(second) and second not in (first, goes_on)


def counted(names: list[str]) -> str:
    """The notice on a header that only counts the columns; empty for other headers."""
    names = names if not names or names[0] else names[1:]
    return f"the first line counts the columns {names[0]} to {names[-1]}: taken as a header" if _counts(names) else ""


def are_years(numbers: list[str]) -> bool:
    """Whether these are two years or more of our time, each later than the one before."""
    years = [int(number) for number in numbers if len(number) == 4 and number.isdigit()]
    return 1 < len(years) == len(numbers) and all(1800 <= year < later < 2200 for year, later in itertools.pairwise(years))


def _counts(numbers: list[str]) -> bool:
    """Whether these fields count from 0 or from 1, in plain whole numbers."""
    return any(numbers == [str(first + i) for i in range(len(numbers))] for first in (0, 1)) and bool(numbers)
