"""Data-parallel training over MPI. Rank 0 offers the contract of an engine, and the other ranks follow it.

Each rank holds a part of the images, or of the rows of a table. It computes the gradient of an equal share of every minibatch
with the rows phase of the Numba engine. Each rank then sums one part of the gradient over all ranks, runs Adam on the same
part of the model, and sends the new parameters to all. Only that rank holds the moments of its part.
"""

from __future__ import annotations

from vaefast.engines.distributed.leader import DistributedEngine, end, follow, lead, threads_of_a_rank
from vaefast.engines.distributed.ranks import Ranks, join

__all__ = ["DistributedEngine", "Ranks", "end", "follow", "join", "lead", "threads_of_a_rank"]
