"""Run on several ranks by `test_distributed.py`: trains CASES with all of them and with one, and prints how they differ.

The argument is the group of cases: `images`, or `rows` of counts, with covariates, and of tables in blocks."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
from cases import CASES

from vaefast import engines
from vaefast.engines import distributed
from vaefast.engines.contract import Pace, State
from vaefast.engines.distributed.ranks import MPI, RANK_ORDER, SHARED_MEMORY
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ObjectiveSettings, TrainingSettings

# Sparse and dense data, more ranks than examples in a minibatch, a Gaussian, clipping, samples with weights.
IMAGES = [
    (0, {}),
    (1, {"clip_norm": 0.5}),
    (3, {}),
    (4, {}),
    (6, {}),
    (7, {}),
    (9, {}),
    (13, {}),
    (1, {"objective": ObjectiveSettings("iwae", samples=3)}),
]
# Every likelihood of counts, a row of zeros, counts past a byte, sizes of the rows, covariates that the encoder sees or not,
# beside lists and whole rows; missing values and every kind of column.
ROWS = [
    ("negative-binomial tanh", {"clip_norm": 0.5}),
    ("zero-inflated negative-binomial many rows", {}),
    ("multinomial wide", {"input_dropout": 0.3}),
    ("poisson odd sizes and 4 covariates", {"objective": ObjectiveSettings(samples=3)}),
    ("negative-binomial tanh and 11 covariates", {}),
    ("multinomial batch of one and 1 covariates", {}),
    ("tanh and 3 covariates", {}),
    ("many rows and 2 covariates", {}),
    ("gaussian no hidden layer and 1 covariates", {}),
    ("student-t tanh with holes", {"clip_norm": 0.5}),
    ("bernoulli many rows with holes", {}),
    ("all kinds with holes", {}),
    ("wide kinds", {}),
]
NUMBERS = {case.name: number for number, case in enumerate(CASES)}
VARIANTS = {"images": IMAGES, "rows": [(NUMBERS[name], changes) for name, changes in ROWS]}


def results(engine, case, state, order):
    engine.load_state(state)
    placed = engine.place(case.values())
    engine.warm_up(placed)
    steps = -(-len(order) // case.batch_size)
    terms = engine.train(placed, order, Pace(np.full(steps, 1e-3), np.ones(steps)))
    keys = np.arange(case.examples) + 7
    evaluated, sampled = engine.evaluate(placed, keys), engine.importance_sample(placed, 5, keys)
    after = engine.state()
    some = case.values()[:3]
    heads = engine.encode(some / np.float32(255) if isinstance(some, np.ndarray) and some.dtype == np.uint8 else some)
    engine.close()
    return terms, evaluated, sampled, after, heads


def compared(ranks, case, changes):
    training = TrainingSettings(batch_size=case.batch_size, binarize=case.binarize, seed=11, **changes)
    start = initial_parameters(Layout(case.model), "fan-in", 4, pixel_stds=np.ones(case.model.pixels))
    order = np.concatenate([np.random.default_rng(i).permutation(case.examples) for i in range(20)])
    order = order[: 19 * case.batch_size + max(1, case.batch_size // 2)]  # the last minibatch is ragged
    # The bits are those of Numba's engine, and nothing is compiled for them.
    name = "cython" if engines.why_not("cython") is None else "numba"
    one = results(engines.create(name, case.model, training, 1), case, State.initial(start), order)
    found = {"name": case.name, "digests": []}
    for reduction in (MPI, RANK_ORDER, RANK_ORDER, SHARED_MEMORY):
        many = results(distributed.lead(ranks, case.model, training, 1, reduction), case, State.initial(start), order)
        batches = np.arange(case.batch_size, len(order), case.batch_size)
        for number, name in enumerate(("terms", "evaluated", "sampled")):
            for field, mine, theirs in zip(one[number]._fields, many[number], one[number], strict=True):
                found.setdefault(f"{name}.{field}", []).append(float(np.abs(mine - theirs).max()))
        losses = [np.array([part.mean() for part in np.split(terms.objective, batches)]) for terms in (one[0], many[0])]
        found.setdefault("losses", []).append(float(np.abs(losses[0] - losses[1]).max()))
        found.setdefault("parameters", []).append(float(np.abs(one[3].parameters - many[3].parameters).max()))
        found.setdefault("steps", []).append(many[3].step == one[3].step)
        parts = [many[3].parameters, many[3].first_moments, many[3].second_moments, *many[0], *many[1], *many[2], *many[4]]
        found["digests"].append(hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest())
    return found


def main():
    ranks = distributed.join()
    try:
        if ranks.rank:
            distributed.follow(ranks)
            return
        for number, changes in VARIANTS[sys.argv[1]]:
            print(json.dumps(compared(ranks, replace(CASES[number]), changes)), flush=True)
        distributed.end(ranks)
    except BaseException:
        import traceback

        traceback.print_exc()
        ranks.abort(1)


sys.exit(main())
