"""From process start to the first training step on MNIST: `python -m benchmarks.startup`.

Each run is a process of its own that trains one epoch. Its metrics are written when the epoch and its evaluation end, and say
how long both took; what remains since the process started is the start. A cold start has an empty cache of kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def start_seconds(folder: Path, cache: Path, data_dir: str | None, engine: str) -> float:
    """Seconds from process start to the first training step, with the kernels that lie in `cache`."""
    command = [sys.executable, "-m", "vaefast.train", "--data", "mnist", "--epochs", "1", "--engine", engine]
    command += ["--out", str(folder)] + (["--data-dir", data_dir] if data_dir else [])
    begin = time.time()
    result = subprocess.run(command, env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr.strip())
    metrics = folder / "metrics.jsonl"
    epoch = json.loads(metrics.read_text())
    return metrics.stat().st_mtime - begin - epoch["seconds"] - epoch["evaluation_seconds"]


def main() -> None:
    """One cold start, then some warm ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--warm", type=int, default=3, help="how many warm starts (default 3)")
    parser.add_argument("--data-dir")
    parser.add_argument("--engine", default="numba", help="numba or cython, which has nothing to compile (default numba)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cold, *warm = (
            start_seconds(folder / f"run{i}", folder / "kernels", options.data_dir, options.engine)
            for i in range(options.warm + 1)
        )
    print(f"cold {cold:.1f} s, warm {statistics.median(warm):.2f} s (median of {len(warm)})")


if __name__ == "__main__":
    main()
