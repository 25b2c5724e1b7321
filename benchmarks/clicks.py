"""Recommendations on MovieLens 100K beside others, in one run: `python -m benchmarks.clicks --movielens FILE --torch PYTHON`.

FILE is described in `benchmarks/movielens.py`; PYTHON is the interpreter of an environment with torch, numpy and scipy.

First, as Liang et al. (2018) measure: ratings above 3.5 are clicks, users who are tested on are not trained on, and a fifth of
their clicks is held out. For each seed other users are held out. vaefast and Mult-VAE in PyTorch have the same networks,
minibatches and number of epochs. Each takes the learning rate and beta that are best for the users to validate on of the first
seed, of the same grid, and keeps the epoch that is best by them. They run in turns. EASE (Steck 2019) takes its lambda by the
same users.

Two times of an epoch are printed: of training alone, and from the end of one epoch to the end of the next. The second has the
order of the users, the metric and the copy of the best model in it, and of vaefast also the ELBO of the users to validate on
and the look for numbers that are not finite, which the peer does without.

Then the split and the metrics of the benchmark of Microsoft's recommenders: three quarters of the ratings of each item are
trained on (the split of their seed, line by line), and k is 10. Items without a rating of the user in training are ranked, and
every held-out rating is relevant. Settings are chosen by a fifth of the training ratings of each user, never by the test.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks import movielens
from benchmarks.movielens import StrongSplit, Users
from vaefast import VAE
from vaefast.engines.threads import granted_cores
from vaefast.inference.ranking import top_columns
from vaefast.metrics import hold_out, ndcg_at_k, recall_at_k
from vaefast.runs.run_folder import cpu_name

PEER = Path(__file__).parent / "peers" / "torch_multvae.py"
RATES, BETAS = (5e-4, 1e-3, 2e-3, 4e-3), (0.05, 0.1, 0.2, 0.4, 0.8)
LAMBDAS = (10, 20, 50, 100, 200, 500, 1000)
# nDCG, MAP, precision and recall at 10, from the README of github.com/recommenders-team/recommenders.
PUBLISHED = {
    "BiVAE": (0.475, 0.146, 0.412, 0.219),
    "BPR": (0.442, 0.132, 0.388, 0.213),
    "SAR": (0.382, 0.111, 0.331, 0.176),
}


class Choice(NamedTuple):
    """What is chosen for a model on the users to validate on."""

    learning_rate: float
    beta: float


class Trained(NamedTuple):
    """What a run leaves."""

    ndcg: float  # on the users to validate on, of the best epoch
    best_epoch: int
    seconds: list[float]  # of each epoch, of training alone
    whole: list[float]  # of each epoch but the first, from end to end: with the metric, and the best model put aside
    scores: NDArray[Any]  # of the users to test on, what is seen of them at -inf


def ours(split: StrongSplit, choice: Choice, seed: int, options: argparse.Namespace) -> Trained:
    """VAE, by the estimator."""
    vae, ends = _vae(choice, seed, options, "ndcg@100", options.epochs), []
    vae.callbacks = [lambda vae, metrics: ends.append(time.perf_counter())]
    vae.fit(split.train, validation_data=tuple(split.validation))
    history = vae.history_
    return Trained(
        max(history["validation_ndcg@100"]),
        vae.best_epoch_,
        history["seconds"],
        np.diff(ends).tolist(),
        _unseen(vae.normalized(split.test.seen), split.test.seen),
    )


def _vae(choice: Choice, seed: int, options: argparse.Namespace, metric: str, epochs: int) -> VAE:
    return VAE(
        options.latent, hidden_layer_sizes=(options.hidden,), activation="tanh", likelihood="multinomial", input_dropout=0.5,
        batch_size=options.batch_size, learning_rate=choice.learning_rate, objective="beta", beta=choice.beta,
        kl_warm_up="linear", warm_up_epochs=options.warm_up, epochs=epochs, early_stopping=metric != "elbo",
        validation_metric=metric, n_iter_no_change=epochs, n_jobs=options.threads, random_state=seed,
    )  # fmt: skip


def peer(split: StrongSplit, choice: Choice, seed: int, options: argparse.Namespace) -> Trained:
    """Mult-VAE in PyTorch, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {"train": split.train, **split.validation._asdict(), "test": split.test.seen}
        for part, rows in parts.items():
            sparse.save_npz(folder / f"{part}.npz", sparse.csr_matrix(rows))
        settings = {
            **{part: str(folder / f"{part}.npz") for part in parts}, **choice._asdict(), "scores": str(folder / "scores.npy"),
            "hidden": options.hidden, "latent": options.latent, "dropout": 0.5, "batch_size": options.batch_size, "k": 100,
            "warm_up_epochs": options.warm_up, "epochs": options.epochs, "seed": seed, "threads": options.threads,
        }  # fmt: skip
        (folder / "settings.json").write_text(json.dumps(settings))
        command = [options.torch, str(PEER), str(folder / "settings.json")]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        scores = np.load(folder / "scores.npy")
    return Trained(max(answer["ndcg"]), answer["best_epoch"], answer["seconds"], answer["whole"], scores)


def _unseen(scores: NDArray[Any], seen: sparse.csr_array) -> NDArray[Any]:
    scores[seen.nonzero()] = -np.inf
    return scores


def ease(train: sparse.csr_array, seen: sparse.csr_array, strength: float) -> NDArray[np.float64]:
    """EASE: the linear model of items by items without a diagonal, in closed form (Steck 2019, eq. 8)."""
    gram = np.asarray((train.T @ train).todense(), np.float64)
    gram[np.diag_indices_from(gram)] += strength
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    weights[np.diag_indices_from(weights)] = 0
    return _unseen(seen @ weights, seen)


def popularity(train: sparse.csr_array, seen: sparse.csr_array) -> NDArray[np.float64]:
    """The same items for everybody: those that most users clicked."""
    return _unseen(np.tile(np.asarray(train.sum(axis=0), np.float64).reshape(-1), (seen.shape[0], 1)), seen)


def best_strength(train: sparse.csr_array, users: Users, k: int) -> float:
    """EASE's lambda that is best for the users to validate on."""
    return max(LAMBDAS, key=lambda strength: ndcg_at_k(ease(train, users.seen, strength), users.held_out, k))


def tuned(train: Callable[[Choice], float], name: str) -> Choice:
    """The choice of the grid with the best metric on the users to validate on."""
    found = {choice: train(choice) for choice in itertools.starmap(Choice, itertools.product(RATES, BETAS))}
    best = max(found, key=lambda choice: found[choice])
    spread = f"{min(found.values()):.4f} to {found[best]:.4f}"
    print(
        f"{name}: learning rate {best.learning_rate:g}, beta {best.beta:g} of a grid with {spread} on validation", flush=True
    )
    return best


def strong_generalisation(clicks: sparse.csr_array, options: argparse.Namespace) -> None:
    """Train on some users, test on others."""
    splits = [movielens.strong_split(clicks, options.held_out_users, seed) for seed in range(options.seeds)]
    programs = {"vaefast": ours, **({"Mult-VAE in PyTorch": peer} if options.torch else {})}
    choices = {
        name: tuned(lambda choice, run=run: run(splits[0], choice, 0, options).ndcg, name) for name, run in programs.items()
    }
    rows: dict[str, list[NDArray[np.float64]]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    whole: dict[str, list[float]] = {name: [] for name in programs}
    epochs: dict[str, list[int]] = {name: [] for name in programs}
    for seed, split in enumerate(splits):
        scores = {}
        for name, run in programs.items():
            result = run(split, choices[name], seed, options)
            scores[name] = result.scores
            seconds[name] += result.seconds
            whole[name] += result.whole
            epochs[name].append(result.best_epoch)
        scores["EASE"] = ease(split.train, split.test.seen, best_strength(split.train, split.validation, 100))
        scores["popularity"] = popularity(split.train, split.test.seen)
        for name, found in scores.items():
            rows.setdefault(name, []).append(_by_user(found, split.test.held_out))
    print(f"{'':22s}  Recall@20       Recall@50       NDCG@100        by seed: NDCG@100")
    for name, parts in rows.items():
        users = np.concatenate(parts)
        errors = users.std(axis=0, ddof=1) / np.sqrt(len(users))
        means = "  ".join(f"{mean:.4f} ±{error:.4f}" for mean, error in zip(users.mean(axis=0), errors, strict=True))
        print(f"{name:22s}  {means}  {' '.join(f'{part[:, 2].mean():.4f}' for part in parts)}")
    for other in [name for name in rows if name != "vaefast"]:
        gain = np.concatenate(rows["vaefast"]) - np.concatenate(rows[other])
        errors = gain.std(axis=0, ddof=1) / np.sqrt(len(gain))
        gains = ", ".join(f"{m:+.4f} ±{e:.4f}" for m, e in zip(gain.mean(axis=0), errors, strict=True))
        print(f"  vaefast less {other}, by user: {gains}")
    for name, found in seconds.items():
        alone, whole_epoch = statistics.median(found), statistics.median(whole[name])
        times = f"{alone:.4f} s an epoch of training alone, {whole_epoch:.4f} s from end to end (medians)"
        print(f"{name}: {times}, best epochs {epochs[name]} of {options.epochs}")


def _by_user(scores: NDArray[Any], held_out: sparse.csr_array) -> NDArray[np.float64]:
    """Recall@20, Recall@50 and NDCG@100 of each user, (users, 3)."""
    recalls = [recall_at_k(scores, held_out, k, per_row=True) for k in (20, 50)]
    return np.stack([*recalls, ndcg_at_k(scores, held_out, 100, per_row=True)], axis=1)


def recommenders(ratings: movielens.Ratings, options: argparse.Namespace) -> None:
    """The benchmark of Microsoft's recommenders."""
    train, rest = movielens.item_split(ratings)
    users = Users(*hold_out(train, 0.2, 0))
    best: dict[Choice, int] = {}

    def validated(choice: Choice) -> float:
        vae = _vae(choice, 0, options, "ndcg@10", options.epochs).fit(users.seen, validation_data=tuple(users))
        best[choice] = vae.best_epoch_
        return max(vae.history_["validation_ndcg@10"])

    choice = tuned(validated, "vaefast")
    print(f"{'':22s}  nDCG@10  MAP@10  precision@10  recall@10")
    found = []
    for seed in range(options.seeds):
        vae = _vae(choice, seed, options, "elbo", best[choice]).fit(train)
        found.append(their_metrics(_unseen(vae.normalized(train), train), rest))
    _print_theirs("vaefast, mean of seeds", np.mean(found, axis=0))
    print(f"    {best[choice]} epochs; nDCG@10 by seed {' '.join(f'{metrics[0]:.4f}' for metrics in found)}")
    _print_theirs("EASE", their_metrics(ease(train, train, best_strength(users.seen, users, 10)), rest))
    _print_theirs("popularity", their_metrics(popularity(train, train), rest))
    for name, published in PUBLISHED.items():
        _print_theirs(f"{name}, published", published)


def their_metrics(scores: NDArray[Any], held_out: sparse.csr_array, k: int = 10) -> tuple[float, float, float, float]:
    """nDCG, MAP, precision and recall at k as recommenders defines them: means over users with a held-out rating.

    Recall and average precision are divided by all that was held out of a user, not by k where that is less.
    """
    relevant = held_out.toarray() > 0
    some = relevant.any(axis=1)
    ids, relevant = top_columns(scores[some], k)[0], relevant[some]
    hits, actual = np.take_along_axis(relevant, ids, axis=1), relevant.sum(axis=1)
    precisions = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    average = (precisions * hits).sum(axis=1) / actual
    ndcg = ndcg_at_k(ids, relevant, k)
    return ndcg, float(average.mean()), float(hits.mean()), float((hits.sum(axis=1) / actual).mean())


def _print_theirs(name: str, metrics: Any) -> None:
    print(f"{name:22s}  {metrics[0]:.4f}   {metrics[1]:.4f}  {metrics[2]:.4f}        {metrics[3]:.4f}", flush=True)


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--movielens", metavar="FILE", type=Path, required=True, help="ml-100k.inter, or a wheel that holds it"
    )
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter with torch; without it there is no Mult-VAE beside")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--warm-up", type=int, default=50, help="epochs in which the weight of the KL divergence rises")
    parser.add_argument("--held-out-users", type=int, default=150, help="to validate on, and as many to test on")
    for name, usual in (("hidden", 600), ("latent", 200), ("batch-size", 500), ("threads", granted_cores())):
        parser.add_argument(f"--{name}", type=int, default=usual)
    options = parser.parse_args()
    ratings = movielens.read(options.movielens)
    clicks = movielens.clicks(ratings)
    print(
        f"{cpu_name()}, {options.threads} threads; {clicks.shape[0]} users, {clicks.shape[1]:,} items, {clicks.nnz:,} clicks"
    )
    strong_generalisation(clicks, options)
    recommenders(ratings, options)


if __name__ == "__main__":
    main()
