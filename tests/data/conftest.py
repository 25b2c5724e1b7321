"""No data but what a test makes, no network, and a small stand-in for MNIST."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.data.making import idx_bytes
from vaefast.data import mnist


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No data but what a test makes, no network, no proxy; returns where the MNIST cache would be."""
    for name in ("VAEFAST_DATA_DIR", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    return tmp_path / "xdg" / "vaefast" / "mnist"


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
