"""The contract of an engine, and the data that engines exchange with the rest, such as `State` and `BoundTerms`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vaefast.models.layout import Layout

# Numbers that are looked at in one go, so that no temporary is as large as a model.
LOOKED_AT = 1 << 20


@dataclass
class State:
    """The state of training in the plain form of `Layout`: three vectors (P,), and the number of steps taken."""

    parameters: NDArray[Any]
    first_moments: NDArray[Any]
    second_moments: NDArray[Any]
    step: int = 0

    @classmethod
    def zeros(cls, size: int, dtype: Any = np.float32) -> State:
        return cls(np.zeros(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype))

    @classmethod
    def initial(cls, parameters: NDArray[Any], dtype: Any = np.float32) -> State:
        """These parameters, no moments yet, step 0."""
        state = cls.zeros(parameters.size, dtype)
        state.parameters[...] = parameters
        return state

    @classmethod
    def from_panels(cls, layout: Layout, panels: Iterable[NDArray[Any]], step: int, out: State | None = None) -> State:
        """The state of these three vectors in panel form, (panel_size,) each: `out`, if it is given."""
        state = cls.zeros(layout.size) if out is None else out
        for vector, plain in zip(panels, state.vectors, strict=True):
            layout.from_panels(vector, plain)
        state.step = step
        return state

    def to_panels(self, layout: Layout, panels: Iterable[NDArray[Any]]) -> None:
        """Write the three vectors in panel form, (panel_size,) each."""
        for plain, vector in zip(self.vectors, panels, strict=True):
            # Moments start at zero, and zeros that nobody has written yet take no memory.
            if plain.any() or vector.any():
                layout.to_panels(plain, vector)

    @property
    def vectors(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        return self.parameters, self.first_moments, self.second_moments

    def is_finite(self) -> bool:
        """Whether every number is finite."""
        return are_finite(*self.vectors)

    def astype(self, dtype: Any) -> State:
        """A copy in another float dtype."""
        return State(
            self.parameters.astype(dtype),
            self.first_moments.astype(dtype),
            self.second_moments.astype(dtype),
            self.step,
        )

    def copy(self, out: State | None = None) -> State:
        """A copy: in `out`, of the same sizes, if it is given."""
        if out is None:
            return self.astype(self.parameters.dtype)
        for own, copied in zip(self.vectors, out.vectors, strict=True):
            copied[...] = own
        out.step = self.step
        return out


def are_finite(*vectors: NDArray[Any]) -> bool:
    """Whether every number of some vectors, (P,) each, is finite."""
    return all(
        bool(np.isfinite(vector[first : first + LOOKED_AT]).all())
        for vector in vectors
        for first in range(0, vector.size, LOOKED_AT)
    )


class BoundTerms(NamedTuple):
    """The terms of the bound of each example, in nats, float64 (N,): ELBO = log_likelihood - kl.

    With several samples log_likelihood is their mean. kl is the divergence in closed form. `objective` is what training
    maximises (`ObjectiveSettings`); in evaluation it is the ELBO.
    """

    log_likelihood: NDArray[np.float64]
    kl: NDArray[np.float64]
    objective: NDArray[np.float64]

    @property
    def elbo(self) -> NDArray[np.float64]:
        return self.log_likelihood - self.kl

    @classmethod
    def concatenate(cls, parts: Sequence[BoundTerms]) -> BoundTerms:
        return cls(*(np.concatenate([part[i] for part in parts]) for i in range(len(cls._fields))))

    @classmethod
    def of_elbo(cls, log_likelihood: NDArray[np.float64], kl: NDArray[np.float64]) -> BoundTerms:
        """The terms if the objective is the ELBO."""
        return cls(log_likelihood, kl, log_likelihood - kl)


class ImportanceTerms(NamedTuple):
    """log p(x) of each example by importance sampling (26), float64 (N,)."""

    log_likelihood: NDArray[np.float64]  # nats
    effective_samples: NDArray[np.float64]  # (sum of weights)^2 / sum of squared weights: from 1 to the number of samples


class ImputationTerms(NamedTuple):
    """What a row's samples of q(z | x) say of its columns, given what was observed of it; float64."""

    log_weights: NDArray[np.float64]  # (N, S), nats: log p(x_observed | z) + log p(z) - log q(z | x) (70)
    means: NDArray[np.float64]  # (N, X), of p(x_j | z) under these weights (71); NaN where none can be told from zero


class Pace(NamedTuple):
    """Settings that change from step to step, float64 (steps,) each."""

    learning_rates: NDArray[np.float64]
    kl_weights: NDArray[np.float64]  # factor of the KL divergence

    @classmethod
    def constant(cls, learning_rate: float, kl_weight: float, steps: int) -> Pace:
        return cls(np.full(steps, float(learning_rate)), np.full(steps, float(kl_weight)))


class Engine(Protocol):
    """One model with its Adam state on one device.

    Noise is a function of (seed, purpose, step, example, index). So neither the number of threads nor the division of a run
    into calls of `train` changes a bit of the result.
    """

    name: str
    threads: int
    layout: Layout

    @property
    def step(self) -> int:
        """Steps of Adam taken so far."""

    def state(self, out: State | None = None) -> State:
        """A copy of parameters, moments and step, in plain form: in `out`, which is overwritten, if it is given."""

    def is_finite(self) -> bool:
        """Whether every parameter and moment is a finite number. An engine on the CPU looks at them in place."""

    def load_state(self, state: State) -> None:
        """Take over parameters, moments and step."""

    def place(self, values: NDArray[Any]) -> Any:
        """Bring a set of images, (N, X) uint8 or float32 in [0, 1], into the form and the memory that this engine reads best.

        The result is for the methods of this engine only. The values must not change while it is in use.
        """

    def warm_up(self, placed: Any) -> None:
        """Compile everything that `train` and `evaluate` need for these images. Changes no state."""

    def train(self, placed: Any, order: NDArray[np.int64], pace: Pace | None = None) -> BoundTerms:
        """Train on the examples of `order`, (N,), in minibatches of `batch_size`, the last of which may be smaller.

        `pace` holds values for each of these steps. Without it the learning rate and beta of the settings are used.

        Returns the terms of the examples in the same order, each computed when its minibatch was trained.
        """

    def evaluate(self, placed: Any, examples: NDArray[np.int64] | None = None) -> BoundTerms:
        """The ELBO terms of each image by one sample, with evaluation noise that is the same at each call.

        The noise of an image depends on its number in `examples`, (N,) in [0, 2^32), which by default is its place.
        """

    def importance_sample(self, placed: Any, samples: int, examples: NDArray[np.int64] | None = None) -> ImportanceTerms:
        """log p(x) of each image from this many samples of q(z | x) (26). Grey levels are binarised as in `evaluate`.

        The noise depends on the numbers of the image and the sample. So no result depends on the other images.
        """

    def encode(self, x: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean and log_std of q(z | x), both (N, Z), for x (N, X) in [0, 1], or rows of counts. Nothing is binarised."""

    def decode(self, z: NDArray[Any]) -> NDArray[Any]:
        """Logits, or the means of a Gaussian likelihood, (N, X), for z (N, Z); with zero inflation [logits | zero_logits],
        (N, 2 X)."""

    def close(self) -> None:
        """Release threads and device memory."""


class TableEngine(Engine, Protocol):
    """An engine for tables in blocks of columns."""

    def impute(self, placed: Any, samples: int, examples: NDArray[np.int64] | None = None) -> ImputationTerms:
        """Of rows of a table in blocks of columns, from so many samples of q(z | x), with the noise of `importance_sample`."""
