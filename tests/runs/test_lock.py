"""One run at a time in a folder, whatever became of the last one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vaefast.errors import OutputError, SettingsError
from vaefast.runs import folder_lock
from vaefast.runs.folder_lock import FolderLock
from vaefast.runs.run_folder import RunFolder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no POSIX locks")

HOLD = """
import sys, time
from pathlib import Path
from vaefast.runs.folder_lock import FolderLock
held = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_living_owner_is_named_and_a_dead_one_is_followed(tmp_path):
    with holder(tmp_path) as process:
        with pytest.raises(
            SettingsError, match=rf"is in use by process {process.pid} on .*: wait for it, or choose"
        ) as caught:
            FolderLock(tmp_path)
        assert "\n" not in str(caught.value)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (tmp_path / folder_lock.NAME).exists()
    taken = FolderLock(tmp_path)
    assert f"process {os.getpid()} on " in (tmp_path / folder_lock.NAME).read_text()
    taken.release()
    assert list(tmp_path.iterdir()) == []


def test_the_number_of_a_dead_owner_in_use_again_holds_nothing(tmp_path):
    (tmp_path / folder_lock.NAME).write_text(f"process {os.getppid()} on here\n")
    FolderLock(tmp_path).release()


def test_whatever_stands_in_the_file_of_a_dead_owner(tmp_path):
    for content in (b"", b"\xff" * 1000, b"process -1"):
        (tmp_path / folder_lock.NAME).write_bytes(content)
        FolderLock(tmp_path).release()


def test_a_run_that_is_under_way_is_told_from_a_folder_that_is_full(tmp_path):
    folder = RunFolder(tmp_path / "run")
    for name in ("settings.json", "metrics.jsonl"):
        folder.write(name, b"{}")
    for existing in (False, True):
        with pytest.raises(SettingsError, match="is in use by process"):
            RunFolder(tmp_path / "run", existing=existing)
    folder.close()
    folder.close()
    with pytest.raises(SettingsError, match="is not empty"):
        RunFolder(tmp_path / "run")
    assert not (tmp_path / "run" / folder_lock.NAME).exists()


def test_one_of_many_at_once_gets_the_lock(tmp_path):
    """Over and over, with owners that release it: never two at a time, never none for good."""
    inside, most, entries = [0], [0], [0]
    guard = threading.Lock()

    def visitor() -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            try:
                held = FolderLock(tmp_path)
            except SettingsError:
                continue
            with guard:
                inside[0] += 1
                entries[0] += 1
                most[0] = max(most[0], inside[0])
            with guard:
                inside[0] -= 1
            held.release()

    visitors = [threading.Thread(target=visitor) for _ in range(8)]
    for thread in visitors:
        thread.start()
    for thread in visitors:
        thread.join()
    assert most[0] == 1
    assert entries[0] > 10
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / folder_lock.NAME).mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*lock: .*; choose another --out"):
        FolderLock(tmp_path)


@pytest.mark.parametrize("number", folder_lock.WITHOUT_LOCKS)
def test_a_file_system_without_locks_does_not_stop_a_run(tmp_path, monkeypatch, number):
    def flock(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder_lock.fcntl, "flock", flock)
    FolderLock(tmp_path).release()
    monkeypatch.setattr(folder_lock, "WITHOUT_LOCKS", (errno.EXDEV,))
    with pytest.raises(OutputError):
        FolderLock(tmp_path)
