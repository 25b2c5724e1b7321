"""The precision of a layer's products, chosen by the *type* of the plan: float32 (layers.py), or factors rounded to bfloat16
(bf16_layers.py), which a plan with a field `bf16` has."""

from __future__ import annotations

from numba.extending import overload

from vaefast.engines.numba_cpu.bf16_layers import first_layer, round_samples, rounded_layer, rounded_sources
from vaefast.engines.numba_cpu.compiler import AS_KERNELS
from vaefast.engines.numba_cpu.layers import dense_layer, partial_sources, sparse_layer


def in_bf16(plan):
    """Whether a type of Numba's is that of a plan with rounded factors."""
    return "bf16" in plan.fields


def encoder_layer(plan, i, parameters, buffers, sparse, first, last, half):
    """Half of the columns of layer i of the encoder, of rows first to last - 1; the first one may take lists."""


@overload(encoder_layer, jit_options=AS_KERNELS)
def _choose_encoder_layer(plan, i, parameters, buffers, sparse, first, last, half):
    def float32(plan, i, parameters, buffers, sparse, first, last, half):
        if i == 0 and sparse:
            sparse_layer(plan, parameters, buffers.workspace, buffers.pixels, first, last, half)
        else:
            dense_layer(plan, i, parameters, buffers.workspace, first, last, half)

    def bf16(plan, i, parameters, buffers, sparse, first, last, half):
        if i == 0:
            first_layer(plan, parameters, buffers, sparse, first, last, half)
        else:
            rounded_layer(plan, i, parameters, buffers.workspace, first, last, half)

    return bf16 if in_bf16(plan) else float32


def decoder_layer(plan, i, parameters, workspace, first, last, half):
    """Half of the columns of layer i of the decoder, of rows first to last - 1."""


@overload(decoder_layer, jit_options=AS_KERNELS)
def _choose_decoder_layer(plan, i, parameters, workspace, first, last, half):
    def float32(plan, i, parameters, workspace, first, last, half):
        dense_layer(plan, i, parameters, workspace, first, last, half)

    def bf16(plan, i, parameters, workspace, first, last, half):
        rounded_layer(plan, i, parameters, workspace, first, last, half)

    return bf16 if in_bf16(plan) else float32


def hand_over(plan, workspace, first, last):
    """After z of rows first to last - 1: what the decoder takes of them besides, its rounded factors."""


@overload(hand_over, jit_options=AS_KERNELS)
def _choose_hand_over(plan, workspace, first, last):
    def float32(plan, workspace, first, last):
        pass

    def bf16(plan, workspace, first, last):
        round_samples(plan, workspace, first, last)

    return bf16 if in_bf16(plan) else float32


def source_gradients(plan, i, parameters, workspace, backward, turn, first, last, half):
    """`layers.partial_sources` of layer i, rows first to last - 1."""


@overload(source_gradients, jit_options=AS_KERNELS)
def _choose_source_gradients(plan, i, parameters, workspace, backward, turn, first, last, half):
    def float32(plan, i, parameters, workspace, backward, turn, first, last, half):
        partial_sources(plan, i, parameters, workspace, backward, turn, first, last, half)

    def bf16(plan, i, parameters, workspace, backward, turn, first, last, half):
        rounded_sources(plan, i, parameters, workspace, backward, turn, first, last, half)

    return bf16 if in_bf16(plan) else float32
