"""A phase, and two ways to chain phases: a launch each, or one cooperative kernel in which the whole grid meets between them.

Both run the same `run_phase`. In it every block takes every so-many-th task, so results do not depend on how many blocks there
are. Tasks of one phase never read what another task of it writes.
"""

from __future__ import annotations

from vaefast.engines.cuda_gpu.device import ALIGNMENT, FLOAT, cuda, device, entry_point, types
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
RECORDS = 2 * RECORD


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
def run_phase(call, places, memory, record, s):
    """All tasks of a phase, dealt to the blocks in turn. No thread leaves before the others of its block are done."""
    number = cuda.blockIdx.x
    j = 0
    while j < JOBS:
        task, j = number, 0
        while j < JOBS:
            tasks = tasks_of(call, record[j * FIELDS : (j + 1) * FIELDS], s)
            if task < tasks:
                break
            task -= tasks
            j += 1
        if j < JOBS:
            run_task(call, places, memory, record[j * FIELDS : (j + 1) * FIELDS], task, s)
            cuda.syncthreads()
        number += cuda.gridDim.x


@device
def run_task(call, places, memory, job, task, s):
    """One block's piece of a job."""
    rows, start = rows_of(call, s), start_of(call, s)
    kind = job[KIND]
    if kind == PRODUCT:
        run_tile(call, places, memory, job, task, rows, start, s)
    elif kind == DRAW:
        later = s + job[AHEAD]
        step = call.step + later * call.stride
        draw(call, places, task, start_of(call, later), x_at(call, places, later), step)
    elif kind == UPDATE_BIAS:
        update_bias(call, places, memory, job, task, rows, s)
    elif kind == TERMS:
        terms(call, places, job, task, rows, start, s)
    else:
        resample(call, places, memory, task, rows, s)


@device
def run_tile(call, places, memory, job, task, rows, start, s):
    """A tile of a product, and what becomes of it."""
    epilogue = job[EPILOGUE]
    row, tile = (task // job[TILES]) << job[ROW_SHIFT], task % job[TILES]
    column = tile << job[COLUMN_SHIFT]
    panel = tile if epilogue == SAMPLE else column >> 4
    first = job[A] + (0 if call.repeated == 1 else (s & 1) * job[TURNS])
    depth = rows if job[K] == ROWS else job[K]
    tile_product(memory, job, call.arena, first, job[B], row, panel, column, depth, call.tf32)
    if epilogue == ACTIVATE:
        activate(call, places, memory, job, row, column, rows)
    elif epilogue == SAMPLE:
        sample(call, places, memory, job, row, panel, rows, start, s)
    elif epilogue == LOSS:
        loss(call, places, memory, job, row, column, rows, s)
    elif epilogue == MASK:
        mask(call, places, memory, job, row, column, rows)
    elif epilogue == ADAM:
        update_weights(call, places, memory, job, row, column, s)
    else:
        sample_backward(call, places, memory, job, row, column, rows, s)


@entry_point
def launch_phase(call, places, program, clock, phase):
    """One phase of the step that the clock says; clock[phase] is how often this phase has run.

    The first thread of the grid sets forward the clock of the phase before, which is over: so the same launches, recorded in a
    graph, serve every step.
    """
    memory = cuda.shared.array(MEMORY, FLOAT, ALIGNMENT)
    record = cuda.shared.array(RECORD, types.int64)
    i = cuda.threadIdx.x
    while i < RECORD:
        record[i] = program[phase, i]
        i += cuda.blockDim.x
    s = clock[phase]
    cuda.syncthreads()
    run_phase(call, places, memory, record, s)
    if cuda.blockIdx.x == 0 and cuda.threadIdx.x == 0:
        clock[(phase if phase > 0 else program.shape[0]) - 1] += 1


@entry_point
def run_steps(call, places, program):
    """All steps of a call in one cooperative launch: every block is on the device at once, and all meet after each phase."""
    memory = cuda.shared.array(MEMORY, FLOAT, ALIGNMENT)
    records = cuda.shared.array(RECORDS, types.int64)
    grid = cuda.cg.this_grid()
    phases = program.shape[0]
    turn = 0
    i = cuda.threadIdx.x
    while i < RECORD:
        records[i] = program[0, i]
        i += cuda.blockDim.x
    cuda.syncthreads()
    for s in range(call.steps):
        for phase in range(phases):
            run_phase(call, places, memory, records[turn * RECORD : (turn + 1) * RECORD], s)
            # The next phase's record is here before the grid has met.
            turn = 1 - turn
            following = phase + 1 if phase + 1 < phases else 0
            i = cuda.threadIdx.x
            while i < RECORD:
                records[turn * RECORD + i] = program[following, i]
                i += cuda.blockDim.x
            grid.sync()
