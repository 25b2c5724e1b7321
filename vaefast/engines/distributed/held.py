"""The images that a rank holds, in the form that the kernels read.

There is room for *guests*: images of other ranks that this rank trains on in some minibatches, so that shares are equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.examples import read_only_images
from vaefast.engines.images import held_whole, images_of, listing_pays
from vaefast.engines.numba_cpu.engine import Placed
from vaefast.engines.numba_cpu.pixels import count_nonzero, list_nonzero

Blocks = Callable[[], Iterator[NDArray[Any]]]
# Room for the lists of guests, relative to the same number of average images.
RESERVE = 1.3


class Guests(NamedTuple):
    """Images that are sent to another rank."""

    lengths: NDArray[np.int64]  # entries of each
    levels: NDArray[Any]
    pixels: NDArray[np.uint16]  # of each entry; none where images travel whole


class Held:
    """`size` images of `width` pixels that come in blocks of rows, (n, width) uint8 or float32, the same at each call.

    `total` sums a number over all ranks, so that all of them decide alike between lists and whole images. `room` is the
    largest number of guests.
    """

    def __init__(self, blocks: Blocks, size: int, width: int, dtype: Any, room: int, total: Callable[[int], int]) -> None:
        self.size, self.width, self._room = size, width, room
        lengths = [_lengths(block) for block in blocks()]
        own = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
        images, entries = total(size), total(int(own[-1]))
        self.sparse = listing_pays(images, width, entries)
        self._starts = own if self.sparse else np.arange(size + 1) * width
        reserve = int(room * (RESERVE * entries / max(1, images) if self.sparse else width)) + width
        self._levels = np.empty(int(self._starts[-1]) + (reserve if room else 0), dtype)
        self._pixels = np.empty(self._levels.size if self.sparse else 0, np.uint16)
        (self._fill_lists if self.sparse else self._fill_whole)(blocks)
        self.placed = self._view(self._starts)

    def take(self, images: NDArray[np.int64]) -> Guests:
        """Copies of the images at these places, (n,)."""
        if not self.sparse:
            rows = self._levels[: self._starts[-1]].reshape(self.size, self.width)[images]
            return Guests(np.full(len(images), self.width), rows.reshape(-1), self._pixels)
        starts, ends = self._starts[images], self._starts[images + 1]
        lengths = ends - starts
        entries = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        return Guests(lengths, self._levels[entries], self._pixels[entries])

    def welcome(self, guests: list[Guests]) -> None:
        """Put these images behind the own ones, in the place of the guests that were there."""
        lengths = np.concatenate([some.lengths for some in guests])
        own = int(self._starts[self.size])
        ends = own + np.cumsum(lengths)
        self._make_room(int(ends[-1]) if len(ends) else own)
        self._levels[own : own + lengths.sum()] = np.concatenate([some.levels for some in guests])
        if self.sparse:
            self._pixels[own : own + lengths.sum()] = np.concatenate([some.pixels for some in guests])
        self.placed = self._view(np.concatenate([self._starts, ends]))

    def _make_room(self, entries: int) -> None:
        if entries > self._levels.size:
            self._levels = np.concatenate([self._levels, np.empty(entries - self._levels.size, self._levels.dtype)])
            self._pixels = np.concatenate(
                [self._pixels, np.empty(entries - self._pixels.size if self.sparse else 0, np.uint16)]
            )

    def _fill_lists(self, blocks: Blocks) -> None:
        first = 0
        for block in blocks():
            starts = self._starts[first : first + len(block) + 1]
            entries = slice(int(starts[0]), int(starts[-1]))
            lists = images_of(self._levels[entries], starts - starts[0], self._pixels[entries])
            list_nonzero(read_only_images(held_whole(block)), lists)
            first += len(block)

    def _fill_whole(self, blocks: Blocks) -> None:
        first = 0
        for block in blocks():
            self._levels[first : first + block.size] = block.reshape(-1)
            first += block.size

    def _view(self, starts: NDArray[np.int64]) -> Placed:
        if self.sparse:
            images = images_of(self._levels, starts, self._pixels)
        else:
            images = images_of(self._levels, np.empty(0, np.int64), np.arange(self.width).astype(np.uint16))
        return Placed(read_only_images(images), self.sparse, self.size)


def _lengths(block: NDArray[Any]) -> NDArray[np.int64]:
    """The non-zero pixels of each row."""
    starts = np.empty(len(block) + 1, np.int64)
    count_nonzero(read_only_images(held_whole(block)), starts)
    return np.diff(starts)
