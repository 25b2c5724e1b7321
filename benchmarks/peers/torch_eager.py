"""PyTorch without a compiler: functional layers, autograd and fused Adam; no number is asked for during an epoch."""

from __future__ import annotations

import copy
import time

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.peers import Settings
from benchmarks.peers.layers import ordered_layers

NAME = "PyTorch eager"
ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}
EVALUATION_ROWS = 1000
WARM_UP_STEPS = 5


def version() -> str:
    """The library's."""
    return torch.__version__


def configure(threads: int, seed: int) -> torch.Generator:
    """Threads and denormals of the process; the generator of everything random in training.

    After some epochs many of Adam's moments are denormal numbers, which x86 multiplies slowly. OpenMP's workers inherit
    the setting, so it comes before the first parallel operation.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    return torch.Generator().manual_seed(seed)


def load_parameters(weights: dict[str, np.ndarray]) -> tuple[list[torch.Tensor], int]:
    """Copies as [weight (outputs, inputs), bias, weight, bias, ...] and the number of hidden layers of the encoder."""
    layers, depth = ordered_layers(weights)
    return [torch.from_numpy(array.T.copy()) for layer in layers for array in layer], depth


def network(
    parameters: list[torch.Tensor], depth: int, activation: str, x: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """mean, log_std, exp(log_std) and the logits of one sample of z: z = mean + exp(log_std) * noise."""
    layers = list(zip(parameters[0::2], parameters[1::2], strict=True))
    activate = ACTIVATIONS[activation]
    h = x
    for weight, bias in layers[:depth]:
        h = activate(F.linear(h, weight, bias))
    mean, log_std = F.linear(h, *layers[depth]).chunk(2, dim=1)
    std = torch.exp(log_std)
    g = torch.addcmul(mean, std, noise)
    for weight, bias in layers[depth + 1 : -1]:
        g = activate(F.linear(g, weight, bias))
    return mean, log_std, std, F.linear(g, *layers[-1])


def negative_elbo(
    parameters: list[torch.Tensor], depth: int, activation: str, x: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """-ELBO in nats, summed over the rows of x. A dot product and whole-tensor sums make the fewest passes."""
    mean, log_std, std, logits = network(parameters, depth, activation, x, noise)
    log_likelihood = torch.dot(x.flatten(), logits.flatten()) - F.softplus(logits).sum()
    kl = 0.5 * ((std * std).sum() + (mean * mean).sum() - mean.numel()) - log_std.sum()
    return kl - log_likelihood


@torch.no_grad()
def evaluate(
    parameters: list[torch.Tensor], depth: int, activation: str, images: np.ndarray, binarize: str, seed: int
) -> float:
    """Mean ELBO of the images in nats, in chunks; its noise is apart from that of training."""
    generator = torch.Generator().manual_seed(seed ^ 1)
    latents = len(parameters[2 * depth + 1]) // 2
    total = 0.0
    for chunk in torch.from_numpy(images).split(EVALUATION_ROWS):
        x = (chunk >= 0.5).float() if binarize == "dynamic" else chunk
        noise = torch.randn(len(x), latents, generator=generator)
        total -= negative_elbo(parameters, depth, activation, x, noise).item()
    return total / len(images)


class Trainer:
    """See the package."""

    def __init__(self, images: np.ndarray, weights: dict[str, np.ndarray], settings: Settings) -> None:
        self.generator = configure(settings.threads, settings.seed)
        self.images = torch.from_numpy(images)
        self.activation, self.batch_size = settings.activation, settings.batch_size
        self.binarize, self.seed = settings.binarize, settings.seed
        self.parameters, self.depth = load_parameters(weights)
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, fused=True)
        self.x = torch.empty(self.batch_size, images.shape[1])
        self.uniform = torch.empty_like(self.x)
        self.noise = torch.empty(self.batch_size, len(weights["mean.bias"]))

    def warm_up(self, steps: int | None = None) -> float:
        start = time.perf_counter()
        parameters = [parameter.detach().clone() for parameter in self.parameters]
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        generator = self.generator.get_state()
        self.epoch(WARM_UP_STEPS)
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, parameters, strict=True):
                parameter.copy_(saved)
        self.optimizer.load_state_dict(optimizer)
        self.generator.set_state(generator)
        return time.perf_counter() - start

    def epoch(self, steps: int | None = None) -> float:
        order = torch.randperm(len(self.images), generator=self.generator)
        minibatches = order.split(self.batch_size)[:steps]
        total = torch.zeros((), dtype=torch.float64)
        for rows in minibatches:
            total += self._step(rows)
        return -total.item() / sum(map(len, minibatches))

    def _step(self, rows: torch.Tensor) -> torch.Tensor:
        """One step of Adam; the sum of -ELBO over its minibatch."""
        x, noise = self.x[: len(rows)], self.noise[: len(rows)]
        torch.index_select(self.images, 0, rows, out=x)
        if self.binarize == "dynamic":
            uniform = self.uniform[: len(rows)].uniform_(generator=self.generator)
            torch.lt(uniform, x, out=x)
        noise.normal_(generator=self.generator)
        loss = negative_elbo(self.parameters, self.depth, self.activation, x, noise)
        self.optimizer.zero_grad(set_to_none=True)
        (loss / len(rows)).backward()
        self.optimizer.step()
        return loss.detach()

    def evaluate(self, images: np.ndarray) -> float:
        return evaluate(self.parameters, self.depth, self.activation, images, self.binarize, self.seed)
