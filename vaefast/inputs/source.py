"""The description of data by the flags of a command, and its record in a run, by which the same data are found again."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vaefast.data import Kinds, Reading
from vaefast.errors import SettingsError
from vaefast.inputs import kinds
from vaefast.inputs.column_types import types_of
from vaefast.tables.scaling import Inputs

# Default share of the rows for the test set.
TEST_FRACTION = 0.1
PICTURES, TABLE = "pictures", "table"
# The value of `--scaling` that is None in Python.
NO_SCALING = "none"
# Names of data that need no path.
NAMES = ("mnist", "digits")


@dataclass(frozen=True)
class Source:
    """Where data are, and how they are read.

    Parameters
    ----------
    data
        A name or a path; None for MNIST or, if that is out of reach, the embedded digits.
    data_dir
        Folder of the MNIST files.
    likelihood, scaling
        Values of `--likelihood` and `--scaling`, including `auto`.
    test_fraction
        Share of the rows for the test set, if the data have none; 0 for no test set (tables only).
    label
        Name, or number from 1, of the column of labels. It is never trained on.
    all_columns
        Whether columns that look like labels are trained on.
    color
        Whether pictures keep their colour channels.
    layer
        For an `.h5ad` file: the layer to read instead of X.
    kind
        `pictures` or `table` if that is known, as in a resumed run; else None.
    covariates, size_factors
        Columns that say something of each row, by name, or number from 1: the covariates, and the size factors.
    missing
        What a cell of a table may say for a value that is missing, beside what every reader knows.
    column_types
        Kinds of columns that are asked for, as NAME=KIND.
    kinds
        Whether the columns of a table may be of different kinds.
    as_text
        Of a trained model of such a table: the columns that are text whatever the file holds, by name or number from 1. None
        for any other model, and before there is one.
    columns, known
        Number and names of the columns of a trained model of a table; 0 and empty for all columns.

    Raises
    ------
    SettingsError
        `test_fraction` is not in [0, 1), or there are covariates or size factors for pictures.
    """

    data: str | None = None
    data_dir: Path | None = None
    likelihood: str = "auto"
    scaling: str = "auto"
    test_fraction: float = TEST_FRACTION
    label: str | None = None
    all_columns: bool = False
    color: bool = False
    kind: str | None = None
    columns: int = 0
    known: tuple[str, ...] = ()
    layer: str | None = None
    covariates: tuple[str, ...] = ()
    size_factors: str | None = None
    missing: tuple[str, ...] = ()
    column_types: tuple[str, ...] = ()
    kinds: bool = False
    as_text: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.test_fraction < 1.0:
            raise SettingsError(
                f"test_fraction is {self.test_fraction!r}: give a share below 1, such as 0.1, or 0 to train on all rows"
            )
        if self.told and self.scaling == "grey":
            raise SettingsError(
                "covariates and size_factors are for tables, and scaling grey is for pictures: choose another scaling, or fit "
                "vaefast.VAE in Python"
            )
        if self.column_types and self.likelihood not in ("auto", "mixed"):
            raise SettingsError(
                f"column_types are given, but likelihood is {self.likelihood!r}: choose mixed, or leave them out"
            )
        types_of(self.column_types)

    @property
    def method(self) -> str | None:
        """The scaling, as a parameter of `vaefast.VAE`."""
        return None if self.scaling == NO_SCALING else self.scaling

    @property
    def reading(self) -> Reading:
        """How files are read; the split is another matter."""
        return Reading(self.label, self.all_columns, self.color, self.layer, missing=self.missing, kinds=self._kinds)

    @property
    def is_mixed(self) -> bool:
        """Whether the data are known to be a table of columns of different kinds."""
        return self.kinds and (self.likelihood == "mixed" or bool(self.column_types) or self.as_text is not None)

    @property
    def _kinds(self) -> Kinds | None:
        """How columns of different kinds are read; None where such a table is refused, because the numbers are scaled."""
        if not self.kinds or not (self.is_mixed or self.scaling == "auto"):
            return None
        chosen = frozenset(name for name, kind in types_of(self.column_types).items() if kind in ("binary", "categorical"))
        return Kinds(self.is_mixed, self.as_text or frozenset(), chosen)

    @property
    def told(self) -> tuple[str, ...]:
        """The covariates and, if there are any, the size factors."""
        return self.covariates if self.size_factors is None else (*self.covariates, self.size_factors)

    def for_model(self, inputs: Inputs, own: bool = False) -> Source:
        """The same, read as a trained model takes it: by its columns, or as numbers alone.

        Parameters
        ----------
        own
            Whether these are the data that it was trained on, which are read as they were then.
        """
        schema = inputs.schema
        if schema is None:
            return replace(self, kinds=False)
        if own:
            return replace(self, kinds=True, as_text=frozenset())
        known = kinds.known_columns(schema)
        return replace(self, kinds=True, as_text=kinds.as_text(schema), columns=len(schema.columns), known=known)

    def record(self, kind: str, name: str) -> dict[str, Any]:
        """The record that a run keeps: plain JSON, valid in any working directory.

        Parameters
        ----------
        kind
            `pictures` or `table`, as found.
        name
            Name of the data that were found.
        """
        data = self.data or ("mnist" if name == "mnist" else "digits")
        # A folder may hold what means something in a pattern, such as brackets.
        here = "" if os.path.isabs(data) or os.path.exists(data) else glob.escape(os.getcwd())
        path = data if data in NAMES else os.path.abspath(os.path.join(here, data))
        record = {"data": path, "data_dir": None if self.data_dir is None else os.path.abspath(self.data_dir)}
        # Pictures that are read and split as in older versions keep the record of older versions.
        said = {"scaling": self.scaling, "test_fraction": self.test_fraction}
        said |= {"label": self.label, "all_columns": self.all_columns, "color": self.color, "layer": self.layer}
        said |= {"covariates": [*self.covariates], "size_factors": self.size_factors, "missing": [*self.missing]}
        said |= {"column_types": [*self.column_types]}
        said = {name: value for name, value in said.items() if value != SPLIT[name]}
        return {**record, **said} if kind == PICTURES else {**record, "kind": kind, **said}


# How data are read and split if the record of a run does not say.
SPLIT: dict[str, Any] = {
    "scaling": "auto", "test_fraction": TEST_FRACTION, "label": None, "all_columns": False, "color": False, "layer": None,
    "covariates": [], "size_factors": None, "missing": [], "column_types": [],
}  # fmt: skip


def recorded(record: Mapping[str, Any]) -> Source:
    """The source that `Source.record` recorded. Runs of older versions are of pictures.

    Raises
    ------
    KeyError, TypeError, SettingsError
        This is not such a record.
    """
    data_dir, kind = record["data_dir"], record.get("kind", PICTURES)
    said = {name: record.get(name, usual) for name, usual in SPLIT.items()}
    if type(said["test_fraction"]) is int:  # as a TOML file may have given it
        said["test_fraction"] = float(said["test_fraction"])
    if kind not in (PICTURES, TABLE) or not isinstance(said["test_fraction"], float) or not isinstance(said["scaling"], str):
        raise TypeError(f"a source of kind {kind!r}, read and split as {said}")
    said |= {name: tuple(str(each) for each in said[name]) for name in ("covariates", "missing", "column_types")}
    return Source(str(record["data"]), None if data_dir is None else Path(data_dir), kind=kind, **said)
