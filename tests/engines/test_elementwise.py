"""The vectorisable scalar functions: largest error over the full range, special values, and that loops do vectorise."""

import numpy as np
import pytest

from vaefast.engines.numba_cpu import elementwise, rising
from vaefast.engines.numba_cpu.compiler import kernel


@kernel
def apply_exp(x, out):
    for i in range(x.size):
        out[i] = elementwise.exp(x[i])


@kernel
def apply_exp_of_negative(x, out):
    for i in range(x.size):
        out[i] = elementwise.exp_of_negative(x[i])


@kernel
def apply_log(x, out):
    for i in range(x.size):
        out[i] = elementwise.log(x[i])


@kernel
def apply_log_of_one_and(x, out):
    for i in range(x.size):
        out[i] = elementwise.log_of_one_and(x[i])


@kernel
def apply_log_of_one_and_double(x, out):
    for i in range(x.size):
        out[i] = rising.log_of_one_and_double(x[i])


@kernel
def apply_tanh(x, out):
    for i in range(x.size):
        out[i] = elementwise.tanh(x[i])


@kernel
def apply_cosine(x, out):
    for i in range(x.size):
        out[i] = elementwise.cosine_of_turn(x[i])


@kernel
def apply_sine(x, out):
    for i in range(x.size):
        out[i] = elementwise.sine_of_turn(x[i])


def values(loop, x):
    out = np.empty_like(x)
    loop(x, out)
    return out


def every_nth_float(low, high, n):
    """Positive float32 numbers from low to high, every n-th of them."""
    first, last = np.float32(low).view(np.int32), np.float32(high).view(np.int32)
    return np.arange(first, last, n, dtype=np.int32).view(np.float32)


def relative(got, exact):
    return np.max(np.abs(got - exact) / np.abs(exact))


def test_exp_over_its_range():
    x = np.concatenate([every_nth_float(1e-30, 88.7, 997), -every_nth_float(1e-30, 87.3, 997)])
    assert relative(values(apply_exp, x), np.exp(x.astype(np.float64))) < 1.2e-7


def test_exp_underflows_overflows_and_keeps_nan():
    x = np.array([-np.inf, -1000, -104, 89, 1000, np.inf, np.nan], np.float32)
    assert np.array_equal(values(apply_exp, x)[[0, 1, 3, 4, 5, 6]], [0, 0, np.inf, np.inf, np.inf, np.nan], equal_nan=True)
    assert 0 <= values(apply_exp, x)[2] < 1e-44


def test_exp_of_negative_over_its_range():
    x = -every_nth_float(1e-30, 87.3, 499)
    assert relative(values(apply_exp_of_negative, x), np.exp(x.astype(np.float64))) < 1.2e-7
    special = values(apply_exp_of_negative, np.array([0, -88, -1e30, -np.inf, np.nan], np.float32))
    assert special[0] == 1
    assert np.all((special[1:4] > 0) & (special[1:4] < 1.3e-38))
    assert np.isnan(special[4])


def test_log_over_the_uniforms_and_beyond():
    x = np.concatenate([every_nth_float(2.0**-24, 1, 499), every_nth_float(1, 1e30, 4999)[1:]])
    assert relative(values(apply_log, x), np.log(x.astype(np.float64))) < 2e-7


def test_log_of_one_and_over_its_range_keeps_nothing_and_nan():
    r = every_nth_float(1e-38, 2.0**125, 997)
    assert relative(values(apply_log_of_one_and, r), np.log1p(r.astype(np.float64))) < 3e-7
    assert np.array_equal(values(apply_log_of_one_and, np.array([0, np.nan], np.float32)), [0, np.nan], equal_nan=True)


def test_log_of_one_and_in_float64():
    r = np.concatenate([[0.0], np.exp(np.random.default_rng(0).uniform(-80, 80, 1_000_000))])
    got = values(apply_log_of_one_and_double, r)
    assert got[0] == 0
    assert relative(got[1:], np.log1p(r[1:])) < 6e-16  # 4e-16, and what NumPy's own is off by


@pytest.mark.parametrize(("loop", "function"), [(apply_cosine, np.cos), (apply_sine, np.sin)])
def test_sine_and_cosine_of_a_turn(loop, function):
    x = np.linspace(0, 1, 1_000_003, dtype=np.float32)
    assert np.max(np.abs(values(loop, x) - function(2 * np.pi * x.astype(np.float64)))) < 1.2e-7


def test_tanh_over_its_range_is_odd_saturates_and_keeps_nan():
    x = every_nth_float(1e-30, 50, 499)
    assert relative(values(apply_tanh, x), np.tanh(x.astype(np.float64))) < 3e-7
    assert np.array_equal(values(apply_tanh, -x), -values(apply_tanh, x))
    special = values(apply_tanh, np.array([np.inf, -np.inf, 0, np.nan], np.float32))
    assert np.array_equal(special, [1, -1, 0, np.nan], equal_nan=True)


@pytest.mark.parametrize("loop", [apply_exp, apply_exp_of_negative, apply_log, apply_log_of_one_and, apply_tanh, apply_cosine])
def test_the_loop_is_vector_code_without_calls(loop):
    values(loop, np.ones(4, np.float32))
    assembly = next(iter(loop.inspect_asm().values()))
    assert "mulps" in assembly or "fmul\tv" in assembly or "fmadd" in assembly or "fmla" in assembly
    for call in ("expf", "logf", "tanhf", "cosf", "sinf"):
        assert f"{call}@" not in assembly
        assert f"${call}" not in assembly
