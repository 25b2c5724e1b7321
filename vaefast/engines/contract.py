"""What every engine can do, and the two things that engines exchange with the rest: `State` and `BoundTerms`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vaefast.models.layout import Layout


@dataclass
class State:
    """The whole memory of a training run, in the plain form of `Layout`: three vectors (P,) and the steps taken."""

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

    def astype(self, dtype: Any) -> State:
        """A copy in another float dtype."""
        return State(
            self.parameters.astype(dtype),
            self.first_moments.astype(dtype),
            self.second_moments.astype(dtype),
            self.step,
        )

    def copy(self) -> State:
        return self.astype(self.parameters.dtype)


class BoundTerms(NamedTuple):
    """What is known of each example's bound, in nats, float64 (N,): ELBO = log_likelihood - kl.

    Of several samples log_likelihood is their mean; kl is the divergence in closed form. `objective` is what training
    maximises (`ObjectiveSettings`), and in evaluation the ELBO.
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
        """Where the ELBO is what is maximised."""
        return cls(log_likelihood, kl, log_likelihood - kl)


class ImportanceTerms(NamedTuple):
    """log p(x) of each example by importance sampling (26), float64 (N,)."""

    log_likelihood: NDArray[np.float64]  # nats
    effective_samples: NDArray[np.float64]  # (sum of weights)^2 / sum of squared weights: from 1 to the number of samples


class Pace(NamedTuple):
    """What changes from step to step and is known beforehand, float64 (steps,)."""

    learning_rates: NDArray[np.float64]
    kl_weights: NDArray[np.float64]  # factor of the KL divergence

    @classmethod
    def constant(cls, learning_rate: float, kl_weight: float, steps: int) -> Pace:
        return cls(np.full(steps, float(learning_rate)), np.full(steps, float(kl_weight)))


class Engine(Protocol):
    """One model with its Adam state on one device.

    Noise is a function of (seed, purpose, step, example, index), so neither the number of threads nor the way a run is
    cut into calls of `train` changes a bit of the result.
    """

    name: str
    threads: int
    layout: Layout

    @property
    def step(self) -> int:
        """Steps of Adam taken so far."""

    def state(self) -> State:
        """A copy of parameters, moments and step, in plain form."""

    def load_state(self, state: State) -> None:
        """Take over parameters, moments and step."""

    def place(self, values: NDArray[Any]) -> Any:
        """Put a set of images, (N, X) uint8 or float32 in [0, 1], where this engine reads them best.

        What comes back is for the methods of this engine alone. The values must not change meanwhile.
        """

    def warm_up(self, placed: Any) -> None:
        """Compile whatever `train` and `evaluate` will run on these images; changes no state."""

    def train(self, placed: Any, order: NDArray[np.int64], pace: Pace | None = None) -> BoundTerms:
        """Train on the examples of `order`, (N,), in minibatches of `batch_size`, the last of which may be smaller.

        `pace` holds a value for each of these steps; without it they have the learning rate and beta of the settings.

        Returns the terms of each example in that order, each as it was when its minibatch was trained.
        """

    def evaluate(self, placed: Any, examples: NDArray[np.int64] | None = None) -> BoundTerms:
        """The one-sample ELBO terms of every image, with evaluation noise of its own that is the same at each call.

        `examples`, (N,) in [0, 2^32), is the number under which each image draws its noise: its place without it.
        """

    def importance_sample(self, placed: Any, samples: int, examples: NDArray[np.int64] | None = None) -> ImportanceTerms:
        """log p(x) of every image from so many samples of q(z | x) (26), the images as `evaluate` sees them.

        The noise of each sample is a function of the image's number and the sample's: no result depends on the images beside.
        """

    def encode(self, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Mean and log_std of q(z | x), both (N, Z), for x (N, X) in [0, 1], taken as it is."""

    def decode(self, z: NDArray[Any]) -> NDArray[Any]:
        """Logits, or the means of a Gaussian likelihood, (N, X), for z (N, Z)."""

    def close(self) -> None:
        """Release threads and device memory."""
