"""`load`: from a name, a path or nothing at all to a `Dataset`."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from vaefast.data.digits import read_digits
from vaefast.data.files import read_path
from vaefast.data.images import Dataset, Rows
from vaefast.data.mnist import OutOfReach, load_mnist
from vaefast.data.shards import WILDCARDS, load_shards
from vaefast.data.split import check_test_fraction, split
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError

NAMES = ("mnist", "digits")


def load(name: str | None, data_dir: Path | None = None, *, test_fraction: float = 0.1, in_memory: bool = True) -> Dataset:
    """Load images by name or from the user's own file or folder.

    Parameters
    ----------
    name
        `mnist`; `digits`, the 8x8 digits of scikit-learn; a path (see `vaefast.data.files`); a pattern of paths with
        wildcards, of `.npy` shards (see `vaefast.data.shards`); or None for MNIST if it is in reach and the digits, with a
        notice, if it is not.
    data_dir
        Folder of the four MNIST files; without it, `VAEFAST_DATA_DIR`, the cache and a download are tried in turn.
    test_fraction
        Share of the images that become the test set, where the data bring none of their own; at least one image.
    in_memory
        Whether shards are read now; otherwise their images are `ShardedImages`, of which each process reads its part.

    Returns
    -------
    Dataset
        Training and test images, uint8 or float32 (N, X).

    Raises
    ------
    DataError
        The data are missing, damaged, out of range or of no known format. A damaged MNIST never falls back.
    SettingsError
        `test_fraction` is not between 0 and 1.
    """
    check_test_fraction(test_fraction)
    found = read(name, data_dir, test_fraction=test_fraction, in_memory=in_memory)
    return split(found, test_fraction) if isinstance(found, Rows) else found


def read(
    name: str | None, data_dir: Path | None = None, *, test_fraction: float = 0.1, in_memory: bool = True
) -> Rows | Dataset:
    """All images in their order, not split; a Dataset where they bring a test set of their own, and of shards.

    Parameters and errors are those of `load`.
    """
    if name is None:
        try:
            return load_mnist(data_dir)
        except OutOfReach as missing:
            notice = (
                f"NO MNIST: {missing.reason}. Using the 1797 digits of 8x8 pixels embedded in scikit-learn INSTEAD. "
                f"For MNIST, {missing.remedy}"
            )
            return read_digits(notice)
    if name == "mnist":
        return load_mnist(data_dir)
    if name == "digits":
        return read_digits()
    if any(wildcard in name for wildcard in WILDCARDS) and not os.path.exists(name):
        return load_shards(name, test_fraction, in_memory=in_memory)
    _check_there(name)
    return read_path(Path(name))


def _check_there(name: str) -> None:
    """Refuse what is neither a name nor a path, with the name that was probably meant."""
    try:
        os.stat(name)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null character
        near = difflib.get_close_matches(os.fspath(name).lower(), NAMES, n=1)
        meant = f"did you mean {near[0]!r}? Else " if near else ""
        raise DataError(
            f"{shown(repr(name))} is neither the name of data nor an existing path: "
            f"{meant}give {', '.join(NAMES)}, or the path of a file or folder"
        ) from error
    except OSError as error:
        raise DataError(f"{shown(name)} cannot be read ({reason(error)}): check the path and its permissions") from error
