"""`vaefast reproduce iwae-table1`: train and evaluate the rows of a published table, and compare them with it.

Each row is a run of `vaefast train` in its own folder. It is continued stage by stage and evaluated after each stage. So the
command can be stopped at any moment, and the same command continues.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaefast import train
from vaefast.cli import console
from vaefast.cli.console import complain, say
from vaefast.cli.options import checked
from vaefast.cli.parser import Parser, command_parser, values, with_last_groups
from vaefast.errors import CheckpointError, SettingsError
from vaefast.evaluation import iwae_table1
from vaefast.models.settings import PRECISIONS
from vaefast.runs.interruption import Interrupted, Interruption
from vaefast.training.schedules import stage_end
from vaefast.version import __version__

if TYPE_CHECKING:
    from vaefast.data import Dataset

TABLES = ("iwae-table1",)
RESULTS, FIGURE = "results.json", "nll.png"
MOST_SAMPLES = 1 << 24
# Settings that must stay the same in one folder.
FIXED = ("variant", "beta1", "kl", "precision", "seed", "data")
# What a setting was before there was a flag for it.
ONCE = {"precision": "float32"}


@dataclass(frozen=True)
class Options:
    """The command line, parsed."""

    table: str
    stages: int
    rows: tuple[str, ...]
    out: Path
    variant: str
    beta1: float | None
    kl: str | None
    precision: str
    samples: int
    stage_samples: int
    seed: int
    data: str
    data_dir: str | None
    engine: str | None
    threads: int | None
    checkpoint_every: str
    debug: bool

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings on which the results depend."""
        return {name: getattr(self, name) for name in FIXED}


def parse(arguments: list[str]) -> Options:
    """Parse the flags. Errors are those of `values`, and one for the rows."""
    largest = {"stages": iwae_table1.STAGES, "samples": MOST_SAMPLES, "stage_samples": MOST_SAMPLES}
    given = values(_build_parser(), arguments, paths=("out",), largest=largest)
    rows = tuple(name.strip() for name in given["rows"].split(",") if name.strip())
    for name in rows:
        if name not in iwae_table1.ROWS:
            raise SettingsError(f"rows has {name!r}: choose from {','.join(iwae_table1.ROWS)}")
    if not rows or len({*rows}) < len(rows):
        raise SettingsError(f"rows is {given['rows']!r}: give each row once, such as {','.join(iwae_table1.ROWS)}")
    return Options(**{**given, "rows": rows})


def run(options: Options, interruption: Interruption) -> None:
    """Train and evaluate the missing rows and stages, then print the comparison."""
    from vaefast.data import load
    from vaefast.files import atomic
    from vaefast.runs.folder_lock import FolderLock

    for name in options.rows:
        checked(_flags(options, name, 1))  # reports a wrong value before any work
    try:
        atomic.make_folder(options.out)
    except OSError as error:
        raise atomic.cannot_make(options.out, error) from error
    lock = FolderLock(options.out)
    try:
        results = _read_results(options)
        data = load(options.data, None if options.data_dir is None else Path(options.data_dir))
        for name in options.rows:
            for stage in range(1, options.stages + 1):
                _advance(options, results, name, stage, data, interruption)
        _draw(options, results, data.name)
        say(_table(options, results))
    except Interrupted as interrupted:
        raise Interrupted(interrupted.signal, "finished work is kept: the same command continues") from interrupted
    finally:
        lock.release()


def _advance(
    options: Options, results: dict[str, Any], name: str, stage: int, data: Dataset, interruption: Interruption
) -> None:
    """Train a row to the end of a stage and evaluate it, unless that has been done."""
    stages = results["rows"].setdefault(name, {"stages": {}})["stages"]
    samples = options.samples if stage == options.stages else options.stage_samples
    if stages.get(str(stage), {}).get("samples", 0) >= samples:
        return
    folder, epochs = options.out / name, stage_end(stage - 1)
    begun = _begun_epochs(folder)
    if begun > epochs:
        complain(f"{name} is already past stage {stage}, which stays {'as it is' if str(stage) in stages else 'unevaluated'}")
        return
    say(f"{name}: stage {stage} of {iwae_table1.STAGES}, to epoch {epochs}")
    train.run(checked(_flags(options, name, epochs)), interruption)
    stages[str(stage)] = _evaluated(options, folder, data, stage, samples)
    _write_results(options, results)
    _draw(options, results, data.name)
    say(_line(name, stages[str(stage)], stage, _published(options, name)))


def _flags(options: Options, name: str, epochs: int) -> dict[str, Any]:
    """The settings of the run of a row, by the names of the flags of `vaefast train`."""
    row = iwae_table1.settings(iwae_table1.ROWS[name], options.variant, options.beta1, options.kl)
    whole = {
        **row, "epochs": epochs, "seed": options.seed, "data": options.data, "data_dir": options.data_dir,
        "engine": options.engine, "threads": options.threads, "precision": options.precision, "out": str(options.out / name),
        "resume": "auto", "checkpoint_every": options.checkpoint_every, "debug": options.debug,
    }  # fmt: skip
    return {key: value for key, value in whole.items() if value is not None}


def _begun_epochs(folder: Path) -> int:
    """How many epochs the run in a folder has begun."""
    from vaefast.runs.checkpoint import CheckpointFolder

    checkpoints = CheckpointFolder(folder / "checkpoint")
    if not checkpoints.numbers():
        return 0
    _, checkpoint, _ = checkpoints.newest()
    return checkpoint.epoch - 1 + (checkpoint.images > 0)


def _evaluated(options: Options, folder: Path, data: Dataset, stage: int, samples: int) -> dict[str, Any]:
    """Evaluate the model of a row at the end of a stage, on the whole test set."""
    from vaefast.engines.threads import thread_count
    from vaefast.evaluation import measures
    from vaefast.files import model_file

    saved = model_file.read(folder / "model.safetensors")
    model = measures.network(saved, options.engine or "auto", thread_count(options.threads))
    start = time.perf_counter()
    try:
        result = measures.assess(model, data.test.values, samples)
    finally:
        model.engine.close()
    metrics = _metrics(folder)
    return {
        "stage": stage,
        "epochs": len(metrics),
        "nll": -result.log_p,
        "active_units": result.active_units,
        **asdict(result),
        "train_elbo": metrics[-1]["train_elbo"],
        "training_seconds": sum(line["seconds"] for line in metrics),
        "evaluation_seconds": time.perf_counter() - start,
        "evaluation_engine": model.engine_name,
        "threads": model.threads,
    }


def _metrics(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# --- The file of results


def _read_results(options: Options) -> dict[str, Any]:
    """The results of an earlier call, or empty ones.

    Raises
    ------
    CheckpointError
        The file is damaged, or has other settings.
    """
    path = options.out / RESULTS
    if not path.exists():
        return {"table": options.table, "settings": options.fixed, "rows": {}}
    remedy = f"remove {path} to evaluate anew, or choose another --out"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        then, rows = dict(results["settings"]), results["rows"]
        intact = all(isinstance(entry["nll"], float) for row in rows.values() for entry in row["stages"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {remedy}") from error
    if not intact:
        raise CheckpointError(f"{path} is damaged: {remedy}")
    now, then = options.fixed, {**ONCE, **then}
    differences = [f"{name} was {then.get(name)}, is now {now[name]}" for name in now if then.get(name) != now[name]]
    if differences:
        raise CheckpointError(f"{options.out} holds another reproduction: {'; '.join(differences)}: choose another --out")
    return dict(results)


def _write_results(options: Options, results: Mapping[str, Any]) -> None:
    from vaefast.files import atomic
    from vaefast.runs.run_folder import cpu_name

    for name, row in results["rows"].items():
        row["published"] = None if options.data != "mnist" else {
            "nll": iwae_table1.ROWS[name].nll, "active_units": iwae_table1.ROWS[name].active_units,
        }  # fmt: skip
        row["settings"] = iwae_table1.settings(iwae_table1.ROWS[name], options.variant, options.beta1, options.kl)
    content = {**results, "vaefast": __version__, "cpu": cpu_name()}
    atomic.write_bytes(options.out / RESULTS, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


# --- What is printed and drawn


def _published(options: Options, name: str) -> iwae_table1.Row | None:
    """The published row, if the data are those of the table."""
    return iwae_table1.ROWS[name] if options.data == "mnist" else None


def _line(name: str, entry: Mapping[str, Any], stage: int, published: iwae_table1.Row | None) -> str:
    goal = "" if published is None else f"; published after {iwae_table1.STAGES} stages {published.nll:.2f}"
    goal += "" if published is None else f" and {published.active_units}"
    return (
        f"{name}: stage {stage} of {iwae_table1.STAGES}, epoch {entry['epochs']}: test NLL {entry['nll']:.2f} nats by "
        f"{entry['samples']} samples, {entry['active_units']} active units{goal} | training "
        f"{entry['training_seconds']:.0f} s, evaluation {entry['evaluation_seconds']:.0f} s"
    )


def _table(options: Options, results: Mapping[str, Any]) -> str:
    """All evaluated rows at their last stages, beside the published rows."""
    head = ("row", "stage", "epochs", "samples", "NLL", "published", "difference", "active units", "published", "test ELBO")
    lines = [head]
    for name, row in results["rows"].items():
        if not row["stages"]:
            continue
        stage = max(row["stages"], key=int)
        entry, published = row["stages"][stage], _published(options, name)
        beside = ("-", "-", "-") if published is None else (
            f"{published.nll:.2f}", f"{entry['nll'] - published.nll:+.2f}", str(published.active_units),
        )  # fmt: skip
        lines.append((
            name, f"{stage} of {iwae_table1.STAGES}", str(entry["epochs"]), str(entry["samples"]),
            f"{entry['nll']:.2f} +- {entry['monte_carlo_error']:.2f}", beside[0], beside[1],
            str(entry["active_units"]), beside[2], f"{entry['elbo']:.2f}",
        ))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*rows, *_differences(options)])


def _differences(options: Options) -> list[str]:
    """How this reproduction differs from the published one, one line each."""
    stages = f"{options.stages} of the {iwae_table1.STAGES} stages" if options.stages < iwae_table1.STAGES else ""
    used = iwae_table1.settings(iwae_table1.ROWS["vae-1"], options.variant, options.beta1, options.kl)
    notes = [
        stages and f"trained for only {stages}, so the NLL is above the published values",
        "NLL and ELBO are in nats per test image; +- is the Monte Carlo standard error of the estimate",
        f"as in the {options.variant}: beta1 {used['beta1']:g}, KL of the VAE rows {used['kl']}; the published epsilon "
        f"is 1e-4 for a gradient summed over 20 images, which is {used['epsilon']:g} for the mean gradient used here",
        options.precision != "float32" and f"products are in {options.precision}, in training and in evaluation",
        "published runs trained on 59,600 of the 60,000 images and binarised the test images with another seed",
    ]
    if options.data != "mnist":
        notes = [*notes[:-1], "the published values are for MNIST, these for other data"]
    return [f"- {note}" for note in notes if note]


def _draw(options: Options, results: Mapping[str, Any], data_name: str) -> None:
    """The figure of what has been evaluated so far."""
    from vaefast.data.wording import shown
    from vaefast.plots import nll_curves, sheet

    curves = {}
    for name, row in results["rows"].items():
        entries = [row["stages"][stage] for stage in sorted(row["stages"], key=int)]
        folder = options.out / name
        metrics = _metrics(folder) if (folder / "metrics.jsonl").exists() else []
        if entries:
            published = _published(options, name)
            curves[name] = nll_curves.Curve(
                [entry["epochs"] for entry in entries],
                [entry["nll"] for entry in entries],
                [line["epoch"] for line in metrics],
                [-line["test_elbo"] for line in metrics],
                None if published is None else published.nll,
            )
    if curves:
        sheet.save(nll_curves.draw_nll_curves(curves, shown(data_name)), options.out / FIGURE)


def _build_parser() -> Parser:
    parser = command_parser(
        "reproduce",
        "TABLE [--rows ROWS] [--stages N]",
        "Train and evaluate the rows of a published table, and compare them with it. The same command continues "
        "where it was stopped, and with more --stages it trains longer.",
    )
    add = parser.add_argument_group("what to reproduce").add_argument
    add("table", metavar="TABLE", choices=TABLES, help="iwae-table1: table 1 of Burda et al. (2015), Importance Weighted "
        "Autoencoders, one stochastic layer, MNIST")  # fmt: skip
    add("--rows", metavar="ROWS", default=",".join(iwae_table1.ROWS), help="rows of the table, separated by commas (default: "
        "%(default)s)")  # fmt: skip
    add("--stages", metavar="N", type=int, default=iwae_table1.STAGES, help="number of training stages, which have 1, "
        "3, 9, ... 2187 epochs: 4 stages are 40 epochs, all 8 are 3280 (default: %(default)s)")  # fmt: skip
    add("--out", metavar="FOLDER", default="runs/iwae-table1", help="folder for the run folder of each row, results.json "
        "and nll.png (default: %(default)s)")  # fmt: skip
    add = parser.add_argument_group("data").add_argument
    add("--data", metavar="WHAT", default="mnist", help="data to train on; only mnist has published values (default: "
        "%(default)s)")  # fmt: skip
    add("--data-dir", metavar="FOLDER", help="folder with the four MNIST files")
    add = parser.add_argument_group("training and evaluation").add_argument
    add("--variant", choices=iwae_table1.VARIANTS, default="paper", help="hyperparameters of the paper, or of its authors' "
        "code: beta1 0.99, second moments that start at 1, rounded rates, sampled KL (default: %(default)s)")  # fmt: skip
    add("--beta1", metavar="B1", type=float, help="decay rate of Adam's first moments (default: the variant's; 0.9 in the "
        "paper, 0.99 in the code)")  # fmt: skip
    add("--kl", choices=("closed", "sampled"), help="KL divergence of the VAE rows, in closed form or estimated from the "
        "samples (default: the variant's; closed in the paper, sampled in the code)")  # fmt: skip
    add("--seed", metavar="S", type=int, default=0, help="seed of all random numbers (default: %(default)s)")
    add("--samples", metavar="S", type=int, default=5000, help="samples for log p(x) after the last stage (default: "
        "%(default)s)")  # fmt: skip
    add("--stage-samples", metavar="S", type=int, default=500, help="samples for log p(x) after the other stages (default: "
        "%(default)s)")  # fmt: skip
    add("--checkpoint-every", metavar="WHEN", default="auto", help="as for vaefast train (default: %(default)s)")
    add("--precision", choices=PRECISIONS, default="float32", help="as for vaefast train, in training and in evaluation "
        "(default: %(default)s)")  # fmt: skip
    return with_last_groups(parser, help="as for vaefast train (default: auto)")


main = console.main_of(parse, run)

if __name__ == "__main__":
    console.exit_with(main)
