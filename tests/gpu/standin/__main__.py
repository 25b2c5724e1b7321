"""All that can be tried on the stand-in for a GPU, at full length: `python -m tests.gpu.standin`, some minutes.

Arguments are pytest's and replace what is run: `python -m tests.gpu.standin tests/engines/test_cuda_gpu.py -k tf32`. `--shell`
starts
a shell in which the stand-in is the CUDA driver: `python -m vaefast.train --engine cuda` runs there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.gpu.standin.build import ROOT, build, reason_against

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore:cuda.bindings.nvjitlink:RuntimeWarning")
FILES = (
    "tests/gpu/instructions.py", "tests/gpu/planted.py", "tests/gpu/executed.py", "tests/engines/test_cuda_gpu.py",
    "tests/engines/test_engines.py", "tests/engines/test_extremes.py",
)  # fmt: skip
ON_THE_DEVICE = "instructions or planted or executed or cuda"


def main(arguments: list[str]) -> int:
    """Build into a temporary folder, run, and say how it ended."""
    reason = reason_against()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | build(Path(folder))
        if arguments == ["--shell"]:
            return subprocess.call([os.environ.get("SHELL", "/bin/sh")], env=environment)
        command = [sys.executable, *PYTEST, *(arguments or [*FILES, "-k", ON_THE_DEVICE])]
        return subprocess.call(command, env=environment, cwd=ROOT)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
