"""Mult-VAE (Liang et al. 2018) in PyTorch, run by the interpreter of an environment that has it, NumPy and SciPy.

    PYTHON benchmarks/peers/torch_multvae.py SETTINGS.json

SETTINGS holds `train`, `seen`, `held_out` and `test` (.npz of scipy.sparse: users to train on; what is seen of the users to
validate on, and what is held out of them; what is seen of other users), `scores` (a .npy to write), `hidden`, `latent`,
`dropout`, `batch_size`, `learning_rate`, `beta`, `warm_up_epochs`, `epochs`, `k`, `seed` and `threads`. One line of JSON
answers: the seconds of each epoch, of training alone, and from the end of each epoch to the end of the next; its NDCG@k on the
users to validate on; and the best epoch, whose model wrote the scores of the other users, log shares with what is seen of them
at -inf.

As the authors have it: I-600-200-600-I with tanh; x over its norm, then dropout, into the encoder; a multinomial likelihood;
the weight of the KL divergence rises from 0 to beta with the steps; Adam; Glorot's normal weights.
"""

from __future__ import annotations

import copy
import json
import sys
import time

import numpy as np
import torch
from scipy import sparse
from torch import nn
from torch.nn import functional


class MultVAE(nn.Module):
    """The two networks."""

    def __init__(self, items: int, hidden: int, latent: int, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(items, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, items))
        self.dropout = dropout
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.trunc_normal_(layer.bias, std=0.001, a=-0.002, b=0.002)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, (B, I), and the KL divergence, (B,), of rows of counts, (B, I)."""
        seen = functional.dropout(functional.normalize(x), self.dropout, self.training)
        mean, log_variance = self.encoder(seen).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean) if self.training else mean
        kl = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1)
        return self.decoder(z), kl


def scores_of(model: MultVAE, seen: sparse.csr_matrix) -> np.ndarray:
    """Log shares, with what is seen at -inf."""
    model.eval()
    with torch.no_grad():
        scores = functional.log_softmax(model(torch.from_numpy(seen.toarray()))[0], dim=1).numpy()
    scores[seen.nonzero()] = -np.inf
    model.train()
    return scores


def ndcg(scores: np.ndarray, held_out: sparse.csr_matrix, k: int) -> float:
    """The mean of NDCG@k over the rows, each of which has something held out."""
    hits = np.take_along_axis(held_out.toarray() > 0, np.argsort(-scores, axis=1, kind="stable")[:, :k], axis=1)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.minimum(held_out.getnnz(axis=1), k) - 1]
    return float(np.mean(hits @ discounts / ideal))


def main() -> None:
    """Train, choose the best epoch, and score."""
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    shuffled = np.random.default_rng(settings["seed"])
    train, seen, held_out, test = (
        sparse.load_npz(settings[name]).astype(np.float32).tocsr() for name in ("train", "seen", "held_out", "test")
    )
    model = MultVAE(train.shape[1], settings["hidden"], settings["latent"], settings["dropout"])
    adam = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])
    batch = settings["batch_size"]
    rise, step, best = settings["warm_up_epochs"] * -(-train.shape[0] // batch), 0, None
    seconds, ends, measured = [], [], []
    for _ in range(settings["epochs"]):
        start, order = time.perf_counter(), shuffled.permutation(train.shape[0])
        for first in range(0, len(order), batch):
            x = torch.from_numpy(train[order[first : first + batch]].toarray())
            logits, kl = model(x)
            beta = settings["beta"] * min(1.0, step / rise)
            loss = (-(functional.log_softmax(logits, dim=1) * x).sum(dim=1) + beta * kl).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            step += 1
        seconds.append(time.perf_counter() - start)
        measured.append(ndcg(scores_of(model, seen), held_out, settings["k"]))
        if measured[-1] > max(measured[:-1], default=-1.0):
            best = copy.deepcopy(model.state_dict())
        ends.append(time.perf_counter())
    model.load_state_dict(best)
    np.save(settings["scores"], scores_of(model, test))
    best_epoch = int(np.argmax(measured)) + 1
    answer = {"seconds": seconds, "whole": np.diff(ends).tolist(), "ndcg": measured, "best_epoch": best_epoch}
    print(json.dumps({**answer, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
