"""How many copies of its parameters and moments a large model takes while it is trained."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from vaefast import VAE, engines
from vaefast.engines.contract import State
from vaefast.models.count_rows import CountRows
from vaefast.models.settings import ModelSettings, TrainingSettings
from vaefast.training import divergence, trainer
from vaefast.training.initial_state import initial_state

# Rows of independent columns have nothing to encode.
pytestmark = pytest.mark.filterwarnings("ignore:posterior collapse")
COLUMNS, HIDDEN, ROWS, BATCH = 6_000, 320, 24, 8
# Of one copy: parameters and both moments, float32.
STATE = 3 * 4 * 2 * COLUMNS * HIDDEN
# Anything else: lists, outputs, workspaces, what a draw takes.
REST = STATE // 2
FOR_CPU = [
    pytest.param(name, marks=pytest.mark.skipif(engines.why_not(name) is not None, reason=f"{name}: {engines.why_not(name)}"))
    for name in ("cython", "numba")
]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return sparse.csr_array((rng.random((ROWS, COLUMNS)) < 0.01).astype(np.float32))


class Traced:
    """The largest amount of memory that was held at a time, over what was held before."""

    def __enter__(self):
        tracemalloc.start()
        return self

    def __exit__(self, *error):
        self.peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()


@pytest.mark.parametrize("name", FOR_CPU)
@pytest.mark.parametrize(("largest_kept", "copies"), [(2 * STATE, 1), (0, 0)])
def test_training_adds_one_copy_to_that_of_the_engine_and_none_to_a_larger_one(table, name, largest_kept, copies, monkeypatch):
    monkeypatch.setattr(divergence, "LARGEST_KEPT", largest_kept)
    monkeypatch.setattr(divergence, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(divergence, "STATE_SHARE", 0.0)
    model = ModelSettings(COLUMNS, (HIDDEN,), 3, likelihood="multinomial", encoder_input="log1p")
    training = TrainingSettings(batch_size=BATCH, epochs=2, binarize="none")
    engine, rows = engines.create(name, model, training, 2), CountRows.of(table)
    engine.load_state(initial_state(model, training, rows))
    engine.warm_up(engine.place(rows))
    with Traced() as traced:
        list(trainer.train(engine, rows, rows[:3], training))
    assert copies * STATE <= traced.peak < copies * STATE + REST


@pytest.mark.parametrize(("settings", "copies"), [({}, 2), ({"early_stopping": True}, 3)])
def test_a_fit_holds_the_model_and_the_copies_that_it_needs(table, settings, copies):
    vae = VAE(3, hidden_layer_sizes=(HIDDEN,), likelihood="multinomial", batch_size=BATCH, epochs=3, random_state=0, n_jobs=2)
    vae.set_params(**settings).fit(table[:, :50])  # what is made once, such as kernels
    with Traced() as traced:
        vae.fit(table)
    assert copies * STATE <= traced.peak < copies * STATE + REST


@pytest.mark.parametrize("name", engines.ENGINES)
def test_a_state_is_written_over_another(name):
    if (reason := engines.why_not(name)) is not None:
        pytest.skip(reason)
    model, training = ModelSettings(37, (18,), 3), TrainingSettings(batch_size=5)
    values = np.random.default_rng(0).integers(0, 256, (9, 37)).astype(np.uint8)
    engine = engines.create(name, model, training, 2)
    engine.load_state(initial_state(model, training, values))
    engine.train(engine.place(values), np.arange(9))
    kept = State.zeros(engine.layout.size)
    assert engine.state(kept) is kept
    for name_of, vector in vars(engine.state()).items():
        np.testing.assert_array_equal(getattr(kept, name_of), vector)
    assert engine.is_finite()
    for vector in kept.vectors:
        number, vector[-1] = vector[-1], np.nan
        engine.load_state(kept)
        assert not engine.is_finite()
        vector[-1] = number
