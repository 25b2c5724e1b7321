"""`python -m vaefast.train`: settings from flags and a TOML file, one run, its folder and its figures."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
import os
import stat
import sys
import time
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vaefast.errors import DivergenceError, OutputError, SettingsError, VaefastError
from vaefast.interruption import EXIT_CODES, Interrupted, Interruption
from vaefast.schedule import Schedule
from vaefast.settings import (
    ACTIVATIONS,
    BINARIZATIONS,
    INITIALIZATIONS,
    LIKELIHOODS,
    AdamSettings,
    ModelSettings,
    TrainingSettings,
    check_binarization,
)
from vaefast.version import __version__

if TYPE_CHECKING:
    from vaefast.data import Dataset
    from vaefast.engines.contract import Engine, State
    from vaefast.keeper import Keeper
    from vaefast.resume import Resumed
    from vaefast.run_folder import RunFolder
    from vaefast.tensorboard import TensorBoard
    from vaefast.trainer import EpochMetrics, Position, Progress

# Of a configuration file: far above any, and soon read.
LARGEST_CONFIG = 1 << 20


@dataclass(frozen=True)
class Options:
    """Everything that flags and the configuration file decide."""

    model: ModelSettings
    training: TrainingSettings
    data: str | None
    data_dir: Path | None
    engine: str
    threads: int | None
    out: Path | None
    debug: bool
    resume: str | None
    schedule: Schedule
    given: Mapping[str, Any]  # by the user, this time
    start_from: Path | None = None
    tensorboard: bool = False


class _Parser(argparse.ArgumentParser):
    """One line for a wrong flag, with the nearest right one."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}{self._nearest(message)}; python -m vaefast.train --help lists the flags")

    def _nearest(self, message: str) -> str:
        flags = [flag for action in self._actions for flag in action.option_strings]
        for word in message.split():
            near = difflib.get_close_matches(word.split("=")[0], flags, 1)
            if word.startswith("--") and word not in flags and near:
                return f" (did you mean {near[0]}?)"
        return ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (0 done, 1 internal error, 2 settings, 3 data, 4 checkpoint, 5 diverged,
    6 output, 130 SIGINT, 143 SIGTERM)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    interruption = Interruption()
    interruption.listen()
    try:
        options = parse(arguments)
        debug = debug or options.debug
        run(options, interruption)
    except Interrupted as interrupted:
        _complain(f"stopped by {interrupted.signal.name}; {interrupted.remedy}")
        return EXIT_CODES[interrupted.signal]
    except VaefastError as error:
        _report(error, str(error), debug)
        return error.exit_code
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _report(error, f"{place}{error.strerror or error}", debug)
        return OutputError.exit_code
    except MemoryError as error:
        _report(error, "out of memory: choose a smaller --hidden, --latent or --batch-size", debug)
        return SettingsError.exit_code
    except Exception as error:
        _report(error, f"internal error, {type(error).__name__}: {error} (--debug shows where; please report it)", debug)
        return VaefastError.exit_code
    return 0


def parse(arguments: list[str]) -> Options:
    """Flags over the configuration file over the defaults.

    Raises
    ------
    SettingsError
        A flag, a key or a value is not usable.
    """
    parser = _build_parser()
    given = vars(parser.parse_args(arguments))
    config = _read_config(given.pop("config"), parser) if "config" in given else {}
    return _options({**config, **given})


def _options(given: Mapping[str, Any]) -> Options:
    """Checked settings from values by the names of their flags."""
    values = dict(given)
    model = {name: values.pop(name) for name in ("hidden", "latent", "activation", "likelihood") if name in values}
    adam = {name: values.pop(name) for name in ("learning_rate", "beta1", "beta2", "epsilon") if name in values}
    training: dict[str, Any] = {
        name: values.pop(name) for name in ("batch_size", "epochs", "binarize", "seed") if name in values
    }
    if "init" in values:
        training["initialization"] = values.pop("init")
    if "hidden" in model:
        model["hidden"] = tuple(model["hidden"])
    if model.get("likelihood", "bernoulli") in LIKELIHOODS[1:]:
        training.setdefault("binarize", "none")
        check_binarization(model["likelihood"], training["binarize"])
    return Options(
        ModelSettings(**model),
        TrainingSettings(adam=AdamSettings(**adam), **training),
        data=_expanded(values.get("data")),
        data_dir=_path(values.get("data_dir")),
        engine=values.get("engine", "auto"),
        threads=values.get("threads"),
        out=_path(values.get("out")),
        debug=values.get("debug", False),
        resume=None if _path(values.get("resume")) is None else values["resume"],
        schedule=Schedule(values.get("checkpoint_every", "auto")),
        given=given,
        start_from=_path(values.get("start_from")),
        tensorboard=values.get("tensorboard", False),
    )


def run(options: Options, interruption: Interruption) -> None:
    """Load the data, train or go on training, and leave a complete run folder."""
    from vaefast import resume

    resumed = None if options.resume is None else resume.find(options.resume, options.out)
    try:
        if resumed is not None:
            for damage in resumed.damages:
                _complain(f"{damage}: going back to checkpoint {resumed.number}")
            given, options = options.given, _options({**resumed.values, **options.given})
            options = replace(options, given=given)
        _run(options, resumed, interruption)
    finally:
        if resumed is not None:
            resumed.folder.close()


def _run(options: Options, resumed: Resumed | None, interruption: Interruption) -> None:
    from vaefast import engines
    from vaefast.data import load
    from vaefast.run_folder import environment
    from vaefast.threads import thread_count

    engine_name, threads = engines.choose(options.engine, options.model.likelihood), thread_count(options.threads)
    if options.tensorboard:
        _check_tensorboard()
    data = load(options.data, options.data_dir)
    model = replace(options.model, pixels=data.train.values.shape[1])
    start_from = _read_start(options.start_from, model)
    surroundings = environment(engine_name, threads, data.sha256)
    if resumed is not None:
        if start_from is not None:
            raise SettingsError("--start-from begins a new run, and --resume goes on with one: give one of them")
        resumed.check(options.given, engine_name, model.pixels, data.sha256)
        for change in resumed.changed_software(surroundings):
            _complain(f"{change}: the last bits of the result may differ from those of an unbroken run")
    record = {"settings": _settings(options, model, data.name), "environment": surroundings, "source": _source(options, data)}
    engine = engines.create(engine_name, model, options.training, threads)
    try:
        folder = resumed.folder if resumed is not None else _new_folder(options, data.name)
        try:
            if data.notice:
                _complain(data.notice)
            _train_in(folder, engine, data, replace(options, model=model), record, resumed, start_from, interruption)
        finally:
            folder.close()
    finally:
        engine.close()


def _new_folder(options: Options, data: str) -> RunFolder:
    from vaefast.run_folder import RunFolder, claim_default, is_barely_begun

    path = options.out or claim_default(data, datetime.now())
    if options.resume is None:
        return RunFolder(path)
    _say(f"nothing to resume: a new run starts in {path}")
    return RunFolder(path, existing=is_barely_begun(path))


def _train_in(
    folder: RunFolder,
    engine: Engine,
    data: Dataset,
    options: Options,
    record: dict[str, Any],
    resumed: Resumed | None,
    start_from: State | None,
    interruption: Interruption,
) -> None:
    """Train in a locked folder, from the beginning or from a checkpoint, and write the results."""
    from vaefast.keeper import Keeper
    from vaefast.start import initial_state
    from vaefast.trainer import Position

    training = options.training
    position = Position() if resumed is None else _take_up(resumed, engine, data, training)
    folder.write_json("settings.json", record["settings"])
    folder.write_json("environment.json", record["environment"])
    folder.restore_metrics(position.history)
    keeper = Keeper(folder.checkpoints, record, training.epochs, options.schedule, interruption)
    if resumed is not None:
        keeper.resumed(resumed.number, position)
        if resumed.values["epochs"] != training.epochs:
            keeper.write(position, resumed.checkpoint.state)  # with the new number of epochs, to be known whatever happens now
    start, before = time.perf_counter(), len(position.history)
    board = _board(folder) if options.tensorboard else None
    try:
        if resumed is None:
            engine.load_state(start_from or initial_state(options.model, training, data.train.values))
        _train(engine, data, training, folder, position, keeper, board)
    except DivergenceError as error:
        kept = f"; checkpoint {keeper.number} in {folder.path} is the last good one" if keeper.number else ""
        raise DivergenceError(f"{error}{kept}") from error
    interruption.allow(f"a checkpoint is written: --resume {folder.path} continues the run")
    wall = time.perf_counter() - start
    if _write_results(folder, engine, data, options.model, training, record["settings"], position.history):
        _say(_summary(position.history[before:], data, engine, wall, folder, resumed_at=before if resumed else None))
    else:
        _say(f"nothing to do: all {training.epochs} epochs of {folder.path} are trained; --epochs makes the run longer")


def _take_up(resumed: Resumed, engine: Engine, data: Dataset, training: TrainingSettings) -> Position:
    """Bring the engine to where the run stands, and say where that is."""
    from vaefast.errors import CheckpointError
    from vaefast.keeper import position_in

    size, checkpoint = len(data.train), resumed.checkpoint
    position = position_in(checkpoint, size, training.batch_size)
    if checkpoint.state.parameters.size != engine.layout.size:
        raise CheckpointError(f"checkpoint {resumed.number} holds another number of parameters than its model has")
    begun = len(position.history) + (position.images > 0)
    if training.epochs < begun:
        raise SettingsError(f"epochs is {training.epochs}, and {begun} are begun: a run can be made longer, not shorter")
    engine.load_state(checkpoint.state)
    place = f"{len(position.history)} of {training.epochs} epochs and {position.images:,} of {size:,} images"
    _say(f"resuming {resumed.folder.path} from checkpoint {resumed.number}: {place} trained")
    return position


def _train(
    engine: Engine,
    data: Dataset,
    training: TrainingSettings,
    folder: RunFolder,
    position: Position,
    keeper: Keeper,
    board: TensorBoard | None,
) -> None:
    import numpy as np
    from threadpoolctl import threadpool_limits

    from vaefast import trainer

    # The reference engine is NumPy: its matrix products take as many threads as the run was given, and an overflow, which
    # ends the run with an error of our own, needs no warnings before it.
    with threadpool_limits(engine.threads), np.errstate(all="ignore"), _Display(training.epochs) as display:
        epochs = trainer.train(
            engine,
            data.train.values,
            data.test.values,
            epochs=training.epochs,
            batch_size=training.batch_size,
            seed=training.seed,
            on_progress=display.progress,
            position=position,
            on_pause=keeper,
        )
        for line in epochs:
            folder.append_metrics(line)
            if board is not None:
                board.write(asdict(line))
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
    from vaefast import gallery, model_file

    content = model_file.serialize(_layout(model), engine.state().parameters.astype("float32"), settings["training"])
    figures = [folder.figures / name for name in gallery.names(data, metrics)]
    if folder.holds("model.safetensors", content):
        if all(figure.exists() for figure in figures):
            return False
    else:
        # Figures of an earlier model would look like those of this one, if this were to end before they are drawn.
        for figure in figures:
            figure.unlink(missing_ok=True)
        folder.write("model.safetensors", content)
    gallery.draw(engine, data, metrics, model=model, binarize=training.binarize, seed=training.seed, folder=folder.figures)
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
    from vaefast import model_file
    from vaefast.engines.contract import State

    saved = model_file.read(path / "model.safetensors" if path.is_dir() else path)
    if saved.scaling:
        raise SettingsError(f"--start-from {path} was trained on scaled columns, which only vaefast.VAE can go on with")
    for field, wanted in asdict(model).items():
        if (found := getattr(saved.model, field)) != wanted:
            raise SettingsError(f"--start-from {path} has {field} {found}, this run {wanted}: give the same")
    return State.initial(saved.parameters)


def _check_tensorboard() -> None:
    from vaefast.tensorboard import event_writer

    event_writer()


def _board(folder: RunFolder) -> TensorBoard:
    from vaefast.tensorboard import TensorBoard

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
        if self._bar.disable:
            _say(text)


def _summary(
    metrics: Sequence[EpochMetrics],
    data: Dataset,
    engine: Engine,
    wall: float,
    folder: RunFolder,
    resumed_at: int | None = None,
) -> str:
    """What was trained this time, in one line."""
    team = f"engine {engine.name}, {engine.threads} thread{'s' if engine.threads > 1 else ''}"
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


def _layout(model: ModelSettings) -> Any:
    from vaefast.layout import Layout

    return Layout(model)


def _build_parser() -> _Parser:
    parser = _Parser(
        prog="python -m vaefast.train",
        description="Train a variational auto-encoder. Defaults are those of the 2021 report on MNIST.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    model, training = ModelSettings(), TrainingSettings()
    adam = training.adam
    add = parser.add_argument
    add("--config", metavar="FILE", help="settings as TOML: the same names as the flags; flags win")
    add("--data", metavar="WHAT", help="mnist, digits (8x8, always at hand), or a file or folder of images of your own; "
        "default: mnist, or digits where MNIST is out of reach")  # fmt: skip
    add("--data-dir", metavar="FOLDER", help="where the MNIST files lie (default: $VAEFAST_DATA_DIR, then the cache)")
    add("--engine", metavar="NAME", help="auto, cython, numba or reference (default: auto, the fastest that works here)")
    add("--hidden", metavar="H", type=int, nargs="*", help="sizes of the encoder's hidden layers, mirrored by the decoder "
        f"(default: {' '.join(map(str, model.hidden))})")  # fmt: skip
    add("--latent", metavar="Z", type=int, help=f"number of latents (default: {model.latent})")
    add("--activation", choices=ACTIVATIONS, help=f"after every hidden layer (default: {model.activation})")
    add("--likelihood", choices=LIKELIHOODS, help="p(x | z): of pixels that are 0 or 1, of any grey levels with a learned "
        f"variance a pixel, or of grey levels in [0, 1] (default: {model.likelihood})")  # fmt: skip
    add("--init", choices=INITIALIZATIONS, help=f"initial weights (default: {training.initialization})")
    add("--binarize", choices=BINARIZATIONS, help="what grey pixels become: drawn afresh each time an image is seen, on from "
        f"one half, or left grey (default: {training.binarize}; none where the likelihood is of grey levels)")  # fmt: skip
    add("--batch-size", metavar="B", type=int, help=f"images a minibatch (default: {training.batch_size})")
    add("--epochs", metavar="N", type=int, help=f"passes over the training set (default: {training.epochs})")
    add("--learning-rate", metavar="R", type=float, help=f"Adam's step size (default: {adam.learning_rate})")
    add("--beta1", metavar="B1", type=float, help=f"decay of Adam's first moments (default: {adam.beta1})")
    add("--beta2", metavar="B2", type=float, help=f"decay of Adam's second moments (default: {adam.beta2})")
    add(
        "--epsilon",
        metavar="E",
        type=float,
        help=f"added to the root of Adam's second moments (default: {adam.epsilon})",
    )
    add("--seed", metavar="S", type=int, help=f"decides every random number (default: {training.seed})")
    add("--threads", metavar="T", type=int, help="default: $VAEFAST_NUM_THREADS, else the cores this process may use; "
        "changes no result")  # fmt: skip
    add("--out", metavar="FOLDER", help="the run's folder, new or empty (default: runs/<data>-<date>-<time>)")
    add("--checkpoint-every", metavar="WHEN", help="so many epochs, such as 5, or minutes, such as 10m; auto: twice a minute, "
        "but never for more than 1/200 of the time; never: only before the first step, at the end, and on SIGINT or SIGTERM "
        "(default: auto)")  # fmt: skip
    add("--resume", metavar="PATH", help="continue the run in this folder from its newest checkpoint that verifies, to "
        "the same result as if it had never stopped; auto: the run in --out, the newest in runs/, or a new one")  # fmt: skip
    add("--start-from", metavar="FILE", help="train on from this model.safetensors, or run folder, of the same settings; Adam "
        "starts anew")  # fmt: skip
    add("--tensorboard", action="store_true", help="event files in the run's folder too (needs the extra tensorboard)")
    add("--debug", action="store_true", help="show the traceback of an error")
    add("--version", action="version", version=f"vaefast {__version__}")
    return parser


def _read_config(name: str, parser: _Parser) -> dict[str, Any]:
    """The keys of a TOML file, spelt with hyphens or underscores, checked like flags."""
    try:
        content = tomllib.loads(_config_text(name))
    except OSError as error:
        raise SettingsError(f"cannot read {name}: {error.strerror}; give --config an existing TOML file") from error
    except SettingsError:
        raise
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors, too
        raise SettingsError(f"{name} is not TOML: {' '.join(str(error).split())[:160]}") from error
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "version", "config")}
    values: dict[str, Any] = {}
    for key, value in content.items():
        dest = key.replace("-", "_")
        if dest not in actions:
            near = difflib.get_close_matches(dest, actions, 1)
            hint = f"did you mean {near[0]}?" if near else f"keys are {', '.join(actions)}"
            raise SettingsError(f"{name} has the unknown key {key!r}; {hint}")
        if dest in values:
            raise SettingsError(f"{name} has {key!r} twice, with a hyphen and with an underscore: keep one")
        values[dest] = _config_value(name, key, value, actions[dest])
    return values


def _config_text(name: str) -> str:
    status = os.stat(name)
    # Asked before opening: to open a FIFO waits for its writer, and to open a device may act on it.
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise SettingsError(f"cannot read {name}: it is no file; give --config an existing TOML file")
    if status.st_size > LARGEST_CONFIG:
        raise SettingsError(f"cannot read {name}: it has more than {LARGEST_CONFIG} bytes; give --config a TOML file")
    return Path(name).read_text(encoding="utf-8")


def _config_value(name: str, key: str, value: Any, action: argparse.Action) -> Any:
    if isinstance(value, dict) or (isinstance(value, list) and action.nargs != "*"):
        raise SettingsError(f"{name}: {key} is {json.dumps(value, default=str)}: give one value")
    if action.nargs == "*" and not isinstance(value, list):
        value = [value]
    if action.nargs == 0 and not isinstance(value, bool):
        raise SettingsError(f"{name}: {key} is {value!r}: give true or false")
    if action.dest == "checkpoint_every" and type(value) is int:
        value = str(value)
    if action.type is not None and isinstance(value, str):
        raise SettingsError(f"{name}: {key} is {value!r}: give a number, without quotes")
    wants_text = action.type is None and action.nargs != 0
    if wants_text and not isinstance(value, str):
        raise SettingsError(f"{name}: {key} is {value!r}: give it as text in quotes")
    return value


def _expanded(text: str | None) -> str | None:
    """The text with `~` for a home folder, which a shell replaces in few places and TOML nowhere."""
    return None if text is None else os.path.expanduser(text)


def _path(text: str | None) -> Path | None:
    expanded = _expanded(text)
    if expanded is not None and "\0" in expanded:
        raise SettingsError(f"{expanded!r} holds a null character: give the path of a folder")
    return None if expanded is None else Path(expanded)


def _report(error: BaseException, message: str, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    _complain(message)


def _complain(message: str) -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print("vaefast: " + " ".join(message.split()), file=sys.stderr, flush=True)


def _say(text: str) -> None:
    """A line on stdout. A reader that has gone (`| head`) is no error of ours: the run goes on without it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise OutputError(f"cannot write to stdout: {error.strerror or error}; redirect it elsewhere") from error


def _open_standard_streams() -> None:
    """Where a stream was closed (`>&-`), the next file that is opened would get its number, and foreign output with it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


if __name__ == "__main__":
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold what the terminal's encoding cannot; stderr shows it so by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
