"""`vaefast train`: train one model and write its run folder and figures."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaefast.cli import console, notices, training_report
from vaefast.cli.console import complain, say
from vaefast.cli.mpi_job import Job
from vaefast.cli.options import Options, checked, parse, suited
from vaefast.errors import DivergenceError, SettingsError
from vaefast.runs.interruption import Interruption

if TYPE_CHECKING:
    from vaefast.engines.contract import Engine, State
    from vaefast.files.model_file import SavedModel
    from vaefast.inputs import RunData, Source
    from vaefast.inputs.finding import Table
    from vaefast.runs.checkpointing import Keeper
    from vaefast.runs.resuming import Resumed
    from vaefast.runs.run_folder import RunFolder
    from vaefast.tables.scaling import Inputs
    from vaefast.training.tensorboard import TensorBoard
    from vaefast.training.trainer import Position


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code of `console.command`."""
    job = Job()
    return console.command(parse, lambda options, interruption: _run_in(job, options, interruption), arguments, job)


def _run_in(job: Job, options: Options, interruption: Interruption) -> None:
    """Lead the job, or follow its leader. The job may be this process alone."""
    job.join(asked=options.distributed == "mpi")
    if job.leads:
        run(options, interruption, job)
    else:
        job.follow()


def run(options: Options, interruption: Interruption, job: Job | None = None) -> None:
    """Load the data, train or continue training, and leave a complete run folder. In a job only the leader calls this."""
    from vaefast.runs import resuming

    resumed = None if options.resume is None else resuming.find(options.resume, options.out)
    try:
        if resumed is not None:
            for damage in resumed.damages:
                complain(f"{damage}: going back to checkpoint {resumed.number}")
            given, options = options.given, checked({**resumed.values, **options.given})
            options = replace(options, given=given)
        _run(options, resumed, interruption, job or Job())
    finally:
        if resumed is not None:
            resumed.folder.close()


def _run(options: Options, resumed: Resumed | None, interruption: Interruption, job: Job) -> None:
    from vaefast.engines import bfloat16_unit, compiled_copy
    from vaefast.engines.partly_observed import for_any_rows
    from vaefast.runs.run_folder import environment

    _choose_engine(options, job)  # before the data are read, which may take long
    if options.engine == "auto" and (advice := compiled_copy.advice()):
        complain(advice)
    for unused in notices.unused_data_dir(options.data, options.given.get("data_dir")):
        complain(unused)
    if options.tensorboard:
        _check_tensorboard()
    elif resumed is not None and (resumed.folder.path / "tensorboard").is_dir():
        options = _with_tensorboard(options)
    started_from = _read_start(options.start_from)
    if resumed is not None and started_from is not None:
        raise SettingsError("--start-from begins a new run, and --resume continues one: give one of them")
    if started_from is not None and "missing" not in options.given:
        options = replace(options, missing=tuple(map(str, started_from.estimator.get("missing", ()))))
    source = _source(options, resumed)
    data = _data(source, options, resumed, started_from, job)
    missing = data.missing or (started_from is not None and started_from.model.missing)
    kinds = () if data.inputs.schema is None else data.inputs.schema.blocks
    options = suited(options, data.size, data.columns, data.inputs.likelihood, data.told.width, missing, kinds)
    engine_name, threads = _choose_engine(options, job), job.thread_count(options.threads)
    state = None if started_from is None else _start(started_from, options)
    surroundings = {**environment(engine_name, threads, data.sha256), **job.description(options.deterministic_reduction)}
    if resumed is not None:
        resumed.check(options.given, engine_name, data.columns, data.sha256)
        for change in resumed.changed_software(surroundings):
            complain(f"{change}: the last bits of the result may differ from those of an uninterrupted run")
    record = {
        "settings": _settings(options, data), "environment": surroundings, "source": source.record(data.kind, data.name),
    }  # fmt: skip
    engine = job.engine(engine_name, options.model, options)
    if options.training.precision == "bf16" and (advice := bfloat16_unit.advice(engine_name)):
        complain(advice)
    if data.has_gaps:
        engine = for_any_rows(engine, options.model, options.training, lambda name, model: job.engine(name, model, options))
    try:
        folder = resumed.folder if resumed is not None else _new_folder(options, data.name)
        try:
            for notice in data.notices:
                complain(notice)
            if data.choice:
                say(data.choice)
            _train_in(folder, engine, data, options, record, resumed, state, interruption)
        finally:
            folder.close()
    finally:
        engine.close()


def _choose_engine(options: Options, job: Job) -> str:
    from vaefast import engines

    return engines.choose(options.engine, (*engines.needs(options.model, options.training), *job.needs))


def _source(options: Options, resumed: Resumed | None) -> Source:
    """The source that the flags describe. A resumed run knows whether it is pictures or a table."""
    from vaefast.inputs import source

    fraction = source.TEST_FRACTION if options.test_fraction is None else options.test_fraction
    kind = None if resumed is None else source.recorded(resumed.checkpoint.run["source"]).kind
    split = options.likelihood, options.scaling, fraction, options.label, options.all_columns, options.color
    return source.Source(
        options.data, options.data_dir, *split, kind, layer=options.layer, covariates=options.covariates,
        size_factors=options.size_factors, missing=options.missing, column_types=options.column_types,
        kinds=options.likelihood in ("auto", "mixed"),
    )  # fmt: skip


def _data(source: Source, options: Options, resumed: Resumed | None, started_from: SavedModel | None, job: Job) -> RunData:
    """The data of the run. If it continues from a model, they are scaled as for that model, and their covariates are its.

    Raises
    ------
    SettingsError
        A model that the run starts from was trained on data scaled in another way.
    """
    from vaefast.data import Dataset
    from vaefast.inference import saved_inputs
    from vaefast.inputs import finding, for_pictures, for_table

    inputs, told = None, None
    if started_from is not None:
        inputs, told = saved_inputs.of_saved(started_from), saved_inputs.told_of(started_from.estimator)
        source = source.for_model(inputs)
    found = finding.find(source, in_memory=not job.several)
    validation, seed = options.training.validation, options.training.seed
    if isinstance(found, Dataset):
        if started_from is not None and started_from.scaling:
            raise SettingsError(f"--start-from {options.start_from} was trained on a table, but {found.name} holds pictures")
        return for_pictures(found, options.likelihood, validation, seed)
    if inputs is not None:
        assert started_from is not None
        _check_start(inputs, started_from, found, options)
    elif resumed is not None:
        settings = resumed.checkpoint.run["settings"]
        inputs = saved_inputs.from_json(settings["model"]["likelihood"], settings["inputs"])
        if inputs.schema is None and found.X.shape[1] != settings["model"].get("pixels"):
            # Other columns cannot be scaled as those of the run; this says what else has changed, too.
            resumed.check(options.given, str(resumed.values["engine"]), found.X.shape[1], found.sha256)
        told = saved_inputs.told_of(settings.get("told", {}))
    return for_table(found, source, validation, seed, inputs, told)


def _new_folder(options: Options, data: str) -> RunFolder:
    from vaefast.runs.run_folder import RunFolder, claim_default, is_barely_begun

    path = options.out or claim_default(data, datetime.now())
    if options.resume is None:
        return RunFolder(path)
    say(f"nothing to resume: a new run starts in {path}")
    return RunFolder(path, existing=is_barely_begun(path))


def _train_in(
    folder: RunFolder,
    engine: Engine,
    data: RunData,
    options: Options,
    record: dict[str, Any],
    resumed: Resumed | None,
    start: State | None,
    interruption: Interruption,
) -> None:
    """Train in a locked folder, from the beginning or from a checkpoint, and write the results."""
    from vaefast.runs import continuing
    from vaefast.runs.checkpointing import Keeper
    from vaefast.tables import advice
    from vaefast.training.initial_state import initial_state
    from vaefast.training.trainer import Position

    training = options.training
    position = Position() if resumed is None else _take_up(resumed, engine, data, options)
    position.stopping = continuing.stopping(training, position, resumed)
    folder.write_json("settings.json", record["settings"])
    folder.write_json("environment.json", record["environment"])
    folder.restore_metrics(position.history)
    keeper = Keeper(folder.checkpoints, record, training.epochs, options.schedule, interruption)
    if resumed is not None:
        continuing.hand_over(resumed, keeper, position, training)
    else:
        say(notices.plan(data.name, data.size, data.width, options, engine))
    begin, before = time.perf_counter(), len(position.history)
    board = _board(folder) if options.tensorboard else None
    try:
        if resumed is None:
            state = start or initial_state(options.model, training, data.train)
            if training.second_moments or state.second_moments.any():  # zeros that nobody has written take no memory
                state.second_moments[...] = training.second_moments
            engine.load_state(state)
            del state  # the engine has a copy
        _train(engine, data, options, folder, position, keeper, board)
    except DivergenceError as error:
        kept = f"; checkpoint {keeper.number} in {folder.path} is the last good one" if keeper.number else ""
        raise DivergenceError(f"{error}{data.blamed()}{kept}") from error
    interruption.allow(f"a checkpoint is written: --resume {folder.path} continues the run")
    if len(position.history) > before and (collapse := advice.of_collapse(position.history[-1].train_kl)):
        complain(collapse)
    wall, settings = time.perf_counter() - begin, continuing.keep_best(folder, engine, position, record["settings"])
    if _write_results(folder, engine, data, options, settings, position):
        trained, resumed_at = position.history[before:], before if resumed else None
        about = data.name, data.unit, len(data.train)
        say(training_report.summary(trained, *about, engine, wall, folder.path, resumed_at))
    else:
        say(training_report.nothing_to_do(folder.path, position, training.epochs))
    if position.stopping is not None:
        say(training_report.stopped(position.stopping, position))


def _take_up(resumed: Resumed, engine: Engine, data: RunData, options: Options) -> Position:
    """Load the state of the checkpoint into the engine, and print where training continues."""
    from vaefast.runs import continuing

    size = len(data.train)
    position = continuing.take_up(resumed, engine, size, options.training)
    epochs = f"{len(position.history)} of {options.training.epochs} epochs"
    place = f"{epochs} and {position.images:,} of {size:,} {data.unit}s"
    say(f"resuming {resumed.folder.path} from checkpoint {resumed.number}: {place} trained")
    return position


def _train(
    engine: Engine,
    data: RunData,
    options: Options,
    folder: RunFolder,
    position: Position,
    keeper: Keeper,
    board: TensorBoard | None,
) -> None:
    import numpy as np
    from threadpoolctl import threadpool_limits

    from vaefast.training import trainer

    training = options.training
    # The reference engine is NumPy: its matrix products use as many threads as the run was given. An overflow ends the run
    # with our own error, so NumPy's warnings are off.
    display = training_report.Display(training.epochs, data.unit)
    with threadpool_limits(engine.threads), np.errstate(all="ignore"), display:
        epochs = trainer.train(
            engine,
            data.train,
            None if data.test is None else data.test.values,
            training,
            on_progress=display.progress,
            position=position,
            on_pause=keeper,
            validation_values=None if data.validation is None else data.validation.values,
            exact_test_rows=None if data.test is None else data.test.exact,
            exact_validation_rows=None if data.validation is None else data.validation.exact,
            log_volumes=data.log_volumes,
        )
        for line in epochs:
            folder.append_metrics(line)
            if board is not None:
                board.write(line.as_dict())
            display.epoch(line)


def _write_results(
    folder: RunFolder, engine: Engine, data: RunData, options: Options, settings: dict[str, Any], position: Position
) -> bool:
    """Write the model and its figures unless the same ones exist already; return whether anything was written."""
    from vaefast.plots import run_figures

    metrics, training = position.history, options.training
    content = _model_content(engine, data, options, settings["training"], len(metrics))
    figures = [folder.figures / name for name in run_figures.names(data, metrics)]
    if folder.holds("model.safetensors", content):
        if all(figure.exists() for figure in figures):
            return False
    else:
        # Remove figures of an earlier model: if the run ended before drawing, they would pass for those of this model.
        for figure in figures:
            figure.unlink(missing_ok=True)
        folder.write("model.safetensors", content)
    run_figures.draw(
        engine, data, metrics, model=options.model, binarize=training.binarize, seed=training.seed, folder=folder.figures
    )
    return True


def _model_content(engine: Engine, data: RunData, options: Options, training: dict[str, Any], epochs: int) -> bytes:
    """The bytes of model.safetensors. For a table they include its scaling, as `vaefast.VAE` writes it."""
    from vaefast.files import model_file
    from vaefast.inference import saved_inputs

    parameters = engine.state().parameters.astype("float32")
    if data.is_pictures:
        return model_file.serialize(engine.layout, parameters, training)
    scaling = None if options.scaling == "none" else options.scaling
    about = {
        **saved_inputs.description(data.inputs, data.names), "parameters": {"scaling": scaling}, "n_iter": epochs,
        **({"size_quantiles": data.size_quantiles} if data.size_quantiles else {}), **data.told.as_json(),
        # How to read other files of the kind, also where the run folder is gone.
        **({"missing": [*options.missing]} if options.missing else {}), **({"layer": options.layer} if options.layer else {}),
        **({"label": options.label} if options.label else {}),
    }  # fmt: skip
    return model_file.serialize(engine.layout, parameters, training, about, saved_inputs.tensors(data.inputs))


def _read_start(path: Path | None) -> SavedModel | None:
    """The model that --start-from names: of a run, or saved by the estimator."""
    if path is None:
        return None
    from vaefast.files import model_file

    return model_file.read(path / "model.safetensors" if path.is_dir() else path)


def _check_start(inputs: Inputs, saved: SavedModel, found: Table, options: Options) -> None:
    """Refuse other columns, another scaling or another likelihood than those of the saved model.

    Raises
    ------
    SettingsError
        They differ.
    """
    from vaefast.inputs.column_types import types_of

    path, names = options.start_from, [] if inputs.names is None else [*inputs.names]
    if not saved.estimator:
        raise SettingsError(f"--start-from {path} was trained on pictures, but {found.name} is a table")
    if inputs.schema is None and found.X.shape[1] != saved.model.pixels:
        raise SettingsError(
            f"--start-from {path} has {saved.model.pixels} columns, but {found.name} has {found.X.shape[1]}: give data with "
            "the same columns"
        )
    if inputs.schema is None and names and found.names and names != [*found.names]:
        at = next(i for i, pair in enumerate(zip(names, found.names, strict=True)) if pair[0] != pair[1])
        raise SettingsError(f"--start-from {path} has the column {names[at]!r} where {found.name} has another")
    for name, had in (("scaling", inputs.method or "none"), ("likelihood", inputs.likelihood)):
        if (wanted := getattr(options, name)) not in ("auto", had):
            raise SettingsError(f"--start-from {path} has {name} {had}, but this run {wanted}: give the same {name}")
    kinds = {} if inputs.schema is None else {str(column.name): column.kind for column in inputs.schema.columns}
    fields = () if found.fields is None else found.fields.columns
    # A number counts the columns of the file, of which labels and others are left out.
    places = found.at if fields and found.at else range(len(fields))
    numbers = {str(at + 1): str(field.name) for at, field in zip(places, fields, strict=True)}
    for name, kind in types_of(options.column_types).items():
        is_named = inputs.schema is not None and inputs.schema.named and name in kinds
        if (kept := kinds.get(name if is_named else numbers.get(name, ""))) != kind:
            had = f"{name} as {kept}" if kept else f"no kind of {name}"
            raise SettingsError(f"--start-from {path} has {had}, but this run {kind}: leave out --column-types")


def _start(saved: SavedModel, options: Options) -> State:
    """The state to start from: the parameters of a saved model, and no moments.

    Raises
    ------
    SettingsError
        The model has other settings.
    """
    from vaefast.engines.contract import State

    for field, wanted in asdict(options.model).items():
        # A model of complete rows may go on with others: its parameters are the same.
        if (found := getattr(saved.model, field)) != wanted and field != "missing":
            raise SettingsError(f"--start-from {options.start_from} has {field} {found}, but this run {wanted}: give the same")
    return State.initial(saved.parameters)


def _check_tensorboard() -> None:
    from vaefast.training.tensorboard import event_writer

    event_writer()


def _with_tensorboard(options: Options) -> Options:
    """The options of a run that goes on writing TensorBoard's files, if that is possible here."""
    try:
        _check_tensorboard()
    except SettingsError as error:
        complain(f"the run goes on without TensorBoard's files: {error}")
        return options
    return replace(options, tensorboard=True)


def _board(folder: RunFolder) -> TensorBoard:
    from vaefast.training.tensorboard import TensorBoard

    return TensorBoard(folder.path / "tensorboard")


def _settings(options: Options, data: RunData) -> dict[str, Any]:
    """The content of settings.json."""
    from vaefast.inference import saved_inputs

    settings = {"data": data.name, "model": options.model.as_values(), "training": options.training.as_values()}
    if data.is_pictures:
        return settings
    told = {"told": about} if (about := data.told.as_json()) else {}
    return {**settings, "inputs": saved_inputs.as_json(data.inputs, data.names), **told}


if __name__ == "__main__":
    console.exit_with(main)
