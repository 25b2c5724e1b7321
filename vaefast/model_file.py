"""Trained models as safetensors: plain matrices by name, and the settings in the metadata. Nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from vaefast.layout import Layout

FORMAT_VERSION = 1


def serialize(layout: Layout, parameters: NDArray[np.float32], training: Mapping[str, object]) -> bytes:
    """The content of `model.safetensors`: the same bytes for the same parameters and settings.

    Parameters
    ----------
    parameters
        Plain form, (layout.size,).
    training
        What a reader must know to feed the model as it was trained (`binarize`), and what made it.
    """
    from safetensors.numpy import save

    # safetensors scrambles arrays that are not C-contiguous without a word.
    tensors = {name: np.ascontiguousarray(view) for name, view in layout.views(parameters).items()}
    metadata = {
        "format": "vaefast",
        "format_version": str(FORMAT_VERSION),
        "model": json.dumps(asdict(layout.model), sort_keys=True),
        "training": json.dumps(training, sort_keys=True),
    }
    return _with_sorted_header(save(tensors, metadata))


def _with_sorted_header(content: bytes) -> bytes:
    """The same file with its header's keys in order: safetensors writes the metadata in a random one at each call."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors stay aligned
    return len(header).to_bytes(8, "little") + header + content[start:]
