"""What is the Cython engine's alone: the Numba engine's bits, instruction sets, the build with bounds checks, no Numba."""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest
from cases import (
    BF16_CASES,
    BF16_IN_NUMBA,
    BLOCK_CASES,
    CASES,
    COUNT_CASES,
    COVARIATE_CASES,
    OBJECTIVE_CASES,
    OBJECTIVES,
    TOLERANCES,
    Case,
    numba_compiles,
)

from vaefast import engines
from vaefast.engines.contract import Pace, State
from vaefast.engines.plan import make_plan
from vaefast.errors import EngineUnavailable, SettingsError
from vaefast.models.conditions import Conditioned, beside
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, ObjectiveSettings, TrainingSettings

needs_extension = pytest.mark.skipif(engines.why_not("cython") is not None, reason=f"cython: {engines.why_not('cython')}")
# What the engine can do.
OWN_CASES = [case for case in CASES + BF16_CASES if f"likelihood {case.model.likelihood}" not in engines.LACKING["cython"]]
by_case = pytest.mark.parametrize("case", OWN_CASES, ids=lambda case: case.name)
SHARED = [case for case in OWN_CASES if case not in BF16_CASES or case in BF16_IN_NUMBA]
# Wide enough for every tile, small, grey and of odd sizes; each likelihood, of counts without the longest.
SOME = [CASES[i] for i in (0, 1, 3, 6, 12, 13, 24, 30)]
SOME += [case for case in COUNT_CASES if case.name.endswith((" tanh", " odd sizes"))]
SOME += BLOCK_CASES[::3]
SOME += [case for case in COVARIATE_CASES if not case.model.counts or case.sized]
BF16_ODD = next(case for case in BF16_CASES if case.name.endswith(" odd sizes"))
by_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.name} {o.samples} {o.kl}")
by_objective_case = pytest.mark.parametrize("case", [*OBJECTIVE_CASES, BF16_ODD], ids=lambda case: case.name)
WIDE = Case(
    "wide counts", ModelSettings(70_000, (4,), 2, likelihood="negative-binomial", encoder_input="log1p"), 4, 7, 1e-4, "none"
)


def engine_of(name, case, threads=2, **changes):
    training = TrainingSettings(
        batch_size=case.batch_size, binarize=case.binarize, seed=5, precision=case.precision, **changes
    )
    engine = engines.create(name, case.model, training, threads)
    layout = Layout(case.model)
    stds = np.full(case.model.pixels, 0.3)
    engine.load_state(State.initial(initial_parameters(layout, "glorot", 0, pixel_stds=stds)))
    return engine


def everything(engine, case):
    """All that an engine returns for a case: terms, state, evaluation, codes and logits."""
    placed = engine.place(case.values())
    terms = engine.train(placed, np.random.default_rng(0).permutation(case.examples))
    rows = np.random.default_rng(1).random((23, case.model.pixels))
    rows = np.floor(9 * rows * rows) if case.model.counts else rows
    told = case.told(23) if case.model.covariates else None
    state, codes = engine.state(), engine.encode(rows if told is None else Conditioned(rows, told))
    result = [state.parameters, state.first_moments, state.second_moments, *terms, *engine.evaluate(placed), *codes]
    result.append(engine.decode(beside(codes[0], told)))
    engine.close()
    return result


def units():
    """The instruction sets that this CPU has."""
    from vaefast.engines.cython_cpu import kernels

    found = []
    for name in ("AVX-512", "AVX2", "base"):
        try:
            found.append(kernels.unit(name)[0])
        except ValueError:
            continue
    return found


@pytest.fixture
def unit_of_numba(monkeypatch):
    """The Numba engine's unit is asked for, as a fused multiply-add rounds once."""
    target = pytest.importorskip("vaefast.engines.numba_cpu.target", reason="Numba is not installed")
    name = {"NEON": "base", "SSE": "base"}.get(target.UNIT.name, target.UNIT.name)
    monkeypatch.setenv("VAEFAST_VECTOR_UNIT", "AVX512-BF16" if target.BF16_PAIRS else name)


@needs_extension
@pytest.mark.parametrize("case", SHARED, ids=lambda case: case.name)
def test_the_numba_engine_gives_the_same_bits(case, unit_of_numba):
    """Two compilers, one order of operations."""
    ours, theirs = everything(engine_of("cython", case), case), everything(engine_of("numba", case), case)
    for got, expected in zip(ours, theirs, strict=True):
        assert np.array_equal(got, expected)


@needs_extension
@by_objective
@by_objective_case
def test_every_objective_has_the_bits_of_the_numba_engine(case, objective, unit_of_numba, monkeypatch):
    """By the kernels as they are released, and by those with bounds checks on other numbers of threads, which have the same
    bits where the Numba engine does not compile an objective, too."""
    released = everything(engine_of("cython", case, objective=objective), case)
    found = [everything(engine_of("numba", case, objective=objective), case)] if numba_compiles(case, objective) else []
    monkeypatch.setenv("VAEFAST_CHECKED", "1")
    found += [everything(engine_of("cython", case, threads, objective=objective), case) for threads in (1, 2, 3)]
    for others in found:
        for got, expected in zip(released, others, strict=True):
            assert np.array_equal(got, expected)


@needs_extension
def test_a_weight_of_the_kl_for_each_step_has_the_bits_of_the_numba_engine(unit_of_numba):
    case, found = CASES[1], []
    for name in ("cython", "numba"):
        engine = engine_of(name, case, objective=ObjectiveSettings("beta", 2))
        pace = Pace(np.array([1e-3, 2e-3, 5e-4]), np.array([0.0, 0.7, 2.0]))
        terms = engine.train(engine.place(case.values()), np.arange(case.examples), pace)
        found.append([*terms, engine.state().parameters])
        engine.close()
    for got, expected in zip(*found, strict=True):
        assert np.array_equal(got, expected)


@needs_extension
@pytest.mark.parametrize("objective", [ObjectiveSettings(), ObjectiveSettings("dreg", 3)], ids=lambda o: o.name)
@pytest.mark.parametrize("case", [CASES[6], CASES[8], CASES[18], BF16_ODD], ids=lambda case: case.name)
def test_clipped_gradients_have_the_bits_of_the_numba_engine(case, objective, unit_of_numba, monkeypatch):
    """Where a gradient is kept before its step, Numba's sources do not see the objective: one model has both there."""
    changes = {"objective": objective, "clip_norm": 0.3}
    released, both = everything(engine_of("cython", case, **changes), case), case in (CASES[6], CASES[8])
    found = [everything(engine_of("numba", case, **changes), case)] if both or objective.name == "elbo" else []
    monkeypatch.setenv("VAEFAST_CHECKED", "1")
    found += [everything(engine_of("cython", case, threads, **changes), case) for threads in (1, 3)]
    for others in found:
        for got, expected in zip(released, others, strict=True):
            assert np.array_equal(got, expected)


@needs_extension
@by_objective
@pytest.mark.parametrize("case", [CASES[6], CASES[13], BLOCK_CASES[0]], ids=lambda case: case.name)
def test_every_objective_has_the_same_bits_on_instruction_sets_with_a_fused_multiply_add(case, objective, monkeypatch):
    fused = []
    for name in units():
        monkeypatch.setenv("VAEFAST_VECTOR_UNIT", name)
        found = everything(engine_of("cython", case, objective=objective, clip_norm=0.3), case)
        if name != "base":
            fused.append(found)
        elif fused:
            assert np.allclose(found[3], fused[0][3], rtol=0, atol=TOLERANCES["example_nats"])
    for other in fused[1:]:
        for got, expected in zip(fused[0], other, strict=True):
            assert np.array_equal(got, expected)


@needs_extension
@pytest.mark.parametrize("case", SOME + BF16_IN_NUMBA[::3], ids=lambda case: case.name)
def test_samples_of_a_row_have_the_bits_of_the_numba_engine(case, unit_of_numba):
    """log p(x), and the weights and means of what is missing: whole chunks of samples, a part of one, and other numbers."""
    found = []
    for name, threads in (("cython", 3), ("numba", 2)):
        engine = engine_of(name, case, threads)
        placed, keys = engine.place(case.values()), 7 + 3 * np.arange(case.examples)
        results = [*engine.importance_sample(placed, 130), *engine.importance_sample(placed, 7, keys)]
        results += engine.impute(placed, 130, keys) if case.model.in_blocks else []
        found.append(results)
        engine.close()
    for got, expected in zip(*found, strict=True):
        assert np.array_equal(got, expected)


@needs_extension
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", COUNT_CASES, ids=lambda case: case.name)
def test_counts_have_the_bits_of_the_numba_engine_whatever_its_threads(case, threads, unit_of_numba):
    ours, theirs = (
        everything(engine_of("cython", case, threads), case),
        everything(engine_of("numba", case, 4 - threads), case),
    )
    for got, expected in zip(ours, theirs, strict=True):
        assert np.array_equal(got, expected)


def extreme_counts(case):
    """Counts from 0 to 1e7, a row and a column of zeros."""
    rng = np.random.default_rng(2)
    counts = np.floor(10.0 ** rng.uniform(0, 7, (case.examples, case.model.pixels))).astype(np.int64)
    counts *= rng.random(counts.shape) < 0.5
    counts[3], counts[:, 5] = 0, 0
    counts[0, 0] = 10**7
    return counts


@needs_extension
@pytest.mark.parametrize("zeros", [False, True])
def test_extreme_counts_have_the_bits_of_the_numba_engine(zeros, unit_of_numba):
    """Dispersions past both bounds, outputs far apart, counts to 1e7."""
    model = ModelSettings(40, (9,), 3, likelihood="negative-binomial", zero_inflation=zeros, encoder_input="log1p")
    case, results = Case("extreme", model, 16, 37, 0.5, "none"), []
    counts = extreme_counts(case)
    for name, threads in (("cython", 1), ("cython", 2), ("numba", 2)):
        engine = engine_of(name, case, threads)
        state, rng = engine.state(), np.random.default_rng(3)
        tensors = engine.layout.views(state.parameters)
        tensors["x_log_dispersion"][...] = np.linspace(-11, 15, 40)
        for tensor in ("logits.bias", "zero_logits.bias") if zeros else ("logits.bias",):
            tensors[tensor][...] = rng.normal(0, 20, 40)
        engine.load_state(state)
        placed = engine.place(counts)
        terms = [*engine.evaluate(placed), *engine.train(placed, np.arange(case.examples)), *engine.evaluate(placed)]
        results.append([*terms, engine.state().first_moments, engine.state().parameters])
        engine.close()
    assert np.isfinite(results[0][0]).all()
    for other in results[1:]:
        for got, expected in zip(results[0], other, strict=True):
            assert np.array_equal(got, expected, equal_nan=True)


@needs_extension
def test_columns_past_65_535_have_the_bits_of_the_numba_engine(unit_of_numba, monkeypatch):
    theirs, released = everything(engine_of("numba", WIDE), WIDE), everything(engine_of("cython", WIDE), WIDE)
    monkeypatch.setenv("VAEFAST_CHECKED", "1")
    for ours in (released, everything(engine_of("cython", WIDE, 3), WIDE)):
        for got, expected in zip(ours, theirs, strict=True):
            assert np.array_equal(got, expected)


@needs_extension
def test_rows_of_counts_may_grow_longer_from_call_to_call(monkeypatch):
    """The lists of a minibatch begin without room, and are made anew for a set with longer rows."""
    monkeypatch.setenv("VAEFAST_CHECKED", "1")
    case = next(case for case in COUNT_CASES if case.name == "negative-binomial tanh")
    values = case.values()
    sparse = np.where(np.arange(case.model.pixels) < 3, values, 0)
    states = []
    for sets in ((sparse, values), (values, sparse, np.zeros_like(values))):
        engine = engine_of("cython", case, 2)
        for rows in sets:
            engine.load_state(engine_of("cython", case).state())
            engine.train(engine.place(rows), np.arange(case.examples))
            states.append(engine.state().parameters)
        engine.close()
    assert np.array_equal(states[0], states[3])
    assert np.array_equal(states[1], states[2])


@needs_extension
def test_a_column_that_is_not_there_is_caught_in_the_checked_build(monkeypatch):
    monkeypatch.setenv("VAEFAST_CHECKED", "1")
    case = next(case for case in COUNT_CASES if case.name == "multinomial tanh")
    engine = engine_of("cython", case, threads=1)
    placed = engine.place(case.values())
    placed.images.pixels[-1] = case.model.pixels
    with pytest.raises(IndexError, match="elements"):
        engine.train(placed, np.arange(case.examples))
    engine.close()


@needs_extension
@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_instruction_sets_with_a_fused_multiply_add_give_the_same_bits_and_others_nearly(case, monkeypatch):
    results = {}
    for name in units():
        monkeypatch.setenv("VAEFAST_VECTOR_UNIT", name)
        results[name] = everything(engine_of("cython", case), case)
    assert results
    for got, expected in zip(results.get("AVX2", []), results.get("AVX-512", []), strict=False):
        assert np.array_equal(got, expected)
    widest = results[units()[0]]
    for terms in (3, 4, 5, 6):
        assert np.allclose(results["base"][terms], widest[terms], rtol=0, atol=TOLERANCES["example_nats"])


@needs_extension
@by_case
def test_no_index_leaves_its_array_in_the_checked_build(case, monkeypatch):
    from vaefast.engines.cython_cpu import checked

    released = everything(engine_of("cython", case), case)
    monkeypatch.setenv("VAEFAST_CHECKED", "1")
    for threads in (1, 2, 3):
        engine = engine_of("cython", case, threads)
        assert isinstance(engine._workers[0], checked.Worker)
        for got, expected in zip(everything(engine, case), released, strict=True):
            assert np.array_equal(got, expected)


@needs_extension
@pytest.mark.parametrize("field", ["z", "linear", "rows"])
def test_the_checked_build_catches_a_wrong_offset_and_no_worker_waits_for_the_one_that_failed(field, monkeypatch):
    monkeypatch.setenv("VAEFAST_CHECKED", "1")
    case = CASES[1]
    engine = engine_of("cython", case)
    plan, size = make_plan(engine.layout, case.batch_size)
    workspace = np.zeros(size, np.float32)
    engine._workers = engine._train_workers(plan._replace(**{field: size}), workspace)
    with pytest.raises((IndexError, RuntimeError), match=r"elements|bounds|another worker failed"):
        engine.train(engine.place(case.values()), np.arange(case.batch_size))
    engine.close()


@needs_extension
def test_an_example_that_is_not_there_is_caught_in_the_checked_build(monkeypatch):
    monkeypatch.setenv("VAEFAST_CHECKED", "1")
    case = CASES[1]
    engine = engine_of("cython", case, threads=1)
    placed = engine.place(case.values())
    with pytest.raises(IndexError, match=r"elements|bounds"):
        engine.train(placed, np.array([0, case.examples + 7]))
    engine.close()


@needs_extension
def test_an_instruction_set_that_is_not_here_is_refused(monkeypatch):
    monkeypatch.setenv("VAEFAST_VECTOR_UNIT", "MMX")
    with pytest.raises(SettingsError, match=re.escape("VAEFAST_VECTOR_UNIT is 'MMX'")):
        engine_of("cython", CASES[1])


@needs_extension
def test_the_floating_point_mode_is_put_back():
    """Kernels set numbers this small to 0 while they run; here one runs in the thread that looks afterwards."""
    case = CASES[1]
    engine = engine_of("cython", case, threads=1)
    called = []

    def in_this_thread(kernel, arguments):
        called.append(kernel)
        kernel(*arguments[0])

    engine._team.run = in_this_thread
    engine.train(engine.place(case.values()), np.arange(case.examples))
    assert called
    assert np.float32(1e-38) * np.float32(0.5) > 0
    engine.close()


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None
sys.modules["llvmlite"] = None
from vaefast.train import main
code = main(["--data", "digits", "--epochs", "1", "--hidden", "9", *sys.argv[2:], "--out", sys.argv[1]])
raise SystemExit(code)
"""


@needs_extension
@pytest.mark.parametrize(
    "flags",
    [(), ("--objective", "dreg"), ("--objective", "beta", "--kl-warm-up", "linear"), ("--samples", "2", "--clip-norm", "1")],
)
def test_a_run_needs_no_numba(tmp_path, flags):
    command = [sys.executable, "-c", WITHOUT_NUMBA, str(tmp_path / "run"), *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "engine cython" in result.stdout


def test_without_the_extension_one_line_says_what_to_do_and_auto_takes_another(monkeypatch):
    found = importlib.util.find_spec

    def without(name, package=None):
        return None if name == "vaefast.engines.cython_cpu.kernels" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(EngineUnavailable, match="engine cython cannot run here: its extension was not built; install"):
        engines.create("cython", ModelSettings(), TrainingSettings(), 1)
    assert engines.choose("auto") != "cython"


@needs_extension
def test_an_extension_that_cannot_be_loaded_says_why(monkeypatch):
    import vaefast.engines.cython_cpu

    monkeypatch.delattr(vaefast.engines.cython_cpu, "kernels", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: object())
    monkeypatch.setitem(sys.modules, "vaefast.engines.cython_cpu.kernels", None)
    assert "cannot be loaded" in engines.why_not("cython")
