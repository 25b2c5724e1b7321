"""One tile of a matrix product by one block: operands staged in shared memory, sums in registers, added up in a fixed order.

Every product of a step is C[m, n] = sum over k of A[k, m] B[k, n], whichever way its operands lie in memory. A warp has a tile
of 16 x 32, its lanes 4 x 4 each. Warps that share a tile divide the depth among them in small steps. If so large a tile
would leave most of the device idle, it is 16 x 8, and four groups of lanes also divide each step. All these partial sums are
added in a fixed order of warps and groups, without atomics.

While a chunk of the depth is multiplied, the next one is loaded from memory to registers.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from vaefast.engines.cuda_gpu.device import field, less, load4, low, multiply_tf32, read4, shl, short, shr, write, write4
from vaefast.engines.cuda_gpu.fragments import left_place, result_column, result_row, right_place
from vaefast.engines.cuda_gpu.plan import (
    A_FORM,
    A_ROWS,
    B_FORM,
    B_ROWS,
    B_STRIDE,
    COLUMN_SHIFT,
    DEPTH_SHIFT,
    DIRECT,
    ROW_SHIFT,
    TF32,
)
from vaefast.engines.cuda_gpu.target import FLOAT, device
from vaefast.engines.cuda_gpu.tiling import DEEPEST, LANES, NARROW_SHIFT, UNITS

# A staged operand lies in slabs of 32 columns, element (k, m) of a slab at k * LINE + m: a line four floats longer than it
# need be spreads a transposed operand over the memory's banks, and a fixed length spares the inner loop all addresses. A
# narrow tile's 16 and 8 columns share a slab, which may be twice as deep then.
SLAB_SHIFT, SLAB, LINE = 5, 32, 36
STAGE = DEEPEST * LINE  # of one operand; where it is 64 wide it is staged half as deep
BESIDE = 16  # where the narrow tile's B begins in a line
MEMORY = 2 * STAGE
ACCUMULATORS = 16
# Lines that a warp multiplies at a time, eight a lane; and how far the second four of a lane are from the first.
WIDE_SHIFT, NARROW_BITE_SHIFT = 3, 5
HALF = 4
STAGED = 4 * UNITS
ZERO = np.float32(0)


@device
def tile_product(memory, job, arena, first, second, row, column_panel, column, depth, precision):
    """Leave the sums of a tile in shared memory, in as many parts as share the depth: part p from p * rows * columns.

    The operands lie in the arena from elements first and second. A direct one is read from its panel `row / 16` or
    `column_panel` on, a transposed one from its row `row` or `column` on. Ends with a barrier.
    """
    shift, a_shift, b_shift = field(job, DEPTH_SHIFT), field(job, ROW_SHIFT), field(job, COLUMN_SHIFT)
    a_direct, b_direct = field(job, A_FORM) == DIRECT, field(job, B_FORM) == DIRECT
    narrow = b_shift == NARROW_SHIFT and precision != TF32
    lane, warp = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
    tiles_shift = 0 if narrow else a_shift + b_shift - 9  # log2 of the warps' tiles in the block's
    share, place = shr(warp, tiles_shift), low(warp, tiles_shift)
    sharing = shr(cuda.blockDim.x, tiles_shift + 5)
    # A narrow tile has one place, and these are zero.
    across = 0 if narrow else b_shift - 5
    a_place, b_place = shr(place, across) << 4, low(place, across) << 5
    b_base = BESIDE if narrow else STAGE
    a_read, b_read = staged_at(a_place, shift), b_base + staged_at(b_place, shift)
    if precision == TF32:
        a_read += left_place(lane, LINE)
        b_read += right_place(lane, LINE)
    else:
        a_read += lane_row(lane, narrow) + lane_group(lane, narrow) * (HALF * LINE)
        b_read += lane_column(lane, narrow) + lane_group(lane, narrow) * (HALF * LINE)
    bite_shift = NARROW_BITE_SHIFT if narrow else WIDE_SHIFT
    half = shl(LINE >> 1, bite_shift)
    acc = cuda.local.array(ACCUMULATORS, FLOAT)
    for i in range(ACCUMULATORS):
        acc[i] = ZERO
    a_regs, b_regs = cuda.local.array(STAGED, FLOAT), cuda.local.array(STAGED, FLOAT)
    a_at, a_stride, a_depth, a_deeper, a_put, a_apart = units_of(field(job, A_ROWS), a_direct, 1, a_shift, shift)
    b_at, b_stride, b_depth, b_deeper, b_put, b_apart = units_of(
        field(job, B_ROWS), b_direct, field(job, B_STRIDE), b_shift, shift
    )
    a_at = short(a_at + first + (row * field(job, A_ROWS) if a_direct else row << 4))
    b_at = short(
        b_at + second + ((column_panel << 4) * field(job, B_ROWS) + (column & 8 if narrow else 0) if b_direct else column << 4)
    )
    a_units, b_units, chunk = shl(1, a_shift + shift - 2), shl(1, b_shift + shift - 2), shl(1, shift)

    fetch(arena, a_at, a_stride, a_units, a_depth, a_deeper, depth, a_regs)
    fetch(arena, b_at, b_stride, b_units, b_depth, b_deeper, depth, b_regs)
    left = depth
    while less(0, left):
        put(memory, a_put, a_apart, a_units, a_direct, a_regs)
        put(memory, b_base + b_put, b_apart, b_units, b_direct, b_regs)
        cuda.syncthreads()
        deep = left if less(left, chunk) else chunk
        left = short(left - chunk)
        if less(0, left):
            # Down the panels, or across them; read again, and so in no register meanwhile.
            a_at = short(a_at + shl(16 if a_direct else field(job, A_ROWS), shift))
            b_at = short(b_at + shl(16 if b_direct else field(job, B_ROWS), shift))
            fetch(arena, a_at, a_stride, a_units, a_depth, a_deeper, left, a_regs)
            fetch(arena, b_at, b_stride, b_units, b_depth, b_deeper, left, b_regs)
        bites = shr(deep + shl(1, bite_shift) - 1, bite_shift)
        bite = share
        while less(bite, bites):
            begin = shl(bite, bite_shift) * LINE
            if precision == TF32:
                multiply_tf32(memory, begin + a_read, begin + b_read, LINE, lane, acc)
            else:
                multiply(memory, begin + a_read, begin + b_read, acc)
                multiply(memory, begin + half + a_read, begin + half + b_read, acc)
            bite = short(bite + sharing)
        cuda.syncthreads()
    part = (share << 2) + lane_group(lane, narrow) if narrow else share
    at = shl(part, a_shift + b_shift) + shl(a_place, b_shift) + b_place
    if precision == TF32:
        leave_tf32(memory, at, b_shift, lane, acc)
    else:
        leave(memory, at + shl(lane_row(lane, narrow), b_shift) + lane_column(lane, narrow), b_shift, acc)
    cuda.syncthreads()
    gather(memory, job)


# Neighbouring lanes have the same rows or the same columns of a tile: so half a warp's quads are read from shared memory in
# one pass, instead of a quarter's.


@device
def lane_row(lane, narrow):
    """The first of a lane's four rows in its warp's tile."""
    return ((lane >> 1) & 3) << 2 if narrow else ((lane >> 4) << 3) + ((lane & 1) << 2)


@device
def lane_column(lane, narrow):
    """The first of a lane's four columns."""
    return (lane & 1) << 2 if narrow else ((lane >> 1) & 7) << 2


@device
def lane_group(lane, narrow):
    """Which four lines of every sixteen a lane has of a narrow tile's."""
    return lane >> 3 if narrow else 0


@device
def units_of(rows, direct, panel_stride, width_shift, depth_shift):
    """Which units of a chunk this thread stages, of a matrix of so many rows: six numbers.

    A unit is four neighbours in a line of a panel. A direct operand has its depth down the panels' lines, a transposed one
    across the panels. The first unit's place in memory and the distance to the next; its depth in the chunk and the same; its
    place among the staged and the same.
    """
    # Half a panel's line holds two units.
    in_line = 1 if direct and width_shift == NARROW_SHIFT else 2
    quarter, line, lines = low(cuda.threadIdx.x, in_line) << 2, shr(cuda.threadIdx.x, in_line), shr(cuda.blockDim.x, in_line)
    if direct:
        panels_shift = max(0, width_shift - 4)
        panel, k, deeper = low(line, panels_shift), shr(line, panels_shift), shr(lines, panels_shift)
        at = ((panel * panel_stride * rows + k) << 4) + quarter
        place = staged_at((panel << 4) + quarter, depth_shift) + k * LINE
        return short(at), short(deeper << 4), short(k), short(deeper), short(place), short(deeper * LINE)
    row, panel, deeper = low(line, width_shift), shr(line, width_shift), shr(lines, width_shift)
    at, apart = ((panel * rows + row) << 4) + quarter, (deeper * rows) << 4
    put_at = staged_at(row, depth_shift) + ((panel << 4) + quarter) * LINE
    return short(at), short(apart), short(panel << 4), short(deeper << 4), short(put_at), short((deeper << 4) * LINE)


@device
def staged_at(column, depth_shift):
    """Where a column of a staged operand begins."""
    return shl(column >> SLAB_SHIFT, depth_shift) * LINE + (column & (SLAB - 1))


@device
def fetch(arena, at, stride, units, depth, deeper, left, regs):
    """Load a chunk's units into registers; zeros past the `left` that is left of the depth."""
    for i in range(UNITS):
        if less(i * cuda.blockDim.x, units) and less(depth + i * deeper, left):
            regs[4 * i], regs[4 * i + 1], regs[4 * i + 2], regs[4 * i + 3] = load4(arena, at + i * stride)
        else:
            regs[4 * i], regs[4 * i + 1], regs[4 * i + 2], regs[4 * i + 3] = ZERO, ZERO, ZERO, ZERO


@device
def put(memory, at, apart, units, direct, regs):
    """Store the registers in shared memory."""
    for i in range(UNITS):
        if less(i * cuda.blockDim.x, units):
            place = at + i * apart
            if direct:
                write4(memory, place, regs[4 * i], regs[4 * i + 1], regs[4 * i + 2], regs[4 * i + 3])
            else:
                write(memory, place, regs[4 * i])
                write(memory, place, regs[4 * i + 1], LINE)
                write(memory, place, regs[4 * i + 2], 2 * LINE)
                write(memory, place, regs[4 * i + 3], 3 * LINE)


@device
def multiply(memory, first, second, acc):
    """Add four lines' products to the lane's 4 x 4 results."""
    for depth in range(HALF):
        a0, a1, a2, a3 = read4(memory, first, depth * LINE)
        b0, b1, b2, b3 = read4(memory, second, depth * LINE)
        acc[0] += a0 * b0
        acc[1] += a0 * b1
        acc[2] += a0 * b2
        acc[3] += a0 * b3
        acc[4] += a1 * b0
        acc[5] += a1 * b1
        acc[6] += a1 * b2
        acc[7] += a1 * b3
        acc[8] += a2 * b0
        acc[9] += a2 * b1
        acc[10] += a2 * b2
        acc[11] += a2 * b3
        acc[12] += a3 * b0
        acc[13] += a3 * b1
        acc[14] += a3 * b2
        acc[15] += a3 * b3


@device
def leave(memory, first, shift, acc):
    """Write a lane's 4 x 4 sums, in lines of 1 << shift."""
    for i in range(4):
        write4(memory, first + shl(i, shift), acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3])


@device
def leave_tf32(memory, first, shift, lane, acc):
    """Write a warp's 16 x 32 sums: four times 16 x 8 as `mma` leaves them."""
    for i in range(4):
        for part in range(4):
            at = first + shl(result_row(lane, 0), shift) + result_column(lane, 0)
            write(memory, at + shl(result_row(0, part), shift) + i * 8 + result_column(0, part), acc[4 * i + part])


@device
def gather(memory, job):
    """Add up every four parts of a tile's sums, where there are more than four: each thread those of four neighbours.

    With a quad of sums and four of its parts for every thread: a block's threads hold 16 sums each, whatever the tile is.
    """
    shift = field(job, ROW_SHIFT) + field(job, COLUMN_SHIFT)
    if less(4, shr(cuda.blockDim.x << 4, shift)):
        group, quad = shr(cuda.threadIdx.x, shift - 2), low(cuda.threadIdx.x, shift - 2)
        at = shl(group, shift + 2) + (quad << 2)
        t0, t1, t2, t3 = read4(memory, at)
        for part in range(1, 4):
            p0, p1, p2, p3 = read4(memory, at + shl(part, shift))
            t0, t1, t2, t3 = t0 + p0, t1 + p1, t2 + p2, t3 + p3
        write4(memory, at, t0, t1, t2, t3)
        cuda.syncthreads()


@device
def summed(memory, job, element):
    """The sums of four neighbours of a tile over all that shared its depth, after `gather`."""
    shift = field(job, ROW_SHIFT) + field(job, COLUMN_SHIFT)
    parts = shr(cuda.blockDim.x << 4, shift)
    stride = shl(1, shift)
    if less(4, parts):
        parts, stride = parts >> 2, stride << 2
    t0, t1, t2, t3 = read4(memory, element)
    at = element + stride
    for _ in range(1, parts):
        p0, p1, p2, p3 = read4(memory, at)
        t0, t1, t2, t3 = t0 + p0, t1 + p1, t2 + p2, t3 + p3
        at += stride
    return t0, t1, t2, t3
