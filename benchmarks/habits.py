"""vaefast beside programs that people run as they come: `python -m benchmarks.habits --torch PYTHON`.

PYTHON is the interpreter of an environment with PyTorch, Pillow and pythae. Two programs train on MNIST as grey levels:

* `loader`: the usual first script in PyTorch, 784-400-20-400-784, batch 128, Adam 1e-3, in which a `DataLoader` turns each
  image into a tensor when it is its turn;
* `pythae`: its VAE and its trainer with their defaults, 784-512-10-512-784, batch 64, Adam 1e-4, with the reconstruction loss
  `bce`.

vaefast trains the same networks, from the same kind of initial weights, with the same settings. All take turns, an epoch each.
Ratios are taken within a round, and their median is printed. The mean bound of the test images after the last epoch must be
the same within 1 %.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import OtherPrograms
from benchmarks.peers.process import Process
from vaefast import VAE
from vaefast.data import load
from vaefast.engines.threads import granted_cores
from vaefast.models import noise
from vaefast.models.noise import Purpose
from vaefast.runs.run_folder import cpu_name

PEER = Path(__file__).parent / "peers" / "as_they_come.py"
# What vaefast takes to train the same networks.
SAME = {
    "loader": {"n_components": 20, "hidden_layer_sizes": (400,), "batch_size": 128, "learning_rate": 1e-3},
    "pythae": {"n_components": 10, "hidden_layer_sizes": (512,), "batch_size": 64, "learning_rate": 1e-4},
}
SPREAD = 0.01


class Ours:
    """vaefast in this process, an epoch at a time."""

    def __init__(self, images: np.ndarray, threads: int, settings: dict[str, Any]) -> None:
        about = {"likelihood": "bernoulli", "binarize": "none", "scaling": "grey", "init": "fan-in", "random_state": 0}
        # One minibatch by the estimator makes the model. The epochs that are timed are those of its engine.
        self.vae = VAE(epochs=1, n_jobs=threads, **about, **settings).fit(images[: settings["batch_size"]])
        self._engine, self._size, self._done = self.vae._network.engine, len(images), 0
        self._placed = self._engine.place(images)

    def epoch(self) -> float:
        """The seconds of one more epoch."""
        self._done += 1
        start = time.perf_counter()
        self._engine.train(self._placed, noise.permutation(0, Purpose.EXAMPLE_ORDER, self._done, self._size))
        return time.perf_counter() - start


def compare(name: str, folder: Path, data: Any, options: argparse.Namespace) -> str:
    """One program beside vaefast, as a line of text.

    Raises
    ------
    RuntimeError
        They did not reach the same bound.
    """
    peer = Process(name, [options.torch, str(PEER), name, str(folder), str(options.threads)])
    version = peer.answer()["version"]
    ours = Ours(data.train.values, options.threads, SAME[name])
    theirs_taken, ours_taken, others = [], [], OtherPrograms([peer.pid])
    for _ in range(options.rounds):
        theirs_taken.append(float(peer.ask("epoch")["seconds"]))
        ours_taken.append(ours.epoch())
    bounds = float(peer.ask("evaluate")["elbo"]), float(ours.vae.score_samples(data.test.values, n_samples=1).mean())
    part = others.part()
    peer.close()
    if abs(bounds[0] - bounds[1]) > SPREAD * abs(bounds[1]):
        raise RuntimeError(f"{name}: its test bound is {bounds[0]:.1f} nats and that of vaefast {bounds[1]:.1f}")
    ratio = statistics.median(a / b for a, b in zip(theirs_taken, ours_taken, strict=True))
    return (
        f"{version:40s} {statistics.median(theirs_taken):8.2f} s {statistics.median(ours_taken):8.3f} s {ratio:7.1f}x "
        f"{bounds[0]:9.2f} {bounds[1]:9.2f}" + ("" if part is None else f"   others {part:.1%}")
    )


def main() -> None:
    """Parse, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", required=True, help="an interpreter with torch, pillow and pythae")
    parser.add_argument("--program", action="append", choices=SAME, help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=granted_cores())
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    data = load("mnist", options.data_dir)
    print(f"{cpu_name()}, {options.threads} threads; seconds of an epoch, and the bound of a test image in nats", flush=True)
    print(f"{'':40s} {'theirs':>10s} {'vaefast':>10s} {'ratio':>8s} {'theirs':>9s} {'vaefast':>9s}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, images in (("train", data.train.values), ("test", data.test.values)):
            np.save(Path(folder) / f"{name}.npy", images)
        for name in options.program or SAME:
            print(compare(name, Path(folder), data, options), flush=True)


if __name__ == "__main__":
    main()
