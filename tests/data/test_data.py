"""Finding, fetching, verifying, reading and splitting data.

No test needs a network. Those of the real MNIST are skipped unless VAEFAST_DATA_DIR names a folder that holds it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vaefast.data import Dataset, Images, download, load, mnist, reading, values
from vaefast.data.idx import parse_idx, read_idx
from vaefast.data.images import assemble, fingerprint, guessed_shape
from vaefast.errors import DataError, SettingsError
from vaefast.models.noise import Purpose, permutation

# Read before `isolated` hides it from the code under test.
REAL_MNIST = os.environ.get("VAEFAST_DATA_DIR")
needs_mnist = pytest.mark.skipif(not REAL_MNIST, reason="set VAEFAST_DATA_DIR to a folder with the MNIST files")

pytestmark = pytest.mark.filterwarnings("error")

GREY = np.arange(5 * 12, dtype=np.uint8).reshape(5, 12)


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No data but what a test makes, no network, no proxy; returns where the MNIST cache would be."""
    for name in ("VAEFAST_DATA_DIR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    return tmp_path / "xdg" / "vaefast" / "mnist"


def refused(source: str | Path | None, *words: str, data_dir: Path | None = None) -> str:
    """The message with which `load` refuses: one line that holds all the words."""
    with pytest.raises(DataError) as caught:
        load(None if source is None else str(source), data_dir)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    for word in words:
        assert word in message
    return message


def saved(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


def everything(dataset: Dataset) -> NDArray[Any]:
    """Training and test rows put back in the order of the file."""
    rows = np.concatenate([dataset.train.values, dataset.test.values])
    back = np.empty_like(rows)
    back[permutation(0, Purpose.TRAIN_TEST_SPLIT, 0, len(rows))] = rows
    return back


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


# --- Images and Dataset


def test_images_are_read_only_and_leave_the_callers_array_writeable() -> None:
    mine = GREY.copy()
    images = Images(mine, (3, 4))
    assert len(images) == 5
    with pytest.raises(ValueError, match="read-only"):
        images.values[0, 0] = 1
    mine[0, 0] = 7
    assert images.values[0, 0] == 7  # a view, not a copy


def test_images_are_made_contiguous() -> None:
    images = Images(np.asfortranarray(GREY), (3, 4))
    assert images.values.flags.c_contiguous
    np.testing.assert_array_equal(images.values, GREY)


@pytest.mark.parametrize(
    ("array", "shape"),
    [(GREY, (3, 5)), (GREY.astype(np.float64), (3, 4)), (GREY.astype(np.int32), (3, 4)), (GREY[0], (3, 4))],
)
def test_images_refuse_other_types_and_shapes(array: Any, shape: tuple[int, int]) -> None:
    with pytest.raises(DataError):
        Images(array, shape)


def test_fingerprint_tells_values_types_shapes_and_split_apart() -> None:
    a, b = Images(GREY[:3], (3, 4)), Images(GREY[3:], (3, 4))
    zeros = np.zeros((2, 4), np.float32)
    prints = {
        fingerprint(a, b),
        fingerprint(b, a),
        fingerprint(Images(GREY[:2], (3, 4)), Images(GREY[2:], (3, 4))),
        fingerprint(Images(GREY[:3], (4, 3)), Images(GREY[3:], (4, 3))),
        fingerprint(Images(zeros, (2, 2)), Images(zeros, (2, 2))),
        fingerprint(Images(zeros.view(np.uint8), (4, 4)), Images(zeros.view(np.uint8), (4, 4))),
    }
    assert len(prints) == 6
    assert fingerprint(a, b) == fingerprint(Images(GREY[:3].copy(), (3, 4)), b)


@pytest.mark.parametrize(
    ("pixels", "shape"), [(784, (28, 28)), (64, (8, 8)), (6, (2, 3)), (12, (3, 4)), (13, (1, 13)), (1, (1, 1))]
)
def test_guessed_shape(pixels: int, shape: tuple[int, int]) -> None:
    assert guessed_shape(pixels) == shape


def test_importing_the_package_is_light() -> None:
    heavy = ("numba", "matplotlib", "sklearn", "pooch", "PIL", "requests", "scipy")
    code = f"import sys, vaefast.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the embedded digits


def test_digits() -> None:
    dataset = load("digits")
    assert (dataset.name, dataset.notice) == ("digits 8x8", None)
    assert dataset.train.values.dtype == np.float32
    assert dataset.train.values.shape == (1617, 64)
    assert dataset.test.values.shape == (180, 64)
    assert dataset.train.shape == dataset.test.shape == (8, 8)
    whole = everything(dataset)
    assert whole.min() == 0.0
    assert whole.max() == 1.0
    np.testing.assert_array_equal(whole[0, :8], np.array([0, 0, 5, 13, 9, 1, 0, 0]) / 16)
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    order = permutation(0, Purpose.TRAIN_TEST_SPLIT, 0, 1797)
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    assert labels[np.argsort(order)][:10].tolist() == list(range(10))
    assert load("digits").sha256 == dataset.sha256 == fingerprint(dataset.train, dataset.test)


def test_test_fraction_sets_the_size_of_the_test_set() -> None:
    assert len(load("digits", test_fraction=0.5).test) == 898
    assert len(load("digits", test_fraction=1e-9).test) == 1
    assert len(load("digits", test_fraction=1 - 1e-9).train) == 1


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_test_fraction_is_checked(fraction: float) -> None:
    with pytest.raises(SettingsError):
        load("digits", test_fraction=fraction)


# --- names


@pytest.mark.parametrize(("name", "meant"), [("minst", "mnist"), ("MNIST", "mnist"), ("digit", "digits")])
def test_near_miss_of_a_name(name: str, meant: str) -> None:
    assert f"did you mean '{meant}'" in refused(name, name)


@pytest.mark.parametrize("name", ["", "no/such/file.npy", "nul\0byte", "line\nbreak", "\udc80"])
def test_unknown_name_says_what_there_is(name: str) -> None:
    assert "did you mean" not in refused(name, "mnist", "digits", "path")


# --- MNIST: a small stand-in with its own table of sizes and hashes


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The unpacked content of four small files, which `mnist.FILES` is made to expect."""
    rng = np.random.default_rng(1)
    shapes = ((6, 3, 2), (6,), (4, 3, 2), (4,))
    contents = [idx_bytes(rng.integers(0, 256, shape).astype(np.uint8)) for shape in shapes]
    files = tuple(
        mnist.IdxFile(file.name, file.rank, len(content), hashlib.sha256(content).hexdigest())
        for file, content in zip(mnist.FILES, contents, strict=True)
    )
    monkeypatch.setattr(mnist, "FILES", files)
    return {file.name: content for file, content in zip(files, contents, strict=True)}


def write(folder: Path, table: dict[str, bytes], ending: str = ".gz", dotted: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in table.items():
        spelling = name.replace("-idx", ".idx") if dotted else name
        (folder / (spelling + ending)).write_bytes(gzip.compress(content) if ending else content)
    return folder


def check_mnist(dataset: Dataset, table: dict[str, bytes]) -> None:
    train, train_labels, test, test_labels = table.values()
    assert dataset.name == "mnist"
    assert dataset.notice is None
    assert dataset.train.shape == dataset.test.shape == (3, 2)
    assert dataset.train.values.tobytes() == train[16:]
    assert dataset.test.values.tobytes() == test[16:]
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    assert dataset.train_labels.tolist() == list(train_labels[8:])
    assert dataset.test_labels.tolist() == list(test_labels[8:])
    assert dataset.sha256 == fingerprint(dataset.train, dataset.test)


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_mnist_from_data_dir(tmp_path: Path, table: dict[str, bytes], ending: str, dotted: bool) -> None:
    folder = write(tmp_path / "m", table, ending, dotted)
    for name in ("mnist", None):
        check_mnist(load(name, folder), table)


def test_mnist_search_order(tmp_path: Path, isolated: Path, table: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    write(isolated, table)
    check_mnist(load(None), table)  # the cache, although offline
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    monkeypatch.setenv("VAEFAST_DATA_DIR", str(lacking))
    refused(None, str(lacking))  # the environment goes before the cache
    check_mnist(load(None, write(tmp_path / "m", table)), table)  # the argument before the environment
    monkeypatch.setenv("VAEFAST_DATA_DIR", "")
    check_mnist(load(None), table)  # empty is not set


def test_mnist_folder_in_the_home_folder(tmp_path: Path, table: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "m", table)
    check_mnist(load("mnist", Path("~/m")), table)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored
    write(tmp_path / ".cache" / "vaefast" / "mnist", table)
    check_mnist(load("mnist"), table)


@pytest.mark.parametrize("name", [None, "mnist"])
def test_named_folder_without_the_files_never_falls_back(
    tmp_path: Path, table: dict[str, bytes], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(name, str(tmp_path / "nowhere"), "does not exist", "--data-dir", data_dir=tmp_path / "nowhere")
    a_file = tmp_path / "file"
    a_file.touch()
    refused(name, "is not a folder", data_dir=a_file)
    folder = write(tmp_path / "m", table)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    message = refused(name, "lacks t10k-labels-idx1-ubyte", str(folder), data_dir=folder)
    assert "train-images" not in message
    monkeypatch.setenv("VAEFAST_DATA_DIR", str(folder))
    refused(name, "lacks t10k-labels-idx1-ubyte")


def test_mnist_out_of_reach(isolated: Path) -> None:
    message = refused("mnist", str(isolated), "VAEFAST_OFFLINE", "VAEFAST_DATA_DIR", "--data-dir")
    for file in mnist.FILES:
        assert file.name in message
    dataset = load(None)
    assert dataset.name == "digits 8x8"
    assert dataset.notice is not None
    assert "\n" not in dataset.notice
    for word in ("MNIST", "VAEFAST_DATA_DIR", "--data-dir", str(isolated), *(file.name for file in mnist.FILES)):
        assert word in dataset.notice


def test_mnist_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what it does for a user without one
    assert mnist.cache_folder() is None
    refused("mnist", "no home folder")
    assert load(None).name == "digits 8x8"


def flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda content: gzip.compress(flipped(content)), "SHA-256"),
        (lambda content: gzip.compress(content + b"\0"), "more than"),
        (lambda content: gzip.compress(content[:-1]), "instead of"),
        (lambda content: gzip.compress(content)[:-9], "cannot be read"),
        (lambda content: flipped(gzip.compress(content)), "cannot be read"),
        (lambda content: b"\x1f\x8bxxx", "cannot be read"),
        (lambda content: b"", "instead of"),
        (lambda content: b"<html>", "instead of"),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_damaged_mnist_never_falls_back(
    tmp_path: Path,
    isolated: Path,
    table: dict[str, bytes],
    damage: Callable[[bytes], bytes],
    word: str,
    cached: bool,
) -> None:
    folder = write(isolated if cached else tmp_path / "m", table)
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(table["t10k-images-idx3-ubyte"]))
    for name in (None, "mnist"):
        refused(name, str(path), word, data_dir=None if cached else folder)


def test_gzip_bomb_in_the_place_of_mnist_is_not_unpacked(tmp_path: Path, table: dict[str, bytes]) -> None:
    folder = write(tmp_path / "m", table)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(100_000_000), 1))
    tracemalloc.start()
    refused("mnist", "more than", data_dir=folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@needs_mnist
def test_real_mnist() -> None:
    assert REAL_MNIST is not None
    tracemalloc.start()
    dataset = load("mnist", Path(REAL_MNIST))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * (60_000 + 10_000) * 784
    assert dataset.train.values.shape == (60_000, 784)
    assert dataset.test.values.shape == (10_000, 784)
    assert dataset.train.values.dtype == np.uint8
    assert dataset.train.shape == (28, 28)
    assert np.count_nonzero(dataset.train.values.any(axis=0)) == 784 - 67
    assert np.count_nonzero(dataset.train.values) / 47_040_000 == pytest.approx(0.191, abs=0.0005)
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    assert dataset.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(dataset.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@needs_mnist
def test_real_mnist_as_a_folder_of_the_users() -> None:
    """The unverified path reads the same as the verified one."""
    assert REAL_MNIST is not None
    assert load(REAL_MNIST).sha256 == load("mnist", Path(REAL_MNIST)).sha256


# --- the download, from servers on this machine


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
    assert capfd.readouterr() == ("", "")


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


# --- .npy


def test_npy_is_split_by_the_keyed_permutation(tmp_path: Path) -> None:
    path = saved(tmp_path / "faces.npy", GREY)
    dataset = load(str(path), test_fraction=0.4)
    order = permutation(0, Purpose.TRAIN_TEST_SPLIT, 0, 5)
    np.testing.assert_array_equal(dataset.train.values, GREY[order[:3]])
    np.testing.assert_array_equal(dataset.test.values, GREY[order[3:]])
    assert (dataset.name, dataset.train.shape, dataset.notice) == ("faces.npy", (3, 4), None)
    assert dataset.train_labels is dataset.test_labels is None
    for images in (dataset.train, dataset.test):
        assert images.values.flags.c_contiguous
        assert not images.values.flags.writeable


def test_npy_of_pictures_keeps_their_shape(tmp_path: Path) -> None:
    dataset = load(str(saved(tmp_path / "a.npy", GREY.reshape(5, 2, 6))))
    assert dataset.train.shape == (2, 6)
    np.testing.assert_array_equal(everything(dataset), GREY)


FRACTIONS = GREY / 64  # exact in float16


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (GREY, GREY),
        (np.asfortranarray(GREY), GREY),
        (GREY.astype(">i2"), GREY),
        (GREY.astype(np.int64), GREY),
        (GREY.astype(np.uint64), GREY),
        (GREY > 30, np.where(GREY > 30, 255, 0).astype(np.uint8)),
        (FRACTIONS.astype(np.float16), FRACTIONS.astype(np.float32)),
        (FRACTIONS.astype(np.float32), FRACTIONS.astype(np.float32)),
        (FRACTIONS.astype(">f4"), FRACTIONS.astype(np.float32)),
        (FRACTIONS.astype(np.float64), FRACTIONS.astype(np.float32)),
        (np.asfortranarray(FRACTIONS), FRACTIONS.astype(np.float32)),
        (np.asfortranarray(FRACTIONS.astype(np.float32)), FRACTIONS.astype(np.float32)),
        (FRACTIONS.astype(np.longdouble), FRACTIONS.astype(np.float32)),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0, 1], [1, 0]], np.float32)),
    ],
)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_types_of_values(tmp_path: Path, array: Any, expected: NDArray[Any], ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    if ending == "npy":
        np.save(path, array)
    else:
        np.savez_compressed(path, array)
    rows = everything(load(str(path)))
    assert rows.dtype == expected.dtype
    np.testing.assert_array_equal(rows, expected)


# Rows beyond the first block of the check, too; the second value, further on, must not be the one reported.
@pytest.mark.parametrize("row", [0, 3, values.BLOCK // 50 + 10])
@pytest.mark.parametrize(
    ("dtype", "value", "shown"),
    [
        (np.float64, float("nan"), "nan"),
        (np.float32, float("inf"), "inf"),
        (np.float16, float("-inf"), "-inf"),
        (np.float64, -1e-300, "-1e-300"),
        (np.float32, 1.5, "1.5"),
        (np.float64, 1 + 2**-52, "1.0000000000000002"),
        (np.int16, -1, "-1"),
        (np.uint16, 256, "256"),
        (np.int64, 2**40, "1099511627776"),
    ],
)
def test_value_out_of_range_is_located(tmp_path: Path, dtype: Any, value: float, shown: str, row: int) -> None:
    array = np.zeros((values.BLOCK // 50 + 20, 50), dtype)
    array[row, 7] = value
    array[row, 9] = value
    array[row + 1, 2] = value
    wanted = "[0, 1]" if array.dtype.kind == "f" else "0 to 255"
    for order in "CF":
        path = saved(tmp_path / "a.npy", np.asarray(array, order=order))  # type: ignore[call-overload]
        refused(path, str(path), f"row {row}, column 7 (both counted from 0) is {shown}:", wanted)


def test_empty_array_of_huge_rows_is_refused_at_once(tmp_path: Path) -> None:
    header = npy_bytes(GREY)[:-60].replace(b"(5, 12), }" + b" " * 20, b"(0, 9999999999999999999), }   ")
    (tmp_path / "a.npy").write_bytes(header)
    refused(tmp_path / "a.npy", "no pixels")


def test_npy_in_fortran_order_keeps_pictures_upright(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", np.asfortranarray(FRACTIONS.reshape(5, 3, 4)))
    assert b"'fortran_order': True" in path.read_bytes()
    np.testing.assert_array_equal(everything(load(str(path))), FRACTIONS.astype(np.float32))


def test_two_sets_are_joined_only_if_both_hold_images() -> None:
    with pytest.raises(DataError, match="test set is empty"):
        assemble("a", Images(GREY, (3, 4)), Images(GREY[:0], (3, 4)))


def test_float64_file_is_never_whole_in_memory(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((4000, 784))
    path = saved(tmp_path / "a.npy", array)
    kept = array.nbytes // 2
    del array
    tracemalloc.start()
    load(str(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.4 * kept  # float32, and its shuffled copy; float64 and float32 alone would be 3


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((5, 2), complex), "complex"),
        (np.array([["a", "b"]] * 3), "<U1"),
        (np.array([[b"a"]] * 3), "|S1"),
        (np.zeros((3, 2), "M8[s]"), "datetime"),
        (np.zeros(3, [("a", "u1")]), "uint8"),
        (np.array([[None, 1], [2, 3]], dtype=object), "object"),
        (np.zeros(4, np.uint8), "shape (4,)"),
        (np.uint8(3), "shape ()"),
        (np.zeros((4, 2, 2, 1), np.uint8), "(N, height, width)"),
        (np.zeros((4, 0), np.uint8), "no pixels"),
        (np.zeros((4, 0, 3), np.float64), "no pixels"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((0, 4), np.float64), "no pixels"),
        (np.zeros((1, 4), np.uint8), "1 image:"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: Any, word: str) -> None:
    path = saved(tmp_path / "a.npy", array)
    refused(path, str(path), word)


def npy_bytes(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (npy_bytes(GREY)[:-1], "59 bytes where its header promises 60"),
        (npy_bytes(GREY) + b"\0", "61 bytes where its header promises 60"),
        (npy_bytes(GREY)[:50], "not a readable NumPy array"),
        (npy_bytes(GREY)[:6], "not a readable NumPy array"),
        (npy_bytes(GREY).replace(b"(5, 12)", b"(5,-12)"), "promises"),
        (npy_bytes(GREY).replace(b"(5, 12), }" + b" " * 20, b"(99999999999999, 9999999), }  "), "promises 99999"),
        (npy_bytes(GREY).replace(b"'shape'", b"'shapf'"), "not a readable NumPy array"),
    ],
)
def test_damaged_npy(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    refused(path, str(path), word)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    trap = np.array([[Trap()]], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x_train=trap, x_test=trap)
    np.savez(tmp_path / "b.npz", x_train=GREY, x_test=GREY, y_train=trap)
    for name in ("a.npy", "a.npz", "b.npz"):
        refused(tmp_path / name, "object")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_images_that_are_all_black_are_noticed(tmp_path: Path, dtype: Any) -> None:
    array = np.tile([0, 1], (3, 2)).astype(dtype)
    notice = load(str(saved(tmp_path / "a.npy", array))).notice
    assert notice is not None
    assert "bool" in notice
    assert load(str(saved(tmp_path / "a.npy", array.astype(bool)))).notice is None


# --- .npz


@pytest.mark.parametrize(("train", "test"), [("x_train", "x_test"), ("train", "test")])
def test_npz_with_its_own_split(tmp_path: Path, train: str, test: str) -> None:
    path = tmp_path / "a.npz"
    arrays: dict[str, Any] = {train: GREY[:3], test: GREY[3:], "y_train": [[3], [1], [2]], "y_test": [4.0, 5.0]}
    np.savez(path, **arrays)
    dataset = load(str(path), test_fraction=0.9)
    np.testing.assert_array_equal(dataset.train.values, GREY[:3])
    np.testing.assert_array_equal(dataset.test.values, GREY[3:])
    assert dataset.name == "a.npz"
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    assert dataset.train_labels.tolist() == [3, 1, 2]
    assert dataset.test_labels.tolist() == [4, 5]
    assert dataset.test_labels.dtype.kind == "i"


def test_npz_labels_follow_their_images_through_the_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=GREY, y_train=GREY[:, 0])
    dataset = load(str(tmp_path / "a.npz"), test_fraction=0.4)
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    np.testing.assert_array_equal(dataset.train_labels, dataset.train.values[:, 0])
    np.testing.assert_array_equal(dataset.test_labels, dataset.test.values[:, 0])


@pytest.mark.parametrize("name", ["arr_0", "train", "test", "faces"])
def test_npz_of_one_array(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "a.npz", **{name: GREY})  # type: ignore[arg-type]
    np.testing.assert_array_equal(everything(load(str(tmp_path / "a.npz"))), GREY)


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"a": GREY, "b": GREY}, "arrays a, b"),
        ({"x_test": GREY, "y_test": GREY[:, 0]}, "x_train and x_test"),
        ({}, "(none)"),
        ({"x_train": GREY, "x_test": GREY[:, :6]}, "3 by 4 of uint8, the test images 2 by 3 of uint8"),
        ({"x_train": GREY, "x_test": GREY.reshape(5, 4, 3)}, "3 by 4 of uint8, the test images 4 by 3"),
        ({"x_train": GREY, "x_test": FRACTIONS}, "float32"),
        ({"x_train": GREY, "x_test": GREY[:0]}, "array x_test has shape (0, 12)"),
        ({"x_train": GREY, "x_test": FRACTIONS * 2}, "array x_test: row 2, column 9"),
        ({"x_train": GREY, "x_test": GREY, "y_train": [1, 2]}, "5 images and 2 labels"),
        ({"x_train": GREY, "x_test": GREY, "y_test": [1, 2]}, "5 images and 2 labels"),
        ({"x_train": GREY, "y_train": [1, 2]}, "5 images and 2 labels"),
        ({"x_train": GREY, "y_train": np.eye(5)}, "shape (5, 5)"),
        ({"x_train": GREY, "y_train": list("abcde")}, "<U1"),
        ({"x_train": GREY, "y_train": [0.0, 1.0, 2.0, 0.5, float("nan")]}, "label 3 (counted from 0) is 0.5"),
        ({"x_train": GREY, "y_train": [0.0, float("nan"), 2.0, 0.5, 0.0]}, "label 1 (counted from 0) is nan"),
    ],
)
def test_npz_refusals(tmp_path: Path, arrays: dict[str, Any], word: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", str(tmp_path / "a.npz"), word)


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=GREY)
    good = path.read_bytes()
    at = good.index(GREY.tobytes())
    path.write_bytes(good[:at] + flipped(good[at : at + 1]) + good[at + 1 :])
    refused(path, "CRC")
    path.write_bytes(good[:-30])
    refused(path, "damaged .npz")
    path.write_bytes(b"PK")
    refused(path, "damaged .npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(path, "not a readable NumPy array")


def test_npz_header_that_promises_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = npy_bytes(GREY).replace(b"(5, 12), }" + b" " * 20, b"(99999999999999, 9999999), }  ")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header)
    refused(path, "60 bytes where its header promises 99999")


# --- .csv


def csv(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,0.5\n1,0.25\n", np.array([[0, 0.5], [1, 0.25]], np.float32)),
        ("0,1\n1,0", np.array([[0, 1], [1, 0]], np.float32)),  # black and white, not grey levels 0 and 1 of 255
        ("0,255\n7,0\n", np.array([[0, 255], [7, 0]], np.uint8)),
        ("0,255.0\n7,0e3\n", np.array([[0, 255], [7, 0]], np.uint8)),
        ("\ufeffa,b\r\n\r\n 0 , 200\r\n3,4\r\n\r\n", np.array([[0, 200], [3, 4]], np.uint8)),
        ("\ufeff0,2\n3,128\n", np.array([[0, 2], [3, 128]], np.uint8)),
        ('"a","1x1"\n0,2\n3,255\n', np.array([[0, 2], [3, 255]], np.uint8)),
        ("3\n255\n", np.array([[3], [255]], np.uint8)),
    ],
)
def test_csv(tmp_path: Path, text: str, expected: NDArray[Any]) -> None:
    dataset = load(str(csv(tmp_path, text)))
    assert dataset.name == "a.csv"
    rows = everything(dataset)
    assert rows.dtype == expected.dtype
    np.testing.assert_array_equal(rows, expected)


def test_csv_rows_are_counted_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "BLOCK", 4)
    table = 6 * np.arange(40).reshape(20, 2)
    path = tmp_path / "a.csv"
    np.savetxt(path, table, fmt="%d", delimiter=",")
    np.testing.assert_array_equal(everything(load(str(path))), table)
    table[13, 1] = 256
    np.savetxt(path, table, fmt="%d", delimiter=",")
    refused(path, "row 13, column 1")


@pytest.mark.parametrize("text", ["label,a,b\n7,0,200\n8,3,4\n", "a,Label,b\n0,7,200\n3,8,4\n"])
def test_csv_column_of_labels(tmp_path: Path, text: str) -> None:
    dataset = load(str(csv(tmp_path, text)))
    np.testing.assert_array_equal(everything(dataset), np.array([[0, 200], [3, 4]]))
    assert dataset.train_labels is not None
    assert dataset.train_labels.tolist() == [7 if dataset.train.values[0, 0] == 0 else 8]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,1\n1\n", ("row 1 ", "1 values", "2:")),
        ("a,b\n0,1\n\n1,0\n1,0,1\n", ("row 2 ", "3 values")),
        ("0,1\n1,x\n", ("row 1, column 1 (both counted from 0", "'x'")),
        ("0,\n1,0\n", ("row 0, column 1", "''")),
        ("0,1+2j\n", ("'1+2j'",)),
        ("0,1_0\n1,1\n", ("'1_0'",)),
        ("0;1\n1;0\n", ("row 0, column 0", "commas")),
        ("0,nan\n1,0\n", ("row 0, column 1", "nan", "a value is missing: fill it in")),
        ("0,7\n1,nan\n", ("row 1, column 1", "nan", "a value is missing: fill it in")),
        ("0,7\n-inf,0\n", ("row 1, column 0", "-inf")),
        ("0,300\n2,0\n", ("row 0, column 1", "300", "0 to 255")),
        ("0,0.5\n2,0\n", ("row 1, column 0", "2.0", "[0, 1]")),
        ("0,1\n-0.5,0\n", ("row 1, column 0", "-0.5")),
        ("label,a\n1,0\n2,9.5\n", ("row 1, column 0 'a'", "not counting its column label")),
        ("label,a\n1,0\n1.5,1\n", ("label 1 ", "1.5")),
        ("label\n1\n2\n", ("no column of pixels",)),
        ("a,b,c\n1,0\n1,1\n", ("3 columns",)),
        ("", ("no numbers",)),
        ("\n\n", ("no numbers",)),
        ("a,b\n", ("no numbers",)),
        ("0,1\n", ("1 image:",)),
        (b"0,1\n\xff\xfe,0\n", ("UTF-8",)),
        (b"0,1\n\0,0\n", ("row 1, column 0",)),
    ],
)
def test_csv_refusals(tmp_path: Path, text: str | bytes, words: tuple[str, ...]) -> None:
    path = csv(tmp_path, text)
    refused(path, str(path), *words)


# --- IDX


@pytest.mark.parametrize("packed", [False, True])
def test_idx_file(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "images"
    content = idx_bytes(GREY.reshape(5, 2, 6))
    path.write_bytes(gzip.compress(content) if packed else content)
    dataset = load(str(path))
    assert (dataset.name, dataset.train.shape) == ("images", (2, 6))
    np.testing.assert_array_equal(everything(dataset), GREY)


IDX = idx_bytes(GREY.reshape(5, 3, 4))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (IDX[:-1], "only 59 of 60"),
        (IDX[:20], "too short"),
        (gzip.compress(IDX[:-1]), "only 59 of 60"),
        (IDX + b"\0", "more than 60"),
        (gzip.compress(IDX + b"\0"), "more than 60"),
        (IDX[:10], "within its header"),
        (gzip.compress(b""), "it is empty"),
        (gzip.compress(IDX)[:-4], "cannot be read"),
        (gzip.compress(b"hello, world"), "starts with the bytes 68 65 6c 6c"),
        (b"\0\0\x0d\x03" + IDX[4:], "0x0d"),
        (idx_bytes(GREY[0]), "holds labels, where images"),
        (idx_bytes(GREY), "2 dimensions"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + bytes(60), "too short"),
        (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(60)), "too short"),
        (idx_bytes(np.zeros((5, 0, 4), np.uint8)), "holds nothing"),
        (idx_bytes(np.zeros((0, 3, 4), np.uint8)), "holds nothing"),
        (b"\0\0\x08\x03" + bytes(4) + b"\xff" * 8, "holds nothing"),
        (idx_bytes(np.zeros((1, 3, 4), np.uint8)), "1 image:"),
    ],
)
def test_idx_refusals(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    refused(path, str(path), word)


def test_idx_bomb_is_stopped_at_the_promised_size(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(IDX + bytes(100_000_000), 1))
    tracemalloc.start()
    refused(path, "more than 60")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_unpacking_takes_no_second_copy(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((100, 400, 500), np.uint8)), 1))
    tracemalloc.start()
    assert read_idx(path, 3).nbytes == 20_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * 20_000_000


def test_parse_idx() -> None:
    content = np.frombuffer(IDX, np.uint8)
    parsed = parse_idx(content, 3, "a")
    np.testing.assert_array_equal(parsed.reshape(5, 12), GREY)
    assert np.shares_memory(parsed, content)
    for wrong in (content[:-1], np.append(content, content[:1]), content[:9], content[:0]):
        with pytest.raises(DataError):
            parse_idx(wrong, 3, "a")


def test_array_larger_than_the_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "machine_memory", lambda: 50.0)
    path = tmp_path / "images"
    path.write_bytes(IDX)
    refused(path, "memory")
    refused(saved(tmp_path / "a.npy", GREY), "memory")


def test_read_idx_labels(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(idx_bytes(GREY[0]))
    np.testing.assert_array_equal(read_idx(tmp_path / "labels", 1), GREY[0])


# --- a folder of four IDX files


def four(folder: Path, **other: NDArray[np.uint8]) -> Path:
    """Write a set like MNIST with arrays of its own."""
    arrays = {"train_images": GREY.reshape(5, 3, 4), "train_labels": GREY[0, :5]}
    arrays |= {"t10k_images": GREY[:2].reshape(2, 3, 4), "t10k_labels": GREY[1, :2]} | other
    folder.mkdir()
    for name, array in arrays.items():
        rank = 3 if name.endswith("images") else 1
        (folder / f"{name.replace('_', '-')}-idx{rank}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    return folder


def test_idx_folder_keeps_its_own_split(tmp_path: Path) -> None:
    dataset = load(str(four(tmp_path / "fashion")), test_fraction=0.9)
    assert (dataset.name, dataset.train.shape) == ("fashion", (3, 4))
    np.testing.assert_array_equal(dataset.train.values, GREY)
    np.testing.assert_array_equal(dataset.test.values, GREY[:2])
    assert dataset.train_labels is not None
    assert dataset.test_labels is not None
    assert dataset.train_labels.tolist() == GREY[0, :5].tolist()
    assert dataset.test_labels.tolist() == GREY[1, :2].tolist()


def test_idx_folder_without_labels(tmp_path: Path) -> None:
    folder = four(tmp_path / "f")
    for name in ("train", "t10k"):
        (folder / f"{name}-labels-idx1-ubyte.gz").unlink()
    dataset = load(str(folder))
    assert dataset.train_labels is dataset.test_labels is None


def test_idx_folder_refusals(tmp_path: Path) -> None:
    refused(four(tmp_path / "a", train_labels=GREY[0, :4]), str(tmp_path / "a"), "5 images and 4 labels")
    refused(four(tmp_path / "b", t10k_labels=GREY[0, :4]), "2 images and 4 labels")
    refused(four(tmp_path / "c", t10k_images=GREY[:2].reshape(2, 4, 3)), "3 by 4 of uint8, the test images 4 by 3")
    refused(four(tmp_path / "d", t10k_images=GREY[:0].reshape(0, 3, 4), t10k_labels=GREY[0, :0]), "holds nothing")
    refused(four(tmp_path / "e", train_images=GREY[0, :5]), "holds labels, where images")
    folder = four(tmp_path / "g")
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    refused(folder, str(folder), "lacks t10k-images-idx3-ubyte")


# --- a folder of pictures


def picture(path: Path, array: Any, mode: str | None = None) -> None:
    from PIL import Image

    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)


def test_folder_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    squares = GREY.reshape(5, 3, 4)
    for index, name in enumerate(("e.png", "b.PNG", "d.bmp", "a.tif", "c.gif")):
        picture(folder / name, squares[index])
    (folder / "README.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture")
    dataset = load(str(folder))
    assert (dataset.name, dataset.train.shape) == ("faces", (3, 4))
    assert dataset.train.values.dtype == np.uint8
    np.testing.assert_array_equal(everything(dataset), GREY[[3, 1, 4, 2, 0]])


def test_folder_is_named_even_if_it_is_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png", np.full((2, 2), 9, np.uint8))
    picture(tmp_path / "b.png", np.full((2, 2), 9, np.uint8))
    monkeypatch.chdir(tmp_path)
    assert load(".").name == tmp_path.name


@pytest.mark.parametrize(("mode", "expected"), [("RGB", 77), ("RGBA", 77), ("1", 255), ("P", 77), ("LA", 77)])
def test_pictures_become_grey(tmp_path: Path, mode: str, expected: int) -> None:
    level = np.full((2, 3), 255 if mode == "1" else 77, np.uint8)
    for name in "ab":
        picture(tmp_path / f"{name}.png", level, mode)
    assert np.unique(everything(load(str(tmp_path)))).tolist() == [expected]


def test_picture_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path, str(tmp_path), ".png", "IDX")
    picture(tmp_path / "a.png", np.zeros((3, 4), np.uint8))
    refused(tmp_path, "1 image:")
    picture(tmp_path / "b.png", np.zeros((4, 3), np.uint8))
    refused(tmp_path, "b.png", "4 pixels high and 3 wide", "3 and 4")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:45])  # within the pixels
    refused(tmp_path, "b.png", "not a readable picture")
    (tmp_path / "b.png").write_text("no picture")
    refused(tmp_path, "b.png", "not a picture that Pillow can read")
    picture(tmp_path / "b.png", np.zeros((3, 4), np.uint16))
    refused(tmp_path, "b.png", "8 bits")
    os.remove(tmp_path / "b.png")
    os.mkfifo(tmp_path / "b.png")
    refused(tmp_path, "b.png", "FIFO")
    os.remove(tmp_path / "b.png")
    monkeypatch.setattr("vaefast.data.pictures.MOST_PIXELS", 11)
    refused(tmp_path, "a.png", "more than 11 pixels")


# --- files that are not what they seem


def test_fifo_is_refused_and_not_waited_for(tmp_path: Path, table: dict[str, bytes]) -> None:
    os.mkfifo(tmp_path / "a.npy")
    refused(tmp_path / "a.npy", "FIFO")
    folder = write(tmp_path / "m", table)
    os.remove(folder / "train-images-idx3-ubyte.gz")
    os.mkfifo(folder / "train-images-idx3-ubyte.gz")
    refused("mnist", "FIFO", data_dir=folder)


def test_device_and_folder_in_the_place_of_a_file(tmp_path: Path, table: dict[str, bytes]) -> None:
    refused("/dev/zero", "a device")
    folder = write(tmp_path / "m", table)
    os.remove(folder / "train-images-idx3-ubyte.gz")
    (folder / "train-images-idx3-ubyte").mkdir()
    refused("mnist", "train-images-idx3-ubyte is a folder", data_dir=folder)


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because a test run by root is denied nothing."""

    def denied(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = saved(tmp_path / "a.npy", GREY)
    monkeypatch.setattr(reading, "open", denied, raising=False)
    refused(path, str(path), "permission denied")
    monkeypatch.setattr(os, "listdir", denied)
    refused(tmp_path, str(tmp_path), "Permission denied")


@pytest.mark.parametrize(
    ("name", "content"), [("a.npy", b"not numpy"), ("a.txt", b"1,2\n"), ("a.png", b"\x89PNG\r\n"), ("empty", b"")]
)
def test_unknown_format(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, str(tmp_path / name), "no known format", ".npz", "folder of pictures")


def test_content_goes_before_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(npy_bytes(GREY))
    np.testing.assert_array_equal(everything(load(str(tmp_path / "a.csv"))), GREY)


def test_message_stays_on_one_line_whatever_the_file_is_called(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines\udc80.npy"
    path.write_bytes(npy_bytes(FRACTIONS * 2))
    refused(path, "two\\nlines\\udc80.npy", "row 2, column 9")
    path.write_bytes(npy_bytes(GREY[:1]))
    refused(path, "two\\nlines\\udc80.npy")


def test_the_digits_file_holds_what_the_function_of_scikit_learn_returns(monkeypatch):
    import importlib.util

    from vaefast.data import digits

    quick = digits._read()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for got, expected in zip(quick, digits._read(), strict=True):
        assert np.array_equal(got, expected)
