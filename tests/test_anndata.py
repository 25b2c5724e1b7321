"""`vaefast.anndata.embed` on AnnData objects of anndata itself: where counts are found, what is written, what is refused."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from vaefast import VAE
from vaefast.anndata import embed
from vaefast.errors import DataError, SettingsError
from vaefast.version import __version__

anndata = pytest.importorskip("anndata", reason="anndata is not installed")

SMALL: dict[str, Any] = {"n_components": 3, "hidden_layer_sizes": (12,), "epochs": 2, "random_state": 4}
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(RNG.gamma(0.3, 4.0, (80, 25))).astype(np.float32)
LOGS = np.log1p(1e4 * COUNTS / np.maximum(COUNTS.sum(axis=1, keepdims=True), 1)).astype(np.float32)
VARIABLE = np.arange(25) % 3 == 0


def cells(X: Any = COUNTS, **layers: Any) -> Any:
    obs = pd.DataFrame({"kind": pd.Categorical(["a", "b"] * 40)}, index=[f"cell{i}" for i in range(80)])
    return anndata.AnnData(X, obs, pd.DataFrame(index=[f"gene{i}" for i in range(25)]), layers=layers)


def latents_of(X: Any) -> Any:
    return VAE(**SMALL, likelihood="negative-binomial").fit(X).transform(X)


@pytest.fixture(scope="module")
def expected() -> Any:
    return latents_of(COUNTS)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.asfortranarray])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_the_latents_are_those_of_the_model_of_the_counts(form, dtype, expected):
    adata = cells(form(COUNTS.astype(dtype)))
    vae = embed(adata, **SMALL)
    assert isinstance(vae, VAE)
    assert adata.obsm["X_vae"].dtype == np.float32
    np.testing.assert_array_equal(adata.obsm["X_vae"], expected)
    np.testing.assert_array_equal(vae.transform(adata.X), expected)


def test_what_was_chosen_is_kept_and_can_be_written(tmp_path, expected):
    adata = cells(LOGS, counts=sparse.csr_matrix(COUNTS))
    embed(adata, key_added="X_mine", **SMALL)
    kept = adata.uns["X_mine"]
    assert kept["vaefast"] == __version__
    assert (kept["counts"], kept["likelihood"], kept["seed"]) == ('adata.layers["counts"]', "negative-binomial", 4)
    assert (kept["epochs"], kept["n_genes"], kept["use_highly_variable"]) == (2, 25, False)
    assert kept["settings"]["hidden_layer_sizes"] == [12]
    assert kept["settings"]["n_components"] == 3
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(again.obsm["X_mine"], expected)
    assert again.uns["X_mine"]["likelihood"] == "negative-binomial"


def test_counts_are_found_in_x_the_layer_counts_and_raw(expected):
    with_raw = cells()
    with_raw.raw = with_raw.copy()
    with_raw.X = LOGS
    wide = anndata.AnnData(np.hstack([COUNTS[:, :9] + 1, COUNTS]), var=pd.DataFrame(index=[f"g{i}" for i in range(34)]))
    wide.var_names = [*(f"other{i}" for i in range(9)), *(f"gene{i}" for i in range(25))]
    wide.obs_names = [f"cell{i}" for i in range(80)]
    narrow = wide[:, 9:].copy()
    narrow.raw = wide
    narrow.X = LOGS
    named = cells(LOGS, umi=COUNTS, counts=LOGS)
    for adata, source, given in (
        (cells(COUNTS, counts=LOGS), "adata.X", {}),
        (cells(LOGS, counts=COUNTS), 'adata.layers["counts"]', {}),
        (cells(None, counts=COUNTS), 'adata.layers["counts"]', {}),
        (with_raw, "adata.raw", {}),
        (narrow, "adata.raw", {}),
        (named, 'adata.layers["umi"]', {"layer": "umi"}),
    ):
        embed(adata, **given, **SMALL)
        assert adata.uns["X_vae"]["counts"] == source
        np.testing.assert_array_equal(adata.obsm["X_vae"], expected)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_values_that_are_no_counts_are_refused_and_nothing_is_written(form):
    for adata, words in (
        (cells(form(LOGS)), ("adata.X: cell ", " is ", "keep them before you normalise")),
        (cells(form(LOGS), counts=form(LOGS)), ('adata.layers["counts"]: cell ',)),
        (cells(form(-COUNTS)), (" is -",)),
        (cells(None), ("X is None",)),
    ):
        with pytest.raises(DataError) as caught:
            embed(adata, **SMALL)
        assert "\n" not in str(caught.value)
        for word in ("adata holds no whole counts", *words):
            assert word in str(caught.value)
        assert not adata.obsm
        assert not adata.uns
    wrong = cells(form(LOGS))
    row, column = np.argwhere(LOGS % 1 > 0)[0]
    with pytest.raises(DataError, match=f"cell {row}, gene {column} "):
        embed(wrong, **SMALL)
    with pytest.raises(DataError, match='layers\\["logs"\\] holds no whole counts'):
        embed(cells(form(COUNTS), logs=form(LOGS)), layer="logs", **SMALL)


def test_a_likelihood_of_real_numbers_takes_what_is_there():
    adata = cells(sparse.csr_matrix(LOGS), scaled=LOGS - 1)
    vae = embed(adata, likelihood="gaussian", **SMALL)
    assert vae.likelihood_ == "gaussian"
    assert adata.uns["X_vae"]["counts"] == "adata.X"
    embed(adata, layer="scaled", likelihood="gaussian", **SMALL)
    assert adata.uns["X_vae"]["counts"] == 'adata.layers["scaled"]'
    with pytest.raises(SettingsError, match=r"adata\.X is None: give layer="):
        embed(cells(None), likelihood="gaussian", **SMALL)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_highly_variable_genes_are_taken_where_they_are_known(form, expected, capsys):
    adata = cells(form(LOGS), counts=form(COUNTS))
    adata.raw = cells()
    with pytest.raises(DataError, match="has no column"):
        embed(adata, use_highly_variable=True, **SMALL)
    adata.var["highly_variable"] = VARIABLE
    few = latents_of(COUNTS[:, VARIABLE])
    for use, found in ((None, few), (True, few), (False, expected)):
        embed(adata, use_highly_variable=use, verbose=1, **SMALL)
        np.testing.assert_array_equal(adata.obsm["X_vae"], found)
        assert adata.uns["X_vae"]["use_highly_variable"] == (use is not False)
        out = capsys.readouterr().out
        assert ("the highly variable genes, 9 of 25" in out) == (use is not False)
    del adata.layers["counts"]
    embed(adata, **SMALL)
    assert adata.uns["X_vae"]["counts"] == "adata.raw"
    np.testing.assert_array_equal(adata.obsm["X_vae"], few)
    embed(adata, likelihood="gaussian", **SMALL)
    assert adata.uns["X_vae"]["n_genes"] == 9
    adata.var["highly_variable"] = False
    with pytest.raises(DataError, match="chooses no gene"):
        embed(adata, **SMALL)


def test_a_view_becomes_a_copy_and_anndata_says_so():
    adata = cells(sparse.csr_matrix(COUNTS))
    view = adata[10:70, ::2]
    with pytest.warns(UserWarning, match="view"):
        embed(view, **SMALL)
    np.testing.assert_array_equal(view.obsm["X_vae"], latents_of(COUNTS[10:70, ::2]))
    assert not adata.obsm


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_backed_cells_are_read_in_blocks(tmp_path, monkeypatch, form, expected):
    monkeypatch.setattr("vaefast.anndata.BLOCK", 200)
    cells(form(COUNTS)).write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    embed(adata, **SMALL)
    np.testing.assert_array_equal(adata.obsm["X_vae"], expected)
    adata.var["highly_variable"] = VARIABLE
    embed(adata, **SMALL)
    np.testing.assert_array_equal(adata.obsm["X_vae"], latents_of(COUNTS[:, VARIABLE]))
    adata.file.close()
    cells(form(LOGS)).write_h5ad(tmp_path / "b.h5ad")
    adata = anndata.read_h5ad(tmp_path / "b.h5ad", backed="r")
    row, column = np.argwhere(LOGS % 1 > 0)[0]
    with pytest.raises(DataError, match=f"cell {row}, gene {column} "):
        embed(adata, **SMALL)
    embed(adata, likelihood="gaussian", **SMALL)
    adata.file.close()


def test_a_part_of_a_backed_object_is_refused_before_training(tmp_path):
    cells(COUNTS).write_h5ad(tmp_path / "a.h5ad")
    adata = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    with pytest.raises(DataError, match=r"part of a backed object.*to_memory\(\)"):
        embed(adata[10:70], **{**SMALL, "callbacks": [lambda vae, metrics: pytest.fail("it trains")]})
    part = adata[10:70].to_memory()
    embed(part, **SMALL)
    np.testing.assert_array_equal(part.obsm["X_vae"], latents_of(COUNTS[10:70]))
    adata.file.close()


def test_other_refusals():
    adata = cells(COUNTS, spliced=COUNTS)
    with pytest.raises(DataError, match=r"no layer 'splice': did you mean 'spliced'\? It has spliced"):
        embed(adata, layer="splice", **SMALL)
    with pytest.raises(DataError, match="no layer 'a': it has X alone"):
        embed(cells(), layer="a", **SMALL)
    with pytest.raises(TypeError, match="n_latent"):
        embed(adata, n_latent=3)
    with pytest.raises(SettingsError):
        embed(adata, **{**SMALL, "epochs": -1})
    assert not adata.obsm


def test_duplicate_gene_names_and_warnings_of_the_data_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata's own, of names that are not unique
        adata = anndata.AnnData(COUNTS, var=pd.DataFrame(index=["a"] * 25))
    embed(adata, **SMALL)
    assert adata.obsm["X_vae"].shape == (80, 3)


def test_the_module_imports_nothing_of_anndata():
    program = "import sys, vaefast.anndata; sys.exit(any(m in sys.modules for m in ('anndata', 'h5py')))"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_columns_of_obs_are_covariates():
    adata = cells()
    lanes = np.arange(80) % 3
    adata.obs["lane"], adata.obs["age"] = lanes, np.linspace(1, 2, 80)
    vae = embed(adata, batch_key="kind", **SMALL)
    frame = adata.obs[["kind"]]
    alone = VAE(**SMALL, likelihood="negative-binomial").fit(COUNTS, covariates=frame)
    np.testing.assert_array_equal(adata.obsm["X_vae"], alone.transform(COUNTS))
    np.testing.assert_array_equal(vae.score_samples(COUNTS, covariates=frame), alone.score_samples(COUNTS, covariates=frame))
    assert list(adata.uns["X_vae"]["batch_key"]) == ["kind"]
    # Whole numbers are lanes, not amounts; real numbers are amounts.
    vae = embed(adata, batch_key=["lane", "age"], encode_covariates=True, **SMALL)
    told = pd.DataFrame({"lane": lanes.astype(str), "age": np.linspace(1, 2, 80)})
    alone = VAE(**SMALL, likelihood="negative-binomial", encode_covariates=True).fit(COUNTS, covariates=told)
    np.testing.assert_array_equal(adata.obsm["X_vae"], alone.transform(COUNTS, covariates=told))
    assert adata.obs["lane"].dtype.kind == "i"
    embed(adata, **SMALL)
    assert adata.uns["X_vae"]["batch_key"] == []


def test_covariates_that_are_not_there():
    adata = cells()
    adata.obs["lane"] = pd.Categorical([None, *["a"] * 79])
    with pytest.raises(DataError, match=r"no column 'kin' for batch_key: did you mean 'kind'\? It has kind, lane"):
        embed(adata, batch_key="kin", **SMALL)
    with pytest.raises(DataError, match=r"row 0 \(counted from 0\) of 'lane' is missing"):
        embed(adata, batch_key=["kind", "lane"], **SMALL)
    assert not adata.obsm


@pytest.mark.parametrize("no", ["False", None, np.nan, 2], ids=str)
def test_what_is_no_truth_value_chooses_no_gene(no):
    adata = cells()
    adata.var["highly_variable"] = np.array([True] * 24 + [no], dtype=object)
    with pytest.raises(DataError, match=r"of gene 24 \(counted from 0\) is .*, which is no truth value: give True or False"):
        embed(adata, **SMALL)


@pytest.mark.parametrize("dtype", [int, float, object, "boolean"])
def test_truth_values_of_any_type_choose_genes(dtype):
    adata = cells()
    adata.var["highly_variable"] = pd.Series(VARIABLE, adata.var_names).astype(dtype)
    embed(adata, **SMALL)
    np.testing.assert_array_equal(adata.obsm["X_vae"], latents_of(COUNTS[:, VARIABLE]))


def test_what_is_no_anndata_object_or_an_empty_one_is_refused():
    for held in (COUNTS, pd.DataFrame(COUNTS), sparse.csr_matrix(COUNTS)):
        with pytest.raises(DataError, match=r"adata is of type .*, and embed takes an AnnData object: give anndata"):
            embed(held, **SMALL)
    for form in (np.asarray, sparse.csr_matrix):
        with pytest.raises(DataError, match="adata has no cells"):
            embed(cells(form(COUNTS))[:0].copy(), **SMALL)
        with pytest.raises(DataError, match="adata has no genes"):
            embed(cells(form(COUNTS))[:, :0].copy(), **SMALL)


def test_genes_of_raw_may_lie_in_another_order():
    wanted = [f"gene{at}" for at in np.flatnonzero(VARIABLE)]
    adata = cells()[:, ::-1].copy()
    adata.raw = adata.copy()
    adata = adata[:, [f"gene{at}" for at in range(25)]].copy()
    adata.X = LOGS
    for variable, chosen in ((VARIABLE, wanted), (np.ones(25, bool), [*adata.var_names])):
        adata.var["highly_variable"] = variable
        embed(adata, **SMALL)
        assert np.array_equal(adata.obsm["X_vae"], latents_of(adata.raw[:, chosen].X))


def test_the_latents_are_an_array_whatever_scikit_learn_gives():
    import sklearn

    with sklearn.config_context(transform_output="pandas"):
        embed(adata := cells(), **SMALL)
    assert np.array_equal(adata.obsm["X_vae"], latents_of(COUNTS))


def test_whole_numbers_among_objects_are_categories():
    """As joined columns of two types are."""
    adata = cells()
    adata.obs["lane"] = pd.Series([1, 2, 3, 1] * 20, index=adata.obs_names, dtype=object)
    assert embed(adata, batch_key="lane", **SMALL)._told.covariates.columns[0].categories == ("1", "2", "3")


def test_callbacks_are_not_kept_where_no_file_can_hold_them(tmp_path):
    adata = cells()
    embed(adata, callbacks=[lambda model, metrics: None], **SMALL)
    assert "callbacks" not in adata.uns["X_vae"]["settings"]
    adata.obs.index, adata.var.index = adata.obs.index.astype(object), adata.var.index.astype(object)
    adata.write_h5ad(tmp_path / "a.h5ad")
