"""Sets of images as the kernels of the CPU engines read them, whole or as lists of non-zero pixels; and what a call takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.models.count_rows import CountRows

DYNAMIC, THRESHOLD, NONE = 0, 1, 2
BINARIZATION_CODES = {"dynamic": DYNAMIC, "threshold": THRESHOLD, "none": NONE}

SEEN_AS_THEY_ARE, SEEN_AS_LOGARITHMS, SEEN_AS_SHARES_OF_THE_NORM = 0, 1, 2
ENCODER_INPUT_CODES = {"none": SEEN_AS_THEY_ARE, "log1p": SEEN_AS_LOGARITHMS, "l2": SEEN_AS_SHARES_OF_THE_NORM}

# Above this share of non-zero pixels the dense tiles are faster than lists. With 13 % of the pixels on, 200 images take 193 us
# forward and 180 us back by lists, 396 and 380 densely: even at 27 % on, which drawn digits reach at 40 % non-zero.
SPARSE_BELOW = 0.4
# What lists hold the numbers of, in 16 bits.
LISTED_PIXELS = 2**16


class Images(NamedTuple):
    """A set of N images of X pixels in one of two forms, of bytes or of floats; the other array of levels is empty.

    Whole images: levels (N * X,), starts (0,), and pixels 0 to X - 1. Lists: the non-zero pixels of image n, ascending, are
    entries starts[n] to starts[n + 1] - 1 of the levels and the pixels.
    """

    bytes: NDArray[np.uint8]
    floats: NDArray[np.float32]
    starts: NDArray[np.int64]
    pixels: NDArray[np.uint16]


class CountLists(NamedTuple):
    """A table of N rows of counts, of bytes or of floats, as lists of what is not zero; of each row what is the same always."""

    bytes: NDArray[np.uint8]
    floats: NDArray[np.float32]
    starts: NDArray[np.int64]  # (N + 1,)
    pixels: NDArray[np.uint16 | np.uint32]  # columns, ascending in each row
    totals: NDArray[np.float32]  # (N,): the sum of the counts
    sizes: NDArray[np.float32]  # (N,): what the rates add up to
    constants: NDArray[np.float64]  # (N,): what of log p(x | z) does not depend on z, nats
    encoder_input: int  # one of ENCODER_INPUT_CODES


class Randomness(NamedTuple):
    """Where the random numbers of a call come from (`vaefast.models.noise`)."""

    seed: np.uint64
    step: np.int64
    pixels: np.int64  # purpose
    latents: np.int64  # purpose


class Examples(NamedTuple):
    """The n images that a call takes, and how it sees them."""

    images: Images | CountLists
    order: NDArray[np.int64]  # (n,): which of the images each example is
    keys: NDArray[np.int64]  # (n,): the number under which it draws its noise
    binarize: int  # one of BINARIZATION_CODES
    sparse: bool  # whether the first layer takes lists of pixels
    randomness: Randomness


def listing_pays(images: int, pixels: int, entries: int) -> bool:
    """Whether so many images of so many pixels, `entries` of which are not zero, are better held as lists, and can be."""
    return bool(pixels <= LISTED_PIXELS and entries < SPARSE_BELOW * images * pixels)


def is_sparse(values: NDArray[Any]) -> bool:
    """`listing_pays` of images (N, X)."""
    images, pixels = values.shape
    return listing_pays(images, pixels, int(np.count_nonzero(values)))


def held_whole(values: NDArray[Any]) -> Images:
    """Images (N, X), uint8 or what becomes float32, as they are; copied only where they must be."""
    levels = values if values.dtype == np.uint8 else values.astype(np.float32, copy=False)
    pixels = np.arange(values.shape[1]).astype(np.uint16)
    return images_of(np.ascontiguousarray(levels).reshape(-1), np.empty(0, np.int64), pixels)


def empty_lists(whole: Images, starts: NDArray[np.int64]) -> Images:
    """Room for the lists of whole images, the entries of which start there, (N + 1,)."""
    entries, dtype = int(starts[-1]), np.uint8 if whole.bytes.size else np.float32
    return images_of(np.empty(entries, dtype), starts, np.empty(entries, np.uint16))


def images_of(levels: NDArray[Any], starts: NDArray[np.int64], pixels: NDArray[np.uint16]) -> Images:
    """Images with these levels, uint8 or float32."""
    in_bytes = levels.dtype == np.uint8
    none: NDArray[Any] = np.empty(0, np.float32 if in_bytes else np.uint8)
    return Images(levels if in_bytes else none, none if in_bytes else levels, starts, pixels)


def count_lists(rows: CountRows, likelihood: str, encoder_input: str) -> CountLists:
    """Rows of counts as the kernels read them for a likelihood; the entries are not copied."""
    totals = rows.totals()
    levels = rows.values
    none: NDArray[Any] = np.empty(0, np.float32 if levels.dtype == np.uint8 else np.uint8)
    in_bytes = levels.dtype == np.uint8
    return CountLists(
        levels if in_bytes else none, none if in_bytes else levels, rows.starts, rows.columns,
        totals.astype(np.float32), totals.astype(np.float32), rows.constants(totals, likelihood),
        ENCODER_INPUT_CODES[encoder_input],
    )  # fmt: skip
