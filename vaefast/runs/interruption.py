"""SIGINT, SIGTERM, and SIGHUP from a terminal that closes: they end the process at once if nothing is lost, and after the next
checkpoint during training."""

from __future__ import annotations

import signal
from types import FrameType

HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, **({} if HANGUP is None else {HANGUP: 129})}


class Interrupted(BaseException):
    """One of these signals; no `except Exception` may swallow it."""

    def __init__(self, number: int, remedy: str = "what it had written is whole") -> None:
        self.signal = signal.Signals(number)
        self.remedy = remedy


class Interruption:
    """Listens to these signals. A second SIGINT or SIGTERM ends the process at once, whatever it does."""

    def __init__(self) -> None:
        self.requested: int | None = None
        self._deferred = False

    def listen(self) -> None:
        for number in EXIT_CODES:
            # `nohup` has SIGHUP ignored, and that is what its user wants.
            if number != HANGUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)

    def ignore(self) -> None:
        """Ignore these signals, because another process of the same job listens."""
        for number in EXIT_CODES:
            signal.signal(number, signal.SIG_IGN)

    def defer(self) -> None:
        """From now on only note a signal. The training loop looks for it between two pieces."""
        self._deferred = True

    def allow(self, remedy: str) -> None:
        """From now on a signal raises again. One that has been noted raises here, with the remedy."""
        self._deferred = False
        if self.requested is not None:
            raise Interrupted(self.requested, remedy)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        for each in EXIT_CODES:
            # A closing terminal may send SIGHUP twice, from the kernel and from its shell: only the first one counts.
            signal.signal(each, signal.SIG_IGN if each == HANGUP else signal.SIG_DFL)
        if not self._deferred:
            raise Interrupted(number)
        self.requested = number
