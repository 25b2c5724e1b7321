"""The numbers of an evaluation against plain NumPy, and that they depend on nothing they should not depend on."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from vaefast import engines
from vaefast.engines.as_drawn import drawn
from vaefast.errors import DataError
from vaefast.evaluation import measures
from vaefast.evaluation.measures import Assessment, assess
from vaefast.files.model_file import SavedModel
from vaefast.inference.network import Network
from vaefast.models import noise
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings

MODEL = ModelSettings(30, (20, 9), 3, "tanh")
ENGINES = [name for name in engines.ENGINES if engines.why_not(name) is None]


def saved(seed: int = 0, binarize: str = "dynamic", model: ModelSettings = MODEL, scale: float = 1.0) -> SavedModel:
    parameters = scale * initial_parameters(Layout(model), "fan-in", 1)
    return SavedModel(model, parameters.astype(np.float32), {"binarize": binarize, "seed": seed})


def images(count: int = 40, pixels: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, pixels)).astype(np.uint8)


def opened(engine: str, **settings: object) -> Network:
    return measures.network(saved(**settings), engine, 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_against_plain_numpy(engine):
    model, values = opened(engine), images()
    found = assess(model, values, 60)
    keys = noise.row_keys(values)
    bounds = model.engine.evaluate(model.engine.place(values), keys)
    importance = model.engine.importance_sample(model.engine.place(values), 60, keys)
    mean, log_std = (head.astype(np.float64) for head in model.engine.encode(drawn(values, model.training, keys)))
    assert (found.images, found.samples) == (40, 60)
    assert found.elbo == pytest.approx(bounds.elbo.mean(), abs=1e-5)
    assert found.log_likelihood - found.kl == pytest.approx(found.elbo, abs=1e-9)
    assert found.log_p == pytest.approx(importance.log_likelihood.mean(), abs=1e-5)
    assert found.standard_error == pytest.approx(importance.log_likelihood.std(ddof=1) / np.sqrt(40), rel=1e-4)
    assert found.effective_samples_median == pytest.approx(np.median(importance.effective_samples), rel=1e-4)
    assert found.effective_samples_smallest == pytest.approx(importance.effective_samples.min(), rel=1e-4)
    np.testing.assert_allclose(found.mean_variances, mean.var(axis=0), rtol=1e-4)
    kl = 0.5 * (np.exp(2 * log_std) + mean**2 - 1 - 2 * log_std)
    np.testing.assert_allclose(found.latent_kl, kl.mean(axis=0), rtol=1e-4)
    assert sum(found.latent_kl) == pytest.approx(found.kl, rel=1e-4)
    assert found.active_units == (mean.var(axis=0) > 0.01).sum()
    model.engine.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_blocks_order_and_company_change_nothing(engine, monkeypatch):
    """Batch-independent: bit for bit on the compiled engines, to rounding on the reference, whose products are NumPy's."""
    model, values = opened(engine), images()
    whole, steps = assess(model, values, 20), []
    monkeypatch.setattr(measures, "BLOCK", 7)
    blocks = assess(model, values, 20, steps.append)
    assert steps == [7, 14, 21, 28, 35, 40]
    backwards = assess(model, values[::-1], 20)
    for other in (blocks, backwards):
        for name, value in asdict(whole).items():
            np.testing.assert_allclose(
                getattr(other, name), value, rtol=1e-12 if engine != "reference" else 1e-5, err_msg=name
            )
    model.engine.close()


def test_engines_agree():
    found = [assess(opened(engine), images(), 50) for engine in ENGINES]
    for other in found[1:]:
        assert other.log_p == pytest.approx(found[0].log_p, abs=1e-3)
        np.testing.assert_allclose(other.latent_kl, found[0].latent_kl, rtol=1e-3, atol=1e-5)


def test_the_monte_carlo_error_is_what_other_samples_change():
    """Over many seeds the estimate of the same images spreads as it says; 40 draws have its spread to 11 %."""
    results = [assess(opened("reference", seed=seed, binarize="none", scale=2.0), images(10), 50) for seed in range(40)]
    spread = np.std([found.log_p for found in results], ddof=1)
    said = np.sqrt(np.mean([found.monte_carlo_error**2 for found in results]))
    assert spread / 1.7 < said < 1.7 * spread
    assert said > 1e-4


def test_more_samples_come_closer_from_below():
    """In expectation ELBO <= log p by 1 sample <= by 50 <= by 2000 on the same images."""
    model = opened("reference", binarize="none", scale=3.0)
    estimates = [assess(model, images(40), samples).log_p for samples in (1, 50, 2000)]
    assert estimates == sorted(estimates)
    assert estimates[2] - estimates[0] > 0.1


def test_one_sample_and_one_image():
    found = assess(opened("reference"), images(1), 1)
    assert (found.effective_samples_median, found.collapsed) == (pytest.approx(1.0), 0.0)
    assert (found.standard_error, found.monte_carlo_error) == (0.0, 0.0)
    assert found.mean_variances == [0.0] * 3
    assert found.active_units == 0


def test_an_estimate_that_is_no_number_is_named(monkeypatch):
    model = opened("reference")
    real = model.engine.evaluate

    def evaluate(placed, examples=None):
        terms = real(placed, examples)
        terms.log_likelihood[3] = np.nan
        return terms

    monkeypatch.setattr(model.engine, "evaluate", evaluate)
    with pytest.raises(DataError, match="of image 4 is not a finite number"):
        assess(model, images(), 5)


def test_every_engine_evaluates_a_model_of_any_objective():
    trained = replace(saved(), training={"binarize": "none", "seed": 4, "objective": {"name": "iwae", "samples": 5}})
    for engine in ENGINES:
        model = measures.network(trained, engine, 1)
        assert model.training.binarize == "none"
        assert np.isfinite(assess(model, images(5), 3).log_p)
        model.engine.close()


def test_auto_is_what_it_is_in_training():
    """Every engine samples with kernels of its own: an evaluation compiles nothing where a training does not."""
    assert measures.network(saved(), "auto", 1).engine_name == ENGINES[0]


def test_active_units_by_their_threshold():
    numbers = dict.fromkeys(Assessment.__dataclass_fields__, 0.0)
    found = Assessment(**{**numbers, "mean_variances": [0.5, 0.0101, 0.0099, 0.0]})
    assert found.active_units == 2


def test_equal_images_have_one_error_and_not_one_each():
    """Noise goes by content: other samples would move all copies together."""
    few = images(8)
    once, often = (assess(opened(ENGINES[0]), np.tile(few, (times, 1)), 20) for times in (1, 50))
    assert often.log_p == pytest.approx(once.log_p)
    assert often.monte_carlo_error == pytest.approx(once.monte_carlo_error)
    apart = assess(opened(ENGINES[0]), images(400), 20)
    assert apart.monte_carlo_error < 0.4 * once.monte_carlo_error
