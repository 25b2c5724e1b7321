"""The functions that kernels are written with, for a GPU or for the simulator. No kernel asks where it runs."""

from __future__ import annotations

import math

import numpy as np

from vaefast.engines.cuda_gpu.target import SIMULATED, device

if SIMULATED:
    from vaefast.engines.cuda_gpu.simulated import (
        announce,
        complete,
        cosine_of_turn,
        divided,
        entry,
        less,
        load4,
        multiply_tf32,
        quotient,
        read,
        read4,
        shl,
        short,
        shr,
        sine_of_turn,
        sqrt,
        store,
        store4,
        write,
        write4,
    )
else:
    from vaefast.engines.cuda_gpu.arithmetic_gpu import (
        cosine_of_turn,
        divided,
        less,
        multiply_tf32,
        quotient,
        shl,
        short,
        shr,
        sine_of_turn,
        sqrt,
    )
    from vaefast.engines.cuda_gpu.memory_gpu import (
        announce,
        complete,
        entry,
        load4,
        read,
        read4,
        store,
        store4,
        write,
        write4,
    )

__all__ = [
    "announce", "complete", "cosine_of_turn", "divided", "entry", "exp", "field", "less", "load4", "low",
    "multiply_tf32", "quotient", "read", "read4", "shl", "short", "shr", "sine_of_turn", "sqrt", "store", "store4",
    "write", "write4",
]  # fmt: skip


@device
def low(number, bits):
    """The lowest bits of a number."""
    return number & (shl(1, bits) - 1)


@device
def field(job, name):
    """A field of a job, which is a record of a phase and where the job begins in it."""
    return entry(job[0], job[1], name)


@device
def exp(value):
    """float32; infinity where it overflows."""
    return np.float32(math.exp(value))
