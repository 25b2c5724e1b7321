"""log p(x) by importance sampling, streamed: one image at a time, its samples in chunks, sums kept relative to the largest.

C samples a chunk, X pixels, Z latents. A number in parentheses is an equation of DERIVATION.md. The decoder has a row for each
sample of one image, so that its weights are read once for C of them and everything stays in a second-level cache. Chunks
begin at multiples of C, whatever the images beside: neither the threads nor the set change a bit.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.barrier import fetch_add
from vaefast.engines.numba_cpu.compiler import entry_point, kernel
from vaefast.engines.numba_cpu.denormals import flush_denormals, restore_mode
from vaefast.engines.numba_cpu.likelihoods import log_likelihood_rows
from vaefast.engines.numba_cpu.noise import fill_normals, fill_words
from vaefast.engines.numba_cpu.objectives import log_ratio
from vaefast.engines.numba_cpu.pixels import load_rows, place_pixels
from vaefast.engines.numba_cpu.sampling import draw_sample, spread_out
from vaefast.engines.numba_cpu.steps import decode_rows, encode_rows
from vaefast.engines.plan import HALVES


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
def importance_images(
    counters, plan, parameters, workspace, pixels, row, chunk, likelihood, images, examples, keys, binarize, sparse, purpose,
    randomness, samples, log_likelihood, effective_samples,
):  # fmt: skip
    """log p(x) of `examples`, (n,), from so many samples each, and how many of them count (26); both (n,) float64.

    keys, (n,): the number under which each draws its noise; purpose: that of the samples.
    """
    mode = flush_denormals()
    n = fetch_add(counters, 0, 1)
    while n < examples.size:
        key = keys[n : n + 1]
        load_rows(
            images, binarize, randomness.seed, randomness.pixels, randomness.step, examples[n : n + 1], key, plan, workspace,
            pixels, sparse, row, 0, 1,
        )  # fmt: skip
        encode_rows(plan, parameters, workspace, pixels, sparse, 1)
        spread_out(plan, workspace, row.lanes, 0)
        for half in range(HALVES):
            place_pixels(plan, workspace, pixels, sparse, 0, 1, half)
        sums = Sums(-math.inf, 0.0, 0.0)
        for begin in range(0, samples, plan.samples):
            count = min(plan.samples, samples - begin)
            _draw_chunk(plan, workspace, row, chunk, randomness.seed, purpose, key[0], begin, count)
            _decode_chunk(plan, likelihood, parameters, workspace, chunk, count)
            sums = _add_chunk(chunk, count, sums)
        log_likelihood[n] = sums.largest + math.log(sums.total / samples)
        effective_samples[n] = sums.total * sums.total / sums.squares
        n = fetch_add(counters, 0, 1)
    restore_mode(mode)


@kernel
def _draw_chunk(plan, workspace, row, chunk, seed, purpose, key, begin, count):
    """z of samples begin to begin + count - 1 (2), each with noise of its own number."""
    for s in range(count):
        fill_words(seed, purpose, begin + s, key, row.noise.size, row.latent_words)
        fill_normals(row.latent_words, row.noise)
        draw_sample(plan, workspace, row.noise, 0, s)
        chunk.ratio[s] = log_ratio(plan, workspace, row.noise, row.lanes, 0, s)


@kernel
def _decode_chunk(plan, likelihood, parameters, workspace, chunk, count):
    decode_rows(plan, parameters, workspace, count)
    for half in range(HALVES):
        log_likelihood_rows(likelihood, plan, parameters, workspace, chunk.log_likelihood[half], 0, count, half)


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
