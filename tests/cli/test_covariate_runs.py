"""Covariates and size factors on the command line: the model of `vaefast.VAE`, from any file, by all commands."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from faults import runs
from scipy import sparse

import vaefast
from vaefast import VAE, engines, evaluate, transform
from vaefast.cli.options import checked
from vaefast.engines import why_not
from vaefast.errors import EngineUnavailable

pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")
MODEL = ("--latent", "3", "--hidden", "12", "--epochs", "3", "--seed", "5", "--threads", "1")
ALL = ("--test-fraction", "0")
TOLD = ("--covariates", "batch", "age")
GENES = [f"gene{i}" for i in range(30)]


def frame():
    """Counts of 150 cells, two in three of them zero, a text, a number and a size of each."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.2, 4.0, (150, 30)))
    table = pd.DataFrame(counts, columns=GENES)
    table.insert(0, "batch", np.array(["first", "second", "third"])[rng.integers(0, 3, 150)])
    table["age"] = rng.normal(50, 10, 150)
    table["depth"] = table[GENES].sum(axis=1) + rng.uniform(1, 2, 150)
    return table


@pytest.fixture
def cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = frame()
    table.to_csv("cells.csv", index=False)
    return table


def vae(**parameters):
    return VAE(3, **{"hidden_layer_sizes": (12,), "epochs": 3, "random_state": 5, "n_jobs": 1, **parameters})


def trained(*flags, code=0):
    found, out, err = runs.command(*MODEL, *flags)
    assert found == code, err
    return out, err


def parameters_of(path):
    return vaefast.load(path)._network.state.parameters


def write_h5ad(path, table):
    """Counts as X; in obs a category, real numbers, whole numbers, truth values and texts, as anndata writes them."""
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    codes, batches = pd.factorize(table["batch"], sort=True)
    with h5py.File(path, "w") as file:
        held, group = sparse.csr_array(table[GENES].to_numpy()), file.create_group("X")
        group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", held.shape
        group["data"], group["indices"], group["indptr"] = held.data, held.indices, held.indptr
        file["var/_index"], file["obs/_index"] = GENES, [f"cell{i}" for i in range(len(table))]
        file["obs/batch/codes"], file["obs/batch/categories"] = codes.astype(np.int8), list(batches)
        file["obs/age"], file["obs/depth"] = table["age"].to_numpy(), table["depth"].to_numpy()
        file["obs/lane"], file["obs/sick"] = codes, codes == 1
        file["obs/site"] = [f"site {code}" for code in codes]
        file["obs/dose/values"], file["obs/dose/mask"] = codes, np.zeros(len(table), bool)
        file["obs/score/values"], file["obs/score/mask"] = codes, np.arange(len(table)) == 7


@pytest.mark.parametrize("engine", ["cython", "numba"])
@pytest.mark.parametrize("encoded", [False, True], ids=["decoder", "both"])
def test_both_doors_train_the_same_bits(cells, engine, encoded):
    if reason := why_not(engine):
        pytest.skip(reason)
    flags = ("--encode-covariates",) if encoded else ()
    out, _ = trained("--data", "cells.csv", *ALL, *TOLD, "--size-factors", "depth", *flags, "--engine", engine, "--out", "run")
    assert "; covariates batch (3 categories), age (a number), which become 4 columns; size factors depth\n" in out
    about = {"covariates": cells[["batch", "age"]], "size_factors": cells["depth"]}
    model = vae(engine=engine, encode_covariates=encoded).fit(cells[GENES], **about)
    loaded = vaefast.load("run")
    assert np.array_equal(parameters_of("run"), model._network.state.parameters)
    assert loaded._told == model._told
    assert loaded.encode_covariates == encoded
    assert np.array_equal(loaded.score_samples(cells[GENES], **about), model.score_samples(cells[GENES], **about))
    one = {"covariates": {"batch": ["third"], "age": [40.0]}}
    assert np.array_equal(loaded.sample(4, 0, noise_in_x=True, **one), model.sample(4, 0, noise_in_x=True, **one))


@pytest.mark.parametrize("names", [("batch", "age"), ("site", "sick", "lane", "dose")])
def test_columns_of_obs_train_the_bits_of_the_frame(cells, names):
    write_h5ad("cells.h5ad", cells)
    codes = pd.factorize(cells["batch"], sort=True)[0]
    obs = cells.assign(site=[f"site {code}" for code in codes], sick=codes == 1, lane=codes, dose=codes)
    obs["dose"] = obs["dose"].astype("Int64")
    trained("--data", "cells.h5ad", *ALL, "--covariates", *names, "--size-factors", "depth", "--out", "run")
    model = vae().fit(cells[GENES], covariates=obs[[*names]], size_factors=obs["depth"])
    assert np.array_equal(parameters_of("run"), model._network.state.parameters)
    assert vaefast.load("run")._told == model._told


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_columns_of_typed_files_train_the_bits_of_the_frame(cells, kind):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    codes = pd.factorize(cells["batch"], sort=True)[0]
    # Numbers that pandas holds as categories are categories.
    table = cells.assign(batch=pd.Categorical(codes), sick=codes == 1)
    getattr(table, f"to_{kind}")(f"cells.{kind}")
    names = ["batch", "sick", "age"]
    out, _ = trained("--data", f"cells.{kind}", *ALL, "--covariates", *names, "--size-factors", "depth", "--out", "run")
    # Parquet does not keep that whole numbers are categories, neither for pandas.
    table, is_kept = getattr(pd, f"read_{kind}")(f"cells.{kind}"), kind == "feather"
    batch = "batch (3 categories)" if is_kept else "batch (a number)"
    assert f"{batch}, sick (2 categories), age (a number), which become {6 if is_kept else 4} columns" in out
    model = vae().fit(cells[GENES], covariates=table[names], size_factors=table["depth"])
    assert np.array_equal(parameters_of("run"), model._network.state.parameters)


def test_numbers_of_columns_labels_and_real_values(cells):
    """A table without a header; a table of real numbers in which the covariate is the label, too."""
    cells.drop(columns="batch").to_csv("bare.csv", index=False, header=False)
    trained("--data", "bare.csv", *ALL, "--covariates", "31", "--size-factors", "32", "--out", "bare")
    model = vae().fit(cells[GENES].to_numpy(), covariates={"31": cells["age"]}, size_factors=cells["depth"])
    assert np.array_equal(parameters_of("bare"), model._network.state.parameters)
    real = cells[GENES].add(0.5).assign(kind=cells["batch"])
    real.to_csv("real.csv", index=False)
    for label in ((), ("--label", "kind")):
        out, err = trained("--data", "real.csv", *ALL, *label, "--covariates", "kind", "--out", f"real{len(label)}")
        assert "likelihood gaussian" in out
        assert ("holds labels (3 different)" in err) == bool(label)
        model = vae().fit(real[GENES], covariates=real["kind"])
        assert np.array_equal(parameters_of(f"real{len(label)}"), model._network.state.parameters)


def test_training_rows_alone_decide_and_figures_and_metrics_are_complete(cells):
    """As if the test rows were not in the file."""
    trained("--data", "cells.csv", *TOLD, "--size-factors", "depth", "--out", "run", "--validation", "20")
    evaluated = json.loads(Path("run/settings.json").read_text())["told"]
    from vaefast.data.split import split_rows

    train = cells.iloc[split_rows(len(cells), 0.1)[0]]
    model = vae(epochs=1).fit(train[GENES], covariates=train[["batch", "age"]], size_factors=train["depth"])
    assert evaluated == model._told.as_json()
    assert {path.name for path in Path("run/figures").iterdir()} == {"columns.png", "elbo.png", "latents.png", "pairs.png"}
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert np.isfinite([[line["test_elbo"], line["validation_elbo"]] for line in lines]).all()


@pytest.mark.parametrize("data", ["cells.csv", "cells.h5ad"])
def test_a_run_goes_on_to_the_bits_of_an_unbroken_one(cells, data):
    write_h5ad("cells.h5ad", cells)
    flags = ("--data", data, *TOLD, "--size-factors", "depth", "--encode-covariates", "--validation", "20")
    trained(*flags, "--out", "whole")
    trained(*flags, "--epochs", "1", "--out", "part")
    code, _, err = runs.command("--resume", "part", "--epochs", "3", "--threads", "1")
    assert code == 0, err
    runs.check_same(runs.outcome(Path("whole")), Path("part"), "resumed")
    for changed, message in (
        (("--covariates", "batch"), "covariates was batch age, is batch"),
        (("--size-factors", "age"), "size_factors was depth, is age"),
    ):
        code, _, err = runs.command("--resume", "part", "--epochs", "4", *changed)
        assert code in (3, 4)
        assert err.count("\n") == 1
        assert message in err or code == 3


def test_other_covariates_are_other_data(cells):
    """A run is not resumed, and a test set not recognised, where a covariate has changed."""
    trained("--data", "cells.csv", *TOLD, "--epochs", "1", "--out", "run")
    cells.loc[3, "age"] += 1
    cells.to_csv("cells.csv", index=False)
    code, _, err = runs.command("--resume", "run", "--epochs", "2")
    assert code == 4
    assert "data was SHA-256" in err


def test_a_run_without_them_writes_nothing_of_them(cells):
    cells[GENES].to_csv("plain.csv", index=False)
    trained("--data", "plain.csv", "--out", "without")
    trained("--data", "cells.csv", *TOLD, "--size-factors", "depth", "--out", "with")
    for out in ("without", "with"):
        texts = [path.read_bytes() for path in Path(out).rglob("*") if path.suffix in (".json", ".safetensors")]
        for word in (b"covariates", b"size_factors", b"told"):
            assert any(word in text for text in texts) == (out == "with")


def test_evaluate_and_transform_read_the_columns_by_their_names(cells, capsys):
    trained("--data", "cells.csv", *ALL, *TOLD, "--size-factors", "depth", "--encode-covariates", "--out", "run")
    trained("--data", "cells.csv", *TOLD, "--size-factors", "depth", "--out", "split")
    vae = vaefast.load("run")
    about = {"covariates": cells[["batch", "age"]], "size_factors": cells["depth"]}
    write_h5ad("new.h5ad", cells)
    # Other columns, in another order, text among them.
    cells.assign(note="text")[["depth", "note", *reversed(GENES), "age", "batch"]].to_csv("new.csv", index=False)
    for name in ("cells.csv", "new.csv", "new.h5ad"):
        assert transform.main(["run", "--data", name, "--out", f"{name}.npy", "--samples", "5", "--threads", "1"]) == 0
        found = np.load(f"{name}.npy")
        assert np.array_equal(found[:, :3].astype(np.float32), vae.transform(cells[GENES], covariates=about["covariates"]))
        assert np.array_equal(found[:, 3], vae.score_samples(cells[GENES], **about))
        assert np.array_equal(found[:, 4], vae.log_likelihood(cells[GENES], 5, **about))
        assert evaluate.main(["run", "--data", name, "--samples", "20", "--out", "scores"]) == 0
        scores = json.loads(Path("scores/evaluation.json").read_text())
        assert scores["images"] == 150
        assert scores["elbo"] == pytest.approx(vae.score_samples(cells[GENES], n_samples=1, **about).mean(), abs=1e-3)
    assert transform.main(["run", "--data", "new.csv", "--out", "few.npy", "--limit", "10"]) == 0
    assert np.array_equal(np.load("few.npy"), found[:10, :4])
    for extra in ((), ("--data", "cells.csv")):
        assert evaluate.main(["split", *extra, "--samples", "20", "--out", "own", "--json"]) == 0
        assert json.loads(Path("own/evaluation.json").read_text())["evaluated"] == "15 test rows"
    capsys.readouterr()


def test_a_category_that_looks_like_a_number_in_another_file_is_that_category(cells):
    """Training saw 01, 02 and A; the new file has 01 alone, which is not the number 1."""
    codes = pd.factorize(cells["batch"], sort=True)[0]
    cells.assign(batch=np.array(["01", "02", "A"])[codes]).to_csv("cells.csv", index=False)
    trained("--data", "cells.csv", *ALL, "--covariates", "batch", "--label", "age", "--size-factors", "depth", "--out", "run")
    cells.assign(batch="01")[["batch", *GENES, "depth"]].to_csv("new.csv", index=False)
    assert transform.main(["run", "--data", "new.csv", "--out", "new.npy"]) == 0
    scores = vaefast.load("run").score_samples(cells[GENES], covariates=["01"], size_factors=cells["depth"])
    assert np.array_equal(np.load("new.npy")[:, 3], scores)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        (
            "batch",
            2,
            "fourth",
            "new.csv: line 4, column 1 'batch' is 'fourth', which training did not see: give one of",
        ),
        ("batch", 4, "", "new.csv: line 6, column 1 'batch': a value is missing"),
        ("age", 5, "", "new.csv: line 7, column 32 'age': a value is missing"),
        ("age", 5, "inf", "new.csv: line 7, column 32 'age' is inf: give a finite number"),
        ("age", 5, "old", "new.csv: covariates: 'age' holds text, but was a number in training"),
        ("depth", 6, "0", "new.csv: line 8, column 33 'depth' is 0: give a number above 0"),
        (
            "depth",
            6,
            "deep",
            "new.csv: line 8, column 33 'depth' is 'deep', in a column of text or categories: size",
        ),
        ("gene3", 1, "0.5", "line 3, column 5 'gene3' is 0.5, which is no whole number"),
    ],
)
def test_values_that_do_not_fit_the_model_are_named_by_their_place(cells, capsys, column, row, value, message):
    trained("--data", "cells.csv", *ALL, *TOLD, "--size-factors", "depth", "--epochs", "1", "--out", "run")
    new = cells.astype(object)
    new.loc[row, column] = value
    new.to_csv("new.csv", index=False)
    for command, flags in ((transform.main, ("--out", "new.npy")), (evaluate.main, ("--samples", "2", "--out", "scores"))):
        assert command(["run", "--data", "new.csv", *flags]) == 3
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (
            ("--data", "cells.csv", "--covariates", "bach"),
            3,
            "cells.csv has no column 'bach' for covariates or size factors",
        ),
        (("--data", "cells.csv", "--covariates", "99"), 3, "cells.csv has no column '99' for covariates or size factors"),
        (("--data", "cells.csv", "--covariates", "batch", "1"), 3, "the covariates name column 'batch' twice: give it once"),
        (("--data", "cells.csv", "--covariates", "batch", "--size-factors", "batch"), 3, "size factors are numbers above 0"),
        (("--data", "cells.csv", "--encode-covariates"), 2, "encode_covariates is true, but there are no covariates"),
        (("--data", "cells.csv", *TOLD, "--scaling", "grey"), 2, "scaling grey is for pictures: choose another scaling"),
        (("--data", "cells.csv", *TOLD, "--engine", "cuda"), 2, "engine cuda"),
        (
            ("--data", "real.csv", "--covariates", "batch", "--size-factors", "age"),
            2,
            "size_factors are for a likelihood",
        ),
        (
            ("--data", "rare.csv", "--covariates", "batch"),
            3,
            "is 'rare', which no training row is: leave its row out",
        ),
        (("--data", "gap.csv", "--covariates", "batch"), 3, "gap.csv: line 4, column 1 'batch': a value is missing"),
        (
            ("--data", "cells.h5ad", "--covariates", "bach"),
            3,
            "cells.h5ad has no column 'bach' in obs for covariates",
        ),
        (
            ("--data", "cells.h5ad", "--covariates", "score"),
            3,
            "row 7 (counted from 0), column 'score' of obs: a value",
        ),
        (
            ("--data", "cells.npy", "--covariates", "1"),
            3,
            "cells.npy holds no columns beside its values for covariates",
        ),
        (("--data", "cells.npz", "--size-factors", "1"), 3, "cells.npz holds no columns beside its values"),
        (("--data", "cells.mtx", "--covariates", "1"), 3, "cells.mtx holds no columns beside its values"),
        (("--data", "digits", "--covariates", "1"), 3, "digits holds no columns beside its values"),
        (("--covariates", "1"), 3, "mnist holds no columns beside its values"),
        (("--data", "pictures", "--covariates", "1"), 3, "pictures holds no columns beside its values"),
        (("--data", "cels.csv", "--covariates", "1"), 3, "'cels.csv' is neither a known data set nor an existing path"),
        (("--config", "run.toml"), 2, "covariates has 2: give names of columns, or their numbers, as text in quotes"),
    ],
)
def test_what_cannot_be_told_is_refused_before_anything_is_written(cells, flags, code, message):
    from scipy import io

    from vaefast.data.split import split_rows

    if "cells.h5ad" in flags:
        write_h5ad("cells.h5ad", cells)
    values, lone = cells[GENES].to_numpy(), int(split_rows(len(cells), 0.1)[1][0])
    np.save("cells.npy", values)
    sparse.save_npz("cells.npz", sparse.csr_array(values))
    io.mmwrite("cells.mtx", sparse.coo_array(values))
    Path("pictures").mkdir()
    Path("run.toml").write_text('data = "cells.csv"\ncovariates = [2]\n')
    cells.assign(gene0=0.5).to_csv("real.csv", index=False)
    cells.assign(batch=[*cells["batch"][:2], None, *cells["batch"][3:]]).to_csv("gap.csv", index=False)
    cells.assign(batch=["rare" if row == lone else "usual" for row in range(150)]).to_csv("rare.csv", index=False)
    _, err = trained(*flags, "--out", "run", code=code)
    assert message in err
    assert err.count("\n") == 1
    assert not Path("run").exists()


def test_over_several_ranks_the_numba_engine_takes_them():
    options = checked({"covariates": ["batch"], "likelihood": "negative-binomial"})
    needed = (*engines.needs(options.model, options.training), engines.SEVERAL_RANKS)
    assert "covariates" in needed
    assert engines.choose("auto", needed) == "numba"
    with pytest.raises(EngineUnavailable, match="engine cython lacks training over several ranks: choose engine numba"):
        engines.choose("cython", needed)


def test_a_configuration_file_names_them(cells):
    Path("run.toml").write_text(
        'data = "cells.csv"\ncovariates = ["batch", "age"]\nsize-factors = "depth"\nencode-covariates = true\n'
    )
    trained("--config", "run.toml", *ALL, "--out", "toml")
    trained("--data", "cells.csv", *ALL, *TOLD, "--size-factors", "depth", "--encode-covariates", "--out", "flags")
    assert np.array_equal(parameters_of("toml"), parameters_of("flags"))


def test_a_run_starts_from_a_model_with_the_same_covariates(cells):
    trained("--data", "cells.csv", *ALL, *TOLD, "--out", "run")
    trained("--data", "cells.csv", *ALL, *TOLD, "--start-from", "run", "--epochs", "0", "--out", "same")
    assert np.array_equal(parameters_of("same"), parameters_of("run"))
    assert vaefast.load("same")._told == vaefast.load("run")._told
    cells.drop(columns="age").to_csv("young.csv", index=False)
    _, err = trained("--data", "young.csv", "--covariates", "batch", "--start-from", "run", "--out", "other", code=3)
    assert "young.csv: covariates lack the column 'age': the model was trained with 'batch', 'age'" in err


def test_models_of_python_are_scored_where_their_columns_have_names(cells, capsys):
    about = {"size_factors": cells["depth"], "covariates": cells[["batch", "age"]]}
    vae(epochs=1).fit(cells[GENES], **about).save("named.safetensors")
    assert transform.main(["named.safetensors", "--data", "cells.csv", "--out", "named.npy"]) == 0
    about["size_factors"] = about["size_factors"].to_numpy()
    vae(epochs=1).fit(cells[GENES], **about).save("nameless.safetensors")
    capsys.readouterr()
    for command in (transform.main, evaluate.main):
        assert command(["nameless.safetensors", "--data", "cells.csv", "--out", "nameless.npy"]) == 3
        err = capsys.readouterr().err
        assert "size factors that had no name" in err
        assert err.count("\n") == 1
    pictures = np.random.default_rng(0).integers(0, 256, (60, 16)).astype(np.uint8)
    np.save("pictures.npy", pictures)
    grey = vae(epochs=1, scaling="grey").fit(pictures, covariates=cells["batch"][:60])
    grey.save("grey.safetensors")
    for command in (transform.main, evaluate.main):
        assert command(["grey.safetensors", "--data", "pictures.npy", "--out", "grey.npy"]) == 3
        err = capsys.readouterr().err
        assert "use vaefast.load in Python" in err
        assert err.count("\n") == 1


def test_covariates_with_decimal_commas_are_numbers_beside_text_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(["fink", "meise"][i % 2], 12.5 + i / 7, 40.25 + i) for i in range(40)]
    text = "".join(f"{kind};{size:.3f};{age:.2f}\n".replace(".", ",") for kind, size, age in rows)
    Path("birds.csv").write_text("art;laenge;alter\n" + text)
    out, _ = trained("--data", "birds.csv", "--covariates", "alter", "--likelihood", "mixed", "--out", "run")
    assert "alter (a number)" in out or "1 covariate" in out.splitlines()[0], out
    told = vaefast.load("run")._told
    assert [column.categories for column in told.covariates.columns] == [None]
