"""The bound and log p(x) of rows that overflow float32: the reference engine in float64, with the noise of the engine.

The square of a value 1e20 times as far out as the others overflows float32. A detector of anomalies needs its score, so it is
computed again in float64. If that overflows, too, it is minus infinity.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, Engine, ImportanceTerms
from vaefast.engines.reference import ReferenceEngine
from vaefast.models.gaps import rows_with_gaps
from vaefast.models.settings import ModelSettings, TrainingSettings

# From the numbers of rows, (n,), to their values as the networks see them, float64 (n, X).
ExactRows: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.float64]]


def reference(engine: Engine, model: ModelSettings, training: TrainingSettings) -> ReferenceEngine:
    """The reference engine in float64 with an engine's parameters."""
    exact = ReferenceEngine(model, training, engine.threads, np.float64)
    exact.load_state(engine.state())
    return exact


def references(engine: Engine, model: ModelSettings, training: TrainingSettings) -> Callable[[Any], ReferenceEngine]:
    """The reference engine for some rows, (n, X): with missing values, also one of a model that was trained without any."""
    made: dict[bool, ReferenceEngine] = {}

    def of(values: Any) -> ReferenceEngine:
        gaps = rows_with_gaps(values) is not None and not model.missing
        if gaps not in made:
            made[gaps] = reference(engine, replace(model, missing=True) if gaps else model, training)
        return made[gaps]

    return of


@contextlib.contextmanager
def one_by_one() -> Iterator[None]:
    """NumPy on one thread and without warnings: a row that is computed alone on one thread has the same bits in any set."""
    from threadpoolctl import threadpool_limits

    with np.errstate(all="ignore"), threadpool_limits(1):
        yield


def lost_rows(*terms: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which rows have a term, (N,) each, that is not finite."""
    return np.flatnonzero(~np.logical_and.reduce([np.isfinite(values) for values in terms]))


def mend_bounds(terms: BoundTerms, rows: NDArray[np.int64], exact: BoundTerms) -> BoundTerms:
    """`terms` with those of `rows`, (n,), taken from `exact`; what float64 cannot say is an infinity."""
    mended = BoundTerms(*(values.copy() for values in terms))
    log_likelihood = np.where(np.isnan(exact.log_likelihood), -np.inf, exact.log_likelihood)
    kl = np.where(np.isnan(exact.kl), np.inf, exact.kl)
    for values, right in zip(mended, BoundTerms.of_elbo(log_likelihood, kl), strict=True):
        values[rows] = right
    return mended


def evaluate(
    engine: Engine,
    model: ModelSettings,
    training: TrainingSettings,
    placed: Any,
    keys: NDArray[np.int64],
    exact_rows: ExactRows,
) -> BoundTerms:
    """The engine's `evaluate` of what it placed, finite wherever float64 can say it.

    Parameters
    ----------
    keys
        Under which each row draws its noise, (N,).
    exact_rows
        The rows in float64.
    """
    terms = engine.evaluate(placed, keys)
    rows = lost_rows(terms.log_likelihood, terms.kl)
    if not rows.size:
        return terms
    exact, mended = references(engine, model, training), []
    with one_by_one():
        for row in rows[:, None]:
            values = exact_rows(row)
            mended.append(exact(values).evaluate(values, keys[row]))
    return mend_bounds(terms, rows, BoundTerms.concatenate(mended))


def importance_sample(
    engine: Engine,
    model: ModelSettings,
    training: TrainingSettings,
    placed: Any,
    samples: int,
    keys: NDArray[np.int64],
    exact_rows: ExactRows,
) -> ImportanceTerms:
    """The engine's `importance_sample` of what it placed, finite wherever float64 can say it."""
    terms = engine.importance_sample(placed, samples, keys)
    rows = lost_rows(*terms)
    if not rows.size:
        return terms
    exact = references(engine, model, training)
    log_p, effective = (values.copy() for values in terms)
    with one_by_one():
        for row in rows[:, None]:
            values = exact_rows(row)
            mended = exact(values).importance_sample(values, samples, keys[row])
            log_p[row] = np.where(np.isnan(mended.log_likelihood), -np.inf, mended.log_likelihood)
            # Weights that float64 cannot tell apart from zero leave one sample that decides.
            effective[row] = np.where(np.isfinite(mended.effective_samples), mended.effective_samples, 1.0)
    return ImportanceTerms(log_p, effective)
