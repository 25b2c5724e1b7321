"""Many `.npy` files as one set of images: the same rows however they are cut, each process reading its part."""

import json

import mpi
import numpy as np
import pytest
from mpi import with_mpi

from vaefast.data import Reading, ShardedImages, load
from vaefast.errors import DataError


def rows(count, width=12, dtype=np.uint8, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (count, width))
    return levels.astype(np.uint8) if dtype == np.uint8 else (levels / 255).astype(np.float32)


def save(folder, array, cuts):
    folder.mkdir()
    for number, part in enumerate(np.split(array, cuts)):
        np.save(folder / f"part-{number:02d}.npy", part)
    return str(folder / "*.npy")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_sets_are_those_of_one_file_in_the_order_of_the_files(tmp_path, dtype):
    array = rows(100, dtype=dtype)
    np.save(tmp_path / "whole.npy", array)
    whole = load(str(tmp_path / "whole.npy"))
    for name, cuts in (("one", []), ("three", [10, 70]), ("with an empty one", [40, 40])):
        pattern = save(tmp_path / name, array, cuts)
        data, apart = load(pattern), load(pattern, how=Reading(in_memory=False))
        for mine, theirs in ((data.train, whole.train), (data.test, whole.test)):
            assert np.array_equal(np.unique(mine.values, axis=0), np.unique(theirs.values, axis=0))
        assert np.array_equal(data.train.values, array[np.isin(np.arange(100), _places(array, data.train.values))])
        assert isinstance(apart.train, ShardedImages)
        assert np.array_equal(np.concatenate([*apart.train.values.blocks(0, 90, 7)]), data.train.values)
        assert np.array_equal(apart.train.values[3:50], data.train.values[3:50])
        some = np.array([5, 2, 80])
        assert np.array_equal(apart.train.select(some).values[:], data.train.values[np.sort(some)])
        assert np.allclose(apart.train.values.mean(axis=0, dtype=np.float64), data.train.values.mean(axis=0))


def _places(array, some):
    return [int(np.flatnonzero((array == row).all(axis=1))[0]) for row in some]


def test_the_fingerprint_tells_other_data(tmp_path):
    array = rows(50)
    first = load(save(tmp_path / "a", array, [20])).sha256
    assert load(save(tmp_path / "b", array, [20])).sha256 == first
    array[30, 5] ^= 1
    assert load(save(tmp_path / "c", array, [20])).sha256 != first


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: np.save(path, rows(5, 13)), "holds 13 columns of uint8"),
        (lambda path: np.save(path, rows(5, dtype=np.float32)), "holds 12 columns of float32"),
        (lambda path: np.save(path, rows(5).astype(np.int64)), "save shards as uint8"),
        (lambda path: np.save(path, rows(5).reshape(5, 3, 4)), "save rows of pixels"),
        (lambda path: np.save(path, np.asfortranarray(rows(5))), "in Fortran's order"),
        (lambda path: path.write_bytes(b"text"), "is not a .npy file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "where its header promises"),
    ],
)
def test_a_shard_that_does_not_fit_is_named(tmp_path, spoil, words):
    pattern = save(tmp_path / "shards", rows(40), [20])
    path = tmp_path / "shards" / "part-01.npy"
    spoil(path)
    with pytest.raises(DataError) as error:
        load(pattern)
    assert "part-01.npy" in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_value_out_of_range_is_named_with_its_row(tmp_path):
    array = rows(40, dtype=np.float32)
    array[33, 4] = 1.5
    pattern = save(tmp_path / "shards", array, [20])
    with pytest.raises(DataError, match=r"part-01.npy: row \d+, column 4 .* is 1.5"):
        load(pattern)


def test_a_pattern_without_files_says_so(tmp_path):
    with pytest.raises(DataError, match="no file matches"):
        load(str(tmp_path / "*.npy"))


# The most that NumPy and Python held in each rank at a time. What MPI itself holds of messages under way depends on how the
# ranks are scheduled, and pages of mapped files on the system. Modules are imported before: traced, it takes long. Figures
# take tens of MB on rank 0, behind which images could hide. Pieces double whatever the clock says, up to the whole epoch.
MEASURED = """
import json, sys, tracemalloc
from pathlib import Path
from vaefast import train
from vaefast.cli import mpi_launcher
from vaefast.engines import numba_cpu
from vaefast.plots import run_figures
from vaefast.training import trainer
run_figures.draw = lambda *_, **__: None
trainer.PIECE_SECONDS = 1e9
tracemalloc.start()
code = train.main(sys.argv[2:])
rank = mpi_launcher.launched()[0]
Path(sys.argv[1]).joinpath(f"{rank}.json").write_text(json.dumps(tracemalloc.get_traced_memory()[1]))
sys.exit(code)
"""
# Buffers go by the batch size, which would go by the number of rows.
RUN = (
    "--hidden", "20", "--latent", "3", "--epochs", "1", "--batch-size", "200", "--threads", "1", "--engine", "numba",
    "--test-fraction", "0.02",
)  # fmt: skip


def peak_memory(tmp_path, name, pattern, ranks):
    folder = tmp_path / name
    folder.mkdir()
    code, out, error = mpi.run(ranks, "-c", MEASURED, str(folder), "--data", pattern, *RUN, "--out", str(folder / "run"))
    assert code == 0, error
    assert "shards" in out or "npy" in out
    line = json.loads((folder / "run" / "metrics.jsonl").read_text())
    return line, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(ranks)]


@with_mpi
def test_each_rank_holds_its_part_alone(tmp_path):
    """Dense bytes, 96 MB more of them: of these, two ranks take a half each, and never the whole.

    Few and wide images: the order of an epoch is drawn with hundreds of bytes an image. The smaller set, too, is larger than
    a block that is read at once, and than the room for images of other ranks. A half, the order and the test set are
    0.55 of the added bytes; the whole would be 1.05.
    """
    small, large, width = 8_000, 38_000, 3200
    patterns = [save(tmp_path / str(size), dense(size, width), [900]) for size in (1_000, small, large)]
    # Compiled and kept before, which takes memory, too.
    assert mpi.train(2, "--data", patterns[0], *RUN, "--out", str(tmp_path / "kernels"))[0] == 0
    _, base = peak_memory(tmp_path, "small", patterns[1], 2)
    line, peaks = peak_memory(tmp_path, "large", patterns[2], 2)
    assert np.isfinite(line["train_elbo"])
    for rank in range(2):
        assert peaks[rank] - base[rank] < 0.65 * (large - small) * width


def dense(size, width):
    return np.random.default_rng(0).integers(1, 256, (size, width), dtype=np.uint8)
