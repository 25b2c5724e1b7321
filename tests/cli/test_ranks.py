"""`vaefast train` over two ranks on tables: counts from any file, what rows are told, and values that are missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cases import TOLERANCES
from scipy import io, sparse

from tests import mpi
from tests.faults import runs
from vaefast.data.split import split_rows
from vaefast.engines import threads
from vaefast.files import model_file

pytestmark = [mpi.with_mpi, pytest.mark.filterwarnings("ignore:posterior collapse", "ignore:X. ")]
SETTINGS = ("--hidden", "12", "--latent", "3", "--batch-size", "25", "--seed", "5", "--epochs", "3", "--threads", "1")
COMPILING = "vaefast: compiling the CPU kernels, some seconds, and kept for the next run\n"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with counts of 150 cells in three files, and a table of which some values are missing in two."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threads, "granted_cores", lambda: 2)
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.2, 4.0, (150, 30)))
    counts[3, 2] = 300  # one row has a count past a byte
    sparse.save_npz("cells.npz", sparse.csr_array(counts))
    io.mmwrite("cells.mtx", sparse.coo_matrix(counts))
    cells = pd.DataFrame(counts, columns=[f"gene{i}" for i in range(30)])
    cells.assign(batch=np.array(["a", "b", "c"])[rng.integers(0, 3, 150)], depth=counts.sum(1) + 1.5).to_csv(
        "told.csv", index=False
    )
    table = rng.normal(size=(120, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(120, 4))
    names = ["height", "income", "ratio", "level"]
    pd.DataFrame(np.where(rng.random(table.shape) < 0.25, np.nan, table), columns=names).to_csv("gaps.csv", index=False)
    tested = split_rows(120, 0.1)[1]
    table[tested[::2], 1] = np.nan
    frame = pd.DataFrame(table, columns=names)
    frame.to_csv("tested.csv", index=False)
    kinds = {"town": np.array(["north", "south", "west"])[rng.integers(0, 3, 120)], "visits": rng.poisson(2.0, 120)}
    frame.assign(**kinds).to_csv("kinds.csv", index=False)


def together(*flags, out, code=0):
    found, text, err = mpi.train(2, *flags, "--out", out)
    assert (found, err.replace(COMPILING, "") if code == 0 else "") == (code, ""), err
    return text, err


def check_agreement(*flags):
    """Two ranks and one process train the same model, up to rounding, and score the same."""
    text, _ = together(*SETTINGS, *flags, out="two")
    assert "2 ranks with 1 thread each" in text
    code, _, err = runs.command(*SETTINGS, *flags, "--out", "one")
    assert code == 0, err
    one, two = (model_file.read(Path(name) / "model.safetensors") for name in ("one", "two"))
    assert one.model == two.model
    assert one.estimator == two.estimator
    assert np.allclose(one.parameters, two.parameters, atol=1e-4)
    for mine, theirs in zip(metrics("one"), metrics("two"), strict=True):
        for name in ("train_elbo", "test_elbo"):
            assert mine[name] == pytest.approx(theirs[name], abs=TOLERANCES["loss_nats"])
    return two


def metrics(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def test_sparse_counts_train_over_ranks_from_any_file_and_go_on_to_the_same_bits():
    saved = check_agreement("--data", "cells.npz")
    assert saved.model.likelihood == "negative-binomial"
    together("--data", "cells.mtx", *SETTINGS, "--epochs", "2", out="cut")
    code, _, err = mpi.train(2, "--resume", "cut", "--epochs", "3")
    assert (code, err) == (0, "")
    whole = model_file.read(Path("two") / "model.safetensors").parameters
    assert np.array_equal(model_file.read(Path("cut") / "model.safetensors").parameters, whole)


def test_counts_in_shards_are_read_by_each_rank():
    counts = np.random.default_rng(2).poisson(1.0, (2, 60, 20)).astype(np.uint8)
    for number, shard in enumerate(counts):
        np.save(f"shard{number}.npy", shard)
    assert check_agreement("--data", "shard*.npy", "--likelihood", "poisson").model.counts


def test_counts_that_miss_inputs_and_are_told_of_train_over_ranks():
    saved = check_agreement(
        "--data", "told.csv", "--covariates", "batch", "--size-factors", "depth", "--encode-covariates",
        "--likelihood", "negative-binomial", "--zero-inflation", "--input-dropout", "0.3",
    )  # fmt: skip
    assert saved.model.covariates == 3
    assert saved.model.zero_inflation


@pytest.mark.parametrize(
    ("data", "flags", "missing"),
    [("gaps.csv", ("--likelihood", "student-t"), True), ("tested.csv", (), False)],
    ids=["in training", "in the test set alone"],
)
def test_tables_that_miss_values_train_over_ranks(data, flags, missing):
    assert check_agreement("--data", data, *flags).model.missing == missing


def test_columns_of_different_kinds_train_over_ranks():
    saved = check_agreement("--data", "kinds.csv", "--likelihood", "mixed", "--missing-indicator")
    assert {"gaussian", "categorical"} <= {kind for kind, _ in saved.model.columns}
    assert saved.model.missing_indicator


def test_what_several_ranks_cannot_do_is_one_line():
    for flags, words in (
        (("--precision", "bf16"), "training over several ranks has no precision bf16: train in one process"),
        (("--objective", "free-bits"), "train in one process"),
    ):
        _, err = together("--data", "cells.npz", *SETTINGS, *flags, out="run", code=2)
        assert words in err
        assert err.count("\n") == 1
        assert not Path("run").exists()
