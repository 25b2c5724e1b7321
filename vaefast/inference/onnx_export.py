"""A trained model as two ONNX graphs: opset 17, IR version 9, float32, any number of rows.

The encoder maps x to mean and log_std, the decoder z to x_mean and logits. The graphs hold no random node: a caller who wants
a sample of q(z | x) draws the noise. Scaling is part of the graphs, so both use the units of the data. Node by node they are
the forward pass of the reference engine; a number in parentheses is an equation of DERIVATION.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import OutputError, SettingsError
from vaefast.files import atomic
from vaefast.inference.network import Network
from vaefast.models.likelihoods import SERIES, SERIES_BELOW
from vaefast.models.settings import LOG_STD_BOUNDS, REAL_LIKELIHOODS
from vaefast.tables.scaling import WHITE, Inputs

OPSET, IR_VERSION = 17, 9
REMEDY = 'pip install "vaefast[onnx]"'


def write(folder: Path, network: Network, inputs: Inputs) -> tuple[Path, Path]:
    """Write `encoder.onnx` and `decoder.onnx` into a folder, made if need be; their paths.

    Raises
    ------
    SettingsError
        The package onnx is not installed, or the likelihood is one of columns of several kinds.
    OutputError
        The folder or a file cannot be written.
    """
    if network.model.columns:
        raise SettingsError("likelihood mixed has no ONNX graphs: use vaefast.load in Python")
    encoder, decoder = encoder_model(network, inputs), decoder_model(network, inputs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}; choose another") from error
    paths = folder / "encoder.onnx", folder / "decoder.onnx"
    for path, model in zip(paths, (encoder, decoder), strict=True):
        atomic.write_bytes(path, model.SerializeToString())
    return paths


def encoder_model(network: Network, inputs: Inputs) -> Any:
    """An ONNX model: x (N, X), or (N, X + C) where the encoder sees covariates, to mean and log_std, (N, Z) each.

    NaN in x is a missing value if some were missing in training.
    """
    model, graph, x = network.model, _Graph(network), "x"
    told = ""
    if model.encode_covariates:
        x, told = graph.split(x, model.pixels, model.encoder_inputs - model.indicators)
    gaps = graph.node("IsNaN", x) if model.missing else ""
    if inputs.shift is not None and inputs.scale is not None:
        x = graph.node("Div", graph.node("Sub", x, graph.array(inputs.shift)), graph.array(inputs.scale))
    if inputs.method == "grey":
        x = graph.node("Div", x, graph.array(WHITE))
    if inputs.method == "minmax":
        x = graph.node("Clip", x, graph.array(0), graph.array(1))
    if network.training.binarize == "threshold":
        x = graph.node("Cast", graph.node("GreaterOrEqual", x, graph.array(0.5)), to=graph.float_type)
    x = graph.seen(x)
    if gaps:
        x = graph.observed(x, gaps)
    h = graph.hidden_layers("encoder", graph.node("Concat", x, told, axis=1) if told else x)
    graph.dense("mean", h, output="mean")
    lowest, highest = (graph.array(bound) for bound in LOG_STD_BOUNDS)
    graph.node("Clip", graph.dense("log_std", h), lowest, highest, output="log_std")
    latent = network.model.latent
    return graph.model("encoder", ("x", model.encoder_inputs - model.indicators), [("mean", latent), ("log_std", latent)])


def decoder_model(network: Network, inputs: Inputs) -> Any:
    """An ONNX model: z (N, Z), or (N, Z + C) with covariates, to x_mean and logits, (N, X) each.

    x_mean is the mean of p(x | z) in the units of the data.
    """
    graph, pixels = _Graph(network), network.model.pixels
    g, model = graph.hidden_layers("decoder", "z"), network.model
    a = graph.dense("logits", g, output="logits")
    x = graph.expectation(a)
    results = [("x_mean", pixels), ("logits", pixels)]
    if model.zero_inflation:
        x = graph.node("Mul", x, graph.node("Sigmoid", graph.node("Neg", graph.dense("zero_logits", g, output="zero_logits"))))
        results.append(("zero_logits", pixels))
    if inputs.shift is not None and inputs.scale is not None:
        x = graph.node("Add", graph.node("Mul", x, graph.array(inputs.scale)), graph.array(inputs.shift))
    graph.node("Identity", x, output="x_mean")
    return graph.model("decoder", ("z", model.decoder_inputs), results)


class _Graph:
    """Nodes and constants, with names that are generated."""

    def __init__(self, network: Network) -> None:
        try:
            import onnx
        except ImportError as error:
            raise SettingsError(f"the package onnx is not installed, which writes ONNX files: {REMEDY}") from error
        self._onnx = onnx
        self.float_type = onnx.TensorProto.FLOAT
        self._network, self._parameters = network, network.parameters
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def node(self, kind: str, *sources: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, sources, [name], **attributes))
        return name

    def split(self, x: str, at: int, end: int) -> tuple[str, str]:
        """The columns of x before this one, and those from it on."""
        bounds = [self.integers(bound) for bound in (0, at, end)]
        axis = self.integers(1)
        return self.node("Slice", x, bounds[0], bounds[1], axis), self.node("Slice", x, bounds[1], bounds[2], axis)

    def integers(self, value: int) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.array([value], np.int64), name))
        return name

    def array(self, values: NDArray[Any] | float, name: str | None = None) -> str:
        name = name or f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def dense(self, layer: str, source: str, output: str | None = None) -> str:
        """a = source @ W + b (5)."""
        tensors = [self.array(self._parameters[name], name) for name in (f"{layer}.weight", f"{layer}.bias")]
        return self.node("Gemm", source, *tensors, output=output)

    def hidden_layers(self, part: str, source: str) -> str:
        activation = {"relu": "Relu", "tanh": "Tanh"}[self._network.model.activation]
        for i in range(len(self._network.model.hidden)):
            source = self.node(activation, self.dense(f"{part}.{i}", source))
        return source

    def seen(self, x: str) -> str:
        """What the encoder sees of x, as `vaefast.models.counts.seen` has it."""
        encoder_input = self._network.model.encoder_input
        if encoder_input == "log1p":
            return self.node("Log", self.node("Add", x, self.array(1)))
        if encoder_input == "l2":
            norm = self.node("ReduceL2", x, axes=[1], keepdims=1)
            is_empty = self.node("Equal", norm, self.array(0))
            return self.node("Div", x, self.node("Where", is_empty, self.array(1), norm))
        return x

    def observed(self, x: str, gaps: str) -> str:
        """x with 0 in the place of what is missing; and behind it, for a model that sees that, 1 for each such place."""
        known = self.node("Where", gaps, self.array(0), x)
        if not self._network.model.missing_indicator:
            return known
        return self.node("Concat", known, self.node("Cast", gaps, to=self.float_type), axis=1)

    def expectation(self, a: str) -> str:
        """The mean of p(x | z), as `vaefast.likelihoods.expectation` has it; of counts, of rows of total 1."""
        if self._network.model.counts:
            return self.node("Softmax", a, axis=1)
        if self._network.model.likelihood == "bernoulli":
            return self.node("Sigmoid", a)
        return a if self._network.model.likelihood in REAL_LIKELIHOODS else self._continuous_bernoulli_mean(a)

    def _continuous_bernoulli_mean(self, a: str) -> str:
        """1 / (1 - exp(-a)) - 1 / a (23), by its series (24) near zero."""
        one, half = self.array(1), self.array(0.5)
        u = self.node("Abs", a)
        near = self.node("Less", u, self.array(SERIES_BELOW))
        large = self.node("Where", near, one, u)
        growth = self.node("Sub", one, self.node("Exp", self.node("Neg", large)))
        above = self.node("Sub", self.node("Reciprocal", growth), self.node("Reciprocal", large))
        mean = self.node("Where", self.node("Less", a, self.array(0)), self.node("Sub", one, above), above)
        square, series = self.node("Mul", a, a), self.array(SERIES[-1])
        for coefficient in reversed(SERIES[:-1]):
            series = self.node("Add", self.node("Mul", series, square), self.array(coefficient))
        return self.node("Where", near, self.node("Add", half, self.node("Mul", a, series)), mean)

    def model(self, name: str, source: tuple[str, int], results: list[tuple[str, int]]) -> Any:
        """The checked model with this input and these outputs, each (rows, width)."""
        helper = self._onnx.helper
        infos = [helper.make_tensor_value_info(n, self.float_type, ["rows", width]) for n, width in [source, *results]]
        graph = helper.make_graph(self._nodes, f"vaefast_{name}", infos[:1], infos[1:], self._constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="vaefast")
        helper.set_model_props(model, {"likelihood": self._network.model.likelihood})
        self._onnx.checker.check_model(model, full_check=True)
        return model
