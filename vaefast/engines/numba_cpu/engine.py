"""The contract of `vaefast.engines` on top of the kernels: who owns which memory, and what each call hands them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, ImportanceTerms, Pace, State
from vaefast.engines.images import BINARIZATION_CODES, Images, empty_lists, held_whole, is_sparse
from vaefast.engines.numba_cpu.compiler import compile_once
from vaefast.engines.numba_cpu.gradients import clipping
from vaefast.engines.numba_cpu.importance import Chunk, importance_images
from vaefast.engines.numba_cpu.layers import Backward
from vaefast.engines.numba_cpu.likelihoods import likelihood_of
from vaefast.engines.numba_cpu.noise import whole_vectors
from vaefast.engines.numba_cpu.objectives import bound_terms, make_terms, objective_of
from vaefast.engines.numba_cpu.pixels import Pixels, count_nonzero, list_nonzero
from vaefast.engines.numba_cpu.products import GROUP
from vaefast.engines.numba_cpu.steps import (
    LINE,
    Randomness,
    Rows,
    decode_latents,
    encode_images,
    evaluate_images,
    train_steps,
)
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.weights import AdamStep, Scratch, Weights
from vaefast.engines.objectives import bounded
from vaefast.engines.plan import (
    BLOCK_PIXELS,
    FORWARD_ROWS,
    HALVES,
    Plan,
    aligned,
    half_widths,
    make_plan,
    pixel_blocks,
    shared_parts,
    weight_tasks,
)
from vaefast.engines.workers import Team
from vaefast.models.layout import PANEL, Layout, padded
from vaefast.models.noise import Purpose
from vaefast.models.settings import ModelSettings, ObjectiveSettings, TrainingSettings

# Samples of one image that are decoded together: with the weights of a decoder of MNIST's size their activations take 1.3 MB.
CHUNK = 120


class Placed(NamedTuple):
    """A set of images where the kernels read it."""

    images: Images
    sparse: bool
    size: int


class NumbaEngine:
    """See `vaefast.engines.contract.Engine`; float32."""

    name = "numba"

    def __init__(self, model: ModelSettings, training: TrainingSettings, threads: int) -> None:
        self.model, self.training, self.threads = model, training, threads
        self.layout = Layout(model)
        self._team = Team(threads, compile_once)
        self.step = 0
        self._likelihood = likelihood_of(self.layout)
        self._plan, size = make_plan(self.layout, training.batch_size, training.objective.samples)
        self._objective = objective_of(training.objective, self._plan)
        self._workspace = aligned(size)
        self._pixels = _pixels(self._plan)
        self._rows = [_rows(self._plan) for _ in range(threads)]
        self._scratch = [_scratch(self._plan) for _ in range(threads)]
        self._backward = _backward(self._plan, threads)
        self._weights = Weights(*(aligned(self.layout.panel_size) for _ in range(3)))
        self._updated = self._weights if training.clip_norm is None else clipping(self._weights, training.clip_norm)
        self._tasks = {sparse: weight_tasks(self._plan, UNIT.product_panels, sparse) for sparse in (False, True)}
        self._forward_plan, self._forward_size = make_plan(self.layout, FORWARD_ROWS)
        self._evaluation = objective_of(ObjectiveSettings(), self._forward_plan)

    def state(self) -> State:
        weights, plain = self._weights, self.layout.from_panels
        return State(plain(weights.parameters), plain(weights.first_moments), plain(weights.second_moments), self.step)

    def load_state(self, state: State) -> None:
        self.layout.to_panels(state.parameters, self._weights.parameters)
        self.layout.to_panels(state.first_moments, self._weights.first_moments)
        self.layout.to_panels(state.second_moments, self._weights.second_moments)
        self.step = state.step

    def place(self, values: NDArray[Any]) -> Placed:
        images = read_only_images(held_whole(values))
        sparse = is_sparse(values)
        return Placed(_held_as_lists(images, len(values)) if sparse else images, sparse, len(values))

    def warm_up(self, placed: Placed) -> None:
        self.train(placed, np.empty(0, np.int64))
        self.evaluate(placed._replace(size=0))

    def train(self, placed: Placed, order: NDArray[np.int64], pace: Pace | None = None) -> BoundTerms:
        terms = self._run_steps(self._updated, placed, order, order, pace)
        self.step += self._count_steps(order)
        return terms

    def _count_steps(self, order: NDArray[np.int64]) -> int:
        return -(-len(order) // self.training.batch_size)

    def _scalars(self, pace: Pace) -> NDArray[np.float32]:
        """What the next steps take, (steps, 3): Adam's step size, the factor of its second moments, the KL's weight."""
        adam, t = self.training.adam, self.step + 1 + np.arange(len(pace.learning_rates), dtype=np.float64)
        now = (pace.learning_rates / (1 - adam.beta1**t), 1 / (1 - adam.beta2**t), pace.kl_weights)
        return np.stack(now, axis=1).astype(np.float32)

    def _run_steps(
        self, weights: Any, placed: Placed, examples: NDArray[np.int64], keys: NDArray[np.int64], pace: Pace | None
    ) -> BoundTerms:
        """The next steps on some examples, each with the noise of its key, in which `weights` takes the gradients."""
        batch, adam, steps = self.training.batch_size, self.training.adam, self._count_steps(examples)
        pace = pace or Pace.constant(adam.learning_rate, self.training.objective.beta, steps)
        scalars = (adam.beta1, adam.beta2, 1 - adam.beta1, 1 - adam.beta2, adam.epsilon, 0, 0)
        terms = make_terms(self._objective, len(examples), steps)
        shared = (
            placed.images,
            _read_only(examples.astype(np.int64, copy=False)),
            _read_only(keys.astype(np.int64, copy=False)),
            BINARIZATION_CODES[self.training.binarize],
            placed.sparse,
            self._randomness(self.step, Purpose.TRAINING_PIXELS, Purpose.TRAINING_LATENTS),
            batch,
            AdamStep(*(np.float32(s) for s in scalars)),
            self._scalars(pace),
            terms,
        )
        counters = np.zeros((1 + self.threads) * LINE + HALVES * steps, np.int64)
        self._team.run(
            train_steps,
            [
                (w, self.threads, counters, self._plan, self._likelihood, self._objective, weights, self._workspace,
                 self._pixels, self._rows[w], self._backward[w], self._scratch[w], *self._tasks[placed.sparse], *shared)
                for w in range(self.threads)
            ],
        )  # fmt: skip
        return bound_terms(self._objective, terms, pace.kl_weights, batch)

    def evaluate(self, placed: Placed, examples: NDArray[np.int64] | None = None) -> BoundTerms:
        terms = make_terms(self._evaluation, placed.size, 0)
        randomness = self._randomness(0, Purpose.EVALUATION_PIXELS, Purpose.EVALUATION_LATENTS)
        code = BINARIZATION_CODES[self.training.binarize]
        places = _read_only(np.arange(placed.size))
        keys = places if examples is None else _read_only(examples.astype(np.int64, copy=False))
        shared = (
            self._likelihood, self._evaluation, placed.images, places, keys, code, placed.sparse, randomness, terms
        )  # fmt: skip
        self._forward(evaluate_images, shared, pixels=True)
        return BoundTerms.of_elbo(terms.log_likelihood.sum(axis=0), terms.kl)

    def importance_sample(self, placed: Placed, samples: int, examples: NDArray[np.int64] | None = None) -> ImportanceTerms:
        result = ImportanceTerms(np.empty(placed.size), np.empty(placed.size))
        plan, size = make_plan(self.layout, 1, min(CHUNK, samples))
        places = _read_only(np.arange(placed.size))
        shared = (
            self._likelihood, placed.images, places, places if examples is None else _read_only(examples.astype(np.int64)),
            BINARIZATION_CODES[self.training.binarize], placed.sparse, np.int64(Purpose.IMPORTANCE_SAMPLES),
            self._randomness(0, Purpose.EVALUATION_PIXELS, Purpose.EVALUATION_LATENTS), samples, *result,
        )  # fmt: skip
        counters, arguments = np.zeros(1, np.int64), []
        for _ in range(self.threads):
            chunk = Chunk(np.empty((HALVES, plan.samples)), np.empty(plan.samples))
            memory = (aligned(size), _pixels(plan), _rows(plan), chunk)
            arguments.append((counters, plan, self._weights.parameters, *memory, *shared))
        self._team.run(importance_images, arguments)
        return result

    def encode(self, x: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # Images that are read once are not worth a list.
        images, size, width = read_only_images(held_whole(np.asarray(x, np.float32))), len(x), padded(self.model.latent)
        sparse = is_sparse(x)
        heads = np.empty((size, 2 * width), np.float32)
        self._forward(encode_images, (images, _read_only(np.arange(size)), sparse, heads), pixels=True)
        return heads[:, : self.model.latent].copy(), bounded(heads[:, width : width + self.model.latent])

    def decode(self, z: NDArray[Any]) -> NDArray[np.float32]:
        latents = np.zeros((len(z), padded(self.model.latent)), np.float32)
        latents[:, : self.model.latent] = z
        logits = np.empty((len(z), padded(self.model.pixels)), np.float32)
        self._forward(decode_latents, (latents, logits), pixels=False)
        return logits[:, : self.model.pixels].copy()

    def close(self) -> None:
        self._team.close()

    def _forward(self, kernel: Callable[..., None], shared: tuple[Any, ...], *, pixels: bool) -> None:
        """Run a forward kernel on every worker, each with a workspace of its own."""
        plan, counters = self._forward_plan, np.zeros(1, np.int64)
        arguments = []
        for _ in range(self.threads):
            buffers = (_pixels(plan), _rows(plan)) if pixels else ()
            workspace = aligned(self._forward_size)
            arguments.append((counters, plan, self._weights.parameters, workspace, *buffers, *shared))
        self._team.run(kernel, arguments)

    def _randomness(self, step: int, pixels: Purpose, latents: Purpose) -> Randomness:
        return Randomness(np.uint64(self.training.seed), np.int64(step), np.int64(pixels), np.int64(latents))


def _held_as_lists(whole: Images, size: int) -> Images:
    """The same images, of which there are `size`, as lists of their non-zero pixels."""
    starts = np.empty(size + 1, np.int64)
    count_nonzero(whole, starts)
    lists = empty_lists(whole, starts)
    list_nonzero(whole, lists)
    return read_only_images(lists)


def read_only_images(images: Images) -> Images:
    """The same images for the kernels, which are compiled for arrays that cannot be written."""
    return Images(*(_read_only(array) for array in images))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A contiguous view that cannot be written: one array type, so one compilation, whatever the caller's array was."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _pixels(plan: Plan) -> Pixels:
    entries = plan.rows * plan.pixels
    return Pixels(
        indices=np.empty(entries, np.uint16),
        values=np.empty(entries, np.float32),
        lengths=np.zeros(plan.rows, np.int64),
        middles=np.zeros(plan.rows, np.int64),
        ends=np.zeros((plan.rows, pixel_blocks(plan.pixels)), np.int32),
    )


def _rows(plan: Plan) -> Rows:
    width, latent = padded(plan.pixels), padded(plan.latent)
    return Rows(
        pixel_words=np.zeros(whole_vectors(width), np.uint32),
        pixels=aligned(width),
        latent_words=np.zeros(whole_vectors(latent), np.uint32),
        noise=aligned(latent),
        lanes=aligned(PANEL),
        kl_scales=aligned(latent),
    )


def _backward(plan: Plan, threads: int) -> list[Backward]:
    """Each worker's buffers; the two of a group share the parts that they add."""
    rows, size, parts = shared_parts(plan, threads)
    zeros = aligned(PANEL)
    transposed = half_widths(plan) * PANEL * rows
    return [Backward(aligned(transposed), part, size, zeros) for part in parts]


def _scratch(plan: Plan) -> Scratch:
    ones = aligned(padded(plan.rows * plan.samples))
    ones[:] = 1
    return Scratch(
        gradient=aligned(max(half_widths(plan) * BLOCK_PIXELS, GROUP * UNIT.gradient_rows) * PANEL),
        zeros=aligned(PANEL),
        ones=ones,
    )
