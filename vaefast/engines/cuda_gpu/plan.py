"""What the GPU is to do, as tables of integers: where everything stands in its memory, and the phases of a step.

A *program* is a list of phases; a phase is up to JOBS jobs that do not depend on each other, and each job a number of tasks,
one for a block of threads at a time. Phases depend on each other and run one after the other. So one kernel serves every
model: any number of layers, any size.

    forward       x -> h1 -> ... -> heads, sampled -> g1 -> ... -> logits, loss and d_logits         a phase each
    back          d of layer i's input, beside the weights of layer i + 1, which nobody reads any more
    last          the weights of layers 0 and 1, beside the drawing of the next minibatch

A step of L layers takes 2 L phases. All matrices are in panels of 16 columns as in `layout.py`, those of the workspace
with R rows, R a multiple of the tallest tile. Columns that pad a panel are zero in each.

Two rules make the products safe without a test at every access. What is summed over is cut off exactly: a row past the end is
taken as zero, and a padded column is zero. What is *not* summed over may be read past the end, where there is memory for it:
it reaches only results that nobody stores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.layout import PANEL, Layout, padded
from vaefast.settings import ModelSettings

# The tile of one warp: each lane holds 4 x 4 of its results.
WARP_ROWS, WARP_COLUMNS = 16, 32
TALLEST = 4 * WARP_ROWS
WIDEST = 2 * WARP_COLUMNS
DEEPEST = 128  # of a product, staged in shared memory at a time
OCTET = 8
UNITS = 4  # of four floats, that a thread stages of each operand

# Kinds of jobs.
EMPTY, PRODUCT, DRAW, UPDATE_BIAS, TERMS, RESAMPLE = range(6)
# What a product does with its sums.
ACTIVATE, SAMPLE, LOSS, MASK, SAMPLE_BACKWARD, ADAM = range(6)
LINEAR, RELU, TANH = 0, 1, 2
ACTIVATION_CODES = {"relu": RELU, "tanh": TANH}
# Forms in which an operand is read: its rows are what is summed over, or its columns are.
DIRECT, TRANSPOSED = 0, 1
ROWS = -1  # as many as the minibatch has

# A job's record.
KIND, EPILOGUE, M, N, K, TILES = range(6)  # TILES: of columns
A, A_ROWS, A_FORM, B, B_ROWS, B_FORM, B_STRIDE = range(6, 13)
ROW_SHIFT, COLUMN_SHIFT, DEPTH_SHIFT = range(13, 16)  # log2 of the tile
OUT, BIAS, ACTIVATION, SOURCE, TURNS, AHEAD = range(16, 22)  # TURNS: A stands in one of two places in turn, so far apart
FIELDS = 24
JOBS = 5


class Places(NamedTuple):
    """Where the kernels find what is not a layer's own, in elements of the arena; and sizes."""

    parameters: int  # how far first moments stand from parameters, and second moments from those
    rows: int  # R
    pixels: int
    latent: int
    latent_panels: int
    x: int  # two in turn, x_size apart
    x_size: int
    heads: int  # mean | log_std
    d_heads: int
    std: int
    noise: int
    z: int
    log_likelihood: int  # (loss_tiles, R): parts of each row's sum
    loss_tiles: int
    kl: int  # (kl_tiles, R)
    kl_tiles: int
    prior: int  # (R,): log p(z) - log q(z | x)
    running: int  # (3, R): largest log weight, sum of weights, of their squares


class Programs(NamedTuple):
    """Phases, each (phases, JOBS * FIELDS) int64."""

    draw: NDArray[np.int64]  # the first minibatch
    step: NDArray[np.int64]
    evaluate: NDArray[np.int64]
    encode: NDArray[np.int64]
    decode: NDArray[np.int64]
    samples: NDArray[np.int64]  # after encode: one more sample of each row


@dataclass(frozen=True)
class Layer:
    """A dense layer's places: its input and output, their gradients, its weights."""

    source: int
    output: int
    d_source: int
    d_output: int
    weight: int
    bias: int
    inputs: int
    outputs: int  # padded for the heads, which are two
    activation: int
    source_activation: int


class Machine(NamedTuple):
    """What tiles are chosen for."""

    warps: int  # of a block: 4 or 8, so that its threads stage whole tiles
    blocks: int  # that run at a time


@dataclass(frozen=True)
class Plan:
    """The whole of it for one model and one number of rows."""

    places: Places
    layers: tuple[Layer, ...]
    heads: int
    end: int  # of the workspace
    programs: Programs


class _Space:
    """Hands out matrices of R rows, from an origin on."""

    def __init__(self, rows: int, origin: int) -> None:
        self.rows, self.size = rows, origin

    def take(self, width: int) -> int:
        return self.lines(padded(width))

    def lines(self, count: int) -> int:
        offset = self.size
        self.size += self.rows * count
        return offset


def parameter_size(layout: Layout) -> int:
    """Elements of the parameters, and of each moment, on the device: those that a tile reads past their end included."""
    widest = max(tensor.inputs for tensor in layout.tensors.values())
    return layout.panel_size + 4 * PANEL * max(widest, TALLEST)


def make_plan(layout: Layout, batch: int, machine: Machine, origin: int) -> Plan:
    """For minibatches of so many rows at most, in a workspace that begins at element `origin` of the arena."""
    rows = -(-batch // TALLEST) * TALLEST
    space = _Space(rows, origin)
    model, heads = layout.model, len(layout.model.hidden)
    x, z = space.take(2 * padded(model.pixels)), space.take(model.latent)
    layers = _layers(layout, space, x, z)
    d_heads, std, noise = space.take(2 * padded(model.latent)), space.take(model.latent), space.take(model.latent)
    layers[heads] = replace(layers[heads], d_output=d_heads)
    tile = _Tile.best(machine, batch, model.pixels, layers[-1].inputs)
    loss_tiles, latent_panels = -(-model.pixels // tile.columns), padded(model.latent) // PANEL
    lines = [space.lines(count) for count in (loss_tiles, latent_panels, 1, 3)]
    places = Places(
        parameter_size(layout), rows, model.pixels, model.latent, latent_panels, x, rows * padded(model.pixels),
        layers[heads].output, d_heads, std, noise, z, lines[0], loss_tiles, lines[1], latent_panels, lines[2], lines[3],
    )  # fmt: skip
    end = space.lines(4 * PANEL)  # read past the last matrix
    programs = _Writer(layers, heads, places, batch, machine, model).programs()
    return Plan(places, tuple(layers), heads, end + 4 * PANEL * rows, programs)


def empty_program(phases: int) -> NDArray[np.int64]:
    """Phases in which there is nothing to do."""
    return _table([[] for _ in range(phases)])


def _layers(layout: Layout, space: _Space, x: int, z: int) -> list[Layer]:
    model, heads = layout.model, len(layout.model.hidden)
    widths = [*model.hidden, 2 * padded(model.latent), *reversed(model.hidden), model.pixels]
    names = [f"encoder.{i}" for i in range(heads)] + ["mean"] + [f"decoder.{i}" for i in range(heads)] + ["logits"]
    layers: list[Layer] = []
    source, d_source, source_activation, inputs = x, -1, LINEAR, model.pixels
    for i, (name, width) in enumerate(zip(names, widths, strict=True)):
        hidden = i not in (heads, len(names) - 1)
        output = space.take(width)
        d_output = space.take(width) if hidden else output
        activation = ACTIVATION_CODES[model.activation] if hidden else LINEAR
        weight, bias = (layout.tensors[f"{name}.{part}"].panel_offset for part in ("weight", "bias"))
        layers.append(
            Layer(source, output, d_source, d_output, weight, bias, inputs, width, activation, source_activation)
        )  # fmt: skip
        source, d_source, source_activation, inputs = output, d_output, activation, width
        if i == heads:
            source, d_source, inputs = z, -1, model.latent
    return layers


class _Tile(NamedTuple):
    """The part of a product's result that a block computes, (rows, columns), and how deep it stages the operands."""

    rows: int
    columns: int
    depth: int

    @classmethod
    def best(cls, machine: Machine, m: int, n: int, k: int, narrow: bool = False) -> _Tile:
        """The tile with which the product should end first: few rounds, and little to do in each.

        In processor cycles a round costs about 1500 for latencies, and each of the k products of a warp's tile 8, of which
        blocks that share a multiprocessor each get a part. Warps that have no rows or columns of their own share the depth.
        """
        sizes = [(a, b) for a in (1, 2, 4) for b in (1, 2) if machine.warps % (a * b) == 0 and not (narrow and b > 1)]
        tiles = [cls(a * WARP_ROWS, b * WARP_COLUMNS, cls._depth(machine, a, b)) for a, b in sizes]
        return min(tiles, key=lambda tile: tile._cost(machine, m, n, k))

    def _cost(self, machine: Machine, m: int, n: int, k: int) -> float:
        tasks = -(-m // self.rows) * -(-n // self.columns)
        rounds = -(-tasks // machine.blocks)
        work = k * (self.rows // WARP_ROWS) * (self.columns // WARP_COLUMNS) * 8
        crowd = min(2.0, max(1.0, 2 * min(tasks, machine.blocks) / machine.blocks))
        return rounds * (1500 + work * crowd)

    @staticmethod
    def _depth(machine: Machine, a: int, b: int) -> int:
        """A power of two of which every thread stages UNITS units at most."""
        largest = max(a * WARP_ROWS, b * WARP_COLUMNS)
        units = UNITS * machine.warps * 32 * 4 // largest
        return int(min(DEEPEST, 1 << (units.bit_length() - 1)))


class _Writer:
    """Writes the programs."""

    def __init__(
        self, layers: list[Layer], heads: int, places: Places, batch: int, machine: Machine, model: ModelSettings
    ) -> None:
        self.layers, self.heads, self.places, self.batch, self.machine = layers, heads, places, batch, machine
        self.latent, self.pixels = model.latent, model.pixels

    def programs(self) -> Programs:
        encoder = [[self._forward(i)] for i in range(self.heads)]
        heads = [[self._forward(self.heads)]]
        decoder = [[self._forward(i)] for i in range(self.heads + 1, len(self.layers))]
        sampled, scored = [[self._heads_sampled()]], [*decoder[:-1], [self._loss()]]
        draw = [[self._job(DRAW)]]
        return Programs(
            draw=_table([[self._job(DRAW, {AHEAD: 0})]]),
            step=_table([*encoder, *sampled, *scored, *self._backward()]),
            evaluate=_table([*draw, *encoder, *sampled, *scored, [self._job(TERMS)]]),
            encode=_table([*draw, *encoder, *heads]),
            decode=_table(decoder),
            samples=_table([[self._job(RESAMPLE)], *scored, [self._job(TERMS, {EPILOGUE: RESAMPLE})]]),
        )

    def _job(self, kind: int, fields: dict[int, int] | None = None) -> dict[int, int]:
        return {KIND: kind, **(fields or {})}

    def _product(
        self, epilogue: int, m: int, n: int, k: int, fields: dict[int, int], columns: int | None = None, narrow: bool = False
    ) -> dict[int, int]:
        rows, depth = (self.batch if size == ROWS else size for size in (m, k))
        tile = _Tile.best(self.machine, rows, columns or n, depth, narrow)
        return {
            KIND: PRODUCT, EPILOGUE: epilogue, M: m, N: n, K: k, TILES: -(-(columns or n) // tile.columns), B_STRIDE: 1,
            ROW_SHIFT: _log2(tile.rows), COLUMN_SHIFT: _log2(tile.columns), DEPTH_SHIFT: _log2(tile.depth), **fields,
        }  # fmt: skip

    def _forward(self, i: int, epilogue: int = ACTIVATE) -> dict[int, int]:
        """output = activation(source @ W + b)  (5)."""
        layer, R = self.layers[i], self.places.rows
        fields = {
            A: layer.source, A_ROWS: R, A_FORM: TRANSPOSED, B: layer.weight, B_ROWS: layer.inputs, B_FORM: DIRECT,
            OUT: layer.output, BIAS: layer.bias, ACTIVATION: layer.activation, TURNS: self._turns(i),
        }  # fmt: skip
        return self._product(epilogue, ROWS, layer.outputs, layer.inputs, fields)

    def _heads_sampled(self) -> dict[int, int]:
        """A tile of 32 columns is a panel of means and the panel of log_std that belongs to it."""
        job, layer = self._forward(self.heads, SAMPLE), self.layers[self.heads]
        fields = {key: job[key] for key in (A, A_ROWS, A_FORM, B, B_ROWS, B_FORM, OUT, BIAS, TURNS)}
        fields[B_STRIDE] = self.places.latent_panels
        return self._product(SAMPLE, ROWS, layer.outputs, layer.inputs, fields, narrow=True)

    def _loss(self) -> dict[int, int]:
        return self._forward(len(self.layers) - 1, LOSS)

    def _backward(self) -> list[list[dict[int, int]]]:
        """From d_logits to the weights of the first layer."""
        last = len(self.layers) - 1
        phases = []
        for i in range(last, 0, -1):
            phase = [self._source_gradient(i)]
            if i < last:
                phase += self._update(i + 1)
            phases.append(phase)
        phases[0].append(self._job(TERMS))
        return [*phases, [*self._update(0), *self._update(1), self._job(DRAW, {AHEAD: 1})]]

    def _source_gradient(self, i: int) -> dict[int, int]:
        """d_source = (d_output @ W.T) * slope of what computed the source; (8) and (9) or (10)."""
        layer, R = self.layers[i], self.places.rows
        fields = {
            A: layer.d_output, A_ROWS: R, A_FORM: TRANSPOSED, B: layer.weight, B_ROWS: layer.inputs, B_FORM: TRANSPOSED,
            OUT: layer.d_source, ACTIVATION: layer.source_activation, SOURCE: layer.source,
        }  # fmt: skip
        epilogue = SAMPLE_BACKWARD if i == self.heads + 1 else MASK
        return self._product(epilogue, ROWS, layer.inputs, padded(layer.outputs), fields)

    def _update(self, i: int) -> list[dict[int, int]]:
        """W and b by Adam (14-16) on d_W = source.T @ d_output and d_b = the sum of its rows (8)."""
        layer, R = self.layers[i], self.places.rows
        fields = {
            A: layer.source, A_ROWS: R, A_FORM: DIRECT, B: layer.d_output, B_ROWS: R, B_FORM: DIRECT, OUT: layer.weight,
            TURNS: self._turns(i),
        }  # fmt: skip
        weights = self._product(ADAM, layer.inputs, padded(layer.outputs), ROWS, fields)
        bias = {TILES: padded(layer.outputs) // PANEL, A: layer.d_output, OUT: layer.bias}
        return [weights, self._job(UPDATE_BIAS, bias)]

    def _turns(self, i: int) -> int:
        return self.places.x_size if i == 0 else 0


def _log2(size: int) -> int:
    return size.bit_length() - 1


def _table(phases: list[list[dict[int, int]]]) -> NDArray[np.int64]:
    # The clock of a phase is set forward by the phase after it, which must be another.
    table = np.zeros((max(2, len(phases)), JOBS, FIELDS), np.int64)
    for p, phase in enumerate(phases):
        for j, job in enumerate(phase):
            for field, value in job.items():
                table[p, j, field] = value
    return table.reshape(len(table), -1)
