"""Missing values by those that were observed: their mean, and draws of them, by self-normalised importance sampling.

Samples of q(z | x_observed) are weighted by p(x_observed | z) p(z) / q(z | x_observed), as for log p(x_observed) and with the
same noise (Mattei & Frellsen, 2019, section 3.2); an engine does that (`TableEngine.impute`). A number in parentheses is an
equation of DERIVATION.md. Shapes: N rows, X columns, S samples, Z latents, m draws.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vaefast import engines
from vaefast.engines import in_float64
from vaefast.engines.as_drawn import drawn
from vaefast.engines.contract import ImputationTerms, TableEngine
from vaefast.engines.in_float64 import ExactRows
from vaefast.inference.network import Network
from vaefast.models import blocks as tables
from vaefast.models.columns import blocks_of
from vaefast.models.conditions import beside, parted
from vaefast.models.count_rows import keys_of
from vaefast.models.gaps import rows_with_gaps
from vaefast.models.noise import Purpose, normals

# Weights that are kept at once: those of so many rows and samples.
WEIGHTS = 1 << 22
# What the words of a row's draws end with, so that they share none with another use of its key.
DRAWS = 0x1A2B


class Filled(NamedTuple):
    """Rows that miss values, and what these are, as the networks see values."""

    rows: NDArray[np.int64]  # (n,)
    values: NDArray[np.float64]  # (n, X), or (m, n, X) for m draws; only where a value is missing it means something


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
    found = np.empty((len(rows), columns) if draws == 0 else (draws, len(rows), columns))
    step = max(1, WEIGHTS // samples)
    again = occurrences(keys_of(values[rows])) if draws and len(rows) else rows
    with network.quiet(), _opened(network, seed) as open_network:
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            terms = _weighed(open_network, values[some], samples, partial(_of_some, exact_rows, some))
            place = slice(start, start + len(some))
            found[..., place, :] = (
                terms.means if draws == 0 else _drawn(open_network, values[some], terms, draws, again[place].tolist())
            )
    return Filled(rows, found)


def occurrences(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each row how many before it have its key, (N,)."""
    order, at = np.argsort(keys, kind="stable"), np.arange(len(keys))
    begins = np.append(True, keys[order][1:] != keys[order][:-1])
    found = np.empty(len(keys), np.int64)
    found[order] = at - np.maximum.accumulate(np.where(begins, at, 0))
    return found


def _of_some(exact_rows: ExactRows, some: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows in float64 by their places among some."""
    return exact_rows(some[rows])


@contextlib.contextmanager
def _opened(network: Network, seed: int | None) -> Iterator[Network]:
    """The model open to missing values, on an engine for such rows, with noise of this seed."""
    model = replace(network.model, missing=True)
    training = network.training if seed is None else replace(network.training, seed=seed)
    if (model, training) == (network.model, network.training):
        yield network
        return
    lacks = {*engines.needs(model, training)} & {*engines.LACKING[network.engine_name]}
    opened = Network(model, training, "auto" if lacks else network.engine_name, network.threads, network.state)
    try:
        yield opened
    finally:
        opened.engine.close()


def _weighed(network: Network, values: Any, samples: int, exact_rows: ExactRows) -> ImputationTerms:
    """Weights and means of rows that miss values, in float64 where float32 cannot weigh them."""
    engine, keys = cast(TableEngine, network.engine), keys_of(values)
    terms = engine.impute(engine.place(values), samples, keys)
    missing = np.isnan(parted(values)[0])
    lost = np.flatnonzero(~np.isfinite(np.where(missing, terms.means, 0)).all(axis=1))
    if not lost.size:
        return terms
    exact = in_float64.reference(network.engine, network.model, network.training)
    log_w, means = (each.copy() for each in terms)
    with in_float64.one_by_one():
        for row in lost[:, None]:
            mended = exact.impute(exact_rows(row), samples, keys[row])
            weights = np.where(np.isnan(mended.log_weights), -np.inf, mended.log_weights)
            # Where float64 cannot tell any weight from zero, all count alike.
            log_w[row] = weights if np.isfinite(weights.max()) else 0.0
            means[row] = mended.means if np.isfinite(mended.means).all() else _at_the_mean(exact, exact_rows(row))
    return ImputationTerms(log_w, means)


def _at_the_mean(exact: Any, values: Any) -> NDArray[np.float64]:
    """The means of p(x | z) at the mean of q(z | x), (1, X)."""
    mean, _ = exact.encode(values)
    model = exact.model
    outputs = exact.decode(beside(mean, parted(values)[1]))
    return np.asarray(tables.expectation(outputs, blocks_of(model.likelihood, model.pixels, model.columns)), np.float64)


def _drawn(network: Network, values: Any, terms: ImputationTerms, draws: int, again: list[int]) -> NDArray[np.float64]:
    """Draws of all columns, (m, N, X): of z among the samples of a row by their weights, then of x given z (72).

    `again`, (N,), tells rows with equal content apart, whose draws are independent. A row that float32 cannot decode is at its
    mean.
    """
    log_weights = terms.log_weights
    model, seed, keys = network.model, network.training.seed, keys_of(values)
    x, parameters = drawn(values, network.training, keys), network.parameters
    mean, log_std = (head.astype(np.float64) for head in network.engine.encode(x))
    told, blocks = parted(x)[1], blocks_of(model.likelihood, model.pixels, model.columns)
    found = np.empty((draws, *values.shape))
    for row, key in enumerate(keys.tolist()):
        words = [seed & 0xFFFFFFFF, seed >> 32, key, DRAWS]
        generator = np.random.RandomState([*words, again[row]] if again[row] else words)
        ends = np.cumsum(np.exp(log_weights[row] - log_weights[row].max()))
        chosen = np.searchsorted(ends, generator.random_sample(draws) * ends[-1], side="right")
        chosen = np.minimum(chosen, len(ends) - 1)
        epsilon = normals(seed, Purpose.IMPORTANCE_SAMPLES, chosen, np.full(draws, key), model.latent)
        z = mean[row] + np.exp(log_std[row]) * epsilon
        outputs = network.decode(beside(z, None if told is None else told[row : row + 1]))
        is_finite = bool(np.isfinite(outputs).all())
        found[:, row] = tables.draw(outputs, parameters, blocks, generator) if is_finite else terms.means[row]
    return found
