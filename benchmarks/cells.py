"""Real cells beside scvi-tools: `python -m benchmarks.cells FOLDER --scvi PYTHON [--seeds 5]`.

FOLDER holds `mouse_bladder_cell_select_2100.h5` and `worm_neuron_cell_select_2100.h5` of scDeepCluster (whole counts `X`, cell
types `Y`). PYTHON is the interpreter of an environment with scvi-tools; 700 blood cells come with its scanpy, if it has one.

- bladder: the 2,000 genes whose log(1 + counts per median total) varies most over all cells;
- worm: every gene that is counted at all;
- pbmc: all 765 genes of scanpy's file.

A tenth of the cells is held out, the same for all. Both programs have one hidden layer, 10 latents and minibatches of 128.
scvi-tools trains for as many epochs as it chooses itself, twice: as its users run it, and without zero inflation, batch
normalisation and dropout, like for like. vaefast runs five times: for as many epochs, like for like; the same with half of
the inputs dropped; this with early stopping by a tenth of the training cells; with all of its defaults; and with 70 % of the
inputs dropped and zero inflation, for 1,125 minibatches. `--parts` trains scvi-tools like for like with some of its parts
instead, batch and layer normalisation and dropout, and vaefast with shares of dropped inputs. It tells what each part is
worth.

Printed are means over the seeds and their standard deviations of

- log p(x) of a held-out cell by importance sampling, nats. Rates are a softmax times the observed total in both programs, and
  no constant and no term of the total is left out or added, so the numbers are of one quantity;
- the adjusted Rand index (ARI) of k-means on the latents of all cells, with as many clusters as there are types;
- the share of cells whose type most of their 5 nearest neighbours have (5-NN), the cell itself not among them;
- the best held-out ELBO of all epochs;
- seconds of training until the held-out ELBO is that of the best epoch of scvi-tools as its users run it, with `--parts` that
  of its own best epoch: seconds of the processor, which with `--threads 1` other work on the machine hardly changes.

Worm neurons take hours. `--results FILE` keeps each training in a file: the same command goes on where it was stopped, and
commands with other seeds (`--first-seed`) may fill the same file side by side. One with all seeds then prints the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from vaefast import VAE
from vaefast.engines.threads import granted_cores
from vaefast.runs.run_folder import cpu_name

PEER = Path(__file__).parent / "peers" / "scvi_cells.py"
GENES, HELD_OUT, NEIGHBOURS = 2_000, 0.1, 5
USERS = "scvi-tools"
PLAIN: dict[str, Any] = {"gene_likelihood": "nb", "use_batch_norm": "none", "dropout_rate": 0.0}
THEIRS: dict[str, dict[str, Any]] = {USERS: {}, "scvi-tools, like for like": PLAIN}
# What is left out like for like, one part at a time.
PARTS: dict[str, dict[str, Any]] = {
    "scvi-tools, like for like": PLAIN,
    "batch normalisation": {**PLAIN, "use_batch_norm": "both"},
    "layer normalisation": {**PLAIN, "use_layer_norm": "both"},
    "dropout": {**PLAIN, "dropout_rate": 0.1},
    "batch and dropout": {**PLAIN, "use_batch_norm": "both", "dropout_rate": 0.1},
    "layer and dropout": {**PLAIN, "use_layer_norm": "both", "dropout_rate": 0.1},
}
ALIKE: dict[str, Any] = {"hidden_layer_sizes": (128,), "batch_size": 128, "learning_rate": 1e-3, "input_dropout": 0.0}
# The share of inputs that Liang et al. (2018) drop, who have no other regularisation; and others beside it.
SHARES = (0.0, 0.1, 0.3, 0.5)
DROPPING: dict[str, Any] = {**ALIKE, "input_dropout": 0.5}
# A larger share suits worm neurons with zero inflation, by the ELBO of a tenth of the training cells alone.
ZERO_INFLATED: dict[str, Any] = {**ALIKE, "input_dropout": 0.7, "zero_inflation": True}
# 75 epochs of the two larger sets, which is the default of vaefast there; of few cells as many minibatches are more epochs.
ZERO_INFLATED_STEPS = 1125


@dataclass(frozen=True)
class Cells:
    """Counts of cells by genes, and the types of the cells."""

    name: str
    counts: Any
    types: NDArray[np.int64]

    def parts(self) -> tuple[Any, Any]:
        """Cells to train on, and held-out ones."""
        order = np.random.default_rng(0).permutation(self.counts.shape[0])
        first = round(HELD_OUT * len(order))
        return self.counts[np.sort(order[first:])], self.counts[np.sort(order[:first])]


@dataclass(frozen=True)
class Result:
    """One training: latents of all cells, log p(x) of a held-out one, and the curve over the epochs."""

    latents: NDArray[Any]
    log_p: float
    seconds: list[float]
    elbos: list[float]

    def until(self, elbo: float) -> float:
        """Seconds of training until the held-out ELBO is this one; infinite if it never is."""
        reached = next((epoch for epoch, found in enumerate(self.elbos) if found >= elbo), None)
        return float("inf") if reached is None else sum(self.seconds[: reached + 1])


def bladder(folder: Path) -> Cells:
    """Mouse bladder, the most variable genes."""
    counts, types = _scdeepcluster(folder / "mouse_bladder_cell_select_2100.h5")
    totals = counts.sum(axis=1, keepdims=True)
    spread = np.log1p(counts * (np.median(totals) / totals)).var(axis=0)
    return Cells("bladder", sparse.csr_array(counts[:, np.sort(np.argsort(-spread, kind="stable")[:GENES])]), types)


def worm(folder: Path) -> Cells:
    """Worm neurons, every gene that is counted."""
    counts, types = _scdeepcluster(folder / "worm_neuron_cell_select_2100.h5")
    return Cells("worm", sparse.csr_array(counts[:, counts.any(axis=0)]), types)


def pbmc(python: str, folder: Path) -> Cells | None:
    """Blood cells of scanpy; None where scanpy is missing."""
    out = folder / "pbmc.npz"
    made = subprocess.run([python, str(PEER), "pbmc", str(out)], capture_output=True, text=True)
    if made.returncode:
        print(f"pbmc is left out: {made.stderr.strip().splitlines()[-1]}")
        return None
    with np.load(out) as held:
        return Cells("pbmc", sparse.csr_array(held["counts"]), np.unique(held["types"], return_inverse=True)[1])


def _scdeepcluster(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    import h5py

    with h5py.File(path) as file:
        counts, types = file["X"][()], file["Y"][()]
    whole = counts.astype(np.int64)
    assert np.array_equal(whole, counts)
    return whole, types.astype(np.int64)


def ours(cells: Cells, options: argparse.Namespace, seed: int, **changes: Any) -> Result:
    """Train a `VAE`, and score held-out cells after each epoch, outside of the seconds, which are those of the processor."""
    train, rest = cells.parts()
    seconds: list[float] = []
    elbos: list[float] = []
    start = time.process_time()

    def score(vae: VAE, metrics: Any) -> None:
        nonlocal start
        seconds.append(time.process_time() - start)
        elbos.append(float(vae.score_samples(rest, n_samples=1).mean()))
        start = time.process_time()

    vae = VAE(10, likelihood="negative-binomial", n_jobs=options.threads, random_state=seed, callbacks=[score], **changes)
    vae.fit(train)
    log_p = float(vae.log_likelihood(rest, options.samples).mean())
    return Result(vae.transform(cells.counts), log_p, seconds, elbos)


def theirs(cells: Cells, options: argparse.Namespace, seed: int, changes: dict[str, Any], folder: Path) -> Result:
    """Train in a process of the peer, with these arguments of its model beside its defaults."""
    train, rest = cells.parts()
    files = {}
    for name, part in (("train", train), ("rest", rest), ("cells", cells.counts)):
        files[name] = str(folder / f"{name}.npz")
        sparse.save_npz(files[name], sparse.csr_matrix(part))
    settings = {
        **files, "latents": str(folder / "latents.npy"), "threads": options.threads, "hidden": 128, "latent": 10,
        "batch_size": 128, "samples": options.samples, "seed": seed, "changes": changes,
    }  # fmt: skip
    path = folder / "settings.json"
    path.write_text(json.dumps(settings))
    done = subprocess.run([options.scvi, str(PEER), "train", str(path)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"scvi-tools failed: {done.stderr.strip().splitlines()[-1]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return Result(np.load(settings["latents"]), answer["log_p"], answer["seconds"], answer["elbos"])


def programs(cells: Cells, options: argparse.Namespace, folder: Path) -> dict[str, Callable[[int, int], Result]]:
    """All programs and settings, in order, as functions of the seed and of how many epochs the first of them took."""

    def peer(changes: dict[str, Any]) -> Callable[[int, int], Result]:
        return lambda seed, epochs: theirs(cells, options, seed, changes, folder)

    def alike(**changes: Any) -> Callable[[int, int], Result]:
        return lambda seed, epochs: ours(cells, options, seed, **{**ALIKE, **changes}, epochs=epochs)

    if options.parts:
        shares = {f"vaefast, {share:.0%} of inputs dropped": alike(input_dropout=share) for share in SHARES}
        return {**{name: peer(changes) for name, changes in PARTS.items()}, **shares}
    return {
        **{name: peer(changes) for name, changes in THEIRS.items()},
        "vaefast, like for like": alike(),
        "vaefast, input dropout": alike(**DROPPING),
        "vaefast, early stopping": alike(**DROPPING, early_stopping=True),
        "vaefast, defaults": lambda seed, epochs: ours(cells, options, seed),
        "vaefast, zero inflation": lambda seed, epochs: ours(
            cells, options, seed, **ZERO_INFLATED, epochs=_epochs_of(ZERO_INFLATED_STEPS, cells)
        ),
    }


def _epochs_of(steps: int, cells: Cells) -> int:
    """Epochs that make so many steps of training."""
    return -(-steps // -(-cells.parts()[0].shape[0] // ALIKE["batch_size"]))


class Kept:
    """Measures of trainings in a file of JSON lines, by all that they depend on; several processes may add to one file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def find(self, training: dict[str, Any]) -> dict[str, float] | None:
        """What was kept of this training, if anything."""
        lines = self.path.read_text().splitlines() if self.path and self.path.exists() else []
        return next((held["measures"] for held in map(json.loads, lines) if held["training"] == training), None)

    def add(self, training: dict[str, Any], measured: dict[str, float]) -> None:
        """Keep a training."""
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"training": training, "measures": measured}) + "\n")


def measures(cells: Cells, result: Result, bound: float | None) -> dict[str, float]:
    """What is printed of one training; `bound`: the held-out ELBO to reach, by default its own best one."""
    best = max(result.elbos)
    clusters = KMeans(len(np.unique(cells.types)), n_init=10, random_state=0).fit_predict(result.latents)
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(result.latents).kneighbors(return_distance=False)
    votes = np.stack([(cells.types[near] == kind).sum(axis=1) for kind in np.unique(cells.types)], axis=1)
    agreed = np.unique(cells.types)[votes.argmax(axis=1)] == cells.types
    return {
        "log p(x)": result.log_p, "ARI": adjusted_rand_score(cells.types, clusters), "5-NN": float(agreed.mean()),
        "epochs": float(len(result.seconds)), "best ELBO": best, "seconds": result.until(best if bound is None else bound),
    }  # fmt: skip


def main() -> None:
    """Train on each set with each seed, and print a table a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scvi", metavar="PYTHON", required=True, help="an interpreter with scvi-tools")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, metavar="SEED")
    parser.add_argument(
        "--programs", nargs="+", default=[], metavar="NAME", help="the first and these alone, as the table names them"
    )
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep each training here, and do none twice")
    parser.add_argument("--samples", type=int, default=1000, help="of log p(x) of a held-out cell")
    parser.add_argument("--threads", type=int, default=granted_cores())
    parser.add_argument("--only", choices=("bladder", "worm", "pbmc"), help="one set alone")
    parser.add_argument("--parts", action="store_true", help="scvi-tools with one of its parts at a time")
    options = parser.parse_args()
    print(f"{cpu_name()}, {options.threads} threads; {options.seeds} seeds")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = {"pbmc": lambda: pbmc(options.scvi, folder), "bladder": lambda: bladder(options.folder)}
        made["worm"] = lambda: worm(options.folder)
        for name, make in made.items():
            cells = make() if options.only in (None, name) else None
            if cells is not None:
                _compare(cells, options, folder)


def _compare(cells: Cells, options: argparse.Namespace, folder: Path) -> None:
    rows, genes = cells.counts.shape
    share = cells.counts.nnz / (rows * genes)
    print(f"\n{cells.name}: {rows:,} cells, {genes:,} genes, {share:.1%} non-zero, {len(np.unique(cells.types))} types")
    kept, everything = Kept(options.results), programs(cells, options, folder)
    for unknown in set(options.programs) - set(everything):
        raise SystemExit(f"--programs has {unknown!r}: choose from {', '.join(map(repr, everything))}")
    common = {
        "set": cells.name,
        "threads": options.threads,
        "samples": options.samples,
        "parts": options.parts,
        "cpu": cpu_name(),
    }
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        epochs, bound = 0, None
        for number, (name, train) in enumerate(everything.items()):
            if number and options.programs and name not in options.programs:
                continue
            training = {**common, "seed": seed, "program": name}
            measured = kept.find(training)
            if measured is None:
                measured = measures(cells, train(seed, epochs), bound)
                kept.add(training, measured)
            epochs = epochs or int(measured["epochs"])
            bound = measured["best ELBO"] if name == USERS else bound
            found.setdefault(name, []).append(measured)
            print(f"  seed {seed} {name}: " + ", ".join(f"{what} {value:.4g}" for what, value in measured.items()), flush=True)
    for name, held in found.items():
        columns = []
        for key in held[0]:
            values = [one[key] for one in held]
            spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 and np.isfinite(values).all() else ""
            columns.append(f"{key} {statistics.mean(values):.5g}{spread}")
        print(f"{name:26s} " + "   ".join(columns))


if __name__ == "__main__":
    main()
