"""Curves of a table's rows: what they show, read back from their axes, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vaefast.plots import sheet
from vaefast.plots.nll_curves import Curve, draw_nll_curves

CURVE = Curve([1, 4, 13], [120.0, 100.0, 95.0], range(1, 14), np.linspace(130, 99, 13), 86.76)


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def test_curves_go_towards_what_was_published(tmp_path):
    figure = draw_nll_curves({"vae-1": CURVE, "iwae-5": Curve([1, 4], [110.0, 97.0], [], [], None)}, "mnist")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    low, high = axes.get_ylim()
    assert low < 86.76 < 120.0 < high
    said = texts(figure)
    assert {"vae-1  95.00", "iwae-5  97.00", "published  86.76", "mnist"} <= set(said)
    assert len([text for text in said if "published" in text]) == 1
    np.testing.assert_allclose(axes.get_xticks(), [1, 4, 13])
    sheet.save(figure, tmp_path / "nll.png")
    with Image.open(tmp_path / "nll.png") as image:
        assert image.size[0] > 1000


def test_tags_of_curves_do_not_touch():
    figure = draw_nll_curves({f"row-{i}": Curve([1], [90 + 0.01 * i], [1], [91.0], 90.0) for i in range(5)})
    heights = sorted(text.xyann[1] for text in figure.axes[0].texts)
    assert len(heights) == 10
    assert min(np.diff(heights)) >= sheet.LABEL_SIZE


@pytest.mark.parametrize("count", [0, 6])
def test_as_many_curves_as_there_are_colours(count):
    with pytest.raises(ValueError, match="expected 1 to 5 rows"):
        draw_nll_curves({str(i): CURVE for i in range(count)})
