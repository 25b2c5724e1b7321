"""Read folders of pictures of one size, in the order of their names. Each folder in them may be a class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vaefast.data.channels import KEEP
from vaefast.data.images import Dataset, Images, Labels, Pixels, Rows, assemble
from vaefast.data.kinds import PICTURE_ENDINGS
from vaefast.data.reading import new_array, reading
from vaefast.data.wording import noticed, reason, shortened, shown
from vaefast.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# More pixels than any model takes. Without a limit a small file could unpack to gigabytes.
MOST_PIXELS = 2**24
WHITEST = 65535  # of 16 bits
# Files that systems and programs leave in folders of pictures.
LEFT_BY_SYSTEMS = ("Thumbs.db", "desktop.ini", "Desktop.ini", "__MACOSX")
TRAIN_FOLDERS, TEST_FOLDERS = ("train", "training"), ("test", "testing")


def read_pictures(folder: Path, names: list[str], color: bool = False) -> Rows | Dataset:
    """All pictures of a folder, or of the folders in it: one per class, or `train` and `test`, with or without classes.

    Parameters
    ----------
    folder, names
        The folder and its content. Names that begin with a dot, or do not end like pictures, are ignored.
    color
        Whether colour channels are kept. Otherwise pictures become grey, with a notice.

    Returns
    -------
    Rows or Dataset
        uint8 (N, height * width), times 3 with channels; float32 in [0, 1] for pictures of 16 bits.

    Raises
    ------
    DataError
        There are no pictures, they differ in size or depth, or one is damaged or too large.
    """
    inside = sorted(name for name in names if not name.startswith(".") and (folder / name).is_dir())
    train, test = (next((name for name in inside if name.lower() in wanted), None) for wanted in (TRAIN_FOLDERS, TEST_FOLDERS))
    own = _pictures(names)
    if own and train and test:
        raise _both(folder, own[0], train)
    if train is None or test is None:
        found = _found(folder, names, inside)
        return _rows(folder, found, color, _judged(found, color))
    first, second = (_found(folder / name, _held(folder / name)) for name in (train, test))
    if first.classes != second.classes:
        raise DataError(f"the folders {train} and {test} of {shown(folder)} hold other classes: give both the same folders")
    style = _judged(first, color)
    rows = [_rows(folder, part, color, style) for part in (first, second)]
    return assemble(
        folder, rows[0].images, rows[1].images, rows[0].labels, rows[1].labels, rows[0].notice or rows[1].notice, first.classes
    )


@dataclass(frozen=True)
class _Found:
    """Pictures, their labels, and the names of the labels."""

    paths: list[Path]
    labels: list[int]
    classes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # names of files that are no pictures


@dataclass(frozen=True)
class _Style:
    """Size and depth of the first picture, which all others must have."""

    height: int
    width: int
    deep: bool  # 16 bits a pixel
    channels: int
    white: float = 1.0  # the level that becomes 1 in deep pictures: WHITEST, or 1 where the first one holds numbers in [0, 1]


def _found(folder: Path, names: list[str], inside: list[str] | None = None) -> _Found:
    """The pictures of a folder, or else those of the folders in it.

    Raises
    ------
    DataError
        There are none, or there are pictures both beside the folders and in them.
    """
    own = _pictures(names)
    inside = (
        sorted(name for name in names if not name.startswith(".") and (folder / name).is_dir()) if inside is None else inside
    )
    paths, labels, classes, others = list[Path](), list[int](), list[str](), _others(folder, names)
    for name in inside:
        held = _held(folder / name)
        pictures = _pictures(held)
        if pictures and own:
            raise _both(folder, own[0], name)
        others += [f"{name}/{other}" for other in _others(folder / name, held)] if pictures else []
        if pictures:
            paths += [folder / name / picture for picture in pictures]
            labels += [len(classes)] * len(pictures)
            classes.append(name)
    if own:
        return _Found([folder / name for name in own], [], others=tuple(others))
    if not paths:
        raise DataError(
            f"the folder {shown(folder)} holds neither pictures ({' '.join(PICTURE_ENDINGS)}), nor folders of them, nor the "
            "four IDX files of a set such as MNIST: name a folder that does"
        )
    return _Found(paths, labels, tuple(classes), tuple(others))


def _both(folder: Path, picture: str, inside: str) -> DataError:
    return DataError(
        f"the folder {shown(folder)} holds pictures, such as {shown(picture)}, and folders of pictures, such as "
        f"{shown(inside)}: move one of the two elsewhere"
    )


def _held(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise DataError(f"the folder {shown(folder)} cannot be read ({reason(error)}): check its permissions") from error


def _pictures(names: list[str]) -> list[str]:
    return sorted(name for name in names if name.lower().endswith(PICTURE_ENDINGS) and not name.startswith("."))


def _others(folder: Path, names: list[str]) -> list[str]:
    """Names of files beside pictures that do not end like one; hidden files, and what a system leaves in folders, aside."""
    rest = {*names} - {*_pictures(names), *LEFT_BY_SYSTEMS}
    return sorted(name for name in rest if not name.startswith(".") and (folder / name).is_file())


def _judged(found: _Found, color: bool) -> _Style:
    with _opened(found.paths[0]) as picture:
        deep, white = _is_deep(picture), 1.0
        if deep:
            levels = np.asarray(picture)
            white = 1.0 if levels.dtype.kind == "f" and levels.min() >= 0 and levels.max() <= 1 else float(WHITEST)
        return _Style(picture.height, picture.width, deep, 3 if color and not deep and _has_colors(picture) else 1, white)


def _rows(folder: Path, found: _Found, color: bool, style: _Style) -> Rows:
    width = style.height * style.width * style.channels
    pixels: Pixels = new_array((len(found.paths), width), np.float32 if style.deep else np.uint8, shown(folder))
    grey = pages = 0  # pictures in colour that became grey, and pictures of several pages
    for row, path in enumerate(found.paths):
        with _opened(path) as picture:
            _check(picture, path, style)
            pages += bool(getattr(picture, "is_animated", False))
            pixels[row] = _values(picture, path, style).reshape(-1)
            grey += style.channels == 1 and not grey and _is_colored(picture)
    notes = [
        f"pictures in colour are {KEEP}" if grey else "",
        f"grey levels of 16 bits are scaled to [0, 1] by 1 / {WHITEST}" if style.white == WHITEST else "",
        f"of {pages:,} picture{'s' * (pages > 1)} with several pages the first is taken" if pages else "",
        _left_out(found.others),
        f"each folder is a class: {shortened(shown(', '.join(found.classes)))}" if found.classes else "",
    ]
    labels: Labels | None = np.array(found.labels, np.int64) if found.classes else None
    images = Images(pixels, (style.height, style.width), style.channels)
    return Rows(folder, images, labels, notice=noticed(folder, *notes), classes=found.classes)


def _left_out(others: Sequence[str]) -> str:
    """The notice on files that are no pictures."""
    if not others:
        return ""
    if len(others) == 1:
        return f"1 file that is no picture is left out: {shown(others[0])}"
    return f"{len(others):,} files that are no pictures are left out: {shown(others[0])} and others"


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """A picture whose pixels are not unpacked yet.

    Raises
    ------
    DataError
        It is damaged, or too large.
    """
    from PIL import Image, UnidentifiedImageError

    with reading(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of sizes that are refused here
        try:
            with Image.open(stream) as picture:
                if picture.height * picture.width > MOST_PIXELS:
                    raise DataError(f"{shown(path)} has more than {MOST_PIXELS} pixels: make the pictures smaller")
                yield picture
        except DataError:
            raise
        except UnidentifiedImageError as error:
            raise DataError(f"{shown(path)} is not a picture that Pillow can read: save it again, or remove it") from error
        except Exception as error:  # Pillow raises almost anything for a damaged picture, even SyntaxError
            raise DataError(f"{shown(path)} is not a readable picture ({reason(error)}): save it again") from error


def _is_deep(picture: Image) -> bool:
    return picture.mode.startswith(("I", "F"))


def _has_colors(picture: Image) -> bool:
    return picture.mode not in ("1", "L", "LA", "La")


def _is_colored(picture: Image) -> bool:
    """Whether a pixel is not grey."""
    if not _has_colors(picture) or _is_deep(picture):
        return False
    pixels = np.asarray(picture.convert("RGB"))
    return bool((pixels != pixels[..., :1]).any())


def _check(picture: Image, path: Path, style: _Style) -> None:
    """Refuse a picture whose header gives another size or depth than the first has."""
    shape = (picture.height, picture.width)
    if shape != (style.height, style.width):
        raise DataError(
            f"{shown(path)} is {shape[0]} pixels high and {shape[1]} wide, the first picture {style.height} "
            f"and {style.width}: bring all to one size"
        )
    if _is_deep(picture) != style.deep:
        depths = ("16 bits a pixel", "8 bits")
        here, first = depths if _is_deep(picture) else depths[::-1]
        raise DataError(f"{shown(path)} has {here}, the first picture {first}: save all with the same number of bits")


def _values(picture: Image, path: Path, style: _Style) -> NDArray[Any]:
    """(height, width) or (height, width, 3) of uint8, or of float32 in [0, 1].

    Raises
    ------
    DataError
        A level of a picture of more than 8 bits is out of range.
    """
    if not style.deep:
        return np.asarray(picture.convert("RGB" if style.channels == 3 else "L"))
    levels = np.asarray(picture)
    if not (levels.min() >= 0 and levels.max() <= style.white):  # also of NaN
        first = ", and those of the first picture lie in [0, 1]" if style.white == 1 and levels.max() <= WHITEST else ""
        found = f"{shown(path)} has levels from {levels.min()} to {levels.max()}{first}"
        raise DataError(f"{found}: give 8 bits, 16 bits (0 to {WHITEST}), or numbers in [0, 1]")
    return levels.astype(np.float32) if style.white == 1 else (levels / np.float32(WHITEST)).astype(np.float32)
