"""The work on the sums of a tile before they leave the chip: bias, activation, sample, loss, slope, Adam.

Dimensions: B rows of the minibatch, X pixels, H hidden units, Z latents; R rows that the workspace has. A gradient of the loss
is named `d_` + the name of the array; a number in parentheses is an equation of DERIVATION.md. A thread owns four
neighbours of a row, and sums over a row are taken in the order of the columns. So no bit depends on other work.

A function is given the tile in shared memory, its first row and column, and how many rows the minibatch has.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from vaefast.engines.cuda_gpu.call import KL_WEIGHT, PACES, RATE, SCALE
from vaefast.engines.cuda_gpu.device import (
    exp,
    field,
    less,
    load4,
    low,
    quotient,
    read,
    shl,
    short,
    shr,
    sqrt,
    store,
    store4,
    write,
)
from vaefast.engines.cuda_gpu.noise import four_normals
from vaefast.engines.cuda_gpu.plan import ACTIVATION, BIAS, COLUMN_SHIFT, LINEAR, OUT, RELU, ROW_SHIFT, SOURCE, M, N
from vaefast.engines.cuda_gpu.posterior import NARROWEST, WIDEST, bounded, deviation
from vaefast.engines.cuda_gpu.products import summed
from vaefast.engines.cuda_gpu.target import device

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)
# Shared memory past the sums of a tile holds what is added up over a row; a line is longer by one, for the banks.
PARTS = 16  # floats of the sums, a thread
QUAD = 2  # log2 of the neighbours that are one thread's


@device
def at(offset, rows, row, column):
    """Where an element of a matrix in panels stands."""
    return short(offset + ((column >> 4) * rows + row) * 16 + (column & 15))


@device
def x_at(call, places, s):
    """The minibatch of step s: two places in turn."""
    return places.x if call.repeated == 1 else places.x + (s & 1) * places.x_size


@device
def quads_of(job):
    """How many fours of neighbours a tile has."""
    return shl(1, field(job, ROW_SHIFT) + field(job, COLUMN_SHIFT) - QUAD)


@device
def quad_of(job, row, column, quad):
    """The row and first column of one."""
    shift = field(job, COLUMN_SHIFT) - QUAD
    return short(row + shr(quad, shift)), short(column + (low(quad, shift) << QUAD))


@device
def inside(job, n):
    """Whether column n is one of the panels of the result."""
    return n >> 4 < (field(job, N) + 15) >> 4


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
    arena, code = call.arena, field(job, ACTIVATION)
    quad = cuda.threadIdx.x
    while less(quad, quads_of(job)):
        m, n = quad_of(job, row, column, quad)
        if m < rows and inside(job, n):
            a0, a1, a2, a3 = summed(memory, job, quad << QUAD)
            b0, b1, b2, b3 = load4(arena, field(job, BIAS) + n)
            h0, h1 = activated(a0 + b0, code), activated(a1 + b1, code)
            h2, h3 = activated(a2 + b2, code), activated(a3 + b3, code)
            store4(arena, at(field(job, OUT), places.rows, m, n), h0, h1, h2, h3)
        quad = short(quad + cuda.blockDim.x)


@device
def sample(call, places, memory, job, row, panel, rows, start, s):
    """mean, log_std, std, noise and z, (B, Z), of one panel; parts of the KL divergence, (B,): (2), (4)."""
    arena, later = call.arena, places.latent_panels * 16
    lines = cuda.blockDim.x * PARTS
    quad = cuda.threadIdx.x
    while less(quad, shl(4, field(job, ROW_SHIFT))):
        m, j = row + (quad >> 2), panel * 16 + ((quad & 3) << QUAD)
        divergence = ZERO
        if m < rows:
            # Of 32 columns of sums 16 are the means', 16 their log_std's.
            tile = (quad >> 2) * 32 + ((quad & 3) << QUAD)
            a0, a1, a2, a3 = summed(memory, job, tile)
            b0, b1, b2, b3 = load4(arena, field(job, BIAS) + j)
            mean0, mean1, mean2, mean3 = a0 + b0, a1 + b1, a2 + b2, a3 + b3
            store4(arena, at(places.heads, places.rows, m, j), mean0, mean1, mean2, mean3)
            a0, a1, a2, a3 = summed(memory, job, tile + 16)
            b0, b1, b2, b3 = load4(arena, field(job, BIAS) + later + j)
            log0, log1, log2, log3 = a0 + b0, a1 + b1, a2 + b2, a3 + b3
            store4(arena, at(places.heads, places.rows, m, later + j), log0, log1, log2, log3)
            std0, std1, std2, std3 = deviation(log0), deviation(log1), deviation(log2), deviation(log3)
            store4(arena, at(places.std, places.rows, m, j), std0, std1, std2, std3)
            e0, e1, e2, e3 = four_normals(call, j, call.keys[start + m], call.step + s * call.stride, call.latent_purpose)
            # Columns that pad the panel have neither noise nor a part in the divergence.
            within = places.latent - j
            e1, e2, e3 = e1 if within > 1 else ZERO, e2 if within > 2 else ZERO, e3 if within > 3 else ZERO
            e0 = e0 if within > 0 else ZERO
            store4(arena, at(places.noise, places.rows, m, j), e0, e1, e2, e3)
            z0, z1, z2, z3 = mean0 + std0 * e0, mean1 + std1 * e1, mean2 + std2 * e2, mean3 + std3 * e3
            store4(arena, at(places.z, places.rows, m, j), z0, z1, z2, z3)
            divergence += kl_term(mean0, log0, std0) if within > 0 else ZERO
            divergence += kl_term(mean1, log1, std1) if within > 1 else ZERO
            divergence += kl_term(mean2, log2, std2) if within > 2 else ZERO
            divergence += kl_term(mean3, log3, std3) if within > 3 else ZERO
        write(memory, lines + (quad >> 2) * 5 + (quad & 3), divergence)
        quad = short(quad + cuda.blockDim.x)
    add_rows(call, memory, job, lines, 4, row, rows, places.kl + panel * places.rows)


@device
def kl_term(mean, log_std, std):
    """Of one latent variable, in nats (4), and beyond the bounds of log_std its tangent (44)."""
    c = bounded(log_std)
    variance = std * std
    return HALF * (variance + mean * mean - ONE - TWO * c + TWO * (log_std - c) * (variance - ONE))


@device
def loss(call, places, memory, job, row, column, rows, s):
    """log p(x | z) of each row's part, (B,) (3); d_logits, (B, X), where the logits would be (7)."""
    arena, lines, shift = call.arena, cuda.blockDim.x * PARTS, field(job, COLUMN_SHIFT) - QUAD
    width, x = shl(1, shift), x_at(call, places, s)
    scale = quotient(ONE, np.float32(rows))
    quad = cuda.threadIdx.x
    while less(quad, quads_of(job)):
        m, n = quad_of(job, row, column, quad)
        term = ZERO
        if m < rows and inside(job, n):
            x0, x1, x2, x3 = load4(arena, at(x, places.rows, m, n))
            b0, b1, b2, b3 = load4(arena, field(job, BIAS) + n)
            a0, a1, a2, a3 = summed(memory, job, quad << QUAD)
            within = field(job, N) - n
            term0, d0 = bernoulli(a0 + b0, x0, scale, within > 0)
            term1, d1 = bernoulli(a1 + b1, x1, scale, within > 1)
            term2, d2 = bernoulli(a2 + b2, x2, scale, within > 2)
            term3, d3 = bernoulli(a3 + b3, x3, scale, within > 3)
            term = term0 + term1 + term2 + term3
            store4(arena, at(field(job, OUT), places.rows, m, n), d0, d1, d2, d3)
        write(memory, lines + shr(quad, shift) * (width + 1) + low(quad, shift), term)
        quad = short(quad + cuda.blockDim.x)
    add_rows(call, memory, job, lines, width, row, rows, places.log_likelihood + shr(column, shift + QUAD) * places.rows)


@device
def bernoulli(a, pixel, scale, within):
    """log p(pixel | logit a) in nats (3) and d_logit (7); zeros for a column that pads a panel."""
    if not within:
        return ZERO, ZERO
    small = exp(-abs(a))
    # softplus(a) = max(a, 0) + log(1 + exp(-|a|))
    term = pixel * a - (a if a > ZERO else ZERO) - np.float32(math.log1p(small))
    return term, (quotient(ONE if a >= ZERO else small, ONE + small) - pixel) * scale


@device
def add_rows(call, memory, job, lines, width, row, rows, out):
    """The sum of each line of shared memory, to out + its row in the workspace."""
    cuda.syncthreads()
    r = cuda.threadIdx.x
    while less(r, shl(1, field(job, ROW_SHIFT))):
        if row + r < rows:
            total = ZERO
            for c in range(width):
                total += read(memory, lines + r * (width + 1) + c)
            store(call.arena, out + row + r, total)
        r += cuda.blockDim.x


@device
def mask(call, places, memory, job, row, column, rows):
    """d_source = (d_output @ W.T) * slope, (B, H)."""
    arena, code = call.arena, field(job, ACTIVATION)
    quad = cuda.threadIdx.x
    while less(quad, quads_of(job)):
        m, n = quad_of(job, row, column, quad)
        if m < rows and inside(job, n):
            h0, h1, h2, h3 = load4(arena, at(field(job, SOURCE), places.rows, m, n))
            d0, d1, d2, d3 = summed(memory, job, quad << QUAD)
            # Past the last row of W there is what no column of d_source may have.
            within = field(job, N) - n
            d0, d1 = d0 * slope(h0, code), d1 * slope(h1, code) if within > 1 else ZERO
            d2, d3 = d2 * slope(h2, code) if within > 2 else ZERO, d3 * slope(h3, code) if within > 3 else ZERO
            store4(arena, at(field(job, OUT), places.rows, m, n), d0 if within > 0 else ZERO, d1, d2, d3)
        quad = short(quad + cuda.blockDim.x)


@device
def sample_backward(call, places, memory, job, row, column, rows, s):
    """d_mean and d_log_std, (B, Z), from d_z, the tile's sums: z = mean + std * noise; (11), (12)."""
    arena, later = call.arena, places.latent_panels * 16
    weight = quotient(call.pace[s * PACES + KL_WEIGHT], np.float32(rows))
    quad = cuda.threadIdx.x
    while less(quad, quads_of(job)):
        m, j = quad_of(job, row, column, quad)
        if m < rows and j >> 4 < places.latent_panels:
            mean0, mean1, mean2, mean3 = load4(arena, at(places.heads, places.rows, m, j))
            std0, std1, std2, std3 = load4(arena, at(places.std, places.rows, m, j))
            e0, e1, e2, e3 = load4(arena, at(places.noise, places.rows, m, j))
            d0, d1, d2, d3 = summed(memory, job, quad << QUAD)
            within = places.latent - j
            mean0, log0 = heads_gradient(d0, mean0, std0, e0, weight, within > 0)
            mean1, log1 = heads_gradient(d1, mean1, std1, e1, weight, within > 1)
            mean2, log2 = heads_gradient(d2, mean2, std2, e2, weight, within > 2)
            mean3, log3 = heads_gradient(d3, mean3, std3, e3, weight, within > 3)
            store4(arena, at(places.d_heads, places.rows, m, j), mean0, mean1, mean2, mean3)
            store4(arena, at(places.d_heads, places.rows, m, later + j), log0, log1, log2, log3)
        quad = short(quad + cuda.blockDim.x)


@device
def heads_gradient(d_z, mean, std, epsilon, weight, within):
    """d_mean (11) and d_log_std (12) of one latent variable; zeros for a column that pads a panel."""
    if not within:
        return ZERO, ZERO
    moving = ZERO if std == NARROWEST or std == WIDEST else d_z * std * epsilon  # noqa: SIM109
    return d_z + weight * mean, moving + weight * (std * std - ONE)


@device
def update_weights(call, places, memory, job, row, column, s):
    """W by Adam, on the tile of d_W = source.T @ d_output; (8)."""
    quad = cuda.threadIdx.x
    while less(quad, quads_of(job)):
        m, n = quad_of(job, row, column, quad)
        if m < field(job, M) and n < field(job, N):
            g0, g1, g2, g3 = summed(memory, job, quad << QUAD)
            adam(call, places, at(field(job, OUT), field(job, M), m, n), g0, g1, g2, g3, s)
        quad = short(quad + cuda.blockDim.x)


@device
def adam(call, places, i, g0, g1, g2, g3, s):
    """A step of four neighbouring parameters (14-16), both moments' corrections folded into step size and a factor."""
    arena, first, second = call.arena, i + places.parameters, i + 2 * places.parameters
    m0, m1, m2, m3 = load4(arena, first)
    v0, v1, v2, v3 = load4(arena, second)
    p0, p1, p2, p3 = load4(arena, i)
    rate, scale = call.pace[s * PACES + RATE], call.pace[s * PACES + SCALE]
    m0, m1, m2, m3 = mixed(call, m0, g0), mixed(call, m1, g1), mixed(call, m2, g2), mixed(call, m3, g3)
    v0, v1, v2, v3 = (
        mixed_squares(call, v0, g0),
        mixed_squares(call, v1, g1),
        mixed_squares(call, v2, g2),
        mixed_squares(call, v3, g3),
    )
    store4(arena, first, m0, m1, m2, m3)
    store4(arena, second, v0, v1, v2, v3)
    p0 -= quotient(rate * m0, sqrt(v0 * scale) + call.epsilon)
    p1 -= quotient(rate * m1, sqrt(v1 * scale) + call.epsilon)
    p2 -= quotient(rate * m2, sqrt(v2 * scale) + call.epsilon)
    p3 -= quotient(rate * m3, sqrt(v3 * scale) + call.epsilon)
    store4(arena, i, p0, p1, p2, p3)


@device
def mixed(call, moment, gradient):
    """First moment (14)."""
    return call.beta1 * moment + call.one_less_beta1 * gradient


@device
def mixed_squares(call, moment, gradient):
    """Second moment (15)."""
    return call.beta2 * moment + call.one_less_beta2 * gradient * gradient
