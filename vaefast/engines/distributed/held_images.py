"""The images that a rank holds, in the form that the kernels read: whole, or as lists of what is not zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.distributed.room import Room, filled_with, listed, reserved
from vaefast.engines.examples import read_only_images
from vaefast.engines.images import held_whole, images_of, listing_pays
from vaefast.engines.numba_cpu.engine import Placed
from vaefast.engines.numba_cpu.pixels import count_nonzero, list_nonzero

Blocks = Callable[[], Iterator[NDArray[Any]]]


class SentImages(NamedTuple):
    """Images that are sent to another rank."""

    lengths: NDArray[np.int64]  # entries of each
    levels: NDArray[Any]
    pixels: NDArray[np.uint16]  # of each entry; none where images travel whole


class HeldImages:
    """See `held.Held`: `size` images of `width` pixels.

    They come in blocks of rows, (n, width) uint8 or float32, the same at each call. `total` sums a number over all ranks, so
    that all of them decide alike between lists and whole images, where the first layer may take lists. `room` is the largest
    number of guests.
    """

    def __init__(
        self, blocks: Blocks, size: int, width: int, dtype: Any, room: int, total: Callable[[int], int], may_list: bool
    ) -> None:
        self.size, self.width = size, width
        lengths = [_lengths(block) for block in blocks()]
        own = np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum()
        images, entries = total(size), total(int(own[-1]))
        self.sparse = may_list and listing_pays(images, width, entries)
        self._starts = filled_with(own if self.sparse else np.arange(size + 1) * width, room)
        end, reserve = int(self._starts.own[-1]), reserved(room, entries, images) if self.sparse else room * width
        self._levels = Room(end, reserve, dtype)
        self._pixels = Room(end if self.sparse else 0, reserve if self.sparse else 0, np.uint16)
        (self._fill_lists if self.sparse else self._fill_whole)(blocks)
        self.placed = self._view(self._starts.own, self._levels.own, self._pixels.own)

    def take(self, images: NDArray[np.int64]) -> SentImages:
        if not self.sparse:
            rows = self._levels.own.reshape(self.size, self.width)[images]
            return SentImages(np.full(len(images), self.width), rows.reshape(-1), self._pixels.own)
        lengths, entries = listed(self._starts.own, images)
        return SentImages(lengths, self._levels.own[entries], self._pixels.own[entries])

    def welcome(self, guests: list[SentImages]) -> None:
        lengths, levels, pixels = zip(*guests, strict=True)
        ends = self._starts.own[-1] + np.concatenate(lengths).cumsum()
        self.placed = self._view(self._starts.welcome([ends]), self._levels.welcome(levels), self._pixels.welcome(pixels))

    def _fill_lists(self, blocks: Blocks) -> None:
        first, levels, pixels = 0, self._levels.own, self._pixels.own
        for block in blocks():
            starts = self._starts.own[first : first + len(block) + 1]
            entries = slice(int(starts[0]), int(starts[-1]))
            lists = images_of(levels[entries], starts - starts[0], pixels[entries])
            list_nonzero(read_only_images(held_whole(block)), lists)
            first += len(block)

    def _fill_whole(self, blocks: Blocks) -> None:
        first, levels = 0, self._levels.own
        for block in blocks():
            levels[first : first + block.size] = block.reshape(-1)
            first += block.size

    def _view(self, starts: NDArray[np.int64], levels: NDArray[Any], pixels: NDArray[np.uint16]) -> Placed:
        if self.sparse:
            images = images_of(levels, starts, pixels)
        else:
            images = images_of(levels, np.empty(0, np.int64), np.arange(self.width).astype(np.uint16))
        return Placed(read_only_images(images), self.sparse, self.size)


def _lengths(block: NDArray[Any]) -> NDArray[np.int64]:
    """The non-zero pixels of each row."""
    starts = np.empty(len(block) + 1, np.int64)
    count_nonzero(read_only_images(held_whole(block)), starts)
    return np.diff(starts)
