"""What 10x Genomics writes: a matrix of genes by cells with `barcodes.tsv` and `features.tsv` beside it, and `.h5` files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vaefast.data.h5sparse import opened, read_group, texts
from vaefast.data.numbers import Numbers
from vaefast.data.reading import reading, unpacked
from vaefast.data.wording import reason, shown
from vaefast.errors import DataError

MATRIX = "matrix.mtx"
BARCODES, FEATURES = "barcodes.tsv", ("features.tsv", "genes.tsv")
PACKED = ("", ".gz")
# The features that are counted in RNA; others, such as antibodies, are measured in another way.
GENES = "Gene Expression"
NO_MATRIX = (
    "is an HDF5 file: save its array with numpy.save, and give that (h5py reads it); .h5ad of anndata and .h5 of 10x Genomics "
    "are read as they are"
)


@dataclass(frozen=True)
class Features:
    """The features of a matrix.

    Parameters
    ----------
    names
        Symbols of the genes, no two the same.
    types
        What each is; empty where the file does not say.
    file
        Name of the file.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    file: str

    def genes_alone(self, numbers: Numbers) -> Numbers:
        """A table whose columns are these features, with the genes alone if other features are measured beside them."""
        genes = np.flatnonzero(np.array(self.types, dtype=object) == GENES)
        others = len(self.types) - len(genes)
        if not len(genes) or not others:
            return numbers
        kinds = ", ".join(sorted({kind for kind in self.types if kind != GENES}))
        note = f"{others:,} features that are no genes ({shown(kinds)}) are left out"
        return replace(numbers.only(genes.tolist()), notes=(*numbers.notes, note))


@dataclass(frozen=True)
class Companions:
    """The files beside a matrix: names of cells, of features, or of both. Without names of cells `barcodes_file` is empty."""

    barcodes: tuple[str, ...]
    barcodes_file: str
    features: Features | None


def matrix_in(folder: Path) -> Path | None:
    """The matrix of a folder that 10x Genomics wrote; None for another folder."""
    return next((path for path in (folder / f"{MATRIX}{ending}" for ending in PACKED) if path.is_file()), None)


def companions_of(path: Path) -> Companions | None:
    """The files beside a matrix; None where none names its cells, nor the features of what 10x Genomics calls a matrix.

    Files of one sample among others share what stands before `matrix.mtx`, `barcodes.tsv` and so on.

    Raises
    ------
    DataError
        A file is damaged.
    """
    prefix = path.name.partition(MATRIX)[0] if MATRIX in path.name else ""
    barcodes = _beside(path, prefix, (BARCODES,))
    # Beside a matrix of another name, a file of features alone may have nothing to do with it.
    features = _beside(path, prefix, FEATURES) if barcodes is not None or MATRIX in path.name else None
    if barcodes is None and features is None:
        return None
    cells = () if barcodes is None else tuple(fields[0] for fields in _fields(barcodes))
    return Companions(cells, "" if barcodes is None else barcodes.name, None if features is None else _features(features))


def _beside(path: Path, prefix: str, names: Sequence[str]) -> Path | None:
    candidates = (path.with_name(f"{prefix}{name}{ending}") for name in names for ending in PACKED)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _features(path: Path) -> Features:
    """Features from a file of their ids, symbols and, from version 3 on, types; one with ids alone is taken as well."""
    fields = _fields(path)
    symbols = [held[min(1, len(held) - 1)] for held in fields]
    types = tuple(held[2] for held in fields if len(held) > 2)
    return Features(unique(symbols), types if len(types) == len(fields) else (), path.name)


def _fields(path: Path) -> list[list[str]]:
    """The fields of each line.

    Raises
    ------
    DataError
        The file is damaged, or a line has fewer fields than the first.
    """
    with reading(path) as file, unpacked(file, path) as stream:
        content = stream.read()
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{shown(path)} is no text ({reason(error)}): fetch it again") from error
    found = [line.split("\t") for line in lines]
    short = next((at for at, fields in enumerate(found) if len(fields) < len(found[0])), None)
    if short is not None:
        held = f"{len(found[short])} fields, but the first line has {len(found[0])}"
        raise DataError(f"{shown(path)}: line {short + 1} has {held}: fetch the file again")
    return found


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, no two the same: the second NAME becomes NAME-1, the third NAME-2, as in scanpy."""
    taken, times, found = {*names}, dict[str, int](), []
    for name in names:
        if name not in times:
            times[name] = 0
            found.append(name)
            continue
        while (other := f"{name}-{times[name] + 1}") in taken:
            times[name] += 1
        times[name] += 1
        taken.add(other)
        found.append(other)
    return tuple(found)


def read_tenx(path: Path) -> Numbers:
    """Read an `.h5` of 10x Genomics: `filtered_feature_bc_matrix.h5`, of any version with one genome.

    Raises
    ------
    DataError
        h5py is not installed, the file is damaged, or it is another HDF5 file.
    """
    with opened(path) as file:
        held = _group(file, path)
        genes, cells = (int(length) for length in held["shape"][()])
        # Cells follow each other in the file: its columns of genes are our rows.
        values = read_group(held, "csr", (cells, genes), path)
        features = _features_in(held, path)
        barcodes = texts(held["barcodes"])
    if (len(barcodes), len(features.names)) != (cells, genes):
        raise DataError(
            f"{shown(path)} is damaged (it holds {cells:,} cells of {genes:,} features, but names {len(barcodes):,} and "
            f"{len(features.names):,}): fetch it again"
        )
    return features.genes_alone(Numbers(path, values, features.names, barcodes))


def _group(file: Any, path: Path) -> Any:
    """The group of the matrix: `matrix`, or before version 3 one named after the genome.

    Raises
    ------
    DataError
        There is none, or there are several genomes.
    """
    groups = [name for name in file if hasattr(file[name], "keys") and {"indptr", "barcodes"} <= {*file[name]}]
    if not groups:
        raise DataError(f"{shown(path)} {NO_MATRIX}")
    if len(groups) > 1:
        raise DataError(f"{shown(path)} holds {len(groups)} genomes ({shown(', '.join(groups))}): write one of them to a file")
    return file[groups[0]]


def _features_in(held: Any, path: Path) -> Features:
    if "features" not in held:
        return Features(unique(texts(held["gene_names"])), (), path.name)
    features = held["features"]
    types = texts(features["feature_type"]) if "feature_type" in features else ()
    return Features(unique(texts(features["name"])), types, path.name)
