"""Figures of tables: every kind of column draws, what is chosen is said, and no text leaves the page or meets another."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from vaefast.plots.pairs import draw_pairs
from vaefast.plots.scales import Scale, fitting, scale_of
from vaefast.plots.sheet import missing_letters, text_width
from vaefast.plots.table_columns import draw_column_reconstructions, explained, worst

RNG = np.random.default_rng(0)
COLUMNS = {
    "normal": RNG.normal(size=60),
    "constant": np.full(60, 7.0),
    "huge": RNG.normal(size=60) * 1e300,
    "tiny": RNG.normal(size=60) * 1e-300,
    "narrow": 1e9 + RNG.normal(size=60) * 1e-3,
    "zeros and ones": RNG.integers(0, 2, 60).astype(float),
    "counts": RNG.poisson(2, 60).astype(float),
    "an outlier": np.append(RNG.normal(size=59), 1e12),
    "$x_1$ & <b>": RNG.normal(size=60),
    "x" * 200: RNG.normal(size=60),
    "日本 \U0001f600": RNG.normal(size=60),
}


def texts(figure: Figure) -> list[Text]:
    """All texts that are drawn."""
    figure.canvas.draw()
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def check_page(figure: Figure) -> None:
    """Every text lies on the page, and headings and names do not cover each other."""
    with missing_letters():
        found = texts(figure)
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [(text.get_text(), text.get_window_extent()) for text in found]
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.x1 <= width + 1, text
        assert box.y0 >= 0, text
        assert box.y1 <= height + 1, text
    names = [(text.get_text(), text.get_window_extent()) for text in found if text in figure.texts]
    for (first, a), (second, b) in combinations(names, 2):
        assert not a.overlaps(b), (first, second)


@pytest.mark.parametrize("name", COLUMNS)
def test_every_kind_of_column_draws(name):
    values = COLUMNS[name]
    made = np.where(np.arange(60) % 2, values, np.roll(values, 1))
    check_page(draw_column_reconstructions(values[:, None], made[:, None], [name], "a.csv"))
    check_page(draw_pairs(values[:, None], made[:, None], [name], "a.csv"))


def test_all_of_them_together_draw():
    x, names = np.stack([*COLUMNS.values()], axis=1), [*COLUMNS]
    figure = draw_column_reconstructions(x, np.roll(x, 1, axis=0), names, "a.csv", "training rows")
    assert len(figure.axes) == len(names)
    check_page(figure)
    assert "60 training rows" in figure.texts[0].get_text()
    for first in range(0, len(names) - 3, 3):
        pairs = draw_pairs(x[:, first : first + 4], x[::2, first : first + 4], names[first : first + 4], "a.csv", len(names))
        assert len(pairs.axes) == 20
        check_page(pairs)


def test_the_worst_of_many_columns_are_drawn_and_said():
    x = RNG.normal(size=(50, 1000))
    x[:, 3] = 1.0
    noise = np.where(np.isin(np.arange(1000), np.arange(100, 116)), 3.0, 0.01)
    made = x + noise * RNG.normal(size=x.shape)
    figure = draw_column_reconstructions(x, made, [f"gene {i}" for i in range(1000)], "genes.csv")
    assert [axes.get_label() for axes in figure.axes] == [f"column {i}" for i in range(100, 116)]
    assert figure.texts[0].get_text().endswith("the 16 of 1,000 columns reconstructed worst")
    check_page(figure)


def test_what_is_explained():
    x = np.stack([np.arange(10.0), np.arange(10.0) * 1e200, np.full(10, 3.0)], axis=1)
    made = np.stack([np.full(10, 4.5), x[:, 1], np.full(10, 3.0)], axis=1)
    shares = explained(x, made)
    assert shares[0] == pytest.approx(0.0)
    assert shares[1] == pytest.approx(1.0)
    assert np.isnan(shares[2])
    many = np.append(np.linspace(0, 1, 20), np.nan)
    assert worst(many) == [*range(16)]


@pytest.mark.parametrize("ends", [(0, 1), (-3.2, 4.7), (1e9, 1e9 + 1), (-1e300, 1e300), (1e-300, 3e-300), (-5, -4.999)])
def test_ticks_are_few_and_on_the_axis(ends):
    scale = scale_of(np.array(ends, np.float64))
    values, labels, _ = scale.ticks()
    places = scale.place(values)
    assert 2 <= len(values) <= 7
    assert len({*labels}) == len(labels)
    assert places.min() >= -1e-9
    assert places.max() <= 1 + 1e-9


def test_a_constant_has_an_axis_around_it():
    for value in (0.0, 7.0, -1e300, 1e-300):
        scale = scale_of(np.full(5, value))
        assert isinstance(scale, Scale)
        assert 0.2 < scale.place([value])[0] < 0.8


@pytest.mark.parametrize("text", ["x" * 200, "a rather long name of a column", "short"])
def test_names_are_cut_in_their_middle(text):
    cut = fitting(text, 200, 6.5)
    assert text_width(cut, 6.5) <= 200
    assert cut == text or "\N{HORIZONTAL ELLIPSIS}" in cut


@pytest.mark.parametrize(
    "arrays",
    [
        (np.ones((3, 2)), np.ones((3, 3))),
        (np.ones((0, 2)), np.ones((0, 2))),
        (np.full((3, 2), np.inf), np.ones((3, 2))),
        (np.ones((3, 2)), np.full((3, 2), np.nan)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays):
    with pytest.raises(ValueError, match="expected"):
        draw_column_reconstructions(*arrays, ["a", "b"])
    with pytest.raises(ValueError, match="expected"):
        draw_pairs(*arrays, ["a", "b"])


def test_what_is_missing_is_not_drawn():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(50, 3)), generator.normal(size=(50, 3))
    x[:20, 0], x[:, 2] = np.nan, np.nan
    figure = draw_column_reconstructions(x, y, ["a", "b", "c"])
    drawn = [sum(len(points.get_offsets()) for points in axes.collections) for axes in figure.axes]
    assert drawn == [30, 50, 0]
    assert explained(x, y)[0] == explained(x[20:, :1], y[20:, :1])[0]
    assert np.isnan(explained(x, y)[2])
    assert "no values" in [text.get_text() for text in figure.texts]
    pairs = draw_pairs(x, y, ["a", "b", "c"])
    heights = [sum(patch.get_height() for patch in axes.patches) for axes in pairs.axes[:6]]
    assert [height for height in heights if height] == [30, 50]


@pytest.mark.parametrize("value", [0.1, 0.3, 0.7, 1.1, 98.6, 7.0])
@pytest.mark.parametrize("rows", [1, 60, 1000, 2001])
def test_a_constant_is_explained_by_nothing_whatever_its_mean_rounds_to(value, rows):
    x = np.full((rows, 1), value)
    assert np.isnan(explained(x, x + 0.001)).all()
    x = np.append(x, [[value]], axis=0)
    x[0] = np.nan
    assert np.isnan(explained(x, x + 0.001)).all()


@pytest.mark.parametrize("name", [" ", "   ", "\t"])
def test_a_name_of_spaces_has_a_width(name):
    assert text_width(name, 9) > 0
    assert fitting(name, 1000, 9) == name
