"""Tables of real numbers in text files: separators, decimal signs, encodings, packing, indexes and labels."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaefast.data import Dataset, Numbers, Reading, Rows, read_any, read_numbers
from vaefast.data.dialect import Dialect, dialect_of, encoding_of
from vaefast.data.kindsfile import Kinds
from vaefast.errors import DataError

RNG = np.random.default_rng(3)
VALUES = RNG.normal(size=(30, 4)) * [1, 10, 1e-3, 1e6]
NAMES = ["age", "höhe", "c, d", "e"]
FRAME = pd.DataFrame(VALUES, columns=NAMES)
SPECIES = [["setosa", "virginica", "versicolor"][i % 3] for i in range(30)]


def written(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table_in(path: Path, **chosen: object) -> Numbers:
    found = read_any(str(path), how=Reading(**chosen))  # type: ignore[arg-type]
    assert isinstance(found, Numbers)
    return found


def refused(path: Path, *words: str, **chosen: object) -> None:
    with pytest.raises(DataError) as caught:
        read_any(str(path), how=Reading(**chosen))  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def holds(table: Numbers, *notes: str) -> None:
    np.testing.assert_array_equal(table.values, VALUES)
    assert table.values.dtype == np.float64
    assert table.names == tuple(NAMES)
    assert table.notes == notes
    assert table.name == table.source.name  # type: ignore[union-attr]


# --- Separators and decimal signs


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.tsv", "no_ending"])
def test_any_usual_separator(tmp_path, separator, name):
    path = tmp_path / name
    FRAME.to_csv(path, sep=separator, index=False, quoting=0 if separator != " " else 2)
    holds(table_in(path))


def test_runs_of_spaces(tmp_path):
    np.savetxt(tmp_path / "a.txt", VALUES, "%25.17e")
    table = table_in(tmp_path / "a.txt")
    np.testing.assert_array_equal(table.values, VALUES)
    assert table.names == ()


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas_as_european_excel_writes_them(tmp_path, separator):
    FRAME.to_csv(tmp_path / "a.csv", sep=separator, decimal=",", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    holds(table_in(tmp_path / "a.csv"))
    FRAME.assign(kind=SPECIES).to_csv(tmp_path / "a.csv", sep=separator, decimal=",", index=False)
    holds(table_in(tmp_path / "a.csv", label="kind"), "column 5 'kind' holds labels (3 different): not trained on")


@pytest.mark.parametrize("separator", [";", "\t", " "])
@pytest.mark.parametrize("rows", [19, 20, 21, 5_000])
def test_the_first_decimal_comma_may_come_late(tmp_path, separator, rows):
    whole = "".join(f"{row}{separator}{row + 1}\n" for row in range(rows))
    table = table_in(written(tmp_path, f"a{separator}b\n{whole}1,5{separator}2\n-2,25{separator}7\n"))
    assert table.values.shape == (rows + 2, 2)
    assert table.values[-2:].tolist() == [[1.5, 2], [-2.25, 7]]
    points = table_in(written(tmp_path, f"a{separator}b\n{whole}1.5{separator}2\n-2.25{separator}7\n"))
    assert np.array_equal(points.values, table.values)


def test_no_more_lines_are_read_than_the_decimal_sign_needs():
    later = iter(["3;4", "5;6", "1,5;2", "7;8"])
    assert dialect_of(["a;b", "1;2"], later=later) == Dialect(";", ",")
    assert [*later] == ["7;8"]
    later = iter(["3;4"])
    assert dialect_of(["a;b", "1,5;2"], later=later) == Dialect(";", ",")
    assert [*later] == ["3;4"]


def test_commas_in_labels_stay_where_decimals_have_commas(tmp_path):
    table = table_in(written(tmp_path, 'a;kind\n1,5;"big, red"\n-2,25;"small, red"\n'), label="kind")
    assert table.values.tolist() == [[1.5], [-2.25]]
    assert table.classes == ("big, red", "small, red")


def test_three_decimals_behind_a_comma_beside_semicolons_are_decimals(tmp_path):
    assert table_in(written(tmp_path, "a;b\n1,234;5,678\n-2,000;0,125\n")).values.tolist() == [[1.234, 5.678], [-2, 0.125]]


def test_the_separator_that_excel_is_told(tmp_path):
    table = table_in(written(tmp_path, "sep=;\r\na;b\r\n1,5;-2\r\n3;4\r\n"))
    assert table.values.tolist() == [[1.5, -2], [3, 4]]
    refused(written(tmp_path, "sep=;\na;b\n1,5;-2\nx;4\n5;6\n7;8\n"), "line 4, column 1 'a' is 'x'")


def test_dialects():
    assert dialect_of(["a,b", "1,5"]) == Dialect(",", ".")
    assert dialect_of(["1,5;2,5", "1,0;3,5"]) == Dialect(";", ",")
    assert dialect_of(["1 2", "3   4"]) == Dialect(None, ".")
    assert dialect_of(["a b,c", "1,2"]) == Dialect(",", ".")
    assert dialect_of(["1", "2"]) == dialect_of([]) == Dialect(",", ".")
    assert dialect_of(["V1\tV2", "row one\t1,5\t2"]) == Dialect("\t", ",")
    assert dialect_of(["1;2", "1;2;3"]).separator == ";"  # told for the sake of the message
    assert dialect_of(["1 2", "1 2 3"]).separator is None


@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_comments_in_front_of_the_rows(tmp_path, separator):
    header = separator.join(["age", "size", "weight", "e"])
    np.savetxt(tmp_path / "a.txt", VALUES, delimiter=separator, header=f"made by hand\n{header}")
    table = table_in(tmp_path / "a.txt")
    assert table.names == ("age", "size", "weight", "e")
    np.testing.assert_array_equal(table.values, np.loadtxt(tmp_path / "a.txt", delimiter=separator))
    np.savetxt(tmp_path / "a.txt", VALUES, delimiter=separator, header="made by hand, today")
    assert table_in(tmp_path / "a.txt").values.shape == (30, 4)
    path = written(tmp_path, f"# note\n#a{separator}b\n1.5{separator}2\n3{separator}x\n1{separator}2\n")
    refused(path, "line 4, column 2 'b' is 'x'")


# --- Encodings, packing, lines


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(tmp_path, encoding):
    FRAME.to_csv(tmp_path / "a.txt", sep="\t", index=False, encoding=encoding)
    holds(table_in(tmp_path / "a.txt"))
    assert encoding_of((tmp_path / "a.txt").read_bytes()[:100]).startswith(encoding[:6])


def test_windows_letters_are_read_and_said(tmp_path):
    FRAME.to_csv(tmp_path / "a.csv", sep=";", decimal=",", index=False, encoding="cp1252")
    holds(table_in(tmp_path / "a.csv"), "it is not UTF-8, and read as Windows-1252")


def test_damaged_text_of_either_encoding(tmp_path):
    wide = FRAME.to_csv(sep="\t", index=False).encode("utf-16")
    refused(written(tmp_path, wide[:300] + b"\x00\xd8\x00\xd8" + wide[300:], "a.txt"), "damaged, or is not UTF-16 text")
    refused(written(tmp_path, b"a,b\n1.5,2\n\x90,3\n"), "line 3, column 1 'a'")  # no letter in Windows-1252


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("inside.csv", content)
        archive.writestr("__MACOSX/._inside.csv", b"\0")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("ending", "pack"), [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress), ("zip", zipped)]
)
def test_packed_files(tmp_path, ending, pack):
    content = FRAME.to_csv(index=False).encode()
    holds(table_in(written(tmp_path, pack(content), f"a.csv.{ending}")))
    holds(table_in(written(tmp_path, pack(content), "a.csv")))  # by its content
    whole = pack(content)
    refused(written(tmp_path, whole[: len(whole) // 2], f"b.csv.{ending}"), "damaged")


def test_an_archive_of_several_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "1,2\n")
        archive.writestr("b.csv", "1,2\n")
    refused(tmp_path / "a.zip", "an archive of 2 files: unpack it")


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    refused(written(tmp_path, "\r\na,b\r\n\r\n1,-2\r\n\r\n\r\n3,4\r\n5,inf\r\n\r\n"), "line 8, column 2 'b' is inf")
    refused(written(tmp_path, "a,b\n1,-2\n\n3,inf\n"), "line 4, column 2 'b' is inf: give finite numbers")
    table = table_in(written(tmp_path, "a,b\r\n1,-2\r\n3,4\r\n\r\n \r\n"))
    assert table.values.tolist() == [[1, -2], [3, 4]]


@pytest.mark.parametrize(
    "token", ["", "NA", "N/A", "#N/A", "NULL", "null", "nan", "NaN", "None", "?", "-", ".", "<NA>", "#DIV/0!"]
)
def test_tokens_of_missing_values(tmp_path, token):
    path = written(tmp_path, f"a,b\n1.5,-2\n{token},4\n5, {token}\n")
    np.testing.assert_array_equal(table_in(path).values, [[1.5, -2], [np.nan, 4], [5, np.nan]])


@pytest.mark.parametrize("written_as", ["", "nan", "NA"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_frame_with_missing_values_is_read_as_pandas_wrote_it(tmp_path, written_as, separator):
    gaps = FRAME.mask(VALUES > 1e5).assign(alive=VALUES[:, 0] > 0, label=SPECIES)
    gaps["alive"] = gaps["alive"].astype(object).where(VALUES[:, 1] > np.quantile(VALUES[:, 1], 0.2), None)
    gaps.to_csv(tmp_path / "a.csv", index=False, na_rep=written_as, sep=separator)
    table = table_in(tmp_path / "a.csv", label="label")
    np.testing.assert_array_equal(table.values, gaps.drop(columns="label").astype(float).to_numpy())
    assert np.isnan(table.values[:, :-1]).sum() == (VALUES > 1e5).sum()


def test_decimal_commas_spaces_and_quotes_beside_missing_values(tmp_path):
    nan = np.nan
    for text, values in (
        ("a;b;c\n1,5;;2,25\nNA;3,5;4\n", [[1.5, nan, 2.25], [nan, 3.5, 4]]),
        ("1.5 NA 3\n? 2 4\n", [[1.5, nan, 3], [nan, 2, 4]]),
        ('"a","b"\n"1.5",""\n"","2"\n', [[1.5, nan], [nan, 2]]),
        ('"a","b"\n1.5, "NA"\n-999,2\n', [[1.5, nan], [nan, 2]]),
        ("a,b\nunknown,1\n-999.0,2\n3,4\n", [[nan, 1], [nan, 2], [3, 4]]),
    ):
        found = table_in(written(tmp_path, text), missing=("-999", "unknown"))
        np.testing.assert_array_equal(found.values, values)
    refused(written(tmp_path, "a,b\nunknown,1\n,2\n3,4\n"), "line 2, column 1 'a' is 'unknown', which is not a number")
    refused(written(tmp_path, "a,b\n,\nNA,\n"), "holds no numbers: every value is missing")
    refused(written(tmp_path, "a,b\n1,\n2,3,4\n"), "line 3 has 3 values where line 2 has 2")


def test_the_first_column_of_text_is_named(tmp_path):
    FRAME.assign(kind=SPECIES, other="x").to_csv(tmp_path / "a.csv", index=False)
    refused(tmp_path / "a.csv", "column 5 'kind' holds text, such as 'setosa' in line 2", "--label kind")
    np.savetxt(tmp_path / "a.data", np.c_[VALUES.round(3), SPECIES], "%s", ",")
    refused(tmp_path / "a.data", "column 5 holds text, such as 'setosa' in line 1", "--label 5")


def test_true_and_false_are_one_and_zero(tmp_path):
    FRAME.assign(alive=VALUES[:, 0] > 0).to_csv(tmp_path / "a.csv", index=False)
    table = table_in(tmp_path / "a.csv")
    assert table.values[:, 4].tolist() == (VALUES[:, 0] > 0).tolist()
    assert table.number_notes == ("true and false are read as 1 and 0 in column 5 'alive'",)
    text = "a,b\n" + "1.5,TRUE\n" * 25 + "1.5,5\n"
    refused(written(tmp_path, text), "line 27, column 2 'b' is '5', and true or false elsewhere")


# --- Indexes


def test_indexes_are_left_out_with_one_line(tmp_path):
    numbers = "the first column has no name and holds the rows' numbers: left out"
    FRAME.to_csv(tmp_path / "a.csv")
    table = table_in(tmp_path / "a.csv")
    holds(table, numbers)
    assert table.row_names[:2] == ("0", "1")
    FRAME.set_index(pd.Index([f"p{i}" for i in range(30)])).to_csv(tmp_path / "a.csv", sep=";", decimal=",")
    table = table_in(tmp_path / "a.csv")
    holds(table, "the first column has no name and holds the rows' names: left out")
    assert table.row_names == tuple(f"p{i}" for i in range(30))
    assert table.notice == f"{tmp_path / 'a.csv'}: {table.notes[0]}"


def test_first_columns_that_number_or_name_the_rows(tmp_path):
    for ids, said in (
        (range(1, 31), "counts the rows"),
        (range(800, 1700, 30), "numbers the rows"),
        ([f"p{i}" for i in range(30)], "names the rows"),
    ):
        frame = FRAME.copy()
        frame.insert(0, "id", [*ids])
        frame.to_csv(tmp_path / "a.csv", index=False)
        holds(table_in(tmp_path / "a.csv"), f"the first column, id, {said}: left out")
    np.savetxt(tmp_path / "a.csv", np.c_[np.arange(30), VALUES], delimiter=",")
    table = table_in(tmp_path / "a.csv")
    assert table.values.shape == (30, 4)
    assert table.notes == ("the first column counts the rows: left out",)


# --- Labels


def test_a_chosen_label_is_kept_and_not_trained_on(tmp_path):
    frame = FRAME.copy()
    frame.insert(2, "species", SPECIES)
    frame.to_csv(tmp_path / "a.csv")
    for label in ("species", "4"):  # the fourth column of the file, its index counted
        table = table_in(tmp_path / "a.csv", label=label)
        np.testing.assert_array_equal(table.values, VALUES)
        assert table.classes == ("setosa", "versicolor", "virginica")
        assert table.labels is not None
        assert [table.classes[i] for i in table.labels] == SPECIES
        assert table.notes[1] == "column 4 'species' holds labels (3 different): not trained on"
    frame["species"] = np.arange(30) % 7 + 3
    frame.to_csv(tmp_path / "a.csv", index=False)
    table = table_in(tmp_path / "a.csv", label="species")
    assert table.classes == ()
    assert table.labels is not None
    assert table.labels.tolist() == frame["species"].tolist()
    refused(tmp_path / "a.csv", "for --label: did you mean 'species'? Its columns are age, höhe, species", label="spezies")
    refused(tmp_path / "a.csv", "no column '6' for --label", label="6")


def test_a_wrong_label_is_said_before_text_is(tmp_path):
    FRAME.assign(species=SPECIES).to_csv(tmp_path / "a.csv", index=False)
    refused(tmp_path / "a.csv", "no column 'Species' for --label: did you mean 'species'?", label="Species")


def test_a_first_column_of_different_words_names_the_rows(tmp_path):
    frame = FRAME.copy()
    frame.insert(0, "gene", [f"ENSG{i:05}" for i in range(30)])
    frame.to_csv(tmp_path / "a.csv", index=False)
    table = table_in(tmp_path / "a.csv")
    holds(table, "the first column, gene, names the rows: left out")
    assert table.row_names[:2] == ("ENSG00000", "ENSG00001")
    as_labels = table_in(tmp_path / "a.csv", label="gene")
    assert as_labels.notes == ("column 1 'gene' holds labels (30 different): not trained on",)
    frame.loc[7, "gene"] = "ENSG00006"
    frame.to_csv(tmp_path / "a.csv", index=False)
    refused(tmp_path / "a.csv", "column 1 'gene' holds text, such as 'ENSG00000' in line 2", "--label gene")
    frame.assign(species=SPECIES).to_csv(tmp_path / "a.csv", index=False)
    refused(tmp_path / "a.csv", "column 1 'gene' holds text")  # the first column of text, not the last
    frame["gene"] = [f"ENSG{i:05}" for i in range(30)]
    frame.assign(species=SPECIES).to_csv(tmp_path / "a.csv", index=False)
    refused(tmp_path / "a.csv", "column 6 'species' holds text, such as 'setosa' in line 2")


def test_text_in_columns_that_a_model_does_not_know_is_left_out(tmp_path):
    frame = FRAME.copy()
    frame.insert(2, "species", SPECIES)
    frame.to_csv(tmp_path / "a.csv", index=False)
    found = read_numbers(str(tmp_path / "a.csv"), 4, NAMES)
    holds(found, "columns that the model does not know take no part: species")
    with pytest.raises(DataError, match="column 3 'species' holds text"):
        read_numbers(str(tmp_path / "a.csv"), 5, [*NAMES, "size"])


def test_real_numbers_can_be_kept_out_of_training_too(tmp_path):
    FRAME.assign(target=VALUES[:, 0]).to_csv(tmp_path / "a.csv", index=False)
    table = table_in(tmp_path / "a.csv", label="target")
    holds(table, "column 5 'target' is not trained on, and its numbers are not class labels: figures do not show them")
    assert table.labels is None
    assert table_in(tmp_path / "a.csv").values.shape == (30, 5)  # it does not look like labels
    assert table_in(tmp_path / "a.csv").notes == ("column target does not look like labels: trained on like the others",)


@pytest.mark.parametrize("name", ["label", "Class", "target", "y"])
def test_what_looks_like_labels_is_asked_for(tmp_path, name):
    FRAME.assign(**{name: np.arange(30) % 3}).to_csv(tmp_path / "a.csv", index=False)
    refused(tmp_path / "a.csv", f"column 5 '{name}' looks like labels", f"--label {name}", "--all-columns")
    holds(table_in(tmp_path / "a.csv", label=name), f"column 5 '{name}' holds labels (3 different): not trained on")
    every = table_in(tmp_path / "a.csv", all_columns=True)
    assert every.values.shape == (30, 5)
    assert every.labels is None
    FRAME.assign(**{name: SPECIES}).to_csv(tmp_path / "a.csv", index=False)
    refused(tmp_path / "a.csv", f"column 5 '{name}' looks like labels")
    refused(tmp_path / "a.csv", f"column 5 '{name}' holds text, such as 'setosa' in line 2", all_columns=True)


def test_a_second_column_of_labels_is_asked_for(tmp_path):
    FRAME.assign(kind=SPECIES, target=np.arange(30) % 3).to_csv(tmp_path / "a.csv", index=False)
    refused(tmp_path / "a.csv", "column 6 'target' looks like labels", label="kind")


def test_labels_alone_are_no_table(tmp_path):
    refused(written(tmp_path, "kind\na\nb\n"), "no column of numbers to train on", label="kind")


# --- Pictures or a table


def test_what_is_a_picture(tmp_path):
    path = tmp_path / "a.csv"
    grey = RNG.integers(0, 256, (20, 784))
    frame = pd.DataFrame(grey, columns=[f"pixel{i}" for i in range(784)])
    frame.insert(0, "label", np.arange(20) % 10)
    for header in (True, False):
        frame.to_csv(path, index=False, header=header)
        found = read_any(str(path))
        assert isinstance(found, Rows)
        np.testing.assert_array_equal(found.images.values, grey)
        assert found.images.values.dtype == np.uint8
        assert found.images.shape == (28, 28)
        assert found.labels is not None
        assert found.labels.tolist() == [i % 10 for i in range(20)]
        assert found.notice is not None
        assert "holds labels (10 different): not trained on" in found.notice
    np.savetxt(path, RNG.random((20, 6)), delimiter=",")
    assert isinstance(read_any(str(path)), Rows)
    np.savetxt(path, grey[:, :6], "%d", ",")
    assert isinstance(read_any(str(path)), Rows)


def test_what_is_a_table(tmp_path):
    path = tmp_path / "a.csv"
    np.savetxt(path, RNG.integers(0, 100, (20, 6)), "%d", ",")
    assert isinstance(read_any(str(path)), Numbers)
    pd.DataFrame(RNG.random((20, 6)), columns=[*"abcdef"]).to_csv(path, index=False)
    assert isinstance(read_any(str(path)), Numbers)
    np.savetxt(path, RNG.normal(size=(20, 784)), delimiter=",")
    assert isinstance(read_any(str(path)), Numbers)


def test_named_data_and_folders_are_read_as_pictures():
    assert isinstance(read_any("digits"), Rows)
    assert isinstance(read_any(None), (Rows, Dataset))


# --- For a model


def test_columns_of_a_model_by_name(tmp_path):
    FRAME[["e", "age", "höhe", "c, d"]].assign(label=1).to_csv(tmp_path / "a.csv", sep=";", decimal=",")
    table = read_numbers(str(tmp_path / "a.csv"), 4, NAMES)
    np.testing.assert_array_equal(table.values, VALUES)
    assert table.notes[-1] == "columns that the model does not know take no part: label"
    assert read_numbers(str(tmp_path / "a.csv"), 4).values.shape == (30, 4)
    with pytest.raises(DataError, match="lacks the column 'weight'"):
        read_numbers(str(tmp_path / "a.csv"), 4, ["weight"])


# --- Numbers that another program or country writes otherwise


def kinds_in(path: Path) -> Numbers:
    return table_in(path, kinds=Kinds())


def test_rising_years_beside_one_name_are_a_header(tmp_path):
    rows = "".join(f"land{i},{i}.5,{i + 1},{i + 2}.25\n" for i in range(30))
    path = written(tmp_path, "Country,1990,2000,2010\n" + rows)
    assert kinds_in(path).names == ("1990", "2000", "2010")
    unnamed = written(tmp_path, ",1990,2000\n" + "".join(f"{i},{i}.5,7\n" for i in range(30)), "b.csv")
    assert len(table_in(unnamed).values) == 30
    # Years of birth and of death are data.
    lives = written(tmp_path, "".join(f"name{i},{1900 + i},{1950 + i}\n" for i in range(30)), "c.csv")
    assert len(kinds_in(lives).values) == 30
    assert kinds_in(lives).names == ()


@pytest.mark.parametrize("odd", ["1.234", "-12.345.678"])
def test_a_point_that_separates_thousands_beside_decimal_commas_is_refused(tmp_path, odd):
    rows = "".join(f"{950 + i};3,{i}\n" for i in range(40))
    path = written(tmp_path, f"Umsatz;Preis\n{rows}{odd};4,5\n")
    refused(path, "line 42, column 1", repr(odd), "without thousands separators")
    # Elsewhere, and as a part of text, it is what it was.
    assert table_in(written(tmp_path, f"Umsatz;Preis\n{rows}1.5;4,5\n", "b.csv")).values[-1, 0] == 1.5
    dates = "".join(f"{i};3,5;01.{i:02d}.2024\n" for i in range(1, 10))
    assert kinds_in(written(tmp_path, "a;b;c\n" + dates, "c.csv")).values.shape[0] == 9


@pytest.mark.parametrize("thousand", ["1 234,50", "1\u00a0234,50", "1\u202f234", "1'234.50", "1\u2019234"])
def test_spaces_and_apostrophes_between_thousands_are_refused(tmp_path, thousand):
    rows = "".join(f"{i};{thousand}\n" for i in range(30))
    for text, name in ((rows, "a.csv"), (rows + "99;on request\n", "b.csv")):
        refused(
            written(tmp_path, "ville;prix\n" + text, name), "column 2 'prix'", "without thousands separators", kinds=Kinds()
        )


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_a_row_without_values_is_a_row_whatever_separates(tmp_path, separator):
    rows = ["a,b,c", "1,2,3", ",,", "4,5,6", ",,", "7,8,9", ",,"]
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(rows).replace(",", separator) + "\n")
    table = table_in(path)
    assert np.array_equal(table.values, [[1, 2, 3], [np.nan] * 3, [4, 5, 6], [np.nan] * 3, [7, 8, 9]], equal_nan=True)
    assert "the last line holds no values: left out" in table.notice


@pytest.mark.parametrize("blank", ["\t", "\t\t\t", " \t", "\t \n\t"])
def test_lines_of_other_tabs_are_blank(tmp_path, blank):
    """Where fewer or more of them stand than between the fields, or other characters separate."""
    for name, separator in (("a.tsv", "\t"), ("a.csv", ",")):
        path = tmp_path / name
        for before in ("", "# made by hand\n", f"sep={separator}\n"):
            path.write_text(before + f"{blank}\na,b,c\n1,2,3\n{blank}\n4,5,6\n".replace(",", separator))
            table = table_in(path)
            assert table.names == ("a", "b", "c")
            assert table.values.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("before", ["", "# made by hand\n", "sep=\t\n"])
def test_lines_of_as_many_tabs_before_the_header_are_blank(tmp_path, before):
    path = tmp_path / "a.tsv"
    path.write_text(before + "\t\t\na\tb\tc\n1\t2\t3\n4\t5\t6\n")
    table = table_in(path)
    assert table.names == ("a", "b", "c")
    assert table.values.tolist() == [[1, 2, 3], [4, 5, 6]]
