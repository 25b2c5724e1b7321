"""A team of threads that run the same compiled kernel side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vaefast.errors import VaefastError


class Team:
    """The calling thread is worker 0; the others wait in a pool, and cost nothing while they wait."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def run(self, kernel: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
        """Call `kernel(*arguments[w])` on every worker w and wait for all."""
        if self.workers > 1 and (self._pool is None or self._process != os.getpid()):
            self._start()
        assert self._pool is not None or self.workers == 1
        others = [self._pool.submit(kernel, *arguments[w]) for w in range(1, self.workers)] if self._pool else []
        kernel(*arguments[0])
        for other in others:
            other.result()

    def close(self) -> None:
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown()
        self._pool = None

    def _start(self) -> None:
        """A new pool; a forked child has the parent's pool object, but none of its threads."""
        pool = ThreadPoolExecutor(self.workers - 1, thread_name_prefix="vaefast")
        # All threads start before any kernel waits for another: a worker that never comes would hang the barrier.
        try:
            gate = [pool.submit(os.getpid) for _ in range(self.workers - 1)]
            for future in gate:
                future.result()
        except RuntimeError as error:
            pool.shutdown(wait=False)
            raise VaefastError(
                f"cannot start {self.workers} threads ({error}): ask for fewer with --threads or VAEFAST_NUM_THREADS"
            ) from error
        self._pool, self._process = pool, os.getpid()
