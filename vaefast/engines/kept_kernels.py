"""Compiled kernels on disk: a private folder for each key, a file for each kernel and signature.

Numba's own disk cache goes stale when an imported kernel is edited, unpickles files that it never verified, and fails the
import where nothing is writable. The key of this cache is a hash of all kernel sources, the versions and the processor. It
lies in a folder that only the user can open, and verifies a SHA-256 before it unpickles. If anything is wrong, the caller
compiles again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from vaefast.version import __version__

try:
    import fcntl
except ImportError:  # Windows: each process compiles
    fcntl = None  # type: ignore[assignment]

# Seconds to wait for another process that compiles the same kernel, and between two looks. One that was stopped must not
# stop the others.
PATIENCE, LOOK = 120.0, 0.02


def key_of(sources: Iterable[Path], *facts: object) -> str:
    """A key that changes with these sources, with the versions of vaefast and Python, and with these facts."""
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    digest.update(repr((__version__, sys.version, facts)).encode())
    return digest.hexdigest()[:20]


def folder_of(key: str) -> Path | None:
    """The private folder of compiled kernels, made if need be. None if there can be no such folder."""
    base = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "vaefast" / f"kernels-{key}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    if hasattr(os, "getuid"):
        # Cached machine code is executed, so no other user may be able to write here.
        private = status.st_uid == os.getuid() and not stat.S_IMODE(status.st_mode) & 0o022
        return folder if private else None
    return folder


@contextlib.contextmanager
def one_at_a_time(folder: Path | None, kernel: str, on_wait: Callable[[], None]) -> Iterator[None]:
    """Of the processes that need the same kernel, one compiles it, and the others wait to load it.

    `on_wait` is called once, if there is a wait. The lock ends with the process that holds it, however that ends. It is no
    more than thrift: where there can be no lock, or it takes too long, a process compiles for itself.
    """
    file = _lock_file(folder, kernel)
    if file is None:
        yield
        return
    path, descriptor = file
    try:
        start, waited = time.monotonic(), False
        while not _locked(descriptor) and time.monotonic() < start + PATIENCE:
            if not waited:
                on_wait()
                waited = True
            time.sleep(LOOK)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        with contextlib.suppress(OSError):
            # Closing alone would leave it locked by a process that was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock_file(folder: Path | None, kernel: str) -> tuple[Path, int] | None:
    if folder is None or fcntl is None:
        return None
    path = folder / f"{kernel}.lock"
    try:
        return path, os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None


def _locked(descriptor: int) -> bool:
    """Whether there is no need to wait: the lock is taken, or this file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def kept_or_not(folder: Path | None) -> str:
    """For a message: whether kernels that are being compiled will be cached."""
    return "and kept for the next run" if folder else "for this run: the cache folder is not writable"


class KernelFile:
    """One file a signature: the SHA-256 of pickled machine code, and the code itself.

    Parameters
    ----------
    name
        Of the kernel.
    folder
        Says where the files are, or that there are none.
    """

    def __init__(self, name: str, folder: Callable[[], Path | None]) -> None:
        self._name, self._folder = name, folder

    def exists(self, key: object) -> bool:
        """Whether there is a file for this key."""
        path = self._path(key)
        return path is not None and path.exists()

    def load(self, key: object) -> Any:
        """The code that was saved under this key. None if there is none, or if it does not verify."""
        path = self._path(key)
        if path is None:
            return None
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if content[:32] != hashlib.sha256(content[32:]).digest():
            return None
        return pickle.loads(content[32:])

    def save(self, key: object, data: Any) -> None:
        """Save the code. If that fails, the next process compiles."""
        path = self._path(key)
        if path is None:
            return
        temporary = None
        try:
            content = pickle.dumps(data, protocol=-1)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                temporary = Path(file.name)
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(temporary, path)
        except (OSError, pickle.PicklingError, RuntimeError):
            # A full or read-only disk, or code that cannot be kept, costs the next process a compilation, and nothing else.
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def flush(self) -> None:
        """Do nothing: no code is held in memory."""

    def _path(self, key: object) -> Path | None:
        folder = self._folder()
        signature = hashlib.sha256(repr(key).encode()).hexdigest()[:20]
        return folder / f"{self._name}-{signature}.kernel" if folder else None
