"""How the columns of a table lie in blocks of one kind each, and which outputs of the decoder belong to each block."""

from __future__ import annotations

from typing import NamedTuple

# Kinds of columns in a table, in the order of their blocks.
COLUMN_KINDS = ("gaussian", "student-t", "negative-binomial", "bernoulli", "categorical")

# Kinds that a user can ask for, and the kind of the engines that each of them is.
KINDS = {
    "real": "gaussian", "positive": "gaussian", "heavy-tailed": "student-t", "count": "negative-binomial",
    "binary": "bernoulli", "categorical": "categorical",
}  # fmt: skip


class Block(NamedTuple):
    """Columns first to last - 1 of a table, all of one kind."""

    kind: str
    output: str  # the tensor of their first output
    first: int
    last: int
    groups: tuple[int, ...] = ()  # of categories: how many levels each variable has

    @property
    def size(self) -> int:
        return self.last - self.first


class Blocks(NamedTuple):
    """All blocks of a table, in the order of their columns."""

    blocks: tuple[Block, ...]

    @property
    def columns(self) -> int:
        return self.blocks[-1].last

    @property
    def heavy(self) -> int:
        """How many columns have a scale and degrees of freedom."""
        return sum(block.size for block in self.blocks if block.kind == "student-t")

    @property
    def outputs(self) -> int:
        return self.columns + 2 * self.heavy

    def tensors(self) -> list[tuple[str, int]]:
        """The tensors of the outputs and their widths, in order."""
        own = [(block.output, block.size) for block in self.blocks]
        return own + ([("scales", self.heavy), ("freedoms", self.heavy)] if self.heavy else [])

    def variables(self) -> list[tuple[int, int]]:
        """The columns of each variable: one, or one for each level of a category."""
        found: list[tuple[int, int]] = []
        for block in self.blocks:
            first = block.first
            for width in block.groups or (1,) * block.size:
                found.append((first, first + width))
                first += width
        return found


def blocks_of(likelihood: str, columns: int, kinds: tuple[tuple[str, int], ...] = ()) -> Blocks:
    """The blocks of a table of one kind, or of the kinds of a `mixed` one, each with its columns."""
    if not kinds:
        return Blocks((Block(likelihood, "logits", 0, columns),))
    blocks, first = [], 0
    for kind in COLUMN_KINDS:
        widths = tuple(width for name, width in kinds if name == kind)
        if widths:
            last = first + sum(widths)
            blocks.append(Block(kind, f"logits.{kind}", first, last, widths if kind == "categorical" else ()))
            first = last
    return Blocks(tuple(blocks))
