"""PyTorch on a GPU: what its three ways of running a step have in common.

Images, parameters and everything random live on the device; an epoch is asked for one number, at its end. Products are
float32 (PyTorch's default, without TF32).
"""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.peers import Settings
from benchmarks.peers.torch_eager import load_parameters, negative_elbo

EVALUATION_ROWS = 1000
WARM_UP_STEPS = 5
LEARNING_RATE, BETAS, EPSILON = 1e-3, (0.9, 0.999), 1e-8


def version() -> str:
    """The library's."""
    return torch.__version__


class Trainer:
    """See the package; a subclass says how a full minibatch is trained."""

    def __init__(self, images: np.ndarray, weights: dict[str, np.ndarray], settings: Settings) -> None:
        if not torch.cuda.is_available():
            raise RuntimeError("PyTorch finds no GPU")
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        torch.backends.cuda.matmul.allow_tf32 = False
        self.images = torch.from_numpy(images).cuda()
        self.activation, self.batch_size, self.binarize = settings.activation, settings.batch_size, settings.binarize
        parameters, self.depth = load_parameters(weights)
        self.parameters = [parameter.cuda().requires_grad_() for parameter in parameters]
        self.latents = len(weights["mean.bias"])
        self.total = torch.zeros((), device="cuda")
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True, capturable=True
        )

    def warm_up(self, steps: int | None = None) -> float:
        """Compile, record, touch; parameters, moments and steps are put back."""
        start = time.perf_counter()
        saved = [parameter.detach().clone() for parameter in self.parameters]
        self.epoch(WARM_UP_STEPS)
        order = torch.arange(len(self.images), device="cuda")
        self.train(order.split(self.batch_size)[-1])
        with torch.no_grad():
            for parameter, copy in zip(self.parameters, saved, strict=True):
                parameter.copy_(copy)
            for state in self.optimizer.state.values():
                for tensor in state.values():
                    tensor.zero_()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    def epoch(self, steps: int | None = None) -> float:
        """An epoch, or its first minibatches; the mean ELBO of their images."""
        order = torch.randperm(len(self.images), device="cuda")
        minibatches = order.split(self.batch_size)[:steps]
        self.total.zero_()
        for rows in minibatches:
            self.train(rows)
        return -self.total.item() / sum(map(len, minibatches))

    def train(self, rows: torch.Tensor) -> None:
        """One minibatch."""
        self.step(rows)

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """-ELBO summed over the minibatch; everything random is drawn here."""
        x = self.images[rows]
        if self.binarize == "dynamic":
            x = (torch.rand_like(x) < x).float()
        noise = torch.randn(len(rows), self.latents, device="cuda")
        return negative_elbo(self.parameters, self.depth, self.activation, x, noise)

    def step(self, rows: torch.Tensor) -> None:
        """One step of Adam, without a compiler."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(rows)
        (loss / len(rows)).backward()
        self.optimizer.step()
        self.total += loss.detach()

    @torch.no_grad()
    def evaluate(self, images: np.ndarray) -> float:
        """Mean ELBO, pixels on from one half."""
        total, generator = 0.0, torch.Generator(device="cuda").manual_seed(1)
        for chunk in torch.from_numpy(images).cuda().split(EVALUATION_ROWS):
            x = (chunk >= 0.5).float() if self.binarize == "dynamic" else chunk
            noise = torch.randn(len(x), self.latents, generator=generator, device="cuda")
            total -= negative_elbo(self.parameters, self.depth, self.activation, x, noise).item()
        return total / len(images)
