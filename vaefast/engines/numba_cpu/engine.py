"""The contract of `vaefast.engines` on top of the kernels: who owns which memory, and what each call hands them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, ImportanceTerms, ImputationTerms, Pace, State
from vaefast.engines.credit import bound_terms, make_terms, objective_of
from vaefast.engines.examples import (
    as_they_are,
    in_training,
    of_a_set,
    read_only_images,
    read_only_lists,
    read_only_table,
)
from vaefast.engines.images import (
    CountLists,
    Images,
    TableRows,
    count_lists,
    empty_lists,
    first_layer_is_sparse,
    held_table,
    held_whole,
)
from vaefast.engines.in_panels import InPanels
from vaefast.engines.numba_cpu.barrier import LINE, Worker
from vaefast.engines.numba_cpu.bf16_plan import parameters_size, rounded_plan
from vaefast.engines.numba_cpu.bf16_weights import round_parameters
from vaefast.engines.numba_cpu.call import Buffers, Network, Steps
from vaefast.engines.numba_cpu.compiler import compile_once
from vaefast.engines.numba_cpu.gradients import clipping
from vaefast.engines.numba_cpu.importance import Chunk, importance_images
from vaefast.engines.numba_cpu.imputation import impute_rows
from vaefast.engines.numba_cpu.likelihoods import likelihood_of
from vaefast.engines.numba_cpu.memory import backward_of, buffers_of, lists_of, row_of, scratch_of
from vaefast.engines.numba_cpu.pixels import count_nonzero, list_nonzero
from vaefast.engines.numba_cpu.steps import decode_latents, encode_images, evaluate_images, train_steps
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.engines.numba_cpu.weights import AdamStep, Weights
from vaefast.engines.objectives import bounded
from vaefast.engines.plan import CHUNK_SAMPLES, FORWARD_ROWS, HALVES, OUTPUTS, aligned, make_plan, output_places, weight_tasks
from vaefast.engines.workers import Team
from vaefast.models.conditions import parted
from vaefast.models.count_rows import CountRows
from vaefast.models.layout import PANEL, Layout, padded
from vaefast.models.noise import Purpose
from vaefast.models.settings import ModelSettings, ObjectiveSettings, TrainingSettings


class Placed(NamedTuple):
    """A set of images where the kernels read it."""

    images: Images | CountLists | TableRows
    sparse: bool
    size: int
    longest: int = 0  # entries of a row of counts
    covariates: NDArray[np.float32] | None = None  # (N, C)


class NumbaEngine(InPanels):
    """See `vaefast.engines.contract.Engine`; float32, whose products may have factors in bfloat16."""

    name = "numba"
    _weights: Weights

    def __init__(self, model: ModelSettings, training: TrainingSettings, threads: int) -> None:
        self.model, self.training, self.threads = model, training, threads
        self.layout = Layout(model)
        self._team = Team(threads, compile_once)
        self.step = 0
        self._bf16, self._stale = training.precision == "bf16", False
        plan, size = self._make_plan(training.batch_size, training.objective.samples, trains=True)
        self._network = Network(plan, likelihood_of(self.layout), objective_of(training.objective, plan))
        workspace, pixels = aligned(size), lists_of(plan, model, 0)
        self._buffers = [Buffers(workspace, pixels, row_of(plan, model)) for _ in range(threads)]
        self._scratch = [scratch_of(plan) for _ in range(threads)]
        self._backward = backward_of(plan, threads)
        self._weights = Weights(*(aligned(self.layout.panel_size) for _ in range(3)))
        self._updated: Any = self._weights
        if self._bf16:
            whole = aligned(parameters_size(plan, self.layout.panel_size))
            self._updated = self._weights._replace(parameters=whole)
            self._weights = self._weights._replace(parameters=whole[: self.layout.panel_size])
        if training.clip_norm is not None:
            self._updated = clipping(self._updated, training.clip_norm, plan)
        self._tasks = {sparse: weight_tasks(plan, UNIT.product_panels, sparse) for sparse in (False, True)}
        forward_plan, self._forward_size = self._make_plan(FORWARD_ROWS)
        evaluation = objective_of(ObjectiveSettings(), forward_plan)
        self._evaluation = Network(forward_plan, self._network.likelihood, evaluation)

    def _make_plan(self, rows: int, samples: int = 1, trains: bool = False) -> tuple[Any, int]:
        plan, size = make_plan(self.layout, rows, samples)
        return rounded_plan(plan, size, self.layout.panel_size, trains) if self._bf16 else (plan, size)

    def load_state(self, state: State) -> None:
        super().load_state(state)
        self._stale = True

    def _parameters(self) -> NDArray[np.float32]:
        """What the kernels read: with the rounded weights behind the model, which are made here of a model that was loaded."""
        if not self._bf16:
            return self._weights.parameters
        plan: Any = self._network.plan
        parameters = self._updated.parameters
        if self._stale:
            shared = plan.layers, plan.bf16, parameters
            self._team.run(round_parameters, [(w, self.threads, *shared) for w in range(self.threads)])
            self._stale = False
        return parameters

    def place(self, values: Any) -> Placed:
        values, covariates = parted(values)
        if self.model.counts:
            rows = CountRows.of(values)
            lists = count_lists(rows, self.model.likelihood, self.model.encoder_input)
            return Placed(read_only_lists(lists), True, len(rows), rows.longest, covariates)
        if self.model.in_blocks:
            return Placed(read_only_table(held_table(values)), False, len(values), covariates=covariates)
        images = read_only_images(held_whole(values))
        sparse = first_layer_is_sparse(values, self.model)
        images = _held_as_lists(images, len(values)) if sparse else images
        return Placed(images, sparse, len(values), covariates=covariates)

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
        self._make_room(placed.longest)
        self._parameters()
        batch, adam, steps = self.training.batch_size, self.training.adam, self._count_steps(examples)
        pace = pace or Pace.constant(adam.learning_rate, self.training.objective.beta, steps)
        scalars = (adam.beta1, adam.beta2, 1 - adam.beta1, 1 - adam.beta2, adam.epsilon, 0, 0)
        objective = self._network.objective
        terms = make_terms(objective, len(examples), steps)
        shared = (
            self._tasks[placed.sparse],
            in_training(placed.images, placed.sparse, self.training, self.step, examples, keys, placed.covariates),
            Steps(batch, AdamStep(*(np.float32(s) for s in scalars)), self._scalars(pace)),
            terms,
        )
        counters = np.zeros((1 + self.threads) * LINE + HALVES * steps, np.int64)
        memory = zip(self._buffers, self._backward, self._scratch, strict=True)
        self._team.run(
            train_steps,
            [(Worker(w, self.threads, counters), self._network, weights, *own, *shared) for w, own in enumerate(memory)],
        )
        return bound_terms(objective, terms, pace.kl_weights, batch)

    def _make_room(self, longest: int) -> None:
        """Let the minibatch hold rows of so many entries."""
        if longest + self.model.encoder_inputs - self.model.pixels > self._buffers[0].pixels.capacity:
            lists = lists_of(self._network.plan, self.model, longest)
            self._buffers = [buffers._replace(pixels=lists) for buffers in self._buffers]

    def evaluate(self, placed: Placed, examples: NDArray[np.int64] | None = None) -> BoundTerms:
        terms = make_terms(self._evaluation.objective, placed.size, 0)
        all_of_them = of_a_set(placed, self.training, examples)
        network, parameters, longest = self._evaluation, self._parameters(), placed.longest
        workers = [(network, parameters, self._forward_buffers(longest)) for _ in range(self.threads)]
        self._share_blocks(evaluate_images, workers, (all_of_them, terms))
        return BoundTerms.of_elbo(terms.log_likelihood.sum(axis=0), terms.kl)

    def importance_sample(self, placed: Placed, samples: int, examples: NDArray[np.int64] | None = None) -> ImportanceTerms:
        result = ImportanceTerms(np.empty(placed.size), np.empty(placed.size))
        plan, size = self._make_plan(1, min(CHUNK_SAMPLES, samples))
        all_of_them = of_a_set(placed, self.training, examples, Purpose.IMPORTANCE_SAMPLES)
        workers = []
        for _ in range(self.threads):
            chunk = Chunk(np.empty((HALVES, plan.samples)), np.empty(plan.samples))
            buffers = buffers_of(plan, size, self.model, placed.longest)
            workers.append((plan, self._network.likelihood, self._parameters(), buffers, chunk))
        self._share_blocks(importance_images, workers, (all_of_them, samples, result))
        return result

    def impute(self, placed: Placed, samples: int, examples: NDArray[np.int64] | None = None) -> ImputationTerms:
        plan, size = self._make_plan(1, min(CHUNK_SAMPLES, samples))
        all_of_them = of_a_set(placed, self.training, examples, Purpose.IMPORTANCE_SAMPLES)
        log_w, means = np.empty((placed.size, samples)), np.empty((placed.size, plan.x_panels * PANEL))
        about, workers = (plan, self._network.likelihood, self._parameters()), []
        for _ in range(self.threads):
            chunk = Chunk(np.empty((HALVES, plan.samples)), np.empty(plan.samples))
            workers.append((*about, buffers_of(plan, size, self.model, 0), chunk))
        self._share_blocks(impute_rows, workers, (all_of_them, samples, log_w, means))
        return ImputationTerms(log_w, means[:, plan.places])

    def encode(self, x: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        width, longest = padded(self.model.latent), 0
        if self.model.counts:
            placed = self.place(x)
            longest, examples = placed.longest, of_a_set(placed, self.training)
        else:
            examples = as_they_are(x, self.model, self.training)
        heads = np.empty((len(x), 2 * width), np.float32)
        plan, parameters = self._evaluation.plan, self._parameters()
        workers = [(plan, parameters, self._forward_buffers(longest)) for _ in range(self.threads)]
        self._share_blocks(encode_images, workers, (examples, heads))
        return heads[:, : self.model.latent].copy(), bounded(heads[:, width : width + self.model.latent])

    def decode(self, z: NDArray[Any]) -> NDArray[np.float32]:
        latents = np.zeros((len(z), padded(self.model.decoder_inputs)), np.float32)
        latents[:, : self.model.decoder_inputs] = z
        plan, parameters, X = self._evaluation.plan, self._parameters(), self.model.pixels
        logits = np.empty((len(z), padded(int(plan.layers[-1, OUTPUTS]))), np.float32)
        workers = [(plan, parameters, aligned(self._forward_size)) for _ in range(self.threads)]
        self._share_blocks(decode_latents, workers, (latents, logits))
        if self.model.in_blocks:
            return logits[:, output_places(plan)]
        panels = logits.reshape(len(z), -1, plan.twins, PANEL)
        return np.concatenate([panels[:, :, twin].reshape(len(z), -1)[:, :X] for twin in range(plan.twins)], axis=1)

    def close(self) -> None:
        self._team.close()

    def _share_blocks(self, kernel: Callable[..., None], workers: list[tuple[Any, ...]], shared: tuple[Any, ...]) -> None:
        """Run a kernel whose workers take blocks of examples by a counter until none is left."""
        counters = np.zeros(1, np.int64)
        self._team.run(kernel, [(counters, *own, *shared) for own in workers])

    def _forward_buffers(self, longest: int) -> Buffers:
        """Those of one worker, for rows of so many counts."""
        return buffers_of(self._evaluation.plan, self._forward_size, self.model, longest)


def _held_as_lists(whole: Images, size: int) -> Images:
    """The same images, of which there are `size`, as lists of their non-zero pixels."""
    starts = np.empty(size + 1, np.int64)
    count_nonzero(whole, starts)
    lists = empty_lists(whole, starts)
    list_nonzero(whole, lists)
    return read_only_images(lists)
