"""Jobs that are no products: the drawing of pixels, biases, the terms of each row, and further samples of it.

Dimensions: B rows of the minibatch, X pixels, Z latents; R rows that the workspace has.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from vaefast.engines.cuda_gpu.device import device, exp
from vaefast.engines.cuda_gpu.epilogues import HALF, ONE, ZERO, adam, at
from vaefast.engines.cuda_gpu.noise import four_words, normal
from vaefast.engines.cuda_gpu.plan import EPILOGUE, OUT, RESAMPLE, A

DYNAMIC, THRESHOLD, NONE = 0, 1, 2
BINARIZATION_CODES = {"dynamic": DYNAMIC, "threshold": THRESHOLD, "none": NONE}
# floor(level * 2^32 / 255) of a byte, 2^32 being 255 * 16843009 + 1.
BYTE_CELL, WHITE = np.uint64(16843009), np.uint64(255)
# Rows of a task: a thread each, or 16 threads each of the fewest that a block has.
TERMS_SHIFT, RESAMPLE_SHIFT = 5, 3
WORD_RANGE, BYTE_SCALE, BYTE_HALF = np.float32(2.0**32), np.float32(255), 128


@device
def draw(call, places, row, start, x, step):
    """Row `row` of the minibatch, (X,), as the networks see it: drawn, on from one half, or grey. One block."""
    image, key = call.order[start + row], call.keys[start + row]
    first, last = call.starts[image], call.starts[image + 1]
    n = cuda.threadIdx.x
    while n < (places.pixels + 15) & ~15:
        call.arena[at(x, places.rows, row, n)] = ZERO
        n += cuda.blockDim.x
    cuda.syncthreads()
    block = cuda.threadIdx.x
    while block < (last - first + 3) >> 2:
        entry = first + 4 * block
        # The n-th non-zero pixel takes word n.
        w0, w1, w2, w3 = four_words(call, block, key, step, call.pixel_purpose)
        set_pixel(call, places, row, x, entry, last, w0)
        set_pixel(call, places, row, x, entry + 1, last, w1)
        set_pixel(call, places, row, x, entry + 2, last, w2)
        set_pixel(call, places, row, x, entry + 3, last, w3)
        block += cuda.blockDim.x


@device
def set_pixel(call, places, row, x, entry, last, word):
    """One listed pixel, unless the list has ended."""
    if entry < last:
        n = call.pixels[entry]
        value = (
            byte_pixel(call.binarize, call.bytes[entry], word)
            if call.in_bytes == 1
            else float_pixel(call.binarize, call.floats[entry], word)
        )
        call.arena[at(x, places.rows, row, n)] = value


@device
def byte_pixel(binarize, level, word):
    """Exact in integers: on if word < floor(level * 2^32 / 255)."""
    if binarize == DYNAMIC:
        wide = np.uint64(level)
        return ONE if word < wide * BYTE_CELL + wide // WHITE else ZERO
    if binarize == THRESHOLD:
        return ONE if level >= BYTE_HALF else ZERO
    return np.float32(level) / BYTE_SCALE


@device
def float_pixel(binarize, level, word):
    """The same; a float32 times 2^32 is exact, and so is the integer below it."""
    if binarize == DYNAMIC:
        return ONE if word < np.uint64(level * WORD_RANGE) else ZERO
    if binarize == THRESHOLD:
        return ONE if level >= HALF else ZERO
    return level


@device
def update_bias(call, places, memory, job, panel, rows, s):
    """b by Adam, one panel of it, on d_b = the sum of d_output's rows (8): each 16th of the threads a share of them."""
    column, share, shares = cuda.threadIdx.x & 15, cuda.threadIdx.x >> 4, cuda.blockDim.x >> 4
    total = ZERO
    r = share
    while r < rows:
        total += call.arena[at(job[A], places.rows, r, panel * 16 + column)]
        r += shares
    memory[cuda.threadIdx.x] = total
    cuda.syncthreads()
    if cuda.threadIdx.x < 16:
        gradient = ZERO
        for part in range(shares):
            gradient += memory[part * 16 + column]
        adam(call, places, job[OUT] + panel * 16 + column, gradient, s)


@device
def terms(call, places, job, block, rows, start, s):
    """What is known of the bound of each row, from the parts that the tiles left; a thread a row."""
    r = (block << TERMS_SHIFT) + cuda.threadIdx.x
    if cuda.threadIdx.x < 1 << TERMS_SHIFT and r < rows:
        log_likelihood, divergence = ZERO, ZERO
        for tile in range(places.loss_tiles):
            log_likelihood += call.arena[places.log_likelihood + tile * places.rows + r]
        if job[EPILOGUE] == RESAMPLE:
            weigh(call, places, r, call.arena[places.prior + r] + log_likelihood, s)
        else:
            for tile in range(places.kl_tiles):
                divergence += call.arena[places.kl + tile * places.rows + r]
            call.log_likelihood[start + r] = log_likelihood
            call.kl[start + r] = divergence


@device
def weigh(call, places, r, log_w, s):
    """Add a log weight to the sums of a row, kept relative to the largest so far (26)."""
    arena, running, R = call.arena, places.running + r, places.rows
    if s == 0:
        arena[running] = log_w
        arena[running + R] = ONE
        arena[running + 2 * R] = ONE
    elif s * call.group + r % call.group < call.samples:
        largest = arena[running]
        # NaN is larger than nothing, and stays once it is there.
        higher = largest if largest >= log_w else log_w
        shrink, w = exp(largest - higher), exp(log_w - higher)
        arena[running] = higher
        arena[running + R] = arena[running + R] * shrink + w
        arena[running + 2 * R] = arena[running + 2 * R] * shrink * shrink + w * w


@device
def resample(call, places, memory, task, rows, s):
    """z, (B, Z), from the noise of another sample, and log p(z) - log q(z | x), (B,); 16 threads a row (30)."""
    lane, line = cuda.threadIdx.x & 15, cuda.threadIdx.x >> 4
    r, arena = (task << RESAMPLE_SHIFT) + line, call.arena
    owned = line < 1 << RESAMPLE_SHIFT and r < rows
    total = ZERO
    if owned:
        number = s * call.group + r % call.group
        for panel in range(places.latent_panels):
            j = panel * 16 + lane
            z = ZERO
            if j < places.latent:
                mean = arena[at(places.heads, places.rows, r, j)]
                log_std = arena[at(places.heads, places.rows, r, places.latent_panels * 16 + j)]
                epsilon = normal(call, j, call.keys[r], number, call.latent_purpose)
                z = mean + exp(log_std) * epsilon
                total += HALF * (epsilon * epsilon - z * z) + log_std
            arena[at(places.z, places.rows, r, j)] = z
    memory[cuda.threadIdx.x] = total
    cuda.syncthreads()
    if lane == 0 and owned:
        prior = ZERO
        for i in range(16):
            prior += memory[cuda.threadIdx.x + i]
        arena[places.prior + r] = prior


__all__ = ["BINARIZATION_CODES", "draw", "resample", "terms", "update_bias"]
