"""The work of the GPU as tables of integers: the layout of its memory, and the phases of a step.

A *program* is a list of phases; a phase is up to JOBS jobs that do not depend on each other, and each job a number of tasks,
one for a block of threads at a time. Phases depend on each other and run one after the other. So one kernel serves every
model: any number of layers, any size.

    forward       x -> h1 -> ... -> heads, sampled -> g1 -> ... -> logits, loss and d_logits         a phase each
    back          d of layer i's input, beside the weights of layer i + 1, which nobody reads any more
    last          the weights of layers 0 and 1

The next minibatch is drawn beside the heads, whose few tiles leave most of the device idle. The first layer is dense, unlike
on the CPU: with its non-zero pixels alone, each image of MNIST would read 150 rows of weights of its own, 24 MB a minibatch of
200 through the second-level cache, where tiles that share rows read 14.

A step of L layers takes 2 L phases. All matrices are in panels of 16 columns as in `layout.py`, those of the workspace
with R rows, R a multiple of the tallest tile. Columns that pad a panel are zero in each.

Two rules make the products safe without a test at every access. The dimension that is summed over is cut off exactly: a row
past the end counts as zero, and a padded column is zero. The other dimensions may be read past the end, where there is memory
for it: this reaches only results that are not stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.cuda_gpu.tiling import TALLEST, Machine, Product, Tile, choose, tiles
from vaefast.models.layout import PANEL, Layout, padded

# Rows of a task: a quarter of a block each, a thread each, or four threads each of the fewest that a block has.
DRAW_SHIFT, TERMS_SHIFT, RESAMPLE_SHIFT = 2, 5, 5

# Kinds of jobs.
EMPTY, PRODUCT, DRAW, UPDATE_BIAS, TERMS, RESAMPLE = range(6)
# What a product does with its sums.
ACTIVATE, SAMPLE, LOSS, MASK, SAMPLE_BACKWARD, ADAM = range(6)
LINEAR, RELU, TANH = 0, 1, 2
ACTIVATION_CODES = {"relu": RELU, "tanh": TANH}
# Forms in which an operand is read: its rows are what is summed over, or its columns are.
DIRECT, TRANSPOSED = 0, 1
ROWS = -1  # as many as the minibatch has
# How factors are multiplied.
FLOAT32, TF32 = 0, 1
PRECISIONS = {"float32": FLOAT32, "tf32": TF32}

# A job's record.
KIND, EPILOGUE, M, N, K, TILES = range(6)  # TILES: of columns
A, A_ROWS, A_FORM, B, B_ROWS, B_FORM, B_STRIDE = range(6, 13)
ROW_SHIFT, COLUMN_SHIFT, DEPTH_SHIFT = range(13, 16)  # log2 of the tile
OUT, BIAS, ACTIVATION, SOURCE, TURNS, AHEAD = range(16, 22)  # TURNS: A stands in one of two places in turn, so far apart
END = 22  # tasks of this job and of those before it in its phase, of a full minibatch
FIELDS = 24
JOBS = 4


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


def make_plan(layout: Layout, batch: int, machine: Machine, origin: int, precision: int = FLOAT32) -> Plan:
    """For minibatches of so many rows at most, in a workspace that begins at element `origin` of the arena."""
    rows = -(-batch // TALLEST) * TALLEST
    space = _Space(rows, origin)
    model, heads = layout.model, len(layout.model.hidden)
    x, z = space.take(2 * padded(model.pixels)), space.take(model.latent)
    layers = _layers(layout, space, x, z)
    d_heads, std, noise = space.take(2 * padded(model.latent)), space.take(model.latent), space.take(model.latent)
    layers[heads] = replace(layers[heads], d_output=d_heads)
    tile = _loss_tile(machine, batch, layers[-1])
    loss_tiles, latent_panels = tile.tasks(1, model.pixels), padded(model.latent) // PANEL
    lines = [space.lines(count) for count in (loss_tiles, latent_panels, 1, 3)]
    places = Places(
        parameter_size(layout), rows, model.pixels, model.latent, latent_panels, x, rows * padded(model.pixels),
        layers[heads].output, d_heads, std, noise, z, lines[0], loss_tiles, lines[1], latent_panels, lines[2], lines[3],
    )  # fmt: skip
    end = space.lines(4 * PANEL)  # read past the last matrix
    programs = _Writer(layers, heads, places, batch, machine, precision).programs()
    return Plan(places, tuple(layers), heads, end + 4 * PANEL * rows, programs)


def empty_program(phases: int) -> NDArray[np.int64]:
    """Phases in which there is nothing to do."""
    return _table([[] for _ in range(phases)], 0)


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


class _Writer:
    """Writes the programs."""

    def __init__(self, layers: list[Layer], heads: int, places: Places, batch: int, machine: Machine, precision: int) -> None:
        self.layers, self.heads, self.places, self.batch, self.machine = layers, heads, places, batch, machine
        self.precision = precision

    def programs(self) -> Programs:
        encoder = [[self._forward(i)] for i in range(self.heads)]
        heads = [[self._forward(self.heads)]]
        decoder = [[self._forward(i)] for i in range(self.heads + 1, len(self.layers))]
        sampled, scored = [[self._heads_sampled()]], [*decoder[:-1], [self._loss()]]
        draw, ahead = [[self._job(DRAW)]], self._job(DRAW, {AHEAD: 1})
        return Programs(
            draw=self._table([[self._job(DRAW, {AHEAD: 0})]]),
            step=self._table([*encoder, [*sampled[0], ahead], *scored, *self._backward()]),
            evaluate=self._table([*draw, *encoder, *sampled, *scored, [self._job(TERMS)]]),
            encode=self._table([*draw, *encoder, *heads]),
            decode=self._table(decoder),
            samples=self._table([[self._job(RESAMPLE)], *scored, [self._job(TERMS, {EPILOGUE: RESAMPLE})]]),
        )

    def _table(self, phases: list[list[dict[int, int]]]) -> NDArray[np.int64]:
        return _table([self._tiled(phase) for phase in phases], self.batch)

    def _job(self, kind: int, fields: dict[int, int] | None = None) -> dict[int, int]:
        return {KIND: kind, **(fields or {})}

    def _product(self, epilogue: int, m: int, n: int, k: int, fields: dict[int, int]) -> dict[int, int]:
        return {KIND: PRODUCT, EPILOGUE: epilogue, M: m, N: n, K: k, B_STRIDE: 1, **fields}

    def _sized(self, job: dict[int, int]) -> Product:
        """A panel of means and one of log_std make a tile's 32 columns; the terms of a row are added up from few tiles."""
        m, k = (self.batch if job[field] == ROWS else job[field] for field in (M, K))
        narrow = self.precision == FLOAT32 and job[EPILOGUE] not in (SAMPLE, LOSS)
        return Product(m, job[N], k, tiles(self.machine, narrow, wide=job[EPILOGUE] != SAMPLE))

    def _tiled(self, phase: list[dict[int, int]]) -> list[dict[int, int]]:
        """A phase with the tiles of its products."""
        products = [job for job in phase if job[KIND] == PRODUCT]
        others = [_tasks(job, self.batch) for job in phase if job[KIND] != PRODUCT]
        chosen = iter(choose(self.machine, [self._sized(job) for job in products], others))
        return [_with_tile(job, next(chosen)) if job[KIND] == PRODUCT else job for job in phase]

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
        return self._product(SAMPLE, ROWS, layer.outputs, layer.inputs, fields)

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
        return [*phases, [*self._update(0), *self._update(1)]]

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


def _loss_tile(machine: Machine, batch: int, last: Layer) -> Tile:
    """The tile of the last layer, which is alone in its phase."""
    return choose(machine, [Product(batch, last.outputs, last.inputs, tiles(machine, narrow=False, wide=True))])[0]


def _with_tile(job: dict[int, int], tile: Tile) -> dict[int, int]:
    shifts = {ROW_SHIFT: _log2(tile.rows), COLUMN_SHIFT: _log2(tile.columns), DEPTH_SHIFT: _log2(tile.depth)}
    return {**job, **shifts, TILES: tile.tasks(1, job[N])}


def _log2(size: int) -> int:
    return size.bit_length() - 1


def _table(phases: list[list[dict[int, int]]], batch: int) -> NDArray[np.int64]:
    # The clock of a phase is set forward by the phase after it, which must be another.
    table = np.zeros((max(2, len(phases)), JOBS, FIELDS), np.int64)
    for p, phase in enumerate(phases):
        for j, job in enumerate(phase):
            for field, value in job.items():
                table[p, j, field] = value
        table[p, :, END] = np.cumsum([_tasks(job, batch) for job in phase] + [0] * (JOBS - len(phase)))
    return table.reshape(len(table), -1)


def _tasks(job: dict[int, int], batch: int) -> int:
    """Of a job, where the minibatch has all its rows; with fewer some have nothing to do."""
    kind = job[KIND]
    if kind == PRODUCT:
        height = batch if job[M] == ROWS else job[M]
        return -(-height // (1 << job[ROW_SHIFT])) * job[TILES]
    if kind == UPDATE_BIAS:
        return job[TILES]
    shift = {DRAW: DRAW_SHIFT, TERMS: TERMS_SHIFT, RESAMPLE: RESAMPLE_SHIFT}[kind]
    return -(-batch // (1 << shift))
