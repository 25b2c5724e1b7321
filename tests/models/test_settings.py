"""Settings: what is allowed, what is refused, and that a refusal names the setting and its range."""

import dataclasses

import pytest

from vaefast.errors import SettingsError
from vaefast.models.settings import (
    ACTIVATIONS,
    ADDED,
    ADDED_TO_TRAINING,
    BINARIZATIONS,
    INITIALIZATIONS,
    LARGEST_SEED,
    LARGEST_SIZE,
    LIKELIHOODS,
    AdamSettings,
    ModelSettings,
    TrainingSettings,
    check_binarization,
    restored_training,
)

# Class, field, smallest and largest value.
WHOLE_NUMBERS = [
    (ModelSettings, "pixels", 1, LARGEST_SIZE),
    (ModelSettings, "latent", 1, LARGEST_SIZE),
    (TrainingSettings, "batch_size", 1, LARGEST_SIZE),
    (TrainingSettings, "epochs", 0, LARGEST_SIZE),
    (TrainingSettings, "seed", 0, LARGEST_SEED),
]
# Class, field, smallest and largest value that are allowed, the words for the range, and values just outside it.
REAL_NUMBERS = [
    (AdamSettings, "learning_rate", 0.0, 1e6, "from 0 to 1e+06", (-1e-9, 1.1e6)),
    (AdamSettings, "beta1", 0.0, 0.999999, "from 0 below 1", (-1e-9, 1.0)),
    (AdamSettings, "beta2", 0.0, 0.999999, "from 0 below 1", (-1e-9, 1.0)),
    (AdamSettings, "epsilon", 1e-30, 1e6, "from 1e-30 to 1e+06", (0.0, 1.1e6)),
]
NAMES = [
    (ModelSettings, "activation", "activation", ACTIVATIONS),
    (ModelSettings, "likelihood", "likelihood", LIKELIHOODS),
    (TrainingSettings, "binarize", "binarize", BINARIZATIONS),
    (TrainingSettings, "initialization", "init", INITIALIZATIONS),  # as the flag is called
]


def refused(settings, **values):
    with pytest.raises(SettingsError) as caught:
        settings(**values)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def test_the_defaults_are_those_of_the_report():
    assert ModelSettings() == ModelSettings(784, (200, 200), 50, "relu")
    assert AdamSettings() == AdamSettings(0.001, 0.9, 0.999, 1e-8)
    training = TrainingSettings()
    assert (training.batch_size, training.epochs, training.binarize) == (200, 30, "dynamic")
    assert training.adam == AdamSettings()


def test_what_older_versions_did_not_have_is_written_only_where_it_is_not_the_default():
    for settings, added in ((ModelSettings(), ADDED), (TrainingSettings(), ADDED_TO_TRAINING)):
        assert not set(added) & set(settings.as_values())
        assert {**settings.as_values(), **added} == dataclasses.asdict(settings)
    values = TrainingSettings(binarize="none", input_dropout=0.5).as_values()
    assert values["input_dropout"] == 0.5
    assert restored_training(values).input_dropout == 0.5
    assert restored_training(TrainingSettings().as_values()) == TrainingSettings()


@pytest.mark.parametrize("settings", [ModelSettings(), AdamSettings(), TrainingSettings()])
def test_settings_are_frozen_and_compared_by_value(settings):
    for field in dataclasses.fields(settings):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(settings, field.name, getattr(settings, field.name))
    assert settings == type(settings)()
    assert hash(settings) == hash(type(settings)())


@pytest.mark.parametrize(("settings", "name", "smallest", "largest"), WHOLE_NUMBERS)
def test_whole_numbers(settings, name, smallest, largest):
    for value in (smallest, largest):
        assert getattr(settings(**{name: value}), name) == value
    for value in (smallest - 1, largest + 1, -(10**30), 1.0, 2.5, float("nan"), True, "3", None, [3]):
        message = refused(settings, **{name: value})
        assert message == f"{name} is {value!r}: give a whole number from {smallest} to {largest}"


@pytest.mark.parametrize(("settings", "name", "smallest", "largest", "words", "outside"), REAL_NUMBERS)
def test_real_numbers(settings, name, smallest, largest, words, outside):
    for value in (smallest, largest):
        assert getattr(settings(**{name: value}), name) == value
    junk = (float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), True, "0.5", None, [0.5], 0.5j)
    for value in (*outside, *junk):
        assert refused(settings, **{name: value}) == f"{name} is {value!r}: give a number {words}"


def test_a_whole_number_is_a_real_one():
    assert AdamSettings(learning_rate=1, beta1=0).learning_rate == 1


@pytest.mark.parametrize(("settings", "field", "name", "choices"), NAMES)
def test_names(settings, field, name, choices):
    for choice in choices:
        assert getattr(settings(**{field: choice}), field) == choice
    for value in ("", "gelu", choices[0].upper(), f"{choices[0]} ", None, 1, [choices[0]]):
        message = refused(settings, **{field: value})
        assert message.startswith(f"{name} is {value!r}: choose ")
        assert all(choice in message for choice in choices)


def test_any_number_of_hidden_layers():
    for hidden in ((), (1,), (LARGEST_SIZE,), tuple(range(1, 30))):
        assert ModelSettings(hidden=hidden).hidden == hidden


@pytest.mark.parametrize("wrong", [0, -1, LARGEST_SIZE + 1, 2.0, True, "20", None, (20,)])
def test_each_hidden_layer_is_checked(wrong):
    assert f"hidden is {wrong!r}: give a whole number from 1 to" in refused(ModelSettings, hidden=(5, wrong))


@pytest.mark.parametrize("wrong", [200, [200, 200], "200", None, {200}])
def test_hidden_layers_are_a_tuple(wrong):
    assert refused(ModelSettings, hidden=wrong).startswith(f"hidden is {wrong!r}: give a tuple of whole numbers from 1")


def test_changed_settings_are_checked_again():
    with pytest.raises(SettingsError, match="pixels is 0"):
        dataclasses.replace(ModelSettings(), pixels=0)


def test_only_a_bernoulli_likelihood_goes_with_binarised_pixels():
    for likelihood in LIKELIHOODS:
        check_binarization(likelihood, "none")
    for binarize in ("dynamic", "threshold"):
        check_binarization("bernoulli", binarize)
        for likelihood in LIKELIHOODS[1:]:
            with pytest.raises(SettingsError, match=f"binarize is '{binarize}', but likelihood {likelihood} .* choose none"):
                check_binarization(likelihood, binarize)
