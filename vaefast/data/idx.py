"""The IDX format of MNIST: two zero bytes, a type, a rank, that many big-endian 32-bit sizes, then the values.

Only unsigned bytes (type 0x08) of rank 1 (labels) or 3 (images) are read. MNIST and similar sets use nothing else.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaefast.data.reading import fill, new_array, reading, unzipped
from vaefast.data.wording import shown
from vaefast.errors import DataError

UNSIGNED_BYTE = 0x08
RANKS = {1: "labels", 3: "images"}


def read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """The array in an IDX file, plain or gzipped: uint8 (N,) for rank 1, (N, H, W) for rank 3.

    Raises
    ------
    DataError
        The file is not an IDX file of that rank, or is shorter or longer than its header says.
    """
    origin = shown(path)
    with reading(path) as file:
        stream, most = unzipped(file)
        start = stream.read(4)
        check_start(start, rank, origin)
        sizes = sizes_in(stream.read(4 * rank), rank, origin)
        total = prod(sizes)
        # Checked before memory is allocated: a header can promise petabytes, which a gzip file of this size cannot hold.
        if total > most:
            raise DataError(f"{origin} is too short for its header, which promises {total} values: fetch it again")
        content = new_array((total + 1,), np.uint8, origin)  # one more, to notice a file that is too long
        check_length(fill(stream, content), total, origin)
    return content[:total].reshape(sizes)


def parse_idx(content: NDArray[np.uint8], rank: int, origin: str) -> NDArray[np.uint8]:
    """The array in the bytes of a whole IDX file, as a view of them.

    Raises
    ------
    DataError
        As for `read_idx`.
    """
    header = 4 + 4 * rank
    start = content[:header].tobytes()
    check_start(start[:4], rank, origin)
    sizes = sizes_in(start[4:], rank, origin)
    check_length(content.size - header, prod(sizes), origin)
    return content[header:].reshape(sizes)


def looks_like_idx(start: bytes) -> bool:
    """Whether four bytes begin an IDX file of any type and rank. No other format read here begins with two zeros."""
    return len(start) == 4 and start[:2] == b"\0\0" and 0x08 <= start[2] <= 0x0E and start[3] > 0


def check_start(start: bytes, rank: int, origin: str) -> None:
    """Refuse all but unsigned bytes of this rank."""
    if not looks_like_idx(start):
        held = f"it starts with the bytes {start.hex(' ')}" if start else "it is empty"
        raise DataError(f"{origin} is not an IDX file ({held}): fetch it again, or unpack it if it has another format")
    if start[2] != UNSIGNED_BYTE:
        raise DataError(f"{origin} holds IDX values of type 0x{start[2]:02x}: only unsigned bytes (0x08) are read")
    if start[3] != rank:
        held = RANKS.get(start[3], f"{start[3]} dimensions")
        raise DataError(f"{origin} holds {held}, where {RANKS[rank]} (rank {rank}) are expected: check which file is which")


def sizes_in(header: bytes, rank: int, origin: str) -> tuple[int, ...]:
    """The sizes after the first four bytes. None of them may be 0."""
    if len(header) < 4 * rank:
        raise DataError(f"{origin} ends within its header: fetch it again")
    sizes = tuple(np.frombuffer(header, ">u4", rank).tolist())
    if 0 in sizes:
        raise DataError(f"{origin} is empty, with the sizes {sizes}: give at least one image of one pixel")
    return sizes


def check_length(held: int, promised: int, origin: str) -> None:
    """Refuse a file that is not exactly as long as its header says."""
    if held != promised:
        amount = f"more than {promised}" if held > promised else f"only {held} of {promised}"
        raise DataError(f"{origin} holds {amount} values that its header promises: fetch it again")
