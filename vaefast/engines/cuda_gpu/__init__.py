"""The engine for one CUDA GPU: phases as `numba.cuda` device functions, chained by launches or on the device itself.

`plan.py` says what is to be done, as tables of integers; `phases.py` does it, by `products.py`, `epilogues.py` and `rows.py`;
`engine.py` is the contract. Importing the engine takes numba-cuda and a device, or Numba's simulator; the plan takes neither.
"""
