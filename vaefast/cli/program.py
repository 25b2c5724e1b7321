"""How this process was started, so that help and advice name a command as the user typed it."""

from __future__ import annotations

import sys


def called(command: str) -> str:
    """What to type for a command of vaefast, in the form in which this process was started.

    `vaefast train` from the console script and from Python; `python -m vaefast train` or `python -m vaefast.train` if that
    module was run.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = "" if spec is None else spec.name
    if module == "vaefast.__main__":
        return f"python -m vaefast {command}".rstrip()
    if module.startswith("vaefast.") and command:
        return f"python -m vaefast.{command}"
    return f"vaefast {command}".rstrip()
