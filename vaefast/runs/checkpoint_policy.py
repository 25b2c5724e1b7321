"""When a checkpoint is due: after a number of epochs or minutes, or as often as it costs almost nothing."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field

from vaefast.errors import SettingsError

# `auto` writes twice a minute, and less often where a write is slow: it never takes more than a two-hundredth of the time.
AUTO_SECONDS = 30.0
AUTO_SHARE = 200
LONGEST_MINUTES = 525_600.0  # a year
MOST_EPOCHS = 2**24
_FORM = re.compile(r"(\d+|\d*\.\d+|\d+\.)\s*(m|min|minutes?)|(\d+)(\s*epochs?)?", re.ASCII)


@dataclass
class Schedule:
    """Decides whether a checkpoint is due. It is asked after every piece of a run and after every epoch."""

    text: str = "auto"
    epochs: int = field(default=0, init=False)  # 0: not counted in epochs
    seconds: float = field(default=math.inf, init=False)
    _written: float = field(default=-math.inf, init=False)

    def __post_init__(self) -> None:
        if self.text == "auto":
            self.seconds = AUTO_SECONDS
        elif self.text != "never":
            self._read()

    def _read(self) -> None:
        match = _FORM.fullmatch(self.text.strip())
        if match is None or len(self.text) > 40:
            raise SettingsError(
                f"checkpoint_every is {self.text[:40]!r}: give epochs, such as 5, or minutes, such as 10m, or auto or never"
            )
        if match[1]:
            minutes = float(match[1])
            if not 0 <= minutes <= LONGEST_MINUTES:
                raise SettingsError(f"checkpoint_every is {self.text!r}: give minutes from 0m to {LONGEST_MINUTES:g}m")
            self.seconds = 60 * minutes
        else:
            self.epochs = int(match[3])
            if not 1 <= self.epochs <= MOST_EPOCHS:
                raise SettingsError(f"checkpoint_every is {self.text!r}: give epochs from 1 to {MOST_EPOCHS}")

    def is_due(self, epochs_done: int, between_epochs: bool) -> bool:
        """Whether to write now, `epochs_done` epochs being complete."""
        if self.epochs:
            return between_epochs and epochs_done % self.epochs == 0
        return time.monotonic() - self._written >= self.seconds

    def written(self, seconds: float) -> None:
        """Take note of a checkpoint that was written just now and took this many seconds."""
        self._written = time.monotonic()
        if self.text == "auto":
            self.seconds = max(AUTO_SECONDS, AUTO_SHARE * seconds)
