"""A step and an epoch of the report's model on MNIST (or MNIST-like random digits where it is out of reach), by engine."""

import itertools
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from benchmarks.measure import sgemm_rate, step_flop
from vaefast import data, engines
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.engines.threads import granted_cores
from vaefast.errors import DataError
from vaefast.models import noise
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

MODEL, TRAINING = ModelSettings(), TrainingSettings()
THREADS = sorted({1, granted_cores()})


@cache
def images():
    try:
        return data.load("mnist").train.values
    except DataError:
        rng = np.random.default_rng(0)
        on = rng.random((60_000, 784), dtype=np.float32) < 0.19
        return np.where(on, rng.integers(1, 256, on.shape, dtype=np.uint8), np.uint8(0))


def at_start(name, threads):
    engine = engines.create(name, MODEL, TRAINING, threads)
    engine.load_state(State.initial(initial_parameters(Layout(MODEL), "glorot", 0)))
    return engine


def verified(name, threads):
    """An engine that has just followed the float64 reference through three minibatches, and its placed images."""
    engine, exact = at_start(name, threads), ReferenceEngine(MODEL, TRAINING, 1, np.float64)
    exact.load_state(State.initial(initial_parameters(exact.layout, "glorot", 0), np.float64))
    order, placed = np.arange(3 * TRAINING.batch_size), engine.place(images())
    assert np.allclose(engine.train(placed, order).elbo, exact.train(images(), order).elbo, atol=2e-3)
    return engine, placed


def record(benchmark, engine, n):
    seconds = benchmark.stats.stats.median
    speed = step_flop(MODEL, 1) * n / seconds
    benchmark.extra_info |= {
        "images a second": round(n / seconds),
        "GFLOP/s": round(speed / 1e9, 1),
        "share of the sgemm rate": round(speed / sgemm_rate(engine.threads), 3),
    }
    engine.close()


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("name", [name for name in engines.ENGINES if engines.why_not(name) is None])
def test_step(benchmark, name, threads):
    engine, placed = verified(name, threads)
    # A fresh minibatch each time, as in training: repeated on one, its pixels and weights would stay in the cache.
    order = noise.permutation(0, noise.Purpose.EXAMPLE_ORDER, 1, 60_000)
    minibatches = itertools.cycle(np.split(order, 60_000 // TRAINING.batch_size))
    with threadpool_limits(threads):  # NumPy's products are the reference engine's
        benchmark(lambda: engine.train(placed, next(minibatches)))
    record(benchmark, engine, TRAINING.batch_size)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(("name", "rounds"), [("numba", 5), ("reference", 1)])
def test_epoch(benchmark, name, rounds, threads):
    engine, placed = verified(name, threads)
    order = noise.permutation(0, noise.Purpose.EXAMPLE_ORDER, 1, 60_000)
    with threadpool_limits(threads):
        terms = benchmark.pedantic(engine.train, (placed, order), rounds=rounds, iterations=1)
    assert terms.elbo.mean() > -230
    record(benchmark, engine, 60_000)


@pytest.mark.parametrize("threads", THREADS)
def test_evaluation(benchmark, threads):
    engine, placed = verified("numba", threads)
    exact = ReferenceEngine(MODEL, TRAINING, 1)
    exact.load_state(engine.state())
    few = images()[:500]
    assert np.allclose(engine.evaluate(engine.place(few)).elbo, exact.evaluate(few).elbo, atol=2e-3)
    benchmark.pedantic(engine.evaluate, (placed,), rounds=3, iterations=1)
    benchmark.extra_info["images a second"] = round(60_000 / benchmark.stats.stats.median)
    engine.close()
