"""The CUDA engine on a GPU; skipped where there is none. `tests/engines/test_engines.py` takes it through all CASES too."""

from __future__ import annotations

import os

import numpy as np
import pytest
from cases import BERNOULLI, TOLERANCES

from vaefast import engines
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

REASON = engines.why_not("cuda") or ("this is the simulator" if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else None)
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no GPU: {REASON}")
CHAINS = ("grid", "graph", "launches")
by_case = pytest.mark.parametrize("case", BERNOULLI, ids=lambda case: case.name)


def engine_at_start(model, training, chain=None):
    from vaefast.engines.cuda_gpu.engine import CudaEngine

    engine = CudaEngine(model, training, 1, chain=chain)
    engine.load_state(State.initial(initial_parameters(Layout(model), "fan-in", 4)))
    return engine


def trained(case, chain, times=3):
    training = TrainingSettings(batch_size=case.batch_size, binarize=case.binarize, seed=11)
    engine = engine_at_start(case.model, training, chain)
    placed, order = engine.place(case.values()), np.random.default_rng(1).permutation(case.examples)
    terms = [part for _ in range(times) for part in engine.train(placed, order)]
    results = [*terms, *engine.evaluate(placed), *engine.importance_sample(placed, 7)]
    state = engine.state()
    engine.close()
    return [*results, state.parameters, state.first_moments, state.second_moments]


@by_case
def test_two_runs_and_all_chains_give_the_same_bits(case):
    wanted = trained(case, "grid")
    for chain in CHAINS:
        for one, other in zip(wanted, trained(case, chain), strict=True):
            assert np.array_equal(one, other), chain


@pytest.mark.parametrize("batch_size", [20, 200, 1000])
def test_the_first_fifty_steps_follow_the_reference(batch_size):
    model, training = ModelSettings(), TrainingSettings(batch_size=batch_size, seed=3)
    rng = np.random.default_rng(0)
    values = (rng.integers(1, 256, (3000, 784)) * (rng.random((3000, 784)) < 0.19)).astype(np.uint8)
    order = rng.integers(0, len(values), 50 * batch_size)
    fast, exact = engine_at_start(model, training), ReferenceEngine(model, training)
    exact.load_state(fast.state())
    got, wanted = fast.train(fast.place(values), order).elbo, exact.train(values, order).elbo
    for begin in range(0, len(order), batch_size):
        step = slice(begin, begin + batch_size)
        assert got[step].mean() == pytest.approx(wanted[step].mean(), abs=TOLERANCES["loss_nats"]), begin // batch_size


def test_tensor_cores_stay_close_to_float32():
    from vaefast.engines.cuda_gpu.target import TENSOR_CORES

    if not TENSOR_CORES:
        pytest.skip("this GPU has no TF32")
    model, values = ModelSettings(), BERNOULLI[0].values()
    single, tensor = (
        engine_at_start(model, TrainingSettings(batch_size=40, precision=precision)) for precision in ("float32", "tf32")
    )
    order = np.arange(40)
    first, second = (engine.train(engine.place(values), order).elbo for engine in (single, tensor))
    assert not np.array_equal(first, second)
    # Sums of 784 terms of order one, each with the error of a logit: a hidden layer of 200 products of 2^-11 each.
    assert np.allclose(first, second, rtol=0, atol=1.0)


def test_a_model_that_does_not_fit_is_refused_with_its_size():
    with pytest.raises(engines.SettingsError, match=r"GPU memory|2\^31"):
        engine_at_start(ModelSettings(784, (2**17, 2**17), 50), TrainingSettings())
