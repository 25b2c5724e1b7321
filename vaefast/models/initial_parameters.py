"""Initial parameters: a function of the layout, the scheme and the seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.models import noise
from vaefast.models.columns import blocks_of
from vaefast.models.layout import Layout, Tensor
from vaefast.models.likelihoods import continuous_bernoulli_mean

# Burda et al. (2015), in their published code, keep the mean pixel this far from 0 and 1 before taking its logit.
PIXEL_MARGIN = 1e-3
# A pixel that never changes starts no narrower: with the smallest variance the first errors would be thousands of nats.
SMALLEST_SPREAD = 0.1
# Counts that a column is given before it was seen, so that it has a logarithm.
UNSEEN = 0.5
# Elements that are drawn in one go, so that what the draw takes is small beside a large tensor.
DRAWN = 1 << 18
# Halvings of [-2000, 2000] until two float64 numbers are neighbours.
HALVINGS = 64


def initial_parameters(
    layout: Layout,
    scheme: str,
    seed: int,
    mean_pixels: NDArray[np.float64] | None = None,
    pixel_stds: NDArray[np.float64] | None = None,
    column_totals: NDArray[np.float64] | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Initial parameters in plain form, float64 (layout.size,).

    Parameters
    ----------
    scheme
        `report`: weights and biases N(0, 0.01^2), as the 2021 report's assignment has them.
        `glorot`: weights uniform in +-sqrt(6 / (inputs + outputs)) (Glorot & Bengio 2010, eq. 16), biases 0.
        `he`: weights N(0, 2 / inputs) (He et al. 2015, eq. 10), biases 0.
        `fan-in`: weights and biases uniform in +-1 / sqrt(inputs) (LeCun et al. 1998; PyTorch's default).
        `data-mean`: `glorot`, and the output bias is the logit of each pixel's mean (Burda et al. 2015). Made for `tanh`:
        with `relu` the model starts so near to the best one that ignores z that it stays there (KL 0, measured).
    mean_pixels
        Mean of each pixel over the training set, (X,), in [0, 1] but for real numbers and counts. `data-mean` needs it, and so
        does a table with columns of counts.
    pixel_stds
        Standard deviation of each pixel over the training set, (X,), Gaussian columns first: where a Gaussian likelihood's own
        starts, whatever the scheme, and the best it can be for a decoder that knows nothing of z. Without it they start at 1.
    column_totals
        Sum of each column of counts over the training set, (X,): the output bias of a likelihood of counts starts at the
        logarithm of the column's share, whatever the scheme. Shares of real tables span five orders of magnitude, which Adam
        would need thousands of steps to walk. Without it it starts as the scheme has it. Counts beside columns of other kinds
        start at the logarithm of their mean.
    out
        Zeros, (layout.size,) of any float type, to write them to and to return instead of an array of their own.
    """
    vector = np.zeros(layout.size) if out is None else out
    for number, (name, view) in enumerate(layout.views(vector).items()):
        tensor = layout.tensors[name]
        if name == "x_log_std":
            view[...] = 0.0 if pixel_stds is None else np.log(np.maximum(pixel_stds[: view.size], SMALLEST_SPREAD))
        elif name == "x_log_dispersion":
            view[...] = 0.0
        else:
            _draw(view.reshape(tensor.inputs, -1), layout, tensor, scheme, seed, number)
    if column_totals is not None:
        seen = column_totals + UNSEEN
        layout.views(vector)["logits.bias"][...] = np.log(seen / seen.sum())
    elif mean_pixels is not None and (scheme == "data-mean" or layout.model.in_blocks):
        for block in blocks_of(layout.model.likelihood, layout.model.pixels, layout.model.columns).blocks:
            if scheme == "data-mean" or block.kind == "negative-binomial":
                means = mean_pixels[block.first : block.last]
                layout.views(vector)[f"{block.output}.bias"][...] = _logits_of_means(means, block.kind)
    return vector


def _draw(matrix: NDArray[Any], layout: Layout, tensor: Tensor, scheme: str, seed: int, number: int) -> None:
    """Fill a tensor, (inputs, outputs), as the scheme has it, some rows at a time."""
    step = max(1, DRAWN // tensor.outputs)
    for first in range(0, tensor.inputs, step):
        rows = matrix[first : first + step]
        drawn = seed, number, first, rows.shape
        if scheme == "report":
            rows[...] = 0.01 * _normals(*drawn)
        elif scheme == "fan-in":
            inputs = layout.tensors[tensor.name.replace(".bias", ".weight")].inputs
            rows[...] = _symmetric(*drawn) / np.sqrt(inputs)
        elif tensor.name.endswith(".weight"):
            if scheme == "he":
                rows[...] = _normals(*drawn) * np.sqrt(2.0 / tensor.inputs)
            else:
                rows[...] = _symmetric(*drawn) * np.sqrt(6.0 / (tensor.inputs + tensor.outputs))


def _logits_of_means(means: NDArray[np.float64], likelihood: str) -> NDArray[np.float64]:
    """The output of the decoder under which p(x | z) has these means, (X,)."""
    if likelihood in ("gaussian", "student-t"):
        return means
    if likelihood == "negative-binomial":
        return np.log(means + UNSEEN)
    p = np.clip(means, PIXEL_MARGIN, 1.0 - PIXEL_MARGIN)
    if likelihood == "categorical":
        return np.log(p)
    if likelihood == "bernoulli":
        return np.log(p / (1.0 - p))
    # The mean of a continuous Bernoulli, 1 / (1 - exp(-a)) - 1 / a (23), grows with a and has no inverse in closed form.
    low, high = np.full(p.shape, -2000.0), np.full(p.shape, 2000.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = continuous_bernoulli_mean(middle) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _normals(seed: int, number: int, first: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Rows of a tensor from this one on."""
    return noise.normals(seed, noise.Purpose.INITIAL_PARAMETERS, number, first + np.arange(shape[0]), shape[1])


def _symmetric(seed: int, number: int, first: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The same, uniform in (-1, 1)."""
    words = noise.words(seed, noise.Purpose.INITIAL_PARAMETERS, number, first + np.arange(shape[0]), shape[1])
    return 2.0 * noise.uniforms(words) - 1.0
