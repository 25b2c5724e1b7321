"""Pictures with channels. The channels are kept if asked for; otherwise the pictures become grey."""

from __future__ import annotations

import numpy as np

from vaefast.data.images import Images, Pixels
from vaefast.data.values import row_blocks
from vaefast.errors import DataError

# Shares of red, green and blue in a grey level: ITU-R 601, in 65536ths, rounded as Pillow does.
RED, GREEN, BLUE = 19595, 38470, 7471
KEEP = "taken as grey (--color keeps the channels)"


def check_channels(shape: tuple[int, ...], origin: str) -> None:
    """Refuse an array (N, H, W, C) whose number of channels is not possible.

    Raises
    ------
    DataError
        Neither C nor H is 1, 3 or 4.
    """
    if shape[3] not in (1, 3, 4) and shape[1] not in (1, 3):
        raise DataError(
            f"{origin} has shape {shape}, but its last axis is not 1, 3 or 4 channels: give (N, height, width, channels)"
        )


def with_channels(pixels: Pixels, shape: tuple[int, ...], color: bool, origin: str) -> tuple[Images, str]:
    """Images of the pixels (N, H * W * C) or (N, C * H * W), and a note on what was done to them.

    Parameters
    ----------
    shape
        (H, W, C), or (C, H, W) as in PyTorch if the last one is not a number of channels.
    color
        Whether channels are kept.
    """
    notes = []
    if shape[2] not in (1, 3, 4):
        pixels = np.ascontiguousarray(np.moveaxis(pixels.reshape(-1, *shape), 1, 3)).reshape(len(pixels), -1)
        notes.append(f"shape (N, {', '.join(map(str, shape))}) is read as (N, channels, height, width)")
        shape = (*shape[1:], shape[0])
    height, width, channels = shape
    if channels == 1:
        return Images(pixels, (height, width)), "; ".join(notes)
    if color:
        return Images(pixels, (height, width), channels), "; ".join(notes)
    notes.append(f"pictures in colour are {KEEP}")
    return Images(_grey(pixels, channels), (height, width)), "; ".join(notes)


def _grey(pixels: Pixels, channels: int) -> Pixels:
    """Pixels (N, H * W) of the first three channels."""
    grey: Pixels = np.empty((len(pixels), pixels.shape[1] // channels), pixels.dtype)
    for start, stop in row_blocks(*pixels.shape):
        block = pixels[start:stop].reshape(stop - start, -1, channels)
        if pixels.dtype == np.uint8:
            red, green, blue = (block[..., at].astype(np.uint32) for at in range(3))
            grey[start:stop] = (red * RED + green * GREEN + blue * BLUE + 0x8000) >> 16
        else:
            shares = np.array([RED, GREEN, BLUE]) / 65536
            grey[start:stop] = np.minimum(block[..., :3].astype(np.float64) @ shares, 1.0)
    return grey
