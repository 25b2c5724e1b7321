"""Single bits flipped in checkpoint files, and files cut short: each is noticed, and the checkpoint before is used."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from tests.faults import Failed
from tests.faults.runs import TINY, Outcome, check_same, command, outcome, tiny_images
from vaefast.runs.checkpoint import CheckpointFolder


def finished(folder: Path) -> tuple[str, Outcome]:
    """A run of three epochs with a checkpoint after each, in `folder / "run"`: its data and its result."""
    data = tiny_images(folder / "grey.npy")
    code, _, err = command("--data", data, *TINY, "--checkpoint-every", "1", "--out", str(folder / "run"))
    if code:
        raise Failed(f"the run to be damaged ended with {code}: {err}")
    return data, outcome(folder / "run")


def damage(seed: int, number: int, folder: Path, expected: Outcome) -> str:
    """Damage a copy of the newest checkpoint of `folder / "run"` in one place, resume, and compare; returns what was done.

    Raises
    ------
    Failed
        It was not noticed, or not said, or the result differs.
    """
    rng = random.Random(f"{seed}-{number}")
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "run", copy)
    checkpoints = CheckpointFolder(copy / "checkpoint")
    newest = checkpoints.numbers()[-1]
    path = rng.choice(checkpoints.files(newest))
    content = bytearray(path.read_bytes())
    if rng.random() < 0.25:
        size = rng.randrange(len(content))
        case = f"{path.name} cut to {size} of {len(content)} bytes"
        content = content[:size]
    else:
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        case = f"{path.name}, bit {bit} of byte {place} flipped"
        content[place] ^= 1 << bit
    path.write_bytes(content)
    code, out, err = command("--resume", str(copy))
    said = f"checkpoint {newest} is damaged" in err and f"going back to checkpoint {newest - 1}" in err
    if code or not said or f"from checkpoint {newest - 1}" not in out:
        raise Failed(f"{case}: exit code {code}, {err!r}, {out!r}")
    check_same(expected, copy, case)
    return case
