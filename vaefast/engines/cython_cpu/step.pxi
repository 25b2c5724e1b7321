# A worker's share of training steps and of forward passes. The text of both kernels.pyx and checked.pyx.
#
# A training step is two phases with a meeting of all workers after each: rows, then weights.
#
# * rows: groups of workers take a share of the minibatch each. An even number of workers makes groups of two, each of which takes
#   half of the columns of every layer: a core reads only the half of the weights that it wrote in the step before, and what the
#   two exchange are activations. They meet after each layer. An odd number makes groups of one, which take both halves.
# * weights: tasks handed out by ticket counters, first those of the worker's own half. Who computes a task changes nothing in its
#   result. With clipping they keep the gradient, and a third phase applies it.
#
# Sizes, offsets and the order of every sum are those of the Numba engine (vaefast/engines/plan.py), and so are the bits. Loops over
# vectors are C (unit.h); this text decides what they read and write, and in the checked build proves that it lies inside its
# array: `space`, `weight` and their like take a start and an extent. A number in parentheses is an equation of DERIVATION.md.
#
# One class in a file for each part, each built on the one before, as Cython includes no file inside a class.

include "declarations.pxi"  # C functions, constants
include "memory.pxi"        # arrays of a worker, meetings
include "pixels.pxi"        # images to rows
include "counts.pxi"        # counts to rows, and their likelihood
include "tables.pxi"        # tables in blocks of columns, and their likelihood
include "bfloat16.pxi"      # factors of products in bfloat16
include "forward.pxi"       # layers, sample, likelihood
include "objectives.pxi"    # what samples and latents count for
include "rows.pxi"          # the first phase
include "weights.pxi"       # the second phase
include "clipping.pxi"      # the norm of a gradient
include "importance.pxi"    # log p(x), and what is missing
include "entry_points.pxi"  # what Python calls
