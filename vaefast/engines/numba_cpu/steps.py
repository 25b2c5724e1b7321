"""The kernels that Python calls: training steps, and forward passes over a set of images. Every worker runs the same one.

A training step is two phases with a meeting of all workers after each: rows, then weights.

* rows: groups of workers take a share of the minibatch each. An even number of workers makes groups of two, each of which
  takes half of the columns of every layer: then a core reads only the half of the weights that it wrote in the step before,
  and what the two exchange are activations, half a megabyte instead of three at a minibatch of 200. They meet after each
  layer. An odd number makes groups of one, which take both halves.
* weights: tasks handed out by ticket counters, first those of the worker's own half. Who computes a task changes nothing in
  its result. Weights of another type (gradients.py) take the gradient instead of Adam's step, and a third phase may follow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.images import NONE
from vaefast.engines.numba_cpu.barrier import fetch_add, meet
from vaefast.engines.numba_cpu.compiler import entry_point, kernel
from vaefast.engines.numba_cpu.denormals import flush_denormals, restore_mode
from vaefast.engines.numba_cpu.elementwise import copy
from vaefast.engines.numba_cpu.gradients import finish_step
from vaefast.engines.numba_cpu.layers import dense_layer, fold_sources, partial_sources, sparse_layer
from vaefast.engines.numba_cpu.likelihoods import likelihood_rows, log_likelihood_rows
from vaefast.engines.numba_cpu.objectives import output_scale, sampling_backward, settle
from vaefast.engines.numba_cpu.pixels import load_rows, place_pixels
from vaefast.engines.numba_cpu.sampling import sample_rows
from vaefast.engines.numba_cpu.weights import AdamStep, update_task
from vaefast.engines.plan import HALVES, OUTPUT
from vaefast.models.layout import PANEL

# Slots of the counters, each group's in a cache line of its own: where all meet, where the groups meet, ticket counters.
MEETING, LINE = 0, 8
# Shares of large minibatches begin at whole panels, as the products backward count rows; of small ones at small tiles.
SMALL_SHARE = 4


class Randomness(NamedTuple):
    """Where a run's random numbers come from (`vaefast.noise`)."""

    seed: np.uint64
    step: np.int64
    pixels: np.int64  # purpose
    latents: np.int64  # purpose


class Rows(NamedTuple):
    """Buffers that hold one padded row, for one worker."""

    pixel_words: NDArray[np.uint32]
    pixels: NDArray[np.float32]
    latent_words: NDArray[np.uint32]
    noise: NDArray[np.float32]
    lanes: NDArray[np.float32]  # one panel
    kl_scales: NDArray[np.float32]  # (padded Z,): what each latent's KL counts for in the loss


class Share(NamedTuple):
    """What a worker takes of the rows phase."""

    first: int  # rows of its group
    last: int
    own_first: int  # of these, the ones that it loads and samples for the group
    own_last: int
    half_first: int  # halves of the columns
    half_last: int
    partners: int  # in the group
    meeting: int  # slot of the group


@entry_point
def train_steps(
    worker, workers, counters, plan, likelihood, objective, weights, workspace, pixels, row, backward, scratch, tasks, starts,
    images, examples, keys, binarize, sparse, randomness, batch_size, adam, pace, terms,
):  # fmt: skip
    """Train on `examples`, (n,), in minibatches; pace is (steps, 3): Adam's step size and second-moment factor, and the weight
    of the KL divergence. keys, (n,): the number under which each example draws its noise."""
    mode = flush_denormals()
    for s in range(pace.shape[0]):
        begin, end = s * batch_size, min((s + 1) * batch_size, examples.size)
        now = AdamStep(adam.beta1, adam.beta2, adam.rest1, adam.rest2, adam.epsilon, pace[s, 0], pace[s, 1])
        _rows_phase(
            _share(end - begin, worker, workers), workers, counters, plan, likelihood, objective, weights.parameters,
            workspace, pixels, row, backward, images, examples[begin:end], keys[begin:end], binarize, sparse, randomness,
            terms, begin, s, pace[s, 2],
        )  # fmt: skip
        meet(counters, MEETING, workers)
        _weights_phase(
            worker, workers, counters, s, tasks, starts, plan, likelihood, objective, weights, workspace, pixels, sparse,
            scratch, now, end - begin,
        )  # fmt: skip
        meet(counters, MEETING, workers)
        finish_step(weights, worker, workers, counters, now)
    restore_mode(mode)


@kernel
def _rows_phase(
    share, workers, counters, plan, likelihood, objective, parameters, workspace, pixels, row, backward, images, examples,
    keys, binarize, sparse, randomness, terms, begin, s, kl_weight,
):  # fmt: skip
    """Minibatch s of a call, from example `begin` on. Rows of the encoder count images, those of the decoder samples."""
    first, last, halves = share.first, share.last, range(share.half_first, share.half_last)
    own_first, own_last = share.own_first, share.own_last
    k, B, step = plan.samples, examples.size, randomness.step + s
    scale, top = output_scale(objective, B), plan.heads + 1
    load_rows(
        images, binarize, randomness.seed, randomness.pixels, step, examples, keys, plan, workspace, pixels, sparse, row,
        own_first, own_last,
    )  # fmt: skip
    for i in range(plan.heads + 1):
        meet(counters, share.meeting, share.partners)
        for half in halves:
            _layer(plan, i, parameters, workspace, pixels, sparse, first, last, half)
    meet(counters, share.meeting, share.partners)
    sample_rows(
        objective, plan, workspace, randomness.seed, randomness.latents, step, keys, row, terms.kl[begin : begin + B],
        terms.ratio, begin * k, own_first, own_last,
    )  # fmt: skip
    for i in range(top, plan.layers.shape[0]):
        meet(counters, share.meeting, share.partners)
        for half in halves:
            dense_layer(plan, i, parameters, workspace, first * k, last * k, half)
    for half in halves:
        place_pixels(plan, workspace, pixels, sparse, first, last, half)
        log_likelihood = terms.log_likelihood[half, begin * k : (begin + B) * k]
        likelihood_rows(likelihood, plan, parameters, workspace, scale, log_likelihood, first * k, last * k, half)
    settle(objective, counters, MEETING, workers, share, plan, workspace, row, terms, begin, s, B, kl_weight)
    for i in range(plan.layers.shape[0] - 1, 0, -1):
        # A part may be overwritten when its readers have met again: two sets of parts, in turn.
        turn, each = i % 2, k if i >= top else 1
        for half in halves:
            partial_sources(plan, i, parameters, workspace, backward, turn, first * each, last * each, half)
        meet(counters, share.meeting, share.partners)
        for half in halves:
            if i == top:
                sampling_backward(objective, plan, workspace, backward, turn, row, first, last, half, B)
            else:
                fold_sources(plan, i, workspace, backward, turn, first * each, last * each, half)


@kernel
def _layer(plan, i, parameters, workspace, pixels, sparse, first, last, half):
    if i == 0 and sparse:
        sparse_layer(plan, parameters, workspace, pixels, first, last, half)
    else:
        dense_layer(plan, i, parameters, workspace, first, last, half)


@kernel
def _weights_phase(
    worker, workers, counters, s, tasks, starts, plan, likelihood, objective, weights, workspace, pixels, sparse, scratch,
    adam, B,
):  # fmt: skip
    groups, halves = _groups(workers)
    for turn in range(HALVES):
        half = (worker % halves + turn) % HALVES
        slot = (1 + groups) * LINE + HALVES * s + half
        task = starts[half] + fetch_add(counters, slot, 1)
        while task < starts[half + 1]:
            update_task(tasks[task], plan, likelihood, objective, weights, workspace, pixels, sparse, scratch, adam, B)
            task = starts[half] + fetch_add(counters, slot, 1)


@kernel
def _groups(workers):
    """How many groups, and workers in each."""
    halves = HALVES if workers % HALVES == 0 else 1
    return workers // halves, halves


@kernel
def _share(rows, worker, workers):
    groups, partners = _groups(workers)
    group, place = worker // partners, worker % partners
    first, last = _group_begin(rows, group, groups), _group_begin(rows, group + 1, groups)
    size = last - first
    return Share(
        first, last, first + size * place // partners, first + size * (place + 1) // partners,
        place if partners == HALVES else 0, place + 1 if partners == HALVES else HALVES,
        partners, (1 + group) * LINE,
    )  # fmt: skip


@kernel
def _group_begin(rows, group, groups):
    """The first row of a group's share."""
    if group >= groups:
        return rows
    unit = PANEL if rows >= 2 * PANEL * groups else SMALL_SHARE
    return rows * group // groups // unit * unit


@entry_point
def evaluate_images(
    counters, plan, parameters, workspace, pixels, row, likelihood, objective, images, examples, keys, binarize, sparse,
    randomness, terms,
):  # fmt: skip
    """The ELBO terms of `examples`, (n,), in blocks of as many rows as this worker's workspace holds.

    keys, (n,): the number under which each draws its noise.
    """
    mode = flush_denormals()
    block = _next_block(counters, plan)
    while block < examples.size:
        end = min(block + plan.rows, examples.size)
        rows, some = end - block, keys[block:end]
        load_rows(
            images, binarize, randomness.seed, randomness.pixels, randomness.step, examples[block:end], some, plan, workspace,
            pixels, sparse, row, 0, rows,
        )  # fmt: skip
        encode_rows(plan, parameters, workspace, pixels, sparse, rows)
        sample_rows(
            objective, plan, workspace, randomness.seed, randomness.latents, randomness.step, some, row, terms.kl[block:end],
            terms.ratio, block, 0, rows,
        )  # fmt: skip
        decode_rows(plan, parameters, workspace, rows)
        for half in range(HALVES):
            place_pixels(plan, workspace, pixels, sparse, 0, rows, half)
            log_likelihood = terms.log_likelihood[half, block:end]
            log_likelihood_rows(likelihood, plan, parameters, workspace, log_likelihood, 0, rows, half)
        block = _next_block(counters, plan)
    restore_mode(mode)


@entry_point
def encode_images(counters, plan, parameters, workspace, pixels, row, images, examples, sparse, heads):
    """[mean | log_std] of each example, heads (n, 2 * padded Z), from its grey levels as they are."""
    mode = flush_denormals()
    block = _next_block(counters, plan)
    while block < examples.size:
        end = min(block + plan.rows, examples.size)
        load_rows(
            images, NONE, np.uint64(0), 0, 0, examples[block:end], examples[block:end], plan, workspace, pixels, sparse,
            row, 0, end - block,
        )  # fmt: skip
        encode_rows(plan, parameters, workspace, pixels, sparse, end - block)
        _from_panels(workspace, plan.layers[plan.heads, OUTPUT], plan.rows, heads[block:end])
        block = _next_block(counters, plan)
    restore_mode(mode)


@entry_point
def decode_latents(counters, plan, parameters, workspace, z, logits):
    """Logits (n, padded X) of each row of z (n, padded Z)."""
    mode = flush_denormals()
    block = _next_block(counters, plan)
    while block < z.shape[0]:
        end = min(block + plan.rows, z.shape[0])
        _to_panels(z[block:end], workspace, plan.z, plan.rows)
        decode_rows(plan, parameters, workspace, end - block)
        _from_panels(workspace, plan.layers[plan.layers.shape[0] - 1, OUTPUT], plan.rows, logits[block:end])
        block = _next_block(counters, plan)
    restore_mode(mode)


@kernel
def encode_rows(plan, parameters, workspace, pixels, sparse, rows):
    """The encoder on the first rows of the workspace."""
    for i in range(plan.heads + 1):
        for half in range(HALVES):
            _layer(plan, i, parameters, workspace, pixels, sparse, 0, rows, half)


@kernel
def decode_rows(plan, parameters, workspace, rows):
    """The decoder on the first rows of z."""
    for i in range(plan.heads + 1, plan.layers.shape[0]):
        for half in range(HALVES):
            dense_layer(plan, i, parameters, workspace, 0, rows, half)


@kernel
def _next_block(counters, plan):
    """The first example of the next block that no worker has taken."""
    return fetch_add(counters, MEETING, 1) * plan.rows


@kernel
def _from_panels(workspace, offset, rows, out):
    """The first rows of a matrix in panels, to a plain one whose width is whole panels."""
    for r in range(out.shape[0]):
        for panel in range(out.shape[1] // PANEL):
            start = offset + (panel * rows + r) * PANEL
            copy(workspace[start : start + PANEL], out[r, panel * PANEL : (panel + 1) * PANEL])


@kernel
def _to_panels(matrix, workspace, offset, rows):
    for r in range(matrix.shape[0]):
        for panel in range(matrix.shape[1] // PANEL):
            start = offset + (panel * rows + r) * PANEL
            copy(matrix[r, panel * PANEL : (panel + 1) * PANEL], workspace[start : start + PANEL])
