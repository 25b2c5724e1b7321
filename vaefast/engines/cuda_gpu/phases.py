"""A phase, and two ways to chain phases: a launch each, or one cooperative kernel in which the whole grid meets between them.

Both run the same `run_phase`. In it every block takes every so-many-th task, so results do not depend on how many blocks there
are. Tasks of one phase never read what another task of it writes.
"""

from __future__ import annotations

from numba import cuda, types

from vaefast.engines.cuda_gpu.device import ALIGNMENT, FLOAT, device, divided, entry_point, less
from vaefast.engines.cuda_gpu.epilogues import activate, loss, mask, sample, sample_backward, update_weights, x_at
from vaefast.engines.cuda_gpu.plan import (
    ACTIVATE,
    ADAM,
    AHEAD,
    COLUMN_SHIFT,
    DRAW,
    EMPTY,
    EPILOGUE,
    FIELDS,
    JOBS,
    KIND,
    LOSS,
    MASK,
    PRODUCT,
    ROW_SHIFT,
    ROWS,
    SAMPLE,
    TERMS,
    TILES,
    TURNS,
    UPDATE_BIAS,
    A,
    B,
    K,
    M,
)
from vaefast.engines.cuda_gpu.products import MEMORY, tile_product
from vaefast.engines.cuda_gpu.rows import RESAMPLE_SHIFT, TERMS_SHIFT, draw, resample, terms, update_bias

RECORD = JOBS * FIELDS
# A phase's record in shared memory, and behind it the number of the step. What a task needs of them it reads there again and
# again, rather than keep it in registers while a product is computed.
STEP = RECORD
SLOT = RECORD + 1


@device
def rows_of(call, s):
    """How many rows the minibatch of step s has: fewer in the last one, none after it."""
    if call.repeated == 1:
        return call.size
    return max(0, min(call.batch, call.size - s * call.batch))


@device
def start_of(call, s):
    """The first of its examples."""
    return 0 if call.repeated == 1 else s * call.batch


@device
def tasks_of(call, job, s):
    """How many tasks a job has in step s."""
    kind = job[KIND]
    if kind == EMPTY:
        return 0
    rows = rows_of(call, s + job[AHEAD])
    if kind == PRODUCT:
        height = rows if job[M] == ROWS else job[M]
        return ((height + (1 << job[ROW_SHIFT]) - 1) >> job[ROW_SHIFT]) * job[TILES]
    if kind == DRAW:
        return rows
    if kind == UPDATE_BIAS:
        return job[TILES]
    shift = TERMS_SHIFT if kind == TERMS else RESAMPLE_SHIFT
    return (rows + (1 << shift) - 1) >> shift


@device
def run_phase(call, places, memory, record):
    """All tasks of a phase, dealt to the blocks in turn. No thread leaves before the others of its block are done."""
    number = cuda.blockIdx.x
    j = 0
    while j < JOBS:
        task, j = number, 0
        while j < JOBS:
            tasks = tasks_of(call, record[j * FIELDS : (j + 1) * FIELDS], record[STEP])
            if less(task, tasks):
                break
            task -= tasks
            j += 1
        if j < JOBS:
            run_task(call, places, memory, record, record[j * FIELDS : (j + 1) * FIELDS], task)
            cuda.syncthreads()
        number += cuda.gridDim.x


@device
def run_task(call, places, memory, record, job, task):
    """One block's piece of a job."""
    kind = job[KIND]
    if kind == PRODUCT:
        run_tile(call, places, memory, record, job, task)
        return
    s = record[STEP]
    rows = rows_of(call, s)
    if kind == DRAW:
        later = s + job[AHEAD]
        draw(call, places, task, start_of(call, later), x_at(call, places, later), call.step + later * call.stride)
    elif kind == UPDATE_BIAS:
        update_bias(call, places, memory, job, task, rows, s)
    elif kind == TERMS:
        terms(call, places, job, task, rows, start_of(call, s), s)
    else:
        resample(call, places, memory, task, rows, s)


@device
def run_tile(call, places, memory, record, job, task):
    """A tile of a product, and what becomes of it."""
    multiply_tile(call, memory, record, job, task)
    row, column = tile_of(job, task)
    s, epilogue = record[STEP], job[EPILOGUE]
    rows = rows_of(call, s)
    if epilogue == ACTIVATE:
        activate(call, places, memory, job, row, column, rows)
    elif epilogue == SAMPLE:
        sample(call, places, memory, job, row, column >> job[COLUMN_SHIFT], rows, start_of(call, s), s)
    elif epilogue == LOSS:
        loss(call, places, memory, job, row, column, rows, s)
    elif epilogue == MASK:
        mask(call, places, memory, job, row, column, rows)
    elif epilogue == ADAM:
        update_weights(call, places, memory, job, row, column, s)
    else:
        sample_backward(call, places, memory, job, row, column, rows, s)


@device
def tile_of(job, task):
    """The first row and column of a task's tile."""
    line = divided(task, job[TILES])
    return line << job[ROW_SHIFT], (task - line * job[TILES]) << job[COLUMN_SHIFT]


@device
def multiply_tile(call, memory, record, job, task):
    """The sums of a task's tile, left in shared memory."""
    row, column = tile_of(job, task)
    s = record[STEP]
    panel = column >> job[COLUMN_SHIFT] if job[EPILOGUE] == SAMPLE else column >> 4
    first = job[A] + (0 if call.repeated == 1 else (s & 1) * job[TURNS])
    depth = rows_of(call, s) if job[K] == ROWS else job[K]
    tile_product(memory, job, call.arena, first, job[B], row, panel, column, depth, call.tf32)


@device
def bring(record, program, phase, s):
    """A phase's record to shared memory; a block has more threads than a record fields."""
    if cuda.threadIdx.x < RECORD:
        record[cuda.threadIdx.x] = program[phase, cuda.threadIdx.x]
    if cuda.threadIdx.x == STEP:
        record[STEP] = s


@entry_point
def launch_phase(call, places, program, clock, phase):
    """One phase of the step that the clock says; clock[phase] is how often this phase has run.

    The first thread of the grid sets forward the clock of the phase before, which is over: so the same launches, recorded in a
    graph, serve every step.
    """
    memory = cuda.shared.array(MEMORY, FLOAT, ALIGNMENT)
    record = cuda.shared.array(SLOT, types.int64)
    bring(record, program, phase, clock[phase])
    cuda.syncthreads()
    run_phase(call, places, memory, record)
    if cuda.blockIdx.x == 0 and cuda.threadIdx.x == 0:
        clock[(phase if phase > 0 else program.shape[0]) - 1] += 1


@entry_point
def run_steps(call, places, program):
    """All steps of a call in one cooperative launch: every block is on the device at once, and all meet after each phase."""
    memory = cuda.shared.array(MEMORY, FLOAT, ALIGNMENT)
    record = cuda.shared.array(SLOT, types.int64)
    grid = cuda.cg.this_grid()
    s, phase = 0, 0
    bring(record, program, 0, 0)
    cuda.syncthreads()
    while less(s, call.steps):
        run_phase(call, places, memory, record)
        phase += 1
        if phase == program.shape[0]:
            phase = 0
            s += 1
        # The next phase's record, a field a thread, is on its way while the grid meets.
        field = program[phase, cuda.threadIdx.x] if cuda.threadIdx.x < RECORD else s
        grid.sync()
        if cuda.threadIdx.x <= RECORD:
            record[cuda.threadIdx.x] = field
        cuda.syncthreads()
