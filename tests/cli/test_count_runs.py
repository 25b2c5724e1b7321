"""Tables of counts on the command line: the model of `vaefast.VAE`, whatever their file, through stops and all commands."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from faults import runs
from scipy import sparse

import vaefast
from vaefast import VAE
from vaefast.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")
MODEL = ("--latent", "3", "--hidden", "12", "--epochs", "3", "--seed", "5", "--test-fraction", "0")


@pytest.fixture
def counts(tmp_path, monkeypatch):
    """A table of counts, two in three of them zero, as a CSV file and as a sparse matrix."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    table = rng.poisson(rng.gamma(0.2, 4.0, (150, 30)))
    header = ",".join(f"gene{i}" for i in range(30))
    np.savetxt("cells.csv", table, "%d", delimiter=",", header=header, comments="")
    sparse.save_npz("cells.npz", sparse.csr_array(table))
    return table


def trained(*flags, code=0):
    found, out, err = runs.command("--threads", "1", *MODEL, *flags)
    assert found == code, err
    return out, err


@pytest.mark.parametrize("name", ["cells.csv", "cells.npz"])
@pytest.mark.parametrize(
    ("flags", "parameters"),
    [
        ((), {}),
        (
            ("--likelihood", "negative-binomial", "--zero-inflation"),
            {"likelihood": "negative-binomial", "zero_inflation": True},
        ),
        (("--likelihood", "poisson", "--encoder-input", "none"), {"likelihood": "poisson", "encoder_input": "none"}),
        (("--likelihood", "multinomial"), {"likelihood": "multinomial"}),
        (("--likelihood", "multinomial", "--input-dropout", "0.5"), {"likelihood": "multinomial", "input_dropout": 0.5}),
    ],
    ids=["auto", "zero-inflated", "poisson", "multinomial", "dropout"],
)
def test_both_doors_train_the_same_bits(counts, name, flags, parameters):
    out, _ = trained("--data", name, *flags, "--out", "run")
    chosen = parameters.get("likelihood", "negative-binomial")
    assert f"likelihood {chosen}" in out
    vae = VAE(3, hidden_layer_sizes=(12,), epochs=3, random_state=5, n_jobs=1, **parameters).fit(counts)
    loaded = vaefast.load("run")
    assert np.array_equal(loaded._network.state.parameters, vae._network.state.parameters)
    assert np.array_equal(loaded.score_samples(counts), vae.score_samples(counts))
    assert np.array_equal(loaded.sample(5, 0, noise_in_x=True), vae.sample(5, 0, noise_in_x=True))
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["train_elbo"] for line in lines] == vae.history_["train_elbo"]


@pytest.mark.parametrize(("flag", "share"), [((), 0.5), (("--input-dropout", "auto"), 0.5), (("--input-dropout", "0"), 0.0)])
def test_wide_counts_are_trained_with_dropout_by_both_doors(tmp_path, monkeypatch, flag, share):
    monkeypatch.chdir(tmp_path)
    table = sparse.csr_array(np.random.default_rng(0).poisson(0.1, (60, 500)))
    sparse.save_npz("cells.npz", table)
    trained("--data", "cells.npz", *flag, "--out", "run")
    given = {"input_dropout": share} if flag else {}
    vae = VAE(3, hidden_layer_sizes=(12,), epochs=3, random_state=5, n_jobs=1, **given).fit(table)
    loaded = vaefast.load("run")
    assert loaded.input_dropout == share
    assert np.array_equal(loaded._network.state.parameters, vae._network.state.parameters)


@pytest.mark.parametrize(
    ("flags", "given", "epsilon"),
    [
        ((), {}, 1e-2),
        (("--epsilon", "auto"), {"epsilon": "auto"}, 1e-2),
        (("--epsilon", "1e-8"), {"epsilon": 1e-8}, 1e-8),
        (("--encoder-input", "l2"), {"encoder_input": "l2"}, 1e-8),
        (("--likelihood", "multinomial"), {"likelihood": "multinomial"}, 1e-8),
    ],
)
def test_counts_are_trained_with_an_epsilon_of_their_own_by_both_doors(counts, flags, given, epsilon):
    trained("--data", "cells.npz", *flags, "--out", "run")
    vae = VAE(3, hidden_layer_sizes=(12,), epochs=3, random_state=5, n_jobs=1, **given).fit(counts)
    loaded = vaefast.load("run")
    assert loaded.epsilon == vae._network.training.adam.epsilon == epsilon
    assert np.array_equal(loaded._network.state.parameters, vae._network.state.parameters)
    vae.save("vae.safetensors")
    kept = vaefast.load("vae.safetensors")
    assert (kept.epsilon, kept._network.training.adam.epsilon) == (given.get("epsilon", "auto"), epsilon)


def test_no_huge_row_is_held_out_by_either_door(counts):
    counts[::4] *= 50
    sparse.save_npz("huge.npz", sparse.csr_array(counts))
    trained("--data", "huge.npz", "--validation", "0.5", "--patience", "2", "--out", "run")
    given = {"early_stopping": True, "validation_fraction": 0.5, "n_iter_no_change": 2, "tol": 0.0}
    vae = VAE(3, hidden_layer_sizes=(12,), epochs=3, random_state=5, n_jobs=1, **given).fit(counts)
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["validation_elbo"] for line in lines] == vae.history_["validation_elbo"]
    assert min(vae.history_["validation_elbo"]) > -40 * counts.shape[1]
    assert np.array_equal(vaefast.load("run")._network.state.parameters, vae._network.state.parameters)


def test_a_run_of_counts_that_goes_on_keeps_its_epsilon(counts):
    for out, flags in (("whole", ("--epsilon", "1e-8")), ("part", ("--epsilon", "1e-8", "--epochs", "1"))):
        trained("--data", "cells.npz", *flags, "--out", out)
    assert runs.command("--resume", "part", "--epochs", "3")[0] == 0
    whole, part = vaefast.load("whole"), vaefast.load("part")
    assert part.epsilon == 1e-8
    assert np.array_equal(whole._network.state.parameters, part._network.state.parameters)


def test_a_run_of_an_older_version_says_why_it_draws_no_rows(counts):
    trained("--data", "cells.npz", "--out", "run")
    vae = vaefast.load("run")
    del vae.size_quantiles_
    with pytest.raises(DataError, match="does not know how large rows are"):
        vae.sample(2)


def test_sparse_and_dense_files_are_the_same_run_and_every_figure_is_drawn(counts):
    for name in ("cells.csv", "cells.npz"):
        trained("--data", name, "--out", name[-3:])
    assert np.array_equal(vaefast.load("csv").transform(counts), vaefast.load("npz").transform(counts))
    assert {path.name for path in Path("npz/figures").iterdir()} == {"columns.png", "elbo.png", "latents.png", "pairs.png"}


@pytest.mark.parametrize(
    ("name", "flags"),
    [("cells.npz", ()), ("cells.csv", ()), ("cells.npz", ("--input-dropout", "0.4"))],
    ids=["sparse", "dense", "dropout"],
)
def test_a_run_goes_on_to_the_bits_of_an_unbroken_one(counts, name, flags):
    trained("--data", name, "--out", "whole", *flags)
    trained("--data", name, "--epochs", "1", "--out", "part", *flags)
    code, _, err = runs.command("--resume", "part", "--epochs", "3", "--threads", "1")
    assert code == 0, err
    whole, part = (vaefast.load(name)._network.state.parameters for name in ("whole", "part"))
    assert np.array_equal(whole, part)
    code, _, err = runs.command("--resume", "part", "--epochs", "4", "--zero-inflation")
    assert code == 4
    assert "zero_inflation was False, is True" in err
    code, _, err = runs.command("--resume", "part", "--epochs", "4", "--input-dropout", "0.1")
    assert code == 4
    assert f"input_dropout was {flags[1] if flags else '0.0'}, is 0.1" in err


def test_a_run_without_dropout_writes_nothing_of_it(counts):
    for out, flags in (("without", ()), ("with", ("--input-dropout", "0.5"))):
        trained("--data", "cells.npz", "--out", out, *flags)
        texts = [path.read_bytes() for path in Path(out).rglob("*") if path.suffix in (".json", ".safetensors")]
        assert any(b"input_dropout" in text for text in texts) == bool(flags)
    assert vaefast.load("without").input_dropout == 0.0
    assert vaefast.load("with").input_dropout == 0.5


def test_evaluate_and_transform_take_counts_in_either_form(counts, capsys):
    from vaefast import evaluate, transform

    trained("--data", "cells.npz", "--out", "run")
    assert evaluate.main(["run", "--data", "cells.csv", "--samples", "20", "--out", "scores"]) == 0
    found = json.loads(Path("scores/evaluation.json").read_text())
    assert found["images"] == 150
    vae = vaefast.load("run")
    assert found["elbo"] == pytest.approx(vae.score_samples(counts, n_samples=1).mean(), abs=1e-3)
    for name in ("cells.csv", "cells.npz"):
        assert transform.main(["run", "--data", name, "--out", f"{name}.npy"]) == 0
        assert np.array_equal(np.load(f"{name}.npy")[:, :3].astype(np.float32), vae.transform(counts))
    capsys.readouterr()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--data", "real.csv", "--likelihood", "poisson"), "vaefast: real.csv: line "),
        (("--data", "cells.csv", "--likelihood", "poisson", "--zero-inflation"), "likelihood poisson has no zero inflation"),
        (("--data", "cells.csv", "--likelihood", "multinomial", "--scaling", "standard"), "takes counts as they are"),
        (("--data", "cells.csv", "--likelihood", "gaussian", "--encoder-input", "l2"), "which is for counts"),
        (("--data", "cells.npz", "--engine", "cuda"), "cuda"),
        (
            ("--data", "cells.csv", "--likelihood", "gaussian", "--input-dropout", "0.5"),
            "input_dropout is 0.5, which is for counts",
        ),
        (("--data", "real.csv", "--input-dropout", "0.5"), "input_dropout is 0.5, which is for counts"),
        (("--data", "cells.csv", "--input-dropout", "1"), "input_dropout is 1.0: give a number from 0 below 1"),
    ],
)
def test_what_does_not_go_with_counts_is_refused_before_anything_is_written(counts, flags, message):
    np.savetxt("real.csv", counts * 0.5, delimiter=",")
    _, err = trained(*flags, "--out", "run", code=3 if "real.csv" in flags and "poisson" in flags else 2)
    assert message in err
    assert err.count("\n") == 1
    assert not Path("run").exists()


def write_h5ad(path, counts):
    """Logarithms as X, and the counts as a layer."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    with h5py.File(path, "w") as file:
        for name, held in (("X", np.log1p(counts)), ("layers/umi", counts)):
            held, group = sparse.csr_array(held), file.create_group(name)
            group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", held.shape
            group["data"], group["indices"], group["indptr"] = held.data, held.indices, held.indptr
        for name, count in zip(("obs", "var"), counts.shape, strict=True):
            group = file.create_group(name)
            group.attrs["_index"], group["_index"] = "_index", [f"{name}{i}" for i in range(count)]


def test_every_file_of_cells_trains_the_bits_of_the_matrix_itself(counts, capsys):
    from scipy import io

    from vaefast import evaluate, transform

    Path("tenx").mkdir()
    io.mmwrite("cells.mtx", sparse.coo_array(counts))
    io.mmwrite("tenx/matrix.mtx", sparse.coo_array(counts.T))
    Path("tenx/barcodes.tsv").write_text("".join(f"cell{i}\n" for i in range(150)))
    Path("tenx/genes.tsv").write_text("".join(f"ENS{i}\tgene{i}\n" for i in range(30)))
    write_h5ad("cells.h5ad", counts)
    trained("--data", "cells.npz", "--out", "npz")
    expected = vaefast.load("npz")._network.state.parameters
    for name, flags in (("cells.mtx", ()), ("tenx", ()), ("cells.h5ad", ("--layer", "umi"))):
        out, err = trained("--data", name, *flags, "--out", f"{name}-run")
        assert "likelihood negative-binomial" in out
        assert ("transposed to 150 cells x 30 genes" in err) == (name == "tenx")
        assert np.array_equal(vaefast.load(f"{name}-run")._network.state.parameters, expected)
    # A run knows its layer: it goes on, and both commands read it, unless they are told of another.
    code, _, err = runs.command("--resume", "cells.h5ad-run", "--epochs", "4", "--threads", "1")
    assert code == 0, err
    assert evaluate.main(["cells.h5ad-run", "--data", "cells.h5ad", "--samples", "5", "--no-figures", "--out", "scores"]) == 0
    assert transform.main(["cells.h5ad-run", "--data", "cells.h5ad", "--out", "a.npy"]) == 0
    assert transform.main(["cells.h5ad-run", "--data", "tenx", "--out", "b.npy"]) == 3  # its genes have other names
    assert "lacks the column 'var0'" in capsys.readouterr().err
    assert transform.main(["cells.h5ad-run", "--data", "cells.mtx", "--out", "c.npy"]) == 0
    assert np.array_equal(np.load("a.npy"), np.load("c.npy"))
    shutil.copy("cells.h5ad-run/model.safetensors", "alone.safetensors")
    assert transform.main(["alone.safetensors", "--data", "cells.h5ad", "--out", "e.npy"]) == 0
    assert np.array_equal(np.load("a.npy"), np.load("e.npy"))
    assert transform.main(["cells.h5ad-run", "--data", "cells.h5ad", "--layer", "none", "--out", "d.npy"]) == 3
    assert "has no layer 'none': it has umi" in capsys.readouterr().err


def test_columns_of_counts_are_chosen_by_name_for_a_model(counts):
    from vaefast import transform

    write_h5ad("cells.h5ad", counts)
    trained("--data", "cells.h5ad", "--layer", "umi", "--out", "run")
    order = np.random.default_rng(1).permutation(30)
    write_h5ad("other.h5ad", counts[:, order])
    import h5py

    with h5py.File("other.h5ad", "a") as file:
        file["var/_index"][...] = [f"var{i}" for i in order]
    for name in ("cells", "other"):
        assert transform.main(["run", "--data", f"{name}.h5ad", "--out", f"{name}.npy"]) == 0
    assert np.array_equal(np.load("cells.npy"), np.load("other.npy"))


def test_an_x_of_logarithms_is_said_to_have_counts_beside_it(counts):
    write_h5ad("cells.h5ad", counts)
    out, err = trained("--data", "cells.h5ad", "--out", "run")
    assert "X holds no whole counts, but --layer umi does" in err
    assert "likelihood gaussian" in out
    _, err = trained("--data", "cells.npz", "--layer", "umi", "--out", "other", code=3)
    assert "cells.npz is no .h5ad file, and so has no layer 'umi': leave out --layer" in err


@pytest.mark.parametrize("likelihood", ["negative-binomial", "poisson", "multinomial"])
def test_pictures_are_no_counts(tmp_path, monkeypatch, likelihood):
    monkeypatch.chdir(tmp_path)
    code, out, err = runs.command("--data", "digits", "--likelihood", likelihood, "--epochs", "1", "--out", "run")
    message = f"vaefast: likelihood {likelihood} is for tables, and digits holds pictures: choose another likelihood\n"
    assert (code, out, err) == (2, "", message)


def test_shards_of_fractions_are_no_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        np.save(f"shard{number}.npy", np.random.default_rng(number).random((30, 20), np.float32))
    code, out, err = runs.command("--data", "shard*.npy", "--likelihood", "poisson", "--epochs", "1", "--out", "run")
    message = "vaefast: likelihood poisson is for whole counts, and shard*.npy holds float32: save them as uint8\n"
    assert (code, out, err) == (2, "", message)


def test_a_value_that_is_no_count_among_counts_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = sparse.csr_matrix(np.random.default_rng(0).poisson(2.0, (60, 20)).astype(np.float64))
    X.data[3] = -1
    sparse.save_npz("x.npz", X)
    err = trained("--data", "x.npz", "--out", "auto")[1]
    assert "is -1, and so the table is taken for one of real numbers, though only 1 of its " in err
    assert "no count" not in trained("--data", "x.npz", "--likelihood", "gaussian", "--out", "asked")[1]
