"""What travels together through the kernels of a call: whose network, which memory, which minibatch, which rows.

B minibatch, X pixels, Z latents, k samples of the latents an image. Examples are those of vaefast/engines/examples.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.numba_cpu.counts import Counts
from vaefast.engines.numba_cpu.pixels import Pixels
from vaefast.engines.numba_cpu.weights import AdamStep
from vaefast.engines.plan import Plan


class Network(NamedTuple):
    """A model as the kernels are compiled for it."""

    plan: Plan  # or a `TablePlan`, or one of bf16_plan.py
    likelihood: Any  # the type of `likelihoods.likelihood_of`
    objective: Any  # the type of `credit.objective_of`


class Row(NamedTuple):
    """Buffers that hold one padded row, or a few, for one worker."""

    pixel_words: NDArray[np.uint32]
    pixels: NDArray[np.float32]
    latent_words: NDArray[np.uint32]
    noise: NDArray[np.float32]
    lanes: NDArray[np.float32]  # one panel
    columns: NDArray[np.float32]  # nine panels: lanes of a row of a block of columns, and what is written out for them
    kl_scales: NDArray[np.float32]  # (padded Z,): what each latent's KL counts for in the loss
    rates: NDArray[np.float32]  # of counts, (CHUNK_ROWS, X) in panels: exp(a - the largest output of the row); else empty
    chunk: NDArray[np.float32]  # what is written out for the lanes of a chunk of counts with a dispersion; else empty
    large: NDArray[np.float64]  # of its large counts; what stands where in these three says count_dispersions.py
    places: NDArray[np.int64]


class Buffers(NamedTuple):
    """Where a worker finds and leaves activations and pixels."""

    workspace: NDArray[np.float32]  # `Plan` says what stands where
    pixels: Pixels | Counts
    row: Row


class Steps(NamedTuple):
    """The training steps of a call."""

    batch_size: int
    adam: AdamStep  # but for what changes from step to step
    pace: NDArray[np.float32]  # (steps, 3): Adam's step size and second-moment factor, and the weight of the KL divergence


class Minibatch(NamedTuple):
    """Some examples of a call that follow each other, one a row."""

    begin: int  # the first of them
    size: int  # B
    number: int  # of the minibatch, in the call
    step: int  # of the noise
    kl_weight: np.float32


class Share(NamedTuple):
    """What a worker takes of the rows phase."""

    first: int  # rows of its group
    last: int
    own_first: int  # of these, the ones that it loads and samples for the group
    own_last: int
    half_first: int  # halves of the columns
    half_last: int
    partners: int  # in the group
    meeting: int  # slot of the group
