"""What `vaefast.VAE` costs beside the command line on the whole of MNIST: the same epochs, in turns, in one process.

python -m benchmarks.estimator [--rounds 3] [--epochs 3]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from vaefast import VAE, engines
from vaefast.data import Dataset, load
from vaefast.engines.threads import thread_count
from vaefast.models.settings import ModelSettings, TrainingSettings
from vaefast.training import trainer
from vaefast.training.initial_state import initial_state


def command_line(data: Dataset, epochs: int) -> tuple[float, np.ndarray]:
    """Seconds of training and evaluation by the loop that `python -m vaefast.train` runs, and the parameters that come out."""
    model, training = ModelSettings(), TrainingSettings(epochs=epochs)
    engine = engines.create("auto", model, training, thread_count(None))
    start = time.perf_counter()
    engine.load_state(initial_state(model, training, data.train.values))
    list(trainer.train(engine, data.train.values, data.test.values, training))
    seconds = time.perf_counter() - start
    parameters = engine.state().parameters
    engine.close()
    return seconds, parameters


def estimator(data: Dataset, epochs: int) -> tuple[float, np.ndarray]:
    """The same by `VAE.fit`."""
    vae = VAE(50, scaling="grey", batch_size=200, epochs=epochs, random_state=0)
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
