"""A lock that allows one run at a time in a folder. It ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from pathlib import Path

from vaefast.errors import SettingsError
from vaefast.files.atomic import cannot_write

try:
    import fcntl
except ImportError:  # Windows, which does not let an open file be removed: that is lock enough
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
# File systems without locks, such as some network mounts: a run without a lock is better than no run.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class FolderLock:
    """Held from its creation until `release`.

    The operating system's lock on a file decides. So a dead owner holds nothing, even if its process number is in use again.
    The text in the file is for people. The file of an owner that was killed is taken over.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises
        ------
        SettingsError
            A living process holds it.
        OutputError
            The lock's file cannot be made.
        """
        self.path = folder / NAME
        self._file = -1
        try:
            self._file = self._taken()
            os.ftruncate(self._file, 0)
            os.write(self._file, f"process {os.getpid()} on {platform.node()}\n".encode())
        except OSError as error:
            self.release()
            raise cannot_write(self.path, error) from error

    def release(self) -> None:
        """Release the lock. The file is removed first, while no other process can have the lock."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._file)
            self._file = -1

    def _taken(self) -> int:
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if self._is_ours(file):
                    return file
            except BaseException:
                os.close(file)
                raise
            # Its last owner removed the file between our opening and our locking it.
            os.close(file)

    def _is_ours(self, file: int) -> bool:
        """Whether the file, now locked, is still the one that others would open."""
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(file, 200).decode(errors="replace").strip() or "another process"
            folder = self.path.parent
            raise SettingsError(f"{folder} is in use by {owner}: wait for it, or choose another --out") from None
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
        try:
            return os.path.samestat(os.fstat(file), os.stat(self.path))
        except FileNotFoundError:
            return False
