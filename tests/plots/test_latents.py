"""Figures of the latents: what they show, read back from their axes, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.text import Text

from vaefast.plots import run_figures, sheet
from vaefast.plots.latent_plane import latent_plane
from vaefast.plots.latents import draw_latent_bars, draw_latent_scatter, draw_manifold


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("latents", [1, 2, 50, 400])
def test_bars_fall_and_know_their_latents(latents):
    kl = np.random.default_rng(0).random(latents)
    active = kl > 0.5
    figure = draw_latent_bars(kl, active)
    (axes,) = figure.axes
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], np.sort(kl)[::-1])
    order = np.argsort(-kl)
    labels = {place: int(label.get_text()) for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert labels == {place: order[int(place)] for place in labels}
    assert 0 < len(labels) <= 60
    shown = {f"{active.sum()} active"} if active.all() else {f"{active.sum()} active", f"{(~active).sum()} inactive"}
    assert set(texts(figure)) >= {text for text in shown if not text.startswith("0 ")}
    colors = [bar.get_facecolor() for bar in axes.patches]
    assert (len(set(colors)) == 1) == (active.all() or not active.any())


@pytest.mark.parametrize(("kl", "active"), [([], []), ([1.0], [True, False]), ([np.nan], [True]), ([[1.0]], [[True]])])
def test_bars_refuse(kl, active):
    with pytest.raises(ValueError, match="kl, active"):
        draw_latent_bars(kl, active)


@pytest.mark.parametrize("kinds", [None, 3, 10, 11])
def test_points_have_the_colours_of_their_labels(kinds):
    points = np.random.default_rng(0).standard_normal((200, 2))
    labels = None if kinds is None else np.arange(200) % kinds
    figure = draw_latent_scatter(points, labels, ("a", "b"))
    (axes,) = figure.axes
    groups = kinds if kinds in (3, 10) else 1
    assert len(axes.collections) == groups
    assert len({tuple(group.get_facecolor()[0]) for group in axes.collections}) == groups
    drawn = np.concatenate([group.get_offsets() for group in axes.collections])
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(points, axis=0))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "b")


def test_points_are_refused():
    for points, labels in ((np.zeros((3, 3)), None), (np.full((3, 2), np.nan), None), (np.zeros((3, 2)), [1]), ([], None)):
        with pytest.raises(ValueError, match=r"points|labels"):
            draw_latent_scatter(points, labels, ("a", "b"))


def test_the_plane_shows_each_image_where_it_belongs():
    images = np.zeros((4, 4, 6))
    images[1, 2] = 1.0
    figure = draw_manifold(images, (2, 3))
    mosaic = figure.axes[0].images[0].get_array()
    bright = np.argwhere(np.asarray(mosaic) == 1.0)
    height, width = np.array(mosaic.shape) / 4
    (top, left), (bottom, right) = bright.min(axis=0), bright.max(axis=0)
    assert (round(top / height), round(left / width)) == (1, 2)
    assert (bottom - top + 1) * 3 == (right - left + 1) * 2
    with pytest.raises(ValueError, match="probabilities"):
        draw_manifold(images[:, :, :5], (2, 3))


class Decoder:
    """Whose logits are its latents, twice."""

    def decode(self, z: np.ndarray) -> np.ndarray:
        return np.hstack((z, z))


def test_the_plane_is_the_priors_quantiles():
    plane = run_figures.manifold(Decoder(), "bernoulli", 5)
    z = np.log(plane / (1 - plane))
    assert z.shape == (5, 5, 4)
    np.testing.assert_allclose(z[0, :, 0], [-1.281552, -0.524401, 0, 0.524401, 1.281552], atol=1e-5)
    np.testing.assert_allclose(z[:, 0, 1], z[0, ::-1, 0], atol=1e-5)  # the second latent upwards


@pytest.mark.parametrize("latents", [1, 2, 6])
def test_latents_as_a_plane(latents):
    rng = np.random.default_rng(0)
    mean, log_std = rng.standard_normal((2, 300, latents))
    if latents == 6:
        mean[:, 4] *= 10
        mean[:, 2] *= -5
    points, names = latent_plane(mean, log_std)
    if latents == 1:
        np.testing.assert_allclose(points, np.hstack((mean, np.exp(log_std))))
    elif latents == 2:
        np.testing.assert_array_equal(points, mean)
    else:
        centred = mean - mean.mean(axis=0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        np.testing.assert_allclose(np.abs(points), np.abs(u[:, :2] * s[:2]), atol=1e-9)
        assert np.corrcoef(points[:, 0], mean[:, 4])[0, 1] > 0.99
        assert f"{100 * s[0] ** 2 / (s**2).sum():.0f} %" in names[0]


@pytest.mark.parametrize("names", [("$5k-$10k", "$10k-$20k"), ("a$^$b", "c")])
def test_dollars_in_names_of_labels_are_dollars(names, tmp_path):
    figure = draw_latent_scatter(np.random.default_rng(0).normal(size=(100, 2)), [*names] * 50, ("a", "b"))
    sheet.save(figure, tmp_path / "a.png")
    written = [text for text in figure.findobj(Text) if text.get_text().endswith(names)]
    assert len(written) == 2
    assert not any(text.get_parse_math() for text in written)
