"""`python -m tests.faults`: every fault at full length. `--seed` and `--case` replay one."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.faults import Failed, disks, flips, full, kill, mutate

KILLS, FLIPS, INPUTS = 100, 500, 100_000


def main() -> int:
    """Run the kinds that are named, all of them by default; returns 1 if a fault was not survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="decides every case (default: 0)")
    parser.add_argument("--count", type=int, help="cases of each kind, instead of the full number")
    parser.add_argument("--case", type=int, help="only the case of this number")
    options = parser.parse_args()
    unknown = set(options.kinds) - set(KINDS)
    if unknown:
        parser.error(f"unknown {', '.join(sorted(unknown))}: choose among {', '.join(KINDS)}")
    results = [_run(kind, options.seed, options.count, options.case) for kind in options.kinds or KINDS]
    return 0 if all(results) else 1


def _run(kind: str, seed: int, count: int | None, only: int | None) -> bool:
    """All cases of a kind: a line for each failure, and one that sums up."""
    start, failures, seen = time.monotonic(), 0, Counter[str]()
    with tempfile.TemporaryDirectory(prefix="vaefast-faults-") as folder:
        cases, one = KINDS[kind](seed, Path(folder))
        numbers = [only] if only is not None else list(cases)[:count]
        for number in numbers:
            try:
                seen[one(number)] += 1
            except Failed as failure:
                failures += 1
                print(
                    f"FAILED {kind}: {failure}\n  again: python -m tests.faults {kind} --seed {seed} --case {number}",
                    flush=True,
                )
    kinds = f" ({', '.join(f'{number} {name}' for name, number in seen.most_common(12))})" if len(seen) < 20 else ""
    passed = len(numbers) - failures
    print(f"{kind}: {passed} of {len(numbers)} survived in {time.monotonic() - start:.0f} s{kinds}", flush=True)
    return failures == 0


Cases = tuple[Iterable[int], Callable[[int], str]]


def _kills(seed: int, folder: Path) -> Cases:
    whole = kill.unbroken(folder)
    return range(KILLS), lambda number: kill.kill(seed, number, folder, whole)


def _disks(seed: int, folder: Path) -> Cases:
    run = disks.unbroken(folder)

    def one(number: int) -> str:
        mode = disks.MODES[number % len(disks.MODES)]
        disks.fail_at(number // len(disks.MODES) + 1, mode, run, folder)
        return mode

    return range(len(run.calls) * len(disks.MODES)), one


def _full(seed: int, folder: Path) -> Cases:
    sizes = full.cases(folder)
    return range(len(sizes)), lambda number: full.fill(*sizes[number], folder)


def _flips(seed: int, folder: Path) -> Cases:
    _, expected = flips.finished(folder)
    return range(FLIPS), lambda number: "cut" if " cut to " in flips.damage(seed, number, folder, expected) else "flipped"


def _inputs(seed: int, folder: Path) -> Cases:
    kinds = mutate.targets(folder)
    return range(INPUTS), lambda number: mutate.mutate(seed, number, kinds)


KINDS: dict[str, Callable[[int, Path], Cases]] = {
    "kill": _kills,
    "disk": _disks,
    "full": _full,
    "flip": _flips,
    "input": _inputs,
}

if __name__ == "__main__":
    sys.exit(main())
