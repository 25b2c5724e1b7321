"""The same training in other libraries, each as well as we know how to write it there: what vaefast is timed against.

Every peer is a module of this package with

    NAME                                what tables and figures call it
    version() -> str                    of the library
    Trainer(images, weights, settings)
        .warm_up(steps=None) -> float   compiles and touches what `epoch(steps)` needs, state unchanged; seconds taken
        .epoch(steps=None) -> float     trains an epoch, or its first so many minibatches; mean ELBO of their images
        .evaluate(images) -> float      mean ELBO of images, without training

`images` are float32 (N, X) in [0, 1]. `weights` are float32 arrays to start from, the same for every peer, so that
`x @ weights["encoder.0.weight"] + weights["encoder.0.bias"]` is the first layer before its activation; then come
`encoder.1` and so on, `mean` and `log_std`, `decoder.0` and so on, `logits`. ELBOs are in nats, one Monte-Carlo sample
an image, the KL in closed form.

All peers do the same work: float32 (`autograd_report`: float64, as it was), Adam(0.001, 0.9, 0.999, 1e-8) on the mean
of -ELBO over the minibatch, a new order every epoch, the last ragged minibatch included, data already in memory.
`binarize` is `dynamic` (every pixel is drawn afresh every time, on with probability equal to its grey level;
`evaluate` turns it on from one half) or `none` (grey levels as they are). `epoch` returns a number and so waits for the
work to be finished.

`benchmarks.peers.run` runs one peer in a process of its own; how many threads NumPy uses is fixed there, before it is
imported. This file therefore does not import it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

PEERS = ("ours", "torch_eager", "torch_compiled", "jax_scan", "autograd_report")
# With the factors of products in bfloat16; the loss, the parameters and Adam are float32.
BF16_PEERS = ("ours_bf16", "torch_compiled_bf16")
# On one GPU; `python -m benchmarks.gpu` drives them. JAX takes a GPU by itself where its build has one.
GPU_PEERS = ("torch_gpu_eager", "torch_gpu_graph", "torch_gpu_compiled", "jax_scan")
BINARIZATIONS = ("dynamic", "none")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def limit_threads(threads: int) -> None:
    """Let this process compute with so many threads: BLAS and OpenMP read these variables when they are loaded.

    Threads wait as they do by default. `OMP_WAIT_POLICY=PASSIVE` doubles PyTorch's epoch (1.35 s to 2.7 s where both
    were measured) and saves nothing: between epochs its threads fall asleep within milliseconds.
    """
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        os.environ.pop(variable, None)


@dataclass(frozen=True)
class Settings:
    """How a peer trains; what the peers do not do is refused, rather than something else trained on."""

    activation: str
    batch_size: int
    binarize: str
    threads: int
    seed: int

    def __post_init__(self) -> None:
        if self.binarize not in BINARIZATIONS:
            raise ValueError(f"binarize is {self.binarize!r}: the peers know {' and '.join(BINARIZATIONS)}")
