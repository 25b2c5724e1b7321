"""One model with its state on an engine that is opened when it is needed: what the estimator computes with.

It can be pickled and copied; engines, with their threads and buffers, stay behind and are opened anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast import engines, noise
from vaefast.engines.contract import Engine, State
from vaefast.engines.reference import log_likelihood
from vaefast.layout import Layout
from vaefast.noise import Purpose
from vaefast.settings import ModelSettings, TrainingSettings

# Rows that pass through the networks in one call: bounds the memory of temporaries and changes no result.
ROWS = 1024


class Network:
    """A model, its Adam state, and the engine that both are on.

    Parameters
    ----------
    model, training
        Checked settings; the seed of the noise is in `training`.
    engine
        Name of an engine, or `auto`.
    threads
        Worker threads of the engine.
    state
        Parameters and moments to start from.

    Raises
    ------
    SettingsError
        There is no such engine, or it cannot run this model here.
    """

    def __init__(self, model: ModelSettings, training: TrainingSettings, engine: str, threads: int, state: State) -> None:
        self.model, self.training = model, training
        self.engine_name, self.threads = engines.choose(engine, model.likelihood), threads
        self.layout = Layout(model)
        self._state = state
        self._engine: Engine | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_state": self.state, "_engine": None}

    @property
    def state(self) -> State:
        """A copy of parameters, moments and step."""
        return self._state.copy() if self._engine is None else self._engine.state()

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        if self._engine is not None:
            self._engine.load_state(state)

    @property
    def engine(self) -> Engine:
        """The engine, opened if it is not yet."""
        if self._engine is None:
            engine = engines.create(self.engine_name, self.model, self.training, self.threads)
            engine.load_state(self._state)
            self._engine = engine
        return self._engine

    @property
    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Every tensor by name, float32."""
        return self.layout.views(self.state.parameters.astype(np.float32))

    def posterior(self, values: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and log_std of q(z | x), (N, Z) each, of values (N, X): grey levels as they are, but on or off at one half
        where the model was trained on such a threshold."""
        shape = (len(values), self.model.latent)
        mean, log_std = np.empty(shape, np.float32), np.empty(shape, np.float32)
        with self._quiet():
            for rows in _blocks(len(values)):
                x = levels(values[rows])
                if self.training.binarize == "threshold":
                    x = (x >= 0.5).astype(np.float32)
                mean[rows], log_std[rows] = self.engine.encode(x)
        return mean, log_std

    def decode(self, z: NDArray[Any]) -> NDArray[np.float32]:
        """The decoder's output, (N, X), for z (N, Z)."""
        outputs = np.empty((len(z), self.model.pixels), np.float32)
        with self._quiet():
            for rows in _blocks(len(z)):
                outputs[rows] = self.engine.decode(z[rows])
        return outputs

    def bounds(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The one-sample ELBO of each row in nats, (N,), with noise that goes by the row's content."""
        with self._quiet():
            return self.engine.evaluate(self.engine.place(values), noise.row_keys(values)).elbo

    def log_likelihoods(self, values: NDArray[Any], samples: int) -> NDArray[np.float64]:
        """log p(x) of each row in nats, (N,), by importance sampling with the encoder's posterior as proposal (26)."""
        result = np.empty(len(values))
        keys = noise.row_keys(values)
        with self._quiet():
            for rows in _blocks(len(values)):
                result[rows] = self._importance_sampled(self._drawn(values[rows], keys[rows]), keys[rows], samples)
        return result

    def _importance_sampled(self, x: NDArray[np.float32], keys: NDArray[np.int64], samples: int) -> NDArray[np.float64]:
        """log of the mean over z ~ q(z | x) of p(x | z) p(z) / q(z | x), its sum kept relative to the largest term so far."""
        mean, log_std = (head.astype(np.float64) for head in self.engine.encode(x))
        exact, parameters = x.astype(np.float64), self.parameters
        largest, total = np.full(len(x), -np.inf), np.zeros(len(x))
        for sample in range(samples):
            epsilon = noise.normals(self.training.seed, Purpose.IMPORTANCE_SAMPLES, sample, keys, self.model.latent)
            z = mean + np.exp(log_std) * epsilon
            outputs = self.engine.decode(z).astype(np.float64)
            # log p(z) - log q(z | x): the normalising constants are the same and leave
            weight = np.sum(0.5 * (epsilon**2 - z**2) + log_std, axis=1)
            weight += log_likelihood(parameters, exact, outputs, self.model.likelihood)
            higher = np.maximum(largest, weight)
            total = total * np.exp(largest - higher) + np.exp(weight - higher)
            largest = higher
        return largest + np.log(total / samples)

    def _drawn(self, values: NDArray[Any], keys: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows as evaluation sees them, (N, X): the same draw of the pixels as for the ELBO."""
        if self.training.binarize == "dynamic":
            drawn = noise.drawn_pixels(values, self.training.seed, Purpose.EVALUATION_PIXELS, 0, keys)
            return drawn.astype(np.float32)
        x = levels(values)
        return (x >= 0.5).astype(np.float32) if self.training.binarize == "threshold" else x

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """As many threads for NumPy's products as the engine has, and no warning of an overflow that shows in the result."""
        with np.errstate(all="ignore"):
            if self.engine_name != "reference":
                yield
                return
            from threadpoolctl import threadpool_limits

            with threadpool_limits(self.threads):
                yield

    def trained(self, epochs: Iterator[Any]) -> Iterator[Any]:
        """What a training loop over this network's engine yields, one after the other, under the same conditions."""
        while True:
            with self._quiet():
                line = next(epochs, None)
            if line is None:
                return
            yield line


def levels(values: NDArray[Any]) -> NDArray[np.float32]:
    """Bytes as level / 255, float32 as it is."""
    if values.dtype == np.uint8:
        return np.divide(values, 255, dtype=np.float32)
    return values.astype(np.float32, copy=False)


def _blocks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, ROWS):
        yield slice(start, min(start + ROWS, rows))
