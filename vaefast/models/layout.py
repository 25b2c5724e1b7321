"""Names, shapes, padding and offsets of every parameter, in ONE flat vector. No other module knows an offset.

Two forms of the same parameters:

* the *plain* form, in which engines exchange their state and models are saved: every tensor row-major, no padding;
* the *panel* form, in which compiled engines compute: a matrix (inputs, outputs) is cut into panels of `PANEL` columns,
  each panel stored as one contiguous block (inputs, PANEL), so that a register tile reads whole cache lines in order.
  The last panel is padded with zeros, which stay zero: every gradient of a padded column is exactly zero.

Tensors stand in the order in which the forward pass meets them. The two heads of the recognition network are neighbours
(both weights, then both biases), so in panel form they are *one* matrix of twice as many panels: one product gives the
mean and log_std together. The two outputs a column of a zero-inflated likelihood are *one* matrix, too, in which the panels
of the two take turns, so that half of the panels is both outputs of half of the columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.models.columns import blocks_of
from vaefast.models.settings import ModelSettings

# 16 float32 columns are one cache line, one AVX-512 register, two AVX2 or four NEON registers.
PANEL = 16
# What a likelihood learns of each of its columns.
OWN_PARAMETERS = {"gaussian": "x_log_std", "negative-binomial": "x_log_dispersion"}


def padded(size: int) -> int:
    """The size rounded up to whole panels."""
    return -(-size // PANEL) * PANEL


@dataclass(frozen=True)
class Tensor:
    """One parameter tensor and where it stands in the flat vector of either form."""

    name: str
    shape: tuple[int, ...]
    offset: int
    panel_offset: int
    panel_step: int  # from one of its panels to the next in the flat vector

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def inputs(self) -> int:
        """Rows of a weight matrix; 1 for a bias."""
        return self.shape[0] if len(self.shape) == 2 else 1

    @property
    def outputs(self) -> int:
        return self.shape[-1]

    def in_panels(self, vector: NDArray[Any]) -> NDArray[Any]:
        """Its panels in a vector in panel form, (panels, inputs, PANEL): a view, not a copy."""
        panels = padded(self.outputs) // PANEL
        # The last panel may end before a whole step does.
        ends = vector[self.panel_offset : self.panel_offset + (panels - 1) * self.panel_step + self.inputs * PANEL]
        size = ends.itemsize
        strides = (self.panel_step * size, PANEL * size, size)
        return np.lib.stride_tricks.as_strided(ends, (panels, self.inputs, PANEL), strides, writeable=vector.flags.writeable)

    def in_both(self, vector: NDArray[Any], panels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The rows of its full panels in a plain vector and in one in panel form, (panels, inputs) each: views.

        A row of a panel is one element, of no type, because NumPy copies 16 numbers much slower than one of their size.
        """
        size, full = vector.itemsize, self.outputs // PANEL
        shape, row = (full, self.inputs), f"V{PANEL * size}"
        plain = np.ndarray(shape, row, vector, self.offset * size, (PANEL * size, self.outputs * size))
        return plain, np.ndarray(shape, row, panels, self.panel_offset * size, (self.panel_step * size, PANEL * size))

    def rest_in_both(self, vector: NDArray[Any], panels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The columns behind its full panels in a plain vector, (inputs, columns), and their panel, (inputs, PANEL): views."""
        matrix = vector[self.offset : self.offset + self.size].reshape(self.inputs, self.outputs)
        return matrix[:, self.outputs // PANEL * PANEL :], self.in_panels(panels)[-1]


class Layout:
    """Every tensor of a model with its place.

    Parameters
    ----------
    model
        The sizes.

    Attributes
    ----------
    tensors
        By name, in the order of the vector: `encoder.0.weight (X, H)`, `encoder.0.bias (H,)`, ..., `mean.weight (H, Z)`,
        `log_std.weight`, `mean.bias`, `log_std.bias`, `decoder.0.weight (Z, H)`, ..., `logits.weight (H, X)`,
        `logits.bias (X,)`. A layer computes `x @ weight + bias`. A Gaussian likelihood adds `x_log_std (X,)`, and its logits
        are the means of the pixels; a negative binomial `x_log_dispersion (X,)`; its zero inflation `zero_logits.weight
        (H, X)` behind `logits.weight`, and `zero_logits.bias (X,)` behind `logits.bias`. A Student-t adds `scales` and
        `freedoms` in the same way. A table of several kinds has `logits.KIND` for each of them. C covariates are the last
        rows of `decoder.0.weight (Z + C, H)` and, where the encoder sees them, of `encoder.0.weight (X + C, H)`. What is
        missing is told by rows of it behind the first X.
    size, panel_size
        Elements of the flat vector in plain and in panel form.
    """

    def __init__(self, model: ModelSettings) -> None:
        self.model = model
        self.tensors: dict[str, Tensor] = {}
        self.size = self.panel_size = 0
        for name, shape in _shapes(model):
            inputs = shape[0] if len(shape) == 2 else 1
            step, place = inputs * PANEL, self.panel_size
            if name.startswith("zero_logits"):
                place = self.tensors[name.removeprefix("zero_")].panel_offset + step
            twins = 2 if model.zero_inflation and "logits" in name else 1
            tensor = Tensor(name, shape, self.size, place, twins * step)
            self.tensors[name] = tensor
            self.size += tensor.size
            self.panel_size += inputs * padded(shape[-1])

    def views(self, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Named views (no copies) of a plain vector, (size,)."""
        return {t.name: vector[t.offset : t.offset + t.size].reshape(t.shape) for t in self.tensors.values()}

    def flatten(self, arrays: Mapping[str, NDArray[Any]], dtype: np.dtype | type) -> NDArray[Any]:
        """The plain vector, (size,), of these named tensors."""
        vector = np.empty(self.size, dtype)
        for name, view in self.views(vector).items():
            view[...] = arrays[name]
        return vector

    def to_panels(self, vector: NDArray[Any], out: NDArray[Any]) -> None:
        """Write a plain vector, (size,), into `out`, (panel_size,), with zeros in the padding."""
        vector = np.ascontiguousarray(vector, out.dtype)
        for tensor in self.tensors.values():
            plain, full = tensor.in_both(vector, out)
            full[...] = plain
            if rest := tensor.outputs % PANEL:
                columns, panel = tensor.rest_in_both(vector, out)
                panel[:, :rest] = columns
                panel[:, rest:] = 0

    def from_panels(self, panels: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The plain vector, (size,), of a vector in panel form, (panel_size,): `out`, if it is given."""
        vector = np.empty(self.size, panels.dtype) if out is None else out
        panels = np.ascontiguousarray(panels, vector.dtype)
        for tensor in self.tensors.values():
            plain, full = tensor.in_both(vector, panels)
            plain[...] = full
            if rest := tensor.outputs % PANEL:
                columns, panel = tensor.rest_in_both(vector, panels)
                columns[...] = panel[:, :rest]
        return vector


def _shapes(model: ModelSettings) -> list[tuple[str, tuple[int, ...]]]:
    encoder, decoder = (model.encoder_inputs, *model.hidden), (model.decoder_inputs, *reversed(model.hidden))
    top, bottom = encoder[-1], decoder[-1]
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def dense(name: str, inputs: int, outputs: int) -> None:
        shapes.extend([(f"{name}.weight", (inputs, outputs)), (f"{name}.bias", (outputs,))])

    for i, size in enumerate(model.hidden):
        dense(f"encoder.{i}", encoder[i], size)
    for part, shape in (("weight", (top, model.latent)), ("bias", (model.latent,))):
        shapes.extend([(f"mean.{part}", shape), (f"log_std.{part}", shape)])
    for i, size in enumerate(reversed(model.hidden)):
        dense(f"decoder.{i}", decoder[i], size)
    outputs = output_tensors(model)
    shapes.extend([(f"{name}.weight", (bottom, width)) for name, width in outputs])
    shapes.extend([(f"{name}.bias", (width,)) for name, width in outputs])
    kinds = model.columns or ((model.likelihood, model.pixels),)
    shapes.extend([(OWN_PARAMETERS[kind], (width,)) for kind, width in kinds if kind in OWN_PARAMETERS])
    return shapes


def output_tensors(model: ModelSettings) -> list[tuple[str, int]]:
    """The tensors of the decoder's outputs and their widths, neighbours in either form."""
    if model.in_blocks:
        return blocks_of(model.likelihood, model.pixels, model.columns).tensors()
    return [(name, model.pixels) for name in (("logits", "zero_logits") if model.zero_inflation else ("logits",))]
