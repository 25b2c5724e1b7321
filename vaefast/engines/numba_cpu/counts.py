"""Likelihoods of whole counts: log p(x | z) of each row and its gradient, in stages between which the halves meet.

B minibatch, X columns, padded to panels; q counts rows of the decoder. A number in parentheses is an equation of
DERIVATION.md, section 13. The rates of a row are a softmax over all of its columns, of which two workers may have a half
each. So a row takes four passes over its half, and after each but the last the halves meet and add up what they have found,
half 0 first:

    MAXIMUM   the largest output of the row
    SUM       e = exp(a - maximum) and its sum
    DENSITY   log p(x | z) of the counts, and with a dispersion g (53), its sum, and the gradient of the dispersion (55)
    GRADIENT  the gradient of the outputs (52), (54)

Loops run over the lanes of some rows of a panel, which lie together, so that LLVM vectorises them; what belongs to a row or
to a column is written out for all of them first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.compiler import AS_KERNELS, kernel
from vaefast.engines.numba_cpu.count_dispersions import dispersed_density, dispersed_gradient
from vaefast.engines.numba_cpu.count_shares import share_density, write_maxima, write_sums
from vaefast.engines.numba_cpu.rising import tabulate
from vaefast.models.layout import PANEL

MAXIMUM, SUM, DENSITY, GRADIENT = 0, 1, 2, 3
STAGES = 4


class Counts(NamedTuple):
    """The counts of a minibatch as lists, the first fields as those of `Pixels`, and what the passes leave to each other."""

    capacity: int  # of a row
    indices: NDArray[np.uint16 | np.uint32]  # (rows * capacity,): row r from r * capacity
    values: NDArray[np.float32]  # (rows * capacity,): what the encoder sees
    lengths: NDArray[np.int64]  # (rows,)
    seen: NDArray[np.int64]  # (rows,): the same with the covariates that the encoder sees; the same array without any
    middles: NDArray[np.int64]  # (rows,): how many entries belong to half 0 of the columns
    ends: NDArray[np.int32]  # (rows, blocks): how many entries lie in a row's blocks of BLOCK_PIXELS up to this one
    counts: NDArray[np.float32]  # (rows * capacity,)
    totals: NDArray[np.float32]  # (rows,): the sum of a row's counts
    sizes: NDArray[np.float32]  # (rows,): what its rates add up to
    constants: NDArray[np.float64]  # (rows,): what of log p(x | z) does not depend on z, nats
    maxima: NDArray[np.float32]  # (2, rows k): of each half of the outputs
    sums: NDArray[np.float64]  # (2, rows k): of exp(a - maximum)
    slopes: NDArray[np.float64]  # (2, rows k): of g
    table: NDArray[np.float32]  # `rising.tabulate`; empty without a dispersion
    lanes: NDArray[np.float32]  # (2, rows k * WRITTEN_OUT * 16): each half's arrays of a chunk, one after the other


class Shares(NamedTuple):
    """Counts of which only the shares depend on z: `poisson` and `multinomial`, which differ in their constants."""

    pixels: int


class NegativeBinomial(NamedTuple):
    """Counts with a learned dispersion a column."""

    x_log_dispersion: int  # offset in the parameters


class ZeroInflated(NamedTuple):
    """The same, each of which may be zero for a reason of its own."""

    x_log_dispersion: int


def dispersion_offset(likelihood):
    """Where x_log_dispersion stands in the parameters; -1 where there is none."""


@overload(dispersion_offset, jit_options=AS_KERNELS)
def _choose_offset(likelihood):
    def dispersed(likelihood):
        return likelihood.x_log_dispersion

    def without(likelihood):
        return -1

    return without if likelihood.instance_class is Shares else dispersed


@kernel
def tabulate_share(offset, plan, parameters, counts, worker, workers):
    """This worker's columns of the table; offset is that of x_log_dispersion."""
    panels = (plan.pixels + PANEL - 1) // PANEL
    t = parameters[offset : offset + panels * PANEL]
    tabulate(t, counts.table, panels * worker // workers, panels * (worker + 1) // workers)


@kernel
def counts_pass(stage, offset, plan, parameters, buffers, scale, log_likelihood, start, stop, half):
    """One pass over rows start to stop - 1, CHUNK_ROWS at most, of half of the columns.

    offset: that of x_log_dispersion, -1 without one; scale: what the gradient of log p(x | z) counts for in the loss. After
    DENSITY log_likelihood, (rows k,) float64, holds the half's part in nats; after GRADIENT the outputs are their gradients,
    and the target that of x_log_dispersion for each row.
    """
    workspace, counts, rates = buffers.workspace, buffers.pixels, buffers.row.rates
    if stage == MAXIMUM:
        write_maxima(plan, workspace, counts, start, stop, half)
    elif stage == SUM:
        write_sums(plan, workspace, counts, rates, start, stop, half)
    elif stage == DENSITY:
        if offset < 0:
            share_density(plan, workspace, counts, rates, scale, log_likelihood, start, stop, half)
        else:
            row = buffers.row
            dispersed_density(offset, plan, parameters, workspace, counts, row, scale, log_likelihood, start, stop, half)
    elif offset >= 0:
        dispersed_gradient(plan, workspace, counts, rates, scale, start, stop, half)
