"""scvi-tools on counts, an epoch for each line of standard input; run by the interpreter of an environment that has it.

    PYTHON benchmarks/peers/scvi_counts.py SETTINGS.json

SETTINGS holds `data` (an .npz of scipy.sparse, cells to train on), `held_out` (another), `threads`, `hidden`, `latent`,
`batch_size`, `epochs`, `likelihood` (nb or zinb) and `plain`: without it the model is as its users run it, with batch
normalisation and dropout; with it, neither. Each epoch answers with its seconds; the end with the ELBO a held-out cell, with
log p(x) by `samples` samples, and with the peak memory in MB.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")

import anndata  # noqa: E402
import numpy as np  # noqa: E402
import scvi  # noqa: E402
import torch  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402
from scipy import sparse  # noqa: E402


def say(**answer: object) -> None:
    """One line of JSON."""
    print(json.dumps(answer), flush=True)


class Turns(Callback):
    """Waits for a line before each epoch, and answers with the seconds that it took."""

    def on_train_epoch_start(self, trainer: object, module: object) -> None:
        if not sys.stdin.readline():
            sys.exit(0)
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: object, module: object) -> None:
        say(seconds=time.perf_counter() - self.start)


def main() -> None:
    """Train, in turns, and score."""
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    torch.set_num_threads(settings["threads"])
    scvi.settings.seed, scvi.settings.verbosity = 0, 40
    train, rest = (anndata.AnnData(sparse.load_npz(settings[name]).astype(np.float32)) for name in ("data", "held_out"))
    scvi.model.SCVI.setup_anndata(train)
    plain = {"use_batch_norm": "none", "dropout_rate": 0.0} if settings["plain"] else {}
    sizes = {"n_hidden": settings["hidden"], "n_latent": settings["latent"]}
    model = scvi.model.SCVI(train, gene_likelihood=settings["likelihood"], **sizes, **plain)
    say(ready=True, version=scvi.__version__, torch=torch.__version__)
    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    model.train(
        max_epochs=settings["epochs"], batch_size=settings["batch_size"], train_size=1.0, accelerator="cpu",
        callbacks=[Turns()], **quiet,
    )  # fmt: skip
    # `ru_maxrss` also counts the parent process as it was when it started this one.
    with open("/proc/self/status", encoding="utf-8") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024 / 1e6
    elbo = float(np.mean(np.asarray(model.get_elbo(rest))))
    log_p = np.asarray(model.get_marginal_ll(rest, n_mc_samples=settings["samples"], return_mean=False))
    say(elbo=elbo, log_p=float(np.mean(log_p)), peak=peak)


if __name__ == "__main__":
    main()
