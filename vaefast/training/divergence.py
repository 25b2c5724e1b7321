"""The guard against numbers that are not finite: noticed within about a second, traced to the step, never saved."""

from __future__ import annotations

import time
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, Engine, Pace, State, are_finite
from vaefast.errors import DivergenceError

# The losses are looked at after every piece. The whole state is looked at and copied every so many seconds, but never for more
# than one part in so many of the time: an infinite weight can hide behind a ReLU for as long as the run lasts.
STATE_SECONDS = 1.0
STATE_SHARE = 300
# Bytes of parameters and moments of which a second copy is kept: those of 89 million parameters.
LARGEST_KEPT = 1 << 30

_VECTORS = {"parameters": "", "first_moments": "the first moment of ", "second_moments": "the second moment of "}


class Guard:
    """Watches one engine during a run. Keeps its last finite state and the minibatches that were trained since.

    When a number is not finite, these minibatches are trained again one by one from that state. This gives the same bits, and
    so finds the first step that went wrong. The engine looks at its numbers in place, and the state that is kept is
    overwritten by the next: a run holds parameters and moments twice. Of a model with more of them than LARGEST_KEPT no state
    is kept, and the message names the steps since the last look.
    """

    def __init__(self, engine: Engine, placed: Any, batch_size: int) -> None:
        """Check the state that the run starts from.

        Raises
        ------
        DivergenceError
            It is not finite.
        """
        self._engine, self._placed, self._batch_size = engine, placed, batch_size
        self._since: list[tuple[int, int, NDArray[np.int64], Pace | None]] = []
        self._interval = STATE_SECONDS
        self._state = engine.state() if _state_bytes(engine) <= LARGEST_KEPT else None
        # The next look goes there: to the same memory, but where somebody keeps the state.
        self._next: State | None = self._state
        self._given: State | None = None
        self._looked = time.monotonic()
        if not engine.is_finite():
            wrong = self._not_finite(engine.state(self._state))
            raise DivergenceError(f"{wrong[0]} is not finite before the first step: choose another --init")

    def trained(self, epoch: int, begin: int, order: NDArray[np.int64], terms: BoundTerms, pace: Pace | None = None) -> None:
        """Take note of examples that were trained. `begin` is the place of the first of them in the epoch.

        Raises
        ------
        DivergenceError
            A term, or at times the state, is not finite; the message names epoch, step and tensor.
        """
        self._since.append((epoch, begin, order, pace))
        if not _are_finite(terms):
            self._name(terms)
        if time.monotonic() - self._looked >= self._interval:
            self.verify()

    def verify(self) -> None:
        """Look at the engine's state.

        Raises
        ------
        DivergenceError
            A number is not finite.
        """
        if not self._since:
            return
        start = time.monotonic()
        if not self._engine.is_finite():
            self._name()
        if self._state is not None:
            self._state = self._next = self._engine.state(self._next)
        self._since, self._looked = [], time.monotonic()
        self._interval = max(STATE_SECONDS, STATE_SHARE * (self._looked - start))

    def verified(self) -> State:
        """The engine's state, every number of which is finite. The next look overwrites it: copy what is to stay.

        Raises
        ------
        DivergenceError
            One is not.
        """
        self.verify()
        return self._engine.state() if self._state is None else self._state

    def keep(self, old: State | None = None) -> State:
        """What `verified` gives, for the caller to keep: no look overwrites it.

        `old` is what the caller kept until now. The next look goes to its memory, so that there are still two states, and
        nothing is copied.

        Raises
        ------
        DivergenceError
            As `verified`.
        """
        self.verify()
        # A state from elsewhere may have another precision.
        spare = old if old is self._given else None
        if self._state is None:
            self._given = self._engine.state(spare)
        elif self._given is not self._state:
            self._next, self._given = spare, self._state
        return self._given

    def evaluated(self, epoch: int, terms: BoundTerms, part: str = "test", *, any_values: bool = False) -> None:
        """Check the terms of the test set, or of another part of the data, after this epoch.

        Parameters
        ----------
        any_values
            Whether values may be so far out that no number holds their terms, which is then no fault of training.

        Raises
        ------
        DivergenceError
            A term is not finite; the message names the step that made the state so, or else the first such image.
        """
        if _are_finite(terms):
            return
        self.verify()
        if not any_values:
            image = int(np.flatnonzero(~np.isfinite(terms.elbo))[0]) + 1
            place = f"the {part} set after epoch {epoch} (step {self._engine.step}), image {image}"
            raise DivergenceError(f"the {_term(terms)} is no longer a finite number in {place}: lower --learning-rate")

    def _name(self, terms: BoundTerms | None = None) -> NoReturn:
        """Train again, minibatch by minibatch, what was trained since the last finite state, up to the first wrong step.

        Without such a state name all these steps; `terms` are those of the last, where they are what is not finite.
        """
        engine, size = self._engine, self._batch_size
        if self._state is None:
            epoch, begin, order, _ = self._since[-1]
            steps = sum(-(-len(examples) // size) for _, _, examples, _ in self._since)
            place = _place(epoch, (begin + len(order) - 1) // size + 1, engine.step)
            place += f" at the latest, and after step {engine.step - steps}" if steps > 1 else ""
            raise DivergenceError(_message(place, terms, self._not_finite(engine.state())))
        engine.load_state(self._state)
        for epoch, begin, order, pace in self._since:
            for first in range(0, len(order), size):
                step = first // size
                one = None if pace is None else Pace(*(values[step : step + 1] for values in pace))
                terms = engine.train(self._placed, order[first : first + size], one)
                wrong = [] if engine.is_finite() else self._not_finite(engine.state(self._next))
                if wrong or not _are_finite(terms):
                    place = _place(epoch, (begin + first) // size + 1, engine.step)
                    raise DivergenceError(_message(place, terms, wrong))
        raise DivergenceError(
            f"a number that was not finite in epoch {self._since[-1][0]} is finite when its minibatches are trained again: "
            "suspect this machine's memory or an overclocked CPU"
        )

    def _not_finite(self, state: State) -> list[str]:
        """The tensors, in the order of the layout, that hold a number which is not finite; parameters before moments."""
        found = []
        for vector, words in _VECTORS.items():
            values = getattr(state, vector)
            if not are_finite(values):
                views = self._engine.layout.views(values)
                found += [f"{words}{name}" for name, view in views.items() if not are_finite(view.reshape(-1))]
        return found


def _are_finite(terms: BoundTerms) -> bool:
    return all(bool(np.isfinite(values).all()) for values in terms)


def _term(terms: BoundTerms) -> str:
    return "log-likelihood" if np.isfinite(terms.kl).all() else "KL"


def _state_bytes(engine: Engine) -> int:
    return 3 * engine.layout.size * np.dtype(np.float32).itemsize


def _place(epoch: int, minibatch: int, step: int) -> str:
    return f"in epoch {epoch}, minibatch {minibatch} (step {step})"


def _message(place: str, terms: BoundTerms | None, wrong: list[str]) -> str:
    others = f" and {len(wrong) - 1} other tensors" if len(wrong) > 1 else ""
    if terms is None or _are_finite(terms):
        return f"{wrong[0]}{others} no longer finite {place}, though the loss still is: lower --learning-rate"
    effect = f", which spoils {wrong[0]}{others}" if wrong else ""
    return f"the {_term(terms)} is no longer a finite number {place}{effect}: lower --learning-rate"
