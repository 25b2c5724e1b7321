"""Which rank trains on which example: the ranks hold equal parts of the images and take equal shares of every minibatch.

The noise of an example depends on its number, so the shares change only the order of summation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def part(size: int, rank: int, ranks: int) -> tuple[int, int]:
    """The first of `size` examples that a rank holds, and the one after its last."""
    return size * rank // ranks, size * (rank + 1) // ranks


def owners(examples: NDArray[np.int64], size: int, ranks: int) -> NDArray[np.int64]:
    """The rank that holds each of these examples, (n,), of `size`."""
    firsts = np.array([part(size, rank, ranks)[0] for rank in range(1, ranks)], np.int64)
    return np.searchsorted(firsts, examples, side="right")


def takers(owner: NDArray[np.int64], ranks: int) -> NDArray[np.int64]:
    """The rank that trains on each example of a minibatch, (B,). `owner` is the rank that holds it.

    No two shares differ by more than one example. As few examples as possible go to a rank that does not hold them.
    """
    held = np.bincount(owner, minlength=ranks)
    quota = np.full(ranks, len(owner) // ranks)
    # The remainder stays with the ranks that hold most.
    quota[np.argsort(-held, kind="stable")[: len(owner) % ranks]] += 1
    taker = owner.copy()
    order = np.argsort(owner, kind="stable")
    place = np.arange(len(owner)) - np.repeat(np.cumsum(held) - held, held)  # among the examples of its owner
    moved = order[place >= quota[owner[order]]]
    taker[moved] = np.repeat(np.arange(ranks), np.maximum(quota - held, 0))
    return taker
