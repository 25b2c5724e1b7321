"""The memory of vaefast on counts, in a process of its own: `python -m benchmarks.peers.vaefast_counts SETTINGS.json`.

SETTINGS is that of `scvi_counts.py` or of `torch_wide.py`. One line of JSON answers: the peak memory of the process and the
bytes of the table in MB (10^6 bytes), the seconds of an epoch, those of the processor in all of `fit` by the epochs, and the
mean ELBO of a row in the last epoch. Of nb and zinb it is one epoch, of multinomial the epochs of the settings.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from scipy import sparse

from benchmarks.peers.run import peak_rss_mb
from vaefast import VAE

MODELS: dict[str, dict[str, Any]] = {
    "nb": {"likelihood": "negative-binomial"},
    "zinb": {"likelihood": "negative-binomial", "zero_inflation": True},
    "multinomial": {"likelihood": "multinomial", "learning_rate": 1e-3},
}


def main() -> None:
    """Train, and answer."""
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    table = sparse.load_npz(settings["data"])
    epochs = settings["epochs"] if settings["likelihood"] == "multinomial" else 1
    vae = VAE(
        settings["latent"], hidden_layer_sizes=(settings["hidden"],), epochs=epochs, batch_size=settings["batch_size"],
        n_jobs=settings["threads"], random_state=0, input_dropout=0.0, **MODELS[settings["likelihood"]],
    )  # fmt: skip
    start = time.process_time()
    vae.fit(table)
    processor = (time.process_time() - start) / epochs
    held = sum(array.nbytes for array in (table.data, table.indices, table.indptr)) / 1e6
    seconds, elbo = sum(vae.history_["seconds"]) / epochs, vae.history_["train_elbo"][-1]
    print(json.dumps({"peak": peak_rss_mb(), "table": held, "seconds": seconds, "processor_seconds": processor, "elbo": elbo}))


if __name__ == "__main__":
    main()
