"""A multinomial variational auto-encoder in PyTorch, run by the interpreter of an environment that has it, NumPy and SciPy.

    PYTHON benchmarks/peers/torch_wide.py SETTINGS.json

SETTINGS holds `data` (an .npz of scipy.sparse), `hidden`, `latent`, `batch_size`, `epochs` and `threads`. One line of JSON
answers: the peak memory in MB (10^6 bytes), the seconds of an epoch and those of the processor, and the mean ELBO of a row in
the last epoch.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np
import torch
from scipy import sparse, special
from torch import nn
from torch.nn import functional


class Networks(nn.Module):
    """Encoder and decoder, one hidden layer each."""

    def __init__(self, columns: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(columns, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, columns))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """sum(x log shares) and the KL divergence, (B,) each, of rows of counts, (B, X)."""
        mean, log_std = self.encoder(torch.log1p(x)).chunk(2, dim=1)
        z = mean + torch.exp(log_std) * torch.randn_like(mean)
        kl = 0.5 * (torch.exp(2 * log_std) + mean**2 - 1 - 2 * log_std).sum(dim=1)
        return (functional.log_softmax(self.decoder(z), dim=1) * x).sum(dim=1), kl


def main() -> None:
    """Train, and answer."""
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    table = sparse.load_npz(settings["data"]).astype(np.float32).tocsr()
    model = Networks(table.shape[1], settings["hidden"], settings["latent"])
    with torch.no_grad():
        shares = np.asarray(table.sum(axis=0)).reshape(-1) + 0.5
        model.decoder[2].bias.copy_(torch.from_numpy(np.log(shares / shares.sum())))
    adam, shuffled, batch = torch.optim.Adam(model.parameters(), lr=1e-3), np.random.default_rng(0), settings["batch_size"]
    start, processor = time.perf_counter(), time.process_time()
    for _ in range(settings["epochs"]):
        order, total = shuffled.permutation(table.shape[0]), 0.0
        for first in range(0, len(order), batch):
            log_p, kl = model(torch.from_numpy(table[order[first : first + batch]].toarray()))
            loss = (kl - log_p).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += float((log_p - kl).sum())
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    constants = special.gammaln(np.asarray(table.sum(axis=1)).reshape(-1) + 1).sum() - special.gammaln(table.data + 1.0).sum()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    found = {"seconds": seconds / settings["epochs"], "processor_seconds": processor / settings["epochs"]}
    print(json.dumps({**found, "peak": peak, "elbo": float(total + constants) / table.shape[0], "torch": torch.__version__}))


if __name__ == "__main__":
    main()
