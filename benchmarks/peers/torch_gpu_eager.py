"""PyTorch on a GPU without a compiler, with fused Adam."""

from benchmarks.peers.torch_gpu import Trainer, version

NAME = "PyTorch eager"

__all__ = ["NAME", "Trainer", "version"]
