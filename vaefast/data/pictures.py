"""A folder of pictures of one size, to grey levels, in the order of their names."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vaefast.data.images import Images
from vaefast.data.reading import new_array, reading
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")

# More inputs than a model takes; without a limit a small file could unpack to gigabytes.
MOST_PIXELS = 2**24


def load_pictures(folder: Path, names: list[str]) -> Images:
    """All files of a folder that end like pictures: uint8 (N, height * width).

    Parameters
    ----------
    folder, names
        The folder and what it holds; names that begin with a dot or end otherwise are passed over.

    Raises
    ------
    DataError
        There are no pictures, their sizes differ, or one is damaged, too large, or has more than 8 bits a pixel.
    """
    chosen = sorted(name for name in names if name.lower().endswith(ENDINGS) and not name.startswith("."))
    if not chosen:
        raise DataError(
            f"the folder {shown(folder)} holds neither pictures ({' '.join(ENDINGS)}) nor the four IDX files of a set "
            "such as MNIST: name a folder that does (folders inside it are not searched)"
        )
    first = _grey(folder / chosen[0])
    values = new_array((len(chosen), first.size), np.uint8, shown(folder))
    values[0] = first.ravel()
    for row, name in enumerate(chosen[1:], start=1):
        values[row] = _grey(folder / name, first.shape).ravel()
    return Images(values, (first.shape[0], first.shape[1]))


def _grey(path: Path, expected: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """One picture, uint8 (height, width); its size is judged before its pixels are unpacked."""
    from PIL import Image, UnidentifiedImageError

    with reading(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about sizes that are refused here
        try:
            with Image.open(stream) as picture:
                _check(picture, path, expected)
                return np.array(picture.convert("L"))
        except DataError:
            raise
        except UnidentifiedImageError as error:
            raise DataError(f"{shown(path)} is not a picture that Pillow can read: save it again, or remove it") from error
        except Exception as error:  # a damaged picture makes Pillow raise almost anything, SyntaxError included
            raise DataError(f"{shown(path)} is not a readable picture ({reason(error)}): save it again") from error


def _check(picture: Image, path: Path, expected: tuple[int, ...] | None) -> None:
    """Judge a picture by its header."""
    shape = (picture.height, picture.width)
    if expected is not None and shape != expected:
        raise DataError(
            f"{shown(path)} is {shape[0]} pixels high and {shape[1]} wide, the first picture {expected[0]} "
            f"and {expected[1]}: bring all to one size"
        )
    if shape[0] * shape[1] > MOST_PIXELS:
        raise DataError(f"{shown(path)} has more than {MOST_PIXELS} pixels: make the pictures smaller")
    if picture.mode.startswith(("I", "F")):
        raise DataError(f"{shown(path)} has more than 8 bits a pixel: save it with 8 bits")
