"""The covariates and size factors of a table in a file, for `vaefast.tables.told`, and refusals that name their place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.csvfields import number_in
from vaefast.data.told import ToldColumn
from vaefast.data.wording import shown
from vaefast.errors import DataError
from vaefast.tables.told import Given, Told

# How `vaefast.tables.told` begins a refusal of a value: what it is, its row and the name of its column, if it has one.
REFUSED = re.compile(r"(?:covariates|size_factors): row (\d+) \(counted from 0\)(?: of (?:'(.*)'|\"(.*)\"))?(?= is )")


@dataclass(frozen=True, eq=False)
class ToldColumns:
    """The columns of a file that say something of each row.

    Parameters
    ----------
    origin
        How messages name the file.
    covariates
        In the order in which they were asked for.
    size_factors
        The column of size factors, if there is one.
    """

    origin: str = ""
    covariates: tuple[ToldColumn, ...] = ()
    size_factors: ToldColumn | None = None

    @classmethod
    def of(cls, columns: Sequence[ToldColumn], covariates: int, origin: str) -> ToldColumns:
        """Columns of which so many are covariates, and one more, if there is one, size factors.

        Raises
        ------
        DataError
            A covariate is there twice, or size factors are text.
        """
        known = tuple(columns[:covariates])
        names = [column.name for column in known]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{origin}: the covariates name column {shown(repr(twice))} twice: give it once")
        sizes = columns[covariates] if len(columns) > covariates else None
        if sizes is not None and sizes.is_category:
            row = next((row for row, value in enumerate(sizes.values) if np.isnan(number_in(str(value)))), 0)
            what = f"{sizes.cell(row)} is {shown(repr(str(sizes.values[row])[:40]))}"
            raise DataError(f"{origin}: {what}, in a column of text or categories: size factors are numbers above 0")
        return cls(origin, known, sizes)

    def values(self, told: Told | None = None) -> dict[str, NDArray[Any]] | None:
        """The covariates by name, (N,) each; None without any. What is a category in `told` is one here, too."""
        if not self.covariates:
            return None
        kept = () if told is None or told.covariates is None else told.covariates.columns
        categories = {column.name for column in kept if column.categories is not None}
        return {column.name: column.categories if column.name in categories else column.values for column in self.covariates}

    @property
    def sizes(self) -> NDArray[np.float64] | None:
        """The size factors, (N,)."""
        return None if self.size_factors is None else self.size_factors.values

    def learned(self, X: Any, train: NDArray[np.int64]) -> tuple[Told, Given]:
        """What the training rows of a table, (N, X), say of these columns, and what all of its rows are told.

        Raises
        ------
        DataError
            A size factor is not above 0, or a row that is not trained on has a category that no training row has.
        """
        for column in self.covariates:
            if column.is_category:
                self._check_seen(column, train)
        with self.placed():
            told, given = Told.learned(X, self.values(), self.sizes, subset=train)
        return replace(told, size_name=None if self.size_factors is None else self.size_factors.name), given

    def _check_seen(self, column: ToldColumn, train: NDArray[np.int64]) -> None:
        labels = [str(value) for value in column.values]
        seen = {labels[row] for row in train.tolist()}
        row = next((row for row, label in enumerate(labels) if label not in seen), None)
        if row is not None:
            raise DataError(
                f"{self.origin}: {column.cell(row)} is {shown(repr(labels[row][:40]))}, which no training row is: leave its "
                "row out, or give --test-fraction 0"
            )

    def beside(self, table: Any, told: Told) -> Any:
        """A table as `Inputs.table` has it, with what its rows are told, for a model that was told these columns.

        Raises
        ------
        DataError
            They do not fit the model.
        """
        with self.placed():
            return told.beside(table, self.values(told), self.sizes)

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Refusals of a covariate or a size factor name its place in the file."""
        try:
            yield
        except DataError as error:
            raise DataError(self._in_file(str(error))) from error

    def _in_file(self, message: str) -> str:
        found = REFUSED.match(message)
        if found is None:
            return f"{self.origin}: {message}"
        name = found[2] or found[3]
        column = next((column for column in self.covariates if column.name == name), None) if name else self.size_factors
        where = found[0] if column is None else column.cell(int(found[1]))
        return f"{self.origin}: {where}{message[found.end() :]}"

    def content(self) -> Iterator[bytes]:
        """What tells these columns from others, for a hash; nothing if there are none."""
        for column in (*self.covariates, *filter(None, (self.size_factors,))):
            yield f"{column.name} {column.values.dtype.name};".encode()
            yield (
                json.dumps([str(value) for value in column.values]).encode() if column.is_category else column.values.tobytes()
            )
