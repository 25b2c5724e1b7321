"""Likelihoods of counts at their ends: a dispersion from 1e-4 to 1e6, counts to 1e7, rows of zeros, columns never seen."""

import decimal
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import COUNT_CASES

import vaefast
from vaefast import engines
from vaefast.engines.contract import State
from vaefast.engines.numba_cpu import rising
from vaefast.engines.reference import ReferenceEngine
from vaefast.models import count_rows, counts
from vaefast.models.count_rows import CountRows
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import PANEL, Layout
from vaefast.models.settings import LOG_DISPERSION_BOUNDS, ModelSettings, TrainingSettings

THETAS = np.exp(np.linspace(math.log(1e-4), math.log(1e6), 25))
LARGE = (17, 18, 40, 999, 10**5, 10**7)
FOR_CPU = [
    pytest.param(name, marks=pytest.mark.skipif(engines.why_not(name) is not None, reason=f"{name}: {engines.why_not(name)}"))
    for name in ("numba", "cython")
]
by_engine = pytest.mark.parametrize("name", FOR_CPU)


def exact_rising(x, theta):
    """R and S of a count up to some thousands, term by term in 60 decimal digits."""
    with decimal.localcontext(prec=60):
        theta = decimal.Decimal(theta)
        logarithm = sum((1 + decimal.Decimal(k) / theta).ln() for k in range(1, x))
        return float(logarithm), float(sum(theta / (theta + k) for k in range(x)))


def rising_of(counts_, thetas):
    """R and S of each count and dispersion as the kernels have them, float64 (counts, thetas)."""
    t = np.zeros(-(-len(thetas) // PANEL) * PANEL, np.float32)
    t[: len(thetas)] = np.log(thetas)
    table = np.zeros(len(t) // PANEL * rising.PANEL_OF_TABLE, np.float32)
    rising.tabulate(t, table, 0, len(t) // PANEL)
    logarithms, slopes = np.empty((len(counts_), len(thetas))), np.empty((len(counts_), len(thetas)))
    for i, x in enumerate(counts_):
        for j, log_theta in enumerate(t[: len(thetas)]):
            place = j // PANEL * rising.PANEL_OF_TABLE + (min(x, rising.TABLED) - 1) * PANEL + j % PANEL
            more = rising.beyond_table(float(x), float(rising.dispersion(log_theta))) if x > rising.TABLED else (0.0, 0.0)
            logarithms[i, j], slopes[i, j] = table[place] + more[0], table[place + rising.SLOPES] + more[1]
    return logarithms, slopes


def test_the_rising_factorial_against_exact_arithmetic():
    """Small counts from the table, large ones from Stirling's difference, over the full range of dispersions."""
    xs, thetas = (1, 2, 3, 16, 17, 18, 40, 999), THETAS[::4]
    logarithms, slopes = rising_of(xs, thetas)
    for i, x in enumerate(xs):
        for j, theta in enumerate(thetas):
            held = math.exp(float(np.clip(np.float32(math.log(theta)), rising.LOWEST, rising.HIGHEST)))
            logarithm, slope = exact_rising(x, held)
            # exp is right to 1.2e-7 and log1p to 3e-7; up to 16 positive terms are added in float32, 16 * 6e-8.
            assert logarithms[i, j] == pytest.approx(logarithm, rel=1.4e-6, abs=1e-30), (x, theta)
            assert slopes[i, j] == pytest.approx(slope, rel=1.4e-6), (x, theta)


def test_stirlings_difference_is_right_for_the_largest_counts():
    """R(x + 1) - R(x) = log(1 + x / theta), and S(x + 1) - S(x) = theta / (theta + x), whatever the size of R and S."""
    for x in LARGE:
        for theta in THETAS:
            (low, low_slope), (high, high_slope) = (rising.beyond_table(float(n), theta) for n in (x, x + 1))
            size = x * math.log1p(x / theta) + x
            assert high - low == pytest.approx(math.log1p(x / theta), rel=1e-9, abs=4e-16 * size)
            # The terms left out of S at z = 16 are under 1e-11 of theta / z^6.
            assert high_slope - low_slope == pytest.approx(theta / (theta + x), rel=1e-6, abs=1e-15 * theta * math.log1p(x))


def of_one_row(name, model, x, outputs, log_theta, zero_logits=None):
    """log p(x | z) of a row by the engine of this name, whose decoder says these outputs whatever z."""
    layout = Layout(model)
    vector = np.zeros(layout.size, np.float32)
    views = layout.views(vector)
    views["logits.bias"][...] = outputs
    if "x_log_dispersion" in views:
        views["x_log_dispersion"][...] = log_theta
    if zero_logits is not None:
        views["zero_logits.bias"][...] = zero_logits
    engine = engines.create(name, model, TrainingSettings(batch_size=1, binarize="none"), 1)
    engine.load_state(State.initial(vector))
    terms = engine.evaluate(engine.place(x[None]))
    engine.train(engine.place(x[None]), np.array([0]))
    gradient = layout.views(engine.state().first_moments / 0.1)
    engine.close()
    return float(terms.log_likelihood[0]), gradient


@by_engine
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("largest", [1, 30, 10**4, 10**7])
@pytest.mark.parametrize("theta", [1e-4, 1.0, 1e3, 1e6])
def test_one_row_over_the_full_range_against_float64(name, theta, largest, zeros):
    rng = np.random.default_rng(0)
    x = (rng.random(40) * largest * (rng.random(40) < 0.5)).astype(np.int64)
    x[3] = largest
    outputs, log_theta = rng.normal(0, 2, 40).astype(np.float32), np.full(40, math.log(theta), np.float32)
    h = rng.normal(0, 3, 40).astype(np.float32) if zeros else None
    model = ModelSettings(40, (), 2, likelihood="negative-binomial", zero_inflation=zeros, encoder_input="log1p")
    got, gradient = of_one_row(name, model, x, outputs, log_theta, h)
    exact = [part if part is None else part[None].astype(np.float64) for part in (x, outputs, h)]
    size = exact[0].sum(axis=1, keepdims=True)
    terms = counts.log_likelihood_terms(exact[0], size, exact[1], "negative-binomial", log_theta.astype(np.float64), exact[2])
    # A rate is right to some units of float32, and so the logarithm of its power to x times as much.
    tolerance = 1e-6 * (np.abs(terms).sum() + x.sum())
    assert got == pytest.approx(float(terms.sum()), abs=tolerance)
    slopes = counts.slopes(exact[0], size, exact[1], "negative-binomial", log_theta.astype(np.float64), exact[2])
    for tensor, slope in (("logits.bias", slopes.outputs), ("x_log_dispersion", slopes.x_log_dispersion)):
        slope = -slope[0]
        if tensor == "x_log_dispersion":
            slope = counts.held_dispersion_gradient(slope, log_theta)
        # Both are differences of numbers of the size of the count and its rate, each rounded once.
        rates = size[0] * np.exp(counts.log_shares(exact[1]))[0]
        assert (np.abs(gradient[tensor] - slope) < 2e-6 * np.abs(slope).max() + 1e-6 * (x + rates)).all(), tensor


@by_engine
@pytest.mark.parametrize("case", COUNT_CASES, ids=lambda case: case.name)
def test_a_row_of_zeros_has_the_log_probability_it_must_have_and_no_gradient(name, case):
    model = case.model
    empty = np.zeros((3, model.pixels), np.int64)
    engine = engines.create(name, model, TrainingSettings(batch_size=3, binarize="none"), 2)
    vector = initial_parameters(Layout(model), "fan-in", 0)
    engine.load_state(State.initial(vector))
    assert np.array_equal(engine.evaluate(engine.place(empty)).log_likelihood, np.zeros(3))
    engine.train(engine.place(empty), np.arange(3))
    gradient = engine.layout.views(engine.state().first_moments)
    # Rates of zero: no output, and no cause of a zero, is better than another.
    for tensor in ("logits.weight", "logits.bias", "x_log_dispersion", "zero_logits.bias"):
        assert not gradient.get(tensor, np.zeros(1)).any(), tensor
    engine.close()


@pytest.mark.parametrize("direction", [1, -1])
def test_a_dispersion_stops_at_its_bounds_and_comes_back(direction):
    model = ModelSettings(3, (), 1, likelihood="negative-binomial", encoder_input="log1p")
    layout = Layout(model)
    vector = np.zeros(layout.size)
    layout.views(vector)["x_log_dispersion"][...] = 30.0 * direction
    training = TrainingSettings(batch_size=200, binarize="none")
    fast = [engines.create(name, model, training, 1) for name in ("numba", "cython") if engines.why_not(name) is None]
    for engine in (*fast, ReferenceEngine(model, training, 1, np.float64)):
        engine.load_state(State.initial(vector, np.float64))
        rng = np.random.default_rng(0)
        theta = 1.0
        x = rng.poisson(rng.gamma(theta, 40 / theta, (200, 3)))
        terms = engine.evaluate(engine.place(x))
        assert np.isfinite(terms.log_likelihood).all()
        engine.train(engine.place(x), np.arange(200))
        # The data are overdispersed, and not without end: from either side the gradient leads back.
        assert (np.sign(engine.layout.views(engine.state().first_moments)["x_log_dispersion"]) == direction).all()
        engine.close()


def test_the_c_header_has_the_bounds_of_the_settings():
    text = (Path(vaefast.__file__).parent / "engines/cython_cpu/rising.h").read_text()
    for name, bound in zip(("LOWEST_LOG_DISPERSION", "HIGHEST_LOG_DISPERSION"), LOG_DISPERSION_BOUNDS, strict=True):
        assert np.float32(re.search(rf"#define {name} (\S+)f$", text, re.MULTILINE)[1]) == np.float32(bound), name


@pytest.mark.parametrize(
    ("largest", "kept"),
    [(255, np.uint8), (256, np.uint16), (65_535, np.uint16), (65_536, np.float32), (70_000, np.float32)],
)
def test_sparse_and_dense_tables_of_any_type_are_the_same_rows(largest, kept):
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    table = rng.poisson(0.7, (50, 33))
    table[4, 7] = largest
    rows = CountRows.of(table)
    assert rows.values.dtype == kept
    assert np.array_equal(rows.dense(np.float64), table)
    given = [kind(table.astype(dtype)) for kind in (sparse.csr_matrix, sparse.csc_array, sparse.coo_array, np.asfortranarray)
             for dtype in (np.int64, np.uint32, np.float32, np.float64)]  # fmt: skip
    for other in map(CountRows.of, given):
        for field in ("starts", "columns", "values"):
            assert np.array_equal(getattr(rows, field), getattr(other, field))
            assert getattr(rows, field).dtype == getattr(other, field).dtype
    assert CountRows.of(table[:4]).values.dtype == np.uint8


@by_engine
@pytest.mark.parametrize("likelihood", ["multinomial", "negative-binomial"])
def test_the_type_that_counts_are_kept_in_changes_no_bit(name, likelihood):
    """Counts up to 255 as bytes, as shorts and as floats, and some above 255 as shorts and as floats."""
    table = np.random.default_rng(0).poisson(2.0, (11, 40))
    model = ModelSettings(40, (9,), 2, likelihood=likelihood, encoder_input="log1p")
    training = TrainingSettings(batch_size=4, binarize="none")
    for largest, kinds in ((255, (np.uint8, np.uint16, np.float32)), (65_535, (np.uint16, np.float32))):
        table[3, 17], found = largest, []
        for kind in kinds:
            rows = replace(CountRows.of(table), values=CountRows.of(table).values.astype(kind))
            engine = engines.create(name, model, training, 2)
            engine.load_state(State.initial(initial_parameters(Layout(model), "glorot", 0)))
            terms = engine.train(engine.place(rows), np.arange(11))
            found.append((engine.state().parameters, terms.elbo, engine.encode(rows)[0], rows.keys()))
            engine.close()
        for other in found[1:]:
            for one, same in zip(found[0], other, strict=True):
                np.testing.assert_array_equal(one, same)


def test_duplicates_add_up_order_does_not_matter_and_explicit_zeros_go():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.csr_matrix((np.array([2, 1, 3, 0, 5]), np.array([4, 0, 4, 1, 2]), np.array([0, 4, 5])), shape=(2, 6))
    before = matrix.copy()
    assert np.array_equal(CountRows.of(matrix).dense(np.int64), [[1, 0, 0, 0, 5, 0], [0, 0, 5, 0, 0, 0]])
    assert np.array_equal(matrix.data, before.data)
    assert np.array_equal(matrix.indices, before.indices)


def test_rows_are_taken_in_any_order_and_neighbours_are_a_view():
    table = np.random.default_rng(1).poisson(0.5, (20, 9))
    rows = CountRows.of(table)
    for chosen in ([3, 3, 0, 19], slice(5, 12), np.arange(20) % 3 == 0, []):
        assert np.array_equal(rows[chosen].dense(np.int64), table[chosen])
    assert np.shares_memory(rows[5:9].values, rows.values)
    assert np.array_equal(rows.totals(), table.sum(axis=1))
    assert np.array_equal(rows.column_totals(), table.sum(axis=0))
    assert (rows.largest, rows.longest) == (table.max(), np.count_nonzero(table, axis=1).max())


def test_columns_are_taken_in_any_order(monkeypatch):
    table = np.random.default_rng(2).poisson(0.5, (20, 9))
    table[3, 4] = 300
    for piece in (1, 1 << 22):
        monkeypatch.setattr(count_rows, "PIECE", piece)
        for chosen in ([4, 0, 8], [1], np.arange(9)[::-1]):
            found, expected = CountRows.of(table).only(chosen), CountRows.of(np.ascontiguousarray(table[:, chosen]))
            for name in ("starts", "columns", "values"):
                assert np.array_equal(getattr(found, name), getattr(expected, name))
                assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert CountRows.of(np.zeros((3, 5), int)).only([2]).shape == (3, 1)


def test_keys_are_those_of_dense_rows():
    from vaefast.models import noise

    table = np.random.default_rng(2).poisson(0.5, (20, 70))
    assert np.array_equal(CountRows.of(table).keys(), noise.row_keys(table.astype(np.float32)))


def test_a_table_wider_than_16_bits_trains_as_the_reference_does():
    width = 70_000
    table = np.zeros((6, width), np.int64)
    table[np.arange(6), [0, 65_535, 65_536, 69_999, 5, 69_999]] = [1, 2, 30, 4, 5, 6]
    rows = CountRows.of(table)
    assert rows.columns.dtype == np.uint32
    model = ModelSettings(width, (4,), 2, likelihood="multinomial", encoder_input="l2")
    training = TrainingSettings(batch_size=4, binarize="none")
    start, states = State.initial(initial_parameters(Layout(model), "glorot", 0)), []
    for name in ("numba", "reference"):
        engine = engines.create(name, model, training, 2)
        engine.load_state(start)
        terms = engine.train(engine.place(rows), np.arange(6))
        states.append((terms.elbo, engine.layout.views(engine.state().first_moments)))
        engine.close()
    assert np.allclose(states[0][0], states[1][0], atol=2e-3)
    for name, tensor in states[1][1].items():
        assert np.abs(states[0][1][name] - tensor).max() <= 2e-5 * np.abs(tensor).max(), name
