"""The figures of a model of a table: their rows, networks and noise, in the units of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.wording import shown as printable
from vaefast.engines.contract import Engine
from vaefast.inputs import ScoredData
from vaefast.models import noise
from vaefast.models.conditions import Conditioned, beside, parted
from vaefast.models.count_rows import CountRows
from vaefast.models.counts import draw as draw_counts
from vaefast.models.grey_levels import grey_levels, on_from_half
from vaefast.models.layout import Layout
from vaefast.models.outputs import draw, expectation
from vaefast.models.settings import ModelSettings
from vaefast.plots.kind_columns import Panel, draw_kind_columns
from vaefast.plots.latent_plane import SCATTERED, latent_plane
from vaefast.plots.latents import draw_latent_scatter
from vaefast.plots.pairs import MOST_COLUMNS, draw_pairs
from vaefast.plots.table_columns import draw_column_reconstructions

NAMES = ("columns", "pairs", "latents")
# Rows in one call of an engine.
BLOCK = 1024
SAMPLES = 1000
SAMPLES_ARE = "samples from the prior"
# Cells of a table that are drawn, in this many rows at least: one of 50,000 columns needs no gigabytes for its figures.
MOST_CELLS, FEWEST = 20_000_000, 50


def of_table(engine: Engine, data: ScoredData, model: ModelSettings, binarize: str, seed: int) -> Iterator[tuple[str, Any]]:
    """Yield each figure with its name, drawn on demand."""
    name, labels = printable(data.name), column_names(data)
    schema = data.inputs.schema
    mean, log_std = _encoded(engine, data, model, binarize)
    rows = min(SCATTERED, max(FEWEST, MOST_CELLS // data.columns))
    given = _finite(_numbers(data.drawn.given[:rows]))
    told = parted(data.drawn.values)[1]
    outputs = _in_blocks(engine.decode, beside(mean[:rows], None if told is None else told[:rows]))
    made = _finite(data.inputs.leave(expectation(model, outputs)))
    if model.counts:
        made *= parted(data.drawn.values[:rows])[0].row_sizes()[:, None]
    if schema is None:
        yield "columns", draw_column_reconstructions(given, made, labels, name, data.rows_are, model.counts)
    else:
        yield "columns", draw_kind_columns(_panels(schema, given, made), name, data.rows_are)
    samples = _samples(engine, data, model, seed)
    levels: list[tuple[str, ...]] = []
    if schema is not None:
        given, samples = _finite(schema.as_numbers(given)), schema.as_numbers(samples, drawn=True)
        levels = [level_names(column) for column in schema.used]
    first = min(MOST_COLUMNS, given.shape[1])
    samples_are = SAMPLES_ARE if told is None else f"{SAMPLES_ARE}, with the covariates of the {data.rows_are} in turn"
    yield (
        "pairs",
        draw_pairs(
            given[:, :first], _finite(samples[:, :first]), labels[:first], name, given.shape[1], samples_are, levels[:first]
        ),
    )
    points, axis_names = latent_plane(mean, log_std)
    kinds = None if data.labels is None else data.labels[:SCATTERED]
    title = f"{data.rows_are.capitalize()} in latent space"
    yield "latents", draw_latent_scatter(points, kinds, axis_names, name, title)


def column_names(data: ScoredData) -> list[str]:
    """Names of the columns in figures: their own, or their numbers from 0."""
    if data.inputs.schema is not None:
        used = data.inputs.schema.used
        return [printable(column.name) if data.inputs.schema.named else f"column {column.name}" for column in used]
    return [printable(name) for name in data.names] or [f"column {i}" for i in range(data.columns)]


def level_names(column: Any) -> tuple[str, ...]:
    """Names of the levels of a column of a schema; empty for one of numbers."""
    return tuple(printable(level) for level in column.levels)


def _panels(schema: Any, given: NDArray[np.float64], made: NDArray[np.float64]) -> list[Panel]:
    """The columns of an encoded table, (n, X), and of its reconstruction, (n, X), in the units of the data."""
    observed, numbers, panels = _finite(schema.as_numbers(given)), _finite(schema.as_numbers(made)), []
    for at, column in enumerate(schema.used):
        shown: NDArray[np.float64] = numbers[:, at]
        if column.kind == "binary":
            probability = made[:, column.start]
            shown = np.stack([1 - probability, probability], axis=1)
        elif column.kind == "categorical":
            shown = made[:, column.place]
        name = printable(column.name) if schema.named else f"column {column.name}"
        panels.append(Panel(name, observed[:, at], shown, level_names(column)))
    return panels


def _encoded(
    engine: Engine, data: ScoredData, model: ModelSettings, binarize: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Posterior means and log standard deviations, (n, Z) each, of rows that are cut as in training."""
    if model.counts:
        return engine.encode(data.drawn.values[:SCATTERED])
    values, told = parted(data.drawn.values[:SCATTERED])
    x = grey_levels(values)
    if data.inputs.cut is not None:
        x = np.clip(x, -data.inputs.cut, data.inputs.cut).astype(np.float32)
    if binarize == "threshold":
        x = on_from_half(x)
    entered: Any = x if told is None else Conditioned(x, told)
    parts = [engine.encode(entered[start : start + BLOCK]) for start in range(0, len(x), BLOCK)]
    mean, log_std = (np.concatenate(each) for each in zip(*parts, strict=True))
    return mean, log_std


def _in_blocks(decode: Callable[[Any], NDArray[Any]], z: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([decode(z[start : start + BLOCK]) for start in range(0, len(z), BLOCK)])


def _samples(engine: Engine, data: ScoredData, model: ModelSettings, seed: int) -> NDArray[np.float64]:
    """Draws of x from p(x | z), z from the prior, (SAMPLES, X), in the units of the data.

    Their covariates, if there are any, are those of the drawn rows, in turn.
    """
    rows = min(SAMPLES, max(FEWEST, MOST_CELLS // data.columns))
    z = noise.normals(seed, noise.Purpose.PRIOR_SAMPLES, 0, np.arange(rows), model.latent)
    values, told = parted(data.drawn.values)
    told = None if told is None else told[np.arange(rows) % len(told)]
    outputs, own = _in_blocks(engine.decode, beside(z, told)), Layout(model).views(engine.state().parameters)
    generator = np.random.RandomState(seed % 2**32)
    if model.counts:
        # Rows as large as those beside which they are drawn.
        sizes = np.rint(generator.choice(values.row_sizes(), rows)).astype(np.int64)
        about = model.likelihood, generator, own.get("x_log_dispersion"), model.zero_inflation
        return draw_counts(outputs, sizes, *about).astype(np.float64)
    return data.inputs.leave(draw(model, outputs, own, generator))


def _numbers(given: Any) -> NDArray[np.float64]:
    """Rows as they came, (n, X)."""
    return given.dense(np.float64) if isinstance(given, CountRows) else given.astype(np.float64)


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers that can be drawn: infinite ones become the largest of float64. Missing ones stay NaN, and are not drawn."""
    return np.nan_to_num(np.asarray(values, np.float64), nan=np.nan)
