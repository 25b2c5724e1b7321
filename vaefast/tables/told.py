"""What `VAE` is told of the rows beside their values: covariates and size factors, as they were in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vaefast.errors import DataError
from vaefast.models.conditions import Conditioned
from vaefast.models.count_rows import CountRows
from vaefast.tables.checking import numbers_in
from vaefast.tables.covariates import Covariates, of_those_that_count
from vaefast.tables.frames import as_pandas
from vaefast.tables.row_weights import with_stand_ins


class Given(NamedTuple):
    """A checked table, and what is told of its rows."""

    table: Any  # (N, X)
    covariates: NDArray[np.float32] | None = None  # (N, C), as the networks see them
    size_factors: NDArray[np.float64] | None = None  # (N,), scaled


@dataclass(frozen=True)
class Told:
    """What a model was told in training.

    Parameters
    ----------
    covariates
        The covariates; None without any.
    size_scale
        What size factors are multiplied by, so that their mean is that of the totals; None without size factors.
    size_name
        Of the column of size factors, if it has one.
    """

    covariates: Covariates | None = None
    size_scale: float | None = None
    size_name: str | None = None

    @property
    def width(self) -> int:
        """C, the columns of covariates that the networks see."""
        return 0 if self.covariates is None else self.covariates.width

    @classmethod
    def learned(
        cls,
        X: Any,
        covariates: Any,
        size_factors: ArrayLike | None,
        subset: NDArray[np.int64] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> tuple[Told, Given]:
        """What the rows of X, (N, X), a checked table, are told in training.

        Parameters
        ----------
        subset
            The rows to learn from, as if there were no others; all without it. All rows are told.
        weights
            What each row counts for, (N,). Covariates of a row that counts for nothing are not looked at.

        Raises
        ------
        DataError
            A covariate is missing or not finite, a size factor is not above 0, or there are not as many as rows.
        """
        rows = X.shape[0]
        if covariates is not None and weights is not None:
            covariates = of_those_that_count(covariates, rows, weights)
        known = None if covariates is None else Covariates.of(covariates, rows, subset=subset, weights=weights)
        encoded = None if known is None else known.encoded(covariates, rows)
        if size_factors is None:
            return cls(known), Given(X, encoded)
        factors = _factors(size_factors, rows, "size_factors", None if weights is None else with_stand_ins(weights))
        totals = X.totals() if isinstance(X, CountRows) else np.asarray(X.sum(axis=1, dtype=np.float64)).reshape(-1)
        if weights is None:
            seen = slice(None) if subset is None else subset
            total, exposure = (float(values[seen].sum()) for values in (totals, factors))
        else:
            counts = weights > 0  # the values of other rows may be missing
            total, exposure = (float(values[counts] @ weights[counts]) for values in (totals, factors))
        scale = total / exposure if total > 0 else 1.0
        name = getattr(size_factors, "name", None)
        return cls(known, scale, None if name is None else str(name)), Given(X, encoded, factors * scale)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the covariates."""
        return () if self.covariates is None else tuple(column.name for column in self.covariates.columns)

    @property
    def size_column(self) -> str | None:
        """The column of a file that holds the size factors; None for a model without.

        Raises
        ------
        DataError
            They came without a name.
        """
        if self.size_scale is not None and self.size_name is None:
            raise DataError(
                "the model was trained with size factors that had no name, so no column of a file is known to hold them: use "
                "vaefast.load in Python, and give size_factors"
            )
        return self.size_name

    @property
    def described(self) -> str:
        """What is told, in words, as the end of a line; empty for nothing."""
        said = ""
        if self.covariates is not None:
            columns = f"{self.width} column{'' if self.width == 1 else 's'}"
            said = f"; covariates {', '.join(map(str, self.covariates.columns))}, which become {columns}"
        if self.size_scale is None:
            return said
        return f"{said}; size factors{'' if self.size_name is None else f' {self.size_name}'}"

    def of_rows(self, covariates: Any, rows: int, prefix: str = "") -> NDArray[np.float32] | None:
        """The covariates of so many rows as the networks see them, (N, C).

        Raises
        ------
        DataError
            The model has covariates and none are given, or the other way round, or they do not fit the model.
        """
        if self.covariates is None:
            if covariates is not None:
                raise DataError(f"{prefix}covariates are given, but the model was trained without: leave them out")
            return None
        if covariates is None:
            raise DataError(f"the model was trained with covariates {self.covariates.names}: give {prefix}covariates, too")
        return self.covariates.encoded(covariates, rows, f"{prefix}covariates")

    def with_covariates(self, table: Any, covariates: Any, prefix: str = "") -> Any:
        """A table as `Inputs.table` has it, with the covariates of its rows. Raises what `of_rows` raises."""
        told = self.of_rows(covariates, len(table), prefix)
        return table if told is None else Conditioned(table, told)

    def beside(self, table: Any, covariates: Any, size_factors: ArrayLike | None, prefix: str = "") -> Any:
        """The same with size factors, where there are any.

        Raises
        ------
        DataError
            As for `of_rows`; and the same for size factors.
        """
        if (self.size_scale is None) != (size_factors is None):
            raise DataError(
                f"{prefix}size_factors are given, but the model was trained without: leave them out"
                if self.size_scale is None
                else f"the model was trained with size factors: give {prefix}size_factors, one for each row"
            )
        if size_factors is not None and self.size_scale is not None:
            factors = _factors(size_factors, len(table), f"{prefix}size_factors")
            table = replace(table, sizes=factors * self.size_scale)
        return self.with_covariates(table, covariates, prefix)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON, without those that say nothing."""
        about: dict[str, Any] = {} if self.covariates is None else {"covariates": self.covariates.as_json()}
        if self.size_scale is not None:
            about["size_scale"] = self.size_scale
        if self.size_name is not None:
            about["size_factors"] = self.size_name
        return about

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Told:
        """The inverse of `as_json`; other entries are ignored.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is not such a result.
        """
        known = Covariates.from_json(content["covariates"]) if "covariates" in content else None
        name = content.get("size_factors")
        scale = float(content["size_scale"]) if "size_scale" in content else None
        return cls(known, scale, None if name is None else str(name))


def _factors(given: ArrayLike, rows: int, called: str, read: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Size factors, (N,), all finite and above 0; `read` says of each row which to read instead."""
    factors = numbers_in(as_pandas(given, called), called).astype(np.float64).reshape(-1)
    if len(factors) != rows:
        raise DataError(f"{called} has {len(factors)} values, but X has {rows} rows: give one for each")
    factors = factors if read is None else factors[read]
    wrong = ~((factors > 0) & np.isfinite(factors))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{called}: row {row} (counted from 0) is {factors[row]:g}: give a number above 0")
    return factors
