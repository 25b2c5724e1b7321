"""The contract of an engine on top of the compiled kernels. This module owns their memory and passes them their arguments."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, ImportanceTerms, ImputationTerms, Pace, State
from vaefast.engines.credit import bound_terms, make_terms, objective_of
from vaefast.engines.cython_cpu.rounded import RoundedFactors, even, rounded_factors, rounded_weights
from vaefast.engines.examples import Examples, as_they_are, in_training, of_a_set
from vaefast.engines.images import (
    NONE,
    CountLists,
    Images,
    count_lists,
    empty_lists,
    first_layer_is_sparse,
    held_table,
    held_whole,
    images_of,
)
from vaefast.engines.in_panels import InPanels
from vaefast.engines.objectives import bounded
from vaefast.engines.plan import (
    BLOCK_PIXELS,
    CHUNK_ROWS,
    CHUNK_SAMPLES,
    FORWARD_ROWS,
    HALVES,
    OUTPUTS,
    Plan,
    aligned,
    chunk_sums,
    half_widths,
    make_plan,
    output_places,
    pixel_blocks,
    shared_parts,
    transposed_panels,
    weight_tasks,
)
from vaefast.engines.workers import Team
from vaefast.errors import SettingsError
from vaefast.models.conditions import parted
from vaefast.models.count_rows import CountRows
from vaefast.models.layout import OWN_PARAMETERS, PANEL, Layout, padded
from vaefast.models.noise import Purpose
from vaefast.models.settings import ModelSettings, ObjectiveSettings, TrainingSettings

# Slots of the counters that a group meets at; declarations.pxi.
LINE = 8
# Random words come in whole vectors of counters, of 32 words on the widest unit.
WORDS = 32
# Rows of the tallest weight-gradient tile, and its panels; tiles.h.
GRADIENT_TILE = 8 * 2
# Those of which only the shares of the columns depend on z have one code.
BLOCKS = 5
LIKELIHOOD_CODES = {
    "bernoulli": 0, "gaussian": 1, "continuous-bernoulli": 2, "poisson": 3, "multinomial": 3, "negative-binomial": 4,
}  # fmt: skip
# Elements of the table for a column with a dispersion; PANEL_OF_TABLE of kernels.h.
TABLED = 32


class Placed(NamedTuple):
    """A set of images in the form that the kernels read."""

    images: Images | CountLists
    sparse: bool
    size: int
    longest: int = 0  # entries of a row of counts
    covariates: NDArray[np.float32] | None = None  # (N, C)


class CythonEngine(InPanels):
    """See `vaefast.engines.contract.Engine`; float32, the factors of products bfloat16 if the precision is bf16.

    Two variables of the environment are for tests: `VAEFAST_CHECKED=1` takes the build with bounds checks, and
    `VAEFAST_VECTOR_UNIT` one of `AVX512-BF16`, `AVX-512`, `AVX2` and `base` instead of the widest that this CPU has.
    """

    name = "cython"

    def __init__(self, model: ModelSettings, training: TrainingSettings, threads: int) -> None:
        self.model, self.training, self.threads = model, training, threads
        self.layout = Layout(model)
        self.step = 0
        self._kernels, self._unit = _kernels(), os.environ.get("VAEFAST_VECTOR_UNIT", "")
        try:
            _, group = self._kernels.unit(self._unit)
        except ValueError as error:
            raise SettingsError(f"VAEFAST_VECTOR_UNIT is {self._unit!r}, which this CPU or build lacks: unset it") from error
        self._team = Team(threads)
        self._weights = [aligned(self.layout.panel_size) for _ in range(3)]
        self._in_bf16 = training.precision == "bf16"
        plan, size = self._planned(training.batch_size, training.objective.samples)
        self._rounded = rounded_weights(plan, self.layout.panel_size) if self._in_bf16 else None
        self._plan, self._longest = plan, 0
        self._objective, self._clipping = objective_of(training.objective, plan), None
        if training.clip_norm is not None:
            size_of_all = self.layout.panel_size
            self._clipping = (aligned(size_of_all), chunk_sums(size_of_all), float(training.clip_norm))
        self._workers = self._train_workers(plan, aligned(size))
        self._tasks = {sparse: weight_tasks(plan, group, sparse) for sparse in (False, True)}
        self._forward_plan, self._forward_size = self._planned(FORWARD_ROWS)

    def load_state(self, state: State) -> None:
        super().load_state(state)
        if self._rounded is not None:
            self._workers[0].round_weights()

    def place(self, values: Any) -> Placed:
        rows, covariates = parted(values)
        if self.model.counts:
            counted = CountRows.of(rows)
            lists = count_lists(counted, self.model.likelihood, self.model.encoder_input)
            return Placed(lists, True, len(counted), counted.longest, covariates)
        if self.model.in_blocks:
            table = held_table(rows)
            images = images_of(table.floats, np.empty(0, np.int64), np.empty(0, np.uint16))
            return Placed(images, False, len(rows), covariates=covariates)
        images = held_whole(rows)
        sparse = first_layer_is_sparse(rows, self.model)
        images = self._held_as_lists(images, len(rows)) if sparse else images
        return Placed(images, sparse, len(rows), covariates=covariates)

    def warm_up(self, placed: Placed) -> None:
        """Do nothing: the kernels are compiled already."""

    def train(self, placed: Placed, order: NDArray[np.int64], pace: Pace | None = None) -> BoundTerms:
        batch, adam = self.training.batch_size, self.training.adam
        steps = -(-len(order) // batch)
        t = self.step + 1 + np.arange(steps, dtype=np.float64)
        pace = pace or Pace.constant(adam.learning_rate, self.training.objective.beta, steps)
        scalars = (pace.learning_rates / (1 - adam.beta1**t), 1 / (1 - adam.beta2**t), pace.kl_weights)
        terms = make_terms(self._objective, len(order), steps)
        self._make_room(placed.longest)
        arguments = (
            np.zeros((1 + self.threads) * LINE + HALVES * steps, np.int64),
            in_training(placed.images, placed.sparse, self.training, self.step, order, order, placed.covariates),
            self._tasks[placed.sparse],
            batch,
            (adam.beta1, adam.beta2, 1 - adam.beta1, 1 - adam.beta2, adam.epsilon),
            np.stack(scalars, axis=1).astype(np.float32),
            terms,
        )
        self._run("train", self._workers, arguments)
        self.step += steps
        return bound_terms(self._objective, terms, pace.kl_weights, batch)

    def _make_room(self, longest: int) -> None:
        """Let the minibatch hold rows of so many entries."""
        if longest > self._longest:
            self._longest, lists = longest, self._lists(self._plan, longest)
            for worker in self._workers:
                worker.take_lists(lists)

    def evaluate(self, placed: Placed, examples: NDArray[np.int64] | None = None) -> BoundTerms:
        terms = make_terms(objective_of(ObjectiveSettings(), self._forward_plan), placed.size, 0)
        all_of_them = of_a_set(placed, self.training, examples)
        self._forward("evaluate", (all_of_them, terms), placed.longest)
        return BoundTerms.of_elbo(terms.log_likelihood[0] + terms.log_likelihood[1], terms.kl)

    def importance_sample(self, placed: Placed, samples: int, examples: NDArray[np.int64] | None = None) -> ImportanceTerms:
        result = ImportanceTerms(np.empty(placed.size), np.empty(placed.size))
        self._sample("importance", placed, examples, samples, *result)
        return result

    def impute(self, placed: Placed, samples: int, examples: NDArray[np.int64] | None = None) -> ImputationTerms:
        log_w, means = np.empty((placed.size, samples)), np.empty((placed.size, self._plan.x_panels * PANEL))
        self._sample("impute", placed, examples, samples, log_w, means)
        return ImputationTerms(log_w, means[:, self._plan.places])

    def _sample(
        self, method: str, placed: Placed, examples: NDArray[np.int64] | None, samples: int, *out: NDArray[np.float64]
    ) -> None:
        """Run a method whose rows are samples of one example."""
        all_of_them = of_a_set(placed, self.training, examples, Purpose.IMPORTANCE_SAMPLES)
        chunk = self._planned(min(CHUNK_SAMPLES, samples))
        self._forward(method, (all_of_them, samples, *out), placed.longest, chunk)

    def encode(self, x: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        width = padded(self.model.latent)
        heads = np.empty((len(x), 2 * width), np.float32)
        examples, longest = self._to_encode(x)
        self._forward("encode", (examples, heads), longest)
        return heads[:, : self.model.latent].copy(), bounded(heads[:, width : width + self.model.latent])

    def _to_encode(self, x: Any) -> tuple[Examples, int]:
        """Rows that are read once, and the most entries that one of them has."""
        if self.model.in_blocks:
            return of_a_set(self.place(x), self.training)._replace(binarize=NONE), 0
        if not self.model.counts:
            return as_they_are(x, self.model, self.training), 0
        placed = self.place(x)
        return of_a_set(placed, self.training), placed.longest

    def decode(self, z: NDArray[Any]) -> NDArray[np.float32]:
        latents = np.zeros((len(z), padded(self.model.decoder_inputs)), np.float32)
        latents[:, : self.model.decoder_inputs] = z
        X, twins = self.model.pixels, self._plan.twins
        logits = np.empty((len(z), padded(int(self._plan.layers[-1, OUTPUTS]))), np.float32)
        self._forward("decode", (latents, logits))
        if self.model.in_blocks:
            return logits[:, output_places(self._plan)]
        panels = logits.reshape(len(z), -1, twins, PANEL)
        return np.concatenate([panels[:, :, twin].reshape(len(z), -1)[:, :X] for twin in range(twins)], axis=1)

    def close(self) -> None:
        self._team.close()

    def _run(self, method: str, workers: list[Any], arguments: tuple[Any, ...]) -> None:
        """Call a method of every worker side by side."""
        self._team.run(_call, [(worker, method, arguments) for worker in workers])

    def _forward(
        self, method: str, arguments: tuple[Any, ...], longest: int = 0, planned: tuple[Plan, int] | None = None
    ) -> None:
        """Run a forward pass on every worker, each with a workspace of its own, for rows of so many counts."""
        plan, size = planned or (self._forward_plan, self._forward_size)
        part, rates = aligned(0), self.model.counts
        plain = objective_of(ObjectiveSettings(), plan)
        workers = [
            self._worker(
                w, plan, plain, None, self._lists(plan, longest), aligned(size), part, 0, _forward_buffers(plan, rates),
                self._factors(size, training=False),
            )
            for w in range(self.threads)
        ]  # fmt: skip
        self._run(method, workers, (np.zeros(LINE, np.int64), *arguments))

    def _train_workers(self, plan: Plan, workspace: NDArray[np.float32]) -> list[Any]:
        """Workers that share the lists of the rows and the workspace. The two of a group also share their partial sums."""
        lists, (rows, size, parts) = self._lists(plan, self._longest), shared_parts(plan, self.threads)
        rates, factors = self.model.counts, self._factors(len(workspace), training=True)
        credit = (self._objective, self._clipping)
        return [
            self._worker(w, plan, *credit, lists, workspace, part, size, _train_buffers(plan, rows, rates), factors)
            for w, part in enumerate(parts)
        ]

    def _planned(self, rows: int, samples: int = 1) -> tuple[Any, int]:
        """A plan for so many rows, and the elements of its workspace. In bfloat16 two rows are rounded together."""
        return make_plan(self.layout, even(rows) if self._in_bf16 else rows, samples)

    def _factors(self, size: int, training: bool) -> RoundedFactors | None:
        """Room for the rounded factors of a workspace, if there are any."""
        return rounded_factors(size, training) if self._in_bf16 else None

    def _worker(self, number: int, plan: Plan, *memory: Any) -> Any:
        objective, clipping, lists, workspace, partial, part, buffers, rounded = memory
        # Blocks of columns have theirs in the plan.
        tensor = self.layout.tensors.get(OWN_PARAMETERS.get(self.model.likelihood, ""))
        code = BLOCKS if self.model.in_blocks else LIKELIHOOD_CODES[self.model.likelihood]
        worker = self._kernels.Worker(
            number, self.threads, self._unit, plan, code,
            tensor.panel_offset if tensor else 0, objective, clipping, self._weights, lists, workspace, partial, part, buffers,
        )  # fmt: skip
        if self._rounded is not None:
            worker.take_bf16(self._unit, *(rounded or ()), *self._rounded)
        return worker

    def _lists(self, plan: Plan, longest: int) -> tuple[Any, ...]:
        """The lists of the rows, those of counts with room for so many entries each."""
        if not self.model.counts:
            return _pixel_lists(plan)
        return _count_lists(plan, max(1, longest), self.model, self.training.input_dropout > 0)

    def _held_as_lists(self, whole: Images, size: int) -> Images:
        """The same images, of which there are `size`, as lists of their non-zero pixels."""
        starts, width = np.empty(size + 1, np.int64), self.model.pixels
        self._kernels.count_nonzero(whole.bytes, whole.floats, width, starts)
        lists = empty_lists(whole, starts)
        self._kernels.list_nonzero(whole.bytes, whole.floats, width, starts, lists.bytes, lists.floats, lists.pixels)
        return lists


def _kernels() -> ModuleType:
    """The compiled extension."""
    if os.environ.get("VAEFAST_CHECKED") == "1":
        from vaefast.engines.cython_cpu import checked

        return checked
    from vaefast.engines.cython_cpu import kernels

    return kernels


def _call(worker: Any, method: str, arguments: tuple[Any, ...]) -> None:
    getattr(worker, method)(*arguments)


def _pixel_lists(plan: Plan) -> tuple[NDArray[Any], ...]:
    """The non-zero pixels of each row: numbers and values (rows * X,), row r from r * X; how many; how many belong to half 0
    of the logits; how many lie in its blocks of BLOCK_PIXELS up to each."""
    entries = plan.rows * plan.pixels
    return (
        np.empty(entries, np.uint16),
        np.empty(entries, np.float32),
        np.zeros(plan.rows, np.int64),
        np.zeros(plan.rows, np.int64),
        np.zeros((plan.rows, pixel_blocks(plan.pixels)), np.int32),
    )


def _count_lists(plan: Plan, capacity: int, model: ModelSettings, drops: bool) -> tuple[Any, ...]:
    """What `Memory.take_lists` wants of counts: so many entries a row, with the covariates that the encoder sees, and what the
    passes over a row leave to each other; `drops` says whether the encoder misses entries."""
    rows, tabled = plan.rows, padded(plan.pixels) if model.likelihood == "negative-binomial" else 0
    decoded = rows * plan.samples
    told = model.encoder_inputs - model.pixels
    capacity, lengths = capacity + told, np.zeros(rows, np.int64)
    columns = np.empty(rows * capacity, np.uint32)
    return (
        capacity,
        columns,
        np.empty_like(columns) if drops else columns,
        np.empty(rows * capacity, np.float32),
        lengths,
        np.zeros(rows, np.int64) if told or drops else lengths,
        np.zeros(rows, np.int64),
        np.zeros((rows, pixel_blocks(model.encoder_inputs)), np.int32),
        np.empty(rows * capacity, np.float32),
        np.zeros(rows, np.float32),
        np.zeros(rows, np.float32),
        np.zeros(rows),
        np.zeros((HALVES, decoded), np.float32),
        np.zeros((HALVES, decoded)),
        np.zeros((HALVES, decoded)),
        aligned(tabled * TABLED),
    )


def _row_buffers(plan: Plan, rates: bool) -> tuple[NDArray[Any], ...]:
    """One padded row of pixels, of noise and of what latents count for, and random words; of counts the rates of some rows."""
    width, latent = padded(plan.pixels), padded(plan.latent)
    words = [np.zeros(-(-size // WORDS) * WORDS, np.uint32) for size in (width, latent)]
    return aligned(width), aligned(latent), aligned(latent), *words, aligned(CHUNK_ROWS * width if rates else 0)


def _train_buffers(plan: Plan, rows: int, rates: bool) -> tuple[NDArray[Any], ...]:
    ones = aligned(padded(plan.rows * plan.samples))
    ones[:] = 1
    gradient = max(half_widths(plan) * (BLOCK_PIXELS + 1), GRADIENT_TILE) * PANEL
    return aligned(transposed_panels(plan) * PANEL * rows), aligned(gradient), aligned(PANEL), ones, *_row_buffers(plan, rates)


def _forward_buffers(plan: Plan, rates: bool) -> tuple[NDArray[Any], ...]:
    return aligned(0), aligned(0), aligned(0), aligned(0), *_row_buffers(plan, rates)
