"""The CUDA engine, whole, on the stand-in for a GPU; run by `test_cuda_engine.py` and `python -m tests.gpu.standin`.

What a GPU would run is run: the PTX of the kernels, marshalled, launched, chained and copied by the host's own code. Fresh
memory is NaN, so whatever is read before it was written shows.
"""

from __future__ import annotations

import gc
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from cases import BERNOULLI, TOLERANCES
from gpu.standin.raw import BACKWARDS, FORWARDS, SHUFFLED, Driver
from gpu.toys import TOYS, Toy, bounds_of_a_bad_parameter, by_toy, exact_of, gradients_agree, worst_gradient
from numba import cuda

from vaefast import engines
from vaefast.engines import reference
from vaefast.engines.contract import Pace, State
from vaefast.engines.cuda_gpu import engine as cuda_engine
from vaefast.engines.cuda_gpu import kept, launching, memory, target, tiling
from vaefast.engines.cuda_gpu import plan as planning
from vaefast.engines.cuda_gpu.engine import CudaEngine
from vaefast.engines.cuda_gpu.target import SIMULATED
from vaefast.engines.cuda_gpu.tiling import Machine
from vaefast.errors import SettingsError
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

assert os.environ.get("VAEFAST_STANDIN_FOLDER"), "python -m tests.gpu.standin runs this file"
assert not SIMULATED

CHAINS = ("grid", "graph", "launches")
ORDERS = [(FORWARDS, 0), (BACKWARDS, 0), (SHUFFLED, 1), (SHUFFLED, 2)]


@pytest.fixture(autouse=True)
def driver(monkeypatch):
    monkeypatch.setattr(cuda_engine, "FORWARD_ROWS", 64)
    found = Driver()
    found.order(FORWARDS)
    yield found
    found.order(FORWARDS)


def engine_of(toy, chain="grid", machine=None, **changes):
    engine = CudaEngine(toy.model, replace(toy.training, **changes), 1, machine or toy.machine, chain)
    engine.load_state(State.initial(toy.start))
    return engine


def test_the_engine_is_chosen_as_users_choose_it():
    toy = TOYS["drawn bytes"]
    assert engines.choose("cuda") == "cuda"
    engine = engines.create("cuda", toy.model, toy.training, 2)
    assert engine.name == "cuda"
    assert engine._launcher.chain == "grid"
    assert engine._launcher.machine.blocks == 2 * 3  # the stand-in's three multiprocessors


@by_toy
@pytest.mark.parametrize("chain", CHAINS)
def test_a_step_is_the_references(toy, chain):
    fast, exact = engine_of(toy, chain), exact_of(toy)
    rows = np.arange(toy.batch)
    got, wanted = fast.train(fast.place(toy.values()), rows), exact.train(toy.values(), rows)
    assert np.allclose(got.log_likelihood, wanted.log_likelihood, rtol=0, atol=TOLERANCES["example_nats"])
    assert np.allclose(got.kl, wanted.kl, rtol=0, atol=TOLERANCES["example_nats"])
    assert gradients_agree(toy, fast.state(), exact.state())
    wrong = fast.state()
    wrong.first_moments[np.argmax(np.abs(wrong.first_moments))] *= 1.01
    assert not gradients_agree(toy, wrong, exact.state())  # the check must be able to fail


@by_toy
@pytest.mark.parametrize("chain", CHAINS)
def test_several_steps_in_several_calls_the_last_of_fewer_rows(toy, chain):
    fast, exact, values = engine_of(toy, chain), exact_of(toy), toy.values()
    placed = fast.place(values)
    for call in range(2):
        order = np.concatenate([np.random.default_rng(call).permutation(toy.examples) for _ in range(4)])[: 2 * toy.batch + 1]
        pace = Pace(np.array([1e-3, 2e-3, 3e-3]), np.array([0.5, 2.0, 1.0]))
        got, wanted = fast.train(placed, order, pace), exact.train(values, order, pace)
        assert np.allclose(got.log_likelihood, wanted.log_likelihood, rtol=0, atol=TOLERANCES["example_nats"])
        weights = np.repeat(pace.kl_weights, toy.batch)[: len(order)]
        assert np.allclose(got.objective, got.log_likelihood - weights * got.kl)
    assert fast.step == exact.step == 6
    assert np.max(np.abs(fast.state().parameters - exact.state().parameters)) < TOLERANCES["parameters"]


WARPS = Machine(8, 6)


@pytest.mark.parametrize("tile", tiling.tiles(WARPS, narrow=True, wide=True), ids=lambda tile: f"{tile.rows}x{tile.columns}")
def test_every_tile_computes_every_product(tile, monkeypatch):
    """Sizes above and below a tile's each way, and depths above and below what is staged at a time."""

    def chosen(machine, products, others=()):
        return tuple(tile if tile in product.tiles else product.tiles[0] for product in products)

    monkeypatch.setattr(planning, "choose", chosen)
    toy = Toy(ModelSettings(300, (130, 40), 20), 70, 70, "dynamic", False, WARPS)
    fast, exact, rows = engine_of(toy), exact_of(toy), np.arange(toy.batch)
    found = {
        (1 << int(job[planning.ROW_SHIFT]), 1 << int(job[planning.COLUMN_SHIFT]), int(job[planning.EPILOGUE]))
        for job in fast._plan.programs.step.reshape(-1, planning.FIELDS)
        if job[planning.KIND] == planning.PRODUCT
    }
    of_this_tile = {epilogue for rows_, columns, epilogue in found if (rows_, columns) == tile[:2]}
    assert of_this_tile >= {planning.ACTIVATE, planning.MASK, planning.SAMPLE_BACKWARD, planning.ADAM}
    got, wanted = fast.train(fast.place(toy.values()), rows), exact.train(toy.values(), rows)
    assert np.allclose(got.elbo, wanted.elbo, rtol=0, atol=TOLERANCES["example_nats"])
    assert gradients_agree(toy, fast.state(), exact.state())


def test_compiled_kernels_are_kept_and_damaged_files_are_replaced(tmp_path, monkeypatch):
    def twice(numbers):
        place = cuda.grid(1)
        if place < numbers.size:
            numbers[place] *= 2

    compilations = []
    monkeypatch.setattr(kept, "announce_compilation", lambda: compilations.append(1))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))

    def doubled():
        numbers = cuda.to_device(np.arange(256, dtype=np.float32))
        target.entry_point(twice)[128, 2](numbers)
        return numbers.copy_to_host()

    for _ in range(2):
        assert np.array_equal(doubled(), 2 * np.arange(256))
    assert len(compilations) == 1
    (file,) = kept.cache_folder().iterdir()
    content = file.read_bytes()
    for damaged in (content[: len(content) // 3], content[:-1] + bytes([content[-1] ^ 1])):
        file.write_bytes(damaged)
        assert np.array_equal(doubled(), 2 * np.arange(256))
        assert np.array_equal(doubled(), 2 * np.arange(256))
    assert len(compilations) == 3


def test_the_benchmark_of_a_gpu_checks_and_times_every_way_to_run(tmp_path, monkeypatch, capsys):
    from benchmarks import gpu as benchmark

    path, figure = tmp_path / "gpu.json", tmp_path / "gpu.png"
    arguments = ["--batch-sizes", "20", "--images", "50", "--meetings", "120", "--rounds", "1", "--no-peers"]
    monkeypatch.setattr("sys.argv", ["gpu", *arguments, "--json", str(path), "--figure", str(figure)])
    assert benchmark.main() == 0
    record = json.loads(path.read_text())
    rows = record["results"][0]["rows"]
    assert {row["name"] for row in rows} == {f"vaefast {chain} {name}" for chain in CHAINS for name in benchmark.ALLOWED}
    for row in rows:
        assert row["seconds"] > 0
        assert row["largest difference"] <= benchmark.ALLOWED[row["precision"]]
    assert record["results"][0]["steps"] == 3  # the last of ten images
    assert figure.stat().st_size > 10_000
    assert "batch 20: floor" in capsys.readouterr().out
    # A wrong answer is not timed.
    monkeypatch.setitem(benchmark.ALLOWED, "float32", 0.0)
    with pytest.raises(RuntimeError, match=r"batch 20, float32: losses are .* nats off the reference's"):
        benchmark.main()


def results(toy, chain, machine, plans=None):
    """All that an engine computes; with the tiles of `plans`, and so its sums, whatever the machine."""
    engine = engine_of(toy, chain, machine)
    if plans:
        engine._plan, engine._forward_plan = plans
    placed, order = engine.place(toy.values()), np.random.default_rng(1).permutation(toy.examples)
    terms = [*engine.train(placed, order), *engine.train(placed, order), *engine.evaluate(placed)]
    terms += [*engine.importance_sample(placed, 7), *engine.encode(toy.values() / np.float32(255))]
    state = engine.state()
    engine.close()
    return [*terms, state.parameters, state.first_moments, state.second_moments], (engine._plan, engine._forward_plan)


@by_toy
def test_no_chain_no_order_and_no_number_of_blocks_changes_a_bit(toy, driver):
    wanted, plans = results(toy, "launches", toy.machine)
    assert all(np.isfinite(part).all() for part in wanted)
    for mode, seed in ORDERS:
        driver.order(mode, seed)
        for chain, blocks in zip(CHAINS, (2, 5, 1), strict=True):
            found, _ = results(toy, chain, toy.machine._replace(blocks=blocks), plans)
            assert all(np.array_equal(one, other) for one, other in zip(wanted, found, strict=True)), (mode, seed, chain)


@pytest.mark.parametrize("multiprocessors", [1, 2, 3])
def test_the_grid_is_as_large_as_the_device_holds_and_no_bit_depends_on_it(multiprocessors, monkeypatch):
    from numba import cuda

    toy = TOYS["no hidden layer"]
    machine = toy.machine._replace(blocks=264)
    wanted, plans = results(toy, "launches", machine)
    monkeypatch.setenv("VAEFAST_STANDIN_MULTIPROCESSORS", str(multiprocessors))
    monkeypatch.setattr(cuda.get_current_device(), "MULTIPROCESSOR_COUNT", multiprocessors)
    found, _ = results(toy, "grid", machine, plans)
    assert all(np.array_equal(one, other) for one, other in zip(wanted, found, strict=True))


@by_toy
def test_evaluate_encode_and_decode(toy):
    fast, exact, values = engine_of(toy), exact_of(toy), toy.values()
    keys = np.array([5, 2**31 + 7, *range(toy.examples - 2)])
    got, wanted = fast.evaluate(fast.place(values), keys), exact.evaluate(values, keys)
    assert np.allclose(got.elbo, wanted.elbo, rtol=0, atol=TOLERANCES["example_nats"])
    x = np.random.default_rng(3).random((70, toy.model.pixels)).astype(np.float32)  # more than a pass has rows
    for part, exact_part in zip(fast.encode(x), exact.encode(x), strict=True):
        assert np.allclose(part, exact_part, rtol=0, atol=TOLERANCES["activations"])
    z = np.random.default_rng(4).standard_normal((67, toy.model.latent))
    assert np.allclose(fast.decode(z), exact.decode(z), rtol=0, atol=TOLERANCES["activations"])


@by_toy
@pytest.mark.parametrize(("group", "samples"), [(2, 3), (16, 5), (16, 33)])
def test_importance_sampling(toy, group, samples, monkeypatch):
    monkeypatch.setattr(cuda_engine, "GROUP", group)
    fast, exact, values = engine_of(toy), exact_of(toy), toy.values()
    got, wanted = fast.importance_sample(fast.place(values), samples), exact.importance_sample(values, samples)
    assert np.allclose(got.log_likelihood, wanted.log_likelihood, rtol=0, atol=TOLERANCES["example_nats"])
    assert np.allclose(got.effective_samples, wanted.effective_samples, rtol=1e-3)


def tf32(values):
    """To 10 bits of mantissa, ties away from zero."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


@by_toy
@pytest.mark.parametrize("chain", ["grid", "launches"])
def test_tf32_rounds_the_factors_of_products_and_nothing_else(toy, chain, monkeypatch):
    """The reference with rounded factors is met as closely as float32 meets the plain one.

    A factor that stands where another should, or a product that is missing, is off by a share of the sum; and the plain
    reference is at least five times as far away as is allowed, so rounding is seen too.
    """

    def dense(parameters, name, inputs, _):
        return tf32(inputs) @ tf32(parameters[f"{name}.weight"]) + parameters[f"{name}.bias"]

    def dense_backward(parameters, gradients, name, inputs, d_a, _):
        gradients[f"{name}.weight"] = tf32(inputs.T) @ tf32(d_a)
        gradients[f"{name}.bias"] = d_a.sum(axis=0)
        return tf32(d_a) @ tf32(parameters[f"{name}.weight"].T)

    rows, fast, plain = np.arange(toy.batch), engine_of(toy, chain, precision="tf32"), exact_of(toy)
    plain.train(toy.values(), rows)
    monkeypatch.setattr(reference, "_dense", dense)
    monkeypatch.setattr(reference, "_dense_backward", dense_backward)
    exact = exact_of(toy)
    got, wanted = fast.train(fast.place(toy.values()), rows), exact.train(toy.values(), rows)
    # Sums of up to 35 numbers of order one.
    assert np.allclose(got.elbo, wanted.elbo, rtol=0, atol=5e-5)
    assert gradients_agree(toy, fast.state(), exact.state())
    assert worst_gradient(toy, fast.state(), plain.state()) > 5 * TOLERANCES["gradient"]


def test_not_a_number_is_never_hidden():
    toy = TOYS["no hidden layer"]
    assert np.isnan(bounds_of_a_bad_parameter(toy, engine_of(toy))).all()


def test_a_state_goes_to_the_device_and_back():
    toy = TOYS["drawn bytes"]
    engine = engine_of(toy)
    rng = np.random.default_rng(0)
    parts = (rng.standard_normal(Layout(toy.model).size).astype(np.float32) for _ in range(3))
    state = State(*parts, 7)
    engine.load_state(state)
    for name in ("parameters", "first_moments", "second_moments", "step"):
        assert np.array_equal(getattr(engine.state(), name), getattr(state, name)), name


def test_an_empty_call_a_warm_up_and_empty_phases():
    toy = TOYS["drawn bytes"]
    engine = engine_of(toy)
    placed, before = engine.place(toy.values()), engine.state()
    engine.warm_up(placed)
    assert len(engine.train(placed, np.empty(0, np.int64)).elbo) == 0
    assert np.array_equal(before.parameters, engine.state().parameters)
    assert engine.step == 0
    assert engine.empty_phase_seconds(4, 50) > 0


def free_bytes():
    from numba import cuda

    gc.collect()
    cuda.current_context().memory_manager.deallocations.clear()
    return cuda.current_context().get_memory_info().free


def test_what_an_engine_takes_of_the_device_it_gives_back():
    results(TOYS["drawn bytes"], "grid", None)
    before = free_bytes()
    for chain in CHAINS:
        results(TOYS["drawn bytes"], chain, None)
    assert free_bytes() >= before


def test_a_model_too_large_for_the_memory_is_refused_before_and_when_the_driver_says_so(monkeypatch):
    model = ModelSettings(784, (11_000, 11_000), 50)  # three times 10^9 bytes
    refusal = r"^a model of 260,\d{3},\d{3} parameters takes 3\.\d+ GB of GPU memory, and 2\.\d+ GB are free: choose a smaller"
    with pytest.raises(SettingsError, match=refusal):
        CudaEngine(model, TrainingSettings())
    monkeypatch.setattr(memory, "RESERVE", -(1 << 40))
    with pytest.raises(SettingsError, match=refusal):
        CudaEngine(model, TrainingSettings())


def test_nothing_is_freed_while_a_graph_is_recorded(monkeypatch):
    """Numba frees arrays that nobody holds any more a few at a time, whenever that may be; a recording cannot bear it."""
    from numba import cuda

    toy = TOYS["no hidden layer"]
    wanted, plans = results(toy, "graph", toy.machine)
    held, once = [], launching.Launcher._launch_step

    def launch_step(self, *arguments):
        held.clear()
        once(self, *arguments)

    held += [cuda.device_array(4) for _ in range(50)]
    original = launching.replay

    def replay(launch, stream, times):
        held.extend(cuda.device_array(4) for _ in range(50))
        original(launch, stream, times)

    monkeypatch.setattr(launching.Launcher, "_launch_step", launch_step)
    monkeypatch.setattr(launching, "replay", replay)
    found, _ = results(toy, "graph", toy.machine, plans)
    assert all(np.array_equal(one, other) for one, other in zip(wanted, found, strict=True))


def test_ten_steps_of_the_report_at_batch_20_follow_the_reference():
    model, training = ModelSettings(), TrainingSettings(batch_size=20, seed=3)
    values = BERNOULLI[0].values()
    order = np.random.default_rng(0).integers(0, len(values), 10 * 20)
    fast, exact = CudaEngine(model, training), reference.ReferenceEngine(model, training)
    start = State.initial(initial_parameters(Layout(model), "fan-in", 4))
    fast.load_state(start)
    exact.load_state(start)
    got, wanted = fast.train(fast.place(values), order).elbo, exact.train(values, order).elbo
    for begin in range(0, len(order), 20):
        assert got[begin : begin + 20].mean() == pytest.approx(wanted[begin : begin + 20].mean(), abs=TOLERANCES["loss_nats"])
