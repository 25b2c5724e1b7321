"""Trained models as safetensors: plain matrices by name, and the settings in the metadata. Nothing is pickled."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError, SettingsError
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings

# Version 2 may hold Adam's moments and `scaling.cut`; a file without them is still of version 1, which older versions read.
FORMAT_VERSION = 2
# What the estimator does to a table before the networks see it: (X,) float64 each, the first two or neither.
SCALING = ("scaling.shift", "scaling.scale", "scaling.cut")
MOMENTS = ("first_moments", "second_moments")


@dataclass(frozen=True)
class SavedModel:
    """What a model file holds.

    `training` is what a reader must know to feed the model as it was trained (`binarize`), and what made it; `estimator`
    what `vaefast.VAE` adds, empty for a model of the command line; `scaling` the tensors of `SCALING` that there are;
    `moments` Adam's, first and second, in plain form, where they were kept.
    """

    model: ModelSettings
    parameters: NDArray[np.float32]
    training: Mapping[str, Any]
    estimator: Mapping[str, Any] = field(default_factory=dict)
    scaling: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    moments: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None


def serialize(
    layout: Layout,
    parameters: NDArray[np.float32],
    training: Mapping[str, object],
    estimator: Mapping[str, object] | None = None,
    scaling: Mapping[str, NDArray[np.float64]] | None = None,
    moments: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> bytes:
    """The content of `model.safetensors`: the same bytes for the same parameters and settings.

    Parameters
    ----------
    parameters
        Plain form, (layout.size,).
    training, estimator, scaling, moments
        See `SavedModel`.
    """
    from safetensors.numpy import save

    # safetensors scrambles arrays that are not C-contiguous without a word.
    arrays = {**layout.views(parameters), **(scaling or {})}
    for prefix, vector in zip(MOMENTS, moments or (), strict=False):
        arrays |= {f"{prefix}.{name}": view for name, view in layout.views(vector.astype(np.float32)).items()}
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {
        "format": "vaefast",
        "format_version": str(FORMAT_VERSION if moments is not None or "scaling.cut" in arrays else 1),
        "model": json.dumps(layout.model.as_values(), sort_keys=True),
        "training": json.dumps(training, sort_keys=True),
    }
    if estimator:
        metadata["estimator"] = json.dumps(estimator, sort_keys=True)
    return _with_sorted_header(save(tensors, metadata))


def read(path: Path) -> SavedModel:
    """A model file with its names, shapes, types and finiteness checked. Nothing in the file is ever run.

    Raises
    ------
    DataError
        The file is missing, no model of vaefast, damaged, or of a newer format.
    """
    from safetensors import SafetensorError, safe_open

    _check_regular(path)
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata)
            described = {key: _parsed(path, metadata, key) for key in ("model", "training", "estimator")}
            model = _model_settings(path, described["model"])
            layout = _layout_within(path, model)
            tensors = _checked_tensors(path, layout, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except SafetensorError as error:
        raise DataError(f"{path} is no model file of vaefast, which are safetensors ({error}): give another") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    scaling = {name: tensors.pop(name) for name in SCALING if name in tensors}
    parameters = layout.flatten(tensors, np.float32)
    about = described["training"], described["estimator"]
    return SavedModel(model, parameters, *about, scaling, _moments(layout, tensors))


def _moments(layout: Layout, tensors: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    if f"{MOMENTS[0]}.mean.bias" not in tensors:
        return None
    first, second = (
        layout.flatten({name: tensors[f"{prefix}.{name}"] for name in layout.tensors}, np.float32) for prefix in MOMENTS
    )
    return first, second


def _check_regular(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}; give a model.safetensors or a run's folder") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"{path} is no file: give a model.safetensors or a run's folder")


def _check_format(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != "vaefast":
        raise DataError(f"{path} is a safetensors file of another program: give one that vaefast wrote")
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) < 1:
        raise DataError(f"{path} has the format version {version!r}, which is none: give another file")
    if int(version) > FORMAT_VERSION:
        raise DataError(f"{path} has format version {version}, this vaefast reads up to {FORMAT_VERSION}: upgrade vaefast")


def _parsed(path: Path, metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        content = json.loads(metadata.get(key, "{}"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: its {key} settings are no JSON: the file is damaged, give another") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: its {key} settings are no JSON object: the file is damaged, give another")
    return content


def _model_settings(path: Path, content: dict[str, Any]) -> ModelSettings:
    unknown = set(content) - {f.name for f in fields(ModelSettings)}
    if unknown or "pixels" not in content:
        what = f"unknown {', '.join(sorted(unknown))}" if unknown else "no pixels"
        raise DataError(f"{path}: its model settings hold {what}: it was made by another version of vaefast")
    if isinstance(content.get("hidden"), list):
        content = {**content, "hidden": tuple(content["hidden"])}
    if isinstance(content.get("columns"), list):
        content = {**content, "columns": tuple((kind, width) for kind, width in content["columns"])}
    try:
        return ModelSettings(**content)
    except SettingsError as error:
        raise DataError(f"{path}: its model settings are damaged ({error})") from error


def _layout_within(path: Path, model: ModelSettings) -> Layout:
    """The layout of these settings, unless its tensors could not fit into the file: nothing that large is allocated."""
    layout = Layout(model)
    if 4 * layout.size > path.stat().st_size:
        raise DataError(f"{path} is shorter than the model that its settings describe: the file is damaged, give another")
    return layout


def _checked_tensors(path: Path, layout: Layout, tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    expected: dict[str, tuple[tuple[int, ...], type]] = {t.name: (t.shape, np.float32) for t in layout.tensors.values()}
    if any(name in tensors for name in SCALING):
        present = SCALING if SCALING[2] in tensors else SCALING[:2]
        expected |= dict.fromkeys(present, ((layout.model.pixels,), np.float64))
    if any(name.startswith(MOMENTS) for name in tensors):
        expected |= {f"{prefix}.{t.name}": (t.shape, np.float32) for prefix in MOMENTS for t in layout.tensors.values()}
    for name in sorted({*expected} ^ {*tensors}):
        raise DataError(f"{path}: tensor {name} is {'missing' if name in expected else 'unknown'}: give another file")
    for name, (shape, dtype) in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != dtype:
            wanted = f"{np.dtype(dtype)} {shape}"
            raise DataError(f"{path}: tensor {name} is {tensor.dtype} {tensor.shape}, not {wanted}: give another file")
        if not np.isfinite(tensor).all():
            raise DataError(f"{path}: tensor {name} holds a number that is not finite: give another file")
    return tensors


def _with_sorted_header(content: bytes) -> bytes:
    """The same file with its header's keys in order: safetensors writes the metadata in a random one at each call."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors stay aligned
    return len(header).to_bytes(8, "little") + header + content[start:]
