"""`vaefast impute MODEL`: write a file again with its missing values filled in, and all else as it came."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vaefast.cli import console
from vaefast.cli.console import complain, say
from vaefast.cli.parser import Parser, command_parser, values, with_last_groups
from vaefast.errors import DataError, SettingsError
from vaefast.evaluate import MOST_SAMPLES, Display, layer_of, model_of
from vaefast.runs.interruption import Interruption
from vaefast.transform import FileOptions, add_model_and_data, blocks, check_out, placed, rows_of

if TYPE_CHECKING:
    from vaefast.data import Numbers
    from vaefast.data.filling import Filling
    from vaefast.estimator import VAE
    from vaefast.inputs import ToldColumns


@dataclass(frozen=True, kw_only=True)
class Options(FileOptions):
    """The command line, parsed."""

    samples: int


def parse(arguments: list[str]) -> Options:
    """Parse the flags. Errors are those of `values`."""
    return Options(**values(_build_parser(), arguments, paths=("model", "out"), largest={"samples": MOST_SAMPLES}))


def run(options: Options, interruption: Interruption) -> None:
    """Read the rows, fill them, write the file, and print where it is."""
    from vaefast.data.filling import filled_file
    from vaefast.engines.threads import thread_count
    from vaefast.estimator import load
    from vaefast.files import atomic
    from vaefast.inputs import ToldColumns

    check_out(options.out, options.data, options.model, options.force)
    source = _file(options)
    threads = None if options.threads is None else thread_count(options.threads)
    vae = load(model_of(options.model), engine=options.engine, n_jobs=threads)
    data = rows_of(vae, options.model, options.data, options.layer, options.missing)
    if vae._inputs.are_pictures or vae._inputs.are_counts:
        raise DataError(f"{options.model} is a model of {_what(vae)}, which takes no missing values: give one of a table")
    if data.notice:
        complain(data.notice)
    columns = ToldColumns.of(data.told, len(vae._told.names), data.name)
    try:
        with Display(len(data), "row") as display:
            filled = (_filled if vae._inputs.schema is None else _filled_kinds)(vae, data, columns, options.samples, display)
    finally:
        vae._network.engine.close()
    layer = options.layer or layer_of(options.model, str(source))
    atomic.write_bytes(options.out, filled_file(source, filled, layer, data.names))
    count, size = sum(int(column.gaps.sum()) for column in filled), len(data) * _width(vae)
    said = "no value is missing"
    if count:
        are = "is" if count == 1 else "are"
        said = f"{count:,} of {size:,} values ({100 * count / size:.2g} %) {are} missing, filled in"
    say(f"{data.name}: {len(data):,} rows | {said} | {options.out}")


def _width(vae: VAE) -> int:
    """How many columns the model has."""
    schema = vae._inputs.schema
    return vae.n_features_in_ if schema is None else len(schema.used)


def _what(vae: VAE) -> str:
    return "pictures" if vae._inputs.are_pictures else "counts"


def _file(options: Options) -> Path:
    """The file to fill.

    Raises
    ------
    DataError, SettingsError
        It is none that can be written again, or --out ends like another kind of file.
    """
    from vaefast.data import file_of
    from vaefast.data.filling import ENDINGS
    from vaefast.data.kinds import kind_of_file

    path = Path(os.path.expanduser(options.data))
    source = file_of(str(path))
    kind = None if source is None else kind_of_file(source)
    if source is None or kind not in ENDINGS:
        kinds = ", ".join(endings[0] for endings in ENDINGS.values())
        raise DataError(f"{options.data} is no file that can be written again: give a table as {kinds}")
    ending, right = options.out.suffix.lower(), ENDINGS[kind]
    if ending and ending not in right:
        raise SettingsError(f"--out {options.out} ends in {ending}, but {options.data} is written as {right[0]}: name it so")
    return source


def _filled(vae: VAE, data: Numbers, columns: ToldColumns, samples: int, display: Display) -> list[Filling]:
    """The columns with missing values, and what fills them in."""
    import numpy as np

    from vaefast.data.filling import of_numbers

    X, covariates = data.values, columns.values(vae._told)
    gaps, filled = np.isnan(X), X.astype(np.float64)
    with placed(data, vae):
        columns.beside(vae._inputs.table(X), vae._told)  # looks at every value that is told
        vae.transform(X, covariates=covariates)  # looks at every value
    for rows in blocks(len(data)):
        told = None if covariates is None else {name: each[rows] for name, each in covariates.items()}
        filled[rows] = vae.impute(X[rows], samples, covariates=told)
        display.show(min(rows.stop, len(data)))
    return of_numbers(gaps, filled, data.at)


def _filled_kinds(vae: VAE, data: Numbers, columns: ToldColumns, samples: int, display: Display) -> list[Filling]:
    """The same for a table whose columns are of different kinds."""
    import numpy as np

    from vaefast.data.filling import Filling
    from vaefast.inputs import kinds as mixed

    schema = vae._inputs.schema
    assert schema is not None
    with placed(data, vae):
        table = vae._table(data.rows)
        told = columns.beside(table, vae._told)
    gaps, filled = np.isnan(table), np.zeros(table.shape)
    for rows in blocks(len(data)):
        if gaps[rows].any():
            filled[rows] = vae._missing_values(told[rows], gaps[rows], samples)[0]
        display.show(min(rows.stop, len(data)))
    found, places = [], mixed.places(schema, data)
    for column, decoded, place in zip(schema.used, schema.decoded(filled), places, strict=True):
        here = gaps[:, column.start]
        if here.any():
            found.append(Filling(data.at[place] if data.at else place, here, decoded, column.whole))
    return found


def _build_parser() -> Parser:
    parser = command_parser(
        "impute",
        "MODEL --data FILE --out FILE",
        "Write a table again with its missing values filled in, each by its mean given the values of its row that are there, "
        "or by the most likely text. "
        "Columns, their order, and all that is there stay as they came.",
    )
    kinds = "the table: a CSV, parquet, feather or .npy file, or an .h5ad file with a dense matrix"
    add_model_and_data(parser, ", of a table", kinds, "fill")
    add = parser.add_argument_group("result").add_argument
    add("--out", metavar="FILE", required=True, help="the file to write, of the same kind")
    add("--samples", metavar="S", type=int, default=1000, help="samples of the posterior for each row; more samples are more "
        "accurate and slower (default: %(default)s)")  # fmt: skip
    add("--force", action="store_true", help="replace --out if it exists")
    return with_last_groups(parser, help="cython, numba or reference (default: as for vaefast.load)")


main = console.main_of(parse, run, "fewer --samples, or a part of the file")

if __name__ == "__main__":
    console.exit_with(main)
