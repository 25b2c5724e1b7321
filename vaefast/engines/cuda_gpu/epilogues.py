"""What becomes of a tile's sums before they leave the chip: bias, activation, sample, loss, slope, Adam.

Dimensions: B rows of the minibatch, X pixels, H hidden units, Z latents; R rows that the workspace has. A gradient of the loss
is named `d_` + the name of the array; a number in parentheses is an equation of DERIVATION.md. Every element is one thread's,
and sums over a row are taken in the order of the columns by one thread, so no bit depends on what runs beside.

A function is given the tile in shared memory, its first row and column, and how many rows the minibatch has.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from vaefast.engines.cuda_gpu.call import KL_WEIGHT, PACES, RATE, SCALE
from vaefast.engines.cuda_gpu.device import device, exp, less, load, sqrt, store
from vaefast.engines.cuda_gpu.noise import normal
from vaefast.engines.cuda_gpu.plan import ACTIVATION, BIAS, COLUMN_SHIFT, LINEAR, OUT, RELU, ROW_SHIFT, SOURCE, M, N
from vaefast.engines.cuda_gpu.products import summed

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
# Shared memory past the sums of a tile holds what is added up over a row; a line is longer by one, for the banks.
PARTS = 16  # floats of the sums, a thread


@device
def at(offset, rows, row, column):
    """Where an element of a matrix in panels stands."""
    return offset + ((column >> 4) * rows + row) * 16 + (column & 15)


@device
def x_at(call, places, s):
    """The minibatch of step s: two places in turn."""
    return places.x if call.repeated == 1 else places.x + (s & 1) * places.x_size


@device
def activated(value, code):
    """relu or tanh; NaN stays NaN."""
    if code == LINEAR:
        return value
    if code == RELU:
        return ZERO if value < ZERO else value
    return np.float32(math.tanh(value))


@device
def slope(h, code):
    """Of the activation whose value is h, (9) or (10)."""
    if code == LINEAR:
        return ONE
    if code == RELU:
        return ONE if h > ZERO else ZERO
    return ONE - h * h


@device
def activate(call, places, memory, job, row, column, rows):
    """output = activation(source @ W + b), (B, H)  (5)."""
    arena, shift = call.arena, job[COLUMN_SHIFT]
    e = cuda.threadIdx.x
    while less(e, 1 << (job[ROW_SHIFT] + shift)):
        m, n = row + (e >> shift), column + (e & ((1 << shift) - 1))
        if m < rows and n >> 4 < (job[N] + 15) >> 4:
            value = summed(memory, job, e) + load(arena, job[BIAS] + n)
            store(arena, at(job[OUT], places.rows, m, n), activated(value, job[ACTIVATION]))
        e += cuda.blockDim.x


@device
def sample(call, places, memory, job, row, panel, rows, start, s):
    """mean, log_std, std, noise and z, (B, Z), of one panel; parts of the KL divergence, (B,): (2), (4)."""
    arena = call.arena
    lines = cuda.blockDim.x * PARTS
    e = cuda.threadIdx.x
    while less(e, 16 << job[ROW_SHIFT]):
        m, j = row + (e >> 4), panel * 16 + (e & 15)
        divergence = ZERO
        if m < rows:
            tile = (e >> 4) * 32 + (e & 15)
            mean = summed(memory, job, tile) + load(arena, job[BIAS] + j)
            log_std = summed(memory, job, tile + 16) + load(arena, job[BIAS] + places.latent_panels * 16 + j)
            std, epsilon = exp(log_std), ZERO
            if j < places.latent:
                epsilon = normal(call, j, call.keys[start + m], call.step + s * call.stride, call.latent_purpose)
                divergence = HALF * (std * std + mean * mean - ONE - TWO * log_std)
            store(arena, at(places.heads, places.rows, m, j), mean)
            store(arena, at(places.heads, places.rows, m, places.latent_panels * 16 + j), log_std)
            store(arena, at(places.std, places.rows, m, j), std)
            store(arena, at(places.noise, places.rows, m, j), epsilon)
            store(arena, at(places.z, places.rows, m, j), mean + std * epsilon)
        store(memory, lines + (e >> 4) * 17 + (e & 15), divergence)
        e += cuda.blockDim.x
    add_rows(call, places, memory, job, lines, 16, row, rows, places.kl + panel * places.rows)


@device
def loss(call, places, memory, job, row, column, rows, s):
    """log p(x | z) of each row's part, (B,) (3); d_logits, (B, X), where the logits would be (7)."""
    arena, shift = call.arena, job[COLUMN_SHIFT]
    lines, width, x = cuda.blockDim.x * PARTS, 1 << job[COLUMN_SHIFT], x_at(call, places, s)
    scale = ONE / np.float32(rows)
    e = cuda.threadIdx.x
    while less(e, 1 << (job[ROW_SHIFT] + shift)):
        m, n = row + (e >> shift), column + (e & (width - 1))
        term, d = ZERO, ZERO
        if m < rows and n < job[N]:
            a = summed(memory, job, e) + load(arena, job[BIAS] + n)
            pixel = load(arena, at(x, places.rows, m, n))
            small = exp(-abs(a))
            # softplus(a) = max(a, 0) + log(1 + exp(-|a|))
            term = pixel * a - (a if a > ZERO else ZERO) - np.float32(math.log1p(small))
            d = ((ONE if a >= ZERO else small) / (ONE + small) - pixel) * scale
        if m < rows and n >> 4 < (job[N] + 15) >> 4:
            store(arena, at(job[OUT], places.rows, m, n), d)
        store(memory, lines + (e >> shift) * (width + 1) + (e & (width - 1)), term)
        e += cuda.blockDim.x
    add_rows(call, places, memory, job, lines, width, row, rows, places.log_likelihood + (column >> shift) * places.rows)


@device
def add_rows(call, places, memory, job, lines, width, row, rows, out):
    """The sum of each line of shared memory, to out + its row in the workspace."""
    cuda.syncthreads()
    r = cuda.threadIdx.x
    while less(r, 1 << job[ROW_SHIFT]):
        if row + r < rows:
            total = ZERO
            for c in range(width):
                total += load(memory, lines + r * (width + 1) + c)
            store(call.arena, out + row + r, total)
        r += cuda.blockDim.x


@device
def mask(call, places, memory, job, row, column, rows):
    """d_source = (d_output @ W.T) * slope, (B, H)."""
    arena, shift = call.arena, job[COLUMN_SHIFT]
    e = cuda.threadIdx.x
    while less(e, 1 << (job[ROW_SHIFT] + shift)):
        m, n = row + (e >> shift), column + (e & ((1 << shift) - 1))
        if m < rows and n >> 4 < (job[N] + 15) >> 4:
            d = ZERO
            if n < job[N]:
                h = load(arena, at(job[SOURCE], places.rows, m, n))
                d = summed(memory, job, e) * slope(h, job[ACTIVATION])
            store(arena, at(job[OUT], places.rows, m, n), d)
        e += cuda.blockDim.x


@device
def sample_backward(call, places, memory, job, row, column, rows, s):
    """d_mean and d_log_std, (B, Z), from d_z, the tile's sums: z = mean + std * noise; (11), (12)."""
    arena, shift = call.arena, job[COLUMN_SHIFT]
    weight = call.pace[s * PACES + KL_WEIGHT] / np.float32(rows)
    e = cuda.threadIdx.x
    while less(e, 1 << (job[ROW_SHIFT] + shift)):
        m, j = row + (e >> shift), column + (e & ((1 << shift) - 1))
        if m < rows and j >> 4 < places.latent_panels:
            d_mean, d_log_std = ZERO, ZERO
            if j < places.latent:
                d_z = summed(memory, job, e)
                mean, std = load(arena, at(places.heads, places.rows, m, j)), load(arena, at(places.std, places.rows, m, j))
                d_mean = d_z + weight * mean
                d_log_std = d_z * std * load(arena, at(places.noise, places.rows, m, j)) + weight * (std * std - ONE)
            store(arena, at(places.d_heads, places.rows, m, j), d_mean)
            store(arena, at(places.d_heads, places.rows, m, places.latent_panels * 16 + j), d_log_std)
        e += cuda.blockDim.x


@device
def update_weights(call, places, memory, job, row, column, s):
    """W by Adam, on the tile of d_W = source.T @ d_output; (8)."""
    shift = job[COLUMN_SHIFT]
    e = cuda.threadIdx.x
    while less(e, 1 << (job[ROW_SHIFT] + shift)):
        m, n = row + (e >> shift), column + (e & ((1 << shift) - 1))
        if m < job[M] and n < job[N]:
            adam(call, places, at(job[OUT], job[M], m, n), summed(memory, job, e), s)
        e += cuda.blockDim.x


@device
def adam(call, places, i, gradient, s):
    """One parameter's step (14-16), the corrections of both moments folded into the step size and a factor."""
    arena, first, second = call.arena, i + places.parameters, i + 2 * places.parameters
    m = call.beta1 * load(arena, first) + call.one_less_beta1 * gradient
    v = call.beta2 * load(arena, second) + call.one_less_beta2 * gradient * gradient
    rate, scale = call.pace[s * PACES + RATE], call.pace[s * PACES + SCALE]
    store(arena, first, m)
    store(arena, second, v)
    store(arena, i, load(arena, i) - rate * m / (sqrt(v * scale) + call.epsilon))
