"""The kernels that Python calls: training steps, and forward passes over a set of images. Every worker runs the same one.

A training step is two phases with a meeting after each: rows (each worker its share of the minibatch), then weights
(tasks handed out by a ticket counter; who computes a task changes nothing in its result).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.barrier import fetch_add, meet
from vaefast.engines.numba_cpu.compiler import entry_point, kernel
from vaefast.engines.numba_cpu.denormals import flush_denormals, restore_mode
from vaefast.engines.numba_cpu.elementwise import copy
from vaefast.engines.numba_cpu.pixels import NONE, load_rows
from vaefast.engines.numba_cpu.plan import OUTPUT
from vaefast.engines.numba_cpu.rows import ROWS, backward_rows, bernoulli_rows, decode_rows, encode_rows, sample_rows
from vaefast.engines.numba_cpu.weights import AdamStep, update_task
from vaefast.layout import PANEL

MEETING, TICKETS = 0, 1  # slots of the counters: the barrier, then one ticket counter a step or one for the blocks
# Shares end at whole tiles where each worker has one, else at whole small tiles, so that at most one worker has odd rows.
SMALL_SHARE = 4


class Randomness(NamedTuple):
    """Where a run's random numbers come from (`vaefast.noise`)."""

    seed: np.uint64
    step: np.int64
    pixels: np.int64  # purpose
    latents: np.int64  # purpose


class Rows(NamedTuple):
    """Buffers that hold one padded row, for one worker."""

    pixel_words: NDArray[np.uint32]  # in planes (`noise.py`)
    pixels: NDArray[np.float32]
    latent_words: NDArray[np.uint32]  # in planes
    normals: NDArray[np.float32]  # in planes
    noise: NDArray[np.float32]  # the same normals in order


@entry_point
def train_steps(
    worker, workers, counters, plan, weights, workspace, pixels, row, scratch, tasks, images, examples, binarize, sparse,
    randomness, batch_size, adam, corrections, log_likelihood, kl,
):  # fmt: skip
    """Train on `examples`, (n,), in minibatches; corrections is (steps, 2): Adam's step size and second-moment factor."""
    mode = flush_denormals()
    for s in range(corrections.shape[0]):
        begin, end = s * batch_size, min((s + 1) * batch_size, examples.size)
        step = randomness.step + s
        now = AdamStep(adam.beta1, adam.beta2, adam.rest1, adam.rest2, adam.epsilon, corrections[s, 0], corrections[s, 1])
        _rows_phase(
            worker, workers, plan, weights, workspace, pixels, row, scratch, images, examples[begin:end], binarize, sparse,
            randomness, step, log_likelihood[begin:end], kl[begin:end],
        )  # fmt: skip
        meet(counters, MEETING, workers)
        task = fetch_add(counters, TICKETS + s, 1)
        while task < tasks.shape[0]:
            update_task(tasks[task], plan, weights, workspace, pixels, sparse, scratch, now, end - begin)
            task = fetch_add(counters, TICKETS + s, 1)
        meet(counters, MEETING, workers)
    restore_mode(mode)


@kernel
def _rows_phase(
    worker, workers, plan, weights, workspace, pixels, row, scratch, images, examples, binarize, sparse, randomness, step,
    log_likelihood, kl,
):  # fmt: skip
    B = examples.size
    first, last = _share(B, worker, workers), _share(B, worker + 1, workers)
    scale = np.float32(1.0 / B)
    load_rows(
        images, binarize, randomness.seed, randomness.pixels, step, examples, examples, plan, workspace, pixels, sparse,
        row.pixel_words, row.pixels, first, last,
    )  # fmt: skip
    encode_rows(plan, weights.parameters, workspace, pixels, sparse, first, last)
    sample_rows(
        plan,
        workspace,
        randomness.seed,
        randomness.latents,
        step,
        examples,
        row.latent_words,
        row.normals,
        row.noise,
        first,
        last,
    )
    decode_rows(plan, weights.parameters, workspace, first, last)
    bernoulli_rows(plan, workspace, scale, log_likelihood, kl, first, last)
    backward_rows(plan, weights.transposed, scratch.zeros, workspace, scale, first, last)


@kernel
def _share(rows, worker, workers):
    """The first row of a worker's share."""
    if worker >= workers:
        return rows
    unit = ROWS if rows >= ROWS * workers else SMALL_SHARE
    return rows * worker // workers // unit * unit


@entry_point
def evaluate_images(
    counters, plan, parameters, workspace, pixels, row, images, examples, keys, binarize, sparse, randomness,
    log_likelihood, kl,
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
            images, binarize, randomness.seed, randomness.pixels, randomness.step, examples[block:end], some, plan,
            workspace, pixels, sparse, row.pixel_words, row.pixels, 0, rows,
        )  # fmt: skip
        encode_rows(plan, parameters, workspace, pixels, sparse, 0, rows)
        sample_rows(
            plan, workspace, randomness.seed, randomness.latents, randomness.step, some,
            row.latent_words, row.normals, row.noise, 0, rows,
        )  # fmt: skip
        decode_rows(plan, parameters, workspace, 0, rows)
        bernoulli_rows(plan, workspace, np.float32(1), log_likelihood[block:end], kl[block:end], 0, rows)
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
            row.pixel_words, row.pixels, 0, end - block,
        )  # fmt: skip
        encode_rows(plan, parameters, workspace, pixels, sparse, 0, end - block)
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
        decode_rows(plan, parameters, workspace, 0, end - block)
        _from_panels(workspace, plan.layers[plan.layers.shape[0] - 1, OUTPUT], plan.rows, logits[block:end])
        block = _next_block(counters, plan)
    restore_mode(mode)


@kernel
def _next_block(counters, plan):
    """The first example of the next block that no worker has taken."""
    return fetch_add(counters, TICKETS, 1) * plan.rows


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
