"""The engine for one CUDA GPU: phases as `numba.cuda` device functions, chained by launches or on the device itself.

`plan.py` describes the work as tables of integers, in tiles that `tiling.py` chooses. `phases.py` does the work with
`products.py`, `epilogues.py` and `rows.py`, which use the functions of `device.py`. `launching.py` chains the phases, and
`engine.py` implements the contract. To import the engine takes numba-cuda and a device, or Numba's simulator. The plan needs
neither.
"""

import numpy as np

# numba-cuda 0.30 names this alias of `vstack` when it is loaded, and NumPy 2.5 has it no more.
FORMER_NAME = "row_stack"
if not hasattr(np, FORMER_NAME):
    setattr(np, FORMER_NAME, np.vstack)
