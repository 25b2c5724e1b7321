"""vaefast on a GPU beside PyTorch and JAX: `python -m benchmarks.gpu`.

For each batch size: microseconds a step and seconds an epoch of the CUDA engine, each way of chaining its phases, float32 and
TF32, and of its peers, all from the same weights and on the same work. Before anything is timed the first 50 steps, or all
of an epoch of fewer, are held against the reference. The floor is computed from operations, bytes and meetings of the grid,
whose cost is measured here. Data are MNIST where it is at hand, else random images of its size and density: then times count,
and bounds do not.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import Peer
from benchmarks.gpu_floor import Gpu, floor, phases
from benchmarks.gpu_report import draw, table
from benchmarks.peers import GPU_PEERS
from vaefast import engines
from vaefast.data import load
from vaefast.engines.contract import State
from vaefast.errors import VaefastError
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

BATCHES = (20, 100, 200, 1000, 4096)
CHAINS = ("grid", "graph", "launches")
PACKAGES = {"torch_gpu_eager": "torch", "torch_gpu_graph": "torch", "torch_gpu_compiled": "torch", "jax_scan": "jax"}
VERIFIED_STEPS = 50
# Of the mean loss of each of these steps, nats: tests/cases.py's `loss_nats`; and what 10 bits of a product's factors allow,
# of losses of some hundred nats.
ALLOWED = {"float32": 1e-3, "tf32": 1.0}
MNIST_SIZE, MNIST_DENSITY = 60_000, 0.191


def main() -> int:
    """Parse, verify, time, print tables, and write JSON and a figure where asked; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chain", action="append", choices=CHAINS, help="default: all")
    parser.add_argument("--precision", action="append", choices=list(ALLOWED), help="default: both")
    parser.add_argument("--peer", action="append", choices=GPU_PEERS, help="default: all")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the peers")
    parser.add_argument("--images", type=int, help="in an epoch; default: all 60,000")
    parser.add_argument("--meetings", type=int, default=10_000, help="of the whole grid, that are timed together")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--figure", type=Path, help="draw the times here")
    options = parser.parse_args()
    if (reason := engines.why_not("cuda")) is not None:
        print(f"no GPU is measured here: {reason}", file=sys.stderr)
        return 2
    os.environ["JAX_PLATFORMS"] = "cuda"  # without a GPU of its own JAX would be timed on the CPU
    gpu, costs = device(), meeting_costs(options.meetings)
    print(f"{gpu.name}, {gpu.multiprocessors} multiprocessors at {gpu.clock_hz / 1e9:.2f} GHz, "
          f"{gpu.bytes_per_second / 1e12:.2f} TB/s; a meeting of the grid {1e6 * costs['grid']:.2f} us, "
          f"a node of a graph {1e6 * costs['graph']:.2f} us", flush=True)  # fmt: skip
    values = images(options.data_dir)[: options.images]
    results = []
    for batch in options.batch_sizes:
        results.append(contest(gpu, costs, values, batch, options))
        print(table(results[-1]), flush=True)
    if options.json:
        record = {"gpu": gpu.__dict__, "seconds of a meeting": costs, "results": results}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    if options.figure:
        draw(results, options.figure)
    return 0


def device() -> Gpu:
    """The current one, by what its driver says."""
    from numba import cuda

    gpu = cuda.get_current_device()
    bits, clock = gpu.GLOBAL_MEMORY_BUS_WIDTH, gpu.MEMORY_CLOCK_RATE * 1e3
    name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
    return Gpu(name, gpu.MULTIPROCESSOR_COUNT, gpu.CLOCK_RATE * 1e3, 2 * bits / 8 * clock)


def images(data_dir: Path | None) -> np.ndarray:
    """MNIST's training set, or bytes of its size and density."""
    try:
        return load("mnist", data_dir).train.values
    except VaefastError as error:
        print(f"{error}; random images of the same size and density take its place", file=sys.stderr, flush=True)
    rng = np.random.default_rng(0)
    values = np.zeros((MNIST_SIZE, 784), np.uint8)
    for block in np.array_split(values, 60):
        on = rng.random(block.shape) < MNIST_DENSITY
        block[on] = rng.integers(1, 256, int(on.sum()))
    return values


def meeting_costs(meetings: int) -> dict[str, float]:
    """Seconds of a meeting of the whole grid and of a node of a graph: programs whose phases are empty."""
    from vaefast.engines.cuda_gpu.engine import CudaEngine

    model, costs = ModelSettings(), {}
    for chain in ("grid", "graph"):
        engine = CudaEngine(model, TrainingSettings(), chain=chain)
        costs[chain] = engine.empty_phase_seconds(phases(model), max(1, meetings // phases(model)))
        engine.close()
    return costs


def contest(gpu: Gpu, costs: dict[str, float], values: np.ndarray, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """All contestants at one batch size; times in seconds an epoch."""
    model = ModelSettings()
    rows = [
        timed(values, model, batch, chain, precision, options.rounds)
        for precision in options.precision or ALLOWED
        for chain in options.chain or CHAINS
    ]
    if not options.no_peers:
        rows += peers(values, model, batch, options)
    floors = {name: floor(gpu, model, batch, name, min(costs.values())) for name in ALLOWED}
    return {
        "batch": batch,
        "steps": -(-len(values) // batch),
        "floors": {name: {**lowest.__dict__, "seconds": lowest.seconds} for name, lowest in floors.items()},
        "rows": rows,
    }


def timed(values: np.ndarray, model: ModelSettings, batch: int, chain: str, precision: str, rounds: int) -> dict[str, Any]:
    """Our engine: verified, then the median of the rounds."""
    from vaefast.engines.cuda_gpu.engine import CudaEngine

    begin = time.perf_counter()
    training = TrainingSettings(batch_size=batch, precision=precision)
    engine = CudaEngine(model, training, chain=chain)
    placed, start = engine.place(values), State.initial(initial_parameters(Layout(model), "glorot", 0))
    engine.warm_up(placed)
    start_seconds = time.perf_counter() - begin
    difference = verify(engine, placed, values, start, model, training)
    engine.load_state(start)
    seconds = []
    for turn in range(rounds):
        order = np.random.default_rng(turn).permutation(len(values))
        begin = time.perf_counter()
        engine.train(placed, order)
        seconds.append(time.perf_counter() - begin)
    engine.close()
    return {
        "name": f"vaefast {chain} {precision}",
        "precision": precision,
        "seconds": statistics.median(seconds),
        "each": seconds,
        "start seconds": start_seconds,
        "largest difference": difference,
    }


def verify(
    engine: Any, placed: Any, values: np.ndarray, start: State, model: ModelSettings, training: TrainingSettings
) -> float:
    """How far the losses of the first steps are from the reference's at most, nats.

    Raises
    ------
    RuntimeError
        Further than is allowed.
    """
    from dataclasses import replace

    from vaefast.engines.reference import ReferenceEngine

    batch = training.batch_size
    order = np.random.default_rng(0).permutation(len(values))[: VERIFIED_STEPS * batch]
    reference = ReferenceEngine(model, replace(training, precision="float32"))
    for one in (engine, reference):
        one.load_state(start)
    got, wanted = engine.train(placed, order).elbo, reference.train(values, order).elbo
    steps = [slice(first, first + batch) for first in range(0, len(order), batch)]
    difference = max(abs(float(got[step].mean() - wanted[step].mean())) for step in steps)
    # NaN is not within anything.
    if not difference <= ALLOWED[training.precision]:
        raise RuntimeError(f"batch {batch}, {training.precision}: losses are {difference:.2g} nats off the reference's")
    return difference


def peers(values: np.ndarray, model: ModelSettings, batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The other libraries, each in a process of its own, one after the other: they share one GPU."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_work(folder, values, model, batch)
        for peer in options.peer or GPU_PEERS:
            rows.append(_timed_peer(peer, folder, options))
    return rows


def _write_work(folder: Path, values: np.ndarray, model: ModelSettings, batch: int) -> None:
    layout, x = Layout(model), values.astype(np.float32) / 255
    np.savez(folder / "data.npz", train_images=x, test_images=x[:10_000])
    np.savez(folder / "weights.npz", **layout.views(initial_parameters(layout, "glorot", 0).astype(np.float32)))
    settings = {"activation": model.activation, "batch_size": batch, "binarize": "dynamic", "threads": 4, "seed": 0}
    (folder / "settings.json").write_text(json.dumps(settings))


def _timed_peer(module: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    row: dict[str, Any] = {"name": module, "precision": "float32", "seconds": None}
    package = PACKAGES[module]
    if options.python == sys.executable and importlib.util.find_spec(package) is None:
        return {**row, "reason": f"{package} is not installed"}
    try:
        peer = Peer(module, options.python, folder)
    except RuntimeError as error:
        return {**row, "reason": str(error)}
    for _ in range(options.rounds):
        peer.epoch(1.0)
    elbo = peer.ask("evaluate")["elbo"]
    peer.close()
    return {
        **row,
        "name": f"{peer.name} {peer.version}",
        "seconds": statistics.median(peer.seconds),
        "each": peer.seconds,
        "start seconds": peer.warm_up_seconds,
        "ELBO": elbo,
    }


if __name__ == "__main__":
    sys.exit(main())
