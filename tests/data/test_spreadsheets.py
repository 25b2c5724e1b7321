"""Text that spreadsheets leave behind: empty rows and columns, sums, units, signs and words that mean something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vaefast.data import Numbers, Reading, read_any
from vaefast.data.kindsfile import Kinds
from vaefast.data.numbersfile import read_columns
from vaefast.errors import DataError
from vaefast.models.fields import LABELS

ROWS = 30


def written(folder: Path, text: str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def table_in(path: Path, **chosen: object) -> Numbers:
    found = read_any(str(path), how=Reading(kinds=Kinds(), **chosen))  # type: ignore[arg-type]
    assert isinstance(found, Numbers)
    return found


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        table_in(path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def texts_of(table: Numbers, at: int) -> list[str | None]:
    assert table.fields is not None
    field = table.fields.columns[at]
    assert field.family == LABELS
    return list(field.values)


# --- Words of a column of text


@pytest.mark.parametrize("word", ["none", "None", "-", "--", "."])
def test_a_word_of_a_column_of_text_is_no_missing_value(tmp_path, word):
    rows = "".join(f"{i}.5,{['brick', word, '+'][i % 3]}\n" for i in range(ROWS))
    path = written(tmp_path, "size,veneer\n" + rows)
    assert texts_of(table_in(path), 1) == ["brick", word, "+"] * 10
    assert texts_of(table_in(path, missing=(word,)), 1) == ["brick", None, "+"] * 10
    # Among numbers it says that one is missing, beside which no text is.
    numbers = written(tmp_path, "size,age\n" + rows.replace("brick", "3").replace("+", "4"), "b.csv")
    assert np.isnan(table_in(numbers).values[:, 1]).tolist() == [False, True, False] * 10


@pytest.mark.parametrize("word", ["", "NA", "n/a", "NaN", "null", "?", "#N/A", "missing"])
def test_what_says_that_a_text_is_missing(tmp_path, word):
    rows = "".join(f"{i}.5,{['brick', word, 'stone'][i % 3]}\n" for i in range(ROWS))
    assert texts_of(table_in(written(tmp_path, "size,veneer\n" + rows)), 1) == ["brick", None, "stone"] * 10


@pytest.mark.parametrize("word", ["..", ":", "#NV", "n.a.", "#WERT!"])
def test_what_offices_and_other_languages_say_for_a_missing_number(tmp_path, word):
    rows = "".join(f"{i}.5,{word if i % 5 == 0 else i * i}\n" for i in range(ROWS))
    assert (
        np.isnan(table_in(written(tmp_path, "a,b\n" + rows)).values[:, 1]).tolist() == [True, False, False, False, False] * 6
    )
    if word.startswith("#"):
        texts = "".join(f"{i}.5,{word if i % 5 == 0 else 'brick'}\n" for i in range(ROWS))
        assert texts_of(table_in(written(tmp_path, "a,b\n" + texts, "b.csv")), 1)[0] is None


def test_one_word_among_many_numbers_is_asked_about(tmp_path):
    rows = "".join(f"{i}.5,{'Unknown' if i % 4 == 0 else i * i}\n" for i in range(ROWS))
    path = written(tmp_path, "a,b\n" + rows)
    refused(path, "is 'Unknown', which is not a number", "--missing", "--column-types b=categorical")
    assert np.isnan(table_in(path, missing=("Unknown",)).values[:, 1]).sum() == 8


def test_labels_and_covariates_may_be_such_words(tmp_path):
    rows = "".join(f"{i}.5,{'+-'[i % 2]}\n" for i in range(ROWS))
    path = written(tmp_path, "size,strand\n" + rows)
    assert table_in(path, label="strand").classes == ("+", "-")
    refused(written(tmp_path, "size,label\n1.5,NA\n2.5,a\n", "b.csv"), "label")


# --- Rows and columns without values


def test_lines_of_separators_at_the_end_are_no_rows(tmp_path):
    path = written(tmp_path, "a,b\n1,2\n,\n3,5\n,\n , \n,\n")
    table = table_in(path)
    np.testing.assert_array_equal(table.values, [[1, 2], [np.nan, np.nan], [3, 5]])  # one between others is a row
    assert table.notes == ("the last 3 lines hold no values: left out",)
    assert table_in(written(tmp_path, "a;b;c\nx;1;2\ny;3;5\n;;\n")).notes == ("the last line holds no values: left out",)


def test_columns_without_a_name_and_without_values(tmp_path):
    for text in ("a;b;;\n1;2;;\n3;5;;\n", "a;b\n1;2;\n3;5;\n", "a;b;\n1;2;\n3;5;\n"):
        table = table_in(written(tmp_path, text))
        assert table.names == ("a", "b")
        np.testing.assert_array_equal(table.values, [[1, 2], [3, 5]])
    words = table_in(written(tmp_path, "a,b,kind\n" + "".join(f"{i},{i * i},{'xy'[i % 2]},\n" for i in range(ROWS))))
    assert words.names == ("a", "b", "kind")
    front = table_in(written(tmp_path, ",a,b\n,0,0.5\n,3,1.5\n"))
    assert (front.names, front.notes) == (("a", "b"), ("the first column has no name and holds no values: left out",))
    refused(written(tmp_path, "Unnamed: 0|\n1|-3\n"), "no column beside the names of its rows")
    refused(written(tmp_path, 'a b\n""\n1 2\n'), "the header names 2 columns, the first row has 1")


@pytest.mark.parametrize("name", ["Total", "Grand Total:", "Summe", "MEAN"])
def test_a_last_row_that_sums_up_the_others_is_told(tmp_path, name):
    for rows in (3, ROWS):  # names of so many rows are an index
        text = "region,a,b\n" + "".join(f"north {i},{i},{i % 4}.5\n" for i in range(rows))
        told = table_in(written(tmp_path, text + f"{name},9,9\n"))
        assert f"the last row is named {name!r}: if it sums up the others, take it out" in told.notes
        assert not any("last row" in note for note in table_in(written(tmp_path, text)).notes)


# --- Signs


def test_one_column_of_decimal_commas(tmp_path):
    table = table_in(written(tmp_path, "x\n1,5\n2\n7,25\n"))
    assert table.names == ("x",)
    assert table.values.tolist() == [[1.5], [2], [7.25]]
    assert table.notes == ("the commas of its one column are read as decimal signs",)
    # The numbers of rows that have no name in the header.
    assert table_in(written(tmp_path, "x\n1,5\n2,6\n3,25\n")).values.tolist() == [[5], [6], [25]]


def test_one_column_of_decimal_commas_with_gaps_and_in_one_row(tmp_path):
    np.testing.assert_array_equal(table_in(written(tmp_path, "x\n0,5\nNA\n7,25\n")).values, [[0.5], [np.nan], [7.25]])
    assert table_in(written(tmp_path, "x\n7,5\n")).values.tolist() == [[7.5]]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_column_of_decimal_commas_among_text_separates_nothing(tmp_path, separator):
    rows = [[f"{i:02}.01.2020", "10:00", f"0,{i + 100}"] for i in range(1, ROWS)]
    for names in (["Datum", "Zeit", "Wert"], []):
        text = "".join(separator.join(row) + "\n" for row in ([names] if names else []) + rows)
        path = written(tmp_path, text)
        values = read_columns(path, "text", kinds=Kinds()).values[:, -1]
        np.testing.assert_allclose(values, [0.1 + i / 1000 for i in range(1, ROWS)], rtol=1e-12)
    places = "".join(f"A{i};Berlin, DE;a\n" for i in range(ROWS)).replace(";", separator)
    found = read_columns(written(tmp_path, separator.join(["name", "place", "kind"]) + "\n" + places), "text", kinds=Kinds())
    assert found.texts[found.names.index("place")][0] == "Berlin, DE"


def test_decimal_commas_in_the_first_line(tmp_path):
    rows = "".join(f"{i},5;0,{i};-1,25\n" for i in range(ROWS))
    table = table_in(written(tmp_path, "0,35;0,82;0,33\n" + rows))
    assert (table.names, len(table.values), table.values[0].tolist()) == ((), ROWS + 1, [0.35, 0.82, 0.33])
    probes = "".join(f"p{i};0,{i};-1,25;{i % 7},5\n" for i in range(ROWS))
    assert table_in(written(tmp_path, "Probe;400,5;403;405,5\n" + probes)).names == ("400,5", "403", "405,5")


def test_text_beside_decimal_commas_stays_as_it_is(tmp_path):
    rows = "".join(f"{i},5;{['1,5 mg', '2 mg'][i % 2]};{i % 3},5\n" for i in range(ROWS))
    path = written(tmp_path, "size;dose;y\n" + rows)
    assert texts_of(table_in(path, all_columns=True), 1) == ["1,5 mg", "2 mg"] * 15
    assert table_in(path, label="dose").classes == ("1,5 mg", "2 mg")
    np.testing.assert_array_equal(table_in(path, label="dose").values[:, 0], np.arange(ROWS) + 0.5)


def test_a_point_that_may_separate_thousands_is_told(tmp_path):
    rows = "".join(f"{i}.5;{900 + i}\n" for i in range(10))
    table = table_in(written(tmp_path, "a;b\n3.5;1.021\n" + rows))
    assert any(note.startswith("column 2 holds 1.021 beside 900: its point is read as a decimal sign") for note in table.notes)
    for other in ("1.02", "0.125"):
        assert not table_in(written(tmp_path, f"a;b\n3.5;1.021\n3;{other}\n" + rows)).notes


@pytest.mark.parametrize(
    ("field", "remedy"),
    [
        ("1.234,5{}", "write numbers without thousands separators"),
        ("{} %", "without per cent or currency signs"),
        ("\u2212{}.5", "the minus of the keyboard"),
        ("({}.5)", "a minus, not in parentheses"),
        ("<{}.5", "without < or >"),
        ("{}.5 mg", "without their unit"),
        ("-$3.{}", "without per cent or currency signs"),
        ("($3.{})", "without per cent or currency signs"),
        ("1\u00a0{},50 \u20ac", "without per cent or currency signs"),
        ("{}.5 \u00b0C", "without their unit"),
        ("{}kg/m²", "without their unit"),
    ],
)
def test_numbers_in_another_spelling_are_refused(tmp_path, field, remedy):
    texts = [field.format(i + 100) for i in range(ROWS)]
    for first in (True, False) if "kg" not in field else (False,):  # 12A may be the name of a row
        rows = "".join(f'"{text}",{i}\n' if first else f'{i},"{text}"\n' for i, text in enumerate(texts))
        path = written(tmp_path, ("x,a\n" if first else "a,x\n") + rows)
        refused(path, remedy, "--column-types x=categorical", repr(texts[0]))


def test_a_few_measurements_with_a_unit_are_categories(tmp_path):
    rows = "".join(f"{i}.5,{['10 mg', '20 mg'][i % 2]},{['<5', '>=5'][i % 2]}\n" for i in range(ROWS))
    table = table_in(written(tmp_path, "a,dose,age\n" + rows))
    assert texts_of(table, 1)[:2] == ["10 mg", "20 mg"]
    assert texts_of(table, 2)[:2] == ["<5", ">=5"]


def test_two_columns_of_labels_have_a_way_out(tmp_path):
    rows = "".join(f"{i}.5,{i % 2},{i % 3}\n" for i in range(ROWS))
    path = written(tmp_path, "size,class,target\n" + rows)
    refused(path, "column 2 'class' looks like labels", "--label class")
    with pytest.raises(
        DataError, match="column 3 'target' looks like labels, too: take it out of the file, or give --all-columns"
    ):
        table_in(path, label="class")
    assert table_in(path, label="class", all_columns=True).names == ("size", "target")


@pytest.mark.parametrize("first", ["Report 2020,,\na,b,c", "a,b,c\nm,kg,s"])
@pytest.mark.parametrize("rows", [5, ROWS])
def test_words_between_the_header_and_numbers_are_named(tmp_path, first, rows):
    path = written(tmp_path, first + "\n" + "".join(f"{i}.5,{i * i},{i % 3}\n" for i in range(rows)))
    refused(path, "line 2 holds words", "above numbers: if it names the columns, remove what stands above it")
    kinds = "".join(f"x{i % 3},{'yz'[i % 2]},{i}\n" for i in range(rows))
    assert len(table_in(written(tmp_path, "kind,other,c\nx,y,0\n" + kinds, "b.csv")).values) == rows + 1
