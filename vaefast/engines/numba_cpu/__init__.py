"""The fused CPU engine: register tiles, two phases a step, and worker threads that meet at a spin barrier.

Read `vaefast/engines/plan.py` for what stands where, `layers.py` and `weights.py` for the two phases, `steps.py` for how they
are chained, and `tiles.py` for the inner loops.
"""

from vaefast.engines.numba_cpu.engine import NumbaEngine

__all__ = ["NumbaEngine"]
