"""One tile of a matrix product by one block: operands staged in shared memory, sums in registers, added up in a fixed order.

Every product of a step is C[m, n] = sum over k of A[k, m] B[k, n], whichever way its operands lie in memory. A block's warps
have a tile of 16 x 32 each; warps that share one take every so many octets of the depth, and their sums are added in the order
of the warps: a sum split in two stages whose order never changes, without atomics.

While a chunk of the depth is multiplied, the next one is on its way from memory to registers.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from vaefast.engines.cuda_gpu.device import (
    FLOAT,
    LANES,
    TENSOR_CORES,
    device,
    left_place,
    less,
    load,
    load4,
    multiply_tf32,
    result_column,
    result_row,
    right_place,
    store,
    store4,
)
from vaefast.engines.cuda_gpu.plan import (
    A_FORM,
    A_ROWS,
    B_FORM,
    B_ROWS,
    B_STRIDE,
    COLUMN_SHIFT,
    DEEPEST,
    DEPTH_SHIFT,
    DIRECT,
    OCTET,
    ROW_SHIFT,
    UNITS,
)

# A staged operand lies in slabs of 32 columns, element (k, m) of a slab at k * LINE + m: a line four floats longer than it
# need be spreads a transposed operand over the memory's banks, and a fixed length spares the inner loop all addresses.
SLAB_SHIFT, SLAB, LINE = 5, 32, 36
STAGE = DEEPEST * LINE  # of one operand; where it is 64 wide it is staged half as deep
MEMORY = 2 * STAGE
ACCUMULATORS = 16
OCTET_SHIFT = 3
STAGED = 4 * UNITS
ZERO = np.float32(0)


@device
def tile_product(memory, job, arena, first, second, row, column_panel, column, depth, tf32):
    """Leave the sums of a tile in shared memory, in as many parts as warps share the depth: part p from p * rows * columns.

    The operands lie in the arena from elements first and second. A direct one is read from its panel `row / 16` or
    `column_panel` on, a transposed one from its row `row` or `column` on. Ends with a barrier.
    """
    shift, a_shift, b_shift = job[DEPTH_SHIFT], job[ROW_SHIFT], job[COLUMN_SHIFT]
    a_direct, b_direct = job[A_FORM] == DIRECT, job[B_FORM] == DIRECT
    lane, warp = cuda.threadIdx.x % LANES, cuda.threadIdx.x // LANES
    tiles_shift = a_shift + b_shift - 9  # log2 of the warps' tiles in the block's
    share, place = warp >> tiles_shift, warp & ((1 << tiles_shift) - 1)
    sharing = cuda.blockDim.x >> (tiles_shift + 5)
    a_place, b_place = (place >> (b_shift - 5)) << 4, (place & ((1 << (b_shift - 5)) - 1)) << 5
    a_read, b_read = staged_at(a_place, shift), STAGE + staged_at(b_place, shift)
    if TENSOR_CORES and tf32 == 1:
        a_read += left_place(lane, LINE)
        b_read += right_place(lane, LINE)
    else:
        a_read += (lane >> 3) * 4
        b_read += (lane & 7) * 4
    acc = cuda.local.array(ACCUMULATORS, FLOAT)
    for i in range(ACCUMULATORS):
        acc[i] = ZERO
    a_regs, b_regs = cuda.local.array(STAGED, FLOAT), cuda.local.array(STAGED, FLOAT)
    a_at, a_stride, a_depth, a_deeper, a_put, a_apart = units_of(job[A_ROWS], a_direct, 1, a_shift, shift)
    b_at, b_stride, b_depth, b_deeper, b_put, b_apart = units_of(job[B_ROWS], b_direct, job[B_STRIDE], b_shift, shift)
    a_at += first + (row * job[A_ROWS] if a_direct else row << 4)
    b_at += second + ((column_panel << 4) * job[B_ROWS] if b_direct else column << 4)
    a_units, b_units = 1 << (a_shift + shift - 2), 1 << (b_shift + shift - 2)

    fetch(arena, a_at, a_stride, a_units, a_depth, a_deeper, depth, a_regs)
    fetch(arena, b_at, b_stride, b_units, b_depth, b_deeper, depth, b_regs)
    left = depth
    while less(0, left):
        put(memory, a_put, a_apart, a_units, a_direct, a_regs)
        put(memory, STAGE + b_put, b_apart, b_units, b_direct, b_regs)
        cuda.syncthreads()
        deep = left if less(left, 1 << shift) else 1 << shift
        octets = (deep + OCTET - 1) >> OCTET_SHIFT
        left -= 1 << shift
        if less(0, left):
            # Down the panels, or across them; read again, and so in no register meanwhile.
            a_at += (16 if a_direct else job[A_ROWS]) << shift
            b_at += (16 if b_direct else job[B_ROWS]) << shift
            fetch(arena, a_at, a_stride, a_units, a_depth, a_deeper, left, a_regs)
            fetch(arena, b_at, b_stride, b_units, b_depth, b_deeper, left, b_regs)
        if TENSOR_CORES and tf32 == 1:
            octet = share
            while less(octet, octets):
                multiply_tf32(memory, a_read, b_read, LINE, octet, lane, acc)
                octet += sharing
        else:
            octet = share
            while less(octet, octets):
                multiply(memory, a_read, b_read, octet, acc)
                octet += sharing
        cuda.syncthreads()
    leave(memory, (share << (a_shift + b_shift)) + (a_place << b_shift) + b_place, b_shift, lane, acc, tf32)
    cuda.syncthreads()


@device
def units_of(rows, direct, panel_stride, width_shift, depth_shift):
    """Which units of a chunk this thread stages, of a matrix of so many rows: six numbers.

    A unit is four neighbours in a line of a panel. A direct operand has its depth down the panels' lines, a transposed one
    across the panels. The first unit's place in memory and the distance to the next; its depth in the chunk and the same; its
    place among the staged and the same.
    """
    quarter, line, lines = (cuda.threadIdx.x & 3) << 2, cuda.threadIdx.x >> 2, cuda.blockDim.x >> 2
    if direct:
        panel, k = line & ((1 << (width_shift - 4)) - 1), line >> (width_shift - 4)
        deeper = lines >> (width_shift - 4)
        at = ((panel * panel_stride * rows + k) << 4) + quarter
        return at, deeper << 4, k, deeper, staged_at((panel << 4) + quarter, depth_shift) + k * LINE, deeper * LINE
    row, panel = line & ((1 << width_shift) - 1), line >> width_shift
    deeper = lines >> width_shift
    at, apart = ((panel * rows + row) << 4) + quarter, (deeper * rows) << 4
    put_at = staged_at(row, depth_shift) + ((panel << 4) + quarter) * LINE
    return at, apart, panel << 4, deeper << 4, put_at, (deeper << 4) * LINE


@device
def staged_at(column, depth_shift):
    """Where a column of a staged operand begins."""
    return ((column >> SLAB_SHIFT) << depth_shift) * LINE + (column & (SLAB - 1))


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
                store4(memory, place, regs[4 * i], regs[4 * i + 1], regs[4 * i + 2], regs[4 * i + 3])
            else:
                store(memory, place, regs[4 * i])
                store(memory, place + LINE, regs[4 * i + 1])
                store(memory, place + 2 * LINE, regs[4 * i + 2])
                store(memory, place + 3 * LINE, regs[4 * i + 3])


@device
def multiply(memory, first, second, octet, acc):
    """Add this octet's products to the lane's 4 x 4 results."""
    begin = octet * (OCTET * LINE)
    for depth in range(OCTET):
        a0, a1, a2, a3 = load4(memory, begin + first + depth * LINE)
        b0, b1, b2, b3 = load4(memory, begin + second + depth * LINE)
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
def leave(memory, first, shift, lane, acc, tf32):
    """Write a warp's 16 x 32 sums, in lines of 1 << shift: 4 x 4 of each lane, or four times 16 x 8 as `mma` leaves them."""
    for i in range(4):
        if TENSOR_CORES and tf32 == 1:
            for part in range(4):
                at = first + (result_row(lane, 0) << shift) + result_column(lane, 0)
                store(memory, at + (result_row(0, part) << shift) + i * 8 + result_column(0, part), acc[4 * i + part])
        else:
            at = first + (((lane >> 3) * 4 + i) << shift) + (lane & 7) * 4
            store4(memory, at, acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3])


@device
def summed(memory, job, element):
    """The sum of a tile's element over the warps that shared its depth."""
    shift = job[ROW_SHIFT] + job[COLUMN_SHIFT]
    parts = (cuda.blockDim.x << 4) >> shift
    total = load(memory, element)
    for part in range(1, parts):
        total += load(memory, (part << shift) + element)
    return total
