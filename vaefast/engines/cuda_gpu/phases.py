"""A phase, and two ways to chain phases: a launch each, or one cooperative kernel in which the whole grid meets between them.

Both run the same `run_phase`. In it every block takes every so-many-th task, so results do not depend on how many blocks there
are. Tasks of one phase never read what another task of it writes. Each way has a kernel for each precision: what multiplies is
known when it is compiled.
"""

from __future__ import annotations

from numba import cuda, types

from vaefast.engines.cuda_gpu.device import ALIGNMENT, FLOAT, announce, complete, device, divided, entry_point, less
from vaefast.engines.cuda_gpu.epilogues import activate, loss, mask, sample, sample_backward, update_weights, x_at
from vaefast.engines.cuda_gpu.plan import (
    ACTIVATE,
    ADAM,
    AHEAD,
    COLUMN_SHIFT,
    DRAW,
    END,
    EPILOGUE,
    FIELDS,
    FLOAT32,
    JOBS,
    KIND,
    LOSS,
    MASK,
    PRODUCT,
    ROW_SHIFT,
    ROWS,
    SAMPLE,
    TERMS,
    TF32,
    TILES,
    TURNS,
    UPDATE_BIAS,
    A,
    B,
    K,
    M,
)
from vaefast.engines.cuda_gpu.products import MEMORY, tile_product
from vaefast.engines.cuda_gpu.rows import draw, resample, terms, update_bias

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
def run_phase(call, places, memory, record, precision):
    """All tasks of a phase, dealt to the blocks in turn. No thread leaves before the others of its block are done."""
    number, j = cuda.blockIdx.x, 0
    while j < JOBS:
        if less(number, record[j * FIELDS + END]):
            task = number - (record[(j - 1) * FIELDS + END] if j > 0 else 0)
            run_task(call, places, memory, record, record[j * FIELDS : (j + 1) * FIELDS], task, precision)
            cuda.syncthreads()
            number += cuda.gridDim.x
        else:
            j += 1


@device
def run_task(call, places, memory, record, job, task, precision):
    """One block's piece of a job."""
    kind = job[KIND]
    if kind == PRODUCT:
        run_tile(call, places, memory, record, job, task, precision)
        return
    s = record[STEP]
    rows = rows_of(call, s)
    if kind == DRAW:
        later = s + job[AHEAD]
        if task < rows_of(call, later):
            draw(call, places, task, start_of(call, later), x_at(call, places, later), call.step + later * call.stride)
    elif kind == UPDATE_BIAS:
        update_bias(call, places, memory, job, task, rows, s)
    elif kind == TERMS:
        terms(call, places, job, task, rows, start_of(call, s), s)
    else:
        resample(call, places, memory, task, rows, s)


@device
def run_tile(call, places, memory, record, job, task, precision):
    """A tile of a product, and what becomes of it; nothing where the minibatch has no such rows."""
    row, column = tile_of(job, task)
    if job[M] == ROWS and row >= rows_of(call, record[STEP]):
        return
    multiply_tile(call, memory, record, job, row, column, precision)
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
def multiply_tile(call, memory, record, job, row, column, precision):
    """The sums of a tile, left in shared memory."""
    s = record[STEP]
    panel = column >> job[COLUMN_SHIFT] if job[EPILOGUE] == SAMPLE else column >> 4
    first = job[A] + (0 if call.repeated == 1 else (s & 1) * job[TURNS])
    depth = rows_of(call, s) if job[K] == ROWS else job[K]
    tile_product(memory, job, call.arena, first, job[B], row, panel, column, depth, precision)


@device
def bring(record, program, phase, s):
    """A phase's record to shared memory; a block has more threads than a record fields."""
    if cuda.threadIdx.x < RECORD:
        record[cuda.threadIdx.x] = program[phase, cuda.threadIdx.x]
    if cuda.threadIdx.x == STEP:
        record[STEP] = s


@device
def one_phase(call, places, program, clock, phase, precision):
    """One phase of the step that the clock says; clock[phase] is how often this phase has run.

    The first thread of the grid sets forward the clock of the phase before, which is over: so the same launches, recorded in a
    graph, serve every step.
    """
    memory = cuda.shared.array(MEMORY, FLOAT, ALIGNMENT)
    record = cuda.shared.array(SLOT, types.int64)
    bring(record, program, phase, clock[phase])
    cuda.syncthreads()
    run_phase(call, places, memory, record, precision)
    if cuda.blockIdx.x == 0 and cuda.threadIdx.x == 0:
        clock[(phase if phase > 0 else program.shape[0]) - 1] += 1


@device
def all_steps(call, places, program, meetings, precision):
    """All steps of a call in one cooperative launch: every block is on the device at once, and all meet after each phase.

    meetings[0] counts the arrivals of blocks, from zero at the launch on.
    """
    memory = cuda.shared.array(MEMORY, FLOAT, ALIGNMENT)
    record = cuda.shared.array(SLOT, types.int64)
    phase, expected = 0, 0
    bring(record, program, 0, 0)
    cuda.syncthreads()
    while less(record[STEP], call.steps):
        run_phase(call, places, memory, record, precision)
        phase += 1
        s = record[STEP]
        if phase == program.shape[0]:
            phase = 0
            s += 1
        expected += cuda.gridDim.x
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            announce(meetings)
        # The next phase's record is brought while the grid meets.
        bring(record, program, phase, s)
        if cuda.threadIdx.x == 0:
            while not complete(meetings, expected):
                pass
        cuda.syncthreads()


@entry_point
def launch_phase(call, places, program, clock, phase):
    """A phase with products in float32."""
    one_phase(call, places, program, clock, phase, FLOAT32)


@entry_point
def launch_phase_tf32(call, places, program, clock, phase):
    """A phase with products of factors rounded to TF32, on tensor cores."""
    one_phase(call, places, program, clock, phase, TF32)


@entry_point
def run_steps(call, places, program, meetings):
    """All steps with products in float32."""
    all_steps(call, places, program, meetings, FLOAT32)


@entry_point
def run_steps_tf32(call, places, program, meetings):
    """All steps with products of factors rounded to TF32, on tensor cores."""
    all_steps(call, places, program, meetings, TF32)
