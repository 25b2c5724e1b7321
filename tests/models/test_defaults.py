"""Batch size, epochs and learning rate where nobody gives them: by the rows, the same from the command line and in Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from tests.faults import runs
from vaefast import VAE, load, train
from vaefast.cli import options
from vaefast.models.defaults import Length, usual_epsilon, usual_input_dropout, usual_length, usual_patience

QUICK = ("--hidden", "6", "--latent", "2", "--engine", "reference", "--threads", "1")


@pytest.mark.parametrize("rows", [50_000, 60_000, 70_000])
@pytest.mark.parametrize("binarize", ["dynamic", "threshold", "none"])
def test_data_of_the_size_of_mnist_have_the_values_of_the_report(rows, binarize):
    assert usual_length(rows, binarize) == (200, 30)


@pytest.mark.parametrize(
    ("likelihood", "columns", "share"),
    [
        ("negative-binomial", 499, 0.0),
        ("negative-binomial", 500, 0.5),
        ("poisson", 20_000, 0.5),
        ("multinomial", 500, 0.5),
        ("gaussian", 20_000, 0.0),
        ("bernoulli", 784, 0.0),
    ],
)
def test_the_encoder_misses_half_of_the_entries_of_wide_counts(likelihood, columns, share):
    assert usual_input_dropout(likelihood, columns) == share


@pytest.mark.parametrize(
    ("likelihood", "encoder_input", "epsilon"),
    [
        ("negative-binomial", "log1p", 1e-2),
        ("poisson", "none", 1e-2),
        ("poisson", "l2", 1e-8),
        ("multinomial", "l2", 1e-8),
        ("multinomial", "log1p", 1e-8),
        ("bernoulli", "none", 1e-8),
        ("mixed", "none", 1e-8),
    ],
)
def test_rates_of_counts_have_an_epsilon_of_their_own(likelihood, encoder_input, epsilon):
    assert usual_epsilon(likelihood, encoder_input) == epsilon


def test_early_stopping_waits_for_epochs_and_for_steps():
    assert [usual_patience(steps) for steps in (1, 7, 15, 50, 51, 300)] == [500, 72, 34, 10, 10, 10]


@pytest.mark.parametrize(
    ("rows", "binarize", "length"),
    [
        (1, "dynamic", (20, 200)),
        (512, "none", (20, 75)),
        (1617, "dynamic", (20, 200)),
        (1617, "none", (20, 75)),
        (5000, "dynamic", (50, 100)),
        (1_000_000, "none", (200, 10)),
        (10**8, "dynamic", (200, 10)),
    ],
)
def test_what_was_chosen_by_measurement(rows, binarize, length):
    assert usual_length(rows, binarize) == length


@pytest.mark.parametrize("binarize", ["dynamic", "none"])
def test_more_rows_are_never_more_epochs_nor_smaller_minibatches(binarize):
    lengths = [usual_length(rows, binarize) for rows in range(1, 400_000, 499)]
    batch_sizes, epochs = zip(*lengths, strict=True)
    assert list(batch_sizes) == sorted(batch_sizes)
    assert list(epochs) == sorted(epochs, reverse=True)
    assert len({*epochs}) > 2


def settings_in(folder: Path) -> dict[str, object]:
    return json.loads((folder / "settings.json").read_text())["training"]


def uncollapsed(err):
    """What a command says on stderr, but that a model of noise has collapsed, which it has."""
    return "".join(line for line in err.splitlines(keepends=True) if "posterior collapse" not in line)


def test_the_command_line_says_and_keeps_what_was_chosen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = runs.tiny_images(tmp_path / "grey.npy", 3000, 4)
    code, out, err = runs.command("--data", data, *QUICK, "--binarize", "none", "--out", "run")
    assert (code, uncollapsed(err)) == (0, "")
    first = out.splitlines()[0]
    assert first.startswith("grey.npy: 2,700 training examples of 4 values | batch size 27, 75 epochs (by the number of ")
    assert "--batch-size and --epochs change them" in first
    assert first.endswith("learning rate 0.001, seed 0 | engine reference, 1 thread")
    assert (settings_in(tmp_path / "run")["batch_size"], settings_in(tmp_path / "run")["epochs"]) == (27, 75)


@pytest.mark.parametrize("source", ["flags", "file", "flags over file"])
def test_auto_is_the_same_as_no_wish(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    wishes = {
        "flags": "",
        "file": 'epochs = "auto"\nbatch-size = "auto"\nlearning_rate = "auto"\ninput-dropout = "auto"\nepsilon = "auto"',
        "flags over file": "epochs = 3",
    }
    (tmp_path / "mine.toml").write_text(wishes[source] + "\n")
    wished = ("--epochs", "--batch-size", "--learning-rate", "--input-dropout", "--epsilon")
    flags = () if source == "file" else [part for flag in wished for part in (flag, "auto")]
    found = options.parse(["--config", "mine.toml", *flags])
    assert found == options.parse([])
    assert found.automatic == {"epochs", "batch_size", "learning_rate", "epsilon", "input_dropout"}


def test_what_is_given_is_kept_and_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = runs.tiny_images(tmp_path / "grey.npy", 40, 4)
    code, out, _ = runs.command("--data", data, *QUICK, "--epochs", "2", "--out", "run")
    assert code == 0
    assert "| batch size 20 (by the number of examples; --batch-size changes it), 2 epochs, " in out.splitlines()[0]
    code, out, _ = runs.command("--data", data, *QUICK, "--epochs", "1", "--batch-size", "9", "--out", "other")
    assert "| batch size 9, 1 epoch, learning rate 0.001" in out.splitlines()[0]
    assert settings_in(tmp_path / "other")["batch_size"] == 9


@pytest.mark.parametrize("again", [(), ("--epochs", "auto", "--batch-size", "auto")])
def test_a_run_that_goes_on_keeps_what_was_chosen(tmp_path, monkeypatch, again):
    monkeypatch.chdir(tmp_path)
    data = runs.tiny_images(tmp_path / "grey.npy", 3000, 4)
    arguments = ("--data", data, *QUICK, "--binarize", "none", "--out", "run")
    with monkeypatch.context() as chosen:
        chosen.setattr(options, "usual_length", lambda rows, binarize: Length(23, 2))
        assert runs.command(*arguments)[0] == 0
    code, out, err = runs.command("--resume", "run", *again)
    assert (code, uncollapsed(err)) == (0, "")
    assert "all 2 epochs of run are trained" in out
    code, _, err = runs.command("--resume", "run", "--epochs", "3")
    assert (code, uncollapsed(err)) == (0, "")
    assert (settings_in(tmp_path / "run")["batch_size"], settings_in(tmp_path / "run")["epochs"]) == (23, 3)


def test_the_estimator_chooses_the_same_and_keeps_its_parameters(tmp_path):
    X = np.random.default_rng(0).normal(size=(120, 3))
    vae = VAE(2, hidden_layer_sizes=6, engine="reference", random_state=0)
    assert (vae.epochs, vae.batch_size) == ("auto", "auto")
    vae.fit(X)
    assert (vae.batch_size_, vae.epochs_, vae.n_iter_) == (*usual_length(120, "none"), 75)
    assert clone(vae).get_params() == vae.get_params()
    vae.save(tmp_path / "vae.safetensors")
    again = load(tmp_path / "vae.safetensors")
    assert (again.epochs, again.batch_size, again.batch_size_, again.epochs_) == ("auto", "auto", 20, 75)
    assert VAE(2, hidden_layer_sizes=6, engine="reference", epochs=3).fit(X).n_iter_ == 3


def test_a_wrong_number_of_epochs_is_refused():
    with pytest.raises(ValueError, match="epochs is 'many': give a whole number from 0"):
        VAE(epochs="many").fit([[1.0], [2.0]])
    assert train.main(["--epochs", "many"]) == 2
