"""Jobs that are no products: the drawing of pixels, biases, the terms of each row, and further samples of it.

Dimensions: B rows of the minibatch, X pixels, Z latents; R rows that the workspace has.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from vaefast.engines.cuda_gpu.device import divided, exp, field, load4, read, read4, shr, store, store4, write, write4
from vaefast.engines.cuda_gpu.epilogues import HALF, ONE, ZERO, adam, at
from vaefast.engines.cuda_gpu.noise import four_normals, four_words
from vaefast.engines.cuda_gpu.plan import DRAW_SHIFT, EPILOGUE, OUT, RESAMPLE, RESAMPLE_SHIFT, TERMS_SHIFT, A
from vaefast.engines.cuda_gpu.posterior import bounded, deviation
from vaefast.engines.cuda_gpu.target import device

DYNAMIC, THRESHOLD, NONE = 0, 1, 2
BINARIZATION_CODES = {"dynamic": DYNAMIC, "threshold": THRESHOLD, "none": NONE}
# floor(level * 2^32 / 255) of a byte, 2^32 being 255 * 16843009 + 1.
BYTE_CELL, WHITE = np.uint64(16843009), np.uint64(255)
# Rows of a bias's gradient that a thread has on their way at a time.
ROWS_AHEAD = 4
WORD_RANGE, BYTE_HALF = np.float32(2.0**32), 128


@device
def draw(call, places, task, rows, start, x, step):
    """Some rows of the minibatch, (X,), as the networks see them: drawn, on from one half, or grey. A quarter block each."""
    threads = shr(cuda.blockDim.x, DRAW_SHIFT)
    quarter = divided(cuda.threadIdx.x, threads)
    thread, row = cuda.threadIdx.x - quarter * threads, (task << DRAW_SHIFT) + quarter
    n = thread << 2
    while row < rows and n < (places.pixels + 15) & ~15:
        store4(call.arena, at(x, places.rows, row, n), ZERO, ZERO, ZERO, ZERO)
        n += threads << 2
    cuda.syncthreads()
    if row < rows:
        image, key = call.order[start + row], call.keys[start + row]
        first, last = call.starts[image], call.starts[image + 1]
        block = thread
        while block < (last - first + 3) >> 2:
            entry = first + 4 * block
            # The n-th non-zero pixel takes word n.
            w0, w1, w2, w3 = four_words(call, block, key, step, call.pixel_purpose)
            set_pixel(call, places, row, x, entry, last, w0)
            set_pixel(call, places, row, x, entry + 1, last, w1)
            set_pixel(call, places, row, x, entry + 2, last, w2)
            set_pixel(call, places, row, x, entry + 3, last, w3)
            block += threads


@device
def set_pixel(call, places, row, x, entry, last, word):
    """One listed pixel, unless the list has ended."""
    if entry < last:
        n = call.pixels[entry]
        if call.in_bytes == 1:
            value = byte_pixel(call.binarize, call.bytes[entry], word)
        else:
            value = float_pixel(call.binarize, call.floats[entry], word)
        store(call.arena, at(x, places.rows, row, n), value)


@device
def byte_pixel(binarize, level, word):
    """Exact in integers: on if word < floor(level * 2^32 / 255). Grey bytes are placed as floats."""
    wide = np.uint64(level)
    on = word < wide * BYTE_CELL + wide // WHITE if binarize == DYNAMIC else level >= BYTE_HALF
    return ONE if on else ZERO


@device
def float_pixel(binarize, level, word):
    """The same; a float32 times 2^32 is exact, and so is the integer below it."""
    if binarize == NONE:
        return level
    on = word < np.uint64(level * WORD_RANGE) if binarize == DYNAMIC else level >= HALF
    return ONE if on else ZERO


@device
def update_bias(call, places, memory, job, panel, rows, s):
    """b by Adam, one panel of it, on d_b = the sum of d_output's rows (8): each quarter of the threads four columns of it."""
    quarter, share, shares = (cuda.threadIdx.x & 3) << 2, cuda.threadIdx.x >> 2, cuda.blockDim.x >> 2
    t0, t1, t2, t3 = ZERO, ZERO, ZERO, ZERO
    r = share
    while r < rows:
        for i in range(ROWS_AHEAD):
            row = r + i * shares
            d0, d1, d2, d3 = load4(call.arena, at(field(job, A), places.rows, min(row, rows - 1), panel * 16 + quarter))
            t0, t1 = t0 + (d0 if row < rows else ZERO), t1 + (d1 if row < rows else ZERO)
            t2, t3 = t2 + (d2 if row < rows else ZERO), t3 + (d3 if row < rows else ZERO)
        r += ROWS_AHEAD * shares
    write4(memory, cuda.threadIdx.x << 2, t0, t1, t2, t3)
    cuda.syncthreads()
    if cuda.threadIdx.x < 4:
        g0, g1, g2, g3 = read4(memory, quarter)
        for part in range(1, shares):
            d0, d1, d2, d3 = read4(memory, (part << 4) + quarter)
            g0, g1, g2, g3 = g0 + d0, g1 + d1, g2 + d2, g3 + d3
        adam(call, places, field(job, OUT) + panel * 16 + quarter, g0, g1, g2, g3, s)


@device
def terms(call, places, job, block, rows, start, s):
    """What is known of the bound of each row, from the parts that the tiles left; a thread a row."""
    r = (block << TERMS_SHIFT) + cuda.threadIdx.x
    if cuda.threadIdx.x < 1 << TERMS_SHIFT and r < rows:
        log_likelihood, divergence = ZERO, ZERO
        for tile in range(places.loss_tiles):
            log_likelihood += call.arena[places.log_likelihood + tile * places.rows + r]
        if field(job, EPILOGUE) == RESAMPLE:
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
    elif s * call.group + r - divided(r, call.group) * call.group < call.samples:
        largest = arena[running]
        # NaN is larger than nothing, and stays once it is there.
        higher = largest if largest >= log_w else log_w
        shrink, w = exp(largest - higher), exp(log_w - higher)
        arena[running] = higher
        arena[running + R] = arena[running + R] * shrink + w
        arena[running + 2 * R] = arena[running + 2 * R] * shrink * shrink + w * w


@device
def resample(call, places, memory, task, rows, s):
    """z, (B, Z), from the noise of another sample, and log p(z) - log q(z | x), (B,); four threads a row (30)."""
    quarter, line = (cuda.threadIdx.x & 3) << 2, cuda.threadIdx.x >> 2
    r, arena = (task << RESAMPLE_SHIFT) + line, call.arena
    owned = line < 1 << RESAMPLE_SHIFT and r < rows
    total = ZERO
    if owned:
        number = s * call.group + r - divided(r, call.group) * call.group
        for panel in range(places.latent_panels):
            j = panel * 16 + quarter
            mean0, mean1, mean2, mean3 = load4(arena, at(places.heads, places.rows, r, j))
            log0, log1, log2, log3 = load4(arena, at(places.heads, places.rows, r, places.latent_panels * 16 + j))
            e0, e1, e2, e3 = four_normals(call, j, call.keys[r], number, call.latent_purpose)
            within = places.latent - j
            z0, term0 = sampled(mean0, log0, e0, within > 0)
            z1, term1 = sampled(mean1, log1, e1, within > 1)
            z2, term2 = sampled(mean2, log2, e2, within > 2)
            z3, term3 = sampled(mean3, log3, e3, within > 3)
            store4(arena, at(places.z, places.rows, r, j), z0, z1, z2, z3)
            total += term0 + term1 + term2 + term3
    write(memory, cuda.threadIdx.x, total)
    cuda.syncthreads()
    if quarter == 0 and owned:
        prior = ZERO
        for i in range(4):
            prior += read(memory, cuda.threadIdx.x, i)
        arena[places.prior + r] = prior


@device
def sampled(mean, log_std, epsilon, within):
    """z (2) and its part of log p(z) - log q(z | x); zeros for a column that pads a panel."""
    if not within:
        return ZERO, ZERO
    z = mean + deviation(log_std) * epsilon
    return z, HALF * (epsilon * epsilon - z * z) + bounded(log_std)


__all__ = ["BINARIZATION_CODES", "draw", "resample", "terms", "update_bias"]
