"""Download one file over HTTP, with limits on time and size. The caller chooses and verifies the file."""

from __future__ import annotations

import time
from typing import BinaryIO

from vaefast.data.wording import reason

# Seconds to connect, between two chunks, and for a whole file (10 MB take 250 s at 40 kB/s).
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
WHOLE_TIMEOUT = 300.0
PIECE = 1 << 16


class DownloadError(Exception):
    """A download failed. The message gives the reason in a few words."""


class _Sink:
    """The target of a download. It stops a server that never stops sending, fast or slowly."""

    def __init__(self, target: BinaryIO, largest: int) -> None:
        self.target = target
        self.room = largest
        self.deadline = time.monotonic() + WHOLE_TIMEOUT

    def write(self, piece: bytes) -> None:
        self.room -= len(piece)
        if self.room < 0:
            raise DownloadError("the server sends more than the file can hold")
        if time.monotonic() > self.deadline:
            raise DownloadError(f"not done after {WHOLE_TIMEOUT:g} seconds")
        self.target.write(piece)

    def flush(self) -> None:
        """Asked for after every piece; once at the end is enough."""


def download(url: str, target: BinaryIO, largest: int) -> None:
    """Write what a URL serves into an open file.

    Parameters
    ----------
    url
        Address, http or https.
    target
        A file open for writing. After an error it holds a part of the download.
    largest
        Largest number of bytes to accept.

    Raises
    ------
    DownloadError
        No connection, an HTTP error, a time-out, a transfer that breaks off, or too many bytes.
    """
    # Imported only for a download, because it takes time. The bare downloader, unlike `pooch.retrieve`, logs nothing.
    from pooch import HTTPDownloader

    fetch = HTTPDownloader(progressbar=False, chunk_size=PIECE, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT))
    try:
        fetch(url, _Sink(target, largest), None)
        target.flush()
    except OSError as error:  # the errors of `requests` are OSErrors, too
        raise DownloadError(_why(error)) from error


def _why(error: OSError) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    # The text of a connection error is three lines of nested objects; its name (ConnectTimeout, SSLError) tells more.
    return reason(error) if error.errno is not None else type(error).__name__
