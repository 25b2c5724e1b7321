"""MIWAE in PyTorch (Mattei & Frellsen, 2019), a table for each line of standard input; run by an interpreter that has torch.

    PYTHON benchmarks/peers/torch_miwae.py THREADS

A line is JSON with `data` (a `.npy` of standardised rows, NaN where a value is missing), `seed`, `epochs`, `samples` of a
training step, `imputations` (samples a row to impute from) and `filled`, where the filled table goes. The answer holds the
seconds of training and of imputing, without imports. Dimensions: B minibatch, K samples, X columns, Z latents.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.distributions import StudentT

LATENT, HIDDEN, BATCH, RATE = 10, 128, 64, 1e-3
# Samples of all rows that are decoded at once.
DECODED = 1 << 14


def network(inputs: int, outputs: int) -> nn.Sequential:
    """Three hidden layers, weights as Glorot and Bengio have them, biases 0."""
    sizes = (inputs, HIDDEN, HIDDEN, HIDDEN, outputs)
    layers: list[nn.Module] = []
    for size, following in pairwise(sizes):
        layers += [nn.Linear(size, following), nn.ReLU()]
        nn.init.xavier_uniform_(layers[-2].weight)
        nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


class Miwae(nn.Module):
    """Encoder, decoder, and the importance weights of samples."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.encoder, self.decoder = network(columns, 2 * LATENT), network(LATENT, 3 * columns)

    def log_weights(self, x: torch.Tensor, known: torch.Tensor, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
        """log w, (K, B), and the means of p(x | z), (K, B, X), of rows x, (B, X), zero where not known."""
        mean, log_std = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn(samples, len(x), LATENT)
        z = mean + torch.exp(log_std) * noise
        location, scale, freedom = self.decoder(z.reshape(-1, LATENT)).reshape(samples, len(x), -1).chunk(3, dim=2)
        density = StudentT(nn.functional.softplus(freedom) + 3, location, nn.functional.softplus(scale) + 0.001)
        log_p = (density.log_prob(x) * known).sum(dim=2)
        return log_p + (0.5 * (noise**2 - z**2) + log_std).sum(dim=2), location


def trained(x: torch.Tensor, known: torch.Tensor, epochs: int, samples: int) -> Miwae:
    """A model of rows x, (N, X), by Adam on the importance-weighted bound."""
    model = Miwae(x.shape[1])
    adam = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            adam.zero_grad()
            log_w, _ = model.log_weights(x[rows], known[rows], samples)
            loss = -(torch.logsumexp(log_w, dim=0) - np.log(samples)).mean()
            loss.backward()
            adam.step()
    return model


@torch.no_grad()
def imputed(model: Miwae, x: torch.Tensor, known: torch.Tensor, samples: int) -> torch.Tensor:
    """Rows, (N, X), with weighted means where they are not known."""
    filled = x.clone()
    step = max(1, DECODED // samples)
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        log_w, means = model.log_weights(x[rows], known[rows], samples)
        weights = torch.softmax(log_w, dim=0)
        filled[rows] = torch.where(known[rows] > 0, x[rows], (weights[:, :, None] * means).sum(dim=0))
    return filled


def main() -> None:
    """Answer until standard input ends."""
    torch.set_num_threads(int(sys.argv[1]))
    warm = torch.randn(130, 5)
    imputed(trained(warm, torch.ones_like(warm), 2, 5), warm, torch.ones_like(warm), 10)
    print(json.dumps({"version": torch.__version__}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        torch.manual_seed(asked["seed"])
        rows = np.load(asked["data"]).astype(np.float32)
        x, known = torch.tensor(np.nan_to_num(rows)), torch.tensor(~np.isnan(rows)).float()
        start = time.perf_counter()
        model = trained(x, known, asked["epochs"], asked["samples"])
        middle = time.perf_counter()
        filled = imputed(model, x, known, asked["imputations"])
        np.save(asked["filled"], filled.numpy())
        print(json.dumps({"train": middle - start, "impute": time.perf_counter() - middle}), flush=True)


if __name__ == "__main__":
    main()
