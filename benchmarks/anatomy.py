"""The anatomy of a training step: the seconds of each piece beside its floor. `python -m benchmarks.anatomy`.

The Cython engine takes training steps piece by piece, in the order of `train`, on one thread, so each piece meets the caches
as the piece before leaves them; the parameters must end with the bits of whole steps. A piece's time is the least of all steps
(the sum of the least of its parts, for a layer's tasks), so that a busy machine counts little.

The floor of a product is its floating-point operations at the rate of the fastest product of this run, be it NumPy's or a
layer's own; that of anything else the bytes that it must read and write at the bandwidth of a copy within the same cache: a
step's activations are in the second level, the weights and moments further out.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.counts import cells
from vaefast import engines
from vaefast.engines.contract import State
from vaefast.engines.credit import make_terms
from vaefast.engines.cython_cpu import kernels
from vaefast.engines.cython_cpu.engine import CythonEngine
from vaefast.engines.examples import in_training
from vaefast.engines.plan import INPUTS, OUTPUTS
from vaefast.models import noise
from vaefast.models.count_rows import CountRows
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings
from vaefast.runs.run_folder import cpu_name

CHUNK_ROWS = 32  # of kernels.h
PIECE = {name: number for number, name in enumerate(kernels.PIECES)}
FLOAT = 4
COUNTED = ("negative-binomial", "poisson", "multinomial")


class Floor(NamedTuple):
    """What a piece must do: floating-point operations of products, and bytes read and written, near and far."""

    flop: float = 0.0
    near: float = 0.0  # within the second-level cache
    far: float = 0.0  # weights and moments


class Rates(NamedTuple):
    """What one core of this machine can do in a second."""

    flop: float
    near: float
    far: float


def measured_rates(repeats: int = 300) -> Rates:
    """The best product of matrices that fit a second-level cache, and copies of 256 KB and of 8 MB."""
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(0)
    a, b = rng.random((128, 512), np.float32), rng.random((512, 256), np.float32)
    out = np.empty((128, 256), np.float32)
    with threadpool_limits(1):
        product = _least(lambda: np.matmul(a, b, out=out), repeats)
    copies = []
    for size in (64 << 10, 2 << 20):
        # Halves of one block, whole pages apart. Where the target begins a few bytes further in its page than the source, the
        # copy of the C library takes an instruction that runs at a tenth of the bandwidth on Zen 3 (4 instead of 54 GB/s).
        source, target = np.ones((2, size // 2), np.float32)
        copies.append(2 * source.nbytes / _least(lambda s=source, t=target: np.copyto(t, s), repeats))
    return Rates(2 * 128 * 512 * 256 / product, *copies)


def _least(work: Any, repeats: int) -> float:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


class Anatomy:
    """Training steps of one model, piece by piece."""

    def __init__(self, model: ModelSettings, training: TrainingSettings, values: Any) -> None:
        self.model, self.training = model, training
        self._engine = self._fresh()
        self._values, self._placed = values, self._engine.place(values)
        self._plan, self._worker = self._engine._plan, self._engine._workers[0]
        self._tasks = self._engine._tasks[self._placed.sparse].rows
        self._order = noise.permutation(0, noise.Purpose.EXAMPLE_ORDER, 1, self._placed.size)
        self._engine._make_room(self._placed.longest)

    def _fresh(self) -> CythonEngine:
        engine = engines.create("cython", self.model, self.training, 1)
        assert isinstance(engine, CythonEngine)
        engine.load_state(State.initial(initial_parameters(Layout(self.model), "glorot", 0)))
        return engine

    def check(self) -> None:
        """One epoch in pieces has the bits of one by `train`."""
        whole = self._fresh()
        whole.train(whole.place(self._values), self._order)
        assert np.array_equal(whole.state().parameters, self._engine.state().parameters), "pieces are not the step"
        whole.close()

    def epochs(self, count: int) -> dict[str, float]:
        """The seconds of each piece of a full minibatch: the least over all steps of some epochs."""
        batch = self.training.batch_size
        least: dict[tuple[str, int], float] = {}
        for number in range(count):
            terms = make_terms(self._engine._objective, len(self._order), 0)
            examples = in_training(
                self._placed.images, self._placed.sparse, self.training, self._engine.step, self._order, self._order
            )
            self._worker.begin(examples, terms)
            for begin in range(0, len(self._order), batch):
                size = min(batch, len(self._order) - begin)
                for key, seconds in self._step(begin, size):
                    if size == batch:
                        least[key] = min(least.get(key, 1.0), seconds)
            if number == 0:
                self.check()
        total: dict[str, float] = defaultdict(float)
        for (name, _), seconds in least.items():
            total[name] += seconds
        return dict(total)

    def _step(self, begin: int, size: int) -> Iterator[tuple[tuple[str, int], float]]:
        """Each part's name, a number of its own, and its seconds."""
        s, adam = self._engine.step, self.training.adam
        t = s + 1.0
        scalars = (
            adam.beta1, adam.beta2, 1 - adam.beta1, 1 - adam.beta2, adam.epsilon,
            np.float32(adam.learning_rate / (1 - adam.beta1**t)), np.float32(1 / (1 - adam.beta2**t)),
        )  # fmt: skip
        for number, (name, piece, i, last) in enumerate(self._pieces(size)):
            start = time.perf_counter()
            self._worker.piece(PIECE[piece], begin, size, i, last, s, scalars, self._tasks)
            yield (name, number), time.perf_counter() - start
        self._engine.step += 1

    def _pieces(self, size: int) -> Iterator[tuple[str, str, int, int]]:
        """A step in the order of rows.pxi and weights.pxi: its name here, its name there, and two numbers."""
        heads, top = self._plan.heads, len(self._plan.layers) - 1
        if self.model.likelihood == "negative-binomial":
            yield "table of dispersions", "tabulate", 0, 0
        yield "rows of the minibatch", "load", 0, 0
        for i in range(heads + 1):
            yield f"layer {i} forward", "layer", i, 0
        yield "sample", "sample", 0, 0
        for i in range(heads + 1, top + 1):
            yield f"layer {i} forward", "layer", i, 0
        if self.model.counts:
            for first in range(0, size, CHUNK_ROWS):
                for stage, name in enumerate(("maximum", "sum", "density", "gradient")):
                    yield f"likelihood, {name}", f"counts {stage}", first, min(first + CHUNK_ROWS, size)
        else:
            yield "likelihood", "likelihood", 0, 0
        for i in range(top, 0, -1):
            yield f"layer {i} backward", "backward", i, 0
            yield f"layer {i} backward, halves", "fold", i, 0
        for number, task in enumerate(self._tasks):
            yield f"layer {task[1]} weights", "task", number, 0

    def floors(self) -> dict[str, Floor]:
        """What each piece of a full minibatch must do."""
        B, X, twins = self.training.batch_size, self.model.pixels, self._plan.twins
        matrix, found = FLOAT * B * X, {}
        entries = self._entries()
        for i, layer in enumerate(self._plan.layers):
            inputs, outputs = int(layer[INPUTS]), int(layer[OUTPUTS])
            flop = 2.0 * outputs * (entries if i == 0 and self._placed.sparse else B * inputs)
            found[f"layer {i} forward"] = Floor(flop, 0, FLOAT * inputs * outputs)
            found[f"layer {i} weights"] = Floor(flop, 0, 6 * FLOAT * inputs * outputs)
            if i > 0:
                found[f"layer {i} backward"] = Floor(flop, 0, FLOAT * inputs * outputs)
                found[f"layer {i} backward, halves"] = Floor(0, FLOAT * 4 * B * inputs)
        found["rows of the minibatch"] = Floor(0, entries * (3 + 3 * FLOAT) if self.model.counts else matrix)
        found["likelihood"] = Floor(0, 3 * matrix)
        found["likelihood, maximum"] = Floor(0, matrix)
        found["likelihood, sum"] = Floor(0, 2 * matrix)
        dispersed = self.model.likelihood == "negative-binomial"
        # With a dispersion: e and x in, x and the outputs both ways, and the entries of the table.
        found["likelihood, density"] = Floor(0, ((4 + 2 * (twins - 1)) * matrix + 8 * entries) if dispersed else 3 * matrix)
        found["likelihood, gradient"] = Floor(0, (3 + 2 + 2 * (twins - 1)) * matrix if dispersed else 0)
        found["table of dispersions"] = Floor(0, FLOAT * 32 * X)
        return found

    def _entries(self) -> float:
        """Non-zero elements of a minibatch, on average."""
        images = self._placed.images
        return self.training.batch_size * float(images.starts[-1]) / self._placed.size if self._placed.sparse else 0.0


def main() -> None:
    """Print the anatomy of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--likelihood", default="negative-binomial", help="of counts; any other takes grey levels")
    parser.add_argument("--zero-inflation", action="store_true")
    for name, usual in (("rows", 9_000), ("columns", 2_000), ("latent", 10), ("batch-size", 128), ("epochs", 5)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--hidden", type=int, nargs="*", default=[128])
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    options = parser.parse_args()
    settings = {"likelihood": options.likelihood, "zero_inflation": options.zero_inflation}
    if options.likelihood in COUNTED:
        settings["encoder_input"] = "l2" if options.likelihood == "multinomial" else "log1p"
        values: Any = CountRows.of(cells(options.rows, options.columns))
        binarize = "none"
    else:
        rng = np.random.default_rng(0)
        levels = rng.integers(1, 256, (options.rows, options.columns), dtype=np.uint8)
        values = np.where(rng.random(levels.shape, np.float32) < 0.19, levels, np.uint8(0))
        binarize = "dynamic" if options.likelihood == "bernoulli" else "none"
    model = ModelSettings(options.columns, tuple(options.hidden), options.latent, **settings)
    training = TrainingSettings(batch_size=options.batch_size, binarize=binarize, precision=options.precision)
    anatomy = Anatomy(model, training, values)
    seconds, floors = anatomy.epochs(options.epochs), anatomy.floors()
    rates = measured_rates()
    own = [floors[name].flop / seconds[name] for name in seconds if name.endswith("forward")]
    rates = rates._replace(flop=max(rates.flop, *own))
    print(
        f"{cpu_name()}, one thread: {rates.flop / 1e9:.0f} GFLOP/s, copies {rates.near / 1e9:.0f} GB/s near, "
        f"{rates.far / 1e9:.0f} GB/s far; microseconds of a minibatch of {options.batch_size}"
    )
    total = sum(seconds.values())
    for name, taken in sorted(seconds.items(), key=lambda item: -item[1]):
        floor = floors.get(name, Floor())
        least = max(amount / rate for amount, rate in zip(floor, rates, strict=True))
        print(f"{name:28s} {1e6 * taken:8.1f}   floor {1e6 * least:8.1f}   {taken / total:6.1%}")
    print(f"{'all':28s} {1e6 * total:8.1f}")


if __name__ == "__main__":
    main()
