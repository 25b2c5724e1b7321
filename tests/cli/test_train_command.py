"""`python -m vaefast.train` as people meet it: run folders, lines, exit codes, signals.

What concerns the process itself (signals, pipes, terminals, start-up time) runs in one of its own; the rest calls
`main`, which is the same code without the seconds that the imports take. No test needs a network.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import math
import os
import re
import select
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from vaefast import __version__, engines, evaluate, train, transform
from vaefast.cli import arguments, options, parser
from vaefast.engines import threads
from vaefast.errors import OutputError
from vaefast.files import atomic
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import ModelSettings, TrainingSettings
from vaefast.plots import run_figures
from vaefast.runs import folder_lock
from vaefast.runs.interruption import EXIT_CODES
from vaefast.runs.run_folder import RunFolder
from vaefast.training import trainer

REAL_MNIST = os.environ.get("VAEFAST_DATA_DIR")
needs_mnist = pytest.mark.skipif(not REAL_MNIST, reason="set VAEFAST_DATA_DIR to a folder with the MNIST files")

# Kernels and fonts stay where they are: to make them anew costs half a minute.
KERNELS = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
FONTS = matplotlib.get_cachedir()

METRICS = [
    "epoch", "step", "train_objective", "train_elbo", "train_log_likelihood", "train_kl", "test_elbo", "test_log_likelihood",
    "test_kl", "seconds", "evaluation_seconds", "images_per_second",
]  # fmt: skip
FLAGS = {
    "--precision", "--objective", "--samples", "--kl", "--beta", "--kl-warm-up", "--warm-up-epochs", "--free-nats",
    "--help", "--config", "--data", "--data-dir", "--engine", "--hidden", "--latent", "--activation", "--likelihood", "--init",
    "--binarize", "--batch-size", "--epochs", "--learning-rate", "--beta1", "--beta2", "--epsilon", "--clip-norm", "--seed",
    "--learning-rate-schedule", "--learning-rate-steps", "--final-learning-rate",
    "--label", "--all-columns", "--color", "--scaling", "--test-fraction", "--encoder-input", "--zero-inflation",
    "--input-dropout", "--layer", "--covariates", "--encode-covariates", "--size-factors", "--missing", "--missing-indicator",
    "--column-types",
    "--initial-second-moments", "--validation", "--patience", "--min-improvement",
    "--distributed", "--deterministic-reduction",
    "--threads", "--out", "--checkpoint-every", "--resume", "--start-from", "--tensorboard", "--debug", "--version",
}  # fmt: skip
DRAW = run_figures.draw
SMALL = ("--hidden", "16", "--latent", "3")
EPOCH_LINE = re.compile(r"epoch +\d+/\d+  train ELBO +-?[\d.]+  test ELBO +-?[\d.]+ .* images/s")


@dataclass
class Result:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def environment(home: Path, **extra: str) -> dict[str, str]:
    """No data but what a test makes, no network, no wish about threads; `home` takes the caches."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("VAEFAST_")}
    for name in threads.VARIABLES:
        env.pop(name, None)
    env |= {"VAEFAST_OFFLINE": "1", "XDG_CACHE_HOME": str(home / "cache"), "HOME": str(home)}
    return {**env, "NUMBA_CACHE_DIR": KERNELS, "MPLCONFIGDIR": FONTS, **extra}


class Started(subprocess.Popen[str]):
    """A process that does not outlive a test that has failed."""

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)


def usual_signals() -> None:
    """Undo what nohup and shells do to commands in the background, under which the tests themselves may run."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def started(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """The command in a process of its own, in `folder`."""
    options.setdefault("env", environment(folder))
    if os.name == "posix":
        options.setdefault("preexec_fn", usual_signals)
    return Started([sys.executable, "-m", "vaefast.train", *arguments], cwd=folder, text=True, **options)


def finished(folder: Path, *arguments: str, timeout: float = 120, **options: Any) -> Result:
    with started(folder, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A whole run in a process of its own; where kernels must be compiled, it is the one that compiles them."""
    folder = tmp_path_factory.mktemp("digits")
    arguments = ("--data", "digits", "--epochs", "2", "--hidden", "24", "20", "--latent", "5", "--out", "run")
    return folder / "run", finished(folder, *arguments, timeout=600)


Command = Callable[..., Result]


@pytest.fixture
def command(
    digits_run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """`main` in this process and in an empty folder, without figures; compiled kernels are there."""
    for name in set(os.environ) - set(environment(tmp_path)):
        monkeypatch.delenv(name)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_figures, "draw", lambda *arguments, **settings: None)
    handlers = {number: signal.getsignal(number) for number in EXIT_CODES}

    def call(*arguments: str) -> Result:
        capfd.readouterr()
        code = train.main(list(arguments))
        return Result(code, *capfd.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def images(path: Path, *shape: int) -> str:
    """Float images of this shape in a `.npy` file: its name."""
    np.save(path, np.random.default_rng(0).random(shape, np.float32))
    return path.name


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def is_one_line(result: Result, *words: str) -> None:
    """One line of complaint; before it the Numba engine may say that it compiles, where nothing compiled is kept yet."""
    error = result.err.removeprefix("vaefast: compiling the CPU kernels, some seconds, and kept for the next run\n")
    assert error.startswith("vaefast: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1
    assert "internal error" not in error
    for word in words:
        assert word in error


def refused(command: Command, code: int, arguments: tuple[str, ...], *words: str) -> None:
    """The command ends with this code and one line of these words, and leaves nothing behind."""
    before = everything_below(Path.cwd())
    result = command(*arguments)
    assert (result.code, result.out) == (code, "")
    is_one_line(result, *words)
    assert everything_below(Path.cwd()) == before


def metrics_of(folder: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl, each whole and of finite numbers."""

    def not_json(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=not_json) for line in text.splitlines()]


# --- A run that goes well


def test_a_run_folder_is_complete(digits_run):
    folder, result = digits_run
    assert result.code == 0, result.err
    figures = ("prior_samples", "reconstructions", "interpolations", "elbo")
    files = {"settings.json", "environment.json", "metrics.jsonl", "model.safetensors", "checkpoint"}
    for number in (1, 2):  # before the first step, and at the end
        parts = ("manifest.json", "json", "safetensors")
        files |= {os.path.join("checkpoint", f"checkpoint-{number:06d}.{part}") for part in parts}
    assert {str(path.relative_to(folder)) for path in everything_below(folder)} == (
        files | {"figures"} | {os.path.join("figures", f"{name}.png") for name in figures}
    )
    for name in figures:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert json.loads((folder / "settings.json").read_text()) == {
        "data": "digits 8x8",
        "model": {"pixels": 64, "hidden": [24, 20], "latent": 5, "activation": "relu", "likelihood": "bernoulli"},
        "training": json.loads(json.dumps(TrainingSettings(batch_size=20, epochs=2).as_values())),
    }
    surroundings = json.loads((folder / "environment.json").read_text())
    assert surroundings["vaefast"] == __version__
    assert surroundings["engine"] == engines.choose("auto")
    assert surroundings["threads"] >= 1
    assert re.fullmatch(r"[0-9a-f]{64}", surroundings["data_sha256"])


def test_metrics_have_their_keys_in_order_and_agree_with_each_other(digits_run):
    lines = metrics_of(digits_run[0])
    assert [list(line) for line in lines] == [METRICS, METRICS]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert [line["step"] for line in lines] == [81, 162]  # 1617 training images in minibatches of 20
    for line in lines:
        for part in ("train", "test"):
            bound = line[f"{part}_log_likelihood"] - line[f"{part}_kl"]
            assert line[f"{part}_elbo"] == pytest.approx(bound, abs=1e-9)
            assert line[f"{part}_kl"] > 0
        assert line["images_per_second"] == pytest.approx(1617 / line["seconds"])
        assert line["evaluation_seconds"] > 0
    assert lines[1]["train_elbo"] > lines[0]["train_elbo"]


def test_the_model_has_names_shapes_and_metadata(digits_run):
    path = digits_run[0] / "model.safetensors"
    shapes = {name: tensor.shape for name, tensor in Layout(ModelSettings(64, (24, 20), 5)).tensors.items()}
    tensors = load_file(path)
    assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
    assert all(tensor.dtype == np.float32 and np.isfinite(tensor).all() for tensor in tensors.values())
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    assert set(metadata) == {"format", "format_version", "model", "training"}
    assert (metadata["format"], metadata["format_version"]) == ("vaefast", "1")
    settings = json.loads((digits_run[0] / "settings.json").read_text())
    assert json.loads(metadata["model"]) == settings["model"]
    assert json.loads(metadata["training"]) == settings["training"]


def test_each_epoch_is_a_plain_line_and_the_last_line_sums_up(digits_run):
    folder, result = digits_run
    first, *epochs, last = result.out.splitlines()
    chosen = "batch size 20 (by the number of examples; --batch-size changes it), 2 epochs, learning rate 0.001, seed 0"
    assert first.startswith(f"digits 8x8: 1,617 training examples of 64 values | {chosen} | engine {engines.choose('auto')}, ")
    assert len(epochs) == 2
    for line in epochs:
        assert EPOCH_LINE.fullmatch(line)
    line = metrics_of(folder)[-1]
    bounds = f"test ELBO {line['test_elbo']:.2f} nats (log-likelihood {line['test_log_likelihood']:.2f}, "
    assert last.startswith(f"digits 8x8: {bounds}KL {line['test_kl']:.2f}) | 2 epochs in ")
    team = rf"engine {engines.choose('auto')}, \d+ threads? \| run"
    assert re.search(rf" in [\d.]+ s, [\d.]+ s of it training, [\d,]+ images/s \| {team}$", last)


def test_without_mnist_and_network_one_loud_line_says_that_digits_are_used(command, tmp_path):
    result = command("--epochs", "1", *SMALL, "--out", "run")
    assert result.code == 0
    is_one_line(result, "NO MNIST", "digits of 8x8", "VAEFAST_OFFLINE", "--data-dir")
    assert result.out.splitlines()[-1].startswith("digits 8x8: test ELBO")
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["data"] == "digits 8x8"


def test_data_named_by_the_user_are_used_without_a_word(command):
    result = command("--data", "digits", "--epochs", "1", *SMALL)
    assert (result.code, result.err) == (0, "")


@needs_mnist
def test_one_epoch_of_mnist(command, tmp_path):
    arguments = ("--data", "mnist", "--data-dir", str(REAL_MNIST), "--init", "glorot", "--epochs", "1")
    result = command(*arguments, "--out", "run")
    assert result.code == 0, result.err
    (line,) = metrics_of(tmp_path / "run")
    # -169 was measured; a model that has learnt only the mean image stays at -205.8.
    assert line["test_elbo"] > -185
    assert line["step"] == 300


def test_the_number_of_threads_changes_no_bit(command, tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "granted_cores", lambda: 3)
    arguments = ("--data", "digits", "--hidden", "33", "17", "--latent", "5", "--batch-size", "70", "--epochs", "2")

    def model(number: int, seed: int = 0) -> bytes:
        out = f"{number}-{seed}"
        result = command(*arguments, "--threads", str(number), "--seed", str(seed), "--out", out)
        assert f"engine {engines.choose('auto')}, {number} thread" in result.out
        return (tmp_path / out / "model.safetensors").read_bytes()

    one = model(1)
    assert model(2) == one
    assert model(3) == one
    assert model(2, seed=1) != one


def test_the_engines_agree(command, tmp_path):
    lines = []
    for engine in ("reference", engines.choose("auto")):
        result = command("--data", "digits", *SMALL, "--epochs", "1", "--engine", engine, "--out", engine)
        assert f"engine {engine}," in result.out
        lines += metrics_of(tmp_path / engine)
    assert len(lines) == 2
    for key in METRICS[2:8]:
        assert lines[0][key] == pytest.approx(lines[1][key], abs=0.05)
    assert lines[0]["train_elbo"] != lines[1]["train_elbo"]  # two engines did run


def test_no_epochs_leave_the_initial_model(command, tmp_path):
    result = command("--data", "digits", *SMALL, "--epochs", "0", "--seed", "7", "--init", "fan-in", "--out", "run")
    assert (result.code, result.err) == (0, "")
    assert "nothing trained (0 epochs)" in result.out
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    layout = Layout(ModelSettings(64, (16,), 3))
    expected = layout.views(initial_parameters(layout, "fan-in", 7, None).astype(np.float32))
    tensors = load_file(tmp_path / "run" / "model.safetensors")
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name], array)


@pytest.mark.parametrize("scheme", ["glorot", "data-mean"])
def test_initialisation_schemes_reach_the_model(command, tmp_path, scheme):
    name = images(tmp_path / "grey.npy", 50, 9)
    assert command("--data", name, *SMALL, "--epochs", "0", "--init", scheme, "--out", "run").code == 0
    bias = load_file(tmp_path / "run" / "model.safetensors")["logits.bias"]
    assert (bias != 0).all() == (scheme == "data-mean")


@pytest.mark.parametrize(
    ("shape", "hidden"), [((40, 1), ()), ((40, 13), ("7",)), ((30, 9, 1), ("5", "4")), ((2, 4), ("3",))], ids=str
)
def test_data_of_odd_shapes(command, tmp_path, monkeypatch, shape, hidden):
    if shape == (40, 1):
        monkeypatch.setattr(run_figures, "draw", DRAW)
    name = images(tmp_path / "mine.npy", *shape)
    result = command("--data", name, "--hidden", *hidden, "--latent", "2", "--epochs", "2", "--out", "run")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1].startswith("mine.npy: test ELBO -")
    model = ModelSettings(int(np.prod(shape[1:])), tuple(map(int, hidden)), 2)
    assert set(load_file(tmp_path / "run" / "model.safetensors")) == set(Layout(model).tensors)
    assert len(list((tmp_path / "run" / "figures").iterdir())) == (4 if shape == (40, 1) else 0)


def test_names_that_a_terminal_and_a_font_lack_are_written_otherwise(digits_run, tmp_path):
    name = os.fsdecode("字\udcff.npy".encode(errors="surrogateescape"))
    try:
        images(tmp_path / name, 20, 4)
    except OSError:
        pytest.skip("this file system takes no such name")
    env = environment(tmp_path, PYTHONIOENCODING="ascii")
    result = finished(tmp_path, "--data", name, *SMALL, "--epochs", "1", env=env)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[-1].startswith(r"\u5b57\udcff.npy: test ELBO -")
    (folder,) = (tmp_path / "runs").iterdir()
    assert len(list((folder / "figures").iterdir())) == 4


# --- Help and version


def test_help_is_quick_and_lists_every_flag(tmp_path):
    seconds = []
    for _ in range(3):
        before = os.times()
        result = finished(tmp_path, "--help")
        after = os.times()
        # Of a core: what else the machine does meanwhile is not counted.
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert (result.code, result.err) == (0, "")
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", result.out)) == FLAGS
    assert min(seconds) < 0.5


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        options.parse(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"vaefast {__version__}\n"


# --- Flags that are wrong


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--hiden", "3"), ("--hiden", "did you mean --hidden?", "--help")),
        (("--epoch", "3"), ("--epoch", "did you mean --epochs?")),
        (("digits",), ("digits", "--help")),
        (("--epochs",), ("--epochs",)),
        (("--epochs", "many"), ("--epochs", "many")),
        (("--epochs", "1.5"), ("--epochs", "1.5")),
        (("--epochs", "-1"), ("epochs", "-1", "from 0")),
        (("--activation", "gelu"), ("--activation", "gelu", "relu", "tanh")),
        (("--init", "xavier"), ("--init", "xavier", "glorot")),
        (("--binarize", "yes"), ("--binarize", "yes", "dynamic")),
        (("--engine", "abacus"), ("engine", "abacus", "cython", "numba", "reference")),
        (("--threads", "0"), ("threads", "0", "from 1")),
        (("--threads", "-2"), ("threads", "-2", "from 1")),
        (("--hidden", "0"), ("hidden", "0", "from 1")),
        (("--hidden", "20", "-3"), ("hidden", "-3", "from 1")),
        (("--latent", "0"), ("latent", "0", "from 1")),
        (("--batch-size", "0"), ("batch_size", "0", "from 1")),
        (("--learning-rate", "nan"), ("learning_rate", "nan", "from 0")),
        (("--learning-rate", "inf"), ("learning_rate", "inf", "from 0")),
        (("--learning-rate", "-1"), ("learning_rate", "-1", "from 0")),
        (("--beta1", "1"), ("beta1", "1.0", "below 1")),
        (("--beta2", "-0.1"), ("beta2", "-0.1", "below 1")),
        (("--epsilon", "0"), ("epsilon", "0.0", "from 1e-30")),
        (("--seed", "-1"), ("seed", "-1", "from 0")),
        (("--seed", str(2**64)), ("seed", str(2**64 - 1))),
        (("--checkpoint-every", "often"), ("checkpoint_every", "often", "10m")),
        (("--checkpoint-every", "0"), ("checkpoint_every", "0", "from 1")),
        (("--resum", "auto"), ("--resum", "did you mean --resume?")),
        (("-epochs", "3"), ("did you mean --epochs?",)),
        (("--batch_size", "3"), ("did you mean --batch-size?",)),
        (("--dropout", "0.1"), ("there is no dropout: --validation with --patience",)),
        (("--weight-decay=0.1",), ("there is no weight decay",)),
        (("--data", "-x.csv"), ("a value that begins with a dash is given as --data=-x.csv",)),
        (("--out", "--x"), ("a value that begins with a dash is given as --out=--x",)),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_wrong_flags_are_one_line_and_exit_code_2(command, tmp_path, arguments, words):
    data = images(tmp_path / "grey.npy", 20, 4)
    refused(command, 2, ("--data", data, *arguments), *words)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("learning-rate", "lr step-size"),
        ("latent", "n-components latent-dim z-dim latents zdim Z_DIM"),
        ("batch-size", "batch bs"),
        ("epochs", "n-epochs num-epochs max-epochs n_epochs"),
        ("seed", "random-state random-seed"),
        ("engine", "device"),
        ("engine cuda", "gpu cuda"),
        ("threads", "workers n-jobs num-threads"),
        ("out", "output outdir"),
        ("data", "dataset input"),
        ("hidden", "hidden-sizes hidden-layer-sizes"),
    ],
)
def test_what_other_tools_call_a_flag_is_understood(command, flag, words):
    for word in words.split():
        refused(command, 2, (f"--{word}", "3"), f"unrecognized arguments: --{word} 3 (did you mean --{flag}?)")


@pytest.mark.parametrize("arguments", [("--quux", "3"), ("--xl", "3"), ("--data", "--epochs", "3"), ("--data",)])
def test_no_flag_is_suggested_that_is_far_from_what_was_typed(command, arguments):
    result = command(*arguments)
    assert result.code == 2
    assert "(" not in result.err


def test_every_synonym_leads_to_a_flag_of_some_command():
    parsers = (arguments.build_parser(), evaluate._build_parser(), transform._build_parser())
    known = {name.strip("-") for each in parsers for action in each._actions for name in action.option_strings}
    words = [word for others in parser.SYNONYMS.values() for word in others.split(", ")] + [*parser.ABSENT]
    assert {flag.split()[0] for flag in parser.SYNONYMS} <= known
    assert len({*words}) == len(words)
    assert not {*words} & known


def test_exit_codes_leave_the_process(tmp_path):
    result = finished(tmp_path, "--hidden", "0")
    assert (result.code, result.out) == (2, "")
    is_one_line(result, "hidden is 0")
    result = finished(tmp_path, "--data", "nowhere")
    assert (result.code, result.out) == (3, "")
    is_one_line(result, "nowhere")
    assert everything_below(tmp_path) == set()


def test_a_model_too_large_for_any_memory_is_refused(command, tmp_path):
    data = images(tmp_path / "grey.npy", 20, 4)
    refused(command, 2, ("--data", data, "--hidden", str(2**24), str(2**24)), "out of memory", "--hidden")


def test_debug_shows_the_traceback_before_the_line(command, tmp_path):
    result = command("--hidden", "0", "--debug")
    assert result.code == 2
    assert result.err.startswith("Traceback (most recent call last):")
    assert result.err.splitlines()[-1].startswith("vaefast: hidden is 0")


def test_debug_works_from_the_configuration_file_once_the_settings_stand(command, tmp_path):
    (tmp_path / "mine.toml").write_text("debug = true\ndata = 'nowhere'\n")
    result = command("--config", "mine.toml")
    assert result.code == 3
    assert result.err.startswith("Traceback")
    (tmp_path / "mine.toml").write_text("debug = false\ndata = 'nowhere'\n")
    refused(command, 3, ("--config", "mine.toml"), "nowhere")


def test_an_error_that_nobody_foresaw_is_one_line_and_exit_code_1(command, monkeypatch):
    def broken(*arguments: object) -> int:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(threads, "thread_count", broken)
    result = command("--data", "digits")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("vaefast: internal error, ZeroDivisionError: first line second line (--debug ")
    assert result.err.count("\n") == 1


# --- The configuration file


def settings_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "settings.json").read_text())


def test_flags_win_over_the_configuration_file_and_both_over_the_defaults(command, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'data = "digits"\nhidden = [12, 8]\nlatent = 4\nbatch-size = 90\nlearning_rate = 1\nbinarize = "threshold"\n'
        'init = "he"\nepochs = 0\nout = "run"\nthreads = 1\nengine = "reference"\n'
    )
    result = command("--config", "mine.toml", "--latent", "6")
    assert (result.code, result.err) == (0, "")
    assert "engine reference, 1 thread |" in result.out
    settings = settings_in(tmp_path / "run")
    assert settings["model"] == {"pixels": 64, "hidden": [12, 8], "latent": 6, "activation": "relu", "likelihood": "bernoulli"}
    training = settings["training"]
    assert (training["batch_size"], training["binarize"], training["initialization"]) == (90, "threshold", "he")
    assert (training["adam"]["learning_rate"], training["adam"]["beta1"], training["seed"]) == (1, 0.9, 0)


def test_a_home_folder_is_found_in_the_configuration_file(command, tmp_path):
    images(tmp_path / "grey.npy", 20, 4)
    (tmp_path / "mine.toml").write_text('data = "~/grey.npy"\nout = "~/run"\nepochs = 0\nhidden = 5\n')
    assert command("--config", "mine.toml").code == 0
    assert settings_in(tmp_path / "run")["model"]["hidden"] == [5]
    assert command("--config", "mine.toml", "--out", "~nobody-of-this-name/run").code == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("lerning_rate = 0.1", ("mine.toml", "lerning_rate", "did you mean learning_rate?")),
        ("quux = 1", ("mine.toml", "quux", "batch_size")),
        ("lr = 0.1", ("mine.toml", "unknown key 'lr'; did you mean learning_rate?")),
        ("gpu = true", ("did you mean engine?",)),
        ("dropout = 0.1", ("there is no dropout",)),
        ("config = 'other.toml'", ("mine.toml", "config")),
        ("batch-size = 5\nbatch_size = 6", ("mine.toml", "batch_size", "twice")),
        ("epochs = '3'", ("mine.toml", "epochs", "without quotes")),
        ("threads = '3'", ("mine.toml", "threads", "without quotes")),
        ("threads = true", ("threads", "True", "from 1")),
        ("epochs = 2.5", ("epochs", "2.5", "whole number")),
        ("epochs = true", ("epochs", "True", "whole number")),
        ("epochs = 1979-05-27", ("epochs", "whole number")),
        ("hidden = ['20']", ("hidden", "'20'", "whole number")),
        ("hidden = [[20]]", ("hidden", "[20]", "whole number")),
        ("latent = [5]", ("mine.toml", "latent", "[5]", "one value")),
        ("[latent]\nsize = 5", ("mine.toml", "latent", "one value")),
        ("data = 3", ("mine.toml", "data", "3", "quotes")),
        ("debug = 1", ("mine.toml", "debug", "true or false")),
        ("activation = 'gelu'", ("activation", "gelu", "relu", "tanh")),
        ("learning_rate = nan", ("learning_rate", "nan")),
        (f"learning_rate = 1{'0' * 400}", ("learning_rate", "from 0")),
        ("latent = -1", ("latent", "-1", "from 1")),
        ("epochs = ", ("mine.toml", "TOML")),
        ("a = " + "[" * 100_000, ("mine.toml", "TOML")),
        ("epochs = " + "9" * 5000, ("mine.toml", "TOML")),
        ("checkpoint_every = 0", ("checkpoint_every", "'0'", "from 1")),
        ("checkpoint_every = 1.5", ("checkpoint_every", "1.5", "quotes")),
        ("checkpoint-evry = 1", ("checkpoint-evry", "did you mean checkpoint_every?")),
        (r'out = "a\u0000b"', ("null character",)),
        (r'data-dir = "a\u0000b"', ("null character",)),
        ("a = 'ä'", ("mine.toml", "TOML")),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_wrong_configuration_files_are_one_line_and_exit_code_2(command, tmp_path, content, words):
    (tmp_path / "mine.toml").write_bytes(content.encode("latin-1"))
    refused(command, 2, ("--config", "mine.toml"), *words)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_configuration_file_that_cannot_be_read(command, name):
    refused(command, 2, ("--config", name), f"cannot read {name}", "--config")


@pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs")
def test_a_configuration_file_that_is_a_fifo_or_a_device_is_not_waited_for(command, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "/dev/zero"):
        refused(command, 2, ("--config", name), f"cannot read {name}: it is not a file", "--config")


def test_a_configuration_file_that_is_no_such_thing_is_not_read_to_its_end(command, tmp_path):
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    refused(command, 2, ("--config", "huge"), "cannot read huge: it has more than", "--config")


# --- Data that are wrong


def test_mnist_by_name_never_falls_back(command):
    refused(command, 3, ("--data", "mnist"), "MNIST is out of reach", "VAEFAST_OFFLINE")


def corrupt_idx(folder: Path) -> str:
    (folder / "bad-idx3-ubyte").write_bytes(idx(np.ones((5, 3, 3)))[:-7])
    return "bad-idx3-ubyte"


def truncated_gzip(folder: Path) -> str:
    content = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (5, 20, 20))))
    (folder / "cut.gz").write_bytes(content[: len(content) // 2])
    return "cut.gz"


def unlike_counts(folder: Path) -> str:
    (folder / "mine").mkdir()
    for name, array in [
        ("train-images-idx3-ubyte", np.ones((4, 3, 3))),
        ("train-labels-idx1-ubyte", np.ones(3)),
        ("t10k-images-idx3-ubyte", np.ones((2, 3, 3))),
        ("t10k-labels-idx1-ubyte", np.ones(2)),
    ]:
        (folder / "mine" / name).write_bytes(idx(array))
    return "mine"


def with_value(value: float) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        array = np.full((6, 4), 0.5, np.float32)
        array[2, 3] = value
        np.save(folder / "mine.npy", array)
        return "mine.npy"

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: "nowhere.npy", ("nowhere.npy",)),
        (corrupt_idx, ("bad-idx3-ubyte", "45")),
        (truncated_gzip, ("cut.gz",)),
        (unlike_counts, ("mine", "4 images", "3 labels")),
        (with_value(np.inf), ("mine.npy", "row 2", "column 3", "inf")),
    ],
    ids=["missing", "corrupt IDX", "truncated gzip", "unlike counts", "infinite"],
)
def test_wrong_data_are_one_line_and_exit_code_3(command, tmp_path, make, words):
    refused(command, 3, ("--data", make(tmp_path)), *words)


@pytest.mark.parametrize("value", [1.5, -0.25, math.nan])
def test_numbers_that_are_no_grey_levels_are_refused_as_pictures(command, tmp_path, value):
    flags = "--data", with_value(value)(tmp_path), "--scaling", "grey"
    refused(command, 3, flags, "mine.npy", "row 2", "column 3", str(value))


def test_a_data_folder_that_is_missing_never_falls_back(command, monkeypatch):
    refused(command, 3, ("--data-dir", "nowhere"), "nowhere", "does not exist", "--data-dir")
    monkeypatch.setenv("VAEFAST_DATA_DIR", "elsewhere")
    refused(command, 3, (), "elsewhere", "does not exist", "VAEFAST_DATA_DIR")


# --- Places that are wrong


def test_out_must_be_new_or_empty(command, tmp_path):
    data = images(tmp_path / "grey.npy", 20, 4)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    refused(command, 2, ("--data", data, "--out", "full"), "full is not empty", "--out")
    refused(command, 6, ("--data", data, "--out", "grey.npy"), "grey.npy", "--out")
    refused(command, 6, ("--data", data, "--out", "grey.npy/run"), "grey.npy/run", "--out")
    (tmp_path / "empty").mkdir()
    assert command("--data", data, *SMALL, "--epochs", "0", "--out", "empty").code == 0
    assert (tmp_path / "empty" / "model.safetensors").exists()


def test_out_in_a_folder_without_the_right_to_write(command, tmp_path):
    data = images(tmp_path / "grey.npy", 20, 4)
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("permission bits do not bind this user")
    refused(command, 6, ("--data", data, "--out", "locked/run"), "locked/run", "--out")


def test_out_that_cannot_be_written_is_known_before_anything_is_trained(command, tmp_path, monkeypatch):
    """Simulated, because a test run by root is denied nothing."""
    data = images(tmp_path / "grey.npy", 20, 4)
    monkeypatch.setattr(trainer, "train", lambda *arguments, **options: pytest.fail("something is trained"))
    for name, is_made in (("empty", True), ("new", False)):
        if is_made:
            (tmp_path / name).mkdir()
        with monkeypatch.context() as patch:
            denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            patch.setattr(folder_lock.os, "open", failing_on(os.open, ".lock", denied))
            patch.setattr(Path, "mkdir", failing_on(Path.mkdir, "new", denied))
            refused(command, 6, ("--data", data, "--out", name), name, os.strerror(errno.EACCES), "--out")
    refused(command, 6, ("--data", data, "--out", "/proc/run"), "/proc/run", "--out")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free space or choose another --out"),
        (errno.EROFS, "choose another --out, for that place is read-only"),
        (errno.EACCES, "choose another --out, or give yourself permission to write there"),
        (errno.ENOENT, "make the folder that it would be in, or choose another --out"),
        (errno.EIO, "choose another --out"),
    ],
)
def test_what_helps_is_what_is_wrong(command, tmp_path, monkeypatch, number, words):
    data = images(tmp_path / "grey.npy", 20, 4)
    monkeypatch.setattr(Path, "mkdir", failing_on(Path.mkdir, "run", OSError(number, os.strerror(number))))
    refused(command, 6, ("--data", data, "--out", "run"), f"cannot make the folder run: {os.strerror(number)}; {words}\n")


def test_a_model_saved_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="No such file or directory; make the folder that it would be in, or choose another"):
        atomic.write_bytes(tmp_path / "deep" / "model.safetensors", b"")


def failing_on(function: Callable[..., Any], name: str, error: OSError) -> Callable[..., Any]:
    """The function, which fails for paths of this name."""

    def called(path: Any, *arguments: Any, **options: Any) -> Any:
        if Path(path).name == name:
            raise error
        return function(path, *arguments, **options)

    return called


def test_a_full_disk_in_the_middle_of_a_run_is_one_line_and_exit_code_6(command, tmp_path, monkeypatch):
    def full(file: int) -> None:
        if stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = command("--data", images(tmp_path / "grey.npy", 20, 4), *SMALL, "--epochs", "1", "--out", "run")
    assert (result.code, result.out) == (6, "")
    is_one_line(result, "settings.json", os.strerror(errno.ENOSPC))
    assert {path.name for path in everything_below(tmp_path / "run")} == {"figures"}


# --- Divergence


@pytest.mark.parametrize("engine", ["auto", "numba", "reference"])
def test_divergence_is_one_line_and_exit_code_5(command, tmp_path, engine):
    arguments = ("--data", "digits", *SMALL, "--epochs", "3", "--learning-rate", "1e6", "--engine", engine)
    result = command(*arguments, "--out", "run")
    assert result.code == 5
    is_one_line(result, "finite", "in epoch 1, minibatch", "(step ", "lower --learning-rate")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert (tmp_path / "run" / "settings.json").exists()


def test_divergence_in_the_last_minibatch_is_seen_in_the_test_set(command, tmp_path):
    data = images(tmp_path / "grey.npy", 54, 13)
    deep = ("--hidden", "30", "30", "30", "30")
    result = command("--data", data, *SMALL, *deep, "--epochs", "1", "--learning-rate", "1e6", "--out", "run")
    assert result.code == 5
    is_one_line(result, "finite", "--learning-rate")
    assert not (tmp_path / "run" / "model.safetensors").exists()


# --- Signals, pipes, terminals


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_a_run_at_once_and_cleanly(digits_run, tmp_path, number, code):
    data = images(tmp_path / "grey.npy", 3000, 40)
    arguments = ("--data", data, *SMALL, "--batch-size", "3", "--epochs", "100000", "--out", "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    with (
        (tmp_path / "out").open("w") as out,
        started(tmp_path, *arguments, stdout=out, stderr=subprocess.PIPE) as process,
    ):
        deadline = time.monotonic() + 60
        while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        start = time.monotonic()
        process.send_signal(number)
        err = process.communicate(timeout=30)[1]
        seconds = time.monotonic() - start
    result = Result(process.returncode, (tmp_path / "out").read_text(), err)
    assert result.code == code
    is_one_line(result, number.name, "--resume run")
    assert seconds < 2
    lines = metrics_of(tmp_path / "run")
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) - (len(result.out.splitlines()) - 1) in (0, 1)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "settings.json", "environment.json", "metrics.jsonl", "figures", "checkpoint",
    }  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX pipes")
def test_a_reader_that_has_gone_does_not_stop_the_run(digits_run, tmp_path):
    data = images(tmp_path / "grey.npy", 20, 4)
    read, write = os.pipe()
    os.close(read)
    arguments = ("--data", data, *SMALL, "--epochs", "3", "--out", "run")
    with started(tmp_path, *arguments, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        err = process.communicate(timeout=60)[1]
    assert (process.returncode, err) == (0, "")
    assert len(metrics_of(tmp_path / "run")) == 3
    assert (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_does_not_stop_the_run(command, tmp_path, monkeypatch, stream):
    data = images(tmp_path / "grey.npy", 20, 4)
    monkeypatch.setattr(sys, stream, None)
    result = command("--data", data, *SMALL, "--epochs", "1", "--out", "run")
    assert result.code == 0
    assert len(result.out.splitlines()) == (0 if stream == "stdout" else 3)
    assert command("--hidden", "0").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_shell_closed_do_not_stop_the_run(digits_run, tmp_path, closed):
    data = images(tmp_path / "grey.npy", 20, 4)
    program = f'exec "$0" -m vaefast.train --data {data} --hidden 5 --latent 2 --epochs 2 --out run {closed}'
    result = subprocess.run(
        ["sh", "-c", program, sys.executable], cwd=tmp_path, env=environment(tmp_path), capture_output=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(result.stdout.splitlines()) == (4 if closed == "2>&-" else 0)
    assert len(metrics_of(tmp_path / "run")) == 2
    assert len(load_file(tmp_path / "run" / "model.safetensors")) == 10


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_stdout_on_a_full_disk_ends_the_process_with_6(digits_run, tmp_path):
    data = images(tmp_path / "grey.npy", 20, 4)
    with (
        open("/dev/full", "w") as out,
        started(tmp_path, "--data", data, *SMALL, stdout=out, stderr=subprocess.PIPE) as process,
    ):
        err = process.communicate(timeout=60)[1]
    is_one_line(Result(process.returncode, "", err), "stdout", os.strerror(errno.ENOSPC))
    assert process.returncode == 6


def test_stdout_that_cannot_be_written_is_one_line_and_exit_code_6(command, tmp_path, monkeypatch):
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data = images(tmp_path / "grey.npy", 20, 4)
    monkeypatch.setattr(sys, "stdout", Full())
    result = command("--data", data, *SMALL, "--epochs", "1")
    assert result.code == 6
    is_one_line(result, "stdout", os.strerror(errno.ENOSPC))


def shown_on_a_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and everything that the command writes to a terminal of 100 columns."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    own, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
    shown = b""
    with started(folder, *arguments, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if select.select([own], [], [], 0.1)[0]:
                try:
                    piece = os.read(own, 65536)
                except OSError:  # how Linux says that the other end is closed
                    break
                if not piece:
                    break
                shown += piece
        code = process.wait(timeout=10)
    os.close(own)
    return code, shown.decode()


@pytest.mark.parametrize("ignored", [False, True], ids=["as it is", "under nohup"])
def test_a_closed_terminal_leaves_a_checkpoint_and_is_outlived_under_nohup(digits_run, tmp_path, ignored):
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    data, metrics = images(tmp_path / "grey.npy", 3000, 40), tmp_path / "run" / "metrics.jsonl"
    epochs = 20 if ignored else 100_000
    own, its = pty.openpty()

    def take_the_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    arguments = ("--data", data, *SMALL, "--batch-size", "3", "--epochs", str(epochs), "--out", "run")
    streams = {"stdin": its, "stdout": its, "stderr": its}
    with started(tmp_path, *arguments, **streams, start_new_session=True, preexec_fn=take_the_terminal) as process:
        os.close(its)
        deadline = time.monotonic() + 300
        while process.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2):
            assert time.monotonic() < deadline
            if select.select([own], [], [], 0.01)[0]:
                os.read(own, 65536)
        os.close(own)
        code = process.wait(timeout=300)
    trained = len(metrics_of(tmp_path / "run"))
    assert (tmp_path / "run" / "model.safetensors").exists() == ignored
    assert (code, trained == epochs) == ((0, True) if ignored else (129, False))
    if not ignored:
        assert trained >= 2
        more = finished(tmp_path, "--resume", "run", "--epochs", str(trained + 1))
        assert more.code == 0
        assert f"epoch {trained + 1}" in more.out


def test_a_terminal_shows_a_bar_with_the_bound(digits_run, tmp_path):
    data = images(tmp_path / "grey.npy", 4000, 64)
    arguments = ("--data", data, *SMALL, "--batch-size", "20", "--epochs", "100", "--threads", "1")
    code, text = shown_on_a_terminal(tmp_path, *arguments)
    assert code == 0
    bars = re.findall(r"epoch +(\d+)/100  ELBO +(-[\d.]+) +(\d+)%\|", text)
    assert len(bars) > 1
    assert int(bars[-1][0]) > int(bars[0][0])
    assert int(bars[-1][2]) > int(bars[0][2])
    assert not EPOCH_LINE.search(text)
    assert "grey.npy: test ELBO -" in text.splitlines()[-1]


def test_run_folders_of_one_second_do_not_meet(command, tmp_path):
    data = images(tmp_path / "grey.npy", 20, 4)
    for _ in range(3):
        assert command("--data", data, *SMALL, "--epochs", "0").code == 0
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 3
    assert all((folder / "model.safetensors").exists() for folder in folders)


def test_nothing_is_written_by_an_engine_that_cannot_start(command, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(RunFolder, "__init__", lambda self, path: made.append(path))
    data = images(tmp_path / "grey.npy", 20, 4)
    refused(command, 2, ("--data", data, "--hidden", str(2**24), str(2**24), "--out", "run"), "out of memory")
    assert made == []
