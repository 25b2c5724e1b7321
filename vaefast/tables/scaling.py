"""How a table of the user's becomes the inputs of the networks, and how the decoder's answers go back to the user's units.

No copy of the data is made in float64: whatever arrives is taken a block of rows at a time into bytes or float32, and bytes
and float32 that need no change are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError, SettingsError
from vaefast.models.conditions import Conditioned, parted
from vaefast.models.count_rows import CountRows
from vaefast.models.gaps import gaps_of
from vaefast.models.settings import COUNT_LIKELIHOODS, REAL_LIKELIHOODS
from vaefast.tables.checking import place
from vaefast.tables.columns import Stray, extremes, moments, strays
from vaefast.tables.counting import counted, dense
from vaefast.tables.gaps import count_gaps
from vaefast.tables.mixed.schema import Schema
from vaefast.tables.pieces import blocks, pieces

SCALINGS = ("auto", "standard", "minmax", "grey", None)
WHITE = 255
# What float32 holds, and so the engines.
LARGEST = float(np.finfo(np.float32).max)
# In training, scaled values are cut to this many standard deviations: one that is farther away would outweigh all other rows
# of its minibatch, and Adam's second moments would hold its square for a thousand steps.
CUT = 100.0
# The same in a column whose spread was measured without its stray values: one row in 50 at this distance doubles its variance.
CUT_OF_STRAYS = 10.0


@dataclass(frozen=True, eq=False)
class Inputs:
    """What happens to each value on its way into the networks: x = (value - shift) / scale. What is missing stays NaN.

    Parameters
    ----------
    likelihood
        The one that the values must fit.
    method
        `standard` (mean 0, standard deviation 1 of each column), `minmax` (each column to [0, 1], later values clipped),
        `grey` (levels 0 to 255 to [0, 1]), or None: values as they are.
    bytes_are_grey
        Of a model of the command line: uint8 stands for level / 255, as its readers of pictures have it, and other types for
        themselves.
    shift, scale
        (X,) float64 each; None where there is no method, and for `grey`.
    names
        Of the columns, where they have any, for messages.
    constant
        Columns, (X,), of `standard` that had one value only so far, or none: their scale is 1 until they have more.
    unseen
        Columns, (X,), of which no value has been seen: their shift is 0. None where there are none.
    schema
        Of `mixed`: the columns of the user's table, of which X encoded ones are made. Values here are encoded.
    cut
        How far from 0 scaled values may be in training, (X,); None is no bound.
    """

    likelihood: str
    method: str | None = None
    bytes_are_grey: bool = False
    shift: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None
    constant: NDArray[np.bool_] | None = None
    cut: NDArray[np.float64] | None = None
    names: NDArray[Any] | None = None
    unseen: NDArray[np.bool_] | None = None
    schema: Schema | None = None

    @property
    def are_pictures(self) -> bool:
        """Whether values are grey levels, of bytes at least."""
        return self.method == "grey" or self.bytes_are_grey

    @property
    def log_volume(self) -> float:
        """What to take from a log-density of x, in nats, for that of the values: 0 where p(x | z) is no density."""
        return float(np.sum(self.log_volumes))

    @property
    def log_volumes(self) -> NDArray[np.float64] | float:
        """The same for each column, (X,); grey levels are the numbers level / 255."""
        return 0.0 if self.scale is None or self.likelihood == "bernoulli" else np.log(self.scale)

    def log_volume_of(self, X: Any, order: NDArray[np.int64] | None = None) -> NDArray[np.float64] | float:
        """`log_volume` of these rows of X, (N, X), or of all: (n,) if a value is missing, whose column counts for nothing, or
        was encoded as its logarithm."""
        X, _ = parted(X)
        volumes = self.log_volumes
        if self.schema is not None and self.schema.has_slopes:
            return self.log_volumes_of(X if order is None else X[order]).sum(axis=1)
        if not isinstance(volumes, np.ndarray) or not isinstance(X, np.ndarray):
            return self.log_volume
        found = np.full(len(X) if order is None else len(order), self.log_volume)
        holed = False
        for rows, block in pieces(X, order):
            gaps = gaps_of(block)
            if gaps is not None:
                some, holed = np.flatnonzero(gaps.any(axis=1)), True
                found[rows.start + some] = np.where(gaps[some], 0.0, volumes).sum(axis=1)
        return found if holed else self.log_volume

    def log_volumes_of(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """`log_volumes` of each value of X, (N, X); 0 where it is missing."""
        volumes, gaps = np.broadcast_to(self.log_volumes, X.shape), gaps_of(X)
        volumes = volumes if self.schema is None else volumes + self.schema.log_slopes(X)
        return np.array(volumes) if gaps is None else np.where(gaps, 0.0, volumes)

    @property
    def are_counts(self) -> bool:
        """Whether the likelihood is one of counts."""
        return self.likelihood in COUNT_LIKELIHOODS

    def table(self, X: Any, called: str = "X") -> Any:
        """A checked table, (N, X), dense or sparse, as the other methods take it: rows of counts, or a NumPy array.

        Raises
        ------
        DataError
            A number is no count under a likelihood of counts; or it is sparse and too large for another likelihood.
        """
        X, told = parted(X)
        table = counted(X, self.names, called) if self.are_counts else dense(X, called)
        return table if told is None else Conditioned(table, told)

    def enter(self, X: Any, order: NDArray[np.int64] | None = None, *, training: bool = False, called: str = "X") -> Any:
        """The values, (N, X), as the networks see them: C-contiguous bytes or float32, infinite where float32 ends; or counts.

        Parameters
        ----------
        order
            Which rows to take, and in which order: all, as they stand, without it.
        training
            Whether values are cut at `cut`.
        called
            What messages call X.

        Raises
        ------
        DataError
            A value does not fit the likelihood, or is missing under one of counts; the message holds its row and its column.
        """
        X, told = parted(X)
        if told is not None:
            entered = self.enter(X, order, training=training, called=called)
            return Conditioned(entered, told if order is None else told[order])
        if self.are_counts:
            counts = counted(X, self.names, called)
            return counts if order is None else counts[order]
        X = dense(X, called)
        if self.shift is None and self.are_levels(X) and _are_bytes(X):
            return np.ascontiguousarray(X if order is None else X[order], np.uint8)
        unchanged = self.shift is None and not self.are_levels(X)
        if unchanged and order is None and X.dtype == np.float32 and X.flags.c_contiguous:
            for rows in blocks(X):
                self._check(X[rows], X, np.arange(rows.start, rows.stop), training, called)
            return X
        count = len(X) if order is None else len(order)
        x = np.empty((count, X.shape[1]), np.float32)
        for rows in blocks(x):
            chosen = np.arange(rows.start, rows.stop) if order is None else order[rows]
            block = self._scaled(X[rows] if order is None else X[chosen])
            self._check(block, X, chosen, training, called)
            if training and self.cut is not None:
                block = np.clip(block, -self.cut, self.cut)
            with np.errstate(over="ignore"):
                x[rows] = block
        return x

    def exact(self, X: Any) -> Any:
        """Some rows of the values, (n, X), as the networks would see them in float64."""
        X, told = parted(X)
        if told is not None:
            return Conditioned(self.exact(X), told)
        # Rows of counts overflow nothing and have sizes of their own.
        return X if isinstance(X, CountRows) else np.asarray(self._scaled(X), np.float64)

    def leave(self, x: NDArray[Any]) -> NDArray[Any]:
        """Means of x, (..., X), in the units of the values."""
        return x if self.shift is None or self.scale is None else x * self.scale + self.shift

    def widened(self, X: NDArray[Any]) -> tuple[Inputs, NDArray[np.int64]]:
        """These inputs with a scale for the columns that had one value only so far and have more with X, (N, X); which."""
        X, _ = parted(X)
        if self.constant is None or self.shift is None or self.scale is None:
            return self, np.empty(0, np.int64)
        columns = np.flatnonzero(self.constant)
        given = X[:, columns].astype(np.float64)
        # What they were until now counts as one row, so that there is a spread; of an unseen column that is nothing.
        until_now = self.shift[columns] if self.unseen is None else np.where(self.unseen, np.nan, self.shift)[columns]
        some = ((given != until_now) & ~np.isnan(given)).any(axis=0)
        columns, seen = columns[some], np.vstack([given, until_now])[:, some]
        if not columns.size:
            return self, columns
        shift, scale, constant = self.shift.copy(), self.scale.copy(), self.constant.copy()
        if self.method == "minmax":
            shift[columns], high = extremes(seen)
            spread = high - shift[columns]
        else:
            shift[columns], spread = moments(seen)
        scale[columns], constant[columns] = np.where(spread == 0, 1.0, spread), spread == 0
        unseen = None if self.unseen is None else self.unseen.copy()
        if unseen is not None:
            unseen[columns] = False
        return replace(self, shift=shift, scale=scale, constant=constant, unseen=unseen), columns

    def far(self, X: NDArray[Any]) -> tuple[int, int, float] | None:
        """Row and column of the value of X, (N, X), that is farthest past `cut`, and how far in scales; None if none is."""
        X, _ = parted(X)
        if self.cut is None:
            return None
        worst, where = 1.0, None
        for rows in blocks(X):
            distance = np.abs(self._scaled(X[rows])) / self.cut
            gaps = gaps_of(distance)
            if gaps is not None:
                distance[gaps] = 0.0
            if distance.size and distance.max() > worst:
                row, column = (int(i) for i in np.unravel_index(np.argmax(distance), distance.shape))
                worst, where = float(distance.max()), (rows.start + row, column, float(distance.max() * self.cut[column]))
        return where

    def are_levels(self, X: NDArray[Any]) -> bool:
        return self.method == "grey" or (self.bytes_are_grey and X.dtype == np.uint8)

    def _scaled(self, block: NDArray[Any]) -> NDArray[Any]:
        if self.are_levels(block):
            block = block / WHITE
        if self.shift is None or self.scale is None:
            return block
        # Only where values and units are at the ends of float64 is the result past them: infinite, and of the right sign.
        with np.errstate(over="ignore"):
            block = (block - self.shift) / self.scale
        return np.clip(block, 0, 1) if self.method == "minmax" else block

    def _check(self, block: NDArray[Any], given: NDArray[Any], rows: NDArray[np.int64], training: bool, called: str) -> None:
        """Refuse values of a block, (n, X), of these rows of those given, (N, X), that do not fit."""
        # What is encoded was checked when it was.
        gaussian = self.likelihood in REAL_LIKELIHOODS or self.schema is not None
        if block.size == 0 or (gaussian and (not training or self.cut is not None)):
            return
        low, high = (-LARGEST, LARGEST) if gaussian else (0, 1)
        if block.min() >= low and block.max() <= high:
            return
        fits = ((block >= low) & (block <= high)) | np.isnan(block)
        if fits.all():
            return
        at, column = np.unravel_index(np.argmin(fits), block.shape)
        row = int(rows[at])
        where = f"{called}: {place(row, int(column), self.names)} is {given[row, column]}"
        if gaussian:
            raise DataError(f"{where}, which is too large: scale the column, or choose scaling standard")
        levels = self.method == "grey"
        wanted = "grey levels from 0 to 255" if levels else "numbers in [0, 1]"
        choices = "scaling minmax" if levels else "scaling minmax (or grey for levels 0 to 255)"
        raise DataError(
            f"{where}, but likelihood {self.likelihood} takes {wanted}: scale the column, choose {choices}, or "
            "likelihood gaussian"
        )


def choose(
    X: NDArray[Any],
    likelihood: str,
    scaling: str | None,
    rows: NDArray[np.int64] | None = None,
    weights: NDArray[np.float64] | None = None,
    names: NDArray[Any] | None = None,
    schema: Schema | None = None,
) -> tuple[Inputs, list[Stray]]:
    """Likelihood and scaling for these values, (N, X), where either is left to choose; the columns that few values dominate.

    `auto` is Bernoulli for values that are all 0 or 1 and for grey levels, and Gaussian for all others; its scaling is
    `standard` for a Gaussian and a Student-t, and none for the others. Missing values decide nothing. `auto` leaves stray
    values out of a column's mean and standard deviation, where `standard`, asked for by name, takes all.

    Parameters
    ----------
    rows, weights
        Which rows to look at, in which order, and what each of them counts for: all and alike without them.
    names
        Of the columns, for messages.
    schema
        Of a table of columns of different kinds, whose values are encoded by it: the likelihood is then `mixed`, and columns
        of real numbers are scaled.

    Raises
    ------
    SettingsError
        There is no such scaling, or it does not go with the likelihood.
    """
    if scaling not in SCALINGS:
        raise SettingsError(f"scaling is {scaling!r}: choose 'auto', 'standard', 'minmax', 'grey' or None")
    if schema is not None:
        return _mixed(X, schema, scaling, rows, weights)
    if likelihood in COUNT_LIKELIHOODS:
        if scaling not in ("auto", None):
            raise SettingsError(f"scaling is {scaling!r}, but likelihood {likelihood} takes counts as they are: choose None")
        return Inputs(likelihood, None, names=names), []
    if likelihood == "auto":
        real = scaling == "standard" or (scaling not in ("minmax", "grey") and not are_binary(X, rows))
        likelihood = "gaussian" if real else "bernoulli"
    method = ("standard" if likelihood in REAL_LIKELIHOODS else None) if scaling == "auto" else scaling
    if method == "standard" and likelihood not in REAL_LIKELIHOODS:
        raise SettingsError(f"scaling is 'standard', but likelihood {likelihood} takes values in [0, 1]: choose minmax")
    if method == "standard":
        return _standardized(X, Inputs(likelihood, method, names=names), scaling == "auto", rows, weights)
    if method == "minmax":
        low, high = extremes(X, rows)
        unseen, shift = np.isnan(low), np.where(np.isnan(low), 0.0, low)
        constant = ~(high > low)
        scale = np.where(constant, 1.0, high - low)
        flags = _if_any(constant), _if_any(unseen)
        return Inputs(likelihood, method, shift=shift, scale=scale, constant=flags[0], names=names, unseen=flags[1]), []
    return Inputs(likelihood, method, names=names, unseen=_if_any(_unseen(X, rows))), []


def _unseen(X: NDArray[Any], rows: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    """Which columns of these rows of X have no value, (X,)."""
    return count_gaps(X, rows) == (len(X) if rows is None else len(rows))


def _if_any(flags: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return flags if flags.any() else None


def _are_bytes(X: NDArray[Any]) -> bool:
    """Whether every value of X, (N, X), is a whole number from 0 to 255."""
    if X.dtype == np.uint8:
        return True
    return all(bool(((X[rows] >= 0) & (X[rows] <= WHITE) & (X[rows] == np.floor(X[rows]))).all()) for rows in blocks(X))


def are_binary(X: NDArray[Any], rows: NDArray[np.int64] | None = None) -> bool:
    """Whether every value of these rows of X, (N, X), is 0 or 1, or missing."""
    return all(bool(((block == 0) | (block == 1) | (block != block)).all()) for _, block in pieces(X, rows))


def _standardized(
    X: NDArray[Any],
    inputs: Inputs,
    robust: bool,
    rows: NDArray[np.int64] | None,
    weights: NDArray[np.float64] | None,
) -> tuple[Inputs, list[Stray]]:
    shift, scale = moments(X, rows, weights)
    constant, cut = scale == 0, np.full(X.shape[1], CUT)
    found = strays(X, shift, scale, rows)
    for stray in found if robust else ():
        shift[stray.column], scale[stray.column], cut[stray.column] = stray.mean, stray.spread, CUT_OF_STRAYS
    unseen = _if_any(_unseen(X, rows))
    return replace(inputs, shift=shift, scale=np.where(constant, 1.0, scale), constant=constant, cut=cut, unseen=unseen), found


def _mixed(
    X: NDArray[Any],
    schema: Schema,
    scaling: str | None,
    rows: NDArray[np.int64] | None,
    weights: NDArray[np.float64] | None,
) -> tuple[Inputs, list[Stray]]:
    """Inputs of an encoded table, (N, X), in which the columns of real numbers are scaled and all others stay as they are."""
    if scaling not in ("auto", "standard", None):
        raise SettingsError(
            f"scaling is {scaling!r}, but likelihood mixed scales columns of real numbers alone: choose auto, standard or None"
        )
    about = Inputs("mixed", None if scaling is None else "standard", names=schema.encoded_names, schema=schema)
    if scaling is None:
        return about, []
    real, others = schema.scaled, schema.width - schema.scaled
    if not real:
        return about, []
    scaled, found = _standardized(X[:, :real], about, scaling == "auto", rows, weights)
    assert scaled.shift is not None
    assert scaled.scale is not None
    assert scaled.constant is not None
    assert scaled.cut is not None
    return replace(
        scaled, shift=np.append(scaled.shift, np.zeros(others)), scale=np.append(scaled.scale, np.ones(others)),
        constant=np.append(scaled.constant, np.zeros(others, bool)), cut=np.append(scaled.cut, np.full(others, LARGEST)),
        unseen=None,
    ), found  # fmt: skip
