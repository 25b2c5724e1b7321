"""Training over the ranks of an MPI job: the same model as one process, the same bits again, and an end whatever happens."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mpi
import numpy as np
import pytest
from cases import TOLERANCES
from mpi import with_mpi

from vaefast import train
from vaefast.cli import mpi_launcher
from vaefast.engines.distributed.shares import owners, part, takers

PROGRAM = str(Path(__file__).parents[1] / "mpi_program.py")
RUN = ("--data", "digits", "--hidden", "24", "--latent", "4", "--batch-size", "50", "--engine", "numba")


# ---- shares


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("size", [1, 7, 200])
def test_shares_of_a_minibatch_are_equal_and_few_examples_travel(ranks, size):
    order = np.random.default_rng(ranks).permutation(1000)[:size]
    owner = owners(order, 1000, ranks)
    for rank in range(ranks):
        first, last = part(1000, rank, ranks)
        assert np.array_equal(owner == rank, (order >= first) & (order < last))
    taker = takers(owner, ranks)
    shares, held = np.bincount(taker, minlength=ranks), np.bincount(owner, minlength=ranks)
    assert shares.max() - shares.min() <= 1
    assert np.sum(taker != owner) == np.sum(np.maximum(held - shares, 0))  # whoever holds too many keeps all it may


# ---- the same model


def agreement(ranks, cases):
    code, out, error = mpi.run(ranks, PROGRAM, cases)
    assert code == 0, error
    return [json.loads(line) for line in out.splitlines()]


# One rank first: several would each compile what they do not find.
@with_mpi
@pytest.mark.parametrize(
    ("ranks", "cases", "count"), [(1, "images", 9), (2, "images", 9), (3, "images", 9), (1, "rows", 13), (2, "rows", 13)]
)
def test_several_ranks_train_the_model_of_one(ranks, cases, count):
    found = agreement(ranks, cases)
    assert len(found) == count
    for case in found:
        assert case["steps"] == [True] * 4
        for name, values in case.items():
            if name.split(".")[0] in ("terms", "evaluated", "sampled"):
                tolerance = TOLERANCES["example_nats"] if "effective" not in name else 1e-2
                assert max(values) <= tolerance, (case["name"], name)
        assert max(case["losses"]) <= TOLERANCES["loss_nats"], case["name"]
        assert max(case["parameters"]) <= TOLERANCES["parameters"], case["name"]
        assert case["digests"][1] == case["digests"][2], case["name"]  # rank order twice
        assert case["digests"][1] == case["digests"][3], case["name"]  # and in shared memory
    assert any(max(case["parameters"]) > 0 for case in found) == (ranks > 1)  # several computed them apart


HOLDS = """
import sys, tracemalloc
import numpy as np
from vaefast.engines import distributed
from vaefast.engines.distributed.ranks import SHARED_MEMORY
from vaefast.models.conditions import Conditioned
from vaefast.models.count_rows import CountRows
from vaefast.models.settings import ModelSettings, TrainingSettings
ranks, form = distributed.join(), sys.argv[1]
if ranks.rank == 0:
    if form == "counts":
        rows, width, each = 80_000, 2_000, 500
        starts, columns = np.arange(rows + 1) * each, np.tile(np.arange(each, dtype=np.uint16), rows)
        values = CountRows(starts, columns, np.ones(rows * each, np.uint8), width)
        model = ModelSettings(width, (4,), 2, likelihood="poisson")
    elif form == "table":
        values = np.ones((60_000, 500), np.float32)
        model = ModelSettings(500, (4,), 2, likelihood="student-t", missing=True)
    else:
        values = Conditioned(np.ones((60_000, 1), np.float32), np.ones((60_000, 500), np.float32))
        model = ModelSettings(1, (4,), 2, likelihood="student-t", covariates=500)  # which needs no kernel here
    engine = distributed.lead(ranks, model, TrainingSettings(batch_size=200, binarize="none"), 1, SHARED_MEMORY)
    tracemalloc.start()
    engine.place(values)
    print(tracemalloc.get_traced_memory()[1], flush=True)
    distributed.end(ranks)
else:
    tracemalloc.start()
    distributed.follow(ranks)
    print(tracemalloc.get_traced_memory()[1], flush=True)
"""


@with_mpi
@pytest.mark.parametrize("form", ["counts", "table", "covariates"])
def test_each_rank_takes_the_memory_of_its_part(form):
    """A half of 120 MB, and room for 4,100 guests, which are a tenth of the rows. The leader's own part is a copy."""
    code, out, error = mpi.run(2, "-c", HOLDS, form)
    assert code == 0, error
    peaks = [int(line) for line in out.splitlines()]
    assert len(peaks) == 2
    assert max(peaks) < 0.8 * 120e6
    assert min(peaks) > 0.5 * 120e6  # they do hold it


# ---- the command


@with_mpi
def test_one_run_folder_one_voice_and_the_same_bits_again(tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        code, out, error = mpi.train(2, *RUN, "--epochs", "2", "--deterministic-reduction", "--out", str(folder))
        assert code == 0, error
        assert [line.split()[0] for line in out.splitlines()] == ["digits", "epoch", "epoch", "digits"]
        assert "2 ranks with 1 thread each" in out
        assert error == "" or "compiling" in error
    first, second = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert first == second
    environment = json.loads((folders[0] / "environment.json").read_text())
    assert (environment["ranks"], environment["reduction"]) == (2, "shared memory")


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@with_mpi
def test_a_run_resumes_to_the_same_bits_and_with_other_ranks_to_the_same_numbers(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert mpi.train(2, *RUN, "--epochs", "4", "--deterministic-reduction", "--out", str(whole))[0] == 0
    assert mpi.train(2, *RUN, "--epochs", "2", "--deterministic-reduction", "--out", str(cut))[0] == 0
    others = []
    for ranks in (1, 3):
        others.append(tmp_path / f"with {ranks}")
        subprocess.run(["cp", "-r", str(cut), str(others[-1])], check=True)
    again = ("--epochs", "4", "--deterministic-reduction")
    code, _, error = mpi.train(2, "--resume", str(cut), *again)
    assert code == 0
    assert error == ""
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    code, _, error = mpi.train(3, "--resume", str(others[1]), *again)
    assert code == 0
    assert "ranks was 2, is 3: the last bits of the result may differ" in error
    result = subprocess.run(
        [sys.executable, "-m", "vaefast.train", "--resume", str(others[0]), "--epochs", "4"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "ranks was 2, is 1" in result.stderr
    for folder in others:
        for wanted, got in zip(metrics(whole), metrics(folder), strict=True):
            assert got["train_elbo"] == pytest.approx(wanted["train_elbo"], abs=TOLERANCES["loss_nats"])
            assert got["test_elbo"] == pytest.approx(wanted["test_elbo"], abs=TOLERANCES["loss_nats"])


@with_mpi
def test_a_wrong_flag_and_an_objective_that_ranks_cannot_share_are_one_line(tmp_path):
    for flags, words in (
        (("--latnet", "3"), "did you mean --latent"),
        (("--objective", "free-bits"), "train in one process"),
        (("--engine", "reference"), "engine reference lacks training over several ranks: choose engine numba"),
    ):
        code, out, error = mpi.train(2, "--data", "digits", "--out", str(tmp_path / "run"), *flags)
        assert code == 2
        assert out == ""
        assert len(error.splitlines()) == 1
        assert words in error


def processes_of(job):
    """The ranks of a job: what `mpiexec` started, and what that started."""
    children = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    table = [line.split(None, 2) for line in children.splitlines()[1:]]
    family = {job.pid}
    for _ in range(4):
        family |= {int(pid) for pid, parent, _ in table if int(parent) in family}
    return [
        int(pid) for pid, _, words in table if int(pid) in family and "-m vaefast.train" in words and "mpiexec" not in words
    ]


def begun(folder, job):
    """Wait until a job has trained an epoch."""
    for _ in range(1200):
        if (folder / "metrics.jsonl").exists():
            return
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    pytest.fail("the job did not begin")


@with_mpi
def test_sigterm_leaves_a_checkpoint_and_the_run_goes_on(tmp_path):
    job = mpi.started(2, "-m", "vaefast.train", *RUN, "--epochs", "100000", "--out", str(tmp_path / "run"))
    begun(tmp_path / "run", job)
    job.send_signal(signal.SIGTERM)
    code, _, error = mpi.ended(job, 60)
    assert code == 143
    assert "stopped by SIGTERM; a checkpoint is written" in error
    epochs = str(len(metrics(tmp_path / "run")) + 2)
    code, out, _ = mpi.train(2, "--resume", str(tmp_path / "run"), "--epochs", epochs)
    assert code == 0
    assert "resuming" in out


@with_mpi
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_ends_the_job(tmp_path, victim):
    job = mpi.started(2, "-m", "vaefast.train", *RUN, "--epochs", "100000", "--out", str(tmp_path / "run"))
    begun(tmp_path / "run", job)
    ranks = {}
    for pid in processes_of(job):
        variables = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
        ranks[int(re.search(r"PMI_RANK=(\d+)", variables)[1])] = pid
    os.kill(ranks[victim], signal.SIGKILL)
    # 9, or 1 where another rank's call of MPI failed before the launcher ended it
    assert mpi.ended(job, 60)[0] in (9, 1)


FAILS = """
import sys
from vaefast import train
from vaefast.engines import distributed
from vaefast.engines.distributed import member
evaluate = member.Member.evaluate
def failing(self, *arguments):
    if self._ranks.rank == int(sys.argv[1]):
        raise RuntimeError("a fault of this rank")
    return evaluate(self, *arguments)
member.Member.evaluate = failing
sys.exit(train.main(sys.argv[2:]))
"""


@with_mpi
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_fails_ends_the_job_with_its_error(tmp_path, rank):
    code, _, error = mpi.run(2, "-c", FAILS, str(rank), *RUN, "--epochs", "1", "--out", str(tmp_path / "run"))
    assert code == 1
    place = f"rank {rank}: " if rank else ""
    assert f"vaefast: {place}internal error, RuntimeError: a fault of this rank" in error


@with_mpi
def test_divergence_ends_all_ranks_in_peace(tmp_path):
    code, _, error = mpi.train(2, *RUN, "--learning-rate", "1e6", "--epochs", "3", "--out", str(tmp_path / "run"))
    assert code == 5
    lines = [line for line in error.splitlines() if "compiling" not in line]
    assert len(lines) == 1
    assert "in epoch 1, minibatch" in lines[0]


# ---- without MPI


def test_one_process_neither_imports_nor_needs_mpi(tmp_path):
    flags = ["--data", "digits", "--epochs", "1", "--engine", "reference", "--out", str(tmp_path / "run")]
    program = (
        "import sys\nsys.modules['mpi4py'] = None\nfrom vaefast import train\n"
        f"code = train.main({flags!r})\n"
        "assert not any('distributed' in name for name in sys.modules)\nsys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "mpi" not in (result.stdout + result.stderr).lower().replace("compiling", "")


def test_asked_for_without_mpi4py_it_says_what_to_install(monkeypatch, capsys):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert train.main(["--distributed", "mpi", "--data", "digits"]) == 2
    assert capsys.readouterr().err == (
        'vaefast: training over MPI needs mpi4py, which is not installed: pip install "vaefast[mpi]"\n'
    )


def test_what_a_launcher_says(monkeypatch):
    for names in mpi_launcher.RANKS:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    assert mpi_launcher.launched() == (0, 1)
    for size, rank in mpi_launcher.RANKS:
        with monkeypatch.context() as patch:
            patch.setenv(size, "4")
            patch.setenv(rank, "3")
            assert mpi_launcher.launched() == (3, 4)
            assert not mpi_launcher.is_leader()
            patch.setenv(size, "1")
            assert mpi_launcher.launched() == (0, 1)
