"""Write the scaling of the inputs of a model to files, and read it and what the model is told back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError
from vaefast.files.model_file import SavedModel
from vaefast.tables.mixed.schema import Schema
from vaefast.tables.scaling import CUT, LARGEST, Inputs
from vaefast.tables.told import Told

PREFIX = "scaling."
# What stands for the bound of a column of which no value has been seen.
UNSEEN = -1.0


def tensors(inputs: Inputs) -> dict[str, NDArray[np.float64]]:
    """The arrays of `Inputs`, (X,) each, by their names in a model file."""
    arrays = {"shift": inputs.shift, "scale": inputs.scale}
    if inputs.constant is not None:
        # A column with only one value so far has no bound yet, and one without any less than none.
        cut = np.where(inputs.constant, 0.0, LARGEST if inputs.cut is None else inputs.cut)
        arrays["cut"] = cut if inputs.unseen is None else np.where(inputs.unseen, UNSEEN, cut)
    return {PREFIX + name: array for name, array in arrays.items() if array is not None}


def description(inputs: Inputs, names: Sequence[str]) -> dict[str, Any]:
    """The other fields of `Inputs`, and the names of the columns, as JSON."""
    about = {"scaling": inputs.method, "bytes_are_grey": inputs.bytes_are_grey, "feature_names_in": [*names]}
    return about if inputs.schema is None else {**about, "schema": inputs.schema.as_json()}


def of_saved(saved: SavedModel) -> Inputs:
    """The inputs of a model that was read from a file."""
    return restored(saved.model.likelihood, saved.estimator, saved.scaling)


def restored(likelihood: str, about: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float64]]) -> Inputs:
    """The inputs whose `tensors` and `description` these are.

    Raises
    ------
    DataError
        The columns of a table of different kinds are damaged.
    """
    shift, scale, cut = (arrays.get(PREFIX + name) for name in ("shift", "scale", "cut"))
    constant, unseen = (None, None) if cut is None else (cut <= 0, cut < 0)
    # A model of the command line without this field reads bytes as grey levels; files of older versions say `grey_levels`.
    grey = bool(about.get("bytes_are_grey", about.get("grey_levels", not about)))
    names = np.array(about["feature_names_in"], dtype=object) if about.get("feature_names_in") else None
    cut = None if cut is None or constant is None or about.get("scaling") == "minmax" else np.where(constant, CUT, cut)
    unseen = unseen if unseen is not None and unseen.any() else None
    schema = None
    if likelihood == "mixed":
        with _of_its("columns"):
            schema = Schema.from_json(about["schema"])
        names = schema.encoded_names
    return Inputs(likelihood, about.get("scaling"), grey, shift, scale, constant, cut, names, unseen, schema)


def told_of(about: Mapping[str, Any]) -> Told:
    """What a model was told in training, from what a file says of it.

    Raises
    ------
    DataError
        It is damaged.
    """
    with _of_its("covariates"):
        return Told.from_json(about)


@contextlib.contextmanager
def _of_its(what: str) -> Iterator[None]:
    """Errors of reading what a model says of its columns, or of its covariates, as a DataError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"what the model says of its {what} is damaged: give another file") from error


def as_json(inputs: Inputs, names: Sequence[str]) -> dict[str, Any]:
    """All fields and arrays as JSON, in which a float64 loses no bit."""
    lists = {name.removeprefix(PREFIX): array.tolist() for name, array in tensors(inputs).items()}
    return {**description(inputs, names), **lists}


def from_json(likelihood: str, content: Mapping[str, Any]) -> Inputs:
    """The inputs from the result of `as_json`.

    Raises
    ------
    TypeError, ValueError
        It is not such a result.
    """
    names = (name for name in ("shift", "scale", "cut") if name in content)
    return restored(likelihood, content, {PREFIX + name: np.array(content[name], np.float64) for name in names})
