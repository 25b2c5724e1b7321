"""A phase, and two ways to chain phases: a launch each, or one cooperative kernel in which the whole grid meets between them.

Both run the same `run_phase`. The tasks are dealt to the blocks in turn, and results do not depend on the number of blocks. A
task never reads what another task of the same phase writes. Each way has a kernel for each precision, because the precision
is fixed when a kernel is compiled.
"""

from __future__ import annotations

from numba import cuda

from vaefast.engines.cuda_gpu.device import announce, complete, divided, entry, field, less, shl, shr
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
from vaefast.engines.cuda_gpu.target import ALIGNMENT, FLOAT, INT, device, entry_point

RECORD = JOBS * FIELDS
# A phase's record in shared memory, and behind it the numbers of step and phase. What is needed of them is read there
# again and again, rather than kept in registers while a product is computed.
STEP, PHASE = RECORD, RECORD + 1
SLOT = RECORD + 2


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
        if less(number, entry(record, j * FIELDS, END)):
            task = number - (entry(record, (j - 1) * FIELDS, END) if j > 0 else 0)
            run_task(call, places, memory, record, (record, j * FIELDS), task, precision)
            cuda.syncthreads()
            number += cuda.gridDim.x
        else:
            j += 1


@device
def run_task(call, places, memory, record, job, task, precision):
    """One block's piece of a job."""
    kind = field(job, KIND)
    if kind == PRODUCT:
        run_tile(call, places, memory, record, job, task, precision)
        return
    s = entry(record, 0, STEP)
    rows = rows_of(call, s)
    if kind == DRAW:
        later = s + field(job, AHEAD)
        step, x = call.step + later * call.stride, x_at(call, places, later)
        draw(call, places, task, rows_of(call, later), start_of(call, later), x, step)
    elif kind == UPDATE_BIAS:
        update_bias(call, places, memory, job, task, rows, s)
    elif kind == TERMS:
        terms(call, places, job, task, rows, start_of(call, s), s)
    else:
        resample(call, places, memory, task, rows, s)


@device
def run_tile(call, places, memory, record, job, task, precision):
    """A tile of a product, and its epilogue. Nothing if the minibatch has no such rows."""
    row, column = tile_of(job, task)
    if field(job, M) == ROWS and row >= rows_of(call, entry(record, 0, STEP)):
        return
    multiply_tile(call, memory, record, job, row, column, precision)
    s, epilogue = entry(record, 0, STEP), field(job, EPILOGUE)
    rows = rows_of(call, s)
    if epilogue == ACTIVATE:
        activate(call, places, memory, job, row, column, rows)
    elif epilogue == SAMPLE:
        sample(call, places, memory, job, row, shr(column, field(job, COLUMN_SHIFT)), rows, start_of(call, s), s)
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
    line = divided(task, field(job, TILES))
    return shl(line, field(job, ROW_SHIFT)), shl(task - line * field(job, TILES), field(job, COLUMN_SHIFT))


@device
def multiply_tile(call, memory, record, job, row, column, precision):
    """The sums of a tile, left in shared memory."""
    s = entry(record, 0, STEP)
    panel = shr(column, field(job, COLUMN_SHIFT)) if field(job, EPILOGUE) == SAMPLE else column >> 4
    first = field(job, A) + (0 if call.repeated == 1 else (s & 1) * field(job, TURNS))
    depth = rows_of(call, s) if field(job, K) == ROWS else field(job, K)
    tile_product(memory, job, call.arena, first, field(job, B), row, panel, column, depth, precision)


@device
def bring(record, program, phase, s):
    """A phase's record to shared memory; a block has more threads than a record fields."""
    if cuda.threadIdx.x < RECORD:
        record[cuda.threadIdx.x] = program[phase, cuda.threadIdx.x]
    if cuda.threadIdx.x == STEP:
        record[STEP] = s
    if cuda.threadIdx.x == PHASE:
        record[PHASE] = phase


@device
def one_phase(call, places, program, clock, phase, precision):
    """One phase of the step that the clock says; clock[phase] is how often this phase has run.

    The first thread of the grid sets forward the clock of the phase before, which is over: so the same launches, recorded in a
    graph, serve every step.
    """
    memory = cuda.shared.array(MEMORY, FLOAT, ALIGNMENT)
    record = cuda.shared.array(SLOT, INT)
    bring(record, program, phase, clock[phase])
    if cuda.blockIdx.x == 0 and cuda.threadIdx.x == 0:
        clock[(phase if phase > 0 else program.shape[0]) - 1] += 1
    cuda.syncthreads()
    run_phase(call, places, memory, record, precision)


@device
def all_steps(call, places, program, meetings, precision):
    """All steps of a call in one cooperative launch: every block is on the device at once, and all meet after each phase.

    meetings[0] counts the arrivals of blocks, from zero at the launch on.
    """
    memory = cuda.shared.array(MEMORY, FLOAT, ALIGNMENT)
    record = cuda.shared.array(SLOT, INT)
    bring(record, program, 0, 0)
    cuda.syncthreads()
    while less(entry(record, 0, STEP), call.steps):
        run_phase(call, places, memory, record, precision)
        s, phase = entry(record, 0, STEP), entry(record, 0, PHASE) + 1
        expected = (s * program.shape[0] + phase) * cuda.gridDim.x
        if phase == program.shape[0]:
            s, phase = s + 1, 0
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
