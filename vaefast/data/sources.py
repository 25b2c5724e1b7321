"""Find and read data by a name, a path, or neither: pictures or a table."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vaefast.data.choices import USUAL, Reading
from vaefast.data.csvfile import DARKEST_WHITE, MNIST_PIXELS, are_pictures, are_pixels, pictures_of
from vaefast.data.csvtable import header_of
from vaefast.data.digits import read_digits
from vaefast.data.files import read_path, with_a_word_on_black
from vaefast.data.images import Dataset, Rows
from vaefast.data.kinds import kind_of_file
from vaefast.data.mnist import OutOfReach, load_mnist
from vaefast.data.numbers import Numbers
from vaefast.data.numbersfile import holds_text, model_columns, numbers_of, read_columns, read_numbers_file, table_of, typed
from vaefast.data.numpyfile import Span, outline_of, span_of
from vaefast.data.shards import WILDCARDS, load_shards
from vaefast.data.split import check_test_fraction, split
from vaefast.data.tenx import matrix_in
from vaefast.data.told import no_columns
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError

NAMES = ("mnist", "digits")
# Kinds of files with columns.
COLUMNS = ("text", "parquet", "feather")


def load(name: str | None, data_dir: Path | None = None, how: Reading = USUAL) -> Dataset:
    """Load images by name, or from the user's own file or folder.

    Parameters
    ----------
    name
        `mnist`; `digits`, the 8x8 digits of scikit-learn; a path (see `vaefast.data.files`); a pattern of paths with
        wildcards, of `.npy` shards (see `vaefast.data.shards`); or None for MNIST, or, if it is out of reach, for the digits
        and a notice.
    data_dir
        Folder of the four MNIST files; without it, `VAEFAST_DATA_DIR`, the cache and a download are tried in turn.

    Returns
    -------
    Dataset
        Training and test images, uint8 or float32 (N, X).

    Raises
    ------
    DataError
        The data are missing, damaged, out of range or of an unknown format. A damaged MNIST is never replaced by the digits.
    SettingsError
        `test_fraction` is not between 0 and 1.
    """
    check_test_fraction(how.test_fraction)
    found = read(name, data_dir, how)
    return split(found, how.test_fraction) if isinstance(found, Rows) else found


def read(name: str | None, data_dir: Path | None = None, how: Reading = USUAL) -> Rows | Dataset:
    """All images in their order, not split; a Dataset if they have a test set, and for shards.

    Parameters and errors are those of `load`.
    """
    if how.layer is not None:
        raise _no_layers(name or "mnist", how.layer)
    if name is None:
        return _mnist_or_digits(data_dir)
    if name == "mnist":
        return load_mnist(data_dir)
    if name == "digits":
        return read_digits()
    if any(wildcard in name for wildcard in WILDCARDS) and not os.path.exists(name):
        return load_shards(name, how.test_fraction, in_memory=how.in_memory)
    _check_there(name)
    return read_path(Path(name), how.label, how.all_columns, how.color)


def read_any(name: str | None, data_dir: Path | None = None, how: Reading = USUAL) -> Rows | Dataset | Numbers:
    """Read any data: pictures as `read` gives them, else a table.

    Pictures are named data, IDX files, folders, shards, arrays of three or four dimensions that hold grey levels 0 to 255 or
    numbers in [0, 1], and rows of 784. Rows of other lengths are pictures if they are bytes; if their columns are named like
    pixels; or if they have no names and hold numbers in [0, 1], or whole numbers up to 255, some of them above 127. All else
    is a table.

    Parameters and errors are those of `load`. If a column of a table looks like labels, a DataError asks for `label` or
    `all_columns`.
    """
    file = None if name is None else file_of(name)
    if file is None:
        return read(name, data_dir, how)
    path = Path(os.path.abspath(file))
    kind = kind_of_file(path)
    _check_layer(path, kind, how.layer)
    if kind in COLUMNS:
        table = read_columns(path, kind, how.label, missing=how.missing, kinds=how.kinds)
        if not holds_text(table) and are_pictures(table, how.all_columns):
            return with_a_word_on_black(pictures_of(table, path, how.label, how.all_columns), path)
        return table_of(typed(table, path, how.missing, how.kinds), path, how.label, how.all_columns)
    if kind == "idx" or (kind in ("npy", "npz") and _are_pictures(span_of(path))):
        return read_path(path, how.label, how.all_columns, how.color)
    return read_numbers_file(path, kind, how.label, layer=how.layer, missing=how.missing)


def read_numbers(
    name: str,
    columns: int = 0,
    known: Sequence[str] = (),
    how: Reading = USUAL,
    told: Sequence[str] = (),
) -> Numbers:
    """Read a table: the numbers of a file as they are, or pictures as `read` gives them.

    Parameters
    ----------
    name
        As for `load`.
    columns
        Number of columns of a trained model. If the file has more, columns that may be labels are left out. 0 without a
        model: then a column that looks like labels is refused, unless `label` or `all_columns` is given.
    known
        Names of the columns of the model, if it knows them. The columns of a file with names are then chosen by name.
    told
        Columns that say something of each row and become `Numbers.told`: of a text, parquet or feather file by their names
        or numbers from 1, which may hold text; of an `.h5ad` file by their names in `obs`.

    Raises
    ------
    DataError
        The file cannot be read or is damaged; a value is text or infinite; a column is missing, or looks like labels; or the
        data hold no columns for `told`.
    """
    path = file_of(name)
    kind = "idx" if path is None else kind_of_file(path)
    if path is None or kind == "idx":
        if told:
            if name not in NAMES and not any(wildcard in name for wildcard in WILDCARDS):
                _check_there(name)
            raise no_columns(shown(name), told)
        return numbers_of(read(name, how=how), known)
    _check_layer(path, kind, how.layer)
    if kind not in COLUMNS:
        return read_numbers_file(path, kind, how.label, how.layer, known, told, how.missing)
    table = typed(read_columns(path, kind, how.label, known, told, how.missing, how.kinds), path, how.missing, how.kinds)
    if columns:
        return model_columns(table, path, columns, known, how.label)
    return table_of(table, path, how.label, how.all_columns)


def file_of(name: str) -> Path | None:
    """The file that a path names: itself, or the matrix in a folder of 10x Genomics. None for anything else."""
    if os.path.isfile(name):
        return Path(name)
    return None if name in NAMES or not os.path.isdir(name) else matrix_in(Path(name))


def may_be_table(path: Path) -> bool:
    """Whether a file may hold a table of any numbers, found without reading them.

    False for IDX files, arrays of bytes or truth values, those of more than two dimensions, archives of several arrays, and
    text whose columns are named like pixels. A damaged file is refused by its reader.

    Raises
    ------
    DataError
        The file is of an unknown kind.
    """
    kind = kind_of_file(path)
    if kind in ("npy", "npz"):
        outline = outline_of(path)
        return outline is not None and len(outline[0]) == 2 and outline[1] not in (np.uint8, np.bool_)
    return kind != "idx" and not (kind == "text" and are_pixels(header_of(path)[0]))


def width_without_names(path: Path, known: Sequence[str] = ()) -> int | None:
    """The number of columns of a text file without a header; None for other files. A line of the `known` names is a header."""
    if kind_of_file(path) != "text":
        return None
    names, width = header_of(path, known)
    return None if names else width


def _are_pictures(span: Span | None) -> bool:
    """Whether values of this span in a NumPy file are those of pictures. None stands for a file of several arrays."""
    if span is None or span.dtype.kind == "b" or span.dtype == np.uint8:
        return True
    if span.whole and span.largest > 1:
        bright = span.largest > DARKEST_WHITE or len(span.shape) > 2 or span.shape[-1] == MNIST_PIXELS
        return span.dtype.kind in "ui" and span.smallest >= 0 and span.largest <= 255 and bright
    return span.smallest >= 0 and span.largest <= 1 and span.dtype.kind == "f"


def _mnist_or_digits(data_dir: Path | None) -> Rows | Dataset:
    try:
        return load_mnist(data_dir)
    except OutOfReach as missing:
        notice = (
            f"NO MNIST: {missing.reason}. Using the 1797 digits of 8x8 pixels embedded in scikit-learn INSTEAD. "
            f"For MNIST, {missing.remedy}"
        )
        return read_digits(notice)


def _check_layer(path: Path, kind: str, layer: str | None) -> None:
    """Refuse a layer of a file that has none."""
    if layer is not None and kind != "h5ad":
        raise _no_layers(str(path), layer)


def _no_layers(name: str, layer: str) -> DataError:
    return DataError(f"{shown(name)} is no .h5ad file, and so has no layer {shown(repr(layer))}: leave out --layer")


def _check_there(name: str) -> None:
    """Refuse what is neither a name nor a path, and give the name that was probably meant."""
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character
        near = difflib.get_close_matches(os.fspath(name).lower(), NAMES, n=1)
        meant = f"did you mean {near[0]!r}? Else " if near else ""
        raise DataError(
            f"{shown(repr(name))} is neither a known data set nor an existing path: "
            f"{meant}give {', '.join(NAMES)}, or the path of a file or folder"
        ) from error
    except OSError as error:
        raise DataError(f"{shown(name)} cannot be read ({reason(error)}): check the path and its permissions") from error
