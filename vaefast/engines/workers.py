"""A team of threads that run the same compiled kernel side by side. Both compiled engines for the CPU use it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from vaefast.errors import SettingsError

Arguments = Sequence[tuple[Any, ...]]


class Team:
    """Threads that wait in a pool, and cost nothing while they wait.

    The calling thread only waits, so a signal reaches it at once. It leaves `run` when the kernels have ended, because they
    use the memory of the model.

    Parameters
    ----------
    workers
        How many.
    prepare
        Called with the kernel and all arguments before any thread runs it: to compile it. A compilation that fails in one
        thread only would leave the others waiting.
    """

    def __init__(self, workers: int, prepare: Callable[[Any, Arguments], None] | None = None) -> None:
        self.workers, self._prepare = workers, prepare
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0
        self._one_call = threading.Lock()

    def run(self, kernel: Any, arguments: Arguments) -> None:
        """Call `kernel(*arguments[w])` on every worker w and wait for all."""
        if self._process not in (0, os.getpid()):  # a child has the lock as it was when another thread forked
            self._one_call, self._pool, self._process = threading.Lock(), None, 0
        with self._one_call:
            whole = self._ready().submit(self._together, kernel, arguments)
            try:
                whole.result()
            except BaseException:
                wait([whole])
                raise

    def close(self) -> None:
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown()
        self._pool = None

    def _together(self, kernel: Any, arguments: Arguments) -> None:
        """Submit all workers, from within the pool: no signal can come between two submissions, which would leave workers
        waiting at their barrier for one that never starts."""
        if self._prepare is not None:
            self._prepare(kernel, arguments)
        others: list[Future[None]] = [self._pool.submit(kernel, *a) for a in arguments[1:]] if self._pool else []
        kernel(*arguments[0])
        for other in others:
            other.result()

    def _ready(self) -> ThreadPoolExecutor:
        """The pool, with all its threads running; a forked child has its parent's pool object but none of its threads."""
        if self._pool is not None and self._process == os.getpid():
            return self._pool
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="vaefast")
        everyone = threading.Barrier(self.workers)
        try:
            for arrival in [pool.submit(everyone.wait) for _ in range(self.workers)]:
                arrival.result()
        except RuntimeError as error:
            everyone.abort()
            pool.shutdown(wait=False)
            raise SettingsError(f"cannot start {self.workers} threads ({error}): ask for fewer with --threads") from error
        self._pool, self._process = pool, os.getpid()
        return pool
