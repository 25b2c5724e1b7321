"""bfloat16: every number of it, every neighbour, and the ties between them, against an oracle that shares nothing."""

import naive
import numpy as np
import pytest

from vaefast.models.bfloat16 import rounded

# Every bfloat16, of both signs, with its denormals, infinities and NaNs.
ALL = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
FINITE = ALL[np.isfinite(ALL)]
LARGEST = float(FINITE.max())
POSITIVE = np.sort(FINITE[FINITE > 0]).astype(np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bfloat16_stays_itself(dtype):
    with np.errstate(invalid="ignore"):  # of NaNs that signal
        values = ALL.astype(dtype)
    assert rounded(values).dtype == dtype
    assert np.array_equal(rounded(values), values, equal_nan=True)
    zeros = np.array([0.0, -0.0], dtype)
    assert np.array_equal(np.signbit(rounded(zeros)), [False, True])


@pytest.mark.parametrize("sign", [1, -1])
def test_float32_goes_to_the_nearest_and_at_a_tie_to_the_even_one(sign):
    """Between each bfloat16 and the next: the first float32, those around the middle, and the last."""
    low, high = POSITIVE[:-1].astype(np.float32), POSITIVE[1:].astype(np.float32)
    even = np.where(low.view(np.uint32) >> 16 & 1, high, low)
    words = low.view(np.uint32)
    for within, expected in ((1, low), (0x7FFF, low), (0x8000, even), (0x8001, high), (0xFFFF, high)):
        between = (words + np.uint32(within)).view(np.float32)
        assert np.array_equal(rounded(sign * between), sign * expected), within


@pytest.mark.parametrize("sign", [1, -1])
def test_float64_is_rounded_once(sign):
    """By way of float32 the numbers just beside a tie would become the tie."""
    normal = POSITIVE[POSITIVE >= 2.0**-126]
    low, high = normal[:-1], normal[1:]
    tie = (low + high) / 2
    even = np.where(low.astype(np.float32).view(np.uint32) >> 16 & 1, high, low)
    assert np.array_equal(rounded(sign * tie), sign * even)
    assert np.array_equal(rounded(sign * np.nextafter(tie, 0)), sign * low)
    assert np.array_equal(rounded(sign * np.nextafter(tie, np.inf)), sign * high)


def test_what_is_past_the_largest():
    tie = np.float32(LARGEST + (2.0**128 - LARGEST) / 2)
    assert rounded(np.array([np.nextafter(tie, np.float32(0)), tie])).tolist() == [LARGEST, np.inf]
    assert rounded(np.array([1e300, -1e39])).tolist() == [naive.rounded(1e300), naive.rounded(-1e39)]
    assert np.isinf(rounded(np.array([np.inf, -np.inf]))).all()


def test_no_number_is_made_of_what_is_none():
    """A NaN whose mantissa is all ones would carry into its sign."""
    patterns = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], np.uint32).view(np.float32)
    assert np.isnan(rounded(patterns)).all()
    assert np.isnan(rounded(np.array([np.nan]))).all()


def test_any_numbers_in_any_layout_are_as_the_oracle_says():
    values = np.random.default_rng(0).standard_normal((7, 6)) * 10.0 ** np.arange(-3, 3)
    expected = [[naive.rounded(float(value)) for value in row] for row in values]
    assert np.array_equal(rounded(values), expected)
    assert np.array_equal(rounded(values.T), np.transpose(expected))
    assert np.array_equal(rounded(values[:, ::2]), np.array(expected)[:, ::2])
    assert rounded(np.empty((0, 3))).shape == (0, 3)
