"""A set of images as the kernels of the CPU engines read it: whole, or as lists of the non-zero pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.models.count_rows import CountRows
from vaefast.models.grey_levels import grey_levels
from vaefast.models.settings import ModelSettings

DYNAMIC, THRESHOLD, NONE = 0, 1, 2
BINARIZATION_CODES = {"dynamic": DYNAMIC, "threshold": THRESHOLD, "none": NONE}

SEEN_AS_THEY_ARE, SEEN_AS_LOGARITHMS, SEEN_OVER_THEIR_NORM = 0, 1, 2
ENCODER_INPUT_CODES = {"none": SEEN_AS_THEY_ARE, "log1p": SEEN_AS_LOGARITHMS, "l2": SEEN_OVER_THEIR_NORM}

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
    """N rows of counts, of bytes, shorts or floats, as lists of what is not zero, and what is known of each row."""

    bytes: NDArray[np.uint8]
    floats: NDArray[np.float32]
    starts: NDArray[np.int64]  # (N + 1,)
    pixels: NDArray[Any]  # columns, uint16 or uint32, ascending in each row
    totals: NDArray[np.float32]  # (N,): the sum of the counts
    sizes: NDArray[np.float32]  # (N,): what the rates add up to
    constants: NDArray[np.float64]  # (N,): what of log p(x | z) does not depend on z, nats
    shorts: NDArray[np.uint16]  # the counts, where they are neither bytes nor floats
    encoder_input: int  # one of ENCODER_INPUT_CODES


class TableRows(NamedTuple):
    """Rows of a table in blocks of columns, NaN where a value is missing."""

    floats: NDArray[np.float32]  # (N * X,)


def listing_pays(images: int, pixels: int, entries: int) -> bool:
    """Whether so many images of so many pixels, `entries` of which are not zero, are better held as lists, and can be."""
    return bool(pixels <= LISTED_PIXELS and entries < SPARSE_BELOW * images * pixels)


def is_sparse(values: NDArray[Any]) -> bool:
    """`listing_pays` of images (N, X)."""
    images, pixels = values.shape
    return listing_pays(images, pixels, int(np.count_nonzero(values)))


def first_layer_is_sparse(values: NDArray[Any], model: ModelSettings) -> bool:
    """Whether the first layer takes images (N, X) as lists: where that pays, and no covariate comes in beside them."""
    return not model.encode_covariates and is_sparse(values)


def held_whole(values: NDArray[Any]) -> Images:
    """Images (N, X), uint8 or what becomes float32, as they are; copied only where they must be."""
    levels = values if values.dtype == np.uint8 else values.astype(np.float32, copy=False)
    pixels = np.arange(values.shape[1]).astype(np.uint16)
    return images_of(np.ascontiguousarray(levels).reshape(-1), np.empty(0, np.int64), pixels)


def held_table(values: NDArray[Any]) -> TableRows:
    """Rows of a table, (N, X), as they are; bytes as level / 255."""
    floats = grey_levels(values) if values.dtype == np.uint8 else values.astype(np.float32, copy=False)
    return TableRows(np.ascontiguousarray(floats).reshape(-1))


def empty_lists(whole: Images, starts: NDArray[np.int64]) -> Images:
    """Room for the lists of whole images, the entries of which start there, (N + 1,)."""
    entries, dtype = int(starts[-1]), np.uint8 if whole.bytes.size else np.float32
    return images_of(np.empty(entries, dtype), starts, np.empty(entries, np.uint16))


def images_of(levels: NDArray[Any], starts: NDArray[np.int64], pixels: NDArray[Any]) -> Images:
    """Images with these levels, uint8 or float32."""
    in_bytes = levels.dtype == np.uint8
    none: NDArray[Any] = np.empty(0, np.float32 if in_bytes else np.uint8)
    return Images(levels if in_bytes else none, none if in_bytes else levels, starts, pixels)


def count_lists(rows: CountRows, likelihood: str, encoder_input: str) -> CountLists:
    """Rows of counts as the kernels read them for a likelihood; the entries are not copied."""
    rows = rows.packed()
    totals, no_shorts = rows.totals(), rows.values.dtype != np.uint16
    lists = images_of(rows.values if no_shorts else np.empty(0, np.float32), rows.starts, rows.columns)
    shorts: NDArray[Any] = np.empty(0, np.uint16) if no_shorts else rows.values
    sizes = rows.row_sizes()
    constants = rows.constants(sizes, likelihood)
    row = totals.astype(np.float32), sizes.astype(np.float32), constants
    return CountLists(*lists, *row, shorts, ENCODER_INPUT_CODES[encoder_input])
