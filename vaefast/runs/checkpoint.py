"""Checkpoints: the state of a run between two minibatches, in files that are verified before they are used.

A checkpoint is three files in the folder `checkpoint/` of the run. It is complete when the last of them is there:

    checkpoint-000012.safetensors     parameters and Adam moments in plain form, ELBO terms of the running epoch
    checkpoint-000012.json            everything else: position, settings, seed, data, history, versions
    checkpoint-000012.manifest.json   bytes and SHA-256 of the two, and of itself

Each file is written under a temporary name, flushed, and renamed. Numbers only grow, so no file is overwritten, and a
checkpoint stays intact until the next one is complete. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.engines.contract import BoundTerms, State
from vaefast.errors import CheckpointError
from vaefast.files import atomic

FORMAT, FORMAT_VERSION = "vaefast checkpoint", 2
KEPT = 2
# Far more than a manifest takes. Nothing larger is read before its SHA-256 is known.
LARGEST_MANIFEST = 1 << 16

_MANIFEST = re.compile(r"checkpoint-(\d{6,12})\.manifest\.json")
_ANY_FILE = re.compile(r"checkpoint-\d{6,12}\.(manifest\.json|json|safetensors)")
_PARTS = ("safetensors", "json")
_BEST = "best_parameters"
_VECTORS = ("parameters", "first_moments", "second_moments")


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a run needs to continue as if it had never stopped.

    Parameters
    ----------
    state
        Parameters, moments and step, in plain form.
    epoch, images
        The running epoch, counted from 1, and how many of its images have been trained.
    seconds
        Of training in the running epoch.
    terms
        The ELBO terms of these images, in the order in which they were trained.
    history
        A line of metrics for each complete epoch.
    run
        What the run is: settings, engine, data, versions; plain JSON.
    best
        The parameters of the best epoch, where one is kept by a validation set.
    """

    state: State
    epoch: int
    images: int
    seconds: float
    terms: BoundTerms
    history: Sequence[Mapping[str, Any]]
    run: Mapping[str, Any]
    best: NDArray[Any] | None = None


class Damaged(Exception):
    """A checkpoint cannot be used. The message says why in a few words."""


class CheckpointFolder:
    """The checkpoints of one run, oldest first by number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._good: list[int] = []  # written or verified by this process

    def numbers(self) -> list[int]:
        """The numbers of all checkpoints that were completed, damaged ones included."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: {error.strerror}; give yourself permission to read it") from error
        return sorted(int(match[1]) for match in map(_MANIFEST.fullmatch, names) if match)

    def write(self, checkpoint: Checkpoint) -> int:
        """Write a checkpoint, then remove all but the last two that are good; returns its number.

        Raises
        ------
        OutputError
            The disk is full or failing. The checkpoints that were there are unharmed.
        """
        number = max(self.numbers(), default=0) + 1
        try:
            atomic.make_folder(self.path)
        except OSError as error:
            raise atomic.cannot_make(self.path, error) from error
        files = {}
        for part, content in zip(_PARTS, (_tensors(checkpoint), _description(checkpoint)), strict=True):
            path = self._path(number, part)
            atomic.write_bytes(path, content)
            files[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": files}
        atomic.write_bytes(self._path(number, "manifest.json"), _sealed(manifest))
        self._good = [*self._good, number][-KEPT:]
        self._prune()
        return number

    def newest(self) -> tuple[int, Checkpoint, list[str]]:
        """The newest checkpoint that verifies, its number, and what is wrong with those that are newer.

        Raises
        ------
        CheckpointError
            There is none.
        """
        damages: list[str] = []
        for number in reversed(self.numbers()):
            try:
                checkpoint = self.read(number)
            except Damaged as damage:
                damages.append(f"checkpoint {number} is damaged ({damage})")
            else:
                self._good = [number]
                return number, checkpoint, damages
        reason = "; ".join(damages) or "no checkpoint was completed"
        raise CheckpointError(f"nothing to resume in {self.path}: {reason}; start the run anew, with another --out")

    def read(self, number: int) -> Checkpoint:
        """One checkpoint, verified.

        Raises
        ------
        Damaged
            A file is missing, is not what was written, or is of a version that is not known here.
        """
        manifest = _opened(_read(self._path(number, "manifest.json"), None))
        contents = []
        for part in _PARTS:
            path = self._path(number, part)
            entry = manifest["files"].get(path.name)
            if not isinstance(entry, dict):
                raise Damaged(f"its manifest lacks {path.name}")
            content = _read(path, entry.get("bytes"))
            if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
                raise Damaged(f"the SHA-256 of {path.name} is wrong")
            contents.append(content)
        return _checkpoint(*contents)

    def files(self, number: int) -> list[Path]:
        """The files of one checkpoint, the manifest first."""
        return [self._path(number, part) for part in ("manifest.json", *_PARTS)]

    def _path(self, number: int, part: str) -> Path:
        return self.path / f"checkpoint-{number:06d}.{part}"

    def _prune(self) -> None:
        """Remove every checkpoint but the good ones. Manifests go first: a process killed here leaves none damaged."""
        kept = {path.name for number in self._good for path in self.files(number)}
        atomic.remove_temporaries(self.path)
        ours = [path for path in self.path.iterdir() if _ANY_FILE.fullmatch(path.name) and path.name not in kept]
        for path in sorted(ours, key=lambda path: not path.name.endswith(".manifest.json")):
            try:
                path.unlink(missing_ok=True)
            except OSError:  # on Windows while another program looks into it; the next checkpoint removes it
                return


def _tensors(checkpoint: Checkpoint) -> bytes:
    from safetensors.numpy import save

    state, terms = checkpoint.state, checkpoint.terms
    arrays = {name: getattr(state, name) for name in _VECTORS} | terms._asdict()
    if checkpoint.best is not None:
        arrays[_BEST] = checkpoint.best
    # safetensors scrambles arrays that are not C-contiguous without a word.
    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _description(checkpoint: Checkpoint) -> bytes:
    position = {
        "step": checkpoint.state.step,
        "epoch": checkpoint.epoch,
        "images": checkpoint.images,
        "seconds": checkpoint.seconds,
    }
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "position": position,
        "run": checkpoint.run,
        "history": list(checkpoint.history),
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _sealed(manifest: Mapping[str, Any]) -> bytes:
    """The manifest with its own SHA-256, in the one form in which these values can be written."""
    own = hashlib.sha256(_canonical(manifest)).hexdigest()
    return _canonical({**manifest, "sha256": own})


def _canonical(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()


def _opened(content: bytes) -> dict[str, Any]:
    """The values of a manifest, if it is bit for bit what `_sealed` made."""
    manifest = _json(content, "its manifest")
    bare = {key: value for key, value in manifest.items() if key != "sha256"}
    try:
        intact = _sealed(bare) == content
    except RecursionError:
        intact = False
    if not intact:
        raise Damaged("the SHA-256 of its manifest is wrong")
    _check_version(bare)
    if not isinstance(bare.get("files"), dict):
        raise Damaged("its manifest lists no files")
    return bare


def _check_version(content: Mapping[str, Any]) -> None:
    if content.get("format") != FORMAT:
        raise Damaged("it is of another format")
    if content.get("format_version") != FORMAT_VERSION:
        version = str(content.get("format_version"))[:20]
        raise Damaged(f"its format is of version {version}, this vaefast reads version {FORMAT_VERSION}")


def _read(path: Path, size: int | None) -> bytes:
    """The whole of a regular file of this size, or of a small one where None is given."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise Damaged(f"{path.name} is no file")
        if status.st_size != size if size is not None else status.st_size > LARGEST_MANIFEST:
            raise Damaged(f"{path.name} holds {status.st_size} bytes{'' if size is None else f' instead of {size}'}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Damaged(f"{path.name} is missing") from error
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read, {error.strerror or error}") from error


def _json(content: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{name} is no JSON") from error
    if not isinstance(value, dict):
        raise Damaged(f"{name} is no JSON object")
    return value


def _checkpoint(tensors: bytes, description: bytes) -> Checkpoint:
    """The checkpoint in the two files. Their bytes are verified, so only files of another program are refused here."""
    content = _json(description, "its description")
    _check_version(content)
    arrays = _arrays(tensors)
    position, run, history = (content.get(key) for key in ("position", "run", "history"))
    if not isinstance(position, dict) or not isinstance(run, dict) or not isinstance(history, list):
        raise Damaged("its description lacks position, run or history")
    step, epoch, images = (_whole(position.get(key), key) for key in ("step", "epoch", "images"))
    seconds = position.get("seconds")
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
        raise Damaged("its seconds are no number")
    terms = BoundTerms(*(arrays[name] for name in BoundTerms._fields))
    if not all(isinstance(line, dict) for line in history):
        raise Damaged("its history is no list of lines")
    if len(terms.kl) != images or epoch != len(history) + 1:
        raise Damaged("its position does not fit its contents")
    state = State(arrays["parameters"], arrays["first_moments"], arrays["second_moments"], step)
    return Checkpoint(state, epoch, images, float(seconds), terms, history, run, arrays.get(_BEST))


def _whole(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise Damaged(f"its {name} is no whole number")
    return value


def _arrays(content: bytes) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load

    try:
        arrays = load(content)
    except Exception as error:  # its parser raises an error of its own, and KeyError for types that it does not know
        raise Damaged("its tensors are not in the format of safetensors") from error
    lengths = []
    for names, types in ((_VECTORS, ("float32", "float64")), (BoundTerms._fields, ("float64",))):
        group = [arrays.get(name) for name in names]
        first = group[0]
        if any(array is None or array.ndim != 1 or array.dtype.name not in types for array in group):
            raise Damaged(f"it lacks a vector among {', '.join(names)}")
        if first is None or any(array is None or array.dtype != first.dtype or array.shape != first.shape for array in group):
            raise Damaged(f"{', '.join(names)} differ in length or type")
        lengths.append(len(first))
    best, parameters = arrays.get(_BEST), arrays["parameters"]
    if best is not None and (best.dtype != parameters.dtype or best.shape != parameters.shape):
        raise Damaged("the best parameters differ from the others in length or type")
    checked = [arrays[name] for name in (*_VECTORS, *BoundTerms._fields, _BEST) if name in arrays]
    if not all(np.isfinite(array).all() for array in checked):
        raise Damaged("it holds numbers that are not finite")
    return arrays
