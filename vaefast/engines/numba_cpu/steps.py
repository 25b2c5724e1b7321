"""The kernels that Python calls: training steps, and forward passes over a set of images. All workers run the same kernel.

A training step has two phases, rows and weights, with a barrier for all workers after each.

* rows: each group of workers takes a share of the minibatch. An even number of workers makes groups of two, in which each
  worker computes half of the columns of every layer. So a core reads only the half of the weights that it wrote in the step
  before, and the two exchange activations: half a megabyte instead of three at a minibatch of 200. They wait for each other
  after each layer. An odd number of workers makes groups of one, which compute both halves.
* weights: ticket counters give out tasks, first those of the worker's own half. The result of a task does not depend on the
  worker. Weights of another type (gradients.py) take the gradient instead of Adam's step, and a third phase may follow.
"""

from __future__ import annotations

from vaefast.engines.numba_cpu.barrier import LINE, MEETING, fetch_add, meet, meet_all
from vaefast.engines.numba_cpu.call import Minibatch, Share
from vaefast.engines.numba_cpu.compiler import entry_point, kernel
from vaefast.engines.numba_cpu.denormals import flush_denormals, restore_mode
from vaefast.engines.numba_cpu.elementwise import ZERO, copy
from vaefast.engines.numba_cpu.gradients import finish_step
from vaefast.engines.numba_cpu.layers import fold_sources
from vaefast.engines.numba_cpu.likelihoods import (
    forward_likelihood,
    likelihood_phase,
    place_targets,
    prepare_likelihood,
)
from vaefast.engines.numba_cpu.loading import load_rows
from vaefast.engines.numba_cpu.objectives import output_scale, settle
from vaefast.engines.numba_cpu.precision import decoder_layer, encoder_layer, hand_over, source_gradients
from vaefast.engines.numba_cpu.sampling import sample_rows
from vaefast.engines.numba_cpu.sampling_backward import sampling_backward
from vaefast.engines.numba_cpu.weights import AdamStep, update_task
from vaefast.engines.plan import HALVES, OUTPUT
from vaefast.models.layout import PANEL

# Shares of large minibatches begin at whole panels, in which backward products count rows; shares of small ones at tiles.
SMALL_SHARE = 4


@entry_point
def train_steps(worker, network, weights, buffers, backward, scratch, tasks, examples, steps, terms):
    """Train on `examples` in minibatches."""
    mode = flush_denormals()
    for s in range(steps.pace.shape[0]):
        minibatch = _minibatch(examples, steps, s)
        _rows_phase(worker, network, weights.parameters, buffers, backward, examples, minibatch, terms)
        meet_all(worker)
        adam = _adam_step(steps, s)
        _weights_phase(worker, network, weights, buffers, scratch, tasks, examples.sparse, adam, minibatch)
        meet_all(worker)
        finish_step(weights, worker, adam)
    restore_mode(mode)


@kernel
def _minibatch(examples, steps, s):
    begin = s * steps.batch_size
    end = min(begin + steps.batch_size, examples.order.size)
    return Minibatch(begin, end - begin, s, examples.randomness.step + s, steps.pace[s, 2])


@kernel
def _adam_step(steps, s):
    adam = steps.adam
    return AdamStep(adam.beta1, adam.beta2, adam.rest1, adam.rest2, adam.epsilon, steps.pace[s, 0], steps.pace[s, 1])


@kernel
def _rows_phase(worker, network, parameters, buffers, backward, examples, minibatch, terms):
    """The share of a worker in the rows of a minibatch. Rows of the encoder are images, rows of the decoder are samples."""
    share = _share(worker, minibatch.size)
    plan, objective, workspace = network.plan, network.objective, buffers.workspace
    first, last, halves = share.first, share.last, range(share.half_first, share.half_last)
    k, B, begin, top = plan.samples, minibatch.size, minibatch.begin, plan.heads + 1
    scale = output_scale(objective, B)
    if prepare_likelihood(network.likelihood, plan, parameters, buffers, worker.number, worker.workers):
        meet_all(worker)
    load_rows(plan, buffers, examples, minibatch, share.own_first, share.own_last)
    for i in range(top):
        meet(worker.counters, share.meeting, share.partners)
        for half in halves:
            encoder_layer(plan, i, parameters, buffers, examples.sparse, first, last, half)
    meet(worker.counters, share.meeting, share.partners)
    sample_rows(network, buffers, examples, minibatch, terms, share.own_first, share.own_last)
    hand_over(plan, workspace, share.own_first * k, share.own_last * k)
    for i in range(top, plan.layers.shape[0]):
        meet(worker.counters, share.meeting, share.partners)
        for half in halves:
            decoder_layer(plan, i, parameters, workspace, first * k, last * k, half)
    likelihood_phase(
        network, worker, share, parameters, buffers, examples.sparse, scale, terms.log_likelihood, begin * k, (begin + B) * k
    )
    settle(objective, plan, worker, share, buffers, minibatch, terms)
    for i in range(plan.layers.shape[0] - 1, 0, -1):
        # A part may be overwritten only after the next barrier of its readers, so two sets of parts alternate.
        turn, each = i % 2, k if i >= top else 1
        for half in halves:
            source_gradients(plan, i, parameters, workspace, backward, turn, first * each, last * each, half)
        meet(worker.counters, share.meeting, share.partners)
        for half in halves:
            if i == top:
                sampling_backward(objective, plan, workspace, backward, turn, buffers.row, first, last, half, B)
            else:
                fold_sources(plan, i, workspace, backward, turn, first * each, last * each, half)


@kernel
def _weights_phase(worker, network, weights, buffers, scratch, tasks, sparse, adam, minibatch):
    """Compute tasks until none is left, those of this worker's half first."""
    groups, halves = _groups(worker.workers)
    for turn in range(HALVES):
        half = (worker.number % halves + turn) % HALVES
        slot = (1 + groups) * LINE + HALVES * minibatch.number + half
        task = tasks.starts[half] + fetch_add(worker.counters, slot, 1)
        while task < tasks.starts[half + 1]:
            update_task(tasks.rows[task], network, weights, buffers, scratch, sparse, adam, minibatch.size)
            task = tasks.starts[half] + fetch_add(worker.counters, slot, 1)


@kernel
def _groups(workers):
    """Number of groups, and of workers in each."""
    halves = HALVES if workers % HALVES == 0 else 1
    return workers // halves, halves


@kernel
def _share(worker, rows):
    groups, partners = _groups(worker.workers)
    group, place = worker.number // partners, worker.number % partners
    first, last = _group_begin(rows, group, groups), _group_begin(rows, group + 1, groups)
    # Own rows begin at even ones, for those of bfloat16 go by pairs.
    own_first = first + (last - first) * place // partners // 2 * 2
    own_last = first + (last - first) * (place + 1) // partners // 2 * 2 if place + 1 < partners else last
    return Share(
        first, last, own_first, own_last,
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
def evaluate_images(counters, network, parameters, buffers, examples, terms):
    """The ELBO terms of `examples`, in blocks of as many rows as this worker's workspace holds."""
    mode = flush_denormals()
    plan, workspace, n = network.plan, buffers.workspace, examples.order.size
    prepare_likelihood(network.likelihood, plan, parameters, buffers, 0, 1)
    block = _next_block(counters, plan)
    while block < n:
        minibatch = _block(block, min(plan.rows, n - block), examples.randomness)
        rows = minibatch.size
        load_rows(plan, buffers, examples, minibatch, 0, rows)
        encode_rows(plan, parameters, buffers, examples.sparse, rows)
        sample_rows(network, buffers, examples, minibatch, terms, 0, rows)
        decode_rows(plan, parameters, workspace, rows)
        place_targets(network.likelihood, plan, buffers, examples.sparse, rows)
        forward_likelihood(network.likelihood, plan, parameters, buffers, terms.log_likelihood, block, rows)
        block = _next_block(counters, plan)
    restore_mode(mode)


@entry_point
def encode_images(counters, plan, parameters, buffers, examples, heads):
    """[mean | log_std] of each example, heads (n, 2 * padded Z)."""
    mode = flush_denormals()
    n = examples.order.size
    block = _next_block(counters, plan)
    while block < n:
        minibatch = _block(block, min(plan.rows, n - block), examples.randomness)
        load_rows(plan, buffers, examples, minibatch, 0, minibatch.size)
        encode_rows(plan, parameters, buffers, examples.sparse, minibatch.size)
        out = heads[block : block + minibatch.size]
        _from_panels(buffers.workspace, plan.layers[plan.heads, OUTPUT], plan.rows, out)
        block = _next_block(counters, plan)
    restore_mode(mode)


@kernel
def _block(begin, size, randomness):
    """Examples that are not trained on."""
    return Minibatch(begin, size, 0, randomness.step, ZERO)


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
def encode_rows(plan, parameters, buffers, sparse, rows):
    """The encoder on the first rows of the workspace."""
    for i in range(plan.heads + 1):
        for half in range(HALVES):
            encoder_layer(plan, i, parameters, buffers, sparse, 0, rows, half)


@kernel
def decode_rows(plan, parameters, workspace, rows):
    """The decoder on the first rows of z."""
    hand_over(plan, workspace, 0, rows)
    for i in range(plan.heads + 1, plan.layers.shape[0]):
        for half in range(HALVES):
            decoder_layer(plan, i, parameters, workspace, 0, rows, half)


@kernel
def _next_block(counters, plan):
    """The first example of the next free block."""
    return fetch_add(counters, MEETING, 1) * plan.rows


@kernel
def _from_panels(workspace, offset, rows, out):
    """Copy the first rows of a matrix in panels to a plain matrix whose width is a multiple of a panel."""
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
