"""log p(x) by importance sampling, one estimator a process: images are scored whenever a line asks for it.

`python -m benchmarks.peers.importance NAME` reads the number of threads and of samples and the path of a model file from its
arguments, and from each line of stdin "FIRST LAST": score these test images. It answers with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# log p(x) of each image, and of each how many samples count, or nothing where the estimator does not say.
Scorer = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]

# Decoded at once by PyTorch, images times samples: the fastest of 1000, 2500, 5000, 10,000 and 25,000.
TORCH_ROWS = 2500


def ours(path: Path, threads: int, precision: str = "float32") -> Scorer:
    """vaefast's Numba engine."""
    from vaefast.engines import create
    from vaefast.engines.contract import State
    from vaefast.files import model_file
    from vaefast.models import noise
    from vaefast.models.settings import TrainingSettings

    saved = model_file.read(path)
    engine = create("numba", saved.model, TrainingSettings(binarize="threshold", precision=precision), threads)
    engine.load_state(State.initial(saved.parameters))

    def score(images: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
        return engine.importance_sample(engine.place(images), samples, noise.row_keys(images))

    return score


def pytorch(path: Path, threads: int, compiled: bool = False) -> Scorer:
    """The same estimator, each image encoded once, its samples decoded in large products."""
    import torch

    from benchmarks.peers.layers import ordered_layers
    from vaefast.files import model_file
    from vaefast.models.layout import Layout

    torch.set_num_threads(threads)
    saved = model_file.read(path)
    activate = {"relu": torch.relu, "tanh": torch.tanh}[saved.model.activation]
    arrays, depth = ordered_layers(Layout(saved.model).views(saved.parameters))
    layers = [(torch.tensor(weight), torch.tensor(bias)) for weight, bias in arrays]
    generator = torch.Generator().manual_seed(0)

    def encode(x: Any) -> Any:
        for weight, bias in layers[:depth]:
            x = activate(torch.addmm(bias, x, weight))
        return torch.addmm(layers[depth][1], x, layers[depth][0]).chunk(2, dim=1)

    def log_weights(x: Any, mean: Any, log_std: Any, noise: Any) -> Any:
        z = mean + torch.exp(log_std) * noise
        g = z
        for weight, bias in layers[depth + 1 : -1]:
            g = activate(torch.addmm(bias, g, weight))
        logits = torch.addmm(layers[-1][1], g, layers[-1][0])
        log_p = torch.mv(logits, x) - torch.nn.functional.softplus(logits).sum(dim=1)
        return log_p + (0.5 * (noise * noise - z * z) + log_std).sum(dim=1)

    if compiled:
        log_weights = torch.compile(log_weights)

    @torch.no_grad()
    def score(images: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
        x = torch.from_numpy((images >= 128).astype(np.float32))
        mean, log_std = encode(x)
        result = np.empty(len(x))
        for i in range(len(x)):
            parts = []
            for begin in range(0, samples, TORCH_ROWS):
                noise = torch.randn(min(TORCH_ROWS, samples - begin), mean.shape[1], generator=generator)
                parts.append(log_weights(x[i], mean[i], log_std[i], noise))
            log_w = torch.cat(parts).double()
            result[i] = torch.logsumexp(log_w, 0).item() - np.log(samples)
        return result, np.empty(0)

    return score


def main() -> None:
    """Score on demand until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=("ours", "ours in bf16", "PyTorch", "PyTorch compiled"))
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    options = parser.parse_args()
    from vaefast.data import load

    images = load("mnist", None).test.values
    if options.name.startswith("ours"):
        score = ours(options.model, options.threads, "bf16" if options.name == "ours in bf16" else "float32")
    else:
        score = pytorch(options.model, options.threads, compiled=options.name == "PyTorch compiled")
    start = time.perf_counter()
    score(images[:2], options.samples)
    print(json.dumps({"warm_up_seconds": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        first, last = map(int, line.split())
        start = time.perf_counter()
        values, effective = score(images[first:last], options.samples)
        answer = {
            "seconds": time.perf_counter() - start,
            "log_likelihoods": values.tolist(),
            "effective_samples": effective.tolist(),
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
