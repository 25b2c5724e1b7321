"""How this process was called, so that help and advice name a command as the reader typed it."""

from __future__ import annotations

import sys


def called(command: str) -> str:
    """What to type for a command of vaefast, in the way that this process was started.

    `vaefast train` from the console script and from Python; `python -m vaefast train` and `python -m vaefast.train` where
    Python was given that module.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = "" if spec is None else spec.name
    if module == "vaefast.__main__":
        return f"python -m vaefast {command}".rstrip()
    if module.startswith("vaefast.") and command:
        return f"python -m vaefast.{command}"
    return f"vaefast {command}".rstrip()
