"""Tables of counts on the command line: the model of `vaefast.VAE`, whatever their file, through stops and all commands."""

import json
from pathlib import Path

import numpy as np
import pytest
from faults import runs
from scipy import sparse

import vaefast
from vaefast import VAE

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")
MODEL = ("--latent", "3", "--hidden", "12", "--epochs", "3", "--seed", "5", "--test-fraction", "0")


@pytest.fixture
def counts(tmp_path, monkeypatch):
    """A table of counts, two in three of them zero, as a CSV file and as a sparse matrix."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    table = rng.poisson(rng.gamma(0.2, 4.0, (150, 30)))
    header = ",".join(f"gene{i}" for i in range(30))
    np.savetxt("cells.csv", table, "%d", delimiter=",", header=header, comments="")
    sparse.save_npz("cells.npz", sparse.csr_array(table))
    return table


def trained(*flags, code=0):
    found, out, err = runs.command("--threads", "1", *MODEL, *flags)
    assert found == code, err
    return out, err


@pytest.mark.parametrize("name", ["cells.csv", "cells.npz"])
@pytest.mark.parametrize(
    ("flags", "parameters"),
    [
        ((), {}),
        (
            ("--likelihood", "negative-binomial", "--zero-inflation"),
            {"likelihood": "negative-binomial", "zero_inflation": True},
        ),
        (("--likelihood", "poisson", "--encoder-input", "none"), {"likelihood": "poisson", "encoder_input": "none"}),
        (("--likelihood", "multinomial"), {"likelihood": "multinomial"}),
        (("--likelihood", "multinomial", "--input-dropout", "0.5"), {"likelihood": "multinomial", "input_dropout": 0.5}),
    ],
    ids=["auto", "zero-inflated", "poisson", "multinomial", "dropout"],
)
def test_both_doors_train_the_same_bits(counts, name, flags, parameters):
    out, _ = trained("--data", name, *flags, "--out", "run")
    chosen = parameters.get("likelihood", "negative-binomial")
    assert f"likelihood {chosen}" in out
    vae = VAE(3, hidden_layer_sizes=(12,), epochs=3, random_state=5, n_jobs=1, **parameters).fit(counts)
    loaded = vaefast.load("run")
    assert np.array_equal(loaded._network.state.parameters, vae._network.state.parameters)
    assert np.array_equal(loaded.score_samples(counts), vae.score_samples(counts))
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["train_elbo"] for line in lines] == vae.history_["train_elbo"]


def test_sparse_and_dense_files_are_the_same_run_and_every_figure_is_drawn(counts):
    for name in ("cells.csv", "cells.npz"):
        trained("--data", name, "--out", name[-3:])
    assert np.array_equal(vaefast.load("csv").transform(counts), vaefast.load("npz").transform(counts))
    assert {path.name for path in Path("npz/figures").iterdir()} == {"columns.png", "elbo.png", "latents.png", "pairs.png"}


@pytest.mark.parametrize("flags", [(), ("--input-dropout", "0.4")], ids=["", "dropout"])
def test_a_run_goes_on_to_the_bits_of_an_unbroken_one(counts, flags):
    trained("--data", "cells.npz", "--out", "whole", *flags)
    trained("--data", "cells.npz", "--epochs", "1", "--out", "part", *flags)
    code, _, err = runs.command("--resume", "part", "--epochs", "3", "--threads", "1")
    assert code == 0, err
    whole, part = (vaefast.load(name)._network.state.parameters for name in ("whole", "part"))
    assert np.array_equal(whole, part)
    code, _, err = runs.command("--resume", "part", "--epochs", "4", "--zero-inflation")
    assert code == 4
    assert "zero_inflation was False, is True" in err
    code, _, err = runs.command("--resume", "part", "--epochs", "4", "--input-dropout", "0.1")
    assert code == 4
    assert f"input_dropout was {flags[1] if flags else '0.0'}, is 0.1" in err


def test_a_run_without_dropout_writes_nothing_of_it(counts):
    for out, flags in (("without", ()), ("with", ("--input-dropout", "0.5"))):
        trained("--data", "cells.npz", "--out", out, *flags)
        texts = [path.read_bytes() for path in Path(out).rglob("*") if path.suffix in (".json", ".safetensors")]
        assert any(b"input_dropout" in text for text in texts) == bool(flags)
    assert vaefast.load("without").input_dropout == 0.0
    assert vaefast.load("with").input_dropout == 0.5


def test_evaluate_and_transform_take_counts_in_either_form(counts, capsys):
    from vaefast import evaluate, transform

    trained("--data", "cells.npz", "--out", "run")
    assert evaluate.main(["run", "--data", "cells.csv", "--samples", "20", "--out", "scores"]) == 0
    found = json.loads(Path("scores/evaluation.json").read_text())
    assert found["images"] == 150
    vae = vaefast.load("run")
    assert found["elbo"] == pytest.approx(vae.score_samples(counts, n_samples=1).mean(), abs=1e-3)
    for name in ("cells.csv", "cells.npz"):
        assert transform.main(["run", "--data", name, "--out", f"{name}.npy"]) == 0
        assert np.array_equal(np.load(f"{name}.npy")[:, :3].astype(np.float32), vae.transform(counts))
    capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--data", "real.csv", "--likelihood", "poisson"), "vaefast: real.csv: line "),
        (("--data", "cells.csv", "--likelihood", "poisson", "--zero-inflation"), "likelihood poisson has no zero inflation"),
        (("--data", "cells.csv", "--likelihood", "multinomial", "--scaling", "standard"), "takes counts as they are"),
        (("--data", "cells.csv", "--likelihood", "gaussian", "--encoder-input", "l2"), "which is for counts"),
        (("--data", "cells.npz", "--engine", "cuda"), "cuda"),
        (
            ("--data", "cells.csv", "--likelihood", "gaussian", "--input-dropout", "0.5"),
            "input_dropout is 0.5, which is for counts",
        ),
        (("--data", "real.csv", "--input-dropout", "0.5"), "input_dropout is 0.5, which is for counts"),
        (("--data", "cells.csv", "--input-dropout", "1"), "input_dropout is 1.0: give a number from 0 below 1"),
    ],
)
def test_what_does_not_go_with_counts_is_refused_before_anything_is_written(counts, flags, message):
    np.savetxt("real.csv", counts * 0.5, delimiter=",")
    _, err = trained(*flags, "--out", "run", code=3 if "real.csv" in flags and "poisson" in flags else 2)
    assert message in err
    assert err.count("\n") == 1
    assert not Path("run").exists()
