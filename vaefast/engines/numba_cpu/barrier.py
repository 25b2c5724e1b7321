"""Synchronisation of worker threads: a barrier of one atomic counter, tickets for shared work, and the floating-point mode.

Each worker runs one compiled, GIL-free kernel over many steps and waits for the others twice a step. On two idle cores the
barrier takes about 0.2 us; Numba's own parallel regions take 3 to 80 us.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.compiler import kernel

# Spins before a thread yields its core: about 20 us, longer than a normal wait on idle cores.
SPINS = 2000
# Slots of the counters, each group's in a cache line of its own: where all meet, where the groups meet, ticket counters.
MEETING, LINE = 0, 8


class Worker(NamedTuple):
    """One of the threads that run a kernel side by side."""

    number: int
    workers: int
    counters: NDArray[np.int64]  # the same for all


def _slot(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, args[0])
    return builder.gep(array.data, [args[1]])


@intrinsic
def fetch_add(typing, array, index, amount):
    """Add to array[index], int64, atomically; returns what was there before. Sequentially consistent."""
    signature = types.int64(array, types.intp, types.int64)

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", _slot(context, builder, signature, args), args[2], "seq_cst")

    return signature, codegen


@intrinsic
def load_acquire(typing, array, index):
    """array[index], int64, after every write that was made before it was stored."""
    signature = types.int64(array, types.intp)

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_slot(context, builder, signature, args), "acquire", 8)

    return signature, codegen


@intrinsic
def pause(typing):
    """Tell the core that this is a spin loop."""
    signature = types.void()

    def codegen(context, builder, signature, args):
        triple, nothing = builder.module.triple, ir.VoidType()
        if triple.startswith(("x86_64", "i386", "i686")):
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(nothing, []), name), [])
        elif triple.startswith(("aarch64", "arm64")):
            hint, word = ir.FunctionType(nothing, [ir.IntType(32)]), ir.Constant(ir.IntType(32), 1)  # YIELD
            builder.call(cgutils.get_or_insert_function(builder.module, hint, "llvm.aarch64.hint"), [word])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def yield_core(typing):
    """Yield the core to another thread."""
    signature = types.void()

    def codegen(context, builder, signature, args):
        name = "SwitchToThread" if sys.platform == "win32" else "sched_yield"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), name)
        builder.call(function, [])
        return context.get_dummy_value()

    return signature, codegen


@kernel
def meet_all(worker):
    """Wait until all workers have reached the barrier."""
    meet(worker.counters, MEETING, worker.workers)


@kernel
def meet(counters, slot, workers):
    """Wait until all workers have reached the barrier. The counter only grows, so it needs no reset."""
    if workers == 1:
        return
    arrived = fetch_add(counters, slot, 1)
    wait_for(counters, slot, (arrived // workers + 1) * workers, SPINS)


@kernel
def wait_for(counters, slot, value, spins):
    """Wait until a counter has reached this value. After a number of spins the thread yields its core between two reads."""
    turns = 0
    while load_acquire(counters, slot) < value:
        turns += 1
        if turns < spins:
            pause()
        else:
            yield_core()
