"""The data of a run, for its engine, its figures and its files. Pictures and tables share one class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data import Dataset, Images, ShardedImages
from vaefast.data.wording import shown
from vaefast.engines.in_float64 import ExactRows
from vaefast.errors import DataError
from vaefast.inputs import kinds
from vaefast.inputs.column_types import types_of
from vaefast.inputs.finding import Table
from vaefast.inputs.source import PICTURES, TABLE, Source
from vaefast.models.conditions import parted
from vaefast.models.fields import LABELS, UNUSABLE
from vaefast.models.gaps import rows_with_gaps
from vaefast.models.settings import ValidationSettings
from vaefast.tables import advice, checking
from vaefast.tables.gaps import count_gaps
from vaefast.tables.mixed import choosing
from vaefast.tables.mixed.schema import Schema
from vaefast.tables.preparing import Prepared, chosen_rows, prepare, size_quantiles, why
from vaefast.tables.scaling import Inputs
from vaefast.tables.told import Told
from vaefast.training.early_stopping import held_out
from vaefast.training.log_volumes import LogVolumes

# Without a test set, at most this many training rows are drawn in figures.
DRAWN = 10_000


@dataclass(frozen=True, eq=False)
class Part:
    """Rows that are scored and drawn."""

    given: Any  # the rows as given, (n, X): a NumPy array, or rows of counts
    values: Any  # as the networks see them, (n, X) uint8 or float32, or rows of counts; with covariates if there are any
    labels: NDArray[Any] | None = None  # (n,), if known
    exact: ExactRows | None = None  # in float64, if some may exceed the range of float32; as for `trainer.train`
    # To take from a log-density of each row as the networks see it, nats: one number, or (n,) where values are missing
    log_volume: NDArray[np.float64] | float = 0.0

    def __len__(self) -> int:
        """Count the rows: n."""
        return len(self.values)

    def first(self, count: int) -> Part:
        """The first rows."""
        labels = None if self.labels is None else self.labels[:count]
        volume = self.log_volume[:count] if isinstance(self.log_volume, np.ndarray) else self.log_volume
        return replace(self, given=self.given[:count], values=self.values[:count], labels=labels, log_volume=volume)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredData:
    """The data that scores and figures need.

    Parameters
    ----------
    kind
        `pictures` or `table`.
    name, sha256
        Name and hash of the data.
    inputs
        The likelihood, and how values are scaled.
    drawn
        The rows to score and draw, at least one.
    rows_are
        A name for these rows: `test images`, `training rows`.
    shape
        Shape of a picture, if a row is one; else None.
    names
        Names of the columns, if they have any.
    classes
        Names of the labels 0, 1, ..., if they have any.
    notices
        Lines that a user must see.
    """

    kind: str
    name: str
    sha256: str
    inputs: Inputs
    drawn: Part
    rows_are: str
    shape: tuple[int, ...] | None = None
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def is_pictures(self) -> bool:
        """Whether the rows are pictures, whose values are unscaled grey levels."""
        return self.kind == PICTURES

    @property
    def columns(self) -> int:
        """X."""
        return int(self.drawn.values.shape[1])

    @property
    def width(self) -> str:
        """How wide an example is, in words."""
        if self.inputs.schema is None:
            return f"{self.columns:,} values"
        count = len(self.inputs.schema.used)
        return f"{count:,} column{'' if count == 1 else 's'}, {self.columns:,} values"

    @property
    def unit(self) -> str:
        """The word for an example: image or row."""
        return "image" if self.is_pictures else "row"

    @property
    def labels(self) -> NDArray[Any] | None:
        """Labels of the rows that are drawn, as names if they have any."""
        labels = self.drawn.labels
        return labels if labels is None or not self.classes else np.array(self.classes, dtype=object)[labels]


@dataclass(frozen=True, eq=False, kw_only=True)
class RunData(ScoredData):
    """The data of a training run.

    Parameters
    ----------
    train
        Training rows in their order, (N, X), as the networks see them.
    test, validation
        Rows to score after each epoch, or None. Without a test set the first training rows are drawn.
    choice
        One line on what was chosen, and why; empty if nothing was.
    size_quantiles
        Of rows of counts: quantiles of their sizes, as `VAE` keeps them; else empty.
    told
        What the training rows said of covariates and size factors.
    missing
        Whether values of the training rows, or of those held out of them, are missing.
    log_volume
        As for `Part`, of the training rows.
    """

    train: Any
    test: Part | None
    validation: Part | None = None
    choice: str = ""
    size_quantiles: tuple[float, ...] = ()
    told: Told = field(default_factory=Told)
    missing: bool = False
    log_volume: NDArray[np.float64] | float = 0.0

    @property
    def log_volumes(self) -> LogVolumes:
        """Those of all rows, for the training loop."""
        test, validation = (0.0 if part is None else part.log_volume for part in (self.test, self.validation))
        return LogVolumes(self.log_volume, test, validation)

    @property
    def has_gaps(self) -> bool:
        """Whether any value is missing, in training or among the rows to score."""
        parts = (self.test, self.validation, self.drawn)
        return self.missing or any(part is not None and rows_with_gaps(part.values) is not None for part in parts)

    @property
    def size(self) -> int:
        """Number of training and validation rows, by which settings are chosen."""
        return len(self.train) + (0 if self.validation is None else len(self.validation))

    def blamed(self) -> str:
        """What to add to the message of a divergence if values of a column are large enough to cause it."""
        return "" if self.is_pictures else advice.of_large_values(self.train, self.inputs.names)


def for_pictures(found: Dataset, likelihood: str, validation: ValidationSettings, seed: int) -> RunData:
    """The data of a run on pictures, whose grey levels are not scaled.

    Parameters
    ----------
    likelihood
        `auto` is Bernoulli.
    validation, seed
        The validation set to hold out of the training set, and its seed.
    """
    inputs = Inputs("bernoulli" if likelihood == "auto" else likelihood, bytes_are_grey=True)
    test = _pictures(found.test, found.test_labels)
    found, held = _held_out(found, validation, seed)
    return RunData(
        kind=PICTURES,
        name=found.name,
        sha256=found.sha256,
        inputs=inputs,
        drawn=test,
        rows_are="test images",
        shape=_shape(found.test),
        classes=found.classes,
        notices=(found.notice,) if found.notice else (),
        train=found.train.values,
        test=test,
        validation=held,
    )


def _shape(images: Images) -> tuple[int, ...]:
    return images.shape if images.channels == 1 else (*images.shape, images.channels)


def _pictures(images: Images, labels: NDArray[Any] | None = None) -> Part:
    return Part(images.values, images.values, labels)


def _held_out(data: Dataset, validation: ValidationSettings, seed: int) -> tuple[Dataset, Part | None]:
    """The data without the validation set, and the validation set."""
    if not validation.held_out:
        return data, None
    kept, out = held_out(len(data.train), validation.held_out, seed)
    values, labels = data.train.values, data.train_labels
    if isinstance(data.train, ShardedImages):
        return replace(data, train=data.train.select(kept)), _pictures(data.train.select(out))
    train = data.train.of(values[kept])
    part = Part(values[out], values[out], None if labels is None else labels[out])
    return replace(data, train=train, train_labels=None if labels is None else labels[kept]), part


def for_table(
    found: Table,
    source: Source,
    validation: ValidationSettings,
    seed: int,
    inputs: Inputs | None = None,
    told: Told | None = None,
) -> RunData:
    """The data of a run on a table: the same rows, order and scaling as in `vaefast.VAE`.

    Parameters
    ----------
    inputs, told
        Those of a model to continue from. Without them they are chosen by the values.

    Raises
    ------
    DataError
        A value does not fit the likelihood, or what is told does not fit the model.
    SettingsError
        Likelihood and scaling do not go together.
    """
    called, continued = shown(found.name), inputs is not None
    schema, left_out = (None, None) if inputs is None else (inputs.schema, None)
    if inputs is None:
        schema, left_out = _schema(found, source, called)
    if schema is not None:
        found = found.encoded(schema)
    X, names = found.X, names_of(found, schema)
    if inputs is None:
        told, given = found.told.learned(X, found.train)
        with _placed(found, names):
            prepared = prepare(
                X, source.likelihood, source.method, subset=found.train, names=names, called=called,
                covariates=given.covariates, sizes=given.size_factors, schema=schema,
            )  # fmt: skip
    else:
        inputs, told = replace(inputs, names=names), told or Told()
        table = _told_table(found, inputs, told)
        rows = chosen_rows(table, inputs.method, None, found.train)[0]
        prepared = Prepared(table, inputs, rows, missing=int(count_gaps(parted(table)[0], rows).sum()))
    strays = advice.of_strays(prepared.strays, prepared.rows, prepared.inputs, source.scaling == "auto", called)
    strays, slip = (text and in_file(text, found.cell, X.shape[1], names) for text in (strays, found.slip))
    slip = slip if source.likelihood == source.method == "auto" and not continued else None
    chosen, held, missing = prepared.inputs, None, prepared.missing > 0
    sizes = size_quantiles(prepared.row_sizes()[found.train]) if chosen.are_counts else ()
    if validation.held_out:
        assert prepared.rows is not None
        prepared, out = prepared.held_out(*held_out(len(prepared.rows), validation.held_out, seed), seed)
        held = _part(found, prepared.X, out, chosen)
    with _placed(found, names):
        values = chosen.enter(prepared.X, prepared.rows, training=True, called=called)
    test = _part(found, prepared.X, found.test, chosen) if len(found.test) else None
    # Without a test set, figures show training rows in the order of the table.
    return RunData(
        kind=TABLE,
        name=found.name,
        sha256=found.sha256,
        inputs=chosen,
        drawn=test or _part(found, prepared.X, found.train[:DRAWN], chosen),
        rows_are="test rows" if test else "training rows",
        shape=found.shape,
        names=found.names,
        classes=found.classes,
        notices=tuple(line for line in (found.notice, left_out, strays, advice.of_unseen(chosen, called), slip) if line),
        train=values,
        test=test,
        validation=held,
        choice="" if continued else _choice(found, source, chosen, told),
        size_quantiles=sizes,
        told=told,
        missing=missing,
        log_volume=prepared.log_volume(),
    )


def _schema(found: Table, source: Source, called: str) -> tuple[Schema | None, str | None]:
    """The schema of a table whose columns are of different kinds, learned from its training rows, and the line on columns that
    are left out; None for a table of numbers.

    Raises
    ------
    DataError
        A column is text, and the table is one of numbers.
    """
    asked = types_of(source.column_types)
    mixed = kinds.find(
        found.X, found.names, found.fields, source.likelihood, source.method, asked, found.at, found.train, called
    )
    if mixed is None:
        if found.fields is not None and any(field.family in (LABELS, UNUSABLE) for field in found.fields.columns):
            raise DataError(f"{called} holds text: choose likelihood mixed, which takes it, or leave its columns out")
        return None, None
    schema = mixed.schema if mixed.fields.typed else kinds.with_room(mixed.schema)
    return schema, choosing.of_left_out(mixed.left_out, called)


def names_of(found: Table, schema: Schema | None) -> NDArray[Any] | None:
    """Names of the columns of X, (X,), for messages; None if they have none."""
    if schema is not None:
        return schema.encoded_names
    return np.array(found.names, dtype=object) if found.names else None


def to_score(found: Dataset | Table, inputs: Inputs, rows_are: str, told: Told) -> ScoredData:
    """The test set of data, for a trained model.

    Parameters
    ----------
    inputs
        Those of the model.
    rows_are
        A name for these rows.
    told
        What the model was told in training.

    Raises
    ------
    DataError
        A value does not fit the model, or pictures are given to one that was told covariates.
    """
    if isinstance(found, Table) and inputs.schema is not None:
        found = found.encoded(inputs.schema)
    notices = (found.notice,) if found.notice else ()
    if isinstance(found, Dataset):
        if told != Told():
            raise DataError(f"{shown(found.name)} holds pictures, of which nothing is told: use vaefast.load in Python")
        drawn = _pictures(found.test, found.test_labels)
        return ScoredData(
            kind=PICTURES, name=found.name, sha256=found.sha256, inputs=inputs, drawn=drawn, rows_are=rows_are,
            shape=_shape(found.test), classes=found.classes, notices=notices,
        )  # fmt: skip
    drawn = _part(found, _told_table(found, inputs, told), found.test, inputs)
    return ScoredData(
        kind=TABLE, name=found.name, sha256=found.sha256, inputs=inputs, drawn=drawn, rows_are=rows_are, shape=found.shape,
        names=found.names, classes=found.classes, notices=notices,
    )  # fmt: skip


def _told_table(found: Table, inputs: Inputs, told: Told) -> Any:
    """All rows for a trained model, as `Inputs.table` has them, with what they are told.

    Raises
    ------
    DataError
        A value, or what is told, does not fit the model.
    """
    with _placed(found, inputs.names):
        table = inputs.table(found.X, shown(found.name))
    return found.told.beside(table, told)


def _part(found: Table, table: Any, rows: NDArray[np.int64], inputs: Inputs) -> Part:
    """Some rows of a table, which `table` has with what they are told.

    Raises
    ------
    DataError
        A value does not fit the likelihood.
    """
    with _placed(found, inputs.names):
        values = inputs.enter(table, rows, called=shown(found.name))
    labels = None if found.labels is None else found.labels[rows]
    volume = inputs.log_volume_of(table, rows)
    return Part(found.X[rows], values, labels, lambda chosen: inputs.exact(table[rows[chosen]]), volume)


@contextmanager
def _placed(found: Table, names: NDArray[Any] | None) -> Iterator[None]:
    """Refusals of a value name its place in the file."""
    try:
        yield
    except DataError as error:
        raise DataError(in_file(str(error), found.cell, found.X.shape[1], names)) from error


def in_file(message: str, cell: Callable[[int, int], str] | None, columns: int, names: NDArray[Any] | None) -> str:
    """A message on a value of a table, with its place in the file where the reader knows it (see `checking.placed`)."""
    return message if cell is None else checking.placed(message, cell, columns, names)


def _choice(found: Table, source: Source, inputs: Inputs, told: Told) -> str:
    """One line on likelihood and scaling, and why they were chosen, and on what is told."""
    reason = why(source.likelihood, source.method, inputs)
    because = f" ({reason})" if reason else ""
    tested = f"{len(found.test):,} of its {len(found.X):,} rows are" if len(found.test) else "none of its rows is"
    said = (
        f"{shown(found.name)}: a table; {tested} held out as the test set; likelihood {inputs.likelihood}{because}, "
        f"scaling {inputs.method or 'none'}{shown(told.described)}{_missing(found)}"
    )
    return said if inputs.schema is None else f"{said}\n{shown(found.name)}: {kinds.described(inputs.schema)}"


def _missing(found: Table) -> str:
    """How many values of a table are missing, as the end of a line; empty for none."""
    if not isinstance(found.X, np.ndarray):
        return ""
    count, size = int(count_gaps(found.X).sum()), found.X.size
    if found.schema is not None and found.fields is not None:
        count, size = kinds.gaps_in(found.fields, found.schema)
    are = "is" if count == 1 else "are"
    return f"; {count:,} of {size:,} values ({100 * count / size:.2g} %) {are} missing" if count else ""
