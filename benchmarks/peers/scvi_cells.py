"""scvi-tools on real cells; run by the interpreter of an environment that has it.

    PYTHON benchmarks/peers/scvi_cells.py train SETTINGS.json
    PYTHON benchmarks/peers/scvi_cells.py pbmc FILE.npz

`train`: SETTINGS holds `train`, `rest` and `cells` (.npz files of scipy.sparse: cells to train on, held-out ones, all),
`latents` (where to write theirs), `threads`, `hidden`, `latent`, `batch_size`, `samples`, `seed` and `changes`, arguments of
the model: without any it is as its users run it, with zero inflation, batch normalisation and dropout. The answer is a line of
JSON: seconds of the processor of each epoch, the ELBO a held-out cell after each, log p(x) of a held-out cell by `samples`
samples at the end. The library of a cell is its observed total, so no term of it is in either number.

`pbmc`: write the counts and the cell types of 700 blood cells that come with scanpy.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import anndata  # noqa: E402
import numpy as np  # noqa: E402
from scipy import sparse  # noqa: E402

# The file of scanpy holds logarithms with three decimals.
HALF_OF_THE_LAST_DIGIT = 5.1e-4


def pbmc(out: str) -> None:
    """Counts from the logarithms of counts per 10,000, which must be those of whole numbers within their three decimals."""
    import scanpy

    held = anndata.read_h5ad(Path(scanpy.__file__).parent / "datasets" / "10x_pbmc68k_reduced.h5ad")
    logs, totals = held.raw.X.toarray().astype(np.float64), held.obs["n_counts"].to_numpy()[:, None]
    counts = np.round(np.expm1(logs) * totals / 1e4)
    furthest = float(np.abs(np.log1p(counts * 1e4 / totals) - logs).max())
    if furthest > HALF_OF_THE_LAST_DIGIT:
        raise SystemExit(f"the counts of scanpy's cells are not whole: a logarithm is {furthest:.2g} from that of one")
    types = held.obs["bulk_labels"].astype(str).to_numpy().astype("U")
    np.savez(out, counts=counts.astype(np.int64), types=types)


def train(path: str) -> None:
    """Train, score after each epoch, and say so."""
    import scvi
    import torch
    from lightning.pytorch.callbacks import Callback

    with open(path, encoding="utf-8") as file:
        settings = json.load(file)
    torch.set_num_threads(settings["threads"])
    scvi.settings.seed, scvi.settings.verbosity = settings["seed"], 40
    cells, rest, all_cells = (
        anndata.AnnData(sparse.load_npz(settings[name]).astype(np.float32)) for name in ("train", "rest", "cells")
    )
    scvi.model.SCVI.setup_anndata(cells)
    sizes = {"n_hidden": settings["hidden"], "n_latent": settings["latent"]}
    model = scvi.model.SCVI(cells, **sizes, **settings["changes"])
    assert model.module.use_observed_lib_size
    held_out = list(model._make_data_loader(adata=model._validate_anndata(rest), batch_size=512))
    seconds: list[float] = []
    elbos: list[float] = []

    class Scores(Callback):
        """The processor's seconds of each epoch without the scoring, and the held-out ELBO after it."""

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            self.start = time.process_time()

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            seconds.append(time.process_time() - self.start)
            module.module.eval()
            with torch.inference_mode():
                elbos.append(float(model.get_elbo(dataloader=held_out)))
            module.module.train()

    quiet = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    model.train(train_size=1.0, batch_size=settings["batch_size"], accelerator="cpu", callbacks=[Scores()], **quiet)
    log_p = np.asarray(model.get_marginal_ll(rest, n_mc_samples=settings["samples"], return_mean=False))
    np.save(settings["latents"], model.get_latent_representation(all_cells))
    found = {"seconds": seconds, "elbos": elbos, "log_p": float(log_p.mean())}
    print(json.dumps({**found, "version": scvi.__version__, "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    {"train": train, "pbmc": pbmc}[sys.argv[1]](sys.argv[2])
