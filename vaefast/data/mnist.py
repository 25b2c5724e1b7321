"""MNIST, from a folder, the cache or a download. The SHA-256 of its unpacked files is always checked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaefast.data.download import WHOLE_TIMEOUT, DownloadError, download
from vaefast.data.idx import parse_idx
from vaefast.data.images import Dataset, Images, Labels, assemble
from vaefast.data.reading import fill, new_array, reading, unzipped
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError

FOLDER_VARIABLE = "VAEFAST_DATA_DIR"
OFFLINE_VARIABLE = "VAEFAST_OFFLINE"

# Ending of an unfinished download. A transfer ends after WHOLE_TIMEOUT and the wait for its last chunk. So a file to which
# nothing has been written for this many seconds belongs to a process that was killed.
PART = ".part"
STALE_SECONDS = 2 * WHOLE_TIMEOUT

# The original site no longer serves the files. These two mirrors do.
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


@dataclass(frozen=True)
class IdxFile:
    """One of the four files: its name, the rank of its array, and size and SHA-256 of its *unpacked* bytes."""

    name: str
    rank: int
    size: int
    sha256: str


# In this order: training images, training labels, test images, test labels.
FILES = (
    IdxFile("train-images-idx3-ubyte", 3, 47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    IdxFile("train-labels-idx1-ubyte", 1, 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    IdxFile("t10k-images-idx3-ubyte", 3, 7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    IdxFile("t10k-labels-idx1-ubyte", 1, 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)


class OutOfReach(DataError):
    """MNIST is not in the cache and cannot be downloaded. `reason` says why, and `remedy` what to do."""

    def __init__(self, missing: list[str], why: str, cache: Path | None) -> None:
        """Make the message of the missing files, the reason, and the folder where they belong."""
        self.reason = why
        self.remedy = (
            f"put {', '.join(missing)} (with or without .gz) into {shown(cache) if cache else 'a folder'}, "
            f"or name their folder by --data-dir or {FOLDER_VARIABLE}"
        )
        super().__init__(f"MNIST is out of reach: {why}: {self.remedy} ({OFFLINE_VARIABLE}=1 forbids downloads)")


def load_mnist(data_dir: Path | None = None) -> Dataset:
    """MNIST with its own split: uint8 (60000, 784) and (10000, 784).

    Parameters
    ----------
    data_dir
        The folder of the four files; else that in `VAEFAST_DATA_DIR`; else the cache, filled by download.

    Raises
    ------
    OutOfReach
        No folder is named, the cache lacks files, and they cannot be downloaded.
    DataError
        The folder that was named lacks files, or a file is damaged.
    """
    named = data_dir if data_dir is not None else os.environ.get(FOLDER_VARIABLE)
    found = _from_folder(Path(os.path.expanduser(named))) if named else _from_cache(cache_folder())
    arrays = [parse_idx(content, file.rank, file.name) for file, content in zip(FILES, found, strict=True)]
    return from_arrays("mnist", arrays)


def from_arrays(source: str | Path, arrays: Sequence[NDArray[np.uint8] | None]) -> Dataset:
    """A dataset of four IDX arrays in the order of `FILES`. Labels may be None; images (N, H, W) may not.

    Raises
    ------
    DataError
        The numbers of images and labels differ, or the sizes of training and test images do.
    """
    train, train_labels, test, test_labels = arrays
    assert train is not None
    assert test is not None
    return assemble(source, flat(train), flat(test), _labels(train_labels), _labels(test_labels))


def flat(array: NDArray[np.uint8]) -> Images:
    """IDX images (N, H, W) as `Images` (N, H * W)."""
    count, height, width = array.shape
    return Images(array.reshape(count, height * width), (height, width))


def _labels(array: NDArray[np.uint8] | None) -> Labels | None:
    return None if array is None else array.astype(np.int64)


def cache_folder() -> Path | None:
    """The folder of downloads, `vaefast/mnist` in `$XDG_CACHE_HOME` or `~/.cache`; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification says to ignore a relative path
        base = os.path.expanduser("~/.cache")
    return Path(base, "vaefast", "mnist") if os.path.isabs(base) else None


def find(folder: Path, name: str) -> Path | None:
    """The file of this name in a folder, plain or gzipped, spelt with `-idx` or, as in some archives, `.idx`."""
    spellings = (name, name.replace("-idx", ".idx"))
    paths = (folder / (spelling + ending) for spelling in spellings for ending in ("", ".gz"))
    return next((path for path in paths if os.path.lexists(path)), None)


def _from_folder(folder: Path) -> list[NDArray[np.uint8]]:
    """The verified content of all `FILES` in a folder that the user named."""
    if not os.path.isdir(folder):  # unlike Path.is_dir, it answers even if a parent folder may not be entered
        what = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise DataError(f"the data folder {shown(folder)} {what}: check --data-dir and {FOLDER_VARIABLE}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(
            f"the data folder {shown(folder)} cannot be read (permission denied): give yourself permission to read it"
        )
    paths = {file: find(folder, file.name) for file in FILES}
    missing = [file.name for file, path in paths.items() if path is None]
    if missing:
        raise DataError(
            f"the data folder {shown(folder)} lacks {', '.join(missing)} (with or without .gz): "
            f"put them there, or check --data-dir and {FOLDER_VARIABLE}"
        )
    return [verified(path, file) for file, path in paths.items() if path is not None]


def _from_cache(cache: Path | None) -> list[NDArray[np.uint8]]:
    """The verified content of all `FILES` in the cache. Missing files are downloaded into it."""
    paths = {file: None if cache is None else find(cache, file.name) for file in FILES}
    missing = [file.name for file, path in paths.items() if path is None]
    if missing and cache is None:
        raise OutOfReach(missing, "there is no home folder to keep it in", None)
    if missing and os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no"):
        raise OutOfReach(missing, f"it is not in {shown(cache)} and {OFFLINE_VARIABLE} is set", cache)
    # Verify the files in the cache first, so that a damaged one costs no download.
    found = {file: verified(path, file) for file, path in paths.items() if path is not None}
    mirrors = list(MIRRORS)
    if missing and cache is not None:
        _remove_stale_parts(cache)
        if sys.stderr is not None:
            word = f"vaefast: downloading MNIST, 11 MB, into {shown(cache)}; {OFFLINE_VARIABLE}=1 forbids it"
            with contextlib.suppress(OSError):
                print(word, file=sys.stderr, flush=True)
    for file in FILES:
        if file not in found and cache is not None:
            try:
                found[file] = _fetch(file, cache, mirrors)
            except DownloadError as error:
                missing = [file.name for file in FILES if file not in found]
                raise OutOfReach(missing, f"it cannot be downloaded ({error})", cache) from error
    return [found[file] for file in FILES]


def _remove_stale_parts(cache: Path) -> None:
    """Remove from the cache the parts that killed processes left."""
    for path in cache.glob(f".*{PART}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def verified(path: Path, file: IdxFile) -> NDArray[np.uint8]:
    """The unpacked bytes of a file, after a check of their SHA-256.

    Raises
    ------
    DataError
        The bytes are not those of this file of MNIST, or cannot be read.
    """
    with reading(path) as packed:
        content = new_array((file.size + 1,), np.uint8, shown(path))  # one more, to notice a file or bomb that is too long
        size = fill(unzipped(packed)[0], content)
    wrong = None
    if size != file.size:
        wrong = f"it holds {'more than ' * (size > file.size)}{min(size, file.size)} bytes instead of {file.size}"
    elif hashlib.sha256(content[:size].data).hexdigest() != file.sha256:
        wrong = "the SHA-256 of its content is wrong"
    if wrong:
        raise DataError(f"{shown(path)} is damaged or not MNIST ({wrong}): delete it and fetch {file.name} again")
    return content[:size]


def _fetch(file: IdxFile, cache: Path, mirrors: list[str]) -> NDArray[np.uint8]:
    """Download one file into the cache and return its content. A mirror that works moves to the front of the list."""
    failures = []
    for mirror in tuple(mirrors):
        try:
            content = _fetch_from(f"{mirror}{file.name}.gz", file, cache)
        except DownloadError as error:
            failures.append(f"{mirror}: {error}")
        else:
            mirrors.remove(mirror)
            mirrors.insert(0, mirror)
            return content
    raise DownloadError("; ".join(failures))


def _fetch_from(url: str, file: IdxFile, cache: Path) -> NDArray[np.uint8]:
    """Download under a temporary name, verify, and only then give the file its name."""
    part = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        part = cache / f".{file.name}-{secrets.token_hex(6)}{PART}"
        with part.open("xb") as target:  # by the umask others may read it, as `tempfile` has it not: a cache may be shared
            # In a gzip file even incompressible bytes grow by no more than this.
            download(url, target, file.size + file.size // 100 + 4096)
        content = verified(part, file)
        os.replace(part, cache / f"{file.name}.gz")
        part = None
        return content
    except OSError as error:
        raise DownloadError(f"{shown(cache)} cannot be written ({reason(error)})") from error
    except DataError as error:
        raise DownloadError("what it serves is not the file of MNIST (damaged, or a page of text)") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
