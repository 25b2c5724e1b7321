"""A stand-in for a CUDA device: a driver library whose kernels run, as PTX translated to C, on the CPU.

It is a checker and no emulator of speed. `ptx.py` reads PTX, `emit.py` with `arithmetic.py`, `memory.py` and `control.py` writes C of
it, one sequential function for each entry point; `c/runtime.c` runs the threads of a grid as fibers and knows barriers, warps and
which memory is whose; `c/driver.c` is the `libcuda.so.1` in front of both; `build.py` compiles all that and says what environment
finds it. Whatever an instruction, a qualifier or an entry point of the driver means that is not known here is refused, never
skipped.
"""
