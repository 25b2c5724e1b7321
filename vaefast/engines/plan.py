"""Where everything stands in memory for one model and one number of rows: what the kernels know of a model.

All activations and their gradients live in one float32 workspace. Each is a matrix (rows, width) in panels of 16 columns
(`layout.py`), so the tiles read and write whole cache lines. Two arrays share a place where the second replaces the first
element by element: logits and d_logits, heads (mean, log_std) and their gradient.

With k samples of the latents an image, the encoder has a row an image and the decoder k, which lie together: rows k r to
k r + k - 1 are the samples of row r.

The columns of every layer are cut into two *halves*, whose sums over columns are always taken apart and then added. Two
workers can take one half each, whatever the number of workers, and the bits stay the same.
"""

from __future__ import annotations

import collections
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.models.columns import blocks_of
from vaefast.models.layout import OWN_PARAMETERS, PANEL, Layout, output_tensors, padded

# Columns of `Plan.layers`, one row a dense layer in the order of the forward pass; offsets count elements.
SOURCE = 0  # its input in the workspace
OUTPUT = 1  # its output, after the activation
D_SOURCE = 2  # gradient of what its input's producer computed before the activation; -1 for the first layer
D_OUTPUT = 3  # gradient of its output before the activation
WEIGHT = 4  # in the parameters
BIAS = 5
INPUTS = 6  # real size
OUTPUTS = 7  # real size, but whole panels for the two heads
OUTPUT_PANELS = 8
SPLIT = 9  # output panels of half 0
SOURCE_SPLIT = 10  # the same of its input
ACTIVATION = 11  # of its output
SOURCE_ACTIVATION = 12  # of its input
ROWS = 13  # capacity of its input and output
COLUMNS = 14

# Columns of `Plan.blocks`, one row a block of columns of one kind; panels are those of the outputs, and x has the first ones.
KIND = 0  # one of KIND_CODES
FIRST_PANEL = 1
PANELS = 2
SCALE_PANEL = 3  # of the scales and of the degrees of freedom; -1 where there are none
FREEDOM_PANEL = 4
OWN = 5  # in the parameters: what is learned of each column; -1 for nothing
FIRST_VARIABLE = 6  # in `Plan.variables`
LAST_VARIABLE = 7  # the one after the last
BLOCK_FIELDS = 8
KIND_CODES = {
    "gaussian": 0, "student-t": 1, "negative-binomial": 2, "bernoulli": 3, "categorical": 4, "continuous-bernoulli": 5,
}  # fmt: skip

HALVES = 2
# Rows of counts that take all passes over their likelihood before the next do (kernels.h has it, too): at 2,000 columns what
# the passes leave to each other is then 0.5 MB, which fits a second-level cache.
CHUNK_ROWS = 32
# Samples of one image that are decoded together, on which the bits of a sum depend: with the weights of a decoder of MNIST's
# size their activations take 1.3 MB.
CHUNK_SAMPLES = 120
# Images that each worker scores at a time: its activations fill about half of a 2 MB second-level cache at MNIST's size.
FORWARD_ROWS = 100
CACHE_LINE = 64  # bytes
LINEAR, RELU, TANH = 0, 1, 2
ACTIVATION_CODES = {"relu": RELU, "tanh": TANH}

# Pixels whose weight gradients are summed together where the first layer is sparse: 64 rows of half of 208 columns are 28 KB,
# which leaves room in a first-level cache of 32 KB or more. A task of the weights phase takes so many of these blocks.
BLOCK_PIXELS = 4 * PANEL
TASK_BLOCKS = 2
# Output panels of a layer whose gradient is transposed at a time in the pass backward: of a wide table the transposed gradient
# is then a few megabytes.
TRANSPOSED_PANELS = 128
# Panel rows of a gradient whose squares one worker adds: 16 KB. The norm is the sum of these sums, whoever computed them.
NORM_ROWS = 256


class Plan(NamedTuple):
    """Offsets in the workspace and sizes; every field an integer or an integer array."""

    layers: NDArray[np.int64]  # (layers, COLUMNS)
    heads: int  # index of the layer that computes mean and log_std
    rows: int  # capacity, in images
    samples: int  # of an image
    pixels: int
    latent: int
    latent_panels: int
    covariates: int  # C
    x: int
    seen: int  # what the encoder sees: x, but with covariates or in blocks a matrix of its own, (rows, X + V + C)
    target: int  # x again, a row a sample: what the outputs are compared with; the same place as x for one sample; neither has
    # any elements where the outputs are compared with lists of counts
    z: int  # with the covariates behind it, (rows, Z + C); a row a sample, as all that follow but std
    z_panels: int
    std: int
    spread: int  # exp(log_std) * noise
    d_z: int  # a matrix for each half
    linear: int  # for each half, per row and lane: the sum of what needs no logarithm
    product: int  # for each half, per row and lane: product of 1 + exp(-|a|), or one over the variance
    twins: int  # outputs a column, whose panels take turns: 2 with zero inflation, else 1


class TableFields(NamedTuple):
    """What the plan of a table in blocks of columns has beside the fields of `Plan`."""

    x_panels: int  # of x and of the target
    indicators: int  # columns of what the encoder sees that tell what is missing
    blocks: NDArray[np.int64]  # (blocks, BLOCK_FIELDS)
    places: NDArray[np.int64]  # (X,): of each column in x: its panel times PANEL, and its lane
    variables: NDArray[np.int64]  # (V, 2): the columns of each variable, one after the last


# A type of its own: as fields of `Plan` they would be compiled into the kernels of every other model.
_tuple_of_fields: Any = collections.namedtuple
TablePlan = _tuple_of_fields("TablePlan", (*Plan._fields, *TableFields._fields))


class Tasks(NamedTuple):
    """The weights phase in pieces that are done in any order: those of half 0, then those of half 1."""

    rows: NDArray[np.int64]  # (tasks, 4): half, layer, first, last
    starts: NDArray[np.int64]  # (3,): where those of each half begin and end


def pixel_blocks(pixels: int) -> int:
    """How many blocks of BLOCK_PIXELS hold so many pixels."""
    return -(-pixels // BLOCK_PIXELS)


def first_half(width: int) -> int:
    """How many of a layer's panels are half 0. A panel that is partly padding goes to the half with one panel more."""
    panels = padded(width) // PANEL
    return panels // 2 if width % PANEL else (panels + 1) // 2


class _Workspace:
    """Hands out offsets."""

    def __init__(self, rows: int) -> None:
        self.rows, self.size = rows, 0

    def take(self, width: int, samples: int = 1) -> int:
        offset = self.size
        self.size += self.rows * samples * padded(width)
        return offset


def make_plan(layout: Layout, rows: int, samples: int = 1) -> tuple[Any, int]:
    """The plan for so many images and samples of each, a `Plan` or a `TablePlan`, and the elements of its workspace."""
    model, space = layout.model, _Workspace(rows)
    heads = len(model.hidden)
    head_width = 2 * padded(model.latent)
    twins = 2 if model.zero_inflation else 1
    table = _block_plan(layout) if model.in_blocks else None
    columns = model.pixels if table is None else table.columns
    outputs = model.pixels if twins == 1 else twins * padded(model.pixels)
    outputs = outputs if table is None else table.outputs
    widths = [*model.hidden, head_width, *reversed(model.hidden), outputs]
    names = [f"encoder.{i}" for i in range(heads)] + ["mean"] + [f"decoder.{i}" for i in range(heads)]
    names.append(output_tensors(model)[0][0])
    # Counts are lists; only with a dispersion a column does each column of a row leave something to the weights phase.
    compared = 0 if model.counts and "x_log_dispersion" not in layout.tensors else columns
    x, z = space.take(compared), space.take(model.decoder_inputs, samples)
    # Rows of counts are lists.
    apart = model.in_blocks or (model.encode_covariates and not model.counts)
    seen = space.take(model.encoder_inputs) if apart else x
    d_z = space.take(HALVES * padded(model.latent), samples)

    layers = np.full((len(names), COLUMNS), -1, np.int64)
    source, d_source, source_activation, inputs = seen, -1, LINEAR, model.encoder_inputs
    for i, (name, width) in enumerate(zip(names, widths, strict=True)):
        hidden = i not in (heads, len(names) - 1)
        a_row = 1 if i <= heads else samples
        output = space.take(width, a_row)
        layers[i, ROWS] = rows * a_row
        layers[i, [SOURCE, OUTPUT, D_SOURCE]] = source, output, d_source
        layers[i, D_OUTPUT] = space.take(width, a_row) if hidden else output
        layers[i, WEIGHT] = layout.tensors[f"{name}.weight"].panel_offset
        layers[i, BIAS] = layout.tensors[f"{name}.bias"].panel_offset
        layers[i, [INPUTS, OUTPUTS, OUTPUT_PANELS]] = inputs, width, padded(width) // PANEL
        layers[i, [SPLIT, SOURCE_SPLIT]] = first_half(width), first_half(inputs)
        layers[i, ACTIVATION] = ACTIVATION_CODES[model.activation] if hidden else LINEAR
        layers[i, SOURCE_ACTIVATION] = source_activation
        if i == len(names) - 1 and twins > 1:
            layers[i, [OUTPUTS, SPLIT]] = width, twins * first_half(model.pixels)
        if i == heads:
            source, d_source, source_activation, inputs = z, d_z, LINEAR, model.decoder_inputs
        else:
            source, d_source, source_activation, inputs = output, layers[i, D_OUTPUT], layers[i, ACTIVATION], width

    plan = Plan(
        layers=layers,
        heads=heads,
        rows=rows,
        samples=samples,
        pixels=model.pixels,
        latent=model.latent,
        latent_panels=padded(model.latent) // PANEL,
        covariates=model.covariates,
        x=x,
        seen=seen,
        target=x if samples == 1 else space.take(compared, samples),
        z=z,
        z_panels=padded(model.decoder_inputs) // PANEL,
        std=space.take(model.latent),
        spread=space.take(model.latent, samples),
        d_z=d_z,
        linear=space.take(HALVES * PANEL, samples),
        product=space.take(HALVES * PANEL, samples),
        twins=twins,
    )
    if table is None:
        return plan, space.size
    fields = TableFields(columns // PANEL, model.indicators, table.blocks, table.places, table.variables)
    return TablePlan(*plan, *fields), space.size


class _BlockPlan(NamedTuple):
    """What `Plan` says of a table in blocks."""

    columns: int  # of x, in whole panels
    outputs: int
    blocks: NDArray[np.int64]
    places: NDArray[np.int64]
    variables: NDArray[np.int64]


def _block_plan(layout: Layout) -> _BlockPlan:
    """Each block begins at a panel of its own, as its tensors do; scales and degrees of freedom come behind all blocks."""
    model = layout.model
    table = blocks_of(model.likelihood, model.pixels, model.columns)
    rows, places, panel, variable = [], [], 0, 0
    columns = sum(padded(block.size) for block in table.blocks)
    heavy = padded(table.heavy) // PANEL
    for block in table.blocks:
        panels, after = padded(block.size) // PANEL, variable + (len(block.groups) or block.size)
        scale = columns // PANEL if block.kind == "student-t" else -1
        own = layout.tensors[OWN_PARAMETERS[block.kind]].panel_offset if block.kind in OWN_PARAMETERS else -1
        freedom = scale + heavy if scale >= 0 else -1
        rows.append((KIND_CODES[block.kind], panel, panels, scale, freedom, own, variable, after))
        places.append(panel * PANEL + np.arange(block.size))
        panel, variable = panel + panels, after
    outputs = columns + 2 * heavy * PANEL
    variables = np.array(table.variables(), np.int64)
    return _BlockPlan(columns, outputs, np.array(rows, np.int64), np.concatenate(places).astype(np.int64), variables)


def output_places(plan: Any) -> NDArray[np.int64]:
    """Where each output of a `TablePlan` stands in a row of whole panels, (O,): those of `places`, then the scales and the
    degrees of freedom of columns with heavy tails."""
    found = [plan.places]
    for field in (SCALE_PANEL, FREEDOM_PANEL):
        for block in plan.blocks:
            if block[field] >= 0:
                columns = block[LAST_VARIABLE] - block[FIRST_VARIABLE]
                found.append(block[field] * PANEL + np.arange(columns))
    return np.concatenate(found)


def aligned(size: int) -> NDArray[np.float32]:
    """float32 zeros, (size,), that start at a cache line, as every offset of the layout then does."""
    return from_cache_line(np.zeros(size * 4 + CACHE_LINE, np.uint8), size)


def from_cache_line(raw: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """So many float32 of some memory, (size,), from its first cache line on; the memory is one cache line longer."""
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size * 4].view(np.float32)


def shared_parts(plan: Plan, threads: int) -> tuple[int, int, list[NDArray[np.float32]]]:
    """Where the two workers of a group add up the gradient of a layer's input, of which each has found its half.

    The most rows that a group has; the elements of a matrix (inputs, rows); and for each worker the memory of its group, for
    two layers in turn the two matrices of the halves.
    """
    partners = HALVES if threads % HALVES == 0 else 1
    groups = threads // partners
    # A group's share is at most two panels larger than an equal one.
    rows = padded(min(plan.rows, plan.rows // groups + 2 * PANEL) * plan.samples)
    size = padded(int(plan.layers[1:, INPUTS].max(initial=0))) * rows
    parts = [aligned(2 * HALVES * size) for _ in range(groups)]
    return rows, size, [parts[w // partners] for w in range(threads)]


def chunk_sums(size: int) -> NDArray[np.float64]:
    """Where the sums of squares of a gradient of so many elements go: (chunks, 16)."""
    return np.zeros((-(-size // (NORM_ROWS * PANEL)), PANEL))


def half_widths(plan: Plan) -> int:
    """The widest half of any layer, in panels."""
    return int(np.maximum(plan.layers[:, SPLIT], plan.layers[:, OUTPUT_PANELS] - plan.layers[:, SPLIT]).max())


def transposed_panels(plan: Plan) -> int:
    """The most panels of a half of a layer whose gradient is transposed at a time."""
    return min(half_widths(plan), TRANSPOSED_PANELS)


def weight_tasks(plan: Plan, group: int, sparse: bool) -> Tasks:
    """The weights phase cut into tasks, the costly ones of each half first.

    A task is a group of column panels of one layer; where the first layer is summed from lists of non-zero pixels, its
    tasks are ranges of pixels instead, for all panels of the half, and the range that starts at 0 also updates the bias.
    """
    tasks: list[tuple[int, int, int, int]] = []
    starts = [0]
    for half in range(HALVES):
        costs: list[tuple[int, int, int, int, int]] = []
        for i, layer in enumerate(plan.layers):
            begin, end = (0, int(layer[SPLIT])) if half == 0 else (int(layer[SPLIT]), int(layer[OUTPUT_PANELS]))
            if i == 0 and sparse:
                size = TASK_BLOCKS * BLOCK_PIXELS
                inputs = int(layer[INPUTS])
                ends = [(p, min(p + size, inputs)) for p in range(0, inputs, size) if end > begin]
            else:
                ends = [(p, min(p + group, end)) for p in range(begin, end, group)]
            costs.extend((-int(layer[INPUTS]), half, i, first, last) for first, last in ends)
        tasks.extend(task[1:] for task in sorted(costs, key=lambda task: task[0]))
        starts.append(len(tasks))
    return Tasks(np.array(tasks, np.int64), np.array(starts, np.int64))
