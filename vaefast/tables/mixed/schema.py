"""Tables whose columns are of different kinds, and how each column is encoded for the engines.

The encoded table is float64, (N, X), NaN where a value is missing: columns of kind `real` as they are and `positive` ones as
their logarithm, then `heavy-tailed` ones and counts as they are, then binary columns as 0 or 1, then one column for each level
of each category. All are in the units of the data; scaling is in `scaling.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError, SettingsError
from vaefast.models.columns import COLUMN_KINDS, KINDS
from vaefast.models.fields import Field, Fields, Name
from vaefast.tables.mixed import encoding, learning
from vaefast.tables.mixed.column import Column


class LeftOut(NamedTuple):
    """A column that cannot be used, and why."""

    name: Name
    reason: str


@dataclass(frozen=True)
class Schema:
    """The columns of a table as they were in training, in their order.

    Parameters
    ----------
    columns
        All columns, those that are left out among them.
    named
        Whether they have names, as in a DataFrame.
    """

    columns: tuple[Column, ...]
    named: bool = True

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns that the model has."""
        return tuple(column for column in self.columns if column.kind is not None)

    @property
    def width(self) -> int:
        """X, the columns of the encoded table."""
        return sum(column.width for column in self.columns)

    @property
    def blocks(self) -> tuple[tuple[str, int], ...]:
        """The kinds of the encoded columns as `ModelSettings.columns` has them."""
        blocks: list[tuple[str, int]] = []
        for kind in COLUMN_KINDS:
            widths = [column.width for column in self.used if KINDS[str(column.kind)] == kind]
            if kind == "categorical":
                blocks += [(kind, width) for width in widths]
            elif widths:
                blocks.append((kind, sum(widths)))
        return tuple(blocks)

    @property
    def scaled(self) -> int:
        """How many of the encoded columns, the first ones, are real numbers, which are scaled."""
        return sum(column.width for column in self.used if KINDS[str(column.kind)] in ("gaussian", "student-t"))

    @property
    def kinds(self) -> dict[Name, str]:
        """The kind of each column that the model has."""
        return {column.name: str(column.kind) for column in self.used}

    @property
    def encoded_names(self) -> NDArray[Any]:
        """A name for each encoded column, (X,), for messages: of a level its column's name and its own."""
        names = np.empty(self.width, object)
        for column in self.used:
            labels = [f"{column.name}={level}" for level in column.levels] if column.kind == "categorical" else [column.name]
            names[column.place] = np.array([str(label) for label in labels], object)
        return names

    @classmethod
    def learned(
        cls,
        fields: Fields,
        column_types: Mapping[Any, str] | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> tuple[Schema, list[LeftOut]]:
        """The schema of a table, and the columns that cannot be used.

        A column's kind is the one that `column_types` has for its name, or otherwise:

        - text, and categories of pandas, are `categorical`, or `binary` with two values;
        - truth values are `binary`;
        - whole numbers, by their type, are `binary` if there are two, `count` if none is negative and their standard deviation
          is more than 0.6 times their mean, and otherwise `real`. Floats of which some are missing and all others are whole
          are whole numbers, too, because pandas makes these of whole numbers with holes;
        - other numbers are `binary` if all are 0 or 1; `positive` if all are above 0 and a log-normal distribution fits them
          better than a normal one, by 0.1 nats a value; `heavy-tailed` if their mean distance from the median is less than
          0.76 standard deviations; and otherwise `real`.

        A column is left out if it holds dates, as text too, objects, nothing, one text, or text that is different in nearly
        every row.

        Parameters
        ----------
        column_types
            Kinds by the names of columns, or by their places where there are no names.
        rows
            Which rows to look at, as if there were no others; all without it.

        Raises
        ------
        SettingsError
            There is no such column or kind.
        DataError
            A column cannot be of the kind asked for, or none can be used.
        """
        asked = _asked(fields, column_types)
        columns, left_out = [], []
        for field in fields.columns:
            values = field.values if rows is None else field.values[rows]
            column, reason = learning.learned(replace(field, values=values), asked.get(field.name))
            columns.append(column)
            if reason:
                left_out.append(LeftOut(field.name, reason))
        if len(left_out) == len(columns):
            raise DataError(f"no column can be used: {described(left_out)}")
        return cls(_started(columns), fields.named), left_out

    def encoded(self, fields: Fields, called: str = "X") -> NDArray[np.float64]:
        """A table as the engines see it before scaling, (N, X). Columns with names are matched by them.

        Raises
        ------
        DataError
            A column is missing or is none of the model's, or a value does not fit its column.
        """
        encoded = np.empty((fields.rows, self.width))
        for column, field in zip(self.used, self._matched(fields, called), strict=True):
            encoded[:, column.place] = encoding.encoded(column, field, called)
        return encoded

    def decoded(self, values: NDArray[np.floating], drawn: bool = False) -> list[NDArray[Any]]:
        """The values of each column that the model has, in the user's units, from an encoded table, (N, X).

        Of numbers float64 (N,), NaN where missing; else objects, None where missing. A binary column is its second level from
        one half on, a category the level with the largest number. Draws have the decimals of the training data.
        """
        return [encoding.decoded(column, np.asarray(values[:, column.place], np.float64), drawn) for column in self.used]

    def as_numbers(self, values: NDArray[np.floating], drawn: bool = False) -> NDArray[np.float64]:
        """The same as numbers, (N, columns), for figures: levels are their codes, and what is missing is NaN."""
        columns = [encoding.as_numbers(column, np.asarray(values[:, column.place], np.float64), drawn) for column in self.used]
        return np.column_stack(columns)

    def log_slopes(self, encoded: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log of the slope of each original value by its encoded one, (N, X): of positive columns x itself, of others 0.

        It is what to take from a log-density of encoded values, in nats, for that of the values as they came. 0 where missing.
        """
        slopes = np.zeros(encoded.shape)
        for column in self.used:
            if column.kind == "positive":
                slopes[:, column.start] = np.nan_to_num(encoded[:, column.start], nan=0.0)
        return slopes

    @property
    def has_slopes(self) -> bool:
        """Whether some column is encoded as its logarithm."""
        return "positive" in self.kinds.values()

    def by_column(self, terms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over the encoded columns of each column that the model has, (N, columns), of terms, (N, X)."""
        return np.stack([terms[:, column.place].sum(axis=1) for column in self.used], axis=1)

    def as_json(self) -> dict[str, Any]:
        """The schema as JSON, without what says nothing."""
        return {"named": self.named, "columns": [column.as_json() for column in self.columns]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Schema:
        """The inverse of `as_json`.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is not such a result.
        """
        return cls(_started([Column.from_json(about) for about in content["columns"]]), bool(content["named"]))

    def _matched(self, fields: Fields, called: str) -> list[Field]:
        """The columns that the model has, in its order."""
        if not (self.named and fields.named):
            return self._by_place(fields, called)
        given = {field.name: field for field in fields.columns}
        absent = next((column.name for column in self.used if column.name not in given), None)
        if absent is not None:
            raise DataError(
                f"{called} lacks the column {absent!r}, which the model was trained with: give it, if need be without values"
            )
        known = {column.name for column in self.columns}
        strange = next((name for name in given if name not in known), None)
        if strange is not None:
            raise DataError(f"{called} has the column {strange!r}, which the model was not trained with: leave it out")
        return [given[column.name] for column in self.used]

    def _by_place(self, fields: Fields, called: str) -> list[Field]:
        if len(fields.columns) != len(self.columns):
            counts = len(fields.columns), len(self.columns)
            raise DataError(
                f"{called} has {counts[0]} features, but VAE is expecting {counts[1]} features as input, as in training"
            )
        return [
            replace(field, name=column.name)
            for column, field in zip(self.columns, fields.columns, strict=True)
            if column.kind is not None
        ]


def described(left_out: Sequence[LeftOut]) -> str:
    """Which columns are left out, and why, in words."""
    return ", ".join(f"{name!r} ({reason})" for name, reason in left_out)


def check_kinds(schema: Schema | None, column_types: Mapping[Any, str] | None) -> None:
    """Refuse kinds of columns that a model, with this schema if its columns have any, goes on without.

    Raises
    ------
    SettingsError
        A column of the model is of another kind, or there is none of that name.
    """
    kinds = {} if schema is None else {str(name): kind for name, kind in schema.kinds.items()}
    for name, kind in _given(column_types).items():
        if kinds.get(str(name)) != kind:
            has = f"has {kinds[str(name)]!r}" if str(name) in kinds else "has no kind for it"
            raise SettingsError(
                f"column_types has {kind!r} for {name!r}, but the model that partial_fit continues {has}: give it back, or "
                "call fit to begin anew"
            )


def _given(column_types: Mapping[Any, str] | None) -> Mapping[Any, str]:
    if column_types is not None and not isinstance(column_types, Mapping):
        raise SettingsError(f"column_types is {column_types!r}: give a dict, such as {{'age': 'real'}}")
    return column_types or {}


def _asked(fields: Fields, column_types: Mapping[Any, str] | None) -> dict[Name, str]:
    """The kinds that a user asks for, by column."""
    given = _given(column_types)
    # In a settings file every name is text.
    known = {str(name): name for name in fields.names}
    for name, kind in given.items():
        if str(name) not in known:
            raise SettingsError(f"column_types has {name!r}, which is no column: choose among {', '.join(known)}")
        if kind not in KINDS:
            raise SettingsError(f"column_types has {kind!r} for {name!r}: choose {', '.join(KINDS)}")
    return {known[str(name)]: kind for name, kind in given.items()}


def _started(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns, each with its place in the encoded table."""
    starts, start = {}, 0
    for kind in COLUMN_KINDS:
        for at, column in enumerate(columns):
            if column.kind is not None and KINDS[column.kind] == kind:
                starts[at] = start
                start += column.width
    return tuple(replace(column, start=starts.get(at, 0)) for at, column in enumerate(columns))
