"""Whether these are sources without the compiled extension, while an installed copy of vaefast has it.

`python -m vaefast` puts the current folder first, so in a checkout it imports the sources there and not what was installed.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

# Of this copy.
PACKAGE = Path(__file__).parents[1]
# Where the extension lies in a copy, and its name.
FOLDER, NAME = os.path.join("engines", "cython_cpu"), "kernels"


def advice() -> str | None:
    """What to type to run the compiled extension of the installed copy; None where this copy has one, or neither has."""
    if _holds_extension(PACKAGE):
        return None
    other = _installed()
    if other is None or not _holds_extension(other):
        return None
    return (
        f"the sources in {PACKAGE} are not compiled, and the vaefast installed in {other} is: type vaefast instead of "
        "python -m vaefast to run that one, or compile these with pip install -e ."
    )


def _installed() -> Path | None:
    """The package that would be imported if this one were not there."""
    own = os.path.realpath(PACKAGE.parent)
    spec = PathFinder.find_spec("vaefast", [entry for entry in sys.path if os.path.realpath(entry) != own])
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _holds_extension(package: Path) -> bool:
    return PathFinder.find_spec(NAME, [str(package / FOLDER)]) is not None
