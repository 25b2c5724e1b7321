"""The download of MNIST, from servers on this machine."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from tests.data.making import (
    check_mnist,
    flipped,
    refused,
    write,
)
from vaefast.data import download, load, mnist

pytestmark = pytest.mark.filterwarnings("error")


class Server:
    """A mirror that serves bytes by path; a number is the status of an error, and None never answers to the end."""

    def __init__(self, pages: dict[str, bytes | int | None]) -> None:
        server = self
        self.asked: list[str] = []
        self.released = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                if self.path not in pages:
                    self.send_error(404)
                    return
                page = pages[self.path]
                if isinstance(page, int):
                    self.send_error(page)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(1000 if page is None else len(page)))
                self.end_headers()
                if page is None:
                    self.wfile.write(b"\x1f\x8b")
                    self.wfile.flush()
                    server.released.wait(10)
                    self.close_connection = True
                else:
                    # A truncated page promises its whole length.
                    self.wfile.write(page.removesuffix(b"[truncated]"))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/"

    def close(self) -> None:
        self.released.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Server]]]:
    """Start one mirror for each set of pages, in the order in which they are to be tried, and allow downloads."""
    servers: list[Server] = []

    def start(*mirrors: dict[str, bytes | int | None]) -> list[Server]:
        servers.extend(Server(pages) for pages in mirrors)
        monkeypatch.setattr(mnist, "MIRRORS", tuple(server.url for server in servers))
        monkeypatch.delenv("VAEFAST_OFFLINE")
        return servers

    yield start
    for server in servers:
        server.close()


def pages_of(table: dict[str, bytes]) -> dict[str, Any]:
    return {f"/{name}.gz": gzip.compress(content) for name, content in table.items()}


def test_download_fills_the_cache_and_happens_once(
    isolated: Path, table: dict[str, bytes], serve: Callable[..., list[Server]], capfd: pytest.CaptureFixture[str]
) -> None:
    good, spare = serve(pages_of(table), pages_of(table))
    check_mnist(load(None), table)
    assert sorted(path.name for path in isolated.iterdir()) == sorted(f"{name}.gz" for name in table)
    assert len(good.asked) == 4
    check_mnist(load("mnist"), table)
    assert len(good.asked) == 4
    assert not spare.asked
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"vaefast: downloading MNIST, 11 MB, into {isolated}; VAEFAST_OFFLINE=1 forbids it\n"  # once


def test_download_completes_a_partly_filled_cache(
    isolated: Path, table: dict[str, bytes], serve: Callable[..., list[Server]]
) -> None:
    write(isolated, table)
    (isolated / "t10k-images-idx3-ubyte.gz").unlink()
    (good,) = serve(pages_of(table))
    check_mnist(load("mnist"), table)
    assert good.asked == ["/t10k-images-idx3-ubyte.gz"]


def test_what_killed_downloads_left_is_removed_and_what_runs_is_not(
    isolated: Path, table: dict[str, bytes], serve: Callable[..., list[Server]]
) -> None:
    isolated.mkdir(parents=True)
    stale, running, foreign = isolated / ".train-a.part", isolated / ".train-b.part", isolated / "mine.part"
    for path in (stale, running, foreign):
        path.write_bytes(b"half of it")
    long_ago = time.time() - mnist.STALE_SECONDS - 60
    os.utime(stale, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))
    serve(pages_of(table))
    check_mnist(load("mnist"), table)
    assert {path.name for path in isolated.glob("*.part")} == {running.name, foreign.name}


BAD_PAGES: dict[str, Callable[[bytes], bytes | int | None]] = {
    "403": lambda page: 403,
    "429": lambda page: 429,
    "500": lambda page: 500,
    "503": lambda page: 503,
    "html": lambda page: b"<html><body>Please log in</body></html>",
    "empty": lambda page: b"",
    "truncated": lambda page: page[:-20] + b"[truncated]",
    "cut": lambda page: page[:-20],
    "other data": lambda page: gzip.compress(flipped(gzip.decompress(page))),
    "endless": lambda page: bytes(1_000_000),
    "bomb": lambda page: gzip.compress(bytes(1_000_000)),
    "stuck": lambda page: None,
}


@pytest.mark.parametrize("kind", [*BAD_PAGES, "404", "no server"])
def test_bad_mirror_gives_way_to_the_next(
    isolated: Path,
    table: dict[str, bytes],
    serve: Callable[..., list[Server]],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.2)
    pages = pages_of(table)
    bad = {path: BAD_PAGES[kind](page) for path, page in pages.items()} if kind in BAD_PAGES else {}
    servers = serve(bad, pages)
    if kind == "no server":
        monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:1/", servers[1].url))
    check_mnist(load("mnist"), table)
    assert len(servers[0].asked) == (0 if kind == "no server" else 1)  # once failed, it is the last to be asked
    assert len(servers[1].asked) == 4
    assert sorted(path.name for path in isolated.iterdir()) == sorted(f"{name}.gz" for name in table)


def test_all_mirrors_fail(isolated: Path, table: dict[str, bytes], serve: Callable[..., list[Server]]) -> None:
    servers = serve({}, dict.fromkeys(pages_of(table), b"<html>"))
    message = refused("mnist", "404", "not the file of MNIST", str(isolated), "VAEFAST_OFFLINE")
    assert all(server.url in message for server in servers)
    assert list(isolated.iterdir()) == []  # nothing half-written
    dataset = load(None)
    assert dataset.name == "digits 8x8"
    assert dataset.notice is not None
    assert "404" in dataset.notice


@pytest.mark.parametrize("status", [403, 503])
def test_a_status_is_named(table: dict[str, bytes], serve: Callable[..., list[Server]], status: int) -> None:
    serve(dict.fromkeys(pages_of(table), status))
    refused("mnist", f"HTTP status {status}", "train-images-idx3-ubyte", "VAEFAST_OFFLINE=1", "--data-dir")


FETCH = """
import json, sys
from vaefast.data import load, mnist
mirrors, files = json.load(sys.stdin)
mnist.MIRRORS = tuple(mirrors)
mnist.FILES = tuple(mnist.IdxFile(*file) for file in files)
print(load("mnist").sha256)
"""


def test_processes_that_download_at_once_all_get_the_data(
    isolated: Path, table: dict[str, bytes], serve: Callable[..., list[Server]]
) -> None:
    (good,) = serve(pages_of(table))
    task = json.dumps([mnist.MIRRORS, [astuple(file) for file in mnist.FILES]])
    (isolated.parents[2] / "task").write_text(task)
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", FETCH],
                    stdin=stack.enter_context((isolated.parents[2] / "task").open()),
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(4)
        ]
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert {*outputs} == {f"{load('mnist').sha256}\n"}
    assert sorted(path.name for path in isolated.iterdir()) == sorted(f"{name}.gz" for name in table)
    assert len(good.asked) >= 4


def test_message_names_only_the_files_still_missing(
    isolated: Path, table: dict[str, bytes], serve: Callable[..., list[Server]]
) -> None:
    pages = pages_of(table)
    del pages["/t10k-images-idx3-ubyte.gz"]
    serve(pages)
    message = refused("mnist", "put t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (")
    assert "train-labels" not in message
    assert len(list(isolated.iterdir())) == 2


def test_download_has_limits(serve: Callable[..., list[Server]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.2)
    (server,) = serve({"/page": b"x" * 1000, "/stuck": None})
    target = io.BytesIO()
    download.download(server.url + "page", target, 1000)
    assert target.getvalue() == b"x" * 1000
    with pytest.raises(download.DownloadError, match="more than the file can hold"):
        download.download(server.url + "page", io.BytesIO(), 999)
    # A server that hangs up in the end would give ChunkedEncodingError instead.
    with pytest.raises(download.DownloadError, match=r"^(ConnectionError|ReadTimeout)$"):
        download.download(server.url + "stuck", io.BytesIO(), 1000)


def test_slow_download_is_given_up(
    table: dict[str, bytes], serve: Callable[..., list[Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "WHOLE_TIMEOUT", -1.0)
    serve(pages_of(table))
    refused("mnist", "not done after")


def test_cache_that_cannot_be_written(
    tmp_path: Path, table: dict[str, bytes], serve: Callable[..., list[Server]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (server,) = serve(pages_of(table))
    refused("mnist", "cannot be written", str(tmp_path / "file"))
    assert load(None).name == "digits 8x8"
    assert not server.asked


@pytest.mark.parametrize(("value", "allowed"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_offline_switch(
    table: dict[str, bytes],
    serve: Callable[..., list[Server]],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    allowed: bool,
) -> None:
    (server,) = serve(pages_of(table))
    monkeypatch.setenv("VAEFAST_OFFLINE", value)
    assert load(None).name == ("mnist" if allowed else "digits 8x8")
    assert bool(server.asked) == allowed


def test_damaged_cache_costs_no_download(isolated: Path, table: dict[str, bytes], serve: Callable[..., list[Server]]) -> None:
    isolated.mkdir(parents=True)
    (isolated / "t10k-labels-idx1-ubyte").write_bytes(b"junk")
    (server,) = serve(pages_of(table))
    refused(None, "t10k-labels-idx1-ubyte", "delete it")
    assert not server.asked
