"""What `vaefast.VAE` costs beside the command line on the whole of MNIST: the same epochs, in turns, in one process.

python -m benchmarks.estimator [--rounds 3] [--epochs 3]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from vaefast import VAE, engines, train
from vaefast.data import Dataset, load
from vaefast.run_folder import RunFolder
from vaefast.settings import ModelSettings, TrainingSettings
from vaefast.threads import thread_count


def command_line(data: Dataset, epochs: int) -> tuple[float, np.ndarray]:
    """Seconds of training and evaluation as `python -m vaefast.train` does it, and the parameters that come out."""
    model, training = ModelSettings(), TrainingSettings(epochs=epochs)
    engine = engines.create("auto", model, training, thread_count(None))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        train._train(engine, data, model, training, RunFolder(Path(folder) / "run"))
        seconds = time.perf_counter() - start
    engine.close()
    return seconds, engine.state().parameters


def estimator(data: Dataset, epochs: int) -> tuple[float, np.ndarray]:
    """The same by `VAE.fit`."""
    vae = VAE(50, batch_size=200, epochs=epochs, random_state=0)
    start = time.perf_counter()
    vae.fit(data.train.values, validation_data=data.test.values)
    return time.perf_counter() - start, vae._network.state.parameters


def main() -> None:
    """Run both in turns and print the seconds, the ratio of each round, and whether the bits agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    data = load("mnist")
    estimator(data, 1)  # compiled and warm
    ratios = []
    for _ in range(options.rounds):
        (ours, parameters), (theirs, expected) = estimator(data, options.epochs), command_line(data, options.epochs)
        ratios.append(ours / theirs)
        same = "the same bits" if np.array_equal(parameters, expected) else "OTHER BITS"
        print(f"VAE.fit {ours:.2f} s, command line {theirs:.2f} s, ratio {ratios[-1]:.3f}, {same}")
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
