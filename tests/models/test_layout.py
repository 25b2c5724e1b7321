"""The flat vector: names, order, both forms, and the initial parameters."""

import numpy as np
import pytest
from cases import CASES

from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import PANEL, Layout, padded
from vaefast.models.likelihoods import expectation
from vaefast.models.settings import INITIALIZATIONS, LIKELIHOODS, ModelSettings, TrainingSettings
from vaefast.training.initial_state import initial_state


def test_the_reports_model_has_its_number_of_parameters():
    assert Layout(ModelSettings()).size == 425_284


def test_names_and_shapes():
    layout = Layout(ModelSettings(9, (5, 4), 2))
    assert {name: tensor.shape for name, tensor in layout.tensors.items()} == {
        "encoder.0.weight": (9, 5), "encoder.0.bias": (5,), "encoder.1.weight": (5, 4), "encoder.1.bias": (4,),
        "mean.weight": (4, 2), "log_std.weight": (4, 2), "mean.bias": (2,), "log_std.bias": (2,),
        "decoder.0.weight": (2, 4), "decoder.0.bias": (4,), "decoder.1.weight": (4, 5), "decoder.1.bias": (5,),
        "logits.weight": (5, 9), "logits.bias": (9,),
    }  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_panels_and_back_is_the_identity_and_padding_is_zero(case):
    layout = Layout(case.model)
    vector = np.arange(1, layout.size + 1, dtype=np.float64)
    panels = np.full(layout.panel_size, np.nan)
    layout.to_panels(vector, panels)
    assert np.array_equal(layout.from_panels(panels), vector)
    assert np.count_nonzero(panels) == layout.size
    assert not np.isnan(panels).any()


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: case.name)
def test_either_form_may_have_another_precision_or_be_read_only(case):
    layout = Layout(case.model)
    vector = np.arange(1, layout.size + 1, dtype=np.float64)
    vector.flags.writeable = False
    panels = np.full(layout.panel_size, np.nan, np.float32)
    layout.to_panels(vector, panels)
    assert np.count_nonzero(panels) == layout.size
    panels.flags.writeable = False
    for dtype in (np.float32, np.float64):
        plain = np.zeros(layout.size, dtype)
        assert layout.from_panels(panels, plain) is plain
        assert np.array_equal(plain, vector)


def test_a_panel_holds_sixteen_columns_row_after_row_and_heads_are_one_matrix():
    layout = Layout(ModelSettings(3, (20,), 5))
    arrays = {name: np.random.default_rng(1).random(tensor.shape) for name, tensor in layout.tensors.items()}
    panels = np.zeros(layout.panel_size)
    layout.to_panels(layout.flatten(arrays, np.float64), panels)
    first = layout.tensors["encoder.0.weight"]
    second_panel = panels[first.panel_offset + 3 * PANEL :][: 3 * PANEL].reshape(3, PANEL)
    assert np.array_equal(second_panel[:, :4], arrays["encoder.0.weight"][:, 16:20])
    mean, log_std = layout.tensors["mean.weight"], layout.tensors["log_std.weight"]
    assert log_std.panel_offset == mean.panel_offset + 20 * padded(5)


@pytest.mark.parametrize("scheme", INITIALIZATIONS)
def test_initial_parameters_depend_on_the_seed_alone_and_have_the_stated_spread(scheme):
    layout = Layout(ModelSettings())
    means = np.linspace(0, 1, 784)
    vector = initial_parameters(layout, scheme, 3, means)
    assert np.array_equal(vector, initial_parameters(layout, scheme, 3, means))
    assert not np.array_equal(vector, initial_parameters(layout, scheme, 4, means))
    weights = layout.views(vector)
    w, b = weights["encoder.0.weight"], weights["encoder.0.bias"]
    spread = {
        "report": 0.01, "glorot": np.sqrt(2 / 984), "he": np.sqrt(2 / 784), "fan-in": np.sqrt(1 / 784 / 3),
        "data-mean": np.sqrt(2 / 984),
    }[scheme]  # fmt: skip
    assert abs(w.std() / spread - 1) < 0.01
    assert abs(w.mean()) < 5 * spread / np.sqrt(w.size)
    assert (b.std() > 0) == (scheme in ("report", "fan-in"))
    if scheme == "data-mean":
        p = 1 / (1 + np.exp(-weights["logits.bias"]))
        assert np.allclose(p, np.clip(means, 1e-3, 1 - 1e-3))


def test_a_gaussian_likelihood_has_one_more_tensor_which_starts_at_the_spread_of_the_data():
    layout = Layout(ModelSettings(9, (5,), 2, likelihood="gaussian"))
    assert list(layout.tensors)[-1] == "x_log_std"
    assert layout.tensors["x_log_std"].shape == (9,)
    stds = np.array([0, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4.0])
    for scheme in INITIALIZATIONS:
        start = initial_parameters(layout, scheme, 0, stds, stds)
        assert np.allclose(np.exp(layout.views(start)["x_log_std"]), np.maximum(stds, 0.1))
        assert not layout.views(initial_parameters(layout, scheme, 0, stds))["x_log_std"].any()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_data_mean_starts_at_the_mean_of_each_pixel(likelihood):
    layout = Layout(ModelSettings(5, (4,), 2, likelihood=likelihood))
    means = np.array([0.001, 0.2, 0.5, 0.77, 0.999])
    bias = layout.views(initial_parameters(layout, "data-mean", 0, means))["logits.bias"]
    assert np.allclose(expectation(likelihood, bias), means, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_initial_state_measures_the_data(dtype):
    values = np.random.default_rng(0).integers(0, 256, (3000, 6), np.uint8)
    values[:, 5] = 7
    exact = values / 255
    values = values if dtype == np.uint8 else exact.astype(np.float32)
    model = ModelSettings(6, (4,), 2, likelihood="gaussian")
    state = initial_state(model, TrainingSettings(initialization="data-mean"), values)
    tensors = Layout(model).views(state.parameters)
    assert np.allclose(np.exp(tensors["x_log_std"]), np.maximum(exact.std(axis=0), 0.1), rtol=1e-5)
    assert np.allclose(tensors["logits.bias"], exact.mean(axis=0), rtol=1e-5)
    assert state.step == 0
