"""A PTX file to a shared object: `python -m tests.gpu.standin.translate kernel.ptx kernel.so`; the driver calls this."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.gpu.standin.build import compiled
from tests.gpu.standin.emit import c_of
from tests.gpu.standin.ptx import Refused, parse


def main(source: Path, target: Path) -> int:
    """Translate and compile, or say what is not known."""
    try:
        text = c_of(parse(source.read_text()))
    except Refused as refused:
        print(f"stand-in: {refused}", file=sys.stderr)
        return 1
    written = source.with_suffix(".c")
    written.write_text(text)
    half = source.with_suffix(".half")
    compiled([written], half, "-O1", f"{target.parent}/libcuda.so.1")
    os.replace(half, target)  # another process may be as far
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
