"""The counter-based noise: published vectors, three implementations of the same bits, and the distributions."""

import naive
import numpy as np
import pytest

from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.noise import BLOCKS, fill_normals, fill_words, philox_vector, whole_vectors
from vaefast.models import noise
from vaefast.models.noise import Purpose


@kernel
def one_vector(c0, c1, c2, c3, k0, k1, out):
    philox_vector(c0, c1, c2, c3, k0, k1, out, 0)


# Known answers published with the Random123 library: (counter, key, output).
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers_in_numpy_in_jitted_code_and_in_the_oracle(counter, key, answer):
    words = [np.uint64(word) for word in (*counter, *key)]
    assert tuple(int(word) for word in noise.philox4x32(*words)) == answer
    assert tuple(naive.philox4x32(counter, key)) == answer
    out = np.zeros(4 * BLOCKS, np.uint32)
    one_vector(*words, out)
    assert tuple(int(word) for word in out[:4]) == answer


def test_a_changed_counter_bit_changes_the_answer():
    changed = naive.philox4x32((1, 0, 0, 0), (0, 0))
    assert tuple(changed) != KNOWN_ANSWERS[0][2]


def test_words_are_the_oracles_for_any_example_step_and_large_seed():
    seed, examples = 2**63 + 12345, [0, 7, 59_999, 2**32 - 1]
    words = noise.words(seed, Purpose.TRAINING_PIXELS, 2**31, examples, 10)
    assert words.dtype == np.uint32
    for row, example in zip(words, examples, strict=True):
        assert row.tolist() == naive.words(seed, Purpose.TRAINING_PIXELS, 2**31, example, 10)


def test_jitted_words_and_normals_agree_with_numpy():
    words, normals = np.zeros(whole_vectors(4096), np.uint32), np.zeros(4096, np.float32)
    worst = 0.0
    for example in range(50):
        fill_words(np.uint64(2**40 + 99), np.int64(Purpose.TRAINING_LATENTS), 3, example, 4096, words)
        assert np.array_equal(words, noise.words(2**40 + 99, Purpose.TRAINING_LATENTS, 3, [example], 4096)[0])
        fill_normals(words, normals)
        exact = noise.normals(2**40 + 99, Purpose.TRAINING_LATENTS, 3, [example], 4096)[0]
        worst = max(worst, np.max(np.abs(normals - exact)))
    # 5.77 at most, times a few float32 round-offs of the radius and of the sine.
    assert worst < 1e-6


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 150])
def test_words_are_filled_up_to_whole_vectors_and_no_further(count):
    words = np.full(whole_vectors(count) + 8, 7, np.uint32)
    fill_words(np.uint64(1), np.int64(2), 0, 4, count, words)
    assert np.array_equal(words[:-8], noise.words(1, Purpose(2), 0, [4], len(words) - 8)[0])
    assert np.all(words[-8:] == 7)


def test_normals_are_the_oracles_and_do_not_depend_on_how_many_are_asked_for():
    many = noise.normals(5, Purpose.PRIOR_SAMPLES, 0, [3, 4], 11)
    assert np.allclose(many[1], naive.normals(5, Purpose.PRIOR_SAMPLES, 0, 4, 11), rtol=1e-13)
    assert np.array_equal(noise.normals(5, Purpose.PRIOR_SAMPLES, 0, [4], 7)[0], many[1, :7])


def test_normals_have_the_moments_and_tails_of_a_standard_normal():
    z = noise.normals(1, Purpose.TRAINING_LATENTS, 0, np.arange(1000), 1000).ravel()
    error = 4 / np.sqrt(z.size)  # four standard errors of a mean of unit variance
    assert abs(z.mean()) < error
    assert abs(z.var() - 1) < error * np.sqrt(2)
    assert abs((z**3).mean()) < error * np.sqrt(15)
    assert abs((z**4).mean() - 3) < error * np.sqrt(96)
    assert abs((np.abs(z) > 3).mean() - 0.0026998) < error * np.sqrt(0.0027)
    assert np.abs(z).max() <= np.sqrt(2 * 24 * np.log(2))


def test_purposes_steps_and_examples_are_uncorrelated():
    streams = [
        noise.normals(0, purpose, step, [example], 20_000)[0]
        for purpose in (Purpose.TRAINING_LATENTS, Purpose.EVALUATION_LATENTS)
        for step in (0, 1)
        for example in (0, 1)
    ]
    correlation = np.corrcoef(streams) - np.eye(8)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


def test_permutation_is_one_differs_by_step_and_is_the_order_of_the_oracles_keys():
    first, second = (noise.permutation(0, Purpose.EXAMPLE_ORDER, step, 1000) for step in (1, 2))
    assert sorted(first) == sorted(second) == list(range(1000))
    assert not np.array_equal(first, second)
    assert noise.permutation(0, Purpose.EXAMPLE_ORDER, 1, 8).tolist() == sorted(range(8), key=_key)


def _key(example):
    high, low = naive.words(0, Purpose.EXAMPLE_ORDER, 1, example, 2)
    return high << 32 | low


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_binarization_is_exact_at_the_ends_and_fair_between(dtype):
    levels = np.arange(256, dtype=np.uint8) if dtype == np.uint8 else np.linspace(0, 1, 256, dtype=np.float32)
    threshold = noise.binarization_threshold(levels)
    assert threshold[0] == 0
    assert threshold[255] == 2**32
    probability = threshold.astype(np.float64) / 2**32
    assert np.max(np.abs(probability - np.arange(256) / 255)) < (1 / 2**32 if dtype == np.uint8 else 1e-7)
    words = noise.words(0, Purpose.TRAINING_PIXELS, 0, np.arange(4000), 256)
    rate = (words < threshold).mean(axis=0)
    spread = np.sqrt(probability * (1 - probability) / 4000)
    assert np.max(np.abs(rate - probability) - 4.5 * spread) <= 0


def test_a_rows_key_depends_on_its_content_alone():
    values = np.random.default_rng(0).random((5000, 30)).astype(np.float32)
    keys = noise.row_keys(values)
    assert keys.dtype == np.int64
    assert keys.min() >= 0
    assert keys.max() < 2**32
    assert len(np.unique(keys)) >= 4999
    order = np.random.default_rng(1).permutation(5000)
    assert np.array_equal(noise.row_keys(values[order]), keys[order])
    assert np.array_equal(noise.row_keys(np.asfortranarray(values)), keys)
    assert np.abs(np.corrcoef(keys[:-1], keys[1:])[0, 1]) < 0.06
    for column in (0, 17, 29):
        changed = values.copy()
        changed[:, column] = np.nextafter(changed[:, column], np.float32(2))
        assert (noise.row_keys(changed) != keys).all()


def test_a_byte_and_its_level_have_the_same_key_and_so_have_both_zeros():
    levels = np.arange(256, dtype=np.uint8).reshape(-1, 1) * np.ones(3, np.uint8)
    for divided in ((levels / 255).astype(np.float32), levels / np.float32(255), levels.astype(np.float32) / np.float32(255)):
        assert np.array_equal(noise.row_keys(levels), noise.row_keys(divided))
    zeros = np.zeros((1, 3), np.float32)
    assert np.array_equal(noise.row_keys(zeros), noise.row_keys(-zeros))


def test_keys_do_not_depend_on_how_many_rows_are_hashed_at_a_time(monkeypatch):
    values = np.random.default_rng(2).integers(0, 256, (101, 7), np.uint8)
    whole = noise.row_keys(values)
    monkeypatch.setattr(noise, "KEYED_VALUES", 13)
    assert np.array_equal(noise.row_keys(values), whole)
