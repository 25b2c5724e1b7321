"""Write files whole or not at all, so that they survive a power cut."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from pathlib import Path

from vaefast.errors import OutputError

# Temporary files begin with a dot and end so: what a killed process left behind can be told from anything of the user's.
TEMPORARY = ".part"

# Seconds between attempts to replace a file on Windows.
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
# What says that a file system cannot flush folders.
NO_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

# What helps, by the number of the error.
REMEDIES = {
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): "free space or choose another --out",
    (errno.ENOENT,): "make the folder that it would be in, or choose another --out",
    (errno.EEXIST, errno.ENOTDIR, errno.EISDIR): "choose another --out, for something else is in its place",
    (errno.EACCES, errno.EPERM): "choose another --out, or give yourself permission to write there"
    if os.name != "nt"
    else "close the program that has it open, or choose another --out",
    (errno.EROFS,): "choose another --out, for that place is read-only",
}


class Disk:
    """The calls of the operating system that writing needs. The fault tests replace it by one that fails."""

    def write(self, file: int, content: memoryview) -> int:
        """Write a part of `content`; returns the number of bytes that were taken."""
        return os.write(file, content)

    def fsync(self, file: int) -> None:
        """Wait until a file or a folder is on the disk itself."""
        os.fsync(file)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file another name, replacing what has it. On Windows a program that looks into it may forbid that a while."""
        for pause in (*(PAUSES if os.name == "nt" else ()), None):
            try:
                os.replace(source, target)
                break
            except PermissionError:
                if pause is None:
                    raise
                time.sleep(pause)


disk = Disk()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a temporary file beside `path`, flush it to the disk, rename it into place, and flush the folder. A link stays:
    the file to which it leads is replaced.

    Raises
    ------
    OutputError
        The file cannot be written. What was there before is unharmed, unless all went well but the flush of the folder:
        then the new file is there whole, and may be gone after a power cut.
    """
    temporary, path = None, path.resolve() if path.is_symlink() else path
    try:
        # A file that was private stays so. The system applies the umask; some mounts of Windows' disks refuse to change modes.
        kept = stat.S_IMODE(path.stat().st_mode) if path.is_file() else None
        handle, temporary = new_file(path, TEMPORARY, 0o666 if kept is None else kept)
        try:
            _write_all(handle, content)
            disk.fsync(handle)
        finally:
            os.close(handle)
        if kept is not None and kept != stat.S_IMODE(temporary.stat().st_mode):
            with contextlib.suppress(PermissionError):
                temporary.chmod(kept)
        disk.rename(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def new_file(path: Path, suffix: str, mode: int = 0o666) -> tuple[int, Path]:
    """A file that is open for writing, beside `path`, with a name that nothing has; by the umask, others may read it.

    `tempfile` makes files that are private, and on Windows it does not end where no file may be made.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")
    return os.open(name, flags, mode), name


def append(path: Path, line: bytes) -> None:
    """Add bytes to a file, all of them or none, and flush them to the disk.

    Raises
    ------
    OutputError
        They cannot be written; the file is as long as it was, if the disk still allows to shorten it.
    """
    try:
        with path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                _write_all(file.fileno(), line)
                disk.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless they are there; each new one's name is flushed to the disk.

    Raises
    ------
    OSError
        It cannot be made, or a file is in its place.
    """
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while writing into `folder`."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            path.unlink()


def _write_all(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        written = disk.write(handle, rest)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]


def sync_folder(folder: Path) -> None:
    """Flush a folder, which makes a new name in it durable. Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        disk.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise
    finally:
        os.close(handle)


def cannot_make(folder: Path, error: OSError) -> OutputError:
    """The error of a folder that cannot be made, in one line."""
    return OutputError(f"cannot make the folder {folder}: {error.strerror or error}; {_remedy(error)}")


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The error for a file that cannot be written."""
    return OutputError(f"cannot write {path}: {error.strerror or error}; {_remedy(error)}")


def _remedy(error: OSError) -> str:
    """The remedy for a failure to write."""
    return next((words for numbers, words in REMEDIES.items() if error.errno in numbers), "choose another --out")
