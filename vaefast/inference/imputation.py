"""Missing values by those that were observed: their mean, and draws of them, by self-normalised importance sampling.

Samples of q(z | x_observed) are weighted by p(x_observed | z) p(z) / q(z | x_observed), as for log p(x_observed) and with the
same noise (Mattei & Frellsen, 2019, section 3.2). A number in parentheses is an equation of DERIVATION.md. Shapes: N rows, X
columns, S samples, Z latents, M columns that are missing in a row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vaefast import engines
from vaefast.engines import in_float64
from vaefast.engines.as_drawn import drawn
from vaefast.engines.contract import Engine, ImputationTerms, TableEngine
from vaefast.engines.in_float64 import ExactRows
from vaefast.inference.network import Network
from vaefast.models import blocks as tables
from vaefast.models.columns import blocks_of
from vaefast.models.conditions import beside, parted
from vaefast.models.count_rows import keys_of
from vaefast.models.gaps import rows_with_gaps
from vaefast.models.noise import Purpose, normals_of_samples

# Weights of samples that are held at once: 32 MB.
WEIGHTS = 1 << 22
# What the words of a row's draws begin with, so that they share none with another use of its key.
DRAWS = 0x1A2B


class Filled(NamedTuple):
    """Rows that miss values, and what these are, as the networks see values."""

    rows: NDArray[np.int64]  # (n,)
    values: NDArray[np.float64]  # (n, X), or (m, n, X) for m draws; NaN where a value was observed


def impute(
    network: Network, values: Any, samples: int, exact_rows: ExactRows, *, draws: int = 0, seed: int | None = None
) -> Filled:
    """The means of what is missing in values, (N, X), given what was observed (71), or so many draws of it (72).

    Parameters
    ----------
    samples
        S, samples of q(z | x) for each row.
    exact_rows
        From numbers of rows to their values in float64, for a row that float32 cannot weigh.
    draws
        m; 0 for means.
    seed
        Of the noise; that of the training without it.
    """
    gaps = rows_with_gaps(values)
    rows = np.empty(0, np.int64) if gaps is None else np.flatnonzero(gaps)
    columns = values.shape[1]
    found = np.full((len(rows), columns) if draws == 0 else (draws, len(rows), columns), np.nan)
    step = max(1, WEIGHTS // samples)
    with network.quiet(), _Sampler(network, samples, network.training.seed if seed is None else seed) as sampler:
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            found[..., start : start + step, :] = sampler.filled(values[some], some, exact_rows, draws)
    return Filled(rows, found)


class _Sampler:
    """Weighs samples of rows of one model. Use it in a `with`: noise of another seed needs an engine of its own."""

    def __init__(self, network: Network, samples: int, seed: int) -> None:
        self._network, self._samples, self._seed = network, samples, seed
        self._model = replace(network.model, missing=True)
        self._training = replace(network.training, seed=seed)
        self._blocks = blocks_of(self._model.likelihood, self._model.pixels, self._model.columns)
        self._own: Engine | None = None
        if seed != network.training.seed:
            self._own = engines.create(network.engine_name, self._model, self._training, network.threads)
            self._own.load_state(network.state)

    def __enter__(self) -> _Sampler:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            self._own.close()

    def filled(self, values: Any, numbers: NDArray[np.int64], exact_rows: ExactRows, draws: int) -> NDArray[np.float64]:
        """What is missing in rows of these numbers that all miss something, (n, X): its means, (n, X), or draws of it,
        (m, n, X); NaN where nothing is."""
        engine, keys = self._own or self._network.engine, keys_of(values)
        terms = cast(TableEngine, engine).impute(engine.place(values), self._samples, keys)
        lost = np.flatnonzero(~np.isfinite(terms.means).all(axis=1))
        means = terms.means.copy()
        drawn_values = np.empty((draws, *means.shape))
        for row in range(len(values) if draws else 0):
            drawn_values[:, row] = self._drawn(engine, values[row : row + 1], terms.log_weights[row], int(keys[row]), draws)
        for row in map(int, lost):
            some = exact_rows(numbers[row : row + 1])
            exact = in_float64.reference(engine, self._model, self._training)
            with in_float64.one_by_one():
                again = exact.impute(some, self._samples, keys[row : row + 1])
                means[row] = self._means(exact, some, again)
                if draws:
                    drawn_values[:, row] = self._drawn(exact, some, again.log_weights[0], int(keys[row]), draws)
        missing = np.isnan(parted(values)[0])
        return np.where(missing, drawn_values if draws else means, np.nan)

    def _means(self, exact: Engine, row: Any, terms: ImputationTerms) -> NDArray[np.float64]:
        """The means of one row in float64; those at the posterior's mean, where no weight can be told from zero."""
        if np.isfinite(terms.means).all():
            return terms.means[0]
        mean, _ = exact.encode(row)
        means: NDArray[np.float64] = tables.expectation(exact.decode(beside(mean, parted(row)[1])), self._blocks)[0]
        return means

    def _drawn(self, engine: Any, row: Any, log_w: NDArray[np.float64], key: int, draws: int) -> NDArray[np.float64]:
        """Draws of one row, (m, X): of z among the samples by their weights, then of x given z (72)."""
        generator = np.random.RandomState([self._seed & 0xFFFFFFFF, self._seed >> 32, key, DRAWS])
        largest = log_w.max()
        w = np.exp(log_w - largest) if np.isfinite(largest) else np.ones(len(log_w))
        ends = np.cumsum(w)
        chosen = np.searchsorted(ends, generator.random_sample(draws) * ends[-1], side="right")
        numbers = np.minimum(chosen, self._samples - 1)
        mean, log_std = (head.astype(np.float64) for head in engine.encode(drawn(row, self._training, np.array([key]))))
        epsilon = normals_of_samples(self._seed, Purpose.IMPORTANCE_SAMPLES, key, numbers, mean.shape[1])
        z = mean + np.exp(log_std) * epsilon
        outputs = engine.decode(beside(z, parted(row)[1]))
        return tables.draw(outputs, self._network.parameters, self._blocks, generator)
