"""`vaefast evaluate RUN`: measure a trained model on test data, in numbers and figures."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaefast.cli import console, notices
from vaefast.cli.console import complain, say
from vaefast.cli.parser import Parser, add_missing, command_parser, values, with_last_groups
from vaefast.cli.program import called
from vaefast.errors import CheckpointError, DataError, OutputError, SettingsError
from vaefast.runs.interruption import Interruption
from vaefast.version import __version__

if TYPE_CHECKING:
    from vaefast.data import Dataset
    from vaefast.evaluation.measures import Assessment
    from vaefast.files.model_file import SavedModel
    from vaefast.inference.network import Network
    from vaefast.inputs import ScoredData, Source
    from vaefast.inputs.finding import Table
    from vaefast.tables.scaling import Inputs
    from vaefast.tables.told import Told

MODEL, RESULTS = "model.safetensors", "evaluation.json"
MOST_SAMPLES = 10**7
# A warning is due above this share of collapsed images, and below this share of active latents.
COLLAPSED_WEIGHTS, ACTIVE_LATENTS = 0.01, 0.1


@dataclass(frozen=True)
class Options:
    """The command line, parsed."""

    run: Path
    samples: int
    data: str | None
    data_dir: Path | None
    layer: str | None
    missing: list[str] | None
    limit: int | None
    engine: str
    threads: int | None
    out: Path | None
    figures: bool
    json: bool
    debug: bool


def parse(arguments: list[str]) -> Options:
    """Parse the flags. Errors are those of `values`."""
    largest = {"samples": MOST_SAMPLES, "limit": None}
    return Options(**values(_build_parser(), arguments, paths=("run", "out", "data_dir"), largest=largest))


def run(options: Options, interruption: Interruption) -> None:
    """Evaluate the model, and write and print the results."""
    from vaefast.engines.threads import thread_count
    from vaefast.evaluation import measures

    saved = _read_model(options.run)
    if options.data is None and (options.missing is not None or options.layer is not None):
        flag = "--layer" if options.missing is None else "--missing"
        raise SettingsError(f"{flag} is for --data: the run's own data are read as in training")
    if options.data is not None:
        _say_unused(options.data, options)
    data = _data(options, saved)
    for notice in data.notices:
        complain(notice)
    model = measures.network(saved, options.engine, thread_count(options.threads))
    folder = _folder(options)
    try:
        start = time.perf_counter()
        rows = data.drawn
        with Display(len(rows), data.unit) as display:
            found = measures.assess(
                model, rows.values, options.samples, display.show, exact_rows=rows.exact, log_volume=rows.log_volume
            )
        by_column = _by_column(model, data)
        report = _report(options, found, data, model, time.perf_counter() - start)
        report |= {"column_log_likelihoods": by_column} if by_column else {}
        # First of all, as the numbers may have taken long, and the disk may be full.
        say(json.dumps(report, indent=1) if options.json else _text(report, found, data.unit))
        _write(folder, report)
        for warning in report["warnings"]:
            complain(warning)
        if options.figures:
            _draw(folder, model, data, found)
            if not options.json:
                say(f"figures and {RESULTS} in {folder}")
    finally:
        model.engine.close()


# --- The model and its data


def model_of(path: Path) -> Path:
    """The model file in a run folder, or the path itself if it is a file.

    Raises
    ------
    DataError
        The run folder has no model.
    """
    if path.is_dir() and not (path / MODEL).exists():
        begun = (path / "checkpoint").is_dir()
        remedy = f"finish it with {called('train')} --resume {path}" if begun else "give a run folder or a model file"
        raise DataError(f"{path} holds no {MODEL}: {remedy}")
    return path / MODEL if path.is_dir() else path


def _read_model(path: Path) -> SavedModel:
    """The model of a run folder or of a file."""
    from vaefast.files import model_file

    return model_file.read(model_of(path))


def _data(options: Options, saved: SavedModel) -> ScoredData:
    """The rows to evaluate.

    Raises
    ------
    DataError
        They are not the data of the run, or have another number of columns than the model.
    """
    from vaefast.data import Dataset
    from vaefast.inference import saved_inputs
    from vaefast.inputs import to_score

    inputs, told = saved_inputs.of_saved(saved), saved_inputs.told_of(saved.estimator)
    if options.data is not None:
        found, is_all = _other_data(options, saved, inputs, told)
    else:
        found, is_all = _own_data(options, inputs), False
    columns = (found.test.values if isinstance(found, Dataset) else found.X).shape[1]
    what, unit = ("pixels an image", "image") if isinstance(found, Dataset) else ("columns", "row")
    if columns != saved.model.pixels and inputs.schema is None:  # which says itself what columns it lacks
        raise DataError(f"{found.name} has {columns} {what}, but the model has {saved.model.pixels}: give other --data")
    count, rows = len(found.test), "rows" if is_all else f"test {unit}s"
    data = to_score(found, inputs, f"{'all ' if is_all else ''}{count:,} {rows}", told)
    if options.limit is None or options.limit >= count:
        return data
    return replace(data, drawn=data.drawn.first(options.limit), rows_are=f"the first {options.limit:,} of {count:,} {rows}")


def _other_data(options: Options, saved: SavedModel, inputs: Inputs, told: Told) -> tuple[Dataset | Table, bool]:
    """The data that --data names, and whether all their rows are the test set.

    They are if the data have no test set of their own and are not those of the run, whose training rows must be left out.
    """
    from vaefast.data import Dataset, Reading, Rows, read, split, unsplit
    from vaefast.inputs import finding
    from vaefast.inputs.source import TABLE, Source

    path = os.path.expanduser(str(options.data))
    try:
        recorded, own = _source(options.run)
    except SettingsError:
        recorded, own = None, ""
    if is_table(saved, inputs):
        names = () if inputs.names is None else tuple(inputs.names)
        layer = options.layer or layer_of(options.run, path)
        known = Source(
            path, options.data_dir, kind=TABLE, columns=saved.model.pixels, known=names, layer=layer, covariates=told.names,
            size_factors=told.size_column, missing=missing_of(options.run, options.missing),
        ).for_model(inputs)  # fmt: skip
        width = (saved.model.pixels if inputs.schema is None else len(inputs.schema.columns)) + len(known.told)
        known = replace(known, label=label_of(options.run, path, width, known.known))
        if recorded is not None and recorded.test_fraction > 0:
            divided = finding.find(replace(known, test_fraction=recorded.test_fraction))
            if isinstance(divided, Dataset) or divided.of_model(inputs.schema).sha256 == own:
                return divided, False
        whole = finding.whole(known)
        return whole, not isinstance(whole, Dataset)
    found = read(path, options.data_dir, Reading(color=recorded is not None and recorded.color, layer=options.layer))
    if isinstance(found, Dataset):
        return found, False
    assert isinstance(found, Rows)
    if recorded is None:
        return unsplit(found), True
    data = split(found, recorded.test_fraction) if len(found.images) > 1 else unsplit(found)
    return (data, False) if data.sha256 == own else (unsplit(found), True)


def _say_unused(data: str | None, options: Options) -> None:
    for unused in notices.unused_data_dir(data, options.data_dir):
        complain(unused)


def is_table(saved: SavedModel, inputs: Inputs) -> bool:
    """Whether a model was trained on a table instead of pictures."""
    return bool(saved.estimator) and not inputs.are_pictures


def _own_data(options: Options, inputs: Inputs) -> Dataset | Table:
    """The data of the run, which are recognised by their hash.

    Raises
    ------
    DataError
        They have changed, or have no test set.
    """
    from vaefast.inputs import finding
    from vaefast.inputs.finding import Table

    source, sha256 = _source(options.run)
    _say_unused(source.data, options)
    source = source.for_model(inputs, own=True)
    found = finding.find(source if options.data_dir is None else replace(source, data_dir=options.data_dir))
    if isinstance(found, Table):
        found = found.of_model(inputs.schema)
    if found.sha256 != sha256:
        raise DataError(
            f"{source.data} is not what {options.run} was trained on (SHA-256 {found.sha256[:12]} instead of {sha256[:12]}): "
            "give --data to evaluate on it anyway"
        )
    if not len(found.test):
        raise DataError(f"{options.run} was trained on all rows of {source.data} (--test-fraction 0): give --data to test on")
    return found


def _source(path: Path) -> tuple[Source, str]:
    """The source of the data that a run recorded, and their hash.

    Raises
    ------
    SettingsError
        The model has no run folder, or the run has no record of its data.
    """
    from vaefast.inputs.source import recorded
    from vaefast.runs.checkpoint import CheckpointFolder

    folder = path if path.is_dir() else path.parent
    try:
        _, checkpoint, _ = CheckpointFolder(folder / "checkpoint").newest()
        return recorded(checkpoint.run["source"]), str(checkpoint.run["environment"]["data_sha256"])
    except (CheckpointError, KeyError, TypeError) as error:
        raise SettingsError(f"{folder} has no checkpoint that records its data: give --data") from error


def layer_of(path: Path, data: str) -> str | None:
    """The layer of `.h5ad` files that a model was trained on, for data in such a file; None for X, and without a record."""
    if not data.lower().endswith(".h5ad"):
        return None
    layer = _recorded(path, "layer")
    return None if layer is None else str(layer)


def missing_of(path: Path, given: list[str] | None) -> tuple[str, ...]:
    """What a cell says where its value is missing: as it is given, else as in training; nothing without a record."""
    if given is not None:
        return tuple(map(str.strip, given))
    return tuple(map(str, _recorded(path, "missing") or ()))


def label_of(path: Path, data: str, columns: int, known: Sequence[str] = ()) -> str | None:
    """The column of labels that training left out, for data that hold it at the same place: text without a header, with one
    column more than the `columns` of the model. None for other data, and without a record. `known` are the names of the
    model's columns."""
    from vaefast.data import file_of, width_without_names

    file = file_of(data)
    if file is None or width_without_names(file, known) != columns + 1:
        return None
    label = _recorded(path, "label")
    return None if label is None else str(label)


def is_in_color(path: Path) -> bool:
    """Whether a run kept the colour channels of its pictures; False without a record."""
    return bool(_recorded(path, "color"))


def _recorded(path: Path, name: str) -> Any:
    """How files were read in training: as the model file says, else as the run has recorded it; None without either."""
    from vaefast.files import model_file

    kept = model_file.read(model_of(path)).estimator.get(name)
    try:
        return kept or getattr(_source(path)[0], name)
    except SettingsError:
        return None


def _folder(options: Options) -> Path:
    """The folder for the results, made if need be."""
    from vaefast.files import atomic

    beside = options.run / "evaluation" if options.run.is_dir() else options.run.with_name(f"{options.run.stem}-evaluation")
    folder = options.out or beside
    try:
        atomic.make_folder(folder)
    except OSError as error:
        raise atomic.cannot_make(folder, error) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {folder} cannot be written to: choose another --out")
    return folder


# --- What is printed


def _report(options: Options, found: Assessment, data: ScoredData, model: Network, seconds: float) -> dict[str, Any]:
    """All results, for JSON."""
    return {
        "vaefast": __version__,
        "model": str(options.run),
        "data": data.name,
        "data_sha256": data.sha256,
        "evaluated": data.rows_are,
        **asdict(found),
        "active_units": found.active_units,
        "engine": model.engine_name,
        "threads": model.threads,
        "seconds": seconds,
        "warnings": _warnings(found, model, data.unit),
    }


def _by_column(model: Network, data: ScoredData) -> dict[str, float]:
    """The mean log-likelihood of each column in nats, of columns of different kinds; empty for other data.

    They add up to that of the rows. What is missing has 0.
    """
    schema, rows = data.inputs.schema, data.drawn
    if schema is None:
        return {}
    assert rows.exact is not None
    terms = model.column_log_likelihoods(rows.values, 1, rows.exact) - data.inputs.log_volumes_of(rows.given)
    means = schema.by_column(terms).mean(axis=0).tolist()
    return {str(column.name): mean for column, mean in zip(schema.used, means, strict=True)}


def _text(report: dict[str, Any], found: Assessment, unit: str) -> str:
    latents = len(found.latent_kl)
    share = f"; below 2 for {100 * found.collapsed:.1f} % of the {unit}s" if found.collapsed else ""
    return "\n".join([
        f"{report['data']}: {report['evaluated']} | {report['model']} | engine {report['engine']}, "
        f"{report['threads']} thread{'s' if report['threads'] > 1 else ''}, {report['seconds']:.1f} s",
        f"ELBO              {found.elbo:.2f} nats (log-likelihood {found.log_likelihood:.2f}, KL {found.kl:.2f})",
        f"log p(x)          {found.log_p:.2f} nats by {found.samples:,} samples {_an(unit)} (+- {found.standard_error:.2f} "
        f"over {unit}s, +- {found.monte_carlo_error:.3f} over samples)",
        f"effective samples median {found.effective_samples_median:.1f}, smallest {found.effective_samples_smallest:.1f} of "
        f"{found.samples:,}{share}",
        f"active units      {found.active_units} of {latents} latents",
        f"KL of the latents {_largest(found.latent_kl)}",
        *_columns(report.get("column_log_likelihoods", {})),
    ])  # fmt: skip


def _columns(means: dict[str, float], count: int = 5) -> list[str]:
    """The line on columns of different kinds, those that the model says least of first."""
    from vaefast.data.wording import shown

    if not means:
        return []
    names = sorted(means, key=lambda name: means[name])
    rest = f"; {len(names) - count} more above" if len(names) > count else ""
    return [f"log-likelihood    by column: {', '.join(f'{means[name]:.2f} ({shown(name)})' for name in names[:count])}{rest}"]


def _an(unit: str) -> str:
    return f"an {unit}" if unit[0] in "aeiou" else f"a {unit}"


def _largest(kl: list[float], count: int = 5) -> str:
    order = sorted(range(len(kl)), key=lambda i: -kl[i])
    rest = f"; {len(kl) - count} more below" if len(kl) > count else ""
    return ", ".join(f"{kl[i]:.2f} (latent {i})" for i in order[:count]) + rest


def _warnings(found: Assessment, model: Network, unit: str = "image") -> list[str]:
    """Warnings about the model, each with its remedy."""
    latents, said = len(found.latent_kl), []
    if found.collapsed > COLLAPSED_WEIGHTS:
        said.append(
            f"log p(x) is too low for {100 * found.collapsed:.1f} % of the {unit}s, where fewer than 2 of {found.samples:,} "
            "samples decide it: train for longer or on data like these, or, with less effect, give more --samples"
        )
    # One row has no variance, by which active units are told.
    if found.images > 1 and found.active_units < max(1, ACTIVE_LATENTS * latents):
        advice = "warm up the weight of the KL divergence (--objective beta --kl-warm-up linear) or give each latent free nats"
        advice += " (--objective free-bits --free-nats 0.1)"
        if model.model.activation == "relu":
            advice += "; with relu, --init data-mean is known to collapse: choose another --init or --activation tanh"
        said.append(
            f"posterior collapse: {found.active_units} of {latents} latents are active, and the decoder ignores the others: "
            f"{advice}"
        )
    return said


def _write(folder: Path, report: dict[str, Any]) -> None:
    from vaefast.files import atomic

    atomic.write_bytes(folder / RESULTS, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())


def _draw(folder: Path, model: Network, data: ScoredData, found: Assessment) -> None:
    """The figures of `vaefast train` except the curve of the ELBO, and those of the latents."""
    from vaefast.data.wording import shown
    from vaefast.evaluation.measures import ACTIVE_VARIANCE
    from vaefast.plots import latents, run_figures, sheet
    from vaefast.plots.latent_plane import SCATTERED, latent_plane

    name, settings = shown(data.name), model.training
    with model.quiet(), sheet.missing_letters():
        run_figures.draw(
            model.engine, data, [], model=model.model, binarize=settings.binarize, seed=settings.seed, folder=folder
        )
        active = [variance > ACTIVE_VARIANCE for variance in found.mean_variances]
        bars = latents.draw_latent_bars(found.latent_kl, active, name, unit=data.unit)
        sheet.save(bars, folder / "latent_kl.png")
        if not data.is_pictures:
            return
        points, axis_names = latent_plane(*model.posterior(data.drawn.values[:SCATTERED]))
        labels = None if data.labels is None else data.labels[:SCATTERED]
        sheet.save(latents.draw_latent_scatter(points, labels, axis_names, name), folder / "latents.png")
        if model.model.latent == 2 and data.shape is not None:
            plane = run_figures.manifold(model.engine, model.model.likelihood)
            manifold = latents.draw_manifold(plane, data.shape, data_name=name)
            sheet.save(manifold, folder / "manifold.png")


class Display:
    """A progress bar over the examples, on a terminal."""

    def __init__(self, count: int, unit: str) -> None:
        from tqdm import tqdm

        live = sys.stderr is not None and sys.stderr.isatty()
        self._bar = tqdm(total=count, unit=unit, disable=not live, leave=False, dynamic_ncols=True)

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def show(self, done: int) -> None:
        """Show that `done` examples are done."""
        self._bar.update(done - self._bar.n)


def _build_parser() -> Parser:
    parser = command_parser(
        "evaluate",
        "RUN [--samples S] [--data WHAT]",
        "Measure a trained model on test data: the ELBO, log p(x) by importance sampling, and how many latents "
        "are in use. Numbers and figures go to a folder.",
    )
    add = parser.add_argument_group("model and data").add_argument
    add("run", metavar="RUN", help="a run folder or a model.safetensors")
    add("--data", metavar="WHAT", help="evaluate on other data than the run's: mnist, digits, or the path of a file or "
        "folder; on its test set if it has one, else on all of it")  # fmt: skip
    add("--data-dir", metavar="FOLDER", help="folder with the four MNIST files")
    add("--layer", metavar="NAME", help="for --data in an .h5ad file: the layer to read instead of X (default: that of the "
        "run)")  # fmt: skip
    add_missing(add)
    add("--limit", metavar="N", type=int, help="evaluate only the first N examples")
    add = parser.add_argument_group("measures and figures").add_argument
    add("--samples", metavar="S", type=int, default=5000, help="samples per example for log p(x); more samples are more "
        "accurate and slower (default: %(default)s)")  # fmt: skip
    add("--out", metavar="FOLDER", help=f"folder for {RESULTS} and the figures (default: evaluation, in the run folder)")
    add("--no-figures", dest="figures", action="store_false", help="write no figures")
    add("--json", action="store_true", help=f"print {RESULTS} instead of text")
    return with_last_groups(parser, default="auto", help="cython, numba or reference (default: %(default)s, the fastest with "
        "a kernel for importance sampling)")  # fmt: skip


main = console.main_of(parse, run, "a smaller --limit or fewer --samples")

if __name__ == "__main__":
    console.exit_with(main)
