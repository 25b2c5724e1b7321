"""What of `precision="bf16"` is the Numba engine's alone: objectives of several samples, clipping, CPUs without AVX512-BF16.

And that a model in float32 has no memory for it; that it compiles nothing of it is tried in test_numba_engine.py. The rest is
in test_bf16_engines.py.
"""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from cases import BF16_CASES, OBJECTIVES, TOLERANCES

from vaefast.engines.contract import State
from vaefast.engines.numba_cpu import NumbaEngine
from vaefast.engines.numba_cpu.bf16_plan import WEIGHT, WEIGHT_PAIRED, WEIGHT_STRIDE
from vaefast.engines.numba_cpu.target import AVX2, AVX512, UNIT
from vaefast.engines.plan import INPUTS, OUTPUT_PANELS
from vaefast.engines.plan import WEIGHT as IN_FLOAT32
from vaefast.engines.reference import ReferenceEngine
from vaefast.models.bfloat16 import rounded
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import PANEL, Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

by_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.name} {o.samples} {o.kl}")
# Rows that are no whole number of pairs for a worker, an image or a minibatch.
SOME = [case for case in BF16_CASES if case.name in ("bf16 tanh", "bf16 odd sizes")]
# As in test_bf16_engines.py: the share of the distance to float32 that factors which go another way may come to (77).
NEAR = 0.16
# Layers of many shapes, none of them hidden, covariates behind z; and a table, whose plan has another type.
SHAPES = ("bf16 report", "bf16 no hidden layer", "bf16 odd sizes and 16 covariates", "bf16 gaussian tanh with holes")
# A clipped step ends alike under every plan.
COPIED = [
    (case, clip_norm)
    for case in BF16_CASES
    for clip_norm in (None, 0.01)
    if case.name in SHAPES and not (case.model.in_blocks and clip_norm)
]


def settings(case, **changes):
    return TrainingSettings(
        **{"batch_size": case.batch_size, "binarize": case.binarize, "seed": 11, "precision": "bf16", **changes}
    )


def started(kind, case, *last, **changes):
    engine = kind(case.model, settings(case, **changes), *last)
    engine.load_state(State.initial(initial_parameters(engine.layout, "fan-in", 4), getattr(engine, "dtype", np.float32)))
    return engine


def first_step(engine, case):
    """The bound of each example and the gradient."""
    terms = engine.train(engine.place(case.values()), np.arange(min(case.batch_size, case.examples)))
    gradient = engine.state().first_moments.astype(np.float64) / (1 - engine.training.adam.beta1)
    return terms.objective, gradient


def distance(a, b):
    return np.sqrt(np.mean((a - b) ** 2))


@by_objective
@pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
def test_every_objective_is_near_the_reference_and_has_the_same_bits_on_any_number_of_threads(case, objective):
    exact, plain = (
        first_step(started(ReferenceEngine, case, 1, np.float64, objective=objective, precision=precision), case)
        for precision in ("bf16", "float32")
    )
    found = []
    for threads in (1, 2, 3):
        engine = started(NumbaEngine, case, threads, objective=objective)
        found.append(
            [*first_step(engine, case), engine.train(engine.place(case.values()), np.arange(case.examples)).objective]
        )
        found[-1].append(engine.state().parameters)
        engine.close()
    for got, wanted, other, tolerance in zip(found[0], exact, plain, ("example_nats", "gradient"), strict=False):
        least = TOLERANCES[tolerance] * (np.max(np.abs(wanted)) if tolerance == "gradient" else 1)
        assert distance(got, wanted) < NEAR * max(distance(wanted, other), least)
    for others in found[1:]:
        assert all(np.array_equal(one, other) for one, other in zip(found[0], others, strict=True))


def copies(engine):
    """Of each layer but the first the weights, (panels, inputs, 16), and both of their copies as bfloat16, unpaired."""
    plan, parameters = engine._network.plan, engine._updated.parameters
    halves = parameters.view(np.uint16)
    for layer, place in zip(plan.layers[1:], plan.bf16[1:], strict=True):
        panels, inputs, stride = layer[OUTPUT_PANELS], layer[INPUTS], place[WEIGHT_STRIDE]
        weight = parameters[layer[IN_FLOAT32] :][: panels * inputs * PANEL].reshape(panels, inputs, PANEL)
        plain, paired = (halves[place[at] :][: panels * stride].reshape(panels, -1, PANEL) for at in (WEIGHT, WEIGHT_PAIRED))
        paired = paired.reshape(panels, -1, PANEL, 2).swapaxes(2, 3).reshape(panels, -1, PANEL)
        yield weight, plain, paired


@pytest.mark.parametrize(("case", "clip_norm"), COPIED, ids=lambda part: getattr(part, "name", str(part)))
def test_after_every_step_both_copies_are_the_weights_rounded(case, clip_norm):
    engine = started(NumbaEngine, case, 2, clip_norm=clip_norm)
    placed = engine.place(case.values())
    for steps in range(3):
        engine.train(placed, np.arange(case.batch_size if steps else 0) % case.examples)
        for weight, *both in copies(engine):
            wanted = np.zeros_like(both[0], np.float32)
            wanted[:, : weight.shape[1]] = rounded(weight)
            for halves in both:
                assert np.array_equal((halves.astype(np.uint32) << 16).view(np.float32), wanted)
    engine.close()


def test_clipping_scales_the_gradient_before_the_weights_are_rounded():
    """A norm that nothing reaches gives the bits of a run without one."""
    case, states = BF16_CASES[1], []
    for clip_norm in (None, 1e9, 0.01):
        engine = started(NumbaEngine, case, 2, clip_norm=clip_norm)
        engine.train(engine.place(case.values()), np.arange(case.examples))
        states.append(engine.state().parameters)
        engine.close()
    assert np.array_equal(states[0], states[1])
    assert not np.array_equal(states[0], states[2])


SCRIPT = """
import hashlib, json, sys
import numpy as np
sys.path.insert(0, "tests/engines")
sys.path.insert(0, "tests")
from test_bf16_numba import digest
from vaefast.engines.numba_cpu.target import BF16_PAIRS, UNIT
print(json.dumps({"unit": UNIT.name, "pairs": BF16_PAIRS, "digest": digest()}))
"""


def digest():
    """Of all that a few steps give, whose passes forward round each factor twice, and decoding, which rounds it once."""
    parts = []
    for case in (BF16_CASES[0], BF16_CASES[6]):
        engine = started(NumbaEngine, case, 2)
        placed = engine.place(case.values())
        parts += [*engine.train(placed, np.arange(case.examples)), engine.state().parameters]
        parts.append(engine.decode(np.random.default_rng(4).standard_normal((37, case.model.decoder_inputs))))
        engine.close()
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def in_a_process(script, **environment):
    result = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.skipif(UNIT not in (AVX2, AVX512), reason="needs an x86 CPU with AVX2")
def test_a_cpu_without_the_instruction_gives_the_same_bits():
    features = "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+popcnt,+sse4.2"
    without = in_a_process(SCRIPT, NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=features)
    assert without == {"unit": "AVX2", "pairs": False, "digest": digest()}


def test_a_model_in_float32_has_no_memory_for_it():
    engines = [
        NumbaEngine(ModelSettings(20, (18, 11), 4), TrainingSettings(batch_size=6, precision=precision), 1)
        for precision in ("float32", "bf16")
    ]
    sizes = [[e._updated.parameters.size, e._buffers[0].workspace.size, e._forward_size] for e in engines]
    assert engines[0]._updated.parameters.size == Layout(engines[0].model).panel_size
    assert all(plain < rounds for plain, rounds in zip(*sizes, strict=True))
    for engine in engines:
        engine.close()
