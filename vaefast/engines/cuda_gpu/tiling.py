"""The tiles of the products of a phase: those with the shortest estimated time of the phase.

Tasks are dealt to the blocks in turn, so the time of a phase can be estimated beforehand: each block has the latencies of its
tasks, one after the other, the two blocks of a multiprocessor share its arithmetic, and all share the second-level cache. The
numbers are estimates for compute capability 9.0 and not measurements. They rank tiles, and predict no time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vaefast.models.layout import padded

# The tile of one warp: each lane holds 4 x 4 of its results. In a narrow one four groups of lanes share the depth.
WARP_ROWS, WARP_COLUMNS, NARROW_SHIFT = 16, 32, 3
TALLEST = 4 * WARP_ROWS
DEEPEST = 128  # of a product, staged in shared memory at a time; twice as much of a narrow tile
UNITS = 4  # of four floats, that a thread stages of each operand
LANES = 32
# Cycles: of a task whatever it does, of each chunk of the depth after its first, and of arithmetic: a multiprocessor does 128
# multiply-adds a cycle, and eight instructions of nine are some. A multiprocessor's part of the cache's bytes a cycle.
TASK, CHUNK, ONE_PRODUCT, BYTES = 1500.0, 200.0, 9 / 8 / 128, 21.0
FLOAT_BYTES = 4


class Machine(NamedTuple):
    """What tiles are chosen for."""

    warps: int  # of a block: 4 or 8, so that its threads stage whole tiles
    blocks: int  # that run at a time, two on a multiprocessor


class Tile(NamedTuple):
    """The part of a product's result that a block computes, (rows, columns), and how deep it stages the operands."""

    rows: int
    columns: int
    depth: int

    def tasks(self, m: int, n: int) -> int:
        """In how many tiles the panels of a result (m, n) are."""
        return -(-m // self.rows) * -(-padded(n) // self.columns)


class Product(NamedTuple):
    """C = A B, C of (m, n), summed over k."""

    m: int
    n: int
    k: int
    tiles: tuple[Tile, ...]  # that it may have


class Work(NamedTuple):
    """Tasks of a job in the order in which they are dealt, and what each takes: cycles, and bytes of operands."""

    tasks: int
    latency: float
    arithmetic: float
    traffic: float


def tiles(machine: Machine, narrow: bool, wide: bool) -> tuple[Tile, ...]:
    """All that a block can do: narrow ones only on request, and ones wider than a warp's.

    Four threads stage a line of a transposed operand, all of whose lines they must reach at once.
    """
    longest = machine.warps * LANES // 4
    sizes = [(a * WARP_ROWS, b * WARP_COLUMNS) for a in (1, 2, 4) for b in (1, 2) if machine.warps % (a * b) == 0]
    found = [Tile(m, n, _depth(machine, max(m, n))) for m, n in sizes if max(m, n) <= longest and (wide or n == WARP_COLUMNS)]
    if narrow:
        found.append(Tile(WARP_ROWS, 1 << NARROW_SHIFT, UNITS * machine.warps * LANES * 4 // WARP_ROWS))
    return tuple(found)


def choose(machine: Machine, products: Sequence[Product], others: Sequence[int] = ()) -> tuple[Tile, ...]:
    """A tile for each of a phase's products, which are dealt before its other jobs of so many tasks."""
    rest = [Work(tasks, TASK, 0.0, 0.0) for tasks in others]

    def cycles(chosen: tuple[Tile, ...]) -> float:
        return makespan(machine, [*map(_work, products, chosen), *rest])

    return min(itertools.product(*(product.tiles for product in products)), key=cycles)


def makespan(machine: Machine, works: Sequence[Work]) -> float:
    """Cycles until the last block has done its tasks, which are dealt in turn; of any number of tasks as soon as of few."""
    multiprocessors, first = max(1, machine.blocks // 2), 0
    latency, arithmetic = np.zeros(machine.blocks), np.zeros(machine.blocks)
    for work in works:
        counts = np.full(machine.blocks, work.tasks // machine.blocks)
        counts[(first + np.arange(work.tasks % machine.blocks)) % machine.blocks] += 1
        latency += counts * work.latency
        arithmetic += counts * work.arithmetic
        first += work.tasks
    shared = np.bincount(np.arange(machine.blocks) % multiprocessors, arithmetic).max(initial=0)
    alone = (latency + arithmetic).max(initial=0)
    cache = sum(work.tasks * work.traffic for work in works) / (BYTES * multiprocessors)
    return float(max(shared + TASK, alone, cache + TASK))


def _work(product: Product, tile: Tile) -> Work:
    chunks = -(-product.k // tile.depth)
    return Work(
        tile.tasks(product.m, product.n),
        TASK + CHUNK * (chunks - 1),
        ONE_PRODUCT * product.k * tile.rows * tile.columns,
        FLOAT_BYTES * product.k * (tile.rows + tile.columns),
    )


def _depth(machine: Machine, longest: int) -> int:
    """A power of two of which every thread stages UNITS units at most."""
    units = UNITS * machine.warps * LANES * 4 // longest
    return int(min(DEEPEST, 1 << (units.bit_length() - 1)))
