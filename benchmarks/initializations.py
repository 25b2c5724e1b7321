"""Which initialisation is best? `python -m benchmarks.initializations --seeds 3` trains each and prints test ELBOs."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vaefast import engines
from vaefast.data import load
from vaefast.engines.contract import State
from vaefast.engines.threads import thread_count
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import INITIALIZATIONS, ModelSettings, TrainingSettings
from vaefast.training import trainer


def final_test_elbo(scheme: str, seed: int, epochs: int, threads: int, data_dir: Path | None) -> float:
    """Test ELBO in nats after so many epochs on MNIST with the report's settings."""
    data = load("mnist", data_dir)
    model, training = ModelSettings(), TrainingSettings(epochs=epochs, initialization=scheme, seed=seed)
    layout = Layout(model)
    engine = engines.create("auto", model, training, threads)
    means = data.train.values.mean(axis=0) / 255
    engine.load_state(State.initial(initial_parameters(layout, scheme, seed, means)))
    lines = trainer.train(engine, data.train.values, data.test.values, training)
    result = [line.test_elbo for line in lines][-1]
    engine.close()
    return result


def main() -> None:
    """Train each scheme with each seed and print a line a scheme."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    print(f"test ELBO in nats after {options.epochs} epochs of MNIST, seeds 0 to {options.seeds - 1}")
    for scheme in INITIALIZATIONS:
        elbos = [
            final_test_elbo(scheme, seed, options.epochs, thread_count(options.threads), options.data_dir)
            for seed in range(options.seeds)
        ]
        each = "  ".join(f"{elbo:8.2f}" for elbo in elbos)
        print(f"{scheme:10s} mean {np.mean(elbos):8.2f}   each {each}", flush=True)


if __name__ == "__main__":
    main()
