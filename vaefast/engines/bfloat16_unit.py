"""Whether this CPU has instructions for bfloat16. Without them an engine takes the same steps in float32, which is slow."""

from __future__ import annotations

import os

INSTRUCTIONS = "AVX512-BF16"


def advice(engine: str) -> str | None:
    """What to say of a run in bf16 that this engine computes without such instructions; None if it has them."""
    if engine == "cython":
        from vaefast.engines.cython_cpu import kernels

        found = kernels.unit(os.environ.get("VAEFAST_VECTOR_UNIT", ""))[0] == INSTRUCTIONS
    elif engine == "numba":
        from vaefast.engines.numba_cpu.target import BF16_PAIRS

        found = BF16_PAIRS
    else:
        return None
    # 2.4 times as long as float32 on a Zen 3 (784-200-200-50, batch 20, one thread).
    return None if found else f"precision bf16 is slower than float32 here: this CPU has no {INSTRUCTIONS}"
