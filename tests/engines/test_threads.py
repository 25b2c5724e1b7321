"""How many threads a run takes: who is listened to, the cap, and what is refused."""

import os
import subprocess
import sys

import pytest

from vaefast.engines import threads
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
