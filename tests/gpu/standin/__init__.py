"""A stand-in for a CUDA device: a driver library whose kernels run, as PTX translated to C, on the CPU.

It is a checker, and says nothing of speed. `ptx.py` reads PTX; `emit.py` with `arithmetic.py`, `memory.py` and `control.py`
writes C of it, one sequential function for each entry point; `c/machine.c` runs the threads of a grid as fibers and knows
barriers and warps, `c/memory.c` which memory is whose; `c/entry.c`, `c/modules.c`, `c/copies.c` and `c/streams.c` are the
`libcuda.so.1` in front; `build.py` compiles all that, and says in which environment a process takes it for the driver. An
instruction, a qualifier or an entry point of the driver that is not known here is refused, never skipped.

What it cannot show: `ptxas` may join a product and a sum into one `fma`, and approximate functions err by other last bits;
sums of `mma` are exact here and rounded once. Threads run one at a time and what is written is seen at once, so a missing
fence does not show. Registers are not counted: a kernel is taken to have 128 a thread.

`VAEFAST_STANDIN_MULTIPROCESSORS` (3) and `VAEFAST_STANDIN_MEGABYTES` (2048) make the device larger or smaller,
`VAEFAST_STANDIN_ORDER` (0 forwards, 1 backwards, 2 by `VAEFAST_STANDIN_SEED`) says how blocks and threads follow each other,
and `VAEFAST_STANDIN_EARLY=1` does at once what streams are asked, instead of when somebody waits for it.
"""
