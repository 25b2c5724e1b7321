"""`vaefast transform MODEL`: write latents and scores of each row of a file, in the order of the file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaefast.cli import console
from vaefast.cli.console import complain, say
from vaefast.cli.parser import Parser, add_missing, command_parser, values, with_last_groups
from vaefast.errors import DataError, OutputError, SettingsError
from vaefast.evaluate import MOST_SAMPLES, Display, is_in_color, label_of, layer_of, missing_of, model_of
from vaefast.runs.interruption import Interruption

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaefast.data import Numbers
    from vaefast.estimator import VAE
    from vaefast.inputs import ToldColumns

SUFFIXES = (".csv", ".npy", ".npz")
# Rows whose scores are computed at once. Signals are handled between two blocks.
BLOCK = 1000


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What is told to a command that writes a file of what a model says of each row of another."""

    model: Path
    data: str
    out: Path
    layer: str | None
    missing: list[str] | None
    engine: str | None
    threads: int | None
    force: bool
    debug: bool


@dataclass(frozen=True, kw_only=True)
class Options(FileOptions):
    """The command line, parsed."""

    std: bool
    samples: int | None
    limit: int | None


def parse(arguments: list[str]) -> Options:
    """Parse the flags. Errors are those of `values`, and one for the ending of --out."""
    largest = {"samples": MOST_SAMPLES, "limit": None}
    options = Options(**values(_build_parser(), arguments, paths=("model", "out"), largest=largest))
    if options.out.suffix.lower() not in ("", *SUFFIXES):
        raise SettingsError(
            f"--out {options.out} ends in {options.out.suffix}: give a name that ends in {', '.join(SUFFIXES)}"
        )
    return options


def run(options: Options, interruption: Interruption) -> None:
    """Read the rows, compute, write the table, and print where it is."""
    from vaefast.engines.threads import thread_count
    from vaefast.estimator import load
    from vaefast.files import atomic
    from vaefast.inputs import ToldColumns

    check_out(options.out, options.data, options.model, options.force)
    threads = None if options.threads is None else thread_count(options.threads)
    vae = load(model_of(options.model), engine=options.engine, n_jobs=threads)
    data = rows_of(vae, options.model, options.data, options.layer, options.missing).first(options.limit)
    if data.notice:
        complain(data.notice)
    columns = ToldColumns.of(data.told, len(vae._told.names), data.name)
    try:
        with Display(len(data), "row") as display:
            arrays = _arrays(vae, data, columns, options, display.show)
    finally:
        vae._network.engine.close()
    atomic.write_bytes(options.out, _content(arrays, options.out.suffix.lower()))
    strange = _strange(arrays)
    if strange:
        complain(f"rows with a score that is not finite: {strange:,}; they are too far from the training data")
    say(f"{data.name}: {len(data):,} rows | {', '.join(_columns(arrays))} | {options.out}")


def check_out(out: Path, data: str, model: Path, force: bool) -> None:
    """Refuse, before anything is computed, an --out that cannot be written or that exists.

    Raises
    ------
    SettingsError
        The file exists without --force, or is one that this command reads.
    OutputError
        Its folder does not exist, or it is a folder itself.
    """
    if out.is_dir():
        raise OutputError(f"{out} is a folder: give --out the name of a file")
    if out.exists() and not out.is_file():
        raise OutputError(f"{out} is a pipe or a device, not a file: choose another --out")
    folder = out.resolve().parent if out.is_symlink() else out.parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} of --out {out} does not exist: make it, or choose another --out")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {folder} of --out {out} cannot be written to: choose another --out")
    if not out.exists():
        return
    read = (Path(os.path.expanduser(data)), model_of(model))
    if any(path.exists() and os.path.samefile(path, out) for path in read):
        raise SettingsError(f"--out {out} is a file that this command reads: choose another --out")
    if not force:
        raise SettingsError(f"{out} exists: choose another --out, or replace it with --force")


def rows_of(vae: VAE, model: Path, file: str, layer: str | None, missing: list[str] | None) -> Numbers:
    """The rows of a file for a model: as pixels for a model of pictures, else as plain numbers.

    Raises
    ------
    DataError
        The rows cannot be read, or have another number of columns than the model.
    """
    from vaefast.data import Kinds, Reading, numbers_of, read, read_numbers
    from vaefast.inputs import kinds as mixed

    name, known = os.path.expanduser(file), [str(name) for name in getattr(vae, "feature_names_in_", ())]
    wanted, schema = vae.n_features_in_, vae._inputs.schema
    if schema is not None:
        known = [*mixed.known_columns(schema)]
    elif known:
        del vae.feature_names_in_  # from here on the columns stand in the model's order, and have no names
    size_factors = vae._told.size_column
    told = vae._told.names if size_factors is None else (*vae._told.names, size_factors)
    pictures = vae._inputs.are_pictures
    if pictures and told:
        raise DataError(f"{model} was told {', '.join(told)} of pictures, which no file holds: use vaefast.load in Python")
    if pictures:
        data = numbers_of(read(name, how=Reading(color=is_in_color(model), layer=layer)), known)
    else:
        kinds = None if schema is None else Kinds(True, mixed.as_text(schema))
        columns = wanted if schema is None else len(schema.columns)
        how = Reading(
            label_of(model, name, columns + len(told), known), layer=layer or layer_of(model, name),
            missing=missing_of(model, missing), kinds=kinds,
        )  # fmt: skip
        data = read_numbers(name, wanted, known, how, told)
    if schema is not None:
        return mixed.for_schema(data, schema)
    if data.values.shape[1] != wanted:
        raise DataError(f"{data.name} has {data.values.shape[1]} columns, but the model has {wanted}: give other --data")
    return data if vae._inputs.are_counts else data.dense()  # counts stay sparse


def _arrays(
    vae: VAE, data: Numbers, columns: ToldColumns, options: Options, show: Callable[[int], None]
) -> dict[str, NDArray[Any]]:
    """The arrays to write, by name: `latent` and `std`, (N, Z) each, `elbo` and `log_p`, (N,).

    `columns` holds the covariates and the size factors of the rows.
    """
    import numpy as np

    X, covariates, sizes = data.rows, columns.values(vae._told), columns.sizes
    with placed(data, vae):
        table = vae._table(X)
    columns.beside(table, vae._told)  # looks at every value that is told
    with placed(data, vae):
        mean, std = vae.posterior(X, covariates=covariates)  # looks at every value
    arrays: dict[str, NDArray[Any]] = {"latent": mean} | ({"std": std} if options.std else {})
    arrays["elbo"] = np.empty(len(data))
    if options.samples is not None:
        arrays["log_p"] = np.empty(len(data))
    for rows in blocks(len(data)):
        about: dict[str, Any] = {
            "covariates": None if covariates is None else {name: values[rows] for name, values in covariates.items()},
            "size_factors": None if sizes is None else sizes[rows],
        }
        arrays["elbo"][rows] = vae.score_samples(X[rows], **about)
        if options.samples is not None:
            arrays["log_p"][rows] = vae.log_likelihood(X[rows], options.samples, **about)
        show(min(rows.stop, len(data)))
    return arrays


@contextmanager
def placed(data: Numbers, vae: VAE) -> Iterator[None]:
    """Refusals of a value name its place in the file."""
    from vaefast.inputs import in_file
    from vaefast.inputs import kinds as mixed

    if data.fields is not None:
        with mixed.placed(data.fields, data.cell, data.name):
            yield
        return
    try:
        yield
    except DataError as error:
        where = in_file(str(error), data.cell, data.values.shape[1], vae._inputs.names)
        raise DataError(f"{data.name} as {where}") from error


def blocks(rows: int) -> Iterator[slice]:
    """So many rows, in pieces between which signals are handled."""
    for start in range(0, rows, BLOCK):
        yield slice(start, start + BLOCK)


def _strange(arrays: dict[str, NDArray[Any]]) -> int:
    """How many rows have a score that is not finite."""
    import numpy as np

    scores = np.stack([array for array in arrays.values() if array.ndim == 1])
    return int((~np.isfinite(scores)).any(axis=0).sum())


# --- What is written


def _columns(arrays: dict[str, NDArray[Any]]) -> list[str]:
    """Names of the arrays, with the number of columns of those that have several."""
    return [f"{array.shape[1]} {name}" if array.ndim == 2 else name for name, array in arrays.items()]


def _content(arrays: dict[str, NDArray[Any]], suffix: str) -> bytes:
    """The bytes of a file: `.npz` has the arrays by name, `.npy` and `.csv` have all columns side by side in float64, which
    holds every float32."""
    import numpy as np

    file = io.BytesIO()
    if suffix == ".npz":
        np.savez(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()
    table = np.column_stack([array.astype(np.float64) for array in arrays.values()])
    if suffix == ".npy":
        np.save(file, table)
        return file.getvalue()
    names = [f"{name}_{i}" if array.ndim == 2 else name for name, array in arrays.items() for i in range(array[:1].size)]
    lines = [",".join(names), *(",".join(map(repr, row)) for row in table.tolist())]
    return ("\n".join(lines) + "\n").encode()


def add_model_and_data(parser: Parser, of_what: str, data: str, purpose: str) -> Callable[..., Any]:
    """The group of flags on a trained model and the rows of a file, and what adds another flag to it.

    Parameters
    ----------
    of_what
        What the model must be, as the end of a sentence; empty for any.
    data
        Help of `--data`.
    purpose
        What happens to a layer: read, fill.
    """
    add = parser.add_argument_group("model and data").add_argument
    add("model", metavar="MODEL", help=f"a run folder, a model.safetensors, or a file saved by vaefast.VAE{of_what}")
    add("--data", metavar="FILE", required=True, help=data)
    layer = f"for an .h5ad file: the layer to {purpose} instead of X (default: that of the run)"
    add("--layer", metavar="NAME", help=layer)
    add_missing(add)
    return add


def _build_parser() -> Parser:
    parser = command_parser(
        "transform",
        "MODEL --data FILE --out FILE",
        "Write the latents, the ELBO and, with --samples, log p(x) of each row of a file, in the order of the file.",
    )
    add = add_model_and_data(parser, "", "the rows: a file or folder of any format that vaefast train reads", "read")
    add("--limit", metavar="N", type=int, help="transform only the first N rows")
    add = parser.add_argument_group("table").add_argument
    add("--out", metavar="FILE", required=True, help="the table to write: .csv, .npy or .npz")
    add("--std", action="store_true", help="add the standard deviations of the latents")
    add("--samples", metavar="S", type=int, help="add log p(x), estimated from this many samples per row")
    add("--force", action="store_true", help="replace --out if it exists")
    return with_last_groups(parser, help="cython, numba or reference (default: as for vaefast.load)")


main = console.main_of(parse, run, "a smaller --limit or fewer --samples")

if __name__ == "__main__":
    console.exit_with(main)
