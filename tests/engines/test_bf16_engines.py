"""Every engine that has `precision="bf16"`, against the reference, and against itself: threads, calls, instruction sets.

How near an engine must be is said by (77): it rounds float32 numbers, and the reference float64 ones that lie 1e-6 beside
them, so a few factors in a thousand go to another bfloat16. `NEAR` is what that may come to, as a share of the distance of
the reference in bf16 from the one in float32, which a missing or a superfluous rounding brings about.
"""

from functools import cache

import numpy as np
import pytest
from cases import BF16_CASES, BF16_IN_NUMBA, TOLERANCES

from vaefast import engines
from vaefast.engines import images
from vaefast.engines.contract import State
from vaefast.engines.reference import ReferenceEngine
from vaefast.models.conditions import Conditioned, beside
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import TrainingSettings

ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(engines.why_not(name) is not None, reason=f"{name}: {engines.why_not(name)}"))
    for name in ("cython", "numba")
    if "precision bf16" not in engines.LACKING[name]
]
by_engine = pytest.mark.parametrize("name", ENGINES)


def of_images(case):
    return case.model.likelihood == "bernoulli" and not case.model.in_blocks and not case.model.covariates


def by_engine_and(cases):
    """Each engine on its cases among these. Numba compiles each kind of kernel for a core's half minute: that of images stays
    among the tests of the whole suite, and the others are long."""
    return pytest.mark.parametrize(
        ("name", "case"),
        [
            pytest.param(
                *engine.values,
                case,
                marks=[*engine.marks, *([pytest.mark.long] if engine.values[0] == "numba" and not of_images(case) else [])],
                id=f"{case.name}-{engine.values[0]}",
            )
            for engine in ENGINES
            for case in cases
            if engine.values[0] != "numba" or case in BF16_IN_NUMBA
        ],
    )


by_case = pytest.mark.parametrize("case", BF16_CASES, ids=lambda case: case.name)
SOME = [
    case for case in BF16_CASES if case.name.endswith((" report", " odd sizes", " tanh", " wide", " all kinds", "covariates"))
]
# One factor in 40 goes another way in the second rounded layer, and the root of that share is 0.16.
NEAR = 0.16
# What `results` gives.
LOG_P, BEFORE, TRAINED, GRADIENT = range(4)
# The share of one tensor, or of the few rows that an estimate of log p(x) hangs on, varies more than that of all.
NEAR_IN_PART = 0.5
needs_cython = pytest.mark.skipif(engines.why_not("cython") is not None, reason=f"cython: {engines.why_not('cython')}")


def settings(case, **changes):
    return TrainingSettings(
        **{"batch_size": case.batch_size, "binarize": case.binarize, "seed": 11, "precision": case.precision, **changes}
    )


@cache
def start(case):
    layout = Layout(case.model)
    stds = np.random.default_rng(6).uniform(0.15, 1.5, case.model.pixels)
    return initial_parameters(layout, "fan-in", 4, pixel_stds=stds)


def engine_at_start(name, case, threads=2, **changes):
    engine = engines.create(name, case.model, settings(case, **changes), threads)
    engine.load_state(State.initial(start(case)))
    return engine


def first_rows(case):
    return np.arange(min(case.batch_size, case.examples))


def results(engine, case):
    """log p(x), the bound before training, and the terms and the gradient of the first step."""
    placed = engine.place(case.values())
    log_p, before = engine.importance_sample(placed, 7).log_likelihood, engine.evaluate(placed).elbo
    terms = engine.train(placed, first_rows(case))
    gradient = engine.state().first_moments.astype(np.float64) / (1 - settings(case).adam.beta1)
    return log_p, before, terms.elbo, gradient


@cache
def expected(case, precision):
    engine = ReferenceEngine(case.model, settings(case, precision=precision), 1, np.float64)
    engine.load_state(State.initial(start(case), np.float64))
    return results(engine, case)


def share(got, case, place, part=slice(None)):
    """How far a result is from the reference in bf16, in distances between that and the one in float32, both root mean square.

    Distances are no less than float32 itself makes them.
    """
    exact, plain = (expected(case, precision)[place] for precision in ("bf16", "float32"))
    least = TOLERANCES["gradient"] * np.max(np.abs(exact)) if place == GRADIENT else TOLERANCES["example_nats"]
    between = max(np.sqrt(np.mean((exact[part] - plain[part]) ** 2)), least)
    return np.sqrt(np.mean((got[part] - exact[part]) ** 2)) / between


def tensors(case):
    layout = Layout(case.model)
    numbers = layout.views(np.arange(layout.size))
    return {name: slice(int(places.min()), int(places.max()) + 1) for name, places in numbers.items()}


@by_engine_and(BF16_CASES)
def test_bounds_and_gradients_are_near_the_reference(name, case):
    engine = engine_at_start(name, case)
    got = results(engine, case)
    engine.close()
    assert share(got[BEFORE], case, BEFORE) < NEAR
    assert share(got[TRAINED], case, TRAINED) < NEAR
    assert share(got[GRADIENT], case, GRADIENT) < NEAR
    assert share(got[LOG_P], case, LOG_P) < NEAR_IN_PART
    for tensor, part in tensors(case).items():
        assert share(got[GRADIENT], case, GRADIENT, part) < NEAR_IN_PART, tensor


@by_engine
def test_the_check_of_nearness_notices_products_that_are_not_rounded(name):
    """An engine in float32 is a whole distance away, in every result, and in the gradient of every tensor."""
    case = BF16_CASES[0]
    engine = engine_at_start(name, case, precision="float32")
    got = results(engine, case)
    engine.close()
    assert all(0.9 < share(got[place], case, place) < 1.1 for place in (LOG_P, BEFORE, TRAINED, GRADIENT))
    assert all(share(got[GRADIENT], case, GRADIENT, part) > 0.9 for part in tensors(case).values())


@by_engine_and(BF16_CASES)
def test_the_first_product_of_the_decoder_is_exact_but_for_its_sum(name, case):
    """Its factors z are the same in both engines, so none of them goes another way: with no hidden layer that is the whole
    decoder. With some, a flip moves an output by no more than (77) allows."""
    engine, exact = engine_at_start(name, case), ReferenceEngine(case.model, settings(case), 1, np.float64)
    exact.load_state(State.initial(start(case), np.float64))
    z = np.random.default_rng(4).standard_normal((101, case.model.decoder_inputs)).astype(np.float32)
    got, wanted = engine.decode(z), exact.decode(z)
    engine.close()
    if not case.model.hidden:
        assert np.allclose(got, wanted, rtol=0, atol=TOLERANCES["activations"])
    assert np.mean(np.abs(got - wanted) < TOLERANCES["activations"]) > 0.25
    assert np.max(np.abs(got - wanted)) < 2**-6 * np.max(np.abs(wanted))


@by_engine_and(BF16_CASES)
def test_any_number_of_threads_gives_the_same_bits(name, case):
    values, order, found = case.values(), np.random.default_rng(1).permutation(case.examples), []
    for threads in (1, 2, 3, 4):
        engine = engine_at_start(name, case, threads)
        placed = engine.place(values)
        terms, evaluated = engine.train(placed, order), engine.evaluate(placed)
        sampled, state = engine.importance_sample(placed, 9), engine.state()
        found.append([state.parameters, state.first_moments, state.second_moments, *terms, *evaluated, *sampled])
        engine.close()
    for other in found[1:]:
        for first, array in zip(found[0], other, strict=True):
            assert np.array_equal(first, array)


@by_engine_and(SOME)
def test_a_run_cut_into_calls_and_moved_to_another_engine_is_the_same_run(name, case):
    """Weights are rounded anew where they are loaded, and nothing else is carried over."""
    values, order = case.values(), np.random.default_rng(2).permutation(case.examples)
    whole = engine_at_start(name, case)
    whole.train(whole.place(values), order)
    first, second = engine_at_start(name, case), engine_at_start(name, case, threads=1)
    first.train(first.place(values), order[: case.batch_size])
    second.load_state(first.state())
    second.train(second.place(values), order[case.batch_size :])
    for field in ("parameters", "first_moments", "second_moments", "step"):
        assert np.array_equal(getattr(whole.state(), field), getattr(second.state(), field)), field
    assert np.array_equal(whole.evaluate(whole.place(values)).elbo, second.evaluate(second.place(values)).elbo)
    for engine in (whole, first, second):
        engine.close()


@by_engine_and(BF16_CASES)
def test_a_rows_result_does_not_depend_on_the_rows_beside_it(name, case):
    engine = engine_at_start(name, case, threads=1)
    x = np.random.default_rng(5).random((131, case.model.pixels)).astype(np.float32)
    x = np.floor(9 * x * x) if case.model.counts else x
    told = case.told(131) if case.model.covariates else None
    x = x if told is None else Conditioned(x, told)
    mean, log_std = engine.encode(x)
    z = beside(mean, told)
    outputs = engine.decode(z)
    for row in (0, 1, 95, 98, 130):
        assert np.array_equal(engine.encode(x[row : row + 1])[0][0], mean[row])
        assert np.array_equal(engine.encode(x[row : row + 1])[1][0], log_std[row])
        assert np.array_equal(engine.decode(z[row : row + 1])[0], outputs[row])
    engine.close()


@by_engine
def test_the_sparse_and_the_dense_first_layer_give_the_same_bits(name, monkeypatch):
    """So the score of a row does not depend on how sparse the rows beside it are."""
    case, states = BF16_CASES[0], []
    for below in (0.0, 2.0):
        monkeypatch.setattr(images, "SPARSE_BELOW", below)
        engine = engine_at_start(name, case)
        engine.train(engine.place(case.values()), np.arange(case.examples))
        states.append(engine.state())
        engine.close()
    assert np.array_equal(states[0].parameters, states[1].parameters)
    assert np.array_equal(states[0].second_moments, states[1].second_moments)


@by_engine
def test_not_a_number_is_never_hidden(name):
    """In the first layer, in a rounded one of the encoder, and in the last."""
    case = BF16_CASES[0]
    for tensor in ("encoder.0.bias", "encoder.1.weight", "decoder.1.weight", "logits.weight"):
        engine = engine_at_start(name, case)
        state = engine.state()
        np.ravel(engine.layout.views(state.parameters)[tensor])[0] = np.nan
        engine.load_state(state)
        assert np.isnan(engine.train(engine.place(case.values()), first_rows(case)).elbo).all(), tensor
        engine.close()


def units():
    """The instruction sets of the Cython engine that this CPU has."""
    from vaefast.engines.cython_cpu import kernels

    found = []
    for name in ("AVX512-BF16", "AVX-512", "AVX2", "base"):
        try:
            kernels.unit(name)
            found.append(name)
        except ValueError:
            continue
    return found


@needs_cython
@by_case
def test_instruction_sets_with_fused_multiply_add_give_the_same_bits(case, monkeypatch):
    """vdpbf16ps, on the CPU that this was written on, is what the other sets do: first the odd factors, then the even ones."""
    found = []
    for unit in (unit for unit in units() if unit != "base"):
        monkeypatch.setenv("VAEFAST_VECTOR_UNIT", unit)
        engine = engine_at_start("cython", case)
        found.append(results(engine, case))
        engine.close()
    for other in found[1:]:
        for first, array in zip(found[0], other, strict=True):
            assert np.array_equal(first, array)


@needs_cython
@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_the_base_instruction_set_is_near_the_reference(case, monkeypatch):
    monkeypatch.setenv("VAEFAST_VECTOR_UNIT", "base")
    engine = engine_at_start("cython", case)
    got = results(engine, case)
    engine.close()
    assert share(got[BEFORE], case, BEFORE) < NEAR
    assert share(got[GRADIENT], case, GRADIENT) < NEAR


@needs_cython
@by_case
def test_no_element_outside_of_an_array_is_touched(case, monkeypatch):
    """The build with bounds checks: no error, and the same bits."""
    found = []
    for checked in ("0", "1"):
        monkeypatch.setenv("VAEFAST_CHECKED", checked)
        engine = engine_at_start("cython", case, threads=2 if case.batch_size > 1 else 3)
        engine.decode(np.zeros((3, case.model.decoder_inputs)))
        found.append(results(engine, case))
        engine.close()
    for first, array in zip(*found, strict=True):
        assert np.array_equal(first, array)
