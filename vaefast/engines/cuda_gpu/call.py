"""The arguments of every kernel."""

from __future__ import annotations

from typing import Any, NamedTuple

# Adam's numbers of a step in `Call.pace`.
RATE, SCALE, KL_WEIGHT = range(3)
PACES = 3


class Call(NamedTuple):
    """Arrays on the device, and scalars; N examples in steps of `batch` rows."""

    arena: Any  # float32: parameters in panels, first moments, second moments, workspaces; see `Places`
    # The images: the non-zero pixels of image n, ascending, are entries starts[n] to starts[n + 1] - 1.
    starts: Any  # int64 (images + 1,)
    pixels: Any  # int32
    bytes: Any  # uint8 levels, or nothing of interest
    floats: Any  # float32 levels, or the same
    order: Any  # int64 (N,): which image each row is
    keys: Any  # int64 (N,): the number under which it draws its noise
    # The halves of the seed; in memory, or the compiler keeps the ten keys made from each in registers throughout.
    seed: Any  # uint32 (2,)
    pace: Any  # float32 (steps * PACES,): learning rate / (1 - beta1^t), 1 / (1 - beta2^t), weight of the KL divergence
    log_likelihood: Any  # float32 (N,): results
    kl: Any  # float32 (N,)
    in_bytes: int  # 1: levels are bytes
    size: int  # N
    batch: int
    steps: int
    repeated: int  # 1: every step has the same N rows, and a sample of its own
    samples: int  # of an image, where repeated
    group: int  # consecutive rows that are samples of one image
    step: int  # of the noise, in the first step
    stride: int  # what the noise's step grows by, 1 or 0
    pixel_purpose: int
    latent_purpose: int
    binarize: int
    beta1: Any  # float32
    beta2: Any
    one_less_beta1: Any
    one_less_beta2: Any
    epsilon: Any
