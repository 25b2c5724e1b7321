"""Models on their way out and in: safetensors, ONNX, TensorBoard, and between Python and the command line."""

from __future__ import annotations

import json
import pickle
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save
from sklearn.base import clone
from sklearn.datasets import load_digits

import vaefast
from vaefast import VAE, train
from vaefast.errors import DataError, EngineUnavailable, OutputError, SettingsError
from vaefast.files import model_file
from vaefast.models.layout import Layout
from vaefast.models.settings import LIKELIHOODS, ModelSettings
from vaefast.plots import run_figures

QUICK = {"hidden_layer_sizes": (16, 12), "epochs": 2, "batch_size": 50, "random_state": 0}
MODELS = [
    {"likelihood": "bernoulli"},
    {"likelihood": "bernoulli", "binarize": "threshold", "activation": "tanh"},
    {"likelihood": "bernoulli", "scaling": "minmax", "hidden_layer_sizes": ()},
    {"likelihood": "gaussian"},
    {"likelihood": "gaussian", "scaling": None},
    {"likelihood": "continuous-bernoulli"},
    {"likelihood": "continuous-bernoulli", "scaling": "minmax"},
]
by_model = pytest.mark.parametrize("parameters", MODELS, ids=lambda parameters: " ".join(map(str, parameters.values())))


@pytest.fixture(scope="module")
def digits():
    return load_digits().data / 16


def fitted(digits, **parameters):
    return VAE(4, **{**QUICK, **parameters}).fit(digits)


# --- Model files


@by_model
def test_a_model_that_was_saved_is_the_same_model(digits, tmp_path, parameters):
    vae = fitted(digits, **parameters)
    vae.save(tmp_path / "model.safetensors")
    twin = vaefast.load(tmp_path / "model.safetensors")
    for method in ("transform", "score_samples", "log_likelihood", "reconstruct"):
        assert np.array_equal(getattr(twin, method)(digits[:50]), getattr(vae, method)(digits[:50])), method
    assert np.array_equal(twin.sample(3, 1, noise_in_x=True), vae.sample(3, 1, noise_in_x=True))
    assert twin.get_params() == vae.get_params()
    assert twin.history_ == vae.history_
    for name in ("likelihood_", "scaling_", "binarize_", "n_iter_", "seed_", "batch_size_", "n_features_in_"):
        assert getattr(twin, name) == getattr(vae, name), name
    twin.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    assert np.isfinite(twin.partial_fit(digits).score(digits))
    assert twin.n_iter_ == 3


def test_a_model_whose_engine_is_not_here_says_so(digits, tmp_path, monkeypatch):
    fitted(digits, engine="numba").save(tmp_path / "model")
    monkeypatch.setattr("vaefast.engines.why_not", lambda name: "no such thing; pip install it" if name == "numba" else None)
    with pytest.raises(EngineUnavailable, match="no such thing"):
        vaefast.load(tmp_path / "model")


def test_names_of_columns_are_kept(digits, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(digits, columns=[f"pixel {i}" for i in range(64)])
    VAE(4, **QUICK).fit(frame).save(tmp_path / "model")
    twin = vaefast.load(tmp_path / "model")
    assert list(twin.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        twin.transform(frame[frame.columns[::-1]])


def test_a_folder_that_is_not_there_is_one_clear_error(digits, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        fitted(digits).save(tmp_path / "nowhere" / "model")


class Bomb:
    """A pickle that would be noticed."""

    def __reduce__(self):
        return (exec, ("import sys; sys.it_went_off = True",))


def saved(extra=None, drop=None, metadata=None, **changes):
    """The bytes of a model file, with something wrong in it."""
    layout = Layout(ModelSettings(6, (4,), 2))
    tensors = {name: np.zeros(tensor.shape, np.float32) for name, tensor in layout.tensors.items()}
    tensors |= extra or {}
    if drop:
        del tensors[drop]
    about = {"pixels": 6, "hidden": [4], "latent": 2, "activation": "relu", **changes}
    meta = {"format": "vaefast", "format_version": "1", "model": json.dumps(about), "training": "{}"}
    return save(tensors, {**meta, **(metadata or {})})


WRONG = {
    "empty": (b"", "no model file"),
    "pickle": (pickle.dumps(Bomb()), "no model file"),
    "text": (b"hello " * 100, "no model file"),
    "huge header": ((2**62).to_bytes(8, "little") + b"{}", "no model file"),
    "another program's": (save({"a": np.zeros(3, np.float32)}), "another program"),
    "newer": (saved(metadata={"format_version": "3"}), "format version 3, this vaefast reads up to 2"),
    "no version": (saved(metadata={"format_version": "one"}), "format version 'one'"),
    "missing tensor": (saved(drop="mean.bias"), "tensor mean.bias is missing"),
    "unknown tensor": (saved(extra={"more": np.zeros(2, np.float32)}), "tensor more is unknown"),
    "half a scaling": (saved(extra={"scaling.shift": np.zeros(6)}), "tensor scaling.scale is missing"),
    "wrong shape": (saved(extra={"mean.bias": np.zeros(3, np.float32)}), r"mean.bias is float32 \(3,\), not float32 \(2,\)"),
    "wrong type": (saved(extra={"mean.bias": np.zeros(2)}), "mean.bias is float64"),
    "not finite": (
        saved(extra={"mean.bias": np.array([0, np.nan], np.float32)}),
        "mean.bias holds a number that is not finite",
    ),
    "settings no JSON": (saved(metadata={"model": "{"}), "no JSON"),
    "settings a list": (saved(metadata={"model": "[]"}), "no JSON object"),
    "unknown setting": (saved(depth=3), "unknown depth"),
    "wrong setting": (saved(activation="gelu"), "activation is 'gelu'"),
    "settings too large": (saved(pixels=2**24, hidden=[2**24]), "shorter than the model"),
    "wrong training": (saved(metadata={"training": '{"speed": 9}'}), "settings are damaged"),
    "wrong parameters": (saved(metadata={"estimator": '{"parameters": {"speed": 9}}'}), "settings are damaged"),
    "cut": (saved()[:-8], "no model file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_are_no_model_are_refused_without_running_anything(tmp_path, name):
    content, words = WRONG[name]
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        vaefast.load(tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert not hasattr(sys, "it_went_off")


def test_the_file_that_the_wrong_ones_were_made_from_is_right(tmp_path):
    (tmp_path / "model").write_bytes(saved())
    assert vaefast.load(tmp_path / "model").transform(np.ones((3, 6))).shape == (3, 2)


def test_paths_that_are_no_file(tmp_path):
    for path, words in ((tmp_path / "nowhere", "cannot read"), (tmp_path, "cannot read"), ("/dev/null", "is no file")):
        with pytest.raises(DataError, match=words):
            vaefast.load(path)


# --- Between Python and the command line


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`python -m vaefast.train` in this process, without figures, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_figures, "draw", lambda *arguments, **settings: None)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    return lambda *arguments: train.main(list(map(str, arguments)))


def last_metrics(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_run_of_the_command_line_is_scored_to_its_own_value(command, tmp_path, likelihood):
    data = load_digits().data
    levels = np.rint(255 * data / 16).astype(np.uint8)
    np.savez(tmp_path / "both.npz", x_train=levels[:1500], x_test=levels[1500:])
    settings = ("--hidden", 16, "--latent", 3, "--epochs", 2, "--batch-size", 50, "--likelihood", likelihood)
    assert command("--data", "both.npz", *settings, "--out", "run") == 0
    vae = vaefast.load(tmp_path / "run")
    metrics = last_metrics(tmp_path / "run")
    assert vae.score_samples(levels[1500:], n_samples=1).mean() == pytest.approx(metrics["test_elbo"], abs=1e-9)
    # Levels that were divided before: the same images up to the rounding of a threshold.
    divided = vae.score_samples(levels[1500:] / 255, n_samples=1).mean()
    assert divided == pytest.approx(metrics["test_elbo"], abs=0.01)
    assert vae.get_params()["hidden_layer_sizes"] == (16,)
    # The estimator trains the same model from the same seed.
    again = VAE(3, hidden_layer_sizes=(16,), epochs=2, batch_size=50, likelihood=likelihood, scaling="grey", random_state=0)
    again.fit(levels[:1500], validation_data=levels[1500:])
    assert np.array_equal(again.transform(levels), vae.transform(levels))
    assert again.history_["validation_elbo"][-1] == metrics["test_elbo"]


def test_a_model_of_the_estimator_is_trained_on_by_the_command_line(command, tmp_path, capsys):
    levels = np.rint(255 * load_digits().data / 16).astype(np.uint8)
    np.savez(tmp_path / "both.npz", x_train=levels[:1500], x_test=levels[1500:])
    vae = VAE(3, **QUICK, scaling="grey").fit(levels[:1500])
    vae.save(tmp_path / "model.safetensors")
    flags = ("--data", "both.npz", "--hidden", 16, 12, "--latent", 3, "--batch-size", 50, "--start-from", "model.safetensors")
    assert command(*flags, "--epochs", 0, "--out", "as_it_was") == 0
    assert np.array_equal(vaefast.load(tmp_path / "as_it_was").transform(levels), vae.transform(levels))
    assert command(*flags, "--epochs", 2, "--out", "further") == 0
    assert vaefast.load(tmp_path / "further").score(levels) > vae.score(levels)
    assert command(*flags, "--latent", 4, "--out", "other") == 2
    assert "has latent 3, but this run 4" in capsys.readouterr().err
    VAE(3, **QUICK, scaling="minmax").fit(levels).save(tmp_path / "scaled")
    assert command(*flags[:-1], "scaled", "--out", "other") == 2
    assert "was trained on a table, but both.npz holds pictures" in capsys.readouterr().err


def test_the_command_line_refuses_to_binarise_for_a_likelihood_of_grey_levels(command, capsys):
    assert command("--data", "digits", "--likelihood", "gaussian", "--binarize", "dynamic") == 2
    assert "binarize is 'dynamic', but likelihood gaussian" in capsys.readouterr().err


# --- ONNX


@by_model
def test_onnx_gives_what_the_engine_gives(digits, tmp_path, parameters):
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    vae = fitted(digits, **parameters)
    encoder, decoder = (runtime.InferenceSession(path) for path in vae.to_onnx(tmp_path / "onnx"))
    for rows in (1, 300):
        X = digits[:rows].astype(np.float32)
        mean, log_std = encoder.run(None, {"x": X})
        expected, std = vae.posterior(X)
        assert np.allclose(mean, expected, rtol=0, atol=1e-5)
        assert np.allclose(np.exp(log_std), std, rtol=0, atol=1e-5)
        z = 3 * np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
        x_mean, logits = decoder.run(None, {"z": z})
        assert np.allclose(x_mean, vae.inverse_transform(z), rtol=0, atol=1e-5)
        assert np.allclose(logits, vae._network.decode(z), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:posterior collapse")
@pytest.mark.parametrize("likelihood", ["gaussian", "student-t", "bernoulli"])
@pytest.mark.parametrize("indicator", [False, True])
def test_onnx_takes_missing_values_as_the_engine_does(digits, tmp_path, likelihood, indicator):
    pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    X = digits[:200] / 16 if likelihood == "bernoulli" else digits[:200]
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X).astype(np.float32)
    binarize = "threshold" if likelihood == "bernoulli" else "auto"
    about = {"likelihood": likelihood, "missing_indicator": indicator, "binarize": binarize, "engine": "reference"}
    vae = VAE(4, hidden_layer_sizes=(16,), epochs=1, random_state=0, **about).fit(X)
    encoder, decoder = (runtime.InferenceSession(path) for path in vae.to_onnx(tmp_path / "onnx"))
    mean, log_std = encoder.run(None, {"x": X})
    expected, std = vae.posterior(X)
    assert np.allclose(mean, expected, rtol=0, atol=1e-5)
    assert np.allclose(np.exp(log_std), std, rtol=0, atol=1e-5)
    x_mean, _ = decoder.run(None, {"z": expected})
    assert np.allclose(x_mean, vae.inverse_transform(expected), rtol=0, atol=1e-4)


def test_onnx_graphs_have_the_stated_versions_and_no_random_node(digits, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    for path in fitted(digits).to_onnx(tmp_path):
        model = onnx.load(path)
        assert (model.ir_version, model.opset_import[0].version) == (9, 17)
        assert not any("Random" in node.op_type or node.op_type == "Bernoulli" for node in model.graph.node)


def test_columns_that_float32_rounds_are_warned_of_as_they_leave_for_onnx(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    table = np.random.default_rng(0).normal([1.7e9, 100, 1e4], size=(40, 3))
    vae = fitted(pd.DataFrame(table, columns=["time", "level", "year"]), likelihood="gaussian")
    with pytest.warns(
        vaefast.DataWarning, match=r"column 'time' lies near 1.7e\+09, where float32 has steps of 128, .*graph:"
    ):
        vae.to_onnx(tmp_path)
    # In Python, which subtracts in float64, it is told apart as well as any other.
    nearby = np.array([[1.7e9, 100, 1e4], [1.7e9 + 1, 100, 1e4]])
    assert np.ptp(vae.transform(pd.DataFrame(nearby, columns=["time", "level", "year"])), axis=0).max() > 1e-3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table[:, 0] = 20240131  # no different values that could become one
        fitted(table, likelihood="gaussian").to_onnx(tmp_path)


def test_onnx_that_is_missing_says_how_to_get_it(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SettingsError, match=r'pip install "vaefast\[onnx\]"'):
        fitted(digits).to_onnx(tmp_path)


# --- TensorBoard


def scalars(folder):
    """What the event files of a folder hold: name -> list of (epoch, value)."""
    event_file_loader = pytest.importorskip("tensorboardX.record_writer", reason="tensorboardX is not installed")
    from tensorboardX.proto.event_pb2 import Event

    assert event_file_loader
    found: dict[str, list[tuple[int, float]]] = {}
    for path in folder.iterdir():
        content, place = path.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            event = Event.FromString(content[place + 12 : place + 12 + size])
            place += 16 + size
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_shows_each_epoch(digits, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    board = vaefast.TensorBoard(tmp_path / "board")
    vae = VAE(2, **QUICK, callbacks=[board]).fit(digits, validation_data=digits[:100])
    board.close()
    found = scalars(tmp_path / "board")
    assert [epoch for epoch, _ in found["elbo/train"]] == [1, 2]
    assert np.allclose([value for _, value in found["elbo/validation"]], vae.history_["validation_elbo"], rtol=1e-6)
    assert {"kl/train", "log_likelihood/validation", "speed/images_per_second"} <= set(found)
    assert clone(vae).fit(digits).n_iter_ == 2  # each clone writes a file of its own
    assert len(scalars(tmp_path / "board")["elbo/train"]) == 4


def test_tensorboard_of_the_command_line(command, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    assert command("--data", "digits", "--hidden", 16, "--epochs", 2, "--tensorboard", "--out", "run") == 0
    found = scalars(tmp_path / "run" / "tensorboard")
    assert found["elbo/test"][-1][1] == pytest.approx(last_metrics(tmp_path / "run")["test_elbo"], rel=1e-6)


def test_tensorboard_that_is_missing_says_how_to_get_it(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(SettingsError, match=r'pip install "vaefast\[tensorboard\]"'):
        vaefast.TensorBoard(tmp_path / "board")
    assert command("--data", "digits", "--tensorboard", "--out", "run") == 2
    assert "vaefast[tensorboard]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_for_tensorboard_that_cannot_be_is_one_clear_error(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        vaefast.TensorBoard(tmp_path / "file" / "board")


def test_read_gives_what_serialize_was_given(tmp_path):
    layout = Layout(ModelSettings(6, (4,), 2, likelihood="gaussian"))
    parameters = np.arange(layout.size, dtype=np.float32)
    (tmp_path / "model").write_bytes(model_file.serialize(layout, parameters, {"seed": 3}))
    back = model_file.read(tmp_path / "model")
    assert back.model == layout.model
    assert np.array_equal(back.parameters, parameters)
    assert back.training == {"seed": 3}
    assert back.estimator == {}
    assert back.scaling == {}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_figures_of_a_run_show_means_of_pixels(digits, likelihood):
    vae = fitted(digits, likelihood=likelihood, scaling=None)
    engine = vae._network.engine
    samples = run_figures.prior_samples(engine, 4, 3, 6, likelihood)
    assert np.array_equal(samples, np.clip(vae.sample(6, random_state=3), 0, 1))
    shown = run_figures.reconstruct(engine, digits[:5].astype(np.float32), likelihood)
    assert np.array_equal(shown, np.clip(vae.reconstruct(digits[:5]), 0, 1))
    paths = run_figures.interpolate(engine, digits[:2].astype(np.float32), digits[2:4].astype(np.float32), 5, likelihood)
    assert np.allclose(paths, np.clip(vae.interpolate(digits[:2], digits[2:4], 5), 0, 1), atol=1e-6)


def test_models_of_earlier_versions_read_bytes_as_they_did(tmp_path, digits):
    """A model of bytes that was saved with `grey_levels` and a scaling of level / 255."""
    levels = np.rint(255 * digits).astype(np.uint8)
    vae = VAE(4, likelihood="gaussian", scaling="standard", **QUICK).fit(levels / 255)
    path = tmp_path / "model"
    vae.save(path, optimizer=False)
    saved = model_file.read(path)
    about = {**saved.estimator, "grey_levels": True}
    del about["bytes_are_grey"]
    tensors = {name: tensor for name, tensor in saved.scaling.items() if name != "scaling.cut"}
    path.write_bytes(model_file.serialize(Layout(saved.model), saved.parameters, saved.training, about, tensors))
    assert np.allclose(vaefast.load(path).transform(levels), vae.transform(levels / 255), atol=1e-5)
