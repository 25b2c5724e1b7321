"""The CUDA engine on Numba's simulator against the reference; run by `test_cuda_engine.py` in a process of its own.

Toy sizes: every GPU thread is a thread of Python, every multiply-add takes microseconds. Device memory begins as NaN, so
whatever is read before it was written shows.
"""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cases import TOLERANCES
from gpu.toys import TOYS, bounds_of_a_bad_parameter, by_toy, exact_of, gradients_agree, matrix
from numba.cuda.simulator import kernel as simulator

from vaefast.engines import reference
from vaefast.engines.contract import Pace, State
from vaefast.engines.cuda_gpu import engine as cuda_engine
from vaefast.engines.cuda_gpu import fragments
from vaefast.engines.cuda_gpu.engine import CudaEngine
from vaefast.engines.cuda_gpu.simulated import rounded_tf32
from vaefast.models.noise import Purpose

assert os.environ.get("NUMBA_ENABLE_CUDASIM") == "1", "python -m pytest tests/engines/test_cuda_engine.py runs this file"

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy scalars of the simulated threads overflow aloud


@pytest.fixture(autouse=True)
def small_workspace(monkeypatch):
    monkeypatch.setattr(cuda_engine, "FORWARD_ROWS", 64)


def engine_of(toy, chain="launches", machine=None, **changes):
    engine = CudaEngine(toy.model, replace(toy.training, **changes), 1, machine or toy.machine, chain)
    engine._arena[:] = np.nan
    engine.load_state(State.initial(toy.start))
    return engine


@by_toy
def test_each_phase_of_a_step_leaves_what_the_reference_computes(toy):
    fast, exact = engine_of(toy), exact_of(toy)
    rows = np.arange(toy.batch)
    x = exact._pixels(toy.values()[rows], rows, Purpose.TRAINING_PIXELS, 0)
    epsilon = exact._normals(Purpose.TRAINING_LATENTS, 0, rows)
    parameters = exact._views()
    pass_ = reference.forward(parameters, x, epsilon, toy.model.activation)
    terms, wanted = fast.train(fast.place(toy.values()), rows), exact.train(toy.values(), rows)
    plan, Z = fast._plan, toy.model.latent
    assert np.array_equal(matrix(fast, plan.places.x, toy.batch, toy.model.pixels), x.astype(np.float32))
    assert np.allclose(matrix(fast, plan.places.noise, toy.batch, Z), epsilon, rtol=0, atol=1e-5)
    assert np.allclose(matrix(fast, plan.places.heads, toy.batch, Z), pass_.mean, rtol=0, atol=TOLERANCES["activations"])
    assert np.allclose(matrix(fast, plan.places.z, toy.batch, Z), pass_.z, rtol=0, atol=TOLERANCES["activations"])
    hidden = [*pass_.encoder[1:], *pass_.decoder[1:]]
    layers = [layer for i, layer in enumerate(plan.layers[:-1]) if i != plan.heads]
    for layer, h in zip(layers, hidden, strict=True):
        got = matrix(fast, layer.output, toy.batch, layer.outputs)
        assert np.allclose(got, h, rtol=0, atol=TOLERANCES["activations"])
    d_logits = (reference.sigmoid(pass_.logits) - x) / toy.batch
    last = plan.layers[-1]
    assert np.allclose(matrix(fast, last.d_output, toy.batch, toy.model.pixels), d_logits, rtol=0, atol=1e-6)
    assert np.allclose(terms.elbo, wanted.elbo, rtol=0, atol=TOLERANCES["example_nats"])
    assert gradients_agree(toy, fast.state(), exact.state())
    wrong = fast.state()
    wrong.first_moments[np.argmax(np.abs(wrong.first_moments))] *= 1.01
    assert not gradients_agree(toy, wrong, exact.state())  # the check must be able to fail


def test_two_steps_the_second_of_fewer_rows():
    toy = TOYS["no hidden layer"]
    fast, exact = engine_of(toy), exact_of(toy)
    order = np.random.default_rng(0).permutation(toy.examples)
    pace = Pace(np.array([1e-3, 2e-3]), np.array([0.5, 2.0]))
    got, wanted = fast.train(fast.place(toy.values()), order, pace), exact.train(toy.values(), order, pace)
    for part, exact_part in zip(got, wanted, strict=True):
        if part is not got.objective:
            assert np.allclose(part, exact_part, rtol=0, atol=TOLERANCES["example_nats"])
    weights = np.repeat(pace.kl_weights, toy.batch)[: len(order)]
    assert np.allclose(got.objective, got.log_likelihood - weights * got.kl)
    assert fast.step == exact.step == 2


def trained(toy, chain, blocks, plan):
    """After one step with the same tiles, whatever the number of blocks."""
    engine = engine_of(toy, chain, toy.machine._replace(blocks=blocks))
    engine._plan = plan
    terms = engine.train(engine.place(toy.values()), np.arange(toy.batch))
    return [engine.state().parameters, engine.state().second_moments, *terms]


def test_neither_the_number_of_blocks_nor_their_order_changes_a_bit(monkeypatch):
    """Blocks of a launch run one after the other here: whatever the order, unless one reads what another writes."""
    toy = TOYS["no hidden layer"]
    plan = engine_of(toy)._plan
    wanted = trained(toy, "launches", 3, plan)
    backwards = SimpleNamespace(**{**vars(np), "ndindex": lambda *shape: reversed(list(np.ndindex(*shape)))})
    monkeypatch.setattr(simulator, "np", backwards)
    result = trained(toy, "launches", 5, plan)
    assert all(np.array_equal(one, other) for one, other in zip(wanted, result, strict=True))


def test_the_cooperative_kernel_gives_the_bits_of_single_launches():
    toy = TOYS["no hidden layer"]
    plan = engine_of(toy)._plan
    wanted, result = trained(toy, "launches", 2, plan), trained(toy, "grid", 1, plan)
    assert all(np.array_equal(one, other) for one, other in zip(wanted, result, strict=True))


def test_evaluate_encode_decode_and_importance_sampling():
    toy = TOYS["drawn bytes"]
    fast, exact = engine_of(toy), exact_of(toy)
    values, keys = toy.values(), np.array([5, 2**31 + 7, 0, 1, 9, 2, 3])
    placed = fast.place(values)
    got, wanted = fast.evaluate(placed, keys), exact.evaluate(values, keys)
    assert np.allclose(got.elbo, wanted.elbo, rtol=0, atol=TOLERANCES["example_nats"])
    x = np.random.default_rng(3).random((4, toy.model.pixels)).astype(np.float32)
    for part, exact_part in zip(fast.encode(x), exact.encode(x), strict=True):
        assert np.allclose(part, exact_part, rtol=0, atol=TOLERANCES["activations"])
    z = np.random.default_rng(4).standard_normal((3, toy.model.latent))
    assert np.allclose(fast.decode(z), exact.decode(z), rtol=0, atol=TOLERANCES["activations"])


def test_importance_sampling_in_groups_that_do_not_divide_the_samples(monkeypatch):
    toy = TOYS["no hidden layer"]
    monkeypatch.setattr(cuda_engine, "GROUP", 2)
    fast, exact, values = engine_of(toy), exact_of(toy), toy.values()
    got, wanted = fast.importance_sample(fast.place(values), 3), exact.importance_sample(values, 3)
    assert np.allclose(got.log_likelihood, wanted.log_likelihood, rtol=0, atol=TOLERANCES["example_nats"])
    assert np.allclose(got.effective_samples, wanted.effective_samples, rtol=1e-3)


def test_tf32_products_are_close_and_not_the_same():
    toy = TOYS["no hidden layer"]
    rows = np.arange(toy.batch)
    exact = exact_of(toy).train(toy.values(), rows).elbo
    single, tensor = (
        engine.train(engine.place(toy.values()), rows).elbo for engine in (engine_of(toy), engine_of(toy, precision="tf32"))
    )
    assert not np.array_equal(single, tensor)
    # 2^-11 of relative error a factor, two factors a product, sums of a few nats.
    assert np.allclose(tensor, exact, rtol=0, atol=1e-2)


def test_not_a_number_is_never_hidden():
    toy = TOYS["no hidden layer"]
    assert np.isnan(bounds_of_a_bad_parameter(toy, engine_of(toy))).all()


def test_what_does_not_fit_the_device_is_said_with_its_size(monkeypatch):
    from vaefast.engines.cuda_gpu import memory
    from vaefast.errors import SettingsError

    context = SimpleNamespace(get_memory_info=lambda: SimpleNamespace(free=1e6))
    monkeypatch.setattr(memory, "cuda", SimpleNamespace(current_context=lambda: context))
    with pytest.raises(
        SettingsError, match=r"a model of .* parameters takes .* GB of GPU memory, and 0\.00 GB are free: choose"
    ):
        engine_of(TOYS["a full block"])


def test_an_unknown_chain_is_refused(monkeypatch):
    from vaefast.errors import SettingsError

    monkeypatch.setenv("VAEFAST_CUDA_CHAIN", "rope")
    with pytest.raises(SettingsError, match="VAEFAST_CUDA_CHAIN is 'rope': choose grid, graph or launches"):
        engine_of(TOYS["a full block"], chain=None)


def test_lanes_load_and_place_what_the_tensor_cores_take_and_give():
    """The layout of `mma.m16n8k8` as the PTX ISA gives it ("Matrix fragments for mma.m16n8k8"), on a product."""
    parts = ("left_row", "left_depth", "right_depth", "right_column", "result_row", "result_column")
    left_row, left_depth, right_depth, right_column, result_row, result_column = (getattr(fragments, name) for name in parts)
    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 8, (16, 8)).astype(float), rng.integers(-8, 8, (8, 8)).astype(float)
    left, right, out = np.full((16, 8), np.nan), np.full((8, 8), np.nan), np.full((16, 8), np.nan)
    for lane in range(32):
        group, thread = lane // 4, lane % 4
        for part in range(4):
            left[group + 8 * (part % 2), thread + 4 * (part // 2)] = a[left_row(lane, part), left_depth(lane, part)]
        for part in range(2):
            right[thread + 4 * part, group] = b[right_depth(lane, part), right_column(lane)]
    product = left @ right
    for lane in range(32):
        for part in range(4):
            value = product[lane // 4 + 8 * (part // 2), 2 * (lane % 4) + part % 2]
            out[result_row(lane, part), result_column(lane, part)] = value
    assert np.array_equal(out, a @ b)


def test_rounding_to_tf32_keeps_ten_bits():
    rounded = rounded_tf32
    assert rounded(1 + 2**-10) == 1 + 2**-10
    assert rounded(1 + 2**-11) == 1 + 2**-10  # ties away from zero
    assert rounded(-1 - 2**-11) == -1 - 2**-10
    assert rounded(1 + 2**-12) == 1
