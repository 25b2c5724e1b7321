"""The fused CPU engine compiled ahead of time: the two phases of the Numba engine without a compiler at run time.

`engine.py` is the contract. `step.pxi` lists the pieces of a worker in Cython, of which `rows.pxi` and `weights.pxi` are the
two phases. `unit.h`, `tiles.h`, `likelihoods.h` and `counts.h` are the inner loops in C, compiled once for every instruction
set. To import this package takes the compiled extension and neither Numba nor LLVM.
"""

from vaefast.engines.cython_cpu.engine import CythonEngine

__all__ = ["CythonEngine"]
