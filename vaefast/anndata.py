"""Latents of the cells of an AnnData object: `embed` finds the counts, trains a `VAE` and writes what scanpy reads.

The package anndata is not imported: `embed` takes any object with `X`, `layers`, `raw`, `obs`, `var`, `obsm` and `uns`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaefast.errors import DataError, SettingsError
from vaefast.estimator import VAE
from vaefast.models.count_rows import CountRows, first_wrong
from vaefast.models.settings import COUNT_LIKELIHOODS
from vaefast.version import __version__

COUNTS, HIGHLY_VARIABLE = "counts", "highly_variable"
# Values of a matrix that are read at once.
BLOCK = 1 << 20
# What `embed` reads and writes of an AnnData object, and the types of truth values, also as 0 and 1.
PARTS = ("X", "layers", "raw", "obs", "var", "obsm", "uns")
TRUTH = (bool, int, float, np.bool_, np.number)
REMEDY = 'keep them before you normalise, with adata.layers["counts"] = adata.X.copy(), or name their layer with layer='

log = logging.getLogger(__name__)


def embed(
    adata: Any,
    *,
    layer: str | None = None,
    key_added: str = "X_vae",
    n_components: int = 10,
    use_highly_variable: bool | None = None,
    batch_key: str | Sequence[str] | None = None,
    **settings: Any,
) -> VAE:
    """Train a VAE on the counts of an AnnData object, and write the latents of its cells into it.

    `adata.obsm[key_added]` becomes the posterior means, float32 (cells, Z), which `scanpy.pp.neighbors(use_rep=key_added)`
    takes. `adata.uns[key_added]` becomes a dictionary of what was chosen.

    Without `layer` the counts are those of `adata.X` if it holds whole numbers, else of `adata.layers["counts"]`, else of
    `adata.raw`. Normalised values, such as logarithms, are refused, unless `likelihood` is one of real numbers.

    Parameters
    ----------
    adata : AnnData
        Cells by genes, sparse or dense, in memory or backed. A view in memory becomes a copy, of which anndata warns.
    layer : str or None, default=None
        Name of the layer that holds the counts.
    key_added : str, default='X_vae'
        The key in `obsm` and `uns`.
    n_components : int, default=10
        Number of latents, Z.
    use_highly_variable : bool or None, default=None
        Whether to train on the genes of `adata.var["highly_variable"]` alone. None does if this column is there.
    batch_key : str or sequence of str or None, default=None
        Columns of `adata.obs` that the latents should not carry, such as the batch of a cell: the covariates of `VAE.fit`.
        Whole numbers, text, booleans and categories are categories; real numbers are standardised.
    **settings
        Parameters of `vaefast.VAE`. `likelihood` is `negative-binomial` without being told.

    Returns
    -------
    VAE
        The trained model. Its methods take counts of the genes it was trained on, such as
        `adata[:, adata.var["highly_variable"]].layers["counts"]`.

    Raises
    ------
    DataError
        It is no AnnData object, has no cells or no genes, or is a view of a backed one. There are no counts, no such layer, no
        column of highly variable genes, no column of `batch_key`, or a value is missing in one of these columns.
    SettingsError
        A parameter of the model is out of its range.

    See Also
    --------
    vaefast.VAE : The model.

    Examples
    --------
    >>> from vaefast.anndata import embed
    >>> vae = embed(adata, layer="counts", random_state=0)  # doctest: +SKIP
    >>> scanpy.pp.neighbors(adata, use_rep="X_vae")  # doctest: +SKIP
    """
    _check(adata)
    if settings.get("likelihood", "auto") == "auto":
        settings["likelihood"] = "negative-binomial"
    vae = VAE(n_components, **settings)
    genes, batches = _genes(adata, use_highly_variable), _batches(adata, batch_key)
    X, name = _values(adata, layer, genes, counts=vae.likelihood in COUNT_LIKELIHOODS)
    _announce(name, X.shape, genes, aloud=bool(vae.verbose))
    vae.fit(X, covariates=batches)
    # Not `transform`, whose result scikit-learn makes a table of where it is told to.
    adata.obsm[key_added] = vae.posterior(X, covariates=batches)[0]
    adata.uns[key_added] = {
        "vaefast": __version__,
        "counts": name,
        "use_highly_variable": genes is not None,
        "n_genes": int(X.shape[1]),
        "batch_key": [] if batches is None else [str(column) for column in batches.columns],
        "likelihood": vae.likelihood_,
        "seed": int(vae.seed_),
        "epochs": int(vae.n_iter_),
        "settings": _plain(vae),
    }
    return vae


def _check(adata: Any) -> None:
    """Refuse what is no AnnData object, and one without cells or genes."""
    if not all(hasattr(adata, part) for part in PARTS):
        remedy = "give anndata.AnnData(X), or fit vaefast.VAE to the counts themselves"
        raise DataError(f"adata is of type {type(adata).__name__}, and embed takes an AnnData object: {remedy}")
    for part, what in (("obs", "cells"), ("var", "genes")):
        if not len(getattr(adata, part)):
            raise DataError(f"adata has no {what}: look at what was filtered out before")
    if getattr(adata, "is_view", False) and getattr(adata, "isbacked", False):
        raise DataError("adata is a part of a backed object, which nothing can be written into: give adata.to_memory()")


def _values(adata: Any, layer: str | None, genes: NDArray[np.bool_] | None, *, counts: bool) -> tuple[Any, str]:
    """What to train on, (cells, genes), and what messages call it."""
    if counts:
        source = _counts_in(adata, layer)
        return _counts(source, genes), source.name
    source = _X(adata) if layer is None else _layer(adata, layer)
    return _as_it_is(source, genes), source.name


def _announce(name: str, shape: tuple[int, int], genes: NDArray[np.bool_] | None, *, aloud: bool) -> None:
    """Log, and print if asked to, what is trained on."""
    log.info("counts of %s; %s%d genes", name, "" if genes is None else "highly variable genes: ", shape[1])
    if aloud:
        which = "all genes" if genes is None else f"the highly variable genes, {shape[1]:,} of {len(genes):,}"
        print(f"{name}: {shape[0]:,} cells; {which}", flush=True)


@dataclass(frozen=True)
class _Matrix:
    """A matrix of cells by genes, and what messages call it. `columns` are its columns of `adata.var`; None for all."""

    held: Any
    name: str
    columns: NDArray[np.int64] | None = None


def _genes(adata: Any, use: bool | None) -> NDArray[np.bool_] | None:
    """Which genes to train on; None for all."""
    is_there = HIGHLY_VARIABLE in adata.var
    if use is False or (use is None and not is_there):
        return None
    if not is_there:
        raise DataError(
            'adata.var has no column "highly_variable": run scanpy.pp.highly_variable_genes, or leave out use_highly_variable'
        )
    values = np.asarray(adata.var[HIGHLY_VARIABLE], dtype=object)
    # Text such as "False" and a missing value would both count as true.
    wrong = next((at for at, value in enumerate(values) if not (isinstance(value, TRUTH) and value in (0, 1))), None)
    if wrong is not None:
        found = f"gene {wrong} (counted from 0) is {values[wrong]!r}"
        remedy = "give True or False for each gene, or use_highly_variable=False"
        raise DataError(f'adata.var["highly_variable"] of {found}, which is no truth value: {remedy}')
    genes = values.astype(bool)
    if not genes.any():
        remedy = "run scanpy.pp.highly_variable_genes, or give use_highly_variable=False"
        raise DataError(f'adata.var["highly_variable"] chooses no gene: {remedy}')
    return genes


def _batches(adata: Any, batch_key: str | Sequence[str] | None) -> Any:
    """Columns of `adata.obs` as a table whose whole numbers are categories; None for no covariates.

    Raises
    ------
    DataError
        There is no such column.
    """
    if batch_key is None:
        return None
    names = [batch_key] if isinstance(batch_key, str) else list(batch_key)
    held = [str(name) for name in adata.obs.columns]
    for name in names:
        if name not in adata.obs:
            near = get_close_matches(str(name), held, n=1)
            meant = f"did you mean {near[0]!r}? It" if near else "it"
            raise DataError(f"adata.obs has no column {name!r} for batch_key: {meant} has {', '.join(held) or 'none'}")
    table = adata.obs[names].copy()
    return table.astype({name: "category" for name in names if _are_whole(table[name])})


def _are_whole(column: Any) -> bool:
    """Whether a column is one of whole numbers, by its type or, if it is of objects, by all of them."""
    if column.dtype == object:
        return all(isinstance(value, (int, np.integer)) and not isinstance(value, bool) for value in column)
    return getattr(column.dtype, "kind", "O") in "iu"


# --- Where the counts are


def _counts_in(adata: Any, layer: str | None) -> _Matrix:
    """The matrix that holds whole counts.

    Raises
    ------
    DataError
        There is none.
    """
    if layer is not None:
        found = _layer(adata, layer)
        wrong = _wrong(found)
        if wrong:
            raise DataError(f"{found.name} holds no whole counts ({wrong}): {REMEDY}, or give a likelihood of real numbers")
        return found
    said = []
    for candidate in _candidates(adata):
        wrong = _wrong(candidate)
        if not wrong:
            return candidate
        said.append(f"{candidate.name}: {wrong}")
    raise DataError(f"adata holds no whole counts ({'; '.join(said) or 'X is None'}): {REMEDY}")


def _candidates(adata: Any) -> Iterator[_Matrix]:
    """The matrices where counts may be, the first of which is taken."""
    if adata.X is not None:
        yield _X(adata)
    if COUNTS in adata.layers:
        yield _layer(adata, COUNTS)
    if adata.raw is not None:
        # `raw` keeps the genes that were left out of `adata`.
        places = adata.raw.var_names.get_indexer(adata.var_names) if adata.raw.var_names.is_unique else np.array([-1])
        if (places >= 0).all():
            as_they_are = np.array_equal(places, np.arange(adata.raw.X.shape[1]))
            yield _Matrix(adata.raw.X, "adata.raw", None if as_they_are else places)


def _X(adata: Any) -> _Matrix:
    return _Matrix(adata.X, "adata.X")


def _layer(adata: Any, layer: str) -> _Matrix:
    if layer not in adata.layers:
        names = [str(name) for name in adata.layers if name is not None]
        near = get_close_matches(layer, names, n=1)
        meant = f"did you mean {near[0]!r}? It" if near else "it"
        raise DataError(f"adata has no layer {layer!r}: {meant} has {', '.join(names) or 'X alone'}")
    return _Matrix(adata.layers[layer], f'adata.layers["{layer}"]')


def _wrong(matrix: _Matrix) -> str:
    """A value that is no count, and where, in words; empty if all are counts."""
    for start, block in _blocks(matrix.held):
        values = block.data if hasattr(block, "tocsr") else block
        if values.dtype.kind not in "buif":
            return f"values of type {values.dtype}"
        wrong = first_wrong(values)
        if wrong is None:
            continue
        if hasattr(block, "tocsr"):
            entry = int(wrong[0])
            row, column = int(np.searchsorted(block.indptr, entry, side="right")) - 1, int(block.indices[entry])
        else:
            row, column = int(wrong[0]), int(wrong[1])
        return f"cell {start + row}, gene {column} (both counted from 0) is {values[wrong]:g}"
    return ""


# --- Reading them


def _blocks(held: Any) -> Iterator[tuple[int, Any]]:
    """First row and values of blocks of rows: CSR of a sparse matrix, a NumPy array of a dense one, in memory or backed."""
    if getattr(held, "format", "csr") != "csr":  # rows of other formats lie scattered
        held = (held.to_memory() if hasattr(held, "to_memory") else held).tocsr()
    is_sparse = hasattr(held, "format")
    if is_sparse and hasattr(held, "tocsr"):
        yield 0, held
        return
    rows, width = held.shape
    step = max(1, BLOCK // max(1, width))
    for start in range(0, rows, step):
        block = held[start : start + step]
        yield start, block.tocsr() if is_sparse else np.asarray(block)


def _counts(matrix: _Matrix, genes: NDArray[np.bool_] | None) -> CountRows:
    """Rows of counts of the chosen genes; a backed matrix is never in memory as a whole."""
    columns = _columns(matrix, genes)
    parts = [CountRows.of(block) for _, block in _blocks(matrix.held)]
    return CountRows.joined([part if columns is None else part.only(columns) for part in parts])


def _columns(matrix: _Matrix, genes: NDArray[np.bool_] | None) -> NDArray[np.int64] | None:
    """The columns of a matrix that are the chosen genes; None for all."""
    if genes is None:
        return matrix.columns
    return np.flatnonzero(genes) if matrix.columns is None else matrix.columns[genes]


def _as_it_is(matrix: _Matrix, genes: NDArray[np.bool_] | None) -> Any:
    """Numbers of any kind, of the chosen genes.

    Raises
    ------
    SettingsError
        There is no matrix.
    """
    if matrix.held is None:
        raise SettingsError("adata.X is None: give layer=")
    held = matrix.held.to_memory() if hasattr(matrix.held, "to_memory") else matrix.held
    held = held if hasattr(held, "tocsr") else np.asarray(held)
    return held if genes is None else (held.tocsc() if hasattr(held, "tocsc") else held)[:, np.flatnonzero(genes)]


def _plain(vae: VAE) -> dict[str, Any]:
    """Parameters that a file can hold."""
    params = {name: list(value) if isinstance(value, tuple) else value for name, value in vae.get_params().items()}
    held = (bool, int, float, str, list)
    return {name: value for name, value in params.items() if isinstance(value, held) and value != [] and name != "callbacks"}
