"""When checkpoints are due."""

import itertools
import math

import pytest

from vaefast.errors import SettingsError
from vaefast.runs import checkpoint_policy
from vaefast.runs.checkpoint_policy import Schedule


@pytest.mark.parametrize(
    ("text", "epochs", "seconds"),
    [
        ("auto", 0, 30),
        ("never", 0, math.inf),
        ("1", 1, math.inf),
        ("12 epochs", 12, math.inf),
        ("1 epoch", 1, math.inf),
        ("10m", 0, 600),
        ("0.5m", 0, 30),
        (".5 min", 0, 30),
        ("1 minute", 0, 60),
        ("2. minutes", 0, 120),
        ("0m", 0, 0),
    ],
)
def test_what_can_be_asked_for(text, epochs, seconds):
    wanted = Schedule(text)
    assert (wanted.epochs, wanted.seconds) == (epochs, seconds)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *[
            (text, "give epochs, such as 5")
            for text in ("", "often", "1.5", "-1", "1h", "m", ".m", "nan", "1e3m", "５", "1" * 50)
        ],
        *[(text, "epochs from 1 to") for text in ("0", "0 epochs", "16777217")],
        ("525601m", "minutes from 0m to 525600m"),
    ],
)
def test_what_cannot(text, words):
    with pytest.raises(SettingsError, match=words) as caught:
        Schedule(text)
    assert "checkpoint_every is" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def clock(monkeypatch):
    now = itertools.count(1000)
    monkeypatch.setattr(checkpoint_policy.time, "monotonic", lambda: next(now))


def test_by_epochs(clock):
    wanted = Schedule("3")
    asked = [(done, between) for done in range(8) for between in (True, False)]
    assert [case for case in asked if wanted.is_due(*case)] == [(0, True), (3, True), (6, True)]


def test_by_minutes(clock):
    wanted = Schedule("0.1m")  # six readings of the clock
    assert wanted.is_due(0, True)
    wanted.written(0.01)
    assert [wanted.is_due(0, False) for _ in range(7)] == [False] * 5 + [True] * 2


def test_auto_never_takes_more_than_its_share(clock):
    wanted = Schedule("auto")
    assert wanted.is_due(0, True)
    wanted.written(0.01)
    assert wanted.seconds == 30
    wanted.written(1.0)
    assert wanted.seconds == 200
    wanted.written(0.0)
    assert wanted.seconds == 30


def test_never_means_the_first_and_no_other(clock):
    wanted = Schedule("never")
    assert wanted.is_due(0, True)
    wanted.written(0.01)
    assert not any(wanted.is_due(done, between) for done in range(5) for between in (True, False))
