"""The pace of a run: learning rates by formula, and settings of schedules that are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vaefast import VAE, load
from vaefast.cli.options import parse
from vaefast.errors import SettingsError
from vaefast.models.settings import AdamSettings, RateSchedule, TrainingSettings
from vaefast.training.schedules import pace, stage, stage_end

RATE, STEPS = 0.01, 7  # of an epoch


def rates(schedule: RateSchedule, epochs: int = 30) -> list[float]:
    """Of every step of a run."""
    training = TrainingSettings(epochs=epochs, adam=AdamSettings(learning_rate=RATE), rate_schedule=schedule)
    whole = pace(training, STEPS, 0, epochs * STEPS).learning_rates
    # However a run is cut into pieces, the rates are the same bits.
    for first, count in ((0, 1), (5, 4), (STEPS, STEPS), (epochs * STEPS - 1, 1)):
        np.testing.assert_array_equal(pace(training, STEPS, first, count).learning_rates, whole[first : first + count])
    return list(whole)


def test_constant():
    assert rates(RateSchedule()) == [RATE] * 30 * STEPS


def test_steps():
    expected = [RATE * (1 if epoch < 20 else 0.1 if epoch < 25 else 0.02) for epoch in range(30) for _ in range(STEPS)]
    assert rates(RateSchedule("steps", ((20, 0.1), (25, 0.02)))) == pytest.approx(expected, rel=1e-15)


def test_cosine():
    final = 0.002
    expected = [final + (RATE - final) * (1 + math.cos(math.pi * t / (30 * STEPS))) / 2 for t in range(30 * STEPS)]
    got = rates(RateSchedule("cosine", final=final))
    assert got == pytest.approx(expected, rel=1e-12)
    assert got[0] == RATE
    assert got[-1] == pytest.approx(final, rel=1e-3)


def test_staged():
    """1 epoch, then 3, 9, 27, ..., each stage 10^(-1/7) of the one before."""
    expected: list[float] = []
    for i in range(8):
        expected += [RATE * 10 ** (-i / 7)] * 3**i * STEPS
    assert rates(RateSchedule("staged"), 3280) == pytest.approx(expected, rel=1e-14)
    assert [stage_end(i) for i in range(8)] == [1, 4, 13, 40, 121, 364, 1093, 3280]
    assert list(stage(np.array([0, 0.99, 1, 3.9, 4, 39.9, 40]))) == [0, 0, 1, 1, 2, 3, 4]


def test_past_its_end_a_cosine_stays_there():
    training = TrainingSettings(epochs=2, rate_schedule=RateSchedule("cosine", final=1e-4))
    np.testing.assert_allclose(pace(training, STEPS, 2 * STEPS, 9).learning_rates, 1e-4, rtol=1e-12)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--learning-rate-steps", "20"), "learning_rate_steps has '20': give an epoch and a factor"),
        (("--learning-rate-steps", "a:0.1"), "learning_rate_steps has 'a:0.1'"),
        (("--learning-rate-steps", "20:0.1", "10:0.2"), "give each once, in order"),
        (("--learning-rate-steps", "0:0.1"), "epoch of learning_rate_steps is 0"),
        (("--learning-rate-steps", "2:nan"), "factor of learning_rate_steps is nan"),
        (("--learning-rate-steps", "2:0.1", "--learning-rate-schedule", "staged"), "schedule staged has none"),
        (("--final-learning-rate", "1e-5", "--learning-rate-schedule", "constant"), "choose learning_rate_schedule cosine"),
        (("--final-learning-rate", "0.1"), "above learning_rate 0.001"),
        (("--learning-rate-schedule", "steps"), "give learning_rate_steps"),
        (("--learning-rate-schedule", "linear"), "invalid choice"),
    ],
)
def test_flags_that_are_refused(flags, words):
    with pytest.raises(SettingsError, match=words):
        parse([*flags])


def test_flags_and_a_file_say_the_same(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text('learning-rate-steps = ["20:0.1", "30:0.01"]\n')
    expected = RateSchedule("steps", ((20, 0.1), (30, 0.01)))
    assert parse(["--config", str(config)]).training.rate_schedule == expected
    assert parse(["--learning-rate-steps", "20:0.1", "30:1e-2"]).training.rate_schedule == expected
    assert parse(["--final-learning-rate", "1e-4"]).training.rate_schedule == RateSchedule("cosine", final=1e-4)
    config.write_text("learning-rate-steps = [20, 0.1]\n")
    with pytest.raises(SettingsError, match="learning_rate_steps has 20"):
        parse(["--config", str(config)])


def test_the_estimator_has_them_too(tmp_path):
    X = np.random.default_rng(0).random((60, 9), np.float32)
    settings = {"hidden_layer_sizes": (8,), "epochs": 3, "random_state": 0, "engine": "reference"}
    plain = VAE(2, **settings).fit(X)
    for given in (
        {"learning_rate_schedule": "cosine"},
        {"learning_rate_schedule": "staged"},
        {"learning_rate_schedule": "steps", "learning_rate_steps": [(1, np.float64(0.1))]},
    ):
        vae = VAE(2, **settings, **given).fit(X)
        assert (vae.transform(X) != plain.transform(X)).any()
        vae.save(tmp_path / "model.safetensors")
        again = load(tmp_path / "model.safetensors")
        assert again._network.training == vae._network.training
        assert again.learning_rate_schedule == given["learning_rate_schedule"]
    with pytest.raises(SettingsError, match="schedule is 'linear'"):
        VAE(2, **settings, learning_rate_schedule="linear").fit(X)
