"""PyTorch on a GPU with a full minibatch's step recorded in a CUDA graph; a ragged last one runs as it is."""

from __future__ import annotations

import torch

from benchmarks.peers import torch_gpu

NAME = "PyTorch CUDA graph"
version = torch_gpu.version
# Before a capture everything must have run, on another stream than the default one.
RUNS_BEFORE = 3


class Trainer(torch_gpu.Trainer):
    """See the package."""

    graph: torch.cuda.CUDAGraph | None = None

    def train(self, rows: torch.Tensor) -> None:
        """One minibatch, replayed where it is full."""
        if len(rows) != self.batch_size:
            self.step(rows)
            return
        if self.graph is None:
            self._record(rows)
        assert self.graph is not None
        self.rows.copy_(rows)
        self.graph.replay()

    def _record(self, rows: torch.Tensor) -> None:
        """The steps taken here are undone by `warm_up`, which is where a graph is recorded."""
        self.rows = rows.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(RUNS_BEFORE):
                self.step(self.rows)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.step(self.rows)
