"""Which tests are quick or long, and fixtures of those that stop a run and go on with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas
import pytest

from tests.faults import runs
from vaefast.engines import threads
from vaefast.runs.checkpointing import Keeper
from vaefast.training import trainer

Command = Callable[..., tuple[int, str, str]]

if pandas.__version__.startswith("2."):
    # As in pandas 3: a table made of an array is a copy, so that a test that changes it changes no other test's array.
    pandas.set_option("mode.copy_on_write", True)

# `python -m pytest -m quick`: of each folder of the package the files, or tests of a file, that try it within seconds.
QUICK: dict[str, list[str]] = {
    "": ["test_quick.py", "test_floors.py"],
    "cli": ["training/test_pace.py"],
    "data": ["data/test_csv.py", "data/test_table_text.py::test_any_usual_separator"],
    "engines": ["engines/test_reference.py", "engines/test_threads.py"],
    "estimator": [
        "test_estimator.py::test_shapes_and_types",
        "test_estimator.py::test_inverse_transform_wants_as_many_latents_as_there_are",
    ],
    "evaluation": ["evaluation/test_assessment.py"],
    "files": ["runs/test_run_folder.py"],
    "inputs": ["inputs/test_finding.py"],
    "inference": ["evaluation/test_assessment.py"],
    "models": ["models/test_layout.py", "models/test_settings.py"],
    "plots": ["plots/test_latents.py"],
    "runs": ["runs/test_schedule.py", "runs/test_run_folder.py"],
    "tables": [
        "tables/test_any_numbers.py::test_moments_have_no_unit_that_is_too_small_or_too_large",
        "tables/test_any_numbers.py::test_what_dominates_a_column_and_what_does_not",
    ],
    "training": ["training/test_pace.py"],
}

# Files that take more than half a minute of a core, the longest first: where two processes share the suite, none of them
# may be left with one when the other is done.
LONGEST = (
    "engines/test_distributed.py", "engines/test_cuda_engine.py", "engines/test_engines.py", "engines/test_objectives.py",
    "engines/test_bf16_engines.py", "test_packaging.py", "engines/test_bf16_numba.py", "engines/test_numba_engine.py",
    "test_examples.py", "cli/test_ranks.py", "test_estimator.py", "cli/test_table_runs.py", "tables/test_any_numbers.py",
    "cli/test_train_command.py", "engines/test_cython_engine.py",
)  # fmt: skip

# `python -m pytest -m long`: tests that take a core for a quarter of a minute to three minutes, of what shorter ones try on
# fewer models or in another way. The whole suite leaves them out; a file that is named runs them. The models that Numba
# compiles for bfloat16 alone are marked in their file (`by_engine_and`), the report's excepted; the Cython engine has all.
LONG = (
    # The stand-in for a GPU runs what the compiler makes of the same kernels.
    "engines/test_cuda_engine.py::test_the_simulated_engine_agrees_with_the_reference[simulator]",
    # Two ranks train on images, and the command over two ranks on every kind of rows.
    "engines/test_distributed.py::test_several_ranks_train_the_model_of_one[3-images-9]",
    "engines/test_distributed.py::test_several_ranks_train_the_model_of_one[1-rows-13]",
    "engines/test_distributed.py::test_several_ranks_train_the_model_of_one[2-rows-13]",
    # What docs/start/examples.md says of models of MNIST; the third example stays.
    "test_examples.py::test_neighbours_of_the_vaes_latents_classify_better_than_those_of_as_many_of_pca",
    "test_examples.py::test_a_digit_never_seen_is_found_better_than_by_an_isolation_forest",
    # The Numba engine trains on as many columns beside the reference.
    "engines/test_cython_engine.py::test_columns_past_65_535_have_the_bits_of_the_numba_engine",
)


def is_quick(node: str) -> bool:
    """Whether a test, by its name from the folder of the tests on, is one of QUICK's or in one of its files."""
    name = node.split("[")[0]
    return any(name == entry or name.startswith(f"{entry}::") for entries in QUICK.values() for entry in entries)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick and the long tests, and put the longest files first."""
    folder = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        return LONGEST.index(name) if (name := file_of(item)) in LONGEST else len(LONGEST)

    def file_of(item: pytest.Item) -> str:
        return item.path.relative_to(folder).as_posix() if item.path.is_relative_to(folder) else ""

    items.sort(key=place)
    for item in items:
        name = f"{file_of(item)}::{item.name}"
        if is_quick(name):
            item.add_marker("quick")
        if name in LONG:
            item.add_marker("long")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in a folder with 40 grey images, with three cores and a piece for each minibatch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAEFAST_OFFLINE", "1")
    monkeypatch.setattr(threads, "granted_cores", lambda: 3)
    monkeypatch.setattr(trainer, "_next_piece", lambda piece, elapsed: 1)
    runs.tiny_images(tmp_path / "grey.npy", 40, 30)
    return runs.command


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Send this process a signal, SIGTERM unless it is another, when the trainer pauses for the nth time."""
    real = Keeper.__call__

    def arrange(pause: int, number: int = signal.SIGTERM) -> None:
        left = [pause]

        def call(keeper: Keeper, *arguments: object) -> bool:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), number)
            return real(keeper, *arguments)

        monkeypatch.setattr(Keeper, "__call__", call)

    yield arrange
    monkeypatch.setattr(Keeper, "__call__", real)
