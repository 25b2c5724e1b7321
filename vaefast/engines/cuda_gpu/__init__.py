"""The engine for one CUDA GPU: phases as `numba.cuda` device functions, chained by launches or on the device itself.

`plan.py` says what is to be done, as tables of integers, in the tiles that `tiling.py` chooses; `phases.py` does it, by
`products.py`, `epilogues.py` and `rows.py`, in the language of `device.py`; `launching.py` chains phases; `engine.py` is the
contract. Importing the engine takes numba-cuda and a device, or Numba's simulator; the plan takes neither.
"""

import numpy as np

# numba-cuda 0.30 names this alias of `vstack` when it is loaded, and NumPy 2.5 has it no more.
FORMER_NAME = "row_stack"
if not hasattr(np, FORMER_NAME):
    setattr(np, FORMER_NAME, np.vstack)
