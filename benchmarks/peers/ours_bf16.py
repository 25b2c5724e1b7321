"""vaefast with the factors of its products in bfloat16."""

from __future__ import annotations

from benchmarks.peers import ours

NAME = "vaefast bf16"
version = ours.version


class Trainer(ours.Trainer):
    """See `benchmarks.peers`."""

    precision = "bf16"
