"""`vaefast sample MODEL`: write a new table, whose rows are drawn from a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaefast.cli import console
from vaefast.cli.console import complain, say
from vaefast.cli.parser import SEVERAL, Parser, command_parser, values, with_last_groups
from vaefast.errors import DataError, SettingsError
from vaefast.evaluate import model_of
from vaefast.runs.interruption import Interruption
from vaefast.transform import check_out

if TYPE_CHECKING:
    from vaefast.data.writing import NewColumn
    from vaefast.estimator import VAE

MOST_ROWS = 10**8
# Names of columns that a line lists.
MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, parsed."""

    model: Path
    rows: int
    out: Path
    seed: int
    covariates: list[str]
    engine: str | None
    threads: int | None
    force: bool
    debug: bool


def parse(arguments: list[str]) -> Options:
    """Parse the flags. Errors are those of `values`, and those of --out and --seed."""
    from vaefast.data.writing import ENDINGS, ending_of

    options = Options(**values(_build_parser(), arguments, paths=("model", "out"), largest={"rows": MOST_ROWS}))
    if ending_of(options.out) is None:
        raise SettingsError(f"--out {options.out} is no name of a table: give one that ends in {', '.join(ENDINGS)}")
    if not 0 <= options.seed < 2**32:
        raise SettingsError(f"seed is {options.seed}: give a whole number from 0 to 4,294,967,295")
    return options


def run(options: Options, interruption: Interruption) -> None:
    """Load the model, draw, write the table, and print where it is."""
    from vaefast.data.wording import shown
    from vaefast.data.writing import table_file
    from vaefast.engines.threads import thread_count
    from vaefast.estimator import load
    from vaefast.files import atomic

    check_out(options.out, "", options.model, options.force)
    threads = None if options.threads is None else thread_count(options.threads)
    vae = load(model_of(options.model), engine=options.engine, n_jobs=threads)
    if vae._inputs.are_pictures:
        raise DataError(f"{options.model} is a model of pictures: vaefast.load in Python samples them")
    try:
        columns, is_named = _drawn(vae, options)
    finally:
        vae._network.engine.close()
    absent = _absent(vae)
    if absent:
        complain(f"columns that the model does not have are not written: {shown(absent)}")
    atomic.write_bytes(options.out, table_file(columns, options.out, is_named))
    say(f"{options.model}: {options.rows:,} new rows of {len(columns):,} columns, seed {options.seed} | {options.out}")


def _drawn(vae: VAE, options: Options) -> tuple[list[NewColumn], bool]:
    """The columns of the new table, and whether they have names of their own."""
    import numpy as np

    from vaefast.data.writing import NewColumn

    rows = vae._new_rows(options.rows, options.seed, True, _covariates(vae, options.covariates))[0]
    schema = vae._inputs.schema
    if schema is None:
        drawn = rows if vae._inputs.are_counts else vae._inputs.leave(rows)
        whole = vae._inputs.are_counts or (vae.likelihood_ == "bernoulli" and vae._inputs.scale is None)
        names = [str(name) for name in getattr(vae, "feature_names_in_", range(drawn.shape[1]))]
        dtype = "int64" if whole else "float64"
        numbers = np.asarray(drawn, np.float64)
        columns = [NewColumn(name, numbers[:, at], dtype, whole) for at, name in enumerate(names)]
        return columns, hasattr(vae, "feature_names_in_")
    decoded = schema.decoded(vae._inputs.leave(rows), drawn=True)
    columns = []
    for column, each in zip(schema.used, decoded, strict=True):
        levels = column.levels if column.dtype == "category" else None
        about = column.dtype, column.whole, levels, column.ordered
        columns.append(NewColumn(str(column.name), each, *about))
    return columns, schema.named


def _covariates(vae: VAE, given: list[str]) -> dict[str, Any] | None:
    """One row of covariates, which all new rows have; None for a model without.

    Raises
    ------
    SettingsError
        One is not NAME=VALUE, or the model does not have it, or lacks a value.
    """
    import numpy as np

    known = {} if vae._told.covariates is None else {column.name: column for column in vae._told.covariates.columns}
    said: dict[str, str] = {}
    for text in given:
        # A name may hold the sign, too: the longest that fits is meant.
        name = max((name for name in known if text.startswith(f"{name}=")), key=len, default=None)
        if name is None:
            choices = f"its covariates are {', '.join(known)}" if known else "the model was trained without: leave them out"
            raise SettingsError(f"covariates has {text!r}, which is no NAME=VALUE of this model: {choices}")
        if name in said:
            raise SettingsError(f"covariates has {name} twice: give it once")
        said[name] = text[len(name) + 1 :]
    absent = [name for name in known if name not in said]
    if absent:
        remedy = " ".join(f"{name}=VALUE" for name in absent)
        raise SettingsError(f"the model was told {', '.join(known)} of each row: give --covariates {remedy}, too")
    if not known:
        return None
    row: dict[str, Any] = {}
    for name, value in said.items():
        if known[name].categories is not None:
            row[name] = np.array([value], object)
            continue
        try:
            row[name] = np.array([float(value)])
        except ValueError as error:
            raise SettingsError(f"covariates has {name}={value}, but {name} is a number: give one") from error
    return row


def _absent(vae: VAE) -> str:
    """Columns of the training data that the model does not have; empty if it has all."""
    schema = vae._inputs.schema
    if schema is None or not schema.named:
        return ""
    names = [str(column.name) for column in schema.columns if column.kind is None]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _build_parser() -> Parser:
    parser = command_parser(
        "sample",
        "MODEL --rows N --out FILE",
        "Write a new table, whose rows are drawn from a trained model, with the columns, types and categories of the table "
        "that it was trained on.",
    )
    add = parser.add_argument_group("model").add_argument
    add("model", metavar="MODEL", help="a run folder, a model.safetensors, or a file saved by vaefast.VAE, of a table")
    add("--covariates", metavar="NAME=VALUE", **SEVERAL, default=[], help="for a model that was told covariates: the value of "
        "each, which all new rows have")  # fmt: skip
    add = parser.add_argument_group("table").add_argument
    add("--rows", metavar="N", type=int, required=True, help="number of new rows")
    add("--out", metavar="FILE", required=True, help="the table to write: .csv, .tsv, .parquet or .feather; text may be "
        "packed, such as .csv.gz")  # fmt: skip
    add("--seed", metavar="S", type=int, default=0, help="the same seed gives the same rows (default: %(default)s)")
    add("--force", action="store_true", help="replace --out if it exists")
    return with_last_groups(parser, help="cython, numba or reference (default: as for vaefast.load)")


main = console.main_of(parse, run, "fewer --rows, in several files with different --seed")

if __name__ == "__main__":
    console.exit_with(main)
