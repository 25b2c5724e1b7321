"""Parts of a set on their way to the ranks: in pieces, each rank's alone, and guests with all that is known of them."""

import threading
from queue import Queue

import numpy as np
import pytest
from cases import COUNT_CASES, COVARIATE_CASES

from vaefast.engines.distributed import delivery
from vaefast.engines.distributed.delivery import bounds, described
from vaefast.engines.distributed.placing import placed_part, with_covariates
from vaefast.engines.distributed.room import Room
from vaefast.engines.images import CountLists, count_lists
from vaefast.models.conditions import Conditioned, parted
from vaefast.models.count_rows import CountRows
from vaefast.models.settings import ModelSettings

LARGEST_PIECE = 128  # bytes, here


class Thread:
    """What `ranks.Ranks` offers to a thread that plays a rank."""

    def __init__(self, rank, queues, sent):
        self.rank, self.size, self._queues, self._sent = rank, len(queues), queues, sent

    def send(self, array, rank):
        self._sent.append(array.nbytes)
        self._queues[rank].put(array.copy())

    def receive(self, array):
        array[...] = self._queues[self.rank].get(timeout=60)

    def broadcast(self, array):
        if self.rank:
            self.receive(array)
        else:
            for rank in range(1, self.size):
                self._queues[rank].put(array.copy())


def parts(monkeypatch, model, values, ranks, room):
    """What each of so many ranks holds of a set, and the bytes of each message."""
    monkeypatch.setattr(delivery, "PIECE_BYTES", LARGEST_PIECE)
    rows, covariates = parted(values)
    source, sent_rows = described(rows, model)
    queues, sent, found = [Queue() for _ in range(ranks)], [], [None] * ranks

    def take(rank):
        thread = Thread(rank, queues, sent)
        held = placed_part(thread, model, source, None if rank else sent_rows, room)
        if covariates is not None:
            told = None if rank else covariates
            held = with_covariates(thread, held, len(rows), covariates.shape[1], told, room)
        found[rank] = held

    threads = [threading.Thread(target=take, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(queue.empty() for queue in queues)
    return found, sent


def lists_of(placed, numbers):
    """Rows of placed counts by their places: entries, and what is known of each."""
    lists = placed.images
    values = next((array for array in (lists.bytes, lists.shorts, lists.floats) if array.size), lists.bytes)
    rows = [slice(lists.starts[i], lists.starts[i + 1]) for i in numbers]
    about = lists.totals[numbers], lists.sizes[numbers], lists.constants[numbers]
    return [(lists.pixels[row], values[row]) for row in rows], about, [array.dtype for array in lists[:-1]]


def same(one, other):
    assert one[2] == other[2]  # types
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert all(map(np.array_equal, mine, theirs))
    assert all(map(np.array_equal, one[1], other[1]))


@pytest.mark.parametrize("largest", [200, 60_000, 70_000])
@pytest.mark.parametrize("ranks", [1, 2, 3, 40])
@pytest.mark.parametrize("name", ["negative-binomial tanh", "multinomial odd sizes", "poisson odd sizes and 4 covariates"])
def test_counts_come_in_pieces_and_guests_with_all_that_is_known_of_them(monkeypatch, name, ranks, largest):
    case = next(case for case in COUNT_CASES + COVARIATE_CASES if case.name == name)
    values, covariates = parted(case.values())
    rows = CountRows.of(np.minimum(values if isinstance(values, np.ndarray) else values.dense(np.int64), 200))
    rows.values[-1] = 1
    if largest > 200:
        dense = rows.dense(np.int64)
        dense[-1, -1] = largest  # one row alone decides the type of all
        rows = CountRows.of(dense)
    given = rows if covariates is None else Conditioned(rows, covariates)
    whole = count_lists(rows, case.model.likelihood, case.model.encoder_input)
    found, sent = parts(monkeypatch, case.model, given, ranks, room=2)
    assert bool(sent) == (ranks > 1)
    assert max(sent, default=0) <= max(LARGEST_PIECE, 8 * (1 + case.model.covariates))
    begin = bounds(len(rows), ranks)
    for rank, held in enumerate(found):
        own = np.arange(begin[rank], begin[rank + 1])
        assert held.size == len(own)
        assert held.placed.longest == rows.longest
        assert isinstance(held.placed.images, CountLists)
        same(lists_of(held.placed, np.arange(len(own))), lists_of(held.placed._replace(images=whole), own))
    # More guests than there is room for, twice: the second time in the place of the first.
    for shift in (0, 1):
        guests = [np.arange(held.size)[shift::2] for held in found]
        for rank, held in enumerate(found):
            held.welcome(
                [
                    other.take(chosen if r != rank else chosen[:0])
                    for r, (other, chosen) in enumerate(zip(found, guests, strict=True))
                ]
            )
        for rank, held in enumerate(found):
            expected = np.concatenate(
                [np.arange(begin[rank], begin[rank + 1])] + [begin[r] + guests[r] for r in range(ranks) if r != rank]
            )
            same(
                lists_of(held.placed, np.arange(len(expected))),
                lists_of(held.placed._replace(images=whole), expected),
            )
            if covariates is not None:
                assert np.array_equal(held.placed.covariates, covariates[expected])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_tables_come_in_pieces(monkeypatch, dtype, order):
    model = ModelSettings(5, (3,), 2, likelihood="student-t", missing=True)
    table = np.random.default_rng(0).integers(0, 256, (31, 5)).astype(dtype, order=order)
    found, sent = parts(monkeypatch, model, table, 3, room=1)
    assert 0 < max(sent) <= LARGEST_PIECE
    expected = (table / np.float32(255) if dtype == np.uint8 else table).astype(np.float32)
    begin = bounds(31, 3)
    for rank, held in enumerate(found):
        own = expected[begin[rank] : begin[rank + 1]]
        assert np.allclose(held.placed.images.floats.reshape(-1, 5), own, rtol=1e-7)
        held.welcome([found[0].take(np.array([4, 2])), found[1].take(np.array([0]))])
        guests = expected[[4, 2, begin[1]]]
        assert np.allclose(held.placed.images.floats.reshape(-1, 5), np.concatenate([own, guests]), rtol=1e-7)


def test_room_grows_and_keeps_what_is_there():
    room = Room(2, 1, np.int64)
    room.own[:] = 7, 8
    assert room.welcome([np.array([1])]).tolist() == [7, 8, 1]
    assert room.welcome([np.array([2, 3]), np.array([4])]).tolist() == [7, 8, 2, 3, 4]
    assert room.welcome([]).tolist() == room.own.tolist() == [7, 8]
