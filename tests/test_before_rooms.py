"""Files that an earlier version wrote, before its modules stood in folders: a run goes on, models load."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import vaefast
from vaefast import train
from vaefast.files import model_file

FIXTURES = Path(__file__).parent / "fixtures" / "before_rooms"
# Another machine's NumPy may add up in another order, in float32.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


def test_a_run_that_was_begun_goes_on_to_the_same_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    assert train.main(["--resume", "run", "--epochs", "4"]) == 0, capsys.readouterr().err
    found, expected = model_file.read(Path("run/model.safetensors")), model_file.read(Path("after_four_epochs.safetensors"))
    assert found.model == expected.model
    assert np.allclose(found.parameters, expected.parameters, **ROUNDING)
    before = model_file.read(FIXTURES / "run" / "model.safetensors")
    assert not np.allclose(found.parameters, before.parameters, **ROUNDING)  # it did go on


def test_a_saved_estimator_says_what_it_said():
    vae, kept = vaefast.load(FIXTURES / "estimator.safetensors"), np.load(FIXTURES / "estimator.npz")
    assert np.allclose(vae.transform(kept["X"]), kept["latents"], **ROUNDING)
    assert np.allclose(vae.score_samples(kept["X"], n_samples=1), kept["bounds"], **ROUNDING)
    with pytest.warns(vaefast.DataWarning, match="without the optimizer's moments"):
        vae.partial_fit(kept["X"])


def test_a_saved_model_of_the_command_line_loads():
    vae = vaefast.load(FIXTURES / "run")
    assert vae.n_features_in_ == 12
    assert np.isfinite(vae.score_samples(np.load(FIXTURES / "grey.npy"))).all()
