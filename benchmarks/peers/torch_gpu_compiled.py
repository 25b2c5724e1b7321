"""PyTorch on a GPU through `torch.compile(mode="max-autotune")`, which records CUDA graphs too: the loss, then Adam."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.peers import torch_gpu

NAME = "PyTorch compiled"
version = torch_gpu.version


class Trainer(torch_gpu.Trainer):
    """See the package."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._loss = torch.compile(self.loss, mode="max-autotune", dynamic=False)
        self._adam = torch.compile(self.optimizer.step, mode="max-autotune-no-cudagraphs")

    def step(self, rows: torch.Tensor) -> None:
        """One step, compiled in two parts."""
        torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(rows)
        (loss / len(rows)).backward()
        self._adam()
        self.total += loss.detach()
