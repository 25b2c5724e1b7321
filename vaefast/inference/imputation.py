"""Missing values by those that were observed: their mean, and draws of them, by self-normalised importance sampling.

Samples of q(z | x_observed) are weighted by p(x_observed | z) p(z) / q(z | x_observed), as for log p(x_observed) and with the
same noise (Mattei & Frellsen, 2019, section 3.2). A number in parentheses is an equation of DERIVATION.md. Shapes: N rows, X
columns, S samples, Z latents, O outputs of the decoder, M columns that are missing in a row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.engines import in_float64
from vaefast.engines.importance import drawn
from vaefast.engines.in_float64 import ExactRows
from vaefast.inference.network import Network
from vaefast.inference.student_t import student_t_sums
from vaefast.models import blocks as tables
from vaefast.models.columns import Block, Blocks, blocks_of
from vaefast.models.conditions import beside, parted
from vaefast.models.count_rows import keys_of
from vaefast.models.gaps import rows_with_gaps
from vaefast.models.noise import Purpose, normals_of_samples

# Samples of a row that are decoded and weighed at once: their outputs stay in the cache.
SAMPLES = 1024
# Rows that are encoded at once.
ROWS = 1024
# What the words of a row's draws begin with, so that they share none with another use of its key.
DRAWS = 0x1A2B

Decode = Callable[[NDArray[Any]], NDArray[Any]]


class Filled(NamedTuple):
    """Rows that miss values, and what these are, as the networks see values."""

    rows: NDArray[np.int64]  # (n,)
    values: NDArray[np.float64]  # (n, X), or (m, n, X) for m draws; NaN where a value was observed


@dataclass(frozen=True, eq=False)
class _Row:
    """One row that misses values, and the proposal for its latents."""

    x: NDArray[Any]  # (X,), NaN where missing
    mean: NDArray[np.float64]  # (Z,)
    log_std: NDArray[np.float64]  # (Z,)
    told: NDArray[np.float32] | None  # (1, C): its covariates
    key: int  # under which it draws its noise


@dataclass(frozen=True, eq=False)
class _Columns:
    """Some of a row's columns: where they and their outputs are, and what the likelihood knows of them."""

    at: NDArray[np.int64]
    outputs: NDArray[np.int64]
    blocks: Blocks
    parameters: dict[str, NDArray[Any]]


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
    seed = network.training.seed if seed is None else seed
    sampler = _Sampler(network, samples, seed)
    with network.quiet():
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            exact = [partial(exact_rows, rows[place : place + 1]) for place in range(start, start + len(some))]
            for place, row, result in sampler.each(sampler.rows_of(values[some]), exact, draws, network.threads):
                found[..., start + place, np.isnan(row.x)] = result
    return Filled(rows, found)


class _Sampler:
    """Weighs samples of rows of one model."""

    def __init__(self, network: Network, samples: int, seed: int) -> None:
        self._network, self._samples, self._seed = network, samples, seed
        self._decoding = threading.Lock()  # an engine answers one call at a time
        model = network.model
        self._blocks = blocks_of(model.likelihood, model.pixels, model.columns)
        self._parameters = network.parameters

    def rows_of(self, values: Any) -> list[_Row]:
        """Rows with their proposals, as importance sampling takes them."""
        keys, x = keys_of(values), drawn(values, self._network.training, keys_of(values))
        mean, log_std = (head.astype(np.float64) for head in self._network.engine.encode(x))
        x, told = parted(x)
        covariates = [None] * len(x) if told is None else [told[i : i + 1] for i in range(len(x))]
        return [_Row(*parts) for parts in zip(x, mean, log_std, covariates, keys.tolist(), strict=True)]

    def each(
        self, rows: list[_Row], exact: list[Callable[[], Any]], draws: int, threads: int
    ) -> Iterator[tuple[int, _Row, NDArray[np.float64]]]:
        """The place of each row, the row and `filled` of it: a row is one thread's work, so threads change no bit."""

        def filled(row: _Row, exact: Callable[[], Any]) -> NDArray[np.float64]:
            with np.errstate(all="ignore"):  # threads do not inherit it
                return self.filled(row, draws, exact)

        with ThreadPoolExecutor(threads) as workers:
            results = workers.map(filled, rows, exact)
            yield from ((place, row, result) for place, (row, result) in enumerate(zip(rows, results, strict=True)))

    def _decode(self, z: NDArray[Any]) -> NDArray[Any]:
        with self._decoding:
            return self._network.engine.decode(z)

    def filled(self, row: _Row, draws: int, exact: Callable[[], Any]) -> NDArray[np.float64]:
        """The means of what is missing in a row, (M,), or draws of it, (m, M)."""
        known, unknown = self._columns(~np.isnan(row.x)), self._columns(np.isnan(row.x))
        decode: Decode = self._decode
        log_w, means = self._weighed(row, known, unknown, decode)
        if not np.isfinite(log_w.max()):
            with self._decoding:
                row, decode = self._in_float64(row, exact())
            log_w, means = self._weighed(row, known, unknown, decode)
        return means if draws == 0 else self._drawn(row, unknown, decode, log_w, draws)

    def _weighed(
        self, row: _Row, known: _Columns, unknown: _Columns, decode: Decode
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """log w of each sample, (S,), and the weighted mean of p(x_missing | z), (M,) (70), (71)."""
        log_w, largest, total = np.empty(self._samples), -np.inf, 0.0
        weighted = np.zeros(len(unknown.at))
        for start in range(0, self._samples, SAMPLES):
            numbers = np.arange(start, min(start + SAMPLES, self._samples))
            z, log_ratio = self._latents(row, numbers)
            outputs = decode(beside(z, row.told))
            here = log_ratio + self._log_density(row.x[known.at], outputs, known)
            here = np.where(np.isnan(here), -np.inf, here)
            log_w[numbers] = here
            higher = max(largest, float(here.max()))
            if np.isneginf(higher):
                continue
            # The sums are kept relative to the largest weight so far.
            shrink, w = np.exp(largest - higher), np.exp(here - higher)
            means = tables.expectation(outputs[:, unknown.outputs], unknown.blocks)
            total, largest = total * shrink + w.sum(), higher
            weighted = weighted * shrink + np.einsum("s,sm->m", w, means)  # einsum sums in one order on any number of threads
        return log_w, weighted / total if total > 0 else self._prior_means(unknown, decode, row)

    def _prior_means(self, unknown: _Columns, decode: Decode, row: _Row) -> NDArray[np.float64]:
        """The means at the posterior's mean, where no weight can be told from zero."""
        outputs = decode(beside(row.mean[None], row.told))[:, unknown.outputs]
        return tables.expectation(outputs, unknown.blocks)[0].astype(np.float64)

    def _drawn(
        self, row: _Row, unknown: _Columns, decode: Decode, log_w: NDArray[np.float64], draws: int
    ) -> NDArray[np.float64]:
        """Draws of what is missing, (m, M): of z among the samples by their weights, then of x given z (72)."""
        generator = np.random.RandomState([self._seed & 0xFFFFFFFF, self._seed >> 32, row.key, DRAWS])
        largest = log_w.max()
        w = np.exp(log_w - largest) if np.isfinite(largest) else np.ones(len(log_w))
        ends = np.cumsum(w)
        chosen = np.searchsorted(ends, generator.random_sample(draws) * ends[-1], side="right")
        z, _ = self._latents(row, np.minimum(chosen, self._samples - 1))
        outputs = decode(beside(z, row.told))[:, unknown.outputs]
        return tables.draw(outputs, unknown.parameters, unknown.blocks, generator)

    def _latents(self, row: _Row, numbers: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """The samples of these numbers, (n, Z), and log p(z) - log q(z | x) of each, (n,)."""
        epsilon = normals_of_samples(self._seed, Purpose.IMPORTANCE_SAMPLES, row.key, numbers, len(row.mean))
        z = row.mean + np.exp(row.log_std) * epsilon
        # The normalising constants cancel.
        return z, np.sum(0.5 * (np.square(epsilon, dtype=np.float64) - z**2) + row.log_std, axis=1)

    def _log_density(self, x: NDArray[Any], outputs: NDArray[Any], known: _Columns) -> NDArray[np.float64]:
        """log p(x_observed | z) of each sample, (n,)."""
        if not known.blocks.blocks:
            return np.zeros(len(outputs))
        if outputs.dtype == np.float32 and [block.kind for block in known.blocks.blocks] == ["student-t"]:
            return student_t_sums(x.astype(np.float32), outputs[:, known.outputs])
        repeated = np.broadcast_to(x.astype(outputs.dtype), (len(outputs), len(x)))
        terms = tables.log_likelihood_terms(repeated, outputs[:, known.outputs], known.parameters, known.blocks)
        return terms.sum(axis=1, dtype=np.float64)

    def _columns(self, chosen: NDArray[np.bool_]) -> _Columns:
        blocks, outputs = narrowed(self._blocks, chosen)
        return _Columns(np.flatnonzero(chosen), outputs, blocks, _own(self._parameters, self._blocks, chosen))

    def _in_float64(self, row: _Row, values: Any) -> tuple[_Row, Decode]:
        """The row and the decoder in float64."""
        network = self._network
        engine = in_float64.references(network.engine, network.model, network.training)(values)
        mean, log_std = engine.encode(values)
        return replace(row, x=parted(values)[0][0], mean=mean[0], log_std=log_std[0]), engine.decode


def narrowed(blocks: Blocks, chosen: NDArray[np.bool_]) -> tuple[Blocks, NDArray[np.int64]]:
    """The blocks of a table with these columns alone, (X,), and the places of their outputs. A category has all its levels."""
    kept, first = [], 0
    for block in blocks.blocks:
        here = chosen[block.first : block.last]
        count = int(np.count_nonzero(here))
        if count:
            ends = np.cumsum(block.groups)
            groups = tuple(width for width, end in zip(block.groups, ends, strict=True) if here[end - 1])
            kept.append(Block(block.kind, block.output, first, first + count, groups))
            first += count
    heavy = [chosen[block.first : block.last] for block in blocks.blocks if block.kind == "student-t"]
    own = np.concatenate([chosen, *heavy, *heavy])
    return Blocks(tuple(kept)), np.flatnonzero(own)


def _own(parameters: Mapping[str, NDArray[Any]], blocks: Blocks, chosen: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """The likelihood's own parameters of these columns."""
    kinds = {"gaussian": "x_log_std", "negative-binomial": "x_log_dispersion"}
    own = [block for block in blocks.blocks if block.kind in kinds]
    return {kinds[block.kind]: parameters[kinds[block.kind]][chosen[block.first : block.last]] for block in own}
