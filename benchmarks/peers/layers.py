"""The weights handed to a peer as a list of layers, in the order in which an image meets them."""

from __future__ import annotations

import numpy as np

Layer = tuple[np.ndarray, np.ndarray]  # weight (inputs, outputs), bias (outputs,)


def ordered_layers(weights: dict[str, np.ndarray]) -> tuple[list[Layer], int]:
    """The encoder's hidden layers, the heads, the decoder's hidden layers, the logits; and how many the encoder has.

    `mean` and `log_std` become one layer of 2 Z outputs, mean first: one product instead of two in every library.
    """
    encoder, decoder = _hidden(weights, "encoder"), _hidden(weights, "decoder")
    heads = tuple(
        np.concatenate([weights[f"mean.{part}"], weights[f"log_std.{part}"]], axis=-1) for part in ("weight", "bias")
    )
    return [*encoder, (heads[0], heads[1]), *decoder, _layer(weights, "logits")], len(encoder)


def _hidden(weights: dict[str, np.ndarray], network: str) -> list[Layer]:
    count = sum(name.startswith(f"{network}.") and name.endswith(".weight") for name in weights)
    return [_layer(weights, f"{network}.{i}") for i in range(count)]


def _layer(weights: dict[str, np.ndarray], name: str) -> Layer:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
