"""Numbers that are not finite: named with epoch, step and tensor, and never saved."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case

from tests.faults import runs
from vaefast import engines
from vaefast.engines.contract import BoundTerms, Pace, State
from vaefast.errors import DivergenceError
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import AdamSettings, TrainingSettings
from vaefast.runs.checkpoint import CheckpointFolder
from vaefast.training import divergence, trainer

CASE = CASES[1]
STEPS = -(-CASE.examples // CASE.batch_size)  # of an epoch: three, the last of them smaller
by_engine = pytest.mark.parametrize("name", [name for name in engines.ENGINES if engines.why_not(name) is None])


def engine_at_start(name: str, case: Case = CASE, **changes: Any) -> Any:
    settings: dict[str, Any] = {"batch_size": case.batch_size, "binarize": case.binarize, **changes}
    engine = engines.create(name, case.model, TrainingSettings(**settings), 2)
    engine.load_state(State.initial(initial_parameters(Layout(case.model), "fan-in", 4)))
    return engine


def at_step(pace: Any, step: int) -> Any:
    return None if pace is None else Pace(*(values[step : step + 1] for values in pace))


class Poisoned:
    """An engine in whose state a number goes wrong after one step, each time that this step is taken."""

    def __init__(self, engine: Any, step: int, vector: str, tensor: str, value: float) -> None:
        self.engine, self.at, self.vector, self.tensor, self.value = engine, step, vector, tensor, value

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def train(self, placed: Any, order: Any, pace: Any = None) -> BoundTerms:
        size = self.engine.training.batch_size
        parts = []
        for first in range(0, len(order), size):
            parts.append(self.engine.train(placed, order[first : first + size], at_step(pace, first // size)))
            if self.engine.step == self.at:
                state = self.engine.state()
                self.engine.layout.views(getattr(state, self.vector))[self.tensor].flat[-1] = self.value
                self.engine.load_state(state)
        return BoundTerms.concatenate(parts)


def complaint(engine: Any, epochs: int = 4, case: Case = CASE, **options: Any) -> str:
    """What training says when it ends with a DivergenceError."""
    values = case.values()
    with pytest.raises(DivergenceError) as caught, np.errstate(all="ignore"):
        list(trainer.train(engine, values, values[:7], replace(engine.training, epochs=epochs), **options))
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)
    return str(caught.value)


def place(step: int, steps: int = STEPS) -> str:
    return f"in epoch {(step - 1) // steps + 1}, minibatch {(step - 1) % steps + 1} (step {step})"


@by_engine
@pytest.mark.parametrize("step", [1, 2, STEPS, STEPS + 1, 3 * STEPS])
@pytest.mark.parametrize("tensor", ["decoder.0.weight", "log_std.bias"])
def test_a_tensor_is_named_with_its_step(name, step, tensor):
    engine = Poisoned(engine_at_start(name), step, "parameters", tensor, np.nan)
    message = complaint(engine)
    assert message.startswith(f"{tensor} no longer finite {place(step)}, though the loss still is")
    assert "--learning-rate" in message


@by_engine
@pytest.mark.parametrize("vector", ["parameters", "first_moments", "second_moments"])
@pytest.mark.parametrize("often", [0.0, 1e9])
def test_what_hides_behind_a_relu_is_found(name, vector, often, monkeypatch):
    """An infinite bias of a hidden unit that is off: no loss ever shows it."""
    monkeypatch.setattr(divergence, "STATE_SECONDS", often)
    monkeypatch.setattr(divergence, "STATE_SHARE", 0.0)
    case = next(case for case in CASES if case.name == "odd sizes")
    training = TrainingSettings(batch_size=case.batch_size, binarize=case.binarize, adam=AdamSettings(learning_rate=0.0))
    engine = engines.create(name, case.model, training, 2)
    engine.load_state(State.initial(initial_parameters(Layout(case.model), "fan-in", 4)))
    value = -np.inf if vector == "parameters" else np.inf
    poisoned = Poisoned(engine, 3, vector, "encoder.0.bias", value)
    values = case.values()
    with pytest.raises(DivergenceError) as caught, np.errstate(all="ignore"):
        list(trainer.train(poisoned, values, values[:3], replace(training, epochs=2)))
    words = {"parameters": "", "first_moments": "the first moment of ", "second_moments": "the second moment of "}[vector]
    assert str(caught.value).startswith(f"{words}encoder.0.bias no longer finite in epoch 1, minibatch 3 (step 3)")


@by_engine
@pytest.mark.parametrize("rate", [1e4, 1e6])
@pytest.mark.parametrize("piece", [1, 2, 64])
def test_the_step_that_is_named_is_the_first(name, rate, piece, monkeypatch):
    """Against a loop that looks at everything after each step; ReLU layers multiply weights of this size."""
    case = next(case for case in CASES if case.name == "drawn floats")
    steps = -(-case.examples // case.batch_size)
    monkeypatch.setattr(trainer, "_next_piece", lambda now, elapsed: piece)
    adam = AdamSettings(learning_rate=rate)
    message = complaint(engine_at_start(name, case, adam=adam), epochs=20, case=case)
    engine, values = engine_at_start(name, case, adam=adam), case.values()
    placed, step = engine.place(values), 0
    with np.errstate(all="ignore"):
        for epoch in range(1, 21):
            order = trainer.noise.permutation(0, trainer.noise.Purpose.EXAMPLE_ORDER, epoch, len(values))
            for first in range(0, len(order), case.batch_size):
                step += 1
                terms = engine.train(placed, order[first : first + case.batch_size])
                state = engine.state()
                vectors = (*terms, state.parameters, state.first_moments, state.second_moments)
                if not all(np.isfinite(vector).all() for vector in vectors):
                    found = place(step, steps)
                    assert found in message
                    finite = np.isfinite(terms.elbo).all()
                    assert ("though the loss still is" in message) == finite
                    return
            evaluated = engine.evaluate(engine.place(values[:7]))
            if not np.isfinite(evaluated.elbo).all():
                assert f"the test set after epoch {epoch} (step {step})" in message
                return
    raise AssertionError("nothing went wrong in this loop")


@by_engine
def test_a_wrong_start_is_named(name):
    engine = engine_at_start(name)
    state = engine.state()
    Layout(CASE.model).views(state.parameters)["mean.weight"][0, 0] = np.inf
    engine.load_state(state)
    assert complaint(engine).startswith("mean.weight is not finite before the first step")


@by_engine
def test_what_does_not_happen_again_is_blamed_on_the_machine(name):
    engine = Poisoned(engine_at_start(name), 2, "parameters", "logits.bias", np.nan)
    original = engine.engine.load_state

    def cured(state: State) -> None:
        original(state)
        if np.isfinite(state.parameters).all():  # put back by the guard
            engine.at = -1

    engine.load_state = cured
    assert "suspect this machine's memory" in complaint(engine)


@by_engine
def test_no_state_that_is_not_finite_is_ever_handed_out(name):
    """Whoever asks for a state at any pause gets a finite one, or the error."""
    engine = Poisoned(engine_at_start(name), 5, "second_moments", "encoder.1.weight", np.inf)
    states = []

    def pause(position: Any, state: Any) -> bool:
        states.append(state().copy())
        return True

    complaint(engine, on_pause=pause)
    assert [state.step for state in states][-1] <= 4
    assert all(np.isfinite(state.second_moments).all() for state in states)


@by_engine
@pytest.mark.parametrize(
    ("piece", "last", "others"), [(1, STEPS + 1, ""), (2, STEPS + 2, f" at the latest, and after step {STEPS}")]
)
def test_a_large_model_keeps_no_state_and_names_the_steps_since_the_last_look(name, piece, last, others, monkeypatch):
    """Looked at after each piece: of two minibatches the first goes wrong, and the loss of the second shows it."""
    monkeypatch.setattr(divergence, "LARGEST_KEPT", 0)
    monkeypatch.setattr(divergence, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(divergence, "STATE_SHARE", 0.0)
    monkeypatch.setattr(trainer, "_next_piece", lambda now, elapsed: piece)
    message = complaint(Poisoned(engine_at_start(name), STEPS + 1, "parameters", "log_std.bias", np.nan))
    assert place(last) + others + ("," if piece == 1 else ", which spoils") in message
    assert ("though the loss still is" in message) == (piece == 1)
    assert ("log_std.bias" if piece == 1 else "encoder.0.weight") in message


@by_engine
def test_states_of_a_large_model_are_handed_out_as_they_are_then(name, monkeypatch):
    monkeypatch.setattr(divergence, "LARGEST_KEPT", 0)
    engine, states = engine_at_start(name), []

    def pause(position: Any, state: Any) -> bool:
        states.append((engine.step, state()))
        return True

    values = CASE.values()
    list(trainer.train(engine, values, values[:7], replace(engine.training, epochs=2), on_pause=pause))
    assert [step for step, _ in states] == [state.step for _, state in states]
    np.testing.assert_array_equal(states[-1][1].parameters, engine.state().parameters)
    assert not np.array_equal(states[0][1].parameters, states[-1][1].parameters)


@pytest.mark.parametrize("engine", ["numba", "reference"])
def test_the_last_good_checkpoint_is_kept_and_resumes_to_the_same_end(tmp_path, monkeypatch, engine):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer, "_next_piece", lambda piece, elapsed: 1)
    data = runs.tiny_images(tmp_path / "grey.npy", 60, 30)
    arguments = ("--data", data, *runs.TINY, "--engine", engine, "--learning-rate", "1e6", "--epochs", "500", "--seed", "2")
    arguments += ("--hidden", "31", "16", "--latent", "16")
    code, _, err = runs.command(*arguments, "--checkpoint-every", "0m", "--out", "run")
    assert code == 5
    found = re.fullmatch(r"vaefast: .* (\(step \d+\)).*; checkpoint (\d+) in run is the last good one\n", err)
    assert found, err
    number, checkpoint, damages = CheckpointFolder(Path("run/checkpoint")).newest()
    assert (number, damages) == (int(found[2]), [])
    assert all(np.isfinite(vector).all() for vector in (checkpoint.state.parameters, checkpoint.state.second_moments))
    again = runs.command("--resume", "run")
    assert again[0] == 5
    assert found[1] in again[2]
    assert not Path("run/model.safetensors").exists()


@by_engine
@pytest.mark.parametrize("largest_kept", [divergence.LARGEST_KEPT, 0])
def test_a_state_that_is_kept_is_not_overwritten_and_its_memory_comes_back(name, largest_kept, monkeypatch):
    monkeypatch.setattr(divergence, "LARGEST_KEPT", largest_kept)
    engine = engine_at_start(name)
    placed, order = engine.place(CASE.values()), np.arange(CASE.batch_size)
    guard, best, memory = divergence.Guard(engine, placed, CASE.batch_size), None, set()
    for epoch in range(1, 7):
        guard.trained(epoch, 0, order, engine.train(placed, order))
        before = engine.state()
        if epoch % 3:
            best = guard.keep(best)
            assert guard.keep(best) is best  # nothing was trained meanwhile
            memory.add(id(best))
            kept = before
        else:
            guard.verified()
        for ours, right in zip(best.vectors, kept.vectors, strict=True):
            assert np.array_equal(ours, right)
        assert best.step == kept.step
    assert len(memory) <= 2
    unknown = State.zeros(engine.layout.size, np.float16)
    guard.trained(7, 0, order, engine.train(placed, order))
    assert guard.keep(unknown) is not unknown
    guard.trained(8, 0, order, engine.train(placed, order))
    assert all(np.array_equal(*pair) for pair in zip(guard.verified().vectors, engine.state().vectors, strict=True))


def test_looking_at_the_state_takes_no_more_than_its_share(monkeypatch):
    """A state that takes long to look at is looked at less often."""
    now = [0.0]
    monkeypatch.setattr(divergence.time, "monotonic", lambda: now[0])
    engine = engine_at_start("reference")
    real, looks = engine.state, []

    def slow(out: State | None = None) -> State:
        looks.append(now[0])
        now[0] += 0.05
        return real(out)

    engine.state = slow
    guard = divergence.Guard(engine, None, CASE.batch_size)
    terms = BoundTerms.of_elbo(np.zeros(5), np.zeros(5))
    while now[0] < 200:
        now[0] += 0.1
        guard.trained(1, 0, np.arange(5), terms)
    share = 0.05 * len(looks) / now[0]
    assert 1 / 500 < share < 1.5 / divergence.STATE_SHARE
