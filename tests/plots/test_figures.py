"""The figures show exactly the numbers they are given, and a saved file is crisp, repeatable and whole."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vaefast.errors import OutputError
from vaefast.plots import prior_samples, sheet
from vaefast.plots.elbo_curve import draw_elbo_curve
from vaefast.plots.interpolations import draw_interpolations
from vaefast.plots.latents import draw_manifold
from vaefast.plots.prior_samples import draw_prior_samples
from vaefast.plots.reconstructions import draw_reconstructions

SHAPES = [(28, 28), (8, 8), (1, 7)]
MINUS = "\N{MINUS SIGN}"


def grey(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).random(shape)


def shown(axes: Axes) -> np.ndarray:
    """The array behind the one image of a panel."""
    (image,) = axes.images
    assert image.get_clim() == (0.0, 1.0)
    return np.asarray(image.get_array())


def corner(axes: Axes) -> tuple[int, int]:
    """Upper left corner of a panel in device pixels of the page: (row, column)."""
    figure = axes.get_figure()
    return round(figure.bbox.height - axes.bbox.y1), round(axes.bbox.x0)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def pixels(figure: Figure, folder: Path) -> np.ndarray:
    """The saved file as grey levels, (page height, page width)."""
    path = folder / "figure.png"
    sheet.save(figure, path)
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def is_crisp(axes: Axes, page: np.ndarray) -> bool:
    """Whether the panel is its image with every pixel a uniform square of one whole size, and nothing else."""
    values = shown(axes)
    top, left = corner(axes)
    scale = round(axes.bbox.width / values.shape[1])
    levels = np.minimum(np.floor(values * 256), 255)
    expected = np.kron(levels, np.ones((scale, scale)))
    region = page[top : top + expected.shape[0], left : left + expected.shape[1]]
    surrounding = page[top - 1 : top + expected.shape[0] + 1, left - 1 : left + expected.shape[1] + 1].copy()
    surrounding[1:-1, 1:-1] = 140
    framed = bool(np.all(surrounding == 140))  # grey 0x8c: neither a part of the image nor of the page
    return scale >= 1 and framed and np.array_equal(region, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_prior_samples_shows_every_sample_row_by_row(shape):
    probabilities = grey(25, shape[0] * shape[1])
    figure = draw_prior_samples(probabilities, shape)
    assert len(figure.axes) == 25
    for axes, expected in zip(figure.axes, probabilities, strict=True):
        assert np.array_equal(shown(axes), expected.reshape(shape))
    corners = [corner(axes) for axes in figure.axes]
    assert corners == sorted(corners)
    rows, columns = ({place[i] for place in corners} for i in (0, 1))
    assert len(rows) == len(columns) == 5
    for places in (sorted(rows), sorted(columns)):
        assert len(set(np.diff(places))) == 1  # even spacing


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (7, 3, 3), (12, 4, 3), (26, 6, 5)])
def test_prior_samples_takes_any_count(count, columns, rows):
    figure = draw_prior_samples(grey(count, 6), (2, 3))
    assert len(figure.axes) == count
    corners = [corner(axes) for axes in figure.axes]
    assert len({left for _, left in corners}) == columns
    assert len({top for top, _ in corners}) == rows


@pytest.mark.parametrize("shape", SHAPES)
def test_reconstructions_stand_below_their_originals(shape):
    originals, probabilities = np.round(grey(10, shape[0] * shape[1])), grey(10, shape[0] * shape[1])
    figure = draw_reconstructions(originals, probabilities, shape)
    assert len(figure.axes) == 20
    upper, lower = figure.axes[:10], figure.axes[10:]
    for index in range(10):
        assert np.array_equal(shown(upper[index]), originals[index].reshape(shape))
        assert np.array_equal(shown(lower[index]), probabilities[index].reshape(shape))
        (top, left), (top_below, left_below) = corner(upper[index]), corner(lower[index])
        assert left == left_below
        assert top + upper[index].bbox.height < top_below
    assert [corner(axes)[1] for axes in upper] == sorted({corner(axes)[1] for axes in upper})
    assert {"original", "reconstruction"} <= set(texts(figure))


@pytest.mark.parametrize(("shape", "rows", "steps"), [((28, 28), 5, 11), ((8, 8), 1, 4), ((1, 7), 2, 5)])
def test_interpolations_lie_between_the_two_originals(shape, rows, steps):
    size = shape[0] * shape[1]
    paths, left, right = grey(rows, steps, size), np.round(grey(rows, size)), 1 - np.round(grey(rows, size))
    figure = draw_interpolations(paths, left, right, shape)
    assert len(figure.axes) == rows * (steps + 2)
    grid = np.array(figure.axes).reshape(rows, steps + 2)
    for row in range(rows):
        assert np.array_equal(shown(grid[row, 0]), left[row].reshape(shape))
        assert np.array_equal(shown(grid[row, -1]), right[row].reshape(shape))
        for step in range(steps):
            assert np.array_equal(shown(grid[row, 1 + step]), paths[row, step].reshape(shape))
        assert {corner(axes)[0] for axes in grid[row]} == {corner(grid[row, 0])[0]}
    spacing = np.diff([corner(axes)[1] for axes in grid[0]])
    assert len(set(spacing[1:-1])) == 1
    assert spacing[0] == spacing[-1] > spacing[1] + 20  # the ends stand apart
    assert np.all(np.diff([corner(axes)[0] for axes in grid[:, 0]]) > grid[0, 0].bbox.height)


def test_interpolations_mark_the_mixing_weight_under_its_column():
    figure = draw_interpolations(grey(2, 11, 64), grey(2, 64), grey(2, 64), (8, 8))
    middle = {text.get_text(): text.get_position()[0] * figure.bbox.width for text in figure.texts}
    bottom_row = figure.axes[13:]
    labels = ["image a", "0", *(f"0.{tenth}" for tenth in range(1, 10)), "1", "image b"]
    for axes, label in zip(bottom_row, labels, strict=True):
        assert middle[label] == pytest.approx((axes.bbox.x0 + axes.bbox.x1) / 2, abs=0.01)


@pytest.mark.parametrize(
    ("steps", "first_labels"), [(2, ["0", "1"]), (5, ["0", "0.25", "0.5"]), (21, ["0", "0.1"]), (20, ["0", "1"])]
)
def test_interpolations_mark_as_many_weights_as_fit(steps, first_labels):
    image = grey(1, 784)
    figure = draw_interpolations(grey(1, steps, 784), image, image, (28, 28))
    marked = [label for label in texts(figure) if label[0].isdigit()]
    assert marked[: len(first_labels)] == first_labels
    assert marked[-1] == "1"
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text() in [*marked, "image a", "image b"]]
    boxes.sort(key=lambda box: box.x0)
    assert all(before.x1 < after.x0 for before, after in pairwise(boxes))


def test_headings_name_the_data():
    image = grey(1, 64)
    for title, figure in (
        (prior_samples.TITLE, draw_prior_samples(image, (8, 8), data_name="digits 8x8")),
        ("Reconstructions", draw_reconstructions(image, image, (8, 8), data_name="digits 8x8")),
        (
            "Interpolations between posterior means",
            draw_interpolations(grey(1, 3, 64), image, image, (8, 8), data_name="digits 8x8"),
        ),
        ("Evidence lower bound", draw_elbo_curve([1], [-2.0], [-3.0], "digits 8x8")),
    ):
        assert {title, "digits 8x8"} <= set(texts(figure))
        boxes = {text.get_text(): text.get_window_extent() for text in figure.texts}
        assert boxes[title].x1 < boxes["digits 8x8"].x0


def test_every_text_lies_on_the_page():
    name = "a long name of a data set, with $ and _"
    narrow = grey(1, 20)
    for figure in (
        draw_prior_samples(narrow, (20, 1), data_name=name),
        draw_reconstructions(narrow, narrow, (20, 1), data_name=name),
        draw_interpolations(grey(1, 2, 20), narrow, narrow, (20, 1), data_name=name),
        draw_elbo_curve([1, 2], [-123456.0, -123455.9], [-123457.0, np.nan], name),
    ):
        for part in (*figure.texts, *figure.axes):  # an axes' box holds its labels and notes
            box = part.get_tightbbox()
            assert 0 <= box.x0 < box.x1 <= figure.bbox.width, part
            assert 0 <= box.y0 < box.y1 <= figure.bbox.height, part


def test_elbo_lines_hold_the_given_numbers_in_order_of_the_epochs():
    epochs = np.arange(1, 31)
    train, test = -100 - 60 / epochs, -102 - 50 / epochs
    order = np.random.default_rng(3).permutation(30)
    (axes,) = draw_elbo_curve(epochs[order], train[order], test[order], "MNIST").axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["train", "test"]
    for name, values in (("train", train), ("test", test)):
        assert np.array_equal(lines[name].get_xdata(), epochs)
        assert np.array_equal(lines[name].get_ydata(), values)
    labels = [text.get_text() for text in axes.texts]
    assert any("train" in label and f"{MINUS}102.00" in label for label in labels)
    assert any("test" in label and f"{MINUS}103.67" in label for label in labels)
    assert "nats" in axes.get_ylabel()


@pytest.mark.parametrize(("first", "last"), [(0, 1), (1, 2), (1, 3), (1, 30), (5, 300), (0, 100000)])
def test_epoch_ticks_are_epochs(first, last):
    epochs = np.unique(np.linspace(first, last, 30).astype(int))
    (axes,) = draw_elbo_curve(epochs, -1.0 / (1 + epochs), [], "MNIST").axes
    ticks = axes.get_xticks()
    assert len(ticks) >= 2
    assert np.all(ticks == np.round(ticks))
    assert np.all((ticks >= first) & (ticks <= last))


@pytest.mark.parametrize("test", [[], [-160.0], [np.nan]])
def test_one_epoch_shows_a_point(test, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_elbo_curve([1], [-206.0], test, "MNIST")
        pixels(figure, tmp_path)
    (axes,) = figure.axes
    assert list(axes.get_xticks()) == [1]
    assert len(axes.lines) == 1 + (test == [-160.0])
    assert all(line.get_marker() in ("o", "s") for line in axes.lines)


def test_epochs_without_a_test_value_are_left_out():
    (axes,) = draw_elbo_curve([1, 2, 3, 4], [-9.0, -8.0, -7.0, -6.0], [np.nan, -9.5, -9.0, np.nan], "MNIST").axes
    test = axes.lines[1]
    assert list(test.get_xdata()) == [2, 3]
    assert list(test.get_ydata()) == [-9.5, -9.0]
    assert any(f"{MINUS}9.00 (epoch 3)" in text.get_text() for text in axes.texts)


def test_early_epochs_far_below_do_not_flatten_the_rest_and_are_told():
    epochs = np.arange(1, 31)
    train = -100 - 20 * np.exp(-epochs / 8)
    (calm,) = draw_elbo_curve(epochs, train, train - 1, "MNIST").axes
    assert calm.get_ylim()[0] < train.min() - 1
    assert len(calm.texts) == 2

    train[0] = -5000.0
    (axes,) = draw_elbo_curve(epochs, train, train - 1, "MNIST").axes
    low, high = axes.get_ylim()
    assert low > -200
    assert high > train.max()
    assert np.ptp(train[1:]) > 0.25 * (high - low)
    assert any(f"epoch 1 below this range, down to {MINUS}5001.0" in text.get_text() for text in axes.texts)


def test_the_last_epoch_is_always_in_range():
    train = np.append(np.linspace(-110, -100, 29), -900.0)
    (axes,) = draw_elbo_curve(np.arange(30), train, [], "MNIST").axes
    assert axes.get_ylim()[0] <= -900.0
    assert len(axes.texts) == 1


def test_final_values_that_meet_are_written_apart():
    (axes,) = draw_elbo_curve([1, 2], [-110.0, -100.0], [-110.0, -100.0], "MNIST").axes
    first, second = (text.get_window_extent() for text in axes.texts)
    assert first.y1 <= second.y0 or second.y1 <= first.y0


@pytest.mark.parametrize("shape", [*SHAPES, (5, 3)])
def test_a_saved_panel_is_its_image_in_uniform_squares(shape, tmp_path):
    size = shape[0] * shape[1]
    figure = draw_prior_samples(grey(3, size), shape, data_name="noise")
    page = pixels(figure, tmp_path)
    assert all(is_crisp(axes, page) for axes in figure.axes)
    figure = draw_interpolations(grey(2, 2, size), grey(2, size), grey(2, size), shape)
    page = pixels(figure, tmp_path)
    assert all(is_crisp(axes, page) for axes in figure.axes)
    assert page[0, 0] == 255


def test_the_crispness_check_sees_a_smeared_image(tmp_path):
    figure = draw_prior_samples(grey(2, 64), (8, 8))
    box = figure.axes[1].get_position()
    figure.axes[1].set_position((box.x0, box.y0, 0.97 * box.width, box.height))
    page = pixels(figure, tmp_path)
    assert is_crisp(figure.axes[0], page)
    assert not is_crisp(figure.axes[1], page)


def test_an_isolated_bright_pixel_is_one_square(tmp_path):
    image = np.zeros((1, 784))
    image[0, 28 * 5 + 9] = 1.0
    figure = draw_reconstructions(image, image, (28, 28))
    page = pixels(figure, tmp_path)
    for axes in figure.axes:
        top, left = corner(axes)
        scale = round(axes.bbox.width) // 28
        panel = page[top : top + 28 * scale, left : left + 28 * scale]
        rows, columns = np.nonzero(panel)
        assert scale >= 2
        assert rows.size == scale * scale
        assert np.all(panel[rows, columns] == 255)
        assert (rows.min(), rows.max()) == (5 * scale, 6 * scale - 1)
        assert (columns.min(), columns.max()) == (9 * scale, 10 * scale - 1)


def test_every_grey_level_of_a_byte_survives(tmp_path):
    figure = draw_prior_samples(np.arange(256)[None] / 255, (16, 16))
    page = pixels(figure, tmp_path)
    top, left = corner(figure.axes[0])
    scale = round(figure.axes[0].bbox.width) // 16
    levels = page[top : top + 16 * scale : scale, left : left + 16 * scale : scale]
    assert np.array_equal(levels, np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("count", [1, 3, 13])
def test_any_number_of_panels_is_crisp(count, tmp_path):
    figure = draw_reconstructions(grey(count, 6), grey(count, 6), (2, 3))
    page = pixels(figure, tmp_path)
    assert all(is_crisp(axes, page) for axes in figure.axes)


def test_page_size_is_a_whole_number_of_pixels():
    """A page of 109.99999999999999 pixels, as inches times 300 can give, would lose one."""
    for size in range(1, 300):
        figure = sheet.Sheet(size, 2 * size, title="", data_name="").figure
        width, height = figure.canvas.get_width_height()
        assert (width, height) == (figure.bbox.width, figure.bbox.height)


def test_saved_bytes_are_repeatable_and_free_of_metadata(tmp_path):
    def written(name: str) -> bytes:
        figure = draw_interpolations(grey(1, 3, 64), grey(1, 64), grey(1, 64), (8, 8), data_name="digits 8x8")
        sheet.save(figure, tmp_path / name)
        sheet.save(figure, tmp_path / f"again-{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()
        return (tmp_path / name).read_bytes()

    first = written("a.png")
    assert first == written("b.png")
    # A person's own matplotlib settings change nothing.
    with matplotlib.rc_context({"savefig.bbox": "tight", "font.size": 20, "image.cmap": "viridis", "savefig.dpi": 33}):
        assert first == written("c.png")
    with Image.open(io.BytesIO(first)) as image:
        assert set(image.info) <= {"dpi"}


def test_arrays_are_copied(tmp_path):
    probabilities = np.zeros((1, 4))
    figure = draw_prior_samples(probabilities, (2, 2))
    probabilities[:] = 1.0
    assert np.all(shown(figure.axes[0]) == 0.0)


def test_save_replaces_a_file(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    sheet.save(draw_prior_samples(grey(1, 4), (2, 2)), str(path))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert os.listdir(tmp_path) == ["figure.png"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failing_write_leaves_things_as_they_were(function, old, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "figure.png"
    if old is not None:
        path.write_bytes(old)
    figure = draw_prior_samples(grey(1, 4), (2, 2))
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OutputError) as caught:
        sheet.save(figure, path)
    message = str(caught.value)
    assert str(path) in message
    assert os.strerror(errno.ENOSPC) in message
    assert "\n" not in message
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([] if old is None else [old])


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    figure = draw_prior_samples(grey(1, 4), (2, 2))
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sheet.save(figure, tmp_path / "figure.png")
    assert list(tmp_path.iterdir()) == []


def test_save_explains_an_unusable_path(tmp_path):
    figure = draw_prior_samples(grey(1, 4), (2, 2))
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "absent" / "a.png", tmp_path / "file" / "a.png", tmp_path / "folder.png"):
        with pytest.raises(OutputError, match="cannot write"):
            sheet.save(figure, path)
    with pytest.raises(ValueError, match=r"\.png"):
        sheet.save(figure, tmp_path / "figure.pdf")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


@pytest.mark.parametrize("bad", [-0.01, 1.01, 255.0, np.nan, np.inf])
def test_values_outside_the_unit_interval_are_refused(bad):
    image = np.zeros((3, 4))
    wrong = image.copy()
    wrong[1, 2] = bad
    message = r"expected values in \[0, 1\], got .* at \(.*1, 2\)"
    with pytest.raises(ValueError, match=f"^probabilities: {message}"):
        draw_prior_samples(wrong, (2, 2))
    with pytest.raises(ValueError, match=f"^originals: {message}"):
        draw_reconstructions(wrong, image, (2, 2))
    with pytest.raises(ValueError, match=f"^probabilities: {message}"):
        draw_reconstructions(image, wrong, (2, 2))
    with pytest.raises(ValueError, match=f"^path_probabilities: {message}"):
        draw_interpolations(wrong[None], image[:1], image[:1], (2, 2))
    with pytest.raises(ValueError, match=f"^right: {message}"):
        draw_interpolations(np.zeros((3, 2, 4)), image, wrong, (2, 2))


def test_a_wrong_shape_is_refused_with_the_one_expected():
    with pytest.raises(ValueError, match=r"probabilities: expected shape \(n, 4\) for images of 2 x 2, got \(5, 3\)"):
        draw_prior_samples(grey(5, 3), (2, 2))
    for shape in ((4,), (0, 4), (1, 2, 2)):
        with pytest.raises(ValueError, match=r"expected shape \(n, 4\)"):
            draw_prior_samples(grey(*shape), (2, 2))
    with pytest.raises(ValueError, match=r"probabilities: expected shape \(3, 4\)"):
        draw_reconstructions(grey(3, 4), grey(2, 4), (2, 2))
    with pytest.raises(ValueError, match=r"path_probabilities: expected shape \(rows, steps, 4\)"):
        draw_interpolations(grey(3, 4), grey(3, 4), grey(3, 4), (2, 2))
    with pytest.raises(ValueError, match=r"left: expected shape \(3, 4\)"):
        draw_interpolations(grey(3, 2, 4), grey(2, 4), grey(3, 4), (2, 2))
    with pytest.raises(ValueError, match="at least 2 steps"):
        draw_interpolations(grey(3, 1, 4), grey(3, 4), grey(3, 4), (2, 2))
    for image_shape in ((0, 4), (-2, -2), (4,), (1, 2, 2)):
        with pytest.raises(ValueError, match=r"image_shape: expected \(height, width\)"):
            draw_prior_samples(grey(5, 4), image_shape)


@pytest.mark.parametrize(
    ("epochs", "train", "test", "message"),
    [
        ([], [], [], "epochs: expected shape"),
        ([[1]], [[1.0]], [], "epochs: expected shape"),
        ([1, 1], [1.0, 2.0], [], "distinct whole numbers"),
        ([1, 1.5], [1.0, 2.0], [], "distinct whole numbers"),
        ([1, np.nan], [1.0, 2.0], [], "distinct whole numbers"),
        ([1, 2], [1.0], [], r"train_elbo: expected shape \(2,\)"),
        ([1, 2], [1.0, 2.0], [1.0], r"test_elbo: expected shape \(2,\)"),
        ([1, 2], [1.0, np.nan], [], "train_elbo: expected finite"),
        ([1, 2], [1.0, 2.0], [1.0, -np.inf], "test_elbo: expected finite"),
    ],
)
def test_elbo_curve_refuses_what_it_cannot_draw(epochs, train, test, message):
    with pytest.raises(ValueError, match=message):
        draw_elbo_curve(epochs, train, test, "MNIST")


def test_importing_the_module_starts_no_window_toolkit():
    code = "import sys, vaefast.plots.run_figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    root = Path(sheet.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_pictures_in_colour_are_drawn_in_colour(tmp_path):
    colours = np.random.default_rng(0).random((3, 2 * 4 * 3))
    shape = (2, 4, 3)
    for figure, count in (
        (draw_prior_samples(colours, shape), 3),
        (draw_reconstructions(colours, colours[::-1], shape), 6),
        (draw_interpolations(np.tile(colours[:, None], (1, 3, 1)), colours, colours, shape), 15),
    ):
        drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
        assert len(drawn) == count
        np.testing.assert_array_equal(drawn[0], colours[0].reshape(shape))
        sheet.save(figure, tmp_path / "colours.png")
    mosaic = draw_manifold(np.tile(colours[:1, None], (2, 2, 1)), shape).axes[0].images[0].get_array()
    np.testing.assert_array_equal(mosaic[0, 0], colours[0, :3])
    with pytest.raises(ValueError, match=r"expected shape \(n, 24\) for images of 2 x 4 x 3"):
        draw_prior_samples(colours[:, :8], shape)


@pytest.mark.parametrize("far", [[0], [4], [0, 4], [0, 1, 2, 3, 4]])
def test_bounds_at_the_end_of_float64_are_told_and_hide_nothing(far, tmp_path):
    """One test row of 1e200 makes such a bound."""
    test = np.array([-5.0, -4.5, -4.2, -4.1, -4.0])
    test[far] = -np.finfo(np.float64).max
    figure = draw_elbo_curve(np.arange(1, 6), np.linspace(-5, -4, 5), test)
    sheet.save(figure, tmp_path / "a.png")
    low, high = figure.axes[0].get_ylim()
    assert low <= -5
    assert high > -4
    assert low > -20
    assert any("below this range" in text.get_text() for text in figure.axes[0].texts)
