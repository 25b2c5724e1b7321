"""PyTorch through `torch.compile`: a step from the choice of rows to Adam is one graph, which Inductor makes C++ of.

Only what is random is drawn outside of it: Inductor's generator runs Philox for one number at a time, slower than
PyTorch's own. Compiled code is cached on disk, so the first warm-up on a machine is the longest.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.peers import Settings
from benchmarks.peers.torch_eager import configure, evaluate, load_parameters, network

NAME = "PyTorch compiled"
LEARNING_RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
WARM_UP_STEPS = 5


def version() -> str:
    """The library's."""
    return torch.__version__


def negative_elbo(
    parameters: list[torch.Tensor],
    depth: int,
    activation: str,
    x: torch.Tensor,
    noise: torch.Tensor,
    products: torch.dtype | None,
) -> torch.Tensor:
    """-ELBO in nats, mean over the rows of x; elementwise, so that the compiler can fuse it."""
    with torch.autocast("cpu", products, enabled=products is not None):
        outputs = network(parameters, depth, activation, x, noise)
    mean, log_std, std, logits = (output.float() for output in outputs)
    log_likelihood = x * logits - F.softplus(logits)
    kl = 0.5 * (std * std + mean * mean - 1 - 2 * log_std)
    return (kl.sum() - log_likelihood.sum()) / len(x)


class Trainer:
    """See the package."""

    products: torch.dtype | None = None  # what the factors of the products are rounded to

    def __init__(self, images: np.ndarray, weights: dict[str, np.ndarray], settings: Settings) -> None:
        self.generator = configure(settings.threads, settings.seed)
        self.images = torch.from_numpy(images)
        self.activation, self.batch_size = settings.activation, settings.batch_size
        self.binarize, self.seed = settings.binarize, settings.seed
        self.parameters, self.depth = load_parameters(weights)
        self.first_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = 0
        self.uniform = torch.empty(self.batch_size, images.shape[1])
        self.noise = torch.empty(self.batch_size, len(weights["mean.bias"]))
        # Fixed shapes, and a call from C++ to C++ in place of one from Python.
        self.compiled = torch.compile(self._step, dynamic=False, fullgraph=True, options={"cpp_wrapper": True})

    def warm_up(self, steps: int | None = None) -> float:
        start = time.perf_counter()
        tensors = [*self.parameters, *self.first_moments, *self.second_moments]
        saved, steps_done, generator = [tensor.clone() for tensor in tensors], self.steps, self.generator.get_state()
        order = torch.arange(len(self.images))
        self._train([*order.split(self.batch_size)[:WARM_UP_STEPS], order.split(self.batch_size)[-1]])
        for tensor, copy in zip(tensors, saved, strict=True):
            tensor.copy_(copy)
        self.steps = steps_done
        self.generator.set_state(generator)
        return time.perf_counter() - start

    def epoch(self, steps: int | None = None) -> float:
        order = torch.randperm(len(self.images), generator=self.generator)
        return self._train(order.split(self.batch_size)[:steps])

    def _train(self, minibatches: list[torch.Tensor] | tuple[torch.Tensor, ...]) -> float:
        """One step for each list of rows; the mean ELBO of their images."""
        total = torch.zeros((), dtype=torch.float64)
        for rows in minibatches:
            uniform, noise = self.uniform[: len(rows)], self.noise[: len(rows)]
            if self.binarize == "dynamic":
                uniform.uniform_(generator=self.generator)
            noise.normal_(generator=self.generator)
            self.steps += 1
            correction = math.sqrt(1 - BETA2**self.steps)
            rate = torch.tensor(LEARNING_RATE * correction / (1 - BETA1**self.steps))
            total += self.compiled(self.images, rows, uniform, noise, rate, torch.tensor(EPSILON * correction))
        return -total.item() / sum(map(len, minibatches))

    def _step(
        self,
        images: torch.Tensor,
        rows: torch.Tensor,
        uniform: torch.Tensor,
        noise: torch.Tensor,
        rate: torch.Tensor,
        epsilon: torch.Tensor,
    ) -> torch.Tensor:
        """One step of Adam, its bias corrections folded into `rate` and `epsilon`; the minibatch's sum of -ELBO."""
        x = images[rows]
        if self.binarize == "dynamic":
            x = (uniform < x).float()
        gradients, loss = torch.func.grad_and_value(negative_elbo)(
            self.parameters, self.depth, self.activation, x, noise, self.products
        )
        for parameter, m, v, gradient in zip(self.parameters, self.first_moments, self.second_moments, gradients, strict=True):
            m.lerp_(gradient, 1 - BETA1)
            v.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            parameter.sub_(rate * m / (v.sqrt() + epsilon))
        return loss * len(x)

    def evaluate(self, images: np.ndarray) -> float:
        return evaluate(self.parameters, self.depth, self.activation, images, self.binarize, self.seed)
