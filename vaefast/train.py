"""`vaefast train`: one run, its folder and its figures, and what the exit code is."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaefast.cli import console
from vaefast.cli.console import complain, say
from vaefast.cli.mpi_job import Job
from vaefast.cli.options import Options, checked, parse, with_usual_rate
from vaefast.errors import DivergenceError, SettingsError
from vaefast.runs.interruption import Interruption

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaefast.data import Dataset
    from vaefast.engines.contract import Engine, State
    from vaefast.models.settings import ModelSettings, TrainingSettings
    from vaefast.runs.checkpointing import Keeper
    from vaefast.runs.resuming import Resumed
    from vaefast.runs.run_folder import RunFolder
    from vaefast.training.early_stopping import Stopping
    from vaefast.training.tensorboard import TensorBoard
    from vaefast.training.trainer import EpochMetrics, Position, Progress


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code of `console.command`."""
    job = Job()
    return console.command(parse, lambda options, interruption: _run_in(job, options, interruption), arguments, job)


def _run_in(job: Job, options: Options, interruption: Interruption) -> None:
    """Lead the job, which may be this process alone, or follow its leader."""
    job.join(asked=options.distributed == "mpi")
    if job.leads:
        run(options, interruption, job)
    else:
        job.follow()


def run(options: Options, interruption: Interruption, job: Job | None = None) -> None:
    """Load the data, train or go on training, and leave a complete run folder; of a job, what its leader does."""
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
    from vaefast import engines
    from vaefast.data import load
    from vaefast.engines import compiled_copy
    from vaefast.runs.run_folder import environment

    needed = (*engines.needs(options.model, options.training), *job.needs)
    engine_name, threads = engines.choose(options.engine, needed), job.thread_count(options.threads)
    if options.engine == "auto" and (advice := compiled_copy.advice()):
        complain(advice)
    if options.tensorboard:
        _check_tensorboard()
    data = load(options.data, options.data_dir, in_memory=not job.several)
    model = replace(options.model, pixels=data.train.values.shape[1])
    options = with_usual_rate(options, model.pixels)
    start_from = _read_start(options.start_from, model)
    surroundings = {**environment(engine_name, threads, data.sha256), **job.description(options.deterministic_reduction)}
    if resumed is not None:
        if start_from is not None:
            raise SettingsError("--start-from begins a new run, and --resume goes on with one: give one of them")
        resumed.check(options.given, engine_name, model.pixels, data.sha256)
        for change in resumed.changed_software(surroundings):
            complain(f"{change}: the last bits of the result may differ from those of an unbroken run")
    record = {"settings": _settings(options, model, data.name), "environment": surroundings, "source": _source(options, data)}
    data, validation = _held_out(data, options.training)
    engine = job.engine(engine_name, model, options)
    try:
        folder = resumed.folder if resumed is not None else _new_folder(options, data.name)
        try:
            if data.notice:
                complain(data.notice)
            _train_in(
                folder, engine, data, validation, replace(options, model=model), record, resumed, start_from, interruption
            )
        finally:
            folder.close()
    finally:
        engine.close()


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
    data: Dataset,
    validation: NDArray[Any] | None,
    options: Options,
    record: dict[str, Any],
    resumed: Resumed | None,
    start_from: State | None,
    interruption: Interruption,
) -> None:
    """Train in a locked folder, from the beginning or from a checkpoint, and write the results."""
    from vaefast.runs.checkpointing import Keeper
    from vaefast.training.initial_state import initial_state
    from vaefast.training.trainer import Position

    training = options.training
    position = Position() if resumed is None else _take_up(resumed, engine, data, training)
    position.stopping = _stopping(training, position, resumed)
    folder.write_json("settings.json", record["settings"])
    folder.write_json("environment.json", record["environment"])
    folder.restore_metrics(position.history)
    keeper = Keeper(folder.checkpoints, record, training.epochs, options.schedule, interruption)
    if resumed is not None:
        _hand_over(resumed, keeper, position, training)
    start, before = time.perf_counter(), len(position.history)
    board = _board(folder) if options.tensorboard else None
    try:
        if resumed is None:
            state = start_from or initial_state(options.model, training, data.train.values)
            state.second_moments[...] = training.second_moments
            engine.load_state(state)
        _train(engine, data, validation, training, folder, position, keeper, board)
    except DivergenceError as error:
        kept = f"; checkpoint {keeper.number} in {folder.path} is the last good one" if keeper.number else ""
        raise DivergenceError(f"{error}{kept}") from error
    interruption.allow(f"a checkpoint is written: --resume {folder.path} continues the run")
    wall, settings = time.perf_counter() - start, _keep_best(folder, engine, position, record["settings"])
    if _write_results(folder, engine, data, options.model, training, settings, position.history):
        say(_summary(position.history[before:], data, engine, wall, folder, resumed_at=before if resumed else None))
    else:
        say(_nothing_to_do(folder, position, training))
    if position.stopping is not None:
        say(_stopped(position.stopping, position))


def _hand_over(resumed: Resumed, keeper: Keeper, position: Position, training: TrainingSettings) -> None:
    """Tell the keeper of a run that goes on which checkpoint is its newest."""
    keeper.resumed(resumed.number, position)
    if resumed.values["epochs"] != training.epochs:
        keeper.write(position, resumed.checkpoint.state)  # with the new number of epochs, to be known whatever happens now


def _nothing_to_do(folder: RunFolder, position: Position, training: TrainingSettings) -> str:
    if position.is_over:
        return f"nothing to do: {folder.path} has stopped after epoch {position.epoch - 1}"
    return f"nothing to do: all {training.epochs} epochs of {folder.path} are trained; --epochs makes the run longer"


def _keep_best(folder: RunFolder, engine: Engine, position: Position, settings: dict[str, Any]) -> dict[str, Any]:
    """Give the engine the best epoch's model, where one is kept, and add to the settings which it is."""
    stopping = position.stopping
    if stopping is None or stopping.best is None:
        return settings
    engine.load_state(stopping.best)
    settings = {**settings, "kept": {"epoch": stopping.best_epoch, "validation_elbo": stopping.best_bound}}
    folder.write_json("settings.json", settings)
    return settings


def _held_out(data: Dataset, training: TrainingSettings) -> tuple[Dataset, NDArray[Any] | None]:
    """The data without the part of the training set that is held out, and that part."""
    if not training.validation.held_out:
        return data, None
    from vaefast.data import Images, ShardedImages
    from vaefast.training.early_stopping import held_out

    kept, out = held_out(len(data.train), training.validation.held_out, training.seed)
    values, labels = data.train.values, data.train_labels
    if isinstance(data.train, ShardedImages):
        return replace(data, train=data.train.select(kept)), data.train.select(out).values
    train = Images(values[kept], data.train.shape)
    return replace(data, train=train, train_labels=None if labels is None else labels[kept]), values[out]


def _stopping(training: TrainingSettings, position: Position, resumed: Resumed | None) -> Stopping | None:
    """What watches the validation ELBO, as it stands after the epochs so far.

    Raises
    ------
    CheckpointError
        The checkpoint lacks the best model.
    """
    if not training.validation.patience:
        return None
    from vaefast.engines.contract import State
    from vaefast.errors import CheckpointError
    from vaefast.training.early_stopping import Stopping

    stopping = Stopping(training.validation.patience, training.validation.min_improvement)
    if position.history:
        best = None if resumed is None else resumed.checkpoint.best
        if best is None or any(line.validation_elbo is None for line in position.history):
            raise CheckpointError(
                "the checkpoint lacks the best epoch's model or its bounds: it was changed after it was written"
            )
        stopping.replay(position.history, State.initial(best))
    return stopping


def _stopped(stopping: Stopping, position: Position) -> str:
    """Why training ended and which model is kept, in one line."""
    rise = f" by {stopping.tolerance:g} nats" if stopping.tolerance else ""
    waited = (
        f"stopped after epoch {position.epoch - 1}, the validation ELBO not having risen{rise} for {stopping.patience} epochs"
    )
    why = waited if stopping.is_over else f"all {position.epoch - 1} epochs are trained"
    if not stopping.best_epoch:
        return why
    kept = position.history[stopping.best_epoch - 1]
    bounds = f"validation ELBO {stopping.best_bound:.2f}, test ELBO {kept.test_elbo:.2f}"
    return f"{why}; the model is that of epoch {stopping.best_epoch}, {bounds}"


def _take_up(resumed: Resumed, engine: Engine, data: Dataset, training: TrainingSettings) -> Position:
    """Bring the engine to where the run stands, and say where that is."""
    from vaefast.errors import CheckpointError
    from vaefast.runs.checkpointing import position_in

    size, checkpoint = len(data.train), resumed.checkpoint
    position = position_in(checkpoint, size, training.batch_size)
    if checkpoint.state.parameters.size != engine.layout.size:
        raise CheckpointError(f"checkpoint {resumed.number} holds another number of parameters than its model has")
    begun = len(position.history) + (position.images > 0)
    if training.epochs < begun:
        raise SettingsError(f"epochs is {training.epochs}, and {begun} are begun: a run can be made longer, not shorter")
    engine.load_state(checkpoint.state)
    place = f"{len(position.history)} of {training.epochs} epochs and {position.images:,} of {size:,} images"
    say(f"resuming {resumed.folder.path} from checkpoint {resumed.number}: {place} trained")
    return position


def _train(
    engine: Engine,
    data: Dataset,
    validation: NDArray[Any] | None,
    training: TrainingSettings,
    folder: RunFolder,
    position: Position,
    keeper: Keeper,
    board: TensorBoard | None,
) -> None:
    import numpy as np
    from threadpoolctl import threadpool_limits

    from vaefast.training import trainer

    # The reference engine is NumPy: its matrix products take as many threads as the run was given, and an overflow, which
    # ends the run with an error of our own, needs no warnings before it.
    with threadpool_limits(engine.threads), np.errstate(all="ignore"), _Display(training.epochs) as display:
        epochs = trainer.train(
            engine,
            data.train.values,
            data.test.values,
            training,
            on_progress=display.progress,
            position=position,
            on_pause=keeper,
            validation_values=validation,
        )
        for line in epochs:
            folder.append_metrics(line)
            if board is not None:
                board.write(line.as_dict())
            display.epoch(line)


def _write_results(
    folder: RunFolder,
    engine: Engine,
    data: Dataset,
    model: ModelSettings,
    training: TrainingSettings,
    settings: dict[str, Any],
    metrics: Sequence[EpochMetrics],
) -> bool:
    """Write the model and its figures, unless just these are there already; returns whether there was anything to write."""
    from vaefast.files import model_file
    from vaefast.plots import run_figures

    content = model_file.serialize(engine.layout, engine.state().parameters.astype("float32"), settings["training"])
    figures = [folder.figures / name for name in run_figures.names(data, metrics)]
    if folder.holds("model.safetensors", content):
        if all(figure.exists() for figure in figures):
            return False
    else:
        # Figures of an earlier model would look like those of this one, if this were to end before they are drawn.
        for figure in figures:
            figure.unlink(missing_ok=True)
        folder.write("model.safetensors", content)
    run_figures.draw(engine, data, metrics, model=model, binarize=training.binarize, seed=training.seed, folder=folder.figures)
    return True


def _read_start(path: Path | None, model: ModelSettings) -> State | None:
    """The parameters of a saved model, its own or the estimator's, without moments.

    Raises
    ------
    SettingsError
        It is a model of other settings.
    """
    if path is None:
        return None
    from vaefast.engines.contract import State
    from vaefast.files import model_file

    saved = model_file.read(path / "model.safetensors" if path.is_dir() else path)
    if saved.scaling:
        raise SettingsError(f"--start-from {path} was trained on scaled columns, which only vaefast.VAE can go on with")
    for field, wanted in asdict(model).items():
        if (found := getattr(saved.model, field)) != wanted:
            raise SettingsError(f"--start-from {path} has {field} {found}, this run {wanted}: give the same")
    return State.initial(saved.parameters)


def _check_tensorboard() -> None:
    from vaefast.training.tensorboard import event_writer

    event_writer()


def _board(folder: RunFolder) -> TensorBoard:
    from vaefast.training.tensorboard import TensorBoard

    return TensorBoard(folder.path / "tensorboard")


class _Display:
    """A bar on a terminal, one plain line an epoch elsewhere."""

    def __init__(self, epochs: int) -> None:
        from tqdm import tqdm

        self._epochs = epochs
        live = sys.stderr is not None and sys.stderr.isatty()
        form = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
        self._bar = tqdm(total=1.0, disable=not live, bar_format=form, leave=False, dynamic_ncols=True)

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def progress(self, progress: Progress) -> None:
        if not self._bar.disable:
            done = (progress.epoch - 1 + progress.images / progress.size) / progress.epochs
            self._bar.set_description_str(f"epoch {progress.epoch}/{progress.epochs}  ELBO {progress.elbo:8.2f}", False)
            self._bar.update(done - self._bar.n)

    def epoch(self, line: EpochMetrics) -> None:
        text = (
            f"epoch {line.epoch:{len(str(self._epochs))}d}/{self._epochs}  train ELBO {line.train_elbo:8.2f}  "
            f"test ELBO {line.test_elbo:8.2f}  (log-likelihood {line.test_log_likelihood:8.2f}, KL {line.test_kl:5.2f})  "
            f"{line.seconds:.2f} s  {line.images_per_second:,.0f} images/s"
        )
        if line.validation_elbo is not None:
            text += f"  validation ELBO {line.validation_elbo:8.2f}"
        if self._bar.disable:
            say(text)


def _summary(
    metrics: Sequence[EpochMetrics],
    data: Dataset,
    engine: Engine,
    wall: float,
    folder: RunFolder,
    resumed_at: int | None = None,
) -> str:
    """What was trained this time, in one line."""
    ranks, threads = getattr(engine, "ranks", 1), f"{engine.threads} thread{'s' if engine.threads > 1 else ''}"
    team = f"engine {engine.name}, {threads if ranks == 1 else f'{ranks} ranks with {threads} each'}"
    if not metrics:
        text = "nothing trained (0 epochs)" if resumed_at is None else "no epoch was left to train, the results are written"
        return f"{data.name}: {text} | {team} | {folder.path}"
    last, seconds = metrics[-1], sum(line.seconds for line in metrics)
    rate = len(data.train) * len(metrics) / seconds
    epochs = f"{len(metrics)} epochs" if resumed_at is None else f"epochs {resumed_at + 1} to {last.epoch}"
    return (
        f"{data.name}: test ELBO {last.test_elbo:.2f} nats (log-likelihood {last.test_log_likelihood:.2f}, "
        f"KL {last.test_kl:.2f}) | {epochs} in {wall:.1f} s, {seconds:.1f} s of it training, "
        f"{rate:,.0f} images/s | {team} | {folder.path}"
    )


def _settings(options: Options, model: ModelSettings, data: str) -> dict[str, Any]:
    return {"data": data, "model": asdict(model), "training": asdict(options.training)}


def _source(options: Options, data: Dataset) -> dict[str, str | None]:
    """Where the data are found again, from whatever folder a run is resumed in."""
    name = options.data or ("mnist" if data.name == "mnist" else "digits")
    path = name if name in ("mnist", "digits") else os.path.abspath(name)
    return {"data": path, "data_dir": None if options.data_dir is None else os.path.abspath(options.data_dir)}


if __name__ == "__main__":
    console.exit_with(main)
