"""`--precision bf16` and `VAE(precision="bf16")`: one model, which its file keeps, through stops, scores and imputation."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faults import runs

import vaefast
from vaefast import VAE, VAEDetector, engines, evaluate
from vaefast.errors import SettingsError
from vaefast.evaluation import measures
from vaefast.files import model_file

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")
MODEL = ("--latent", "3", "--hidden", "12", "9", "--epochs", "3", "--seed", "5", "--test-fraction", "0")
SAME = {"n_components": 3, "hidden_layer_sizes": (12, 9), "epochs": 3, "random_state": 5, "n_jobs": 1}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Real numbers that hang together, as a file, too."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((160, 2)) @ rng.standard_normal((2, 11)) + 0.3 * rng.standard_normal((160, 11))
    np.savetxt("table.csv", rows, "%.17g", delimiter=",", header=",".join(f"c{i}" for i in range(11)), comments="")
    return rows


def trained(*flags, code=0):
    found, out, err = runs.command("--threads", "1", "--data", "table.csv", *MODEL, *flags)
    assert found == code, err
    return out, err


def parameters(run):
    return vaefast.load(run)._network.state.parameters


def test_both_doors_train_the_same_bits_which_are_not_those_of_float32(table):
    trained("--precision", "bf16", "--out", "run")
    trained("--out", "plain")
    vae = VAE(**SAME, precision="bf16").fit(table)
    assert np.array_equal(parameters("run"), vae._network.state.parameters)
    assert not np.array_equal(parameters("run"), parameters("plain"))
    assert np.allclose(parameters("run"), parameters("plain"), atol=0.02)
    assert json.loads(Path("run/settings.json").read_text())["training"]["precision"] == "bf16"


@pytest.mark.parametrize("has_it", [False, True])
def test_a_cpu_without_instructions_for_it_is_said_to_be_slow(table, monkeypatch, has_it):
    from vaefast.engines.numba_cpu import bf16_vectors  # noqa: F401  It must see the CPU as it is.

    slow = "vaefast: precision bf16 is slower than float32 here: this CPU has no AVX512-BF16\n"
    monkeypatch.setattr("vaefast.engines.numba_cpu.target.BF16_PAIRS", has_it)
    assert (slow in trained("--precision", "bf16", "--engine", "numba", "--out", "numba")[1]) != has_it
    assert slow not in trained("--precision", "bf16", "--engine", "reference", "--out", "reference")[1]
    assert slow not in trained("--engine", "numba", "--out", "plain")[1]


@pytest.mark.skipif(engines.why_not("cython") is not None, reason="the extension is not built")
def test_an_extension_kept_from_its_instructions_for_bf16_is_said_to_be_slow(table, monkeypatch):
    from vaefast.engines.cython_cpu import kernels

    slow = "precision bf16 is slower than float32 here"
    _, said = trained("--precision", "bf16", "--engine", "cython", "--out", "as it is")
    assert (slow not in said) == (kernels.unit("")[0] == "AVX512-BF16")
    monkeypatch.setenv("VAEFAST_VECTOR_UNIT", "base")
    assert slow in trained("--precision", "bf16", "--engine", "cython", "--out", "base")[1]


def test_a_file_keeps_the_precision_and_with_it_every_result(table):
    vae = VAE(**SAME, precision="bf16").fit(table)
    vae.save("model.safetensors")
    loaded = vaefast.load("model.safetensors")
    assert loaded.precision == loaded.get_params()["precision"] == "bf16"
    plain = VAE(**SAME).fit(table)
    plain._network.state = vae._network.state
    holed = table[:20].copy()
    holed[::3, 4] = np.nan
    for result in (
        lambda model: model.transform(table),
        lambda model: model.score_samples(table),
        lambda model: model.log_likelihood(table[:30], n_samples=20),
        lambda model: model.inverse_transform(np.eye(3)),
        lambda model: model.impute(holed),
    ):
        assert np.array_equal(result(loaded), result(vae))
        assert not np.array_equal(result(plain), result(vae))
        assert np.allclose(result(plain), result(vae), rtol=0.1, atol=0.1)


def test_evaluation_takes_the_precision_of_the_training(table, capsys):
    trained("--precision", "bf16", "--out", "run")
    assert evaluate.main(["run", "--data", "table.csv", "--samples", "10", "--out", "scores"]) == 0
    capsys.readouterr()
    saved = model_file.read(Path("run/model.safetensors"))
    assert measures.network(saved, "auto", 1).training.precision == "bf16"
    on_a_gpu = replace(saved, training={**saved.training, "precision": "tf32"})
    assert measures.network(on_a_gpu, "auto", 1).training.precision == "float32"


def test_a_run_goes_on_in_its_precision_and_in_no_other(table):
    trained("--precision", "bf16", "--out", "whole")
    trained("--precision", "bf16", "--epochs", "1", "--out", "part")
    code, _, err = runs.command("--resume", "part", "--epochs", "3", "--threads", "2")
    assert code == 0, err
    assert np.array_equal(parameters("whole"), parameters("part"))
    code, _, err = runs.command("--resume", "part", "--epochs", "4", "--precision", "float32")
    assert code == 4
    assert "precision was bf16, is float32" in err
    assert err.count("\n") == 1


def test_a_float32_model_can_be_trained_on_in_bf16(table):
    trained("--out", "plain")
    trained("--start-from", "plain", "--precision", "bf16", "--out", "more")
    assert vaefast.load("more").precision == "bf16"


def test_a_detector_has_it_by_its_model(table):
    detector = VAEDetector(vae=VAE(**SAME, precision="bf16")).fit(table)
    assert detector.vae_.precision == "bf16"
    plain = VAEDetector(vae=VAE(**SAME)).fit(table)
    assert not np.array_equal(detector.decision_scores_, plain.decision_scores_)


@pytest.mark.parametrize("precision", ["half", "float16", None, 16])
def test_other_precisions_are_refused_in_one_line(table, precision):
    with pytest.raises(SettingsError, match=f"precision is {precision!r}: choose float32, tf32 or bf16"):
        VAE(**SAME, precision=precision).fit(table)


def test_what_only_a_gpu_has_is_refused_in_one_line(table):
    with pytest.raises(vaefast.errors.EngineUnavailable, match="precision tf32 is for a GPU"):
        VAE(**SAME, precision="tf32").fit(table)
    _, err = trained("--precision", "half", code=2)
    assert "half" in err
    assert err.count("\n") == 1
