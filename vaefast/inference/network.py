"""One model with its state on an engine that is opened when it is needed: what the estimator computes with.

It can be pickled and copied; engines, with their threads and buffers, stay behind and are opened anew.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast import engines
from vaefast.engines import in_float64
from vaefast.engines.contract import Engine, State
from vaefast.engines.in_float64 import ExactRows
from vaefast.engines.partly_observed import for_any_rows
from vaefast.engines.reference import ReferenceEngine
from vaefast.models.conditions import Conditioned, parted
from vaefast.models.count_rows import keys_of
from vaefast.models.gaps import rows_with_gaps
from vaefast.models.grey_levels import grey_levels, on_from_half
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

# Rows that pass through the networks in one call: bounds the memory of temporaries and changes no result.
ROWS = 1024
# From the key of a row's sample to that of its next: 2^32 over the golden ratio, which returns late and near nothing.
SAMPLE_STEP = 0x9E3779B9
LARGEST = float(np.finfo(np.float32).max)


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
        self.engine_name, self.threads = engines.choose(engine, engines.needs(model, training)), threads
        self.layout = Layout(model)
        self._state: State | None = state  # None while the engine has it
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_state": self.state, "_engine": None, "_opening": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _opening=threading.Lock())

    @property
    def state(self) -> State:
        """A copy of parameters, moments and step."""
        state = self._state  # before the engine: once it is open, that has the state
        if self._engine is not None:
            return self._engine.state()
        assert state is not None
        return state.copy()

    @state.setter
    def state(self, state: State) -> None:
        if self._engine is None:
            self._state = state
        else:
            self._engine.load_state(state)

    @property
    def engine(self) -> Engine:
        """The engine, opened if it is not yet."""
        if self._engine is None:
            with self._opening:
                if self._engine is None:
                    engine = engines.create(self.engine_name, self.model, self.training, self.threads)
                    assert self._state is not None
                    engine.load_state(self._state)
                    self._engine = for_any_rows(engine, self.model, self.training)
                    self._state = None
        return self._engine

    @property
    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Every tensor by name, float32."""
        return self.layout.views(self.state.parameters.astype(np.float32))

    def posterior(
        self, values: NDArray[Any], exact_rows: ExactRows | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and log_std of q(z | x), (N, Z) each, of values (N, X): grey levels as they are, but on or off at one half
        where the model was trained on such a threshold. Means that float32 cannot hold are the largest that it can."""
        shape = (len(values), self.model.latent)
        mean, log_std = np.empty(shape, np.float32), np.empty(shape, np.float32)
        with self.quiet():
            for rows in _blocks(len(values)):
                x, told = parted(values[rows])
                x = x if self.model.counts else grey_levels(x)
                if self.training.binarize == "threshold":
                    x = on_from_half(x)
                mean[rows], log_std[rows] = self.engine.encode(x if told is None else Conditioned(x, told))
            lost = in_float64.lost_rows(mean.sum(axis=1), log_std.sum(axis=1))
            if lost.size and exact_rows is not None:
                exact = in_float64.references(self.engine, self.model, self.training)
                with in_float64.one_by_one():
                    for row in lost[:, None]:
                        one = exact_rows(row)
                        for whole, right in zip((mean, log_std), exact(one).encode(one), strict=True):
                            whole[row] = np.clip(right, -LARGEST, LARGEST)
        return mean, log_std

    def decode(self, z: NDArray[Any]) -> NDArray[np.float32]:
        """The decoder's outputs, (N, O), for z (N, Z), or (N, Z + C) with covariates: one for each column, and behind them
        those that a likelihood has besides."""
        outputs = np.empty((len(z), self.model.outputs), np.float32)
        with self.quiet():
            for rows in _blocks(len(z)):
                outputs[rows] = self.engine.decode(z[rows])
        return outputs

    def bounds(self, values: NDArray[Any], samples: int, exact_rows: ExactRows) -> NDArray[np.float64]:
        """The ELBO of each row in nats, (N,), its mean over so many samples, with noise that goes by the row's content."""
        total = np.zeros(len(values))
        with self.quiet():
            placed = self.engine.place(values)
            for keys in _sample_keys(values, samples):
                terms = in_float64.evaluate(self.engine, self.model, self.training, placed, keys, exact_rows)
                total += terms.elbo / samples
        return total

    def log_likelihoods(self, values: NDArray[Any], samples: int, exact_rows: ExactRows) -> NDArray[np.float64]:
        """log p(x) of each row in nats, (N,), by importance sampling with the encoder's posterior as proposal (26)."""
        with self.quiet():
            placed, keys = self.engine.place(values), keys_of(values)
            about = self.model, self.training, placed, samples, keys, exact_rows
            return in_float64.importance_sample(self.engine, *about).log_likelihood

    def column_log_likelihoods(self, values: NDArray[Any], samples: int, exact_rows: ExactRows) -> NDArray[np.float64]:
        """log p(x | z) of each column of each row in nats, (N, X), the mean over the samples of `bounds`, in float64."""
        exact = in_float64.references(self.engine, self.model, self.training)
        total = np.zeros(values.shape)
        with self.quiet():
            for rows in _blocks(len(values)):
                as_they_are = self.model.counts or parted(values)[0].dtype == np.uint8
                block = values[rows] if as_they_are else exact_rows(np.arange(rows.start, rows.stop))
                for keys in _sample_keys(values[rows], samples):
                    terms = self._column_terms(exact, block, keys)
                    total[rows] += np.where(np.isnan(terms), -np.inf, terms) / samples
        return total

    def _column_terms(
        self, exact: Callable[[Any], ReferenceEngine], block: Any, keys: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """log p(x | z) of each column, (n, X), in float64: complete rows on the engine for them, whatever stands beside."""
        gaps = None if self.model.missing else rows_with_gaps(block)
        if gaps is None:
            return np.asarray(exact(block).column_log_likelihoods(block, keys), np.float64)
        terms = np.empty(block.shape)
        for rows in (np.flatnonzero(~gaps), np.flatnonzero(gaps)):
            if len(rows):
                terms[rows] = exact(block[rows]).column_log_likelihoods(block[rows], keys[rows])
        return terms

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
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
            with self.quiet():
                line = next(epochs, None)
            if line is None:
                return
            yield line


def _sample_keys(values: NDArray[Any], samples: int) -> Iterator[NDArray[np.int64]]:
    """For each sample the number under which each row, (N, X), draws its noise: its key, and steps from there."""
    keys = keys_of(values)
    for sample in range(samples):
        yield (keys + sample * SAMPLE_STEP) % 2**32


def _blocks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, ROWS):
        yield slice(start, min(start + ROWS, rows))
