"""Which first lines of a text table name its columns, where they hold numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vaefast.data import Numbers, Reading, Rows, read_any
from vaefast.data.csvfile import are_pictures
from vaefast.data.header import is_header
from vaefast.data.kindsfile import Kinds
from vaefast.data.numbersfile import read_columns
from vaefast.data.table import Table

RNG = np.random.default_rng(0)
ROWS = 30
TAKEN, ROW = "names the columns: taken as a header", "is taken as a row: if it names the columns"


def lines(kind: str, columns: int) -> list[str]:
    """Lines of random numbers behind a first field: a `name`, a `number`, a `class`, two names, or none at all.

    Those of a `curve` rise.
    """
    if kind == "years":
        return [f"car {i},{2000 + i},{2000 + i * 7 % 20}" for i in range(ROWS)]
    if kind == "rising":
        return [f"{i},{i}.5,{i + 1},{i + 7}" for i in range(ROWS)]
    fronts: dict[str, Callable[[int], str]] = {
        "name": lambda i: f"s{i},",
        "quoted": lambda i: f'"s{i}",',
        "number": lambda i: f"{i},",
        "count": lambda i: f"{i * 7 % 5},",
        "class": lambda i: "ab"[i % 2] + ",",
        "two": lambda i: f"land {i},L{i},",
        "numbers": lambda i: f"{'ab'[i % 2]},{i}.5,",
        "time": lambda i: f"2020-01-01 00:{i:02},",
        "none": lambda i: "",
    }
    if kind == "curve":
        return [f"s{i},0.5,{1 + i},{i * i + 9}" for i in range(ROWS)]
    return [fronts[kind](i) + ",".join(f"{value:.3f}" for value in RNG.normal(size=columns)) for i in range(ROWS)]


def columns_of(tmp_path: Path, first: str, rows: list[str]) -> Table:
    path = tmp_path / "a.csv"
    path.write_text("\n".join([first, *rows, ""]))
    return read_columns(path, "text", kinds=Kinds())


@pytest.mark.parametrize(
    ("first", "kind", "columns", "names"),
    [
        ("sample,400.0,402.5,405.0,407.5", "name", 4, ("400.0", "402.5", "405.0", "407.5")),  # wavelengths
        ("sample,400.07,402.49,404.93", "name", 3, ("400.07", "402.49", "404.93")),  # of an instrument
        ("id,1,2,5,7,11,60", "count", 6, ("id", "1", "2", "5", "7", "11", "60")),  # minutes
        (",400,402", "number", 2, ("400", "402")),  # the index of pandas beside them
        (",400,402,405", "name", 3, ("400", "402", "405")),
        ("time,0,5,10", "curve", 3, ("0", "5", "10")),  # over values that rise, too
        ("class,100,200", "class", 2, ("class", "100", "200")),
        ("user,10,25", "count", 2, ("user", "10", "25")),
        ("Country Name,Country Code,1990,1991", "two", 2, ("Country Code", "1990", "1991")),
        ("2019,2020,2021", "none", 3, ("2019", "2020", "2021")),
        ("400,402.5,405,407.5,410", "none", 5, ("400", "402.5", "405", "407.5", "410")),
        ("400,402.5,405", "name", 3, ("400", "402.5", "405")),  # the names of R's rows have no name
        ("sample,4000,3998,3996", "name", 3, ("4000", "3998", "3996")),  # wavenumbers
        ("geo,2020,2019,2018", "class", 3, ("geo", "2020", "2019", "2018")),
        (",205,101,333", "number", 3, ("205", "101", "333")),  # the columns of a pivot, which have no order
        ("age,5,10,25", "rising", 3, ("age", "5", "10", "25")),  # percentiles
        ("country,gdp,2019", "numbers", 1, ("country", "gdp", "2019")),
        ('"10","3"', "quoted", 2, ("10", "3")),  # write.table quotes names, and no numbers
        ('"","10","3"', "quoted", 2, ("10", "3")),
    ],
)
def test_numbers_that_name_columns(tmp_path, first, kind, columns, names):
    table = columns_of(tmp_path, first, lines(kind, columns))
    assert table.names == names
    assert len(table.values) == ROWS
    assert any(note.endswith(TAKEN) for note in table.notes) == ("20" not in first[:2] and "19" not in first)


@pytest.mark.parametrize(
    ("first", "kind", "columns"),
    [
        ("Bob,10,25", "class", 2),  # two numbers rise in every second row
        ("M,3,1,2", "class", 3),
        ("2019,2020", "none", 2),
        ("1.5,2.5,4", "none", 3),
        ("2020-01-01 00:59,1,2", "time", 2),
        ("10:30,0,1,2", "name", 3),
        ("True,0,1", "class", 2),
        ("Ford,2003,2010", "years", 2),
        ("5.1,7.2,abc", "none", 3),  # a slip of the pen
        (",10,7", "count", 2),
    ],
)
def test_rows_that_begin_with_numbers_or_names_stay_rows(first, kind, columns):
    assert not is_header(first.split(","), [line.split(",") for line in lines(kind, columns)])


def test_a_row_that_may_be_a_header_is_told(tmp_path):
    for first, kind in (("Bob,10,25", "class"), ("2019,2020", "none")):
        table = columns_of(tmp_path, first, lines(kind, 2))
        assert len(table.values) == ROWS + 1
        assert any(ROW in note for note in table.notes)
    assert not columns_of(tmp_path, "a,25,10", lines("class", 2)).notes
    running = [f"Bob,{i},{i + 1},{i + 2}" for i in range(1, ROWS)]
    assert not columns_of(tmp_path, "Bob,10,11,12", running).notes


def test_columns_that_are_named_by_numbers_are_pixels_only_where_they_count(tmp_path):
    path = tmp_path / "a.csv"
    reals, shares = RNG.normal(size=(ROWS, 3)), RNG.random((ROWS, 3))
    labels = np.arange(ROWS) % 3
    for names, values, pictures in (
        ("0,1,2,target", np.c_[reals, labels], False),
        ("400,402,404,target", np.c_[shares, labels], False),
        ("0,1,2,target", np.c_[shares, labels], True),
        ("pixel0,pixel1,pixel2,target", np.c_[shares, labels], True),
    ):
        np.savetxt(path, values, "%.3f", ",", header=names, comments="")
        found = read_any(str(path), how=Reading(label="target"))
        assert isinstance(found, Rows if pictures else Numbers)
        assert found.labels is not None
        assert found.labels.tolist() == labels.tolist()
    whole = columns_of(tmp_path, "0,1,2,label", [",".join(map(str, row)) for row in np.c_[shares.round(3), labels]])
    assert are_pictures(whole)
    assert not are_pictures(whole, all_columns=True)
