"""log p(x) by importance sampling, streamed: one image at a time, its samples in chunks, sums kept relative to the largest.

C samples a chunk, X pixels, Z latents. A number in parentheses is an equation of DERIVATION.md. The decoder has a row for each
sample of one image, so that its weights are read once for C of them and everything stays in a second-level cache. Chunks
begin at multiples of C for every image, so neither the number of threads nor the other images change a bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.barrier import MEETING, fetch_add
from vaefast.engines.numba_cpu.call import Minibatch
from vaefast.engines.numba_cpu.compiler import entry_point, kernel
from vaefast.engines.numba_cpu.denormals import flush_denormals, restore_mode
from vaefast.engines.numba_cpu.elementwise import ZERO
from vaefast.engines.numba_cpu.likelihoods import forward_likelihood, place_targets, prepare_likelihood
from vaefast.engines.numba_cpu.loading import load_rows
from vaefast.engines.numba_cpu.noise import fill_normals, fill_words
from vaefast.engines.numba_cpu.objectives import log_ratio
from vaefast.engines.numba_cpu.sampling import draw_sample, spread_out, tell_decoder
from vaefast.engines.numba_cpu.steps import decode_rows, encode_rows


class Chunk(NamedTuple):
    """What one worker keeps of the samples of a chunk, float64."""

    log_likelihood: NDArray[np.float64]  # (2, C): the halves of the pixels apart
    ratio: NDArray[np.float64]  # (C,): log p(z) - log q(z | x)


class Sums(NamedTuple):
    """The running sums of one image: of exp(log w - largest) and of its square."""

    largest: float
    total: float
    squares: float


@entry_point
def importance_images(counters, plan, likelihood, parameters, buffers, chunk, examples, samples, result):
    """`result`, log p(x) of each example from so many samples and how many of them count (26); both (n,) float64."""
    mode = flush_denormals()
    workspace, row, randomness = buffers.workspace, buffers.row, examples.randomness
    prepare_likelihood(likelihood, plan, parameters, buffers, 0, 1)
    n = fetch_add(counters, MEETING, 1)
    while n < examples.order.size:
        load_rows(plan, buffers, examples, Minibatch(n, 1, 0, randomness.step, ZERO), 0, 1)
        encode_rows(plan, parameters, buffers, examples.sparse, 1)
        spread_out(plan, workspace, row.lanes, 0)
        place_targets(likelihood, plan, buffers, examples.sparse, 1)
        sums = Sums(-math.inf, 0.0, 0.0)
        for begin in range(0, samples, plan.samples):
            count = min(plan.samples, samples - begin)
            decode_chunk(plan, likelihood, parameters, buffers, chunk, examples, n, begin, count)
            sums = _add_chunk(chunk, count, sums)
        result.log_likelihood[n] = sums.largest + math.log(sums.total / samples)
        result.effective_samples[n] = sums.total * sums.total / sums.squares
        n = fetch_add(counters, MEETING, 1)
    restore_mode(mode)


@kernel
def decode_chunk(plan, likelihood, parameters, buffers, chunk, examples, n, begin, count):
    """Samples begin to begin + count - 1 of example n: the chunk holds log p(x | z) and log p(z) - log q(z | x) of each."""
    _draw_chunk(plan, buffers.workspace, buffers.row, chunk, examples.randomness, examples.keys[n], begin, count)
    for s in range(count):
        tell_decoder(plan, examples, examples.order[n], buffers.workspace, s)
    decode_rows(plan, parameters, buffers.workspace, count)
    forward_likelihood(likelihood, plan, parameters, buffers, chunk.log_likelihood, 0, count)


@kernel
def _draw_chunk(plan, workspace, row, chunk, randomness, key, begin, count):
    """z of samples begin to begin + count - 1 (2), each with noise of its own number."""
    for s in range(count):
        fill_words(randomness.seed, randomness.latents, begin + s, key, row.noise.size, row.latent_words)
        fill_normals(row.latent_words, row.noise)
        draw_sample(plan, workspace, row.noise, 0, s)
        chunk.ratio[s] = log_ratio(plan, workspace, row.noise, row.lanes, 0, s)


@kernel
def _add_chunk(chunk, count, sums):
    """log w = log p(x | z) + log p(z) - log q(z | x) (30) of a chunk, added to the sums."""
    log_w, largest = chunk.ratio, sums.largest
    for s in range(count):
        log_w[s] += chunk.log_likelihood[0, s] + chunk.log_likelihood[1, s]
        largest = max(largest, log_w[s])
    shrink = math.exp(sums.largest - largest)
    total, squares = sums.total * shrink, sums.squares * shrink * shrink
    for s in range(count):
        w = math.exp(log_w[s] - largest)
        total += w
        squares += w * w
    return Sums(largest, total, squares)
