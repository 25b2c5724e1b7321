"""Mutated inputs: every reader ends with a value or with an error of our own, and soon."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import struct
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults import Failed
from tests.faults.runs import TINY, command, tiny_images
from vaefast.cli import options
from vaefast.data import load
from vaefast.errors import VaefastError
from vaefast.files import model_file
from vaefast.runs import checkpoint
from vaefast.runs.checkpoint import CheckpointFolder, Damaged
from vaefast.runs.checkpointing import position_in
from vaefast.runs.resuming import Resumed
from vaefast.runs.run_folder import RunFolder, environment

SLOWEST = 1.0  # second of a core
# Sizes and counts at which readers trip: ends of types, and more than any machine has.
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    b"[[[[[[[[", b"{", b"}", b'"', b"\\u0000", b"\\ud800", b"nan", b"-inf", b"1e999", b"9" * 5000, b"true", b"null", b"=",
    b"\n", b"\x00", b"\xff\xfe", b"[a.b]", b"''''''", b"1979-05-27T07:32:00Z", b"a.b.c.d = 1\n", b"-1", b"seed = ",
    b'"__metadata__"', b'"F64"', b'"BOOL"', b'"shape":[', b"18446744073709551616", b"\x1f\x8b\x08", b"PK\x03\x04",
)  # fmt: skip

CONFIG = b"""# A run of its own
data = "digits"
hidden = [12, 8]
latent = 4
batch-size = 90
learning_rate = 1e-3
binarize = "threshold"
init = "he"
epochs = 3
seed = 18446744073709551615
checkpoint-every = "10m"
out = 'run'
debug = false
"""


@dataclass(frozen=True)
class Target:
    """One kind of input: what whole ones look like, and who reads them."""

    samples: list[bytes]
    read: Callable[[bytes], object]


def targets(folder: Path) -> dict[str, Target]:
    """Every kind of input, with files below `folder`."""
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    idx = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()
    found = {
        "idx": Target([idx, idx[:16] + bytes(60)], _file_reader(folder / "images-idx3-ubyte")),
        "gz": Target(
            [gzip.compress(idx), gzip.compress(idx[:30]) + gzip.compress(idx[30:])], _file_reader(folder / "images.gz")
        ),
        "idx in gz": Target([idx], _packed_reader(folder / "packed.gz")),
        "npy": Target([_saved(np.save, images), _saved(np.save, images / 255)], _file_reader(folder / "images.npy")),
        "npz": Target([_saved(np.savez_compressed, images)], _file_reader(folder / "images.npz")),
        "csv": Target(
            [b"label,a,b\n7,0,200\n8,3,4\n", b"0.5,1\n0,0.25\n", b'"","a","class"\n"r, 1",0.5,x\n"r 2","1",y\n'],
            _file_reader(folder / "images.csv"),
        ),
        "csv in gz": Target([gzip.compress(b",0,1\n0,0.5,1\n1,0,0.25\n")], _file_reader(folder / "images.csv.gz")),
        "toml": Target([CONFIG], _config_reader(folder / "settings.toml")),
        "checkpoint": _checkpoint_target(folder, sealed=False),
        "sealed checkpoint": _checkpoint_target(folder, sealed=True),
    }
    if hasattr(model_file, "read"):
        found["model"] = _model_target(folder)
    return found


def mutate(seed: int, number: int, kinds: dict[str, Target]) -> str:
    """Read the mutated input of this number; returns its kind.

    Raises
    ------
    Failed
        It raised what is no error of ours, or took more than a second of a core twice.
    """
    rng = random.Random(f"{seed}-{number}")
    kind = sorted(kinds)[number % len(kinds)]
    content = mutated(rng, rng.choice(kinds[kind].samples))
    if _seconds(kind, number, kinds[kind], content) > SLOWEST and _seconds(kind, number, kinds[kind], content) > SLOWEST:
        raise Failed(f"input {number} ({kind}) takes more than {SLOWEST:g} s: {content[:200]!r}")
    return kind


def _seconds(kind: str, number: int, target: Target, content: bytes) -> float:
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it would be a second line on stderr
            target.read(content)
    except VaefastError as error:
        message = str(error)
        if "\n" in message or not message:
            raise Failed(f"input {number} ({kind}) gives a message that is not one line: {message!r}") from error
    except Exception as error:
        raise Failed(f"input {number} ({kind}) raises {type(error).__name__}: {error}: {content[:200]!r}") from error
    return time.process_time() - start


def mutated(rng: random.Random, content: bytes) -> bytes:
    """The input with one to four changes, most of them small."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(MUTATIONS)(rng, content)
    return content


def _flip(rng: random.Random, content: bytes) -> bytes:
    return _replaced(rng, content, 1, lambda old: bytes([old[0] ^ 1 << rng.randrange(8)]) if old else b"")


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _lengthen(rng: random.Random, content: bytes) -> bytes:
    return content + rng.randbytes(rng.choice((1, 2, 100)))


def _number(rng: random.Random, content: bytes) -> bytes:
    size, order = rng.choice((1, 2, 4, 8)), rng.choice(("big", "little"))
    value = rng.choice(NUMBERS) % 256**size
    return _replaced(rng, content, size, lambda old: value.to_bytes(size, order))


def _word(rng: random.Random, content: bytes) -> bytes:
    word = rng.choice(WORDS)
    return _replaced(rng, content, rng.choice((0, 0, 1, len(word))), lambda old: word)


def _repeat(rng: random.Random, content: bytes) -> bytes:
    return _replaced(rng, content, rng.choice((1, 1, 8)), lambda old: old * rng.choice((2, 100, 5000)))


def _remove(rng: random.Random, content: bytes) -> bytes:
    return _replaced(rng, content, rng.choice((1, 4, 30)), lambda old: b"")


def _move(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    return _replaced(rng, content, 0, lambda old: content[start : start + rng.choice((4, 30))])


MUTATIONS = (_flip, _cut, _lengthen, _number, _word, _repeat, _remove, _move)


def _replaced(rng: random.Random, content: bytes, size: int, change: Callable[[bytes], bytes]) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + change(content[place : place + size]) + content[place + size :]


def _file_reader(path: Path) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        path.write_bytes(content)
        return load(str(path))

    return read


def _saved(save: Callable[..., None], array: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, array)
    return buffer.getvalue()


def _packed_reader(path: Path) -> Callable[[bytes], object]:
    read = _file_reader(path)
    return lambda content: read(gzip.compress(content, 1))


def _config_reader(path: Path) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        path.write_bytes(content)
        return options.parse(["--config", str(path)])

    return read


def _checkpoint_target(folder: Path, *, sealed: bool) -> Target:
    """The three files of a checkpoint one after the other; sealed: with SHA-256s made after the mutation."""
    data, out = tiny_images(folder / "grey.npy", 20, 4), folder / "checkpointed"
    if not out.exists() and command("--data", data, *TINY, "--out", str(out), "--checkpoint-every", "1")[0]:
        raise Failed("the run that is to be mutated failed")
    checkpoints = CheckpointFolder(out / "checkpoint")
    number = checkpoints.numbers()[0]
    files = checkpoints.files(number)
    contents = [path.read_bytes() for path in files]

    def read(content: bytes) -> object:
        # The first byte says which of the files the rest is.
        changed = content[0] % 3 if content else 0
        for i, (path, whole) in enumerate(zip(files, contents, strict=True)):
            path.write_bytes(content[1:] if i == changed else whole)
        if sealed:
            files[0].write_bytes(_resealed(files[1:]))
        try:
            found = Resumed(RunFolder.__new__(RunFolder), number, checkpoints.read(number), [])
        except Damaged as damage:
            return _one_line(str(damage))
        found.folder.path = out
        values = found.values
        asked = options.checked(values)
        found.changed_software(environment("reference", 1, ""))
        position_in(found.checkpoint, 18, asked.training.batch_size)
        return found.check({}, "reference", 4, "")

    return Target([bytes([i]) + whole for i, whole in enumerate(contents) if i > 0 or not sealed], read)


def _resealed(paths: list[Path]) -> bytes:
    contents = {path.name: path.read_bytes() for path in paths}
    files = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in contents.items()}
    return checkpoint._sealed({"format": checkpoint.FORMAT, "format_version": checkpoint.FORMAT_VERSION, "files": files})


def _one_line(message: str) -> str:
    if "\n" in message or not message:
        raise ValueError(f"a message that is not one line: {message!r}")
    return message


def _model_target(folder: Path) -> Target:
    path = folder / "model.safetensors"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return model_file.read(path)

    return Target([(folder / "checkpointed" / "model.safetensors").read_bytes()], read)
