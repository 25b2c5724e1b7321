"""How many threads a run takes: who is listened to, the cap, and what is refused."""

import os
import subprocess
import sys
import threading
import time
import types

import pytest

from vaefast.engines import threads
from vaefast.engines.distributed import leader
from vaefast.engines.workers import Team
from vaefast.errors import SettingsError

JUNK = ["many", "0", "-1", "2.5", "1e3", "4 threads", "0x2", ",2", "+-3", "²"]


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    """Eight cores and an environment without wishes."""
    monkeypatch.setattr(threads, "granted_cores", lambda: 8)
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_all_granted_cores_where_nothing_is_asked_for():
    assert threads.thread_count(None) == 8


def test_the_order_in_which_wishes_count(monkeypatch):
    assert threads.VARIABLES == ("VAEFAST_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    for number, name in enumerate(reversed(threads.VARIABLES), start=2):  # the least important first
        monkeypatch.setenv(name, str(number))
        assert threads.thread_count(None) == number
    assert threads.thread_count(7) == 7


def test_an_empty_variable_is_no_wish(monkeypatch):
    monkeypatch.setenv("VAEFAST_NUM_THREADS", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "  ")
    assert threads.thread_count(None) == 8
    monkeypatch.setenv("NUMBA_NUM_THREADS", " 3 ")
    assert threads.thread_count(None) == 3


def test_openmps_list_begins_with_the_outermost_level(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert threads.thread_count(None) == 4


@pytest.mark.parametrize(("asked", "got"), [(1, 1), (8, 8), (9, 8), (10**6, 8)])
def test_never_more_than_the_granted_cores(monkeypatch, asked, got):
    assert threads.thread_count(asked) == got
    monkeypatch.setenv("OMP_NUM_THREADS", str(asked))
    assert threads.thread_count(None) == got


@pytest.mark.parametrize("name", threads.VARIABLES)
@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_a_variable_is_refused_by_its_name(monkeypatch, name, junk):
    monkeypatch.setenv(name, junk)
    with pytest.raises(SettingsError, match=rf"^{name} is .*: give a whole number from 1$") as caught:
        threads.thread_count(None)
    assert repr(junk.split(",")[0]) in str(caught.value)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "many"])
def test_a_wrong_number_is_refused(wrong):
    with pytest.raises(SettingsError, match=r"^threads is .*: give a whole number from 1$"):
        threads.thread_count(wrong)


def test_junk_that_is_not_listened_to_does_no_harm(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert threads.thread_count(2) == 2
    monkeypatch.setenv("VAEFAST_NUM_THREADS", "3")
    assert threads.thread_count(None) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity of processes to cores")
def test_affinity_is_respected():
    program = (
        "import os; from vaefast.engines.threads import granted_cores, thread_count; "
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "print(granted_cores(), thread_count(None), thread_count(5))"
    )
    env = {name: value for name, value in os.environ.items() if name not in threads.VARIABLES}
    result = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("1 1 1\n", "")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"a.slice": "max 100000", "a.slice/b.service": "200000 100000"}, 2),
        ({"a.slice": "150000 100000", "a.slice/b.service": "800000 100000"}, 2),  # the parent's, rounded up
        ({"a.slice": "50000 100000", "a.slice/b.service": "max 100000"}, 1),
        ({"a.slice/b.service": "max 100000"}, sys.maxsize),
        ({"a.slice/b.service": "junk"}, sys.maxsize),
        ({}, sys.maxsize),
    ],
)
def test_the_quota_of_a_service_and_of_what_it_is_in(tmp_path, files, cores):
    for folder, content in files.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "cpu.max").write_text(content + "\n")
    (tmp_path / "own").write_text("12:cpu:/other\n0::/a.slice/b.service\n")
    assert threads.quota(tmp_path, tmp_path / "own") == cores
    (tmp_path / "own").write_text("0::/../../elsewhere\n")
    assert threads.quota(tmp_path, tmp_path / "own") == sys.maxsize
    assert threads.quota(tmp_path, tmp_path / "nothing") == sys.maxsize


def test_a_rank_has_what_the_environment_asks_for_or_its_share(monkeypatch):
    monkeypatch.setattr(leader, "granted_cores", lambda: 8)
    ranks = types.SimpleNamespace(sharers=2)
    assert leader.threads_of_a_rank(ranks, None) == 4
    assert leader.threads_of_a_rank(ranks, 3) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert leader.threads_of_a_rank(ranks, None) == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert leader.threads_of_a_rank(ranks, None) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_another_thread_computes_computes_too():
    team, begun, going_on = Team(1), threading.Event(), threading.Event()

    def wait():
        begun.set()
        going_on.wait(60)

    other = threading.Thread(target=team.run, args=(wait, [()]))
    other.start()
    assert begun.wait(60)
    child = os.fork()
    if child == 0:
        done: list[int] = []
        team.run(done.append, [(1,)])
        os._exit(0 if done == [1] else 1)
    try:
        for _ in range(300):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.1)
        else:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child waits for a lock that nobody will release")
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        going_on.set()
        other.join()
