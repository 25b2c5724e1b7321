"""Compiled PyTorch with the products of its layers in bfloat16, by `torch.autocast`; the loss and Adam stay float32."""

from __future__ import annotations

import torch

from benchmarks.peers import torch_compiled

NAME = "PyTorch compiled bf16"
version = torch_compiled.version


class Trainer(torch_compiled.Trainer):
    """See `benchmarks.peers`."""

    products = torch.bfloat16
