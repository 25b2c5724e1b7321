"""Data-parallel training over MPI: rank 0 leads through the contract of an engine, the others follow.

Each rank holds a part of the images, takes an equal share of every minibatch through the Numba engine's rows phase, and hands
out the gradient of its share. Each then adds up one part of the gradient, runs Adam on the same part of the model, whose
moments nobody else holds, and hands the new parameters to all.
"""

from __future__ import annotations

from vaefast.engines.distributed.leader import DistributedEngine, end, follow, lead, threads_of_a_rank
from vaefast.engines.distributed.ranks import Ranks, join

__all__ = ["DistributedEngine", "Ranks", "end", "follow", "join", "lead", "threads_of_a_rank"]
