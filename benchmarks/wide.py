"""Memory and time of wide tables beside PyTorch, in one run: `python -m benchmarks.wide [--torch PYTHON] [--columns 50000]`.

PYTHON is the interpreter of an environment with PyTorch, NumPy and SciPy. Rows are drawn from forty topics, each with popular
columns of its own, and 0.2 % of the table is not zero. Both programs train a multinomial with one hidden layer of 600 and 200
latents, in minibatches of 500, each in a process of its own that reads the sparse table. PyTorch is used as people write it:
dense minibatches, the loss as a formula, Adam. Printed are the peak memory of each process, the seconds of an epoch, those of
the processor, which other programs on the machine change little, and the ELBO of a row in the last epoch. The program fails if
vaefast is more than one part in a hundred behind.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from vaefast.engines.threads import granted_cores
from vaefast.runs.run_folder import cpu_name

PEER = Path(__file__).parent / "peers" / "torch_wide.py"
TOPICS, SHARE, BEHIND = 40, 0.002, 0.01
# How much the popularity of a column differs from topic to topic, and between the columns of all topics.
WITHIN, BETWEEN = 1.5, 1.0


def documents(rows: int, columns: int, seed: int = 0) -> sparse.csr_array:
    """Counts, (rows, columns), of which about `SHARE` are not zero; stays sparse."""
    rng = np.random.default_rng(seed)
    common, topic_of = BETWEEN * rng.standard_normal(columns), rng.integers(TOPICS, size=rows)
    drawn = np.empty((rows, round(SHARE * columns)), np.int64)
    for topic in range(TOPICS):
        popularity = np.exp(common + WITHIN * rng.standard_normal(columns)).cumsum()
        own = topic_of == topic
        drawn[own] = np.searchsorted(popularity, popularity[-1] * rng.random((int(own.sum()), drawn.shape[1])))
    places = np.repeat(np.arange(rows), drawn.shape[1]), drawn.reshape(-1)
    return sparse.csr_array((np.ones(drawn.size, np.int32), places), (rows, columns))  # equal places add up


def answer(command: list[str]) -> dict[str, Any]:
    """What a program says in its last line."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Draw, train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter with PyTorch; without it vaefast runs alone")
    for name, usual in (("rows", 20_000), ("columns", 50_000), ("hidden", 600), ("latent", 200), ("batch-size", 500)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=granted_cores())
    options = parser.parse_args()
    table = documents(options.rows, options.columns)
    share = table.nnz / (options.rows * options.columns)
    print(
        f"{cpu_name()}, {options.threads} threads; {options.rows:,} rows of {options.columns:,} columns, {share:.2%} non-zero"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.json"
        sparse.save_npz(Path(folder) / "table.npz", sparse.csr_matrix(table))
        settings = {
            "data": str(Path(folder) / "table.npz"), "threads": options.threads, "hidden": options.hidden,
            "latent": options.latent, "batch_size": options.batch_size, "epochs": options.epochs, "likelihood": "multinomial",
        }  # fmt: skip
        path.write_text(json.dumps(settings))
        found = {"vaefast": answer([sys.executable, "-m", "benchmarks.peers.vaefast_counts", str(path)])}
        if options.torch:
            found["PyTorch"] = answer([options.torch, str(PEER), str(path)])
    for name, one in found.items():
        print(
            f"{name:8s} peak memory {one['peak']:5.0f} MB   {one['seconds']:6.1f} s an epoch, {one['processor_seconds']:6.1f} "
            f"of the processor   ELBO {one['elbo']:.1f}"
        )
    behind = max(one["elbo"] for one in found.values()) - found["vaefast"]["elbo"]
    if behind > BEHIND * abs(found["vaefast"]["elbo"]):
        raise SystemExit(f"vaefast is {behind:.1f} nats behind: the times say nothing")


if __name__ == "__main__":
    main()
