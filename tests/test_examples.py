"""The examples run, draw their figures, and show what docs/start/examples.md says; code in README.md and guides runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What an example returns, run once; its figure goes into a folder that is no part of the project."""
    results = {}

    def run(name):
        if name not in results:
            figure = tmp_path_factory.mktemp("figures") / f"{name}.png"
            results[name] = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"](figure)
            assert figure.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        return results[name]

    return run


def said(rounded, measured, words):
    """The page says so; another CPU may train other last digits, and neighbours may change sides."""
    assert f"{words}{rounded}" in " ".join(page().split())
    assert measured == pytest.approx(rounded, abs=0.015)


def page():
    return (ROOT / "docs" / "start" / "examples.md").read_text(encoding="utf-8")


def test_each_example_has_its_figure_and_its_place_on_the_page():
    assert len(EXAMPLES) == 3
    for path in EXAMPLES:
        assert (ROOT / "docs" / "images" / f"example_{path.stem}.png").exists()
        assert f"examples/{path.name}" in page()
        assert f"../images/example_{path.stem}.png" in page()


def test_neighbours_of_the_vaes_latents_classify_better_than_those_of_as_many_of_pca(shown):
    accuracy = shown("embedding")
    for components in (2, 4):
        assert accuracy["VAE"][components] > accuracy["PCA"][components]
    said(0.87, accuracy["VAE"][2], "an accuracy of ")
    said(0.94, accuracy["VAE"][4], "from 4 with ")


def test_a_digit_never_seen_is_found_better_than_by_an_isolation_forest(shown):
    areas = shown("anomalies")
    assert np.mean(areas["VAE"]) > np.mean(areas["IsolationForest"]) + 0.1
    said(0.92, np.mean(areas["VAE"]), "ROC-AUC of ")
    said(0.75, np.mean(areas["IsolationForest"]), "an isolation forest with ")


def test_noise_is_taken_out_better_than_by_pca_at_its_best(shown):
    errors = shown("denoising")
    assert errors["VAE"] < errors["PCA, at its best"] < errors["noisy"]
    said(0.16, errors["VAE"], "the reconstructions is ")
    said(0.18, errors["PCA, at its best"], "components, reaches ")


@pytest.mark.parametrize("name", ["README.md", "docs/guides/estimator.md"])
def test_the_code_of_a_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    assert (tmp_path / "digits.safetensors").exists()
