"""What is the Numba engine's alone: vector units, compiled kernels on disk, threads, forks, and the Adam tile."""

import errno
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from cases import CASES
from llvmlite.binding import Linkage

from vaefast.engines import kept_kernels
from vaefast.engines.contract import State
from vaefast.engines.numba_cpu import NumbaEngine, compiler, tiles, weights
from vaefast.engines.numba_cpu.compiler import kernel
from vaefast.engines.numba_cpu.products import Panels, product
from vaefast.engines.numba_cpu.target import AVX2, AVX512, UNIT, vector_unit
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import PANEL, Layout
from vaefast.models.settings import ModelSettings, TrainingSettings

AVX2_FEATURES = "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+popcnt,+sse4.2"

# Trains a few steps of two cases and prints the digest of everything; run in processes of their own.
SCRIPT = """
import hashlib, json, sys
import numpy as np
sys.path.insert(0, "tests")
from cases import CASES
from llvmlite.binding import Linkage
from vaefast.engines.contract import State
from vaefast.engines.numba_cpu import NumbaEngine
from vaefast.engines.numba_cpu.target import UNIT
from vaefast.models.initial_parameters import initial_parameters
from vaefast.models.layout import Layout
from vaefast.models.settings import TrainingSettings

digests = []
for case in (CASES[0], CASES[1], CASES[6]):
    engine = NumbaEngine(case.model, TrainingSettings(batch_size=case.batch_size, binarize=case.binarize), 2)
    engine.load_state(State.initial(initial_parameters(Layout(case.model), "glorot", 0)))
    placed = engine.place(case.values())
    terms = engine.train(placed, np.arange(case.examples))
    state, evaluated = engine.state(), engine.evaluate(placed)
    parts = [state.parameters, state.second_moments, *terms, *evaluated]
    digests.append(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
    engine.close()
print(json.dumps({"unit": UNIT.name, "digests": digests}))
"""


def in_a_process(script=SCRIPT, **environment):
    result = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr


@kernel
def multiply_twice(A, out):
    matrix, none = Panels(A, 0, PANEL), Panels(A, 0, 0)
    product(matrix, matrix, none, Panels(out, 0, PANEL), PANEL, 0, PANEL, 1)
    product(matrix, matrix, none, Panels(out, 0, PANEL), 1, 0, 1, 1)


def test_no_kernel_can_take_the_pieces_of_another():
    """A piece that two kernels on disk both call by one name was another piece in the process that compiled the other."""
    multiply_twice(np.zeros(PANEL * PANEL, np.float32), np.zeros(PANEL * PANEL, np.float32))
    module = next(iter(multiply_twice.overloads.values())).library._final_module
    defined = [function for function in module.functions if not function.is_declaration]
    hidden = [function for function in defined if function.linkage == Linkage.internal]
    assert hidden  # tiles that LLVM did not put into their callers
    assert not [function.name for function in defined if function.linkage == Linkage.linkonce_odr]


@pytest.mark.skipif(UNIT not in (AVX2, AVX512), reason="needs an x86 CPU with AVX2")
def test_avx2_and_avx512_train_the_same_bits():
    here, _ = in_a_process()
    avx2, _ = in_a_process(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=AVX2_FEATURES)
    assert here["unit"] == UNIT.name
    assert avx2["unit"] == "AVX2"
    assert here["digests"] == avx2["digests"]


def test_the_vector_unit_is_the_one_that_numba_compiles_for():
    assert vector_unit() == UNIT


@kernel
def apply_adam(G, weights_, count, adam):
    tiles.adam_tile(G, 0, weights_, 0, count, adam)


def test_adam_tile_against_float64():
    rng, n = np.random.default_rng(0), 5
    size = n * PANEL
    w, m, v, g = (rng.standard_normal(size).astype(np.float32) for _ in range(4))
    v, g[:3] = np.abs(v) * 1e-3, 0
    v[:6], m[:6] = 0, 0
    exact = [a.astype(np.float64) for a in (w, m, v, g)]
    scalars = (0.9, 0.999, 0.1, 0.001, 1e-8, 0.004, 7.5)
    held = weights.Weights(w, m, v)
    apply_adam(g, held, n, weights.AdamStep(*(np.float32(s) for s in scalars)))
    b1, b2, r1, r2, epsilon, length, correction = (float(np.float32(s)) for s in scalars)
    m64 = b1 * exact[1] + r1 * exact[3]
    v64 = b2 * exact[2] + r2 * exact[3] ** 2
    assert np.allclose(m, m64, rtol=3e-7, atol=1e-8)
    assert np.allclose(v, v64, rtol=3e-7, atol=0)
    change = length * m64 / (np.sqrt(v64 * correction) + epsilon)
    assert np.allclose(w, exact[0] - change, rtol=0, atol=3e-7 * (np.abs(exact[0]) + np.abs(change)).max())
    assert np.array_equal(w[:3], exact[0][:3].astype(np.float32))  # no gradient and no moments: no change


ONE_OF_EACH = """
import hashlib, json, sys
import numpy as np
sys.path.insert(0, "tests")
from cases import CASES
from llvmlite.binding import Linkage
from vaefast.engines.numba_cpu import (
    NumbaEngine, barrier, bf16_layers, bf16_weights, elementwise, layers, likelihoods, noise, pixels, products, sampling,
    steps, weights
)
from vaefast.models.settings import TrainingSettings

case = CASES[1]
engine = NumbaEngine(case.model, TrainingSettings(batch_size=8), 2)
for values in (case.values(), case.values() / np.float32(255), np.asfortranarray(case.values())):
    placed = engine.place(values)
    engine.train(placed, np.arange(8))
    engine.train(placed, np.arange(8, dtype=np.int32))
    engine.evaluate(placed)
engine.place(np.eye(64, dtype=np.uint8))
logits = engine.decode(engine.encode(np.ones((3, 64)))[0])
counts, own = {}, {}
modules = barrier, elementwise, layers, likelihoods, noise, pixels, products, sampling, steps, weights
modules += bf16_layers, bf16_weights
for module in modules:
    for name, function in vars(module).items():
        if hasattr(function, "signatures"):
            counts[f"{module.__name__}.{name}"] = len(function.signatures)
            if function.__module__ == module.__name__:
                own[f"{module.__name__}.{name}"] = len(function.signatures)
parts = engine.state().parameters, engine.state().second_moments, logits
digest = hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
print(json.dumps({"counts": counts, "own": own, "digest": digest}))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The folder in which a process found no kernels and kept its own, its report and what it said."""
    folder = tmp_path_factory.mktemp("kernels")
    return folder, *in_a_process(ONE_OF_EACH, NUMBA_CACHE_DIR=str(folder))


def test_each_kernel_is_compiled_once(compiled):
    """Two signatures would be two compilations: a constant taken as a literal, or an array that is read-only once."""
    _, report, _ = compiled
    assert len(report["counts"]) > 40
    assert {name: count for name, count in report["counts"].items() if count > 1} == {}


def test_a_model_in_float32_compiles_nothing_of_bfloat16(compiled):
    _, report, _ = compiled
    of_layers, of_bfloat16 = (
        [count for name, count in report["own"].items() if place in name] for place in (".layers.", ".bf16_")
    )
    assert sum(of_layers) > 5
    assert len(of_bfloat16) > 5
    assert sum(of_bfloat16) == 0


def test_kernels_are_kept_on_disk_and_damaged_files_are_replaced(compiled):
    def again():
        report, said = in_a_process(ONE_OF_EACH, NUMBA_CACHE_DIR=str(base))
        return report["digest"], said

    base, report, said = compiled
    assert "compiling the CPU kernels" in said
    folder = next((base / "vaefast").iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700
    files = {file.name.split("-")[0]: file for file in folder.iterdir()}
    assert {*files} >= {"train_steps", "evaluate_images", "list_nonzero"}
    assert again() == (report["digest"], "")
    damage = {
        "evaluate_images": lambda kept: bytes([*kept[:-9], kept[-9] ^ 1, *kept[-8:]]),
        "list_nonzero": lambda kept: kept[:99],
    }
    before = {name: file.stat().st_mtime_ns for name, file in files.items()}
    for name, damaged in damage.items():
        files[name].write_bytes(damaged(files[name].read_bytes()))
    digest, said = again()
    assert digest == report["digest"]
    assert "compiling the CPU kernels" in said
    assert {name for name, file in files.items() if file.stat().st_mtime_ns != before[name]} == {*damage}
    assert again() == (report["digest"], "")


def test_without_a_folder_of_ones_own_kernels_are_compiled_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    assert compiler.cache_folder() is None
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "open"))
    folder = compiler.cache_folder()
    assert folder is not None
    folder.chmod(0o777)
    assert compiler.cache_folder() is None
    loaded = kept_kernels.KernelFile("train_steps", compiler.cache_folder).load(("any", "key"))
    assert loaded is None


def test_a_cache_in_which_nothing_can_be_written_costs_a_compilation_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    kept = kept_kernels.KernelFile("train_steps", compiler.cache_folder)
    kept.save(("any", "key"), "code")
    assert kept.load(("any", "key")) == "code"

    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    for module, name in ((kept_kernels.tempfile, "NamedTemporaryFile"), (kept_kernels.os, "replace")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, full)
            kept.save(("another", "key"), "code")
    assert kept.load(("another", "key")) is None
    assert len(list(compiler.cache_folder().iterdir())) == 1


HOLD = """
import sys, time
from pathlib import Path
from vaefast.engines.kept_kernels import one_at_a_time
with one_at_a_time(Path(sys.argv[1]), "train_steps", lambda: None):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_process_compiles_and_one_that_was_killed_holds_nobody_up(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with kept_kernels.one_at_a_time(tmp_path, "evaluate_images", lambda: pytest.fail("waits for another kernel")):
                pass
            # The other process is killed once this one waits for it.
            waits = []
            with kept_kernels.one_at_a_time(tmp_path, "train_steps", lambda: waits.append(holder.kill())):
                assert waits == [None]
        finally:
            holder.kill()
    assert list(tmp_path.iterdir()) == []


TWICE = """
import sys
import numpy as np
from vaefast.engines.numba_cpu.compiler import compile_once, entry_point

@entry_point
def twice(values):
    for i in range(values.size):
        values[i] *= 2.0

values = np.ones(3)
print("ready", flush=True)
sys.stdin.readline()
compile_once(twice, [(values,)])
twice(values)
assert values.tolist() == [2.0, 2.0, 2.0]
print(sum(twice.stats.cache_misses.values()), sum(twice.stats.cache_hits.values()), flush=True)
"""


def test_of_processes_that_begin_together_one_compiles_and_the_others_load(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    processes = [subprocess.Popen([sys.executable, "-c", TWICE], env=environment, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, said
    assert sorted(out for out, _ in said) == ["0 1\n", "0 1\n", "1 0\n"]
    (folder,) = (tmp_path / "vaefast").iterdir()
    assert [file.suffix for file in folder.iterdir()] == [".kernel"]


def test_a_lock_ends_with_the_compilation_though_a_forked_process_has_its_file_open(tmp_path, monkeypatch):
    left_open = []
    with monkeypatch.context() as patched:
        patched.setattr(kept_kernels.os, "close", left_open.append)
        with kept_kernels.one_at_a_time(tmp_path, "train_steps", lambda: None):
            waiting = os.open(tmp_path / "train_steps.lock", os.O_RDWR)
            assert not kept_kernels._locked(waiting)
    assert len(left_open) == 1
    assert kept_kernels._locked(waiting)
    for descriptor in (*left_open, waiting):
        os.close(descriptor)


def test_nobody_waits_long_for_a_process_that_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_kernels, "PATIENCE", 0.05)
    waits = []
    with (
        kept_kernels.one_at_a_time(tmp_path, "train_steps", lambda: None),
        kept_kernels.one_at_a_time(tmp_path, "train_steps", lambda: waits.append(1)),
    ):
        assert waits == [1]


def test_a_kernel_that_is_kept_is_loaded_without_a_lock_and_without_a_word(tmp_path):
    def twice(*before):
        return subprocess.run(
            [sys.executable, "-c", "\n".join((*before, TWICE))],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}, input="\n", text=True, capture_output=True, timeout=300,
        )  # fmt: skip

    without_locks = "from vaefast.engines import kept_kernels; kept_kernels.one_at_a_time = None"
    assert "'NoneType' object is not callable" in twice(without_locks).stderr
    assert twice().stdout == "ready\n1 0\n"
    loaded = twice(without_locks)
    assert (loaded.stdout, loaded.stderr) == ("ready\n0 1\n", "")


def test_without_a_lock_each_compiles(tmp_path, monkeypatch):
    def locks_are_unknown(descriptor, operation):
        raise OSError(errno.ENOSYS, "no locks")

    monkeypatch.setattr(kept_kernels.fcntl, "flock", locks_are_unknown)
    for folder in (None, tmp_path / "missing", tmp_path):
        with kept_kernels.one_at_a_time(folder, "train_steps", lambda: pytest.fail("waits")):
            pass


def test_a_cache_that_cannot_be_written_has_no_lock_and_what_is_kept_there_is_loaded(tmp_path, monkeypatch):
    def read_only(path, flags, *mode):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", os.fspath(path))
        return real(path, flags, *mode)

    real, kept = os.open, kept_kernels.KernelFile("train_steps", lambda: tmp_path)
    kept.save(("any", "key"), "code")
    monkeypatch.setattr(kept_kernels.os, "open", read_only)
    with kept_kernels.one_at_a_time(tmp_path, "train_steps", lambda: pytest.fail("waits")):
        assert kept.load(("any", "key")) == "code"


def test_the_key_of_the_kernels_changes_with_a_source(tmp_path, monkeypatch):
    before = compiler._key.__wrapped__()
    monkeypatch.setattr(kept_kernels, "__version__", "9.9.9")
    assert compiler._key.__wrapped__() != before


def trained(seed, threads=2, steps_=40):
    case = CASES[1]
    engine = NumbaEngine(case.model, TrainingSettings(batch_size=32, seed=seed), threads)
    engine.load_state(State.initial(initial_parameters(Layout(case.model), "glorot", seed)))
    placed = engine.place(case.values())
    for _ in range(steps_):
        engine.train(placed, np.arange(case.examples))
    state = engine.state().parameters
    engine.close()
    return state


def test_trainings_in_two_python_threads_do_not_meet():
    alone = [trained(seed) for seed in (1, 2)]
    together = [None, None]

    def run(i):
        together[i] = trained(i + 1)

    threads = [threading.Thread(target=run, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert np.array_equal(alone[0], together[0])
    assert np.array_equal(alone[1], together[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_after_training_trains_on():
    case = CASES[1]
    engine = NumbaEngine(case.model, TrainingSettings(batch_size=32), 2)
    engine.load_state(State.initial(initial_parameters(Layout(case.model), "glorot", 0)))
    placed = engine.place(case.values())
    engine.train(placed, np.arange(case.examples))
    child = os.fork()
    if child == 0:
        # The parent's threads are not here: the engine must start threads of its own, and get the parent's result. An error
        # must not go on to pytest, which would run all other tests in this child while the parent waits.
        try:
            engine.train(placed, np.arange(case.examples))
            os._exit(int(engine.state().parameters[:1000].view(np.uint32).sum(dtype=np.uint64) % 251))
        finally:
            os._exit(255)
    engine.train(placed, np.arange(case.examples))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == engine.state().parameters[:1000].view(np.uint32).sum(dtype=np.uint64) % 251
    engine.close()


def test_more_workers_than_cores_still_meet():
    assert np.array_equal(trained(3, threads=9, steps_=3), trained(3, threads=1, steps_=3))


def test_a_model_of_any_size_has_room_in_its_scratch():
    for model in (ModelSettings(3, (2,), 90), ModelSettings(700, (), 1), ModelSettings(5, (400, 3), 2)):
        engine = NumbaEngine(model, TrainingSettings(batch_size=3), 1)
        engine.load_state(State.initial(initial_parameters(Layout(model), "glorot", 0)))
        for density in (0.1, 1.0):
            values = (np.random.default_rng(0).random((7, model.pixels)) < density).astype(np.uint8) * 255
            assert np.isfinite(engine.train(engine.place(values), np.arange(7)).elbo).all()
        engine.close()
