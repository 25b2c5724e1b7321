"""The memory of vaefast on counts, in a process of its own: `python -m benchmarks.peers.vaefast_counts SETTINGS.json`.

SETTINGS is that of `scvi_counts.py`. One epoch answers with the peak memory of the process in MB (10^6 bytes), and with the
bytes of the table.
"""

from __future__ import annotations

import json
import sys

from scipy import sparse

from benchmarks.peers.run import peak_rss_mb
from vaefast import VAE


def main() -> None:
    """Train, and answer."""
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    table = sparse.load_npz(settings["data"])
    VAE(
        settings["latent"], hidden_layer_sizes=(settings["hidden"],), likelihood="negative-binomial", epochs=1,
        batch_size=settings["batch_size"], n_jobs=settings["threads"], zero_inflation=settings["likelihood"] == "zinb",
    ).fit(table)  # fmt: skip
    held = sum(array.nbytes for array in (table.data, table.indices, table.indptr)) / 1e6
    print(json.dumps({"peak": peak_rss_mb(), "table": held}))


if __name__ == "__main__":
    main()
