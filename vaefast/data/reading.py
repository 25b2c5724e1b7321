"""Read bytes from files of any sort: FIFOs, gzip bombs, unreadable files, files too large for this machine."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vaefast.data.wording import reason, shown
from vaefast.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
XZ_MAGIC = b"\xfd7zXZ\0"
BZ2_MAGIC = b"BZh"
ZIP_MAGIC = b"PK\x03\x04"
NPY_MAGIC = b"\x93NUMPY"

# Bytes per call: GzipFile and ZipExtFile first make a bytes object of the size that they are asked for.
PIECE = 1 << 20

# Deflate codes at most 258 bytes in 2 bits: no gzip file unpacks to more than 1032 times its size.
LARGEST_INFLATION = 1032


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Any failure to open it, or to read it inside the `with`, becomes a DataError.

    Raises
    ------
    DataError
        The path does not exist, is not a regular file, cannot be read, or its gzip stream is damaged.
    """
    try:
        # Checked before opening: opening a FIFO waits for its writer, and opening a device may act on it.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"{shown(path)} is {kind_of(path)}, not a file: give a file of data")
        with open(path, "rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise DataError(f"{shown(path)} does not exist: check its name") from error
    except PermissionError as error:
        raise DataError(f"{shown(path)} cannot be read (permission denied): give yourself permission to read it") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DataError(f"{shown(path)} cannot be read ({reason(error)}): it may be damaged, fetch it again") from error


def kind_of(path: Path) -> str:
    """What a path is, in words with an article."""
    mode = os.stat(path).st_mode
    kinds = (
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((words for is_kind, words in kinds if is_kind(mode)), "a device")


def unzipped(stream: BinaryIO) -> tuple[BufferedIOBase | BinaryIO, int]:
    """The content of a plain or gzipped file, told apart by the first bytes, and the largest size that it can have."""
    size = os.fstat(stream.fileno()).st_size
    magic = stream.read(len(GZIP_MAGIC))
    stream.seek(0)
    if magic == GZIP_MAGIC:
        return gzip.GzipFile(fileobj=stream), size * LARGEST_INFLATION
    return stream, size


@contextmanager
def unpacked(stream: BinaryIO, path: Path) -> Iterator[BufferedIOBase | BinaryIO | IO[bytes]]:
    """The content of a file that may be packed by gzip, xz or bz2, or be a zip archive of one file; told by its first bytes.

    Raises
    ------
    DataError
        The file is a zip archive of several files, or is encrypted.
    """
    magic = stream.read(len(XZ_MAGIC))
    stream.seek(0)
    if magic.startswith(GZIP_MAGIC):
        with gzip.GzipFile(fileobj=stream) as content:
            yield content
    elif magic.startswith(XZ_MAGIC):
        with lzma.open(stream) as content:
            yield content
    elif magic.startswith(BZ2_MAGIC):
        with bz2.open(stream) as content:
            yield content
    elif magic.startswith(ZIP_MAGIC):
        with zipfile.ZipFile(stream) as archive:
            held = [info for info in archive.infolist() if not info.is_dir() and not info.filename.startswith("__MACOSX/")]
            if len(held) != 1:
                raise DataError(f"{shown(path)} is an archive of {len(held)} files: unpack it, and give one of them")
            if held[0].flag_bits & 1:
                raise DataError(f"{shown(path)} is encrypted: unpack it, and give what it holds")
            with archive.open(held[0]) as member:
                yield member
    else:
        yield stream


def fill(stream: Any, array: NDArray[Any]) -> int:
    """Read into a C-contiguous array until it is full or the stream ends; return the number of bytes read."""
    room = array.reshape(-1).view(np.uint8).data
    got = 0
    while got < len(room):
        count = stream.readinto(room[got : got + PIECE])
        if not count:
            break
        got += count
    return got


def new_array(shape: tuple[int, ...], dtype: DTypeLike, origin: str) -> NDArray[Any]:
    """An uninitialised array, unless this machine cannot hold it.

    Linux grants more memory than it has and kills the process that uses it, so catching MemoryError is not enough.

    Raises
    ------
    DataError
        The array is larger than this machine's memory.
    """
    size = np.dtype(dtype).itemsize
    for length in shape:
        size *= length
    try:
        if size > machine_memory():
            raise MemoryError
        return np.empty(shape, dtype)
    except MemoryError as error:
        raise DataError(
            f"{origin} needs {size / 2**30:.1f} GiB of memory, more than this machine has: give fewer or smaller images"
        ) from error


def machine_memory() -> float:
    """Bytes of physical memory; infinite if the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return float("inf")
